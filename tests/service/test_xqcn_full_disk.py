# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calibration over DIAG onto a disk that is full from one write of the worker on: nothing is called saved, and nothing is lost."""

import pytest
from conftest import BACKUP, BUILD, JOB, MODEM, wait_until
from test_diag import run, running, trace  # noqa: F401 (fixtures)
from test_xqcn import replug, restore, save

# Anything that changes a modem: offline, an NV item, SPC; a file of EFS opened for writing is behind "offline".
WRITES = ("command=0x29", "command=0x27", "command=0x41")

# Instead of the worker: the real one, whose disk it is.
FULL = """import os, sys
worker = {worker!r}
at = open({at!r}).read()
os.execve(worker, [worker] + sys.argv[1:], {{"LANG": "C.UTF-8", "LD_PRELOAD": {preload!r}, "FULL_AT": at}})
"""


@pytest.fixture
def full(python_worker, tmp_path):
    """full(n): the worker with a disk that is full from its nth change on; its path for --worker."""
    at = tmp_path / "full-at"
    worker = python_worker("full", FULL.format(worker=str(BUILD / "qdld-worker"), at=str(at), preload=str(BUILD / "full-disk.so")))

    def set_(n):
        at.write_text(str(n))
        return worker
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
        n += 1
    assert len(outcomes) > 3 and len(service.paths(BACKUP)) == 1, outcomes


def test_disk_full_while_it_is_put_back(running, full, new_modem, tmp_path):
    """The state before it cannot be saved: nothing is written to the modem, until there is room."""
    service, modem = running()
    service.restart(worker=full(0))
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal", what="the modem")
    assert run(service, modem, "Identify")[1] == "done"
    _, backup = save(service, modem)
    replug(service, new_modem, tmp_path, "calibration=erased")
    assert run(service, modem, "Identify")[1] == "done"
    errors, result = set(), None
    for n in range(1, 200):
        full(n)
        job, result = restore(service, modem, backup)
        if result == "done":
            break
        errors.add(str(service.get(job, JOB, "ErrorName")).rsplit(".", 1)[-1])
        assert errors <= {"NoBackup", "NoSpace"}, service.log(job)
        assert service.paths(BACKUP) == [backup] and service.get(modem, MODEM, "Mode") == "normal"
        written = [c for c in WRITES if c in trace(service)]
        assert not written, (n, written)
    assert result == "done" and n > 3 and not service.get(modem, MODEM, "FactoryTestMode")
    assert len(service.paths(BACKUP)) == 2
