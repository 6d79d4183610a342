# SPDX-License-Identifier: LGPL-2.1-or-later
"""A modem that has crashed lends its memory: saved, bounded, and never taken for anything else."""

import os
import subprocess
import tarfile

import dbus
import pytest
from catching import find_modem, options, trace
from conftest import BACKUP, BUILD, INVALID_ARGS, JOB, MODEM, Refused, pull, wait_until

CRASHED = ("start=crash-dump", "initial=working")


def collect(service, path):
    return service.call(path, MODEM, "CollectDump", options())


def crashed(service, new_modem, *settings):
    new_modem(service, *CRASHED, *settings)
    path = find_modem(service)
    wait_until(lambda: service.get(path, MODEM, "Mode") == "crash-dump", what="the crash dump")
    return path


def dump(service, new_modem, *settings):
    """The job, and its backup's path."""
    job = collect(service, crashed(service, new_modem, *settings))
    assert service.wait_job(job) == "done", (service.get(job, JOB, "ErrorMessage"), service.log(job))
    return job, service.get(job, JOB, "Object")


def qdlctl(service, *arguments):
    return subprocess.run([BUILD / "qdlctl", *map(str, arguments)], capture_output=True, text=True, timeout=120,
                          env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=service.address))


def members(service, backup, tmp_path):
    out = tmp_path / "dump.tar"
    said = qdlctl(service, "backups", "export", backup, out)
    assert said.returncode == 0, said.stderr
    with tarfile.open(out) as t:
        return {m.name: t.extractfile(m).read() for m in t.getmembers()}


def memory(address, length):
    return bytes(((address + k) * 0x9E3779B1 & 0xffffffff) >> 24 for k in range(length))


@pytest.mark.parametrize("settings", [(), ("crash_table=narrow",), ("crash_id=qualcomm",), ("in_zlp=no",)], ids=str)
def test_what_it_lends_is_saved_and_it_starts_anew(service, new_modem, tmp_path, settings):
    job, backup = dump(service, new_modem, *settings)
    assert service.get(backup, BACKUP, "Kind") == "dump" and service.get(backup, BACKUP, "State") == "complete"
    files = members(service, backup, tmp_path)
    assert files["crash-dump/memory/OCIMEM.BIN"] == memory(0x80000000, 0x4000)
    assert files["crash-dump/memory/RST_STAT.BIN"] == memory(0x80100000, 0x1000)
    assert b"region=OCIMEM.BIN 0x80000000 16384 OCIMEM\n" in files["crash-dump/dump.txt"]
    assert service.get(job, JOB, "Report")["afterwards"] == "the modem runs its firmware again"
    assert "boot normal" in trace(tmp_path) and "VIOLATION" not in trace(tmp_path)


def test_it_is_no_backup_of_the_unit(service, new_modem):
    _, backup = dump(service, new_modem)
    path = find_modem(service)
    assert service.get(path, MODEM, "LastBackupTime") == 0
    assert service.wait_job(service.call(backup, BACKUP, "Verify", options())) == "done"
    with Refused(INVALID_ARGS) as refused:
        service.call(path, MODEM, "Restore", dbus.ObjectPath(backup), options())
    assert "crash dump" in str(refused.message)


def test_one_that_has_not_crashed(service, new_modem):
    new_modem(service)
    path = find_modem(service)
    with Refused("WrongMode"):
        collect(service, path)


@pytest.mark.parametrize("kind, regions", [("names", 10), ("bounds", 1), ("overlap", 3), ("many", 256)])
def test_hostile_tables(service, new_modem, tmp_path, kind, regions):
    job, backup = dump(service, new_modem, "crash_table=" + kind)
    files = members(service, backup, tmp_path)
    own = [name for name in files if name.startswith("crash-dump/memory/")]
    assert len(own) == len(files) - 2 == regions
    for name in own:
        file = name[len("crash-dump/memory/"):]
        assert file and "/" not in file and ".." not in file and not file.startswith(".") and file.isprintable() and " " not in file
    assert service.get(backup, BACKUP, "State") == "complete"
    if kind == "bounds":
        assert files["crash-dump/memory/GOOD.BIN"] == memory(0x80000000, 0x4000)
        assert "4 regions" in service.log(job)


@pytest.mark.parametrize("kind, words", [("huge", "4294967296 bytes"), ("odd", "which is none"), ("empty", "which is none")])
def test_tables_that_are_none(service, new_modem, tmp_path, kind, words):
    job = collect(service, crashed(service, new_modem, "crash_table=" + kind))
    assert service.wait_job(job) == "failed"
    assert words in service.get(job, JOB, "ErrorMessage") and service.get(job, JOB, "ErrorName").endswith("SaharaFailed")
    assert service.paths(BACKUP) == [] and trace(tmp_path).count("memory read") == 0


def test_what_is_refused_is_missing_and_said(service, new_modem, tmp_path):
    job, backup = dump(service, new_modem, "crash_table=refuse")
    assert service.get(backup, BACKUP, "State") == "damaged"
    files = members(service, backup, tmp_path)
    assert files["crash-dump/memory/OCIMEM.BIN"] == memory(0x80000000, 0x4000)
    assert files["crash-dump/memory/SECRET.BIN"] == bytes(0x4000) and files["crash-dump/memory/BEHIND.BIN"] == memory(0x80000000, 0x300)
    assert "SECRET.BIN" in service.log(job)


@pytest.mark.parametrize("fault", ["unplug", "hang"])
def test_one_that_goes_away_meanwhile(service, new_modem, tmp_path, fault):
    """What it lent by then is kept and called incomplete; asked again it lends all of it."""
    modem = new_modem(service, *CRASHED, f"fault={fault}@in:5")
    path = find_modem(service)
    wait_until(lambda: service.get(path, MODEM, "Mode") == "crash-dump", what="the crash dump")
    job = collect(service, path)
    if fault == "hang":
        wait_until(lambda: " hang" in trace(tmp_path), what="a modem that hangs")
        pull(modem)
    assert service.wait_job(job) == "done", (service.get(job, JOB, "ErrorMessage"), service.log(job))
    report, backup = service.get(job, JOB, "Report"), service.get(job, JOB, "Object")
    assert service.get(backup, BACKUP, "State") == "damaged" and "went away" in report["regions"] and " of " in report["regions"]
    assert service.get(job, JOB, "RecoveryHint") == "retry" and "collect it again" in report["afterwards"]
    files = [name for name in members(service, backup, tmp_path) if name.startswith("crash-dump/memory/")]
    assert len(files) == int(report["regions"].split()[0]) > 0
    pull(modem)
    wait_until(lambda: service.get(path, MODEM, "Mode") == "absent", what="its end")
    again = collect(service, crashed(service, new_modem))
    assert service.wait_job(again) == "done", service.log(again)
    assert service.get(service.get(again, JOB, "Object"), BACKUP, "State") == "complete"


def test_back_in_its_crash_dump_three_times(service, new_modem):
    job, _ = dump(service, new_modem, "crash_again=5")
    report = service.get(job, JOB, "Report")
    assert report["hint"] == "bridge-usb-boot" and "bridge USB_BOOT" in report["afterwards"]
    assert "firmware anew" in report["afterwards"]
    # Not only in the report of one job: whoever looks at the modem sees it, also after a restart.
    assert service.get(job, JOB, "RecoveryHint") == "bridge-usb-boot"
    path = find_modem(service)
    assert service.get(path, MODEM, "RecoveryHint") == "bridge-usb-boot"
    assert "Bridge USB_BOOT" in qdlctl(service, "status").stdout
    service.restart()
    assert service.get(path, MODEM, "RecoveryHint") == "bridge-usb-boot"


def test_one_that_starts_again_needs_no_hand(service, new_modem):
    job, _ = dump(service, new_modem, "crash_again=1")
    assert service.get(job, JOB, "RecoveryHint") == "" and service.get(find_modem(service), MODEM, "RecoveryHint") == ""
    assert "What helps" not in qdlctl(service, "status").stdout


def test_qdlctl_dump(service, new_modem, tmp_path):
    crashed(service, new_modem)
    said = qdlctl(service, "dump", "-o", tmp_path / "copy.tar")
    assert said.returncode == 0, said.stderr
    with tarfile.open(tmp_path / "copy.tar") as t:
        assert "crash-dump/memory/OCIMEM.BIN" in t.getnames()
