# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calibration over DIAG onto a disk that is full from one write of the worker on: nothing is called saved, and nothing is lost."""

import shutil

import pytest
from conftest import BACKUP, BUILD, JOB, MODEM, wait_until
from test_diag import run, running  # noqa: F401 (fixtures)

# Instead of the worker: the real one, whose disk it is.
FULL = """import os, sys
worker = {worker!r}
at = open({at!r}).read()
os.execve(worker, [worker] + sys.argv[1:], {{"LANG": "C.UTF-8", "LD_PRELOAD": {preload!r}, "FULL_AT": at}})
"""


@pytest.fixture
def full(launcher, tmp_path):
    """full(n): the worker with a disk that is full from its nth change on; its path for --worker."""
    at = tmp_path / "full-at"
    shutil.copy(launcher, tmp_path / "full")
    (tmp_path / "full.py").write_text(FULL.format(worker=str(BUILD / "qdld-worker"), at=str(at), preload=str(BUILD / "full-disk.so")))

    def set_(n):
        at.write_text(str(n))
        return tmp_path / "full"
    return set_


def test_disk_full_while_it_is_saved(running, full):
    """NoSpace, nothing in the store, the modem still runs; with room it is saved."""
    service, modem = running()
    service.restart(worker=full(1))
    outcomes, n = [], 1
    while outcomes[-1:] != ["done"]:
        full(n)
        wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal", what="the modem")
        job, result = run(service, modem, "Backup", kind="xqcn")
        outcomes.append(result)
        if result != "done":
            assert str(service.get(job, JOB, "ErrorName")).endswith("NoSpace"), service.log(job)
            assert service.paths(BACKUP) == [] and not list((service.state / "backups").iterdir())
        assert service.get(modem, MODEM, "Mode") == "normal"
        n += max(1, n // 3)
    assert len(outcomes) > 3 and len(service.paths(BACKUP)) == 1, outcomes
