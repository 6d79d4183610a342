# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long each test of a piece took, appended to the file STOPWATCH: "SECONDS ID". A plugin of pytest; tests/run-tests loads it."""

import os

import pytest

seconds = {}


def pytest_runtest_logreport(report):
    seconds[report.nodeid] = seconds.get(report.nodeid, 0) + report.duration


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish():
    if os.environ.get("STOPWATCH"):
        with open(os.environ["STOPWATCH"], "a") as f:
            f.write("".join("%.1f %s\n" % (s, name) for name, s in seconds.items()))
