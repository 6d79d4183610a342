# SPDX-License-Identifier: LGPL-2.1-or-later
"""Backups of a calibration that is none, half of two or not all there never count as good ones (flash rule 5)."""

import os
import signal

import dbus
import pytest
from conftest import BACKUP, FIRMWARE, JOB, MODEM, VERSION, Refused, go_on, wait_stopped, wait_until
from test_backup_modem import backup, content, spoil
from test_diag import WORKING, run, running  # noqa: F401 (fixtures)
from test_xqcn import replug, restore, save

# An EFS2 as firmware makes a new one: it is not erased, and nothing of the unit is in it.
LOST = "calibration=none"
ALWAYS = "[Backup]\nAutomatic=no\nKeep=1\n"


def state(service, saved):
    return str(service.get(saved, BACKUP, "State"))


def complete(service):
    return [b for b in service.paths(BACKUP) if state(service, b) == "complete"]


def normal(service, modem):
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal", what="the modem")


@pytest.fixture
def known(running, make_package):
    """A modem in normal mode, and a package for it in the library."""
    def make(*settings, **options):
        service, modem = running(*settings, config=ALWAYS, **options)
        assert service.wait_job(service.import_file(make_package("--small"))) == "done"
        return service, modem
    return make


@pytest.mark.parametrize("kind", ["calibration", "nand"])
def test_what_ran_in_factory_test_mode_is_blank(known, tmp_path, kind):
    service, modem = known(LOST)
    job, saved = backup(service, modem, kind=kind)
    assert state(service, saved) == "blank" and "factory test mode" in service.log(job), service.log(job)
    assert service.get(modem, MODEM, "LastBackupTime") == 0
    # Whoever reads it again says the same.
    assert service.wait_job(service.call(saved, BACKUP, "Verify", service.no_options())) == "done"
    (tmp_path / "copy").write_bytes(content(service, saved))
    service.call(saved, BACKUP, "Remove", service.no_options())
    assert service.wait_job(service.import_backup(tmp_path / "copy")) == "done"
    assert state(service, *service.paths(BACKUP)) == "blank"


def test_the_real_one_stays(known, new_modem, tmp_path):
    """Keep=1, and the same unit without its calibration, saved again and again."""
    service, modem = known()
    _, real = backup(service, modem, kind="calibration")
    assert state(service, real) == "complete"
    last = service.get(modem, MODEM, "LastBackupTime")
    normal(service, modem)
    modem = replug(service, new_modem, tmp_path, LOST)
    for _ in range(2):
        normal(service, modem)
        backup(service, modem, kind="calibration")
    assert real in service.paths(BACKUP)
    assert service.get(modem, MODEM, "LastBackupTime") == last > 0
    with Refused("LastBackup"):
        service.call(real, BACKUP, "Remove", service.no_options())


@pytest.mark.parametrize("restarted", [False, True])
def test_in_9008_what_it_said_before_counts(known, restarted):
    service, modem = known(LOST)
    assert run(service, modem, "EnterEdl")[1] == "done"
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "sahara", what="9008")
    if restarted:
        _, first = backup(service, modem, kind="calibration")
        assert state(service, first) == "blank"
        service.call(first, BACKUP, "Remove", service.no_options())
        service.restart()
        service.modem()
    _, saved = backup(service, modem, kind="calibration")
    assert state(service, saved) == "blank"


def test_once_it_works_again_its_backups_count(known, new_modem, tmp_path):
    service, modem = known(LOST)
    assert run(service, modem, "Identify")[1] == "done"
    modem = replug(service, new_modem, tmp_path)
    assert run(service, modem, "Identify")[1] == "done"
    assert run(service, modem, "EnterEdl")[1] == "done"
    _, saved = backup(service, modem, kind="calibration")
    assert state(service, saved) == "complete"


def unplugged(service, new_modem):
    """For so long that nobody watched."""
    service.stop()
    for process in new_modem.started:
        process.terminate()
        process.wait()
    service.start()


def test_another_that_works_in_its_place_clears_it_not(known, new_modem, tmp_path):
    """Its serial was not told again: whose word that is nobody knows yet."""
    service, modem = known(LOST)
    _, first = backup(service, modem, kind="calibration")
    assert state(service, first) == "blank"
    lost = (tmp_path / "modem.flash").read_bytes()
    normal(service, modem)
    unplugged(service, new_modem)
    new_modem(service, WORKING, "imei=490154203237518", "serial=0badcafe", blocks=192, name="other")
    modem = service.modem()
    assert run(service, modem, "Identify")[1] == "done"
    unplugged(service, new_modem)
    (tmp_path / "modem.flash").write_bytes(lost)
    new_modem(service, "force_edl=yes", blocks=192)
    service.call(first, BACKUP, "Remove", service.no_options())
    _, saved = backup(service, service.modem(), kind="calibration")
    assert state(service, saved) == "blank"


@pytest.mark.parametrize("mode", ["untold", "auto"])
def test_a_flash_that_is_done_leaves_nothing_half(known, mode):
    """Also where the firmware does not tell its mode."""
    service, modem = known("oper_mode=" + mode, blocks=2048)
    package, = service.paths(FIRMWARE)
    options = {"allow": names("EraseCalibration"), "modem-version": VERSION}
    job = service.call(modem, MODEM, "Flash", dbus.ObjectPath(package), dbus.Dictionary(options, signature="sv"))
    assert service.wait_job(job) == "done", service.log(job)
    normal(service, modem)
    _, saved = backup(service, modem, kind="calibration")
    assert state(service, saved) == "complete"


# ---- half written ----

def names(*partitions):
    return dbus.Array(partitions, signature="s")


@pytest.fixture
def half(known, new_modem, new_service, make_package, tmp_path):
    """half("setting"...) -> service, modem, the whole backup, the call: a restore of EFS2 ended in its middle."""
    def make(*settings):
        service = new_service().start(config=ALWAYS)
        process = new_modem(service, WORKING, "force_edl=yes", "fault=stop@program:3", *settings, blocks=192)
        assert service.wait_job(service.import_file(make_package("--small"))) == "done"
        modem = service.modem()
        _, real = backup(service, modem, kind="calibration")
        spoil(tmp_path / "modem.flash", *(b * 64 for b in (21, 22, 23, 24, 25, 26)))
        options = {"partitions": names("EFS2"), "allow": names("WrongFirmware", "WrongUnit")}
        job = service.call(modem, MODEM, "Restore", dbus.ObjectPath(real), dbus.Dictionary(options, signature="sv"))
        wait_stopped(process)
        for pid in service.workers():
            os.kill(pid, signal.SIGKILL)
        go_on(process)
        assert service.wait_job(job) == "failed", service.log(job)
        return service, modem, real, options
    return make


@pytest.mark.parametrize("serial", [(), ("serial=0",)], ids=["named", "nameless"])
@pytest.mark.parametrize("restarted", [False, True])
def test_half_of_two_is_damaged(half, serial, restarted):
    service, modem, real, options = half(*serial)
    if restarted:
        service.restart()
        service.modem()
    job, saved = backup(service, modem, kind="calibration")
    assert state(service, saved) == "damaged"
    assert service.wait_job(service.call(saved, BACKUP, "Verify", service.no_options())) == "done"
    assert state(service, saved) == "damaged" and state(service, real) == "complete"
    assert real in service.paths(BACKUP)
    # What was begun is brought to its end: from then on it counts again.
    job, result = restore(service, modem, dbus.ObjectPath(real), **options)
    assert result == "done", service.log(job)
    _, saved = backup(service, modem, kind="nand")
    assert state(service, saved) == "complete"


def test_another_restore_saves_it_as_damaged(half):
    """It voids the first one's journal; what it saves is half of two, and remembered so until it is done."""
    service, modem, real, options = half()
    job, result = restore(service, modem, dbus.ObjectPath(real), partitions=names("EFS2", "RAWDATA"), allow=names("WrongFirmware"))
    assert result == "done", service.log(job)
    states = sorted(state(service, b) for b in service.paths(BACKUP))
    assert states == ["complete", "complete", "damaged"], service.log(job)


def test_what_an_older_version_left_half_is_damaged(half):
    """It remembered nothing, and neither does a service that died before it heard of the first write: its job is there."""
    service, modem, _, _ = half()
    service.stop()
    for path in (service.state / "modems").glob("*.rec"):
        path.write_text("".join(line for line in path.read_text().splitlines(True) if "CALIBRATION_FLAW" not in line))
    service.start()
    service.modem()
    _, saved = backup(service, modem, kind="calibration")
    assert state(service, saved) == "damaged"


# ---- item by item ----

@pytest.fixture
def half_items(known, new_modem, tmp_path):
    """The modem kept its power: it is offline, has its IMEI and some RF files, and is not in factory test mode."""
    def make(*settings):
        service, modem = known(*settings)
        _, real = save(service, modem)
        modem = replug(service, new_modem, tmp_path, "calibration=partial", "efs_sync_ms=1000", *settings)
        assert run(service, modem, "Identify")[1] == "done"
        process = new_modem.started[-1]
        job = service.call(modem, MODEM, "Restore", real, service.no_options())
        wait_until(lambda: not service.get(job, JOB, "SafeToUnplug"), what="the writing, between items and files")
        process.send_signal(signal.SIGSTOP)
        for pid in service.workers():
            os.kill(pid, signal.SIGKILL)
        go_on(process)
        assert service.wait_job(job) == "failed", service.log(job)
        return service, modem, real
    return make


@pytest.mark.parametrize("settings", [(), ("oper_mode=untold",)], ids=["told", "untold"])
def test_what_an_interrupted_restore_of_items_left_is_damaged(half_items, settings):
    service, modem, real = half_items(*settings)
    last, good = service.get(modem, MODEM, "LastBackupTime"), complete(service)
    _, saved = save(service, modem)
    assert state(service, saved) == "damaged"
    assert service.wait_job(service.call(saved, BACKUP, "Verify", service.no_options())) == "done"
    # Nor as the state before the same call, which makes it whole.
    job, result = restore(service, modem, real)
    assert result == "done", service.log(job)
    assert "damaged" in service.get(job, JOB, "Report")["backup"]
    assert complete(service) == good
    assert service.get(modem, MODEM, "LastBackupTime") == last
    # What is left of one is put back by that name only.
    with Refused("BackupDamaged"):
        service.call(modem, MODEM, "Restore", saved, service.no_options())
    _, again = save(service, modem)
    assert state(service, again) == "complete"


def test_the_flash_below_half_of_the_items_is_damaged(half_items):
    """Whatever was asked of the modem in between: offline it does not say that it works."""
    service, modem, _ = half_items()
    assert run(service, modem, "Identify")[1] == "done"
    assert run(service, modem, "EnterEdl")[1] == "done"
    _, saved = backup(service, modem, kind="calibration")
    assert state(service, saved) == "damaged"


@pytest.mark.parametrize("setting,came_to", [
    (["efs_unreadable=/nv/item_files/rfnv/0002"], "damaged"),
    (["efs_unreadable=/nv/item_files/mcs/tcxomgr"], "damaged"),
    (["efs_unreadable=/nv/item_files/rfnv/0002", "efs_unreadable_errno=13"], "complete"),  # what nobody may read
    (["efs_unreadable=/nv/item_files/modem"], "complete"),  # no calibration
], ids=["RF items", "crystal", "closed", "others"])
def test_rf_items_that_cannot_be_read(running, tmp_path, setting, came_to):
    """A flash that fails: the items are there, and the modem answers EIO."""
    service, modem = running(*setting, config="[Backup]\nAutomatic=no\n")
    job, saved = save(service, modem)
    report = service.get(job, JOB, "Report")
    assert state(service, saved) == came_to == report["state"]
    assert ("unreadable-calibration" in report) == (came_to == "damaged")
    assert (service.get(modem, MODEM, "LastBackupTime") > 0) == (came_to == "complete")
    assert service.wait_job(service.call(saved, BACKUP, "Verify", service.no_options())) == "done"
    (tmp_path / "copy").write_bytes(content(service, saved))
    service.call(saved, BACKUP, "Remove", dbus.Dictionary({"allow": names("LastBackup")}, signature="sv"))
    assert service.wait_job(service.import_backup(tmp_path / "copy")) == "done"
    assert [state(service, b) for b in service.paths(BACKUP)] == [came_to]
