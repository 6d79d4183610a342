# SPDX-License-Identifier: LGPL-2.1-or-later
"""The end of a flash: where the modem boots, whether that is it, and what becomes of a job whose service ends behind its last step."""

import contextlib
import re
import signal
import time

import dbus
import pytest
from catching import find_modem, import_package, jobs, options, trace
from conftest import JOB, MODEM, PATIENCE, VERSION, dies_at_rename, go_on, in_phase, pull, time_is_over, wait_stopped, wait_until

ASKED = "[Identify]\nOnAppear=yes\nDelaySec=0\n[Backup]\nAutomatic=no\n"
SUPERSPEED = ("port_normal=virtual-usb-0:9", "kernel_normal=2-9")


def flash(service, path, firmware, **values):
    return service.call(path, MODEM, "Flash", dbus.ObjectPath(firmware), options(**values))


def flash_until_gone(service, path, firmware, modem):
    """The job, whose last step is behind it: the modem (fault=stop@gone:N) has left for its boot and stands still there."""
    job = flash(service, path, firmware)
    wait_stopped(modem)
    in_phase(service, job, "wait-normal")
    return job


def gone_behind_its_last_step(service, new_modem, make_package):
    """A modem that ran its firmware, flashed from there and gone to boot: firmware, process, path, job."""
    firmware = import_package(service, make_package("--small"))
    modem = new_modem(service, "initial=working", "fault=stop@gone:2")
    path = find_modem(service)
    mode(service, path, "normal")
    return firmware, modem, path, flash_until_gone(service, path, firmware, modem)


def mode(service, path, *wanted):
    wait_until(lambda: service.get(path, MODEM, "Mode") in wanted, what=" or ".join(wanted))


def written(tmp_path):
    return len(re.findall(r" command \d+ (?:erase|program) ", trace(tmp_path)))


def is_unsure(text):
    return str(text).startswith(VERSION.split("_")[0]) and "not confirmed: no IMEI was known" in text


def is_version(text):
    return str(text).split("_")[0] == VERSION.split("_")[0] and "not confirmed" not in text


# ---- elsewhere ----

def test_a_modem_that_boots_at_another_connector_is_asked_there(service, new_modem, make_package):
    firmware = import_package(service, make_package("--small"))
    new_modem(service, *SUPERSPEED)
    path = find_modem(service)
    job = flash(service, path, firmware)
    assert service.wait_job(job) == "done", service.log(job)
    assert is_version(service.get(job, JOB, "Report")["version"]), service.get(job, JOB, "Report")
    assert "booted at another connector: virtual-usb-0:9" in service.log(job)
    # What it told is of the object where it is, which is free again.
    there = find_modem(service, "virtual-usb-0:9")
    assert is_version(service.get(there, MODEM, "FirmwareVersion")) and service.get(there, MODEM, "Job") == "/"
    assert service.wait_job(service.call(there, MODEM, "Identify", options())) == "done"


@pytest.mark.parametrize("other, why", [("boots=other-version", "cannot be told"), ("boots=yes", "another IMEI")], ids=["version", "IMEI"])
def test_another_modem_that_comes_elsewhere_is_not_taken_for_it(service, new_modem, make_package, other, why):
    """Somebody plugs one in while ours is on its way: ours is waited for."""
    firmware = import_package(service, make_package("--small"))
    known = "IMEI" in why
    ours = new_modem(service, *(("initial=working", "fault=stop@gone:2") if known else ("fault=stop@gone:1",)))
    path = find_modem(service)
    if known:
        mode(service, path, "normal")
    job = flash_until_gone(service, path, firmware, ours)
    new_modem(service, "initial=working", "serial=0badcafe", "port=virtual-usb-0:9", "kernel=1-9", other, name="other")
    wait_until(lambda: why in service.log(job), what="that it is seen to be another one")
    in_phase(service, job, "wait-normal")
    wait_until(lambda: service.get(find_modem(service, "virtual-usb-0:9"), MODEM, "Job") == "/", what="that it is left alone")
    go_on(ours)
    assert service.wait_job(job) == "done", service.log(job)
    assert is_version(service.get(job, JOB, "Report")["version"]) and service.get(path, MODEM, "Mode") == "normal"


@pytest.mark.parametrize("where", [("port=virtual-usb-0:9", "kernel=1-9"), ()], ids=["elsewhere", "in its place"])
def test_one_that_does_not_return_is_not_done_because_another_one_runs(new_service, new_modem, make_package, where):
    """Complete and verified, and nobody has seen it since: what was seen is said."""
    service = new_service().start(config="[Flash]\nBootTimeoutSec=30\n")
    _, ours, path, job = gone_behind_its_last_step(service, new_modem, make_package)
    pull(ours)
    new_modem(service, "initial=working", "serial=0badcafe", "boots=other-version", *where, name="other")
    assert service.wait_job(job) == "not-returned", service.log(job)
    f = service.all(job, JOB)
    assert f["ErrorName"].endswith("Timeout") and f["RecoveryHint"] == "power-cycle", f
    assert "complete and verified" in f["ErrorMessage"] and "tells another IMEI than this unit" in f["ErrorMessage"], f
    assert "R99A99" in f["ErrorMessage"] and "not confirmed" in f["Report"]["version"]
    there = find_modem(service, "virtual-usb-0:9") if where else path
    assert service.get(there, MODEM, "Job") == "/"
    if not where:  # what was flashed was not this one
        wait_until(lambda: "R99A99" in service.get(path, MODEM, "FirmwareVersion"), what="its own version")


@pytest.mark.parametrize("where", [SUPERSPEED, ()], ids=["elsewhere", "in its place"])
def test_it_comes_behind_another_one(service, new_modem, make_package, where):
    """Somebody tries another module in the slot, and puts ours back, there or somewhere else."""
    _, ours, path, job = gone_behind_its_last_step(service, new_modem, make_package)
    pull(ours)
    other = new_modem(service, "initial=working", "serial=0badcafe", name="other")
    wait_until(lambda: "another IMEI" in service.log(job), what="that it is another one")
    if not where:
        pull(other)
    settings = [s.replace("_normal", "") for s in where]
    new_modem(service, *settings)
    assert service.wait_job(job) == "done", service.log(job)
    assert is_version(service.get(job, JOB, "Report")["version"])


def test_one_that_came_before_it_left_is_not_asked(service, new_modem, make_package, plug):
    """Somebody plugs another modem in while ours is being written to: it is not ours, and is left in peace."""
    firmware = import_package(service, make_package("--small", "--image", "tz.mbn=1200K"))
    ours = new_modem(service, "fault=stop@program:2", "fault=stop@gone:1")
    path = find_modem(service)
    job = flash(service, path, firmware)
    wait_stopped(ours)
    in_phase(service, job, "program")
    plug(service, port="virtual-usb-0:9", kernel="1-9", vid="2c7c", pid="0800", product="RM502Q-GL", interfaces=5)
    there = find_modem(service, "virtual-usb-0:9")
    mode(service, there, "normal")
    time.sleep(2.5)  # longer than events of two ports may come in the wrong order: how long it is there is what this is about
    go_on(ours)
    in_phase(service, job, "wait-normal")  # with the other one there, and ours away
    wait_stopped(ours)
    go_on(ours)
    assert service.wait_job(job) == "done", service.log(job)
    assert "another connector" not in service.log(job) and is_version(service.get(job, JOB, "Report")["version"])


# ---- behind the last step ----

@pytest.fixture
def ended(new_service, new_modem, make_package, tmp_path):
    """ended(config, how, at, ...): a service whose flash was complete when it ended, started anew: itself, modem, job, firmware. The
    modem is ended.modem; without boots it is still on its way."""
    def make(*settings, config="", how=signal.SIGKILL, at="wait-normal", boots=True):
        service = new_service().start()
        firmware = import_package(service, make_package("--small"))
        make.modem = new_modem(service, "fault=stop@" + {"wait-normal": "gone:1", "reset": "power:1"}[at], *settings)
        path = find_modem(service)
        job = flash(service, path, firmware)
        wait_stopped(make.modem)
        in_phase(service, job, at)
        service.stop(how)
        make.written = written(tmp_path)
        service.start(config=config)
        assert service.get(job, JOB, "Result") == "interrupted" and " and verified" in service.get(job, JOB, "ErrorMessage")
        if boots:
            go_on(make.modem)
        return service, path, job, firmware
    return make


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_by_itself_once_the_modem_has_told_what_it_runs(ended, tmp_path, how):
    service, path, job, _ = ended(config=ASKED, how=how)
    wait_until(lambda: service.get(job, JOB, "Result") != "interrupted", what="its end")
    f = service.all(job, JOB)
    assert f["Result"] == "done" and f["ErrorName"] == f["ErrorMessage"] == f["RecoveryHint"] == "", f
    # Nobody saw it meanwhile, and before it was flashed it had told no IMEI: another one with the same firmware would look the same.
    assert is_unsure(f["Report"]["version"]) and "everything" in f["Report"]["verified"]
    assert "done, but not confirmed" in service.errors()
    assert service.get(path, MODEM, "Interrupted") == "/" and service.get(path, MODEM, "LastError") == ""
    assert written(tmp_path) == ended.written and trace(tmp_path).count("boot normal") == 1
    service.restart(config=ASKED)
    assert service.get(job, JOB, "Result") == "done" and len(jobs(service, "flash")) == 1


def test_it_ends_at_its_reset_just_so(ended, tmp_path):
    """Killed between the command and the modem's leaving."""
    service, _, job, _ = ended("power_delay=honour", config=ASKED, at="reset")
    wait_until(lambda: service.get(job, JOB, "Result") == "done", what="its end")
    assert written(tmp_path) == ended.written


def test_a_wrong_version_is_said(ended):
    service, path, job, _ = ended("boots=other-version", config=ASKED)
    wait_until(lambda: service.get(job, JOB, "Result") == "wrong-version", what="its end")
    assert service.get(job, JOB, "ErrorName").endswith("WrongFirmware") and "R99A99" in service.get(job, JOB, "ErrorMessage")
    assert service.get(path, MODEM, "RecoveryHint") == "wrong-firmware"


@pytest.mark.parametrize("wait", [True, False], ids=["booted", "booting"])
def test_the_same_call_ends_it_without_writing(ended, tmp_path, wait):
    """Nobody asks the modem by himself: the same call does, and writes nothing."""
    service, path, job, firmware = ended(boots=wait)
    if wait:
        mode(service, path, "normal")
        assert service.get(path, MODEM, "Interrupted") == job
    again = flash(service, path, firmware)
    go_on(ended.modem)
    assert service.wait_job(again) == "done", service.log(again)
    assert service.get(again, JOB, "Resumes") == job and is_unsure(service.get(again, JOB, "Report")["version"])
    assert written(tmp_path) == ended.written and trace(tmp_path).count("boot normal") == 1
    # Once more is a flash of its own.
    assert service.get(path, MODEM, "Interrupted") == "/"
    third = flash(service, path, firmware)
    assert service.wait_job(third) == "done", service.log(third)
    assert written(tmp_path) > ended.written


def test_one_that_booted_and_is_in_9008_again_is_flashed_from_its_beginning(ended, tmp_path):
    service, path, job, firmware = ended("boots=never-lasts", "normal_ms=600000")
    mode(service, path, "normal")
    time_is_over(ended.modem)
    mode(service, path, "sahara", "firehose")
    assert service.get(path, MODEM, "Interrupted") == "/"
    again = flash(service, path, firmware)
    wait_until(lambda: written(tmp_path) > ended.written, what="a write")
    assert service.get(again, JOB, "Resumes") == "/"


@pytest.mark.parametrize("config, settings", [(ASKED, ()), ("", ("boots=other-version",))], ids=["asked", "another version"])
def test_another_unit_in_its_place_is_not_what_was_flashed(new_service, new_modem, make_package, tmp_path, config, settings):
    service = new_service().start()
    firmware, gone, path, job = gone_behind_its_last_step(service, new_modem, make_package)
    service.stop(signal.SIGKILL)
    gone.kill()
    gone.wait()
    service.start(config=config)
    new_modem(service, "initial=working", "serial=0badcafe", *settings, name="other")
    mode(service, path, "normal")
    if config:
        wait_until(lambda: service.get(path, MODEM, "ChipSerial") == "", what="its own word")
    again = flash(service, path, firmware)
    result = service.wait_job(again)
    if config:  # known to be another one before anything is asked of it: flashed
        assert result == "done" and service.get(again, JOB, "Resumes") == "/", service.log(again)
        assert " program " in open(tmp_path / "other.trace").read()
    else:
        assert result == "failed" and service.get(again, JOB, "ErrorName").endswith("WrongUnit"), service.log(again)
        assert "made again" in service.get(again, JOB, "ErrorMessage")
        assert " program " not in open(tmp_path / "other.trace").read()


def swapped(service, new_modem, gone, *settings):
    """Instead of the one that was to boot, another one does; the service was killed meanwhile."""
    service.stop(signal.SIGKILL)
    if gone:
        gone.kill()
        gone.wait()
    service.start(config=ASKED)
    if gone:
        new_modem(service, "initial=working", *settings, name="other")


def test_another_unit_is_not_it_however_often_it_was_interrupted(new_service, new_modem, make_package):
    """What continues a flash that was complete knows whose it was, too, should it be interrupted itself."""
    service = new_service().start()
    firmware, modem, path, first = gone_behind_its_last_step(service, new_modem, make_package)
    swapped(service, new_modem, None)
    again = flash(service, path, firmware)
    in_phase(service, again, "wait-device")
    assert service.get(again, JOB, "Resumes") == first
    swapped(service, new_modem, modem, "serial=0badcafe")
    mode(service, path, "normal")
    wait_until(lambda: service.get(path, MODEM, "ChipSerial") == "", what="its own word")
    third = flash(service, path, firmware)
    assert service.wait_job(third) == "done"
    assert service.get(again, JOB, "Result") == "interrupted" and service.get(third, JOB, "Resumes") == "/"


def test_another_unit_without_a_serial_is_not_it(new_service, new_modem, make_package, tmp_path):
    """Chips that were never fused have none: the IMEI tells them apart."""
    service = new_service().start(config=ASKED)
    firmware = import_package(service, make_package("--small"))
    modem = new_modem(service, "fault=stop@gone:2", "initial=working", "serial=0")
    path = find_modem(service)
    wait_until(lambda: service.get(path, MODEM, "Imei"), what="its IMEI")
    imei = service.get(path, MODEM, "Imei")
    job = flash_until_gone(service, path, firmware, modem)
    swapped(service, new_modem, modem, "serial=0", "imei=490154203237518")
    mode(service, path, "normal")
    wait_until(lambda: service.get(path, MODEM, "Imei") != imei, what="its own word")
    again = flash(service, path, firmware)
    assert service.wait_job(again) == "done" and service.get(again, JOB, "Resumes") == "/"
    assert service.get(job, JOB, "Result") == "interrupted"
    assert " program " in open(tmp_path / "other.trace").read()


def test_without_serial_and_imei_nothing_is_confirmed(new_service, new_modem, make_package, tmp_path):
    """What boots in its place may be any unit."""
    service = new_service().start()
    firmware = import_package(service, make_package("--small"))
    modem = new_modem(service, "fault=stop@gone:1", "serial=0")
    path = find_modem(service)
    job = flash(service, path, firmware, modem_version=VERSION)
    wait_stopped(modem)
    in_phase(service, job, "wait-normal")
    swapped(service, new_modem, modem, "serial=0badcafe")
    wait_until(lambda: service.get(job, JOB, "Result") != "interrupted", what="its end")
    assert service.get(job, JOB, "Result") == "done" and is_unsure(service.get(job, JOB, "Report")["version"])


def test_one_without_a_serial_ends_its_own(new_service, new_modem, make_package, tmp_path):
    service = new_service().start(config=ASKED)
    firmware = import_package(service, make_package("--small"))
    modem = new_modem(service, "fault=stop@gone:2", "initial=working", "serial=0")
    path = find_modem(service)
    wait_until(lambda: service.get(path, MODEM, "Imei"), what="its IMEI")
    job = flash_until_gone(service, path, firmware, modem)
    swapped(service, new_modem, None)
    go_on(modem)
    wait_until(lambda: service.get(job, JOB, "Result") == "done", what="its end")
    assert is_version(service.get(job, JOB, "Report")["version"])


@pytest.mark.parametrize("when", ["before", "behind"])
def test_a_service_that_dies_while_a_journal_changes_hands(ended, tmp_path, when):
    """Neither job loses what it had: nothing is written again."""
    service, path, job, firmware = ended(boots=False)
    service.restart(environment=dies_at_rename(tmp_path, when, ".journal"))
    with contextlib.suppress(dbus.exceptions.DBusException):
        flash(service, path, firmware)
    assert service.process.wait(PATIENCE) == -signal.SIGKILL
    service.start()
    assert service.get(path, MODEM, "Interrupted") == (jobs(service, "flash")[-1] if when == "behind" else job)
    again = flash(service, path, firmware)
    in_phase(service, again, "wait-device")
    go_on(ended.modem)
    assert service.wait_job(again) == "done", service.log(again)
    assert written(tmp_path) == ended.written


def test_a_stranger_elsewhere_keeps_its_family(service, new_modem, make_package, tmp_path):
    firmware = import_package(service, make_package("--small"))
    ours = new_modem(service, "fault=stop@gone:2", "initial=working", "boots=other-version")
    path = find_modem(service)
    mode(service, path, "normal")
    job = flash(service, path, firmware, allow=dbus.Array(["WrongFirmware"], signature="s"))
    wait_stopped(ours)
    in_phase(service, job, "wait-normal")
    new_modem(service, "initial=working", "serial=0badcafe", "port=virtual-usb-0:9", "kernel=1-9", name="other")
    wait_until(lambda: "another IMEI" in service.log(job), what="that it is seen to be another one")
    go_on(ours)
    assert service.wait_job(job) == "wrong-version"
    there = find_modem(service, "virtual-usb-0:9")
    assert service.wait_job(service.call(there, MODEM, "Identify", options())) == "done"
    service.stop()
    assert "FAMILY_VERSION=RM502QGLAAR05A03M4G\n" in open(tmp_path / "state/modems/virtual_2dusb_2d0_3a9.rec").read()


# ---- lost in the middle ----

@pytest.mark.parametrize("there", [False, True], ids=["nowhere", "at another connector"])
def test_one_that_is_lost_is_told_where_it_is_waited_for(new_service, new_modem, make_package, plug, there):
    service = new_service().start(config="[Flash]\nWaitDeviceSec=10\n")
    firmware = import_package(service, make_package("--small"))
    new_modem(service, "fault=unplug@program:2", "replug_ms=-1")
    path = find_modem(service)
    job = flash(service, path, firmware)
    mode(service, path, "absent")
    if there:
        plug(service, port="virtual-usb-0:9", kernel="1-9")
    assert service.wait_job(job) == "interrupted", service.log(job)
    said = service.get(job, JOB, "ErrorMessage")
    if there:
        assert "it is at virtual-usb-0:9 now: the same call made there continues" in said, said
        assert service.get(find_modem(service, "virtual-usb-0:9"), MODEM, "Interrupted") == job
    else:
        assert "plug it back in there" in said and "virtual-usb-0:1.2" in said, said
