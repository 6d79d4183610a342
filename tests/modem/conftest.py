# SPDX-License-Identifier: LGPL-2.1-or-later
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import diaghost  # noqa: E402
import modemhost  # noqa: E402


@pytest.fixture
def modem(tmp_path):
    """start("key=value", …) -> a running modem on a fresh flash; all are ended with the test, and must end well."""
    started = []

    def start(*settings, **options):
        m = modemhost.Modem(tmp_path, *settings, **options)
        started.append(m)
        return m

    yield start
    for m in started:
        assert m.stop() == 0
        m.listener.close()


@pytest.fixture
def diag(modem):
    """start("key=value", …) -> the DIAG port of a working modem, diag.modem; the one before it is stopped."""
    before = []

    def start(*settings, **options):
        for m in before:
            m.stop()
        m = modem(modemhost.WORKING, *settings, **options)
        before.append(m)
        d = diaghost.Diag(m.appear())
        d.modem = m
        return d
    return start
