# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a test that failed leaves behind is gone with it: the ends of it are shown, so that its cause can be found from what was printed.

A plugin of pytest; tests/run-tests loads it. Looked at are tmp_path and the directory of a bench: what the service said, the logs of its last
jobs, the modem's trace; of a bench its last job."""

import pathlib
import re

import pytest

LINES, WIDTH = 25, 180  # of each
FILES = 3  # of a kind, the ones written last
KINDS = ("qdld.stderr", "state/jobs/*.log", "*trace*")


WIRE = re.compile(r" (?:(?:in|out) transfer=.*|poll)$")  # of a trace; what is in the packets follows


def end_of(lines):
    lines = [line for line in lines if not WIRE.search(line)]
    return "\n".join(line[:WIDTH] for line in lines[-LINES:])


def read(path):
    with open(path, "rb") as f:
        f.seek(max(0, path.stat().st_size - 8 * LINES * WIDTH))
        return f.read().decode(errors="replace").splitlines()


def files(directory):
    for kind in KINDS:
        found = sorted((p for p in directory.glob(kind) if p.is_file()), key=lambda p: p.stat().st_mtime)
        yield from found[-FILES:]


def evidence(arguments):
    directories = {pathlib.Path(d) for d in [arguments.get("tmp_path")] + [getattr(a, "directory", None) for a in arguments.values()]
                   if isinstance(d, (str, pathlib.Path))}
    for directory in sorted(directories):
        for path in files(directory):
            yield str(path.relative_to(directory)), end_of(read(path))
    for a in arguments.values():
        if getattr(a, "last_job", None):
            yield "its last job", end_of([str(line) for line in a.last_job.log])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if not report.failed:
        return
    try:
        report.sections += list(evidence(getattr(item, "funcargs", {})))
    except OSError as e:  # the failure itself is what matters
        report.sections.append(("what it left behind", str(e)))
