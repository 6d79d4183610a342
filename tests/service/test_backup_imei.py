# SPDX-License-Identifier: LGPL-2.1-or-later
"""Raw backups of a unit whose chip has no serial number: it is known by the IMEI that it told before it went to 9008."""

import dbus
import pytest
from conftest import BACKUP, JOB, MODEM, wait_until
from test_diag import run, running  # noqa: F401 (fixtures)
from test_xqcn import replug
from test_backup_modem import content, spoil

CUST_INFO = 91 * 64  # a page of it
OTHER_IMEI = "356938035643809"


def names(*partitions):
    return dbus.Array(partitions, signature="s")


@pytest.fixture
def nameless(running, make_package):
    """A modem without a serial that told its IMEI, and what was saved of its flash: service, modem, backup."""
    service, modem = running("serial=0")
    assert service.wait_job(service.import_file(make_package("--small"))) == "done"
    assert run(service, modem, "Identify")[1] == "done"
    job, result = run(service, modem, "Backup", kind="calibration")
    assert result == "done", service.log(job)
    saved = service.get(job, JOB, "Object")
    assert service.get(saved, BACKUP, "ChipSerial") == ""
    return service, modem, saved


def restore(service, modem, saved, **options):
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal", what="the modem")
    job = service.call(modem, MODEM, "Restore", dbus.ObjectPath(str(saved)),
                       dbus.Dictionary({"partitions": names("cust_info"), **options}, signature="sv"))
    return job, service.wait_job(job)


def assert_refused(service, modem, saved):
    job, result = restore(service, modem, saved)
    assert result == "failed" and str(service.get(job, JOB, "ErrorName")).endswith("WrongUnit"), service.log(job)


def test_goes_back_to_the_unit_with_that_imei(nameless, tmp_path):
    service, modem, saved = nameless
    # The same of the same unit is one backup.
    again, result = run(service, modem, "Backup", kind="calibration")
    assert result == "done" and service.get(again, JOB, "Object") == saved
    spoil(tmp_path / "modem.flash", CUST_INFO)
    job, result = restore(service, modem, saved)
    assert result == "done", service.log(job)
    assert "by its IMEI it is the unit that the backup is of" in service.log(job)
    assert int(service.get(job, JOB, "Report")["blocks-written"]) == 1


def test_not_to_one_with_another_imei(nameless, new_modem, tmp_path):
    service, modem, saved = nameless
    modem = replug(service, new_modem, tmp_path, "serial=0", "imei=" + OTHER_IMEI)
    assert run(service, modem, "Identify")[1] == "done"
    spoil(tmp_path / "modem.flash", CUST_INFO)
    assert_refused(service, modem, saved)
    job, result = restore(service, modem, saved, allow=names("WrongUnit"))
    assert result == "done", service.log(job)


def test_not_to_one_that_tells_no_imei(nameless, new_modem, tmp_path):
    """A blank card in the same port is not the one that is remembered there."""
    service, modem, saved = nameless
    modem = replug(service, new_modem, tmp_path, "serial=0", "calibration=erased")
    assert_refused(service, modem, saved)


def test_not_to_one_with_a_serial(nameless, new_modem, tmp_path):
    service, modem, saved = nameless
    modem = replug(service, new_modem, tmp_path, "serial=5eed0001")
    assert run(service, modem, "Identify")[1] == "done"
    assert_refused(service, modem, saved)


def test_a_copy_proves_nothing(nameless, tmp_path):
    """What somebody imports is a claim: the IMEI is this machine's memory, not the file's."""
    service, modem, saved = nameless
    copy = tmp_path / "copy.tar"
    copy.write_bytes(content(service, saved))
    service.call(saved, BACKUP, "Remove", dbus.Dictionary({"allow": names("LastBackup")}, signature="sv"))
    job = service.import_backup(copy)
    assert service.wait_job(job) == "done"
    assert_refused(service, modem, service.get(job, JOB, "Object"))
