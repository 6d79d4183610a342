# SPDX-License-Identifier: LGPL-2.1-or-later
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

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
