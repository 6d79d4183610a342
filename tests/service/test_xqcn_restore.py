# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a restore of calibration comes to where the modem does not take all of it: a result of its own, each item named."""

import re
import shutil

import dbus
import pytest
from conftest import BACKUP, JOB, MODEM, go_on, in_phase, wait_stopped, wait_until
from test_diag import WORKING, run, running, trace  # noqa: F401 (fixtures)
from test_qdlctl_backup import qdlctl  # noqa: F401 (a fixture)
from test_xqcn import id_of, lost, open_backup, records, restore, save  # noqa: F401 (fixtures)


def problems(service, job):
    return [str(p) for p in service.get(job, JOB, "Report").get("problems", [])]


def test_still_in_factory_test_mode_is_a_result_of_its_own(lost, qdlctl):
    """The RF items are refused: written or not, no network takes this modem."""
    service, modem, backup = lost("efs_refuse=/nv/item_files/rfnv")
    rfnv = open_backup(service, backup, format="xqcn").count(b"2F 72 66 6E 76 2F")
    printed = qdlctl("--yes", "restore", id_of(backup), code=7).stderr
    assert "still in factory test mode" in printed and "lost its calibration" in printed
    job = service.paths(JOB)[-1]
    assert service.get(job, JOB, "Result") == "no-calibration"
    assert str(service.get(job, JOB, "ErrorName")).endswith("CalibrationAtRisk")
    assert service.get(modem, MODEM, "FactoryTestMode")
    # None hidden: each in the log, as many in the report as can be read, and how many there are besides.
    lines = [line for line in service.log(job).splitlines() if "not restored: /nv/item_files/rfnv/" in line]
    assert len(lines) == rfnv >= 150
    *named, others = problems(service, job)
    assert len(named) == 65 and all("not restored: /nv/item_files/rfnv/" in p for p in named)
    assert others == "and %d more, each in the job's log" % (rfnv - 65) and others in printed
    assert problems(service, job)[0] in printed
    assert service.get(job, JOB, "Report")["refused"].startswith("%d, 0 of them" % rfnv)
    # The way out is still shown, and the good backup still there.
    assert "To leave it: qdlctl restore" in qdlctl("status").stdout
    assert service.get(backup, BACKUP, "State") == "complete"


@pytest.mark.parametrize("setting,words", [
    ("nv_refuse=10", "not restored: NV item 10 of SIM 1: failed"),
    ("nv_deaf=10", "NV item 10 of SIM 1 reads back as another one"),
    ("efs_refuse=/nv/item_files/mcs", "not restored: /nv/item_files/mcs/"),
])
def test_what_is_missing_is_no_success(lost, qdlctl, setting, words):
    """It boots, and not all of its calibration is there."""
    service, modem, backup = lost(setting)
    printed = qdlctl("--yes", "restore", id_of(backup), code=6).stderr
    job = service.paths(JOB)[-1]
    assert service.get(job, JOB, "Result") == "failed", service.log(job)[-2000:]
    assert str(service.get(job, JOB, "ErrorName")).endswith("DiagFailed")
    assert any(words in p for p in problems(service, job)), problems(service, job)
    assert words in printed and words in service.log(job)
    # It was not left offline, and everything else is written.
    assert not service.get(modem, MODEM, "FactoryTestMode")
    assert "online" in service.get(job, JOB, "Report")["operating-mode"]
    assert run(service, modem, "Identify")[1] == "done"


@pytest.mark.parametrize("status", [7, 8])
def test_what_its_maker_closed_is_named_and_no_failure(lost, status):
    """As QPST does (reference/diag.md 3)."""
    service, modem, backup = lost("nv_refuse=10", "nv_refuse_status=%d" % status)
    job, result = restore(service, modem, backup)
    assert result == "done", service.get(job, JOB, "ErrorMessage")
    told = problems(service, job)
    assert [p for p in told if "NV item 10 of SIM 1" in p], told
    assert service.get(job, JOB, "Report")["refused"].startswith("%d, %d of them" % (len(told), len(told)))


def test_offline_after_the_restart_is_no_success(lost):
    """+CFUN: 7, a file system that does not fit the firmware."""
    service, modem, backup = lost("oper_mode=offline")
    job, result = restore(service, modem, backup)
    assert result == "no-calibration", service.get(job, JOB, "ErrorMessage")
    assert "+CFUN: 7" in service.get(job, JOB, "ErrorMessage")


def test_a_mode_that_is_not_told_is_not_said_to_be_good(lost):
    service, modem, backup = lost("oper_mode=untold")
    job, result = restore(service, modem, backup)
    assert result == "done", service.get(job, JOB, "ErrorMessage")
    assert "not told" in service.get(job, JOB, "Report")["operating-mode"]


# ---- NV that is busy ----

def test_a_busy_modem_loses_no_item(lost, running):
    """Status 1 is not "never written": the item is asked for again, also when it is written."""
    service, modem, backup = lost("nv_busy=40")
    job, result = restore(service, modem, backup)
    assert result == "done", (service.get(job, JOB, "ErrorMessage"), service.log(job)[-2000:])
    assert not problems(service, job)
    _, again = save(service, modem)
    assert records(open_backup(service, again, format="xqcn")) == records(open_backup(service, backup, format="xqcn"))
    assert "status=1" in trace(service)


def test_one_that_is_always_busy_is_not_saved_in_silence(running):
    service, modem = running("nv_busy=1")
    job, result = run(service, modem, "Backup", kind="xqcn")
    assert result == "failed" and "busy" in service.get(job, JOB, "ErrorMessage"), service.log(job)[-1000:]
    assert service.paths(BACKUP) == []


# ---- locks ----

@pytest.mark.parametrize("lock", ["diag_spc=writes", "diag_password=writes"])
def test_a_lock_with_the_default_code_is_opened_once(lost, lock):
    service, modem, backup = lost(lock)
    job, result = restore(service, modem, backup)
    assert result == "done", service.get(job, JOB, "ErrorMessage")
    assert not service.get(modem, MODEM, "FactoryTestMode") and "VIOLATION" not in trace(service)


def test_a_lock_with_another_code_is_left_shut(lost):
    """Asked once with the default, never guessed; nothing is written, and the modem is not left offline."""
    service, modem, backup = lost("diag_spc=writes", "spc=123456")
    job, result = restore(service, modem, backup)
    assert result == "failed" and str(service.get(job, JOB, "ErrorName")).endswith("DiagFailed")
    assert "service programming code" in service.get(job, JOB, "ErrorMessage")
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal", what="the restart")
    assert run(service, modem, "Identify")[1] == "done" and service.get(modem, MODEM, "FactoryTestMode")
    said = trace(service)
    assert said.count("command=0x41") == 1 and "diag nv write" not in said and "diag efs put" not in said


# ---- items that cannot be read ----

def unreadable(n):
    """So many items (of one SIM: there are no others) that the factory gave no value."""
    return "nv_unreadable=" + ",".join(str(item) for item in range(3300, 3300 + 3 * n, 3)), "nv_contexts=0", "nv_items=10"


@pytest.mark.parametrize("n,result", [(20, "done"), (100, "failed")])
def test_a_few_items_may_fail_and_not_all(running, n, result):
    service, modem = running(*unreadable(n))
    job, came_to = run(service, modem, "Backup", kind="xqcn")
    assert came_to == result, service.log(job)[-2000:]
    if result == "failed":
        assert "cannot be read" in service.get(job, JOB, "ErrorMessage") and service.paths(BACKUP) == []
        return
    count = int(service.get(job, JOB, "Report")["unreadable"])
    assert 10 < count <= n + 1 and "NV item 3300 of SIM 1 cannot be read: failed" in service.log(job)


def test_names_that_no_xqcn_can_hold_hinder_nothing(running):
    """They are said to be left out, and the rest is saved: one file of somebody's own cost the whole backup."""
    service, modem = running("efs_strange=yes")
    job, backup = save(service, modem)
    assert service.get(backup, BACKUP, "State") == "complete"
    log = service.log(job)
    assert log.count("is not saved: no XQCN can hold such a name") == 3 and log.count("is not saved: it lies too deep") == 1
    assert int(service.get(job, JOB, "Report")["unreadable"]) == 5  # and the SIM lock


def test_what_a_broken_modem_lets_nobody_read_hinders_no_restore(lost):
    """In factory test mode: what can be had of the present state is saved, and the calibration is put back."""
    service, modem, backup = lost(*unreadable(100))
    job, result = restore(service, modem, backup)
    log = service.log(job)
    assert result in ("done", "failed") and not service.get(modem, MODEM, "FactoryTestMode"), log[-2000:]
    # Not a line for each, and none hidden: the others are counted.
    more = re.search(r"and (\d+) more that cannot be read", log)
    assert log.count(" cannot be read: ") == 20 and more and 20 + int(more[1]) > 60, log[-2000:]
    assert {str(service.get(b, BACKUP, "State")) for b in service.paths(BACKUP)} == {"blank", "complete"}


@pytest.mark.parametrize("allow", [[], ["NoBackup"]], ids=["asked", "allowed"])
def test_without_a_copy_of_the_state_before_it(lost, new_modem, allow):
    """The store does not take it: nothing is written, but by the name of that."""
    service, modem, backup = lost("fault=stop@diag:200")
    job = service.call(modem, MODEM, "Restore", backup, dbus.Dictionary({"allow": dbus.Array(allow, signature="s")}, signature="sv"))
    wait_stopped(new_modem.started[-1])
    shutil.rmtree(service.state / "backups")
    go_on(new_modem.started[-1])
    result = service.wait_job(job)
    if allow:
        assert result == "done" and "is not saved" in service.log(job), service.log(job)
        assert not service.get(modem, MODEM, "FactoryTestMode")
        return
    assert result == "failed" and str(service.get(job, JOB, "ErrorName")).endswith("NoBackup"), service.log(job)
    assert "allow=NoBackup" in service.get(job, JOB, "ErrorMessage")
    assert not [c for c in ("command=0x29", "command=0x27") if c in trace(service)]
    assert service.get(modem, MODEM, "FactoryTestMode") and service.get(modem, MODEM, "Mode") == "normal"


@pytest.mark.parametrize("settings", [["imei=356938035643809"], ["calibration=erased"]], ids=["another", "none"])
def test_another_that_comes_up_in_its_place_is_not_it(lost, new_modem, settings):
    """It works, or does not, and says nothing of the one that was written: only who has no IMEI can be the same still."""
    service, modem, backup = lost("fault=stop@gone:1")
    process = new_modem.started[-1]
    job = service.call(modem, MODEM, "Restore", backup, service.no_options())
    wait_stopped(process)
    in_phase(service, job, "wait-device")
    process.kill()
    new_modem(service, WORKING, *settings, blocks=192, name="other")
    result = service.wait_job(job)
    if settings == ["calibration=erased"]:
        assert result == "no-calibration"
        return
    assert result == "not-returned", service.log(job)[-2000:]
    assert str(service.get(job, JOB, "ErrorName")).endswith("WrongUnit")
    assert "another unit" in service.get(job, JOB, "ErrorMessage")
