# SPDX-License-Identifier: LGPL-2.1-or-later
"""Brought back to life with nobody at the keyboard."""

import os
import signal
import subprocess

import dbus
import pytest
from catching import (IN_BACKUP, LOOP, OTHER, OTHER_PORT, OWN, PORT, arm, count, find_modem, import_package, jobs, nothing_was_written, options,
                      set_policy, trace, turns, wait_held)
from conftest import BACKUP, FIRMWARE, JOB, MODEM, TOP, VERSION, Refused, go_on, in_phase, wait_stopped, wait_until

FAST = "[Rescue]\nAttempts=2\nBackoffSec=1\n"


def flash_py(tmp_path, *arguments, name="modem"):
    result = subprocess.run(["/usr/bin/python3", TOP / "tests" / "modem" / "flash.py", tmp_path / f"{name}.flash", *arguments],
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def assert_flashed(tmp_path, package):
    """Page by page what the package gives on what was there before, and no more."""
    directory = tmp_path / "expected"
    directory.mkdir()
    subprocess.run(["tar", "xf", package, "-C", directory], check=True)
    flash_py(tmp_path, "--before", tmp_path / "before", "--package", next(directory.iterdir()))


def wait_finished(service, kind, n=1):
    """The first n jobs of this kind, once they are finished."""
    def finished():
        found = [j for j in jobs(service, kind) if service.get(j, JOB, "State") == "finished"]
        return found[:n] if len(found) >= n else None
    return wait_until(finished, timeout=180, what=f"{n} finished {kind}")


def note(service, path, text):
    wait_until(lambda: text in service.get(path, MODEM, "Note"), timeout=120, what=f"a note with {text!r}")
    return str(service.get(path, MODEM, "Note"))


@pytest.mark.parametrize("loop", [("window_ms=14000", "gap_ms=4800"), ("window_ms=6000", "gap_ms=3000"), ("window_ms=3000", "gap_ms=2000"),
                                  ("window_ms=6000", "gap_ms=3000", "hello=lost"), ("window_ms=3000", "gap_ms=2000", "product_edl=QUSB_BULK")],
                         ids=["14 s", "6 s", "3 s", "hello stolen", "without a name"])
def test_from_loop_to_normal_mode_unattended(service, new_modem, make_package, tmp_path, loop):
    package = make_package("--small")
    firmware = import_package(service, package)
    new_modem(service, "loop=soft", *loop)
    path = find_modem(service)
    flash_py(tmp_path, "--snapshot", tmp_path / "before")
    arm(service, "rescue", firmware)
    [job] = wait_finished(service, "flash")
    assert service.get(job, JOB, "Result") == "done", service.log(job)
    assert service.get(job, JOB, "OwnerUid") == OWN
    # The catch has asked who it is, in this appearance: its programmer is used as it is, and no window is lost by asking again.
    assert service.get(job, JOB, "Window") == 1 and count(tmp_path, "state programmer") == 1
    wait_until(lambda: service.get(path, MODEM, "Mode") == "normal", what="normal mode")
    # What must not be lost was saved first, and is in the store.
    saved = service.get(job, JOB, "Object")
    assert saved in service.paths(BACKUP) and service.get(saved, BACKUP, "ChipSerial") == "49cbd7ef"
    assert service.get(path, MODEM, "LastError") == "" and len(jobs(service, "flash")) == 1
    assert_flashed(tmp_path, package)
    # What made it loop is gone, and nobody is told of it any more.
    assert not service.get(find_modem(service), MODEM, "Looping") and service.get(find_modem(service), MODEM, "LoopCount") == 0


def test_a_hard_loop(service, new_modem, make_package, tmp_path):
    """It resets whatever runs: one window after the other."""
    firmware = import_package(service, make_package("--small"))
    arm(service, "rescue", firmware)
    new_modem(service, "loop=hard", "window_ms=3000", "gap_ms=300")
    [job] = wait_finished(service, "flash")
    assert service.get(job, JOB, "Result") == "done", service.log(job)
    assert "VIOLATION" not in trace(tmp_path)


def test_a_flash_uses_its_own_programmer(service, new_modem, make_package, tmp_path):
    """To hold it any that it takes will do; what another package's says of blocks may be otherwise."""
    other = import_package(service, make_package("--small", "--seed", "2"))
    arm(service)
    new_modem(service, *LOOP)
    path = find_modem(service)
    wait_held(service, path)
    [job] = jobs(service, "catch")
    assert service.get(job, JOB, "Report")["programmer"] == service.get(other, FIRMWARE, "Sha256")[:32]
    arm(service, "rescue", import_package(service, make_package("--small")))
    [job] = wait_finished(service, "flash")
    assert service.get(job, JOB, "Result") == "done", service.log(job)
    assert count(tmp_path, "state programmer") == 2


def test_two_at_once_and_each_with_its_own(service, new_modem, make_package, tmp_path):
    firmware = import_package(service, make_package("--small"))
    for port in (PORT, OTHER_PORT):
        arm(service, "rescue", firmware, port=port)
    new_modem(service, *LOOP)
    new_modem(service, *OTHER, *LOOP, name="other")
    done = wait_finished(service, "flash", 2)
    assert [service.get(j, JOB, "Result") for j in done] == ["done"] * 2, [service.log(j) for j in done]
    assert {str(service.get(j, JOB, "Modem")) for j in done} == {str(find_modem(service)), str(find_modem(service, OTHER_PORT))}


def test_the_wrong_package_writes_nothing(service, new_modem, make_package, tmp_path):
    """What the unit is only its flash tells; the policy's package is for another one."""
    firmware = import_package(service, make_package("--small"))
    arm(service, "rescue", firmware)
    new_modem(service, *LOOP, "project=RM500QGLAA")
    path = find_modem(service)
    [job] = wait_finished(service, "flash")
    assert service.get(job, JOB, "ErrorName").endswith("WrongFirmware")
    text = note(service, path, "left to a human")
    assert "RM500QGLAA" in text and "RM500QGLAA" in service.get(path, MODEM, "LastError")
    assert nothing_was_written(tmp_path) and service.get(path, MODEM, "Held")
    assert len(jobs(service, "flash")) == 1
    # It is remembered, and a new decision begins anew.
    service.restart()
    assert "left to a human" in note(service, path, "left to a human")


def test_an_unknown_version_is_held_and_saved_and_left(service, new_modem, make_package, tmp_path):
    firmware = import_package(service, make_package("--small"))
    arm(service, "rescue", firmware)
    new_modem(service, *LOOP, "project=")
    path = find_modem(service)
    [flash] = wait_finished(service, "flash")
    assert service.get(flash, JOB, "ErrorName").endswith("VersionUnknown"), service.log(flash)
    [backup] = wait_finished(service, "backup")
    assert service.get(backup, JOB, "Result") == "done" and service.get(backup, JOB, "OwnerUid") == OWN, service.log(backup)
    note(service, path, "left to a human")
    assert nothing_was_written(tmp_path) and service.get(path, MODEM, "Held")
    assert len(jobs(service, "flash")) == 1 and len(jobs(service, "backup")) == 1


def test_an_unknown_version_that_the_policy_tells(service, new_modem, make_package, tmp_path):
    """What its label says was said when the policy was set (flash rule 2); of a modem whose flash says otherwise it lifts nothing."""
    firmware = import_package(service, make_package("--small"))
    arm(service, "rescue", firmware, modem_version=VERSION)
    arm(service, "rescue", firmware, port=OTHER_PORT, modem_version=VERSION)
    new_modem(service, *LOOP, "project=")
    new_modem(service, *OTHER, *LOOP, "project=RM500QGLAA", name="other")
    wait_finished(service, "flash", 2)
    ended = {service.get(j, JOB, "Modem"): j for j in jobs(service, "flash")}
    assert service.get(ended[find_modem(service)], JOB, "Result") == "done", service.log(ended[find_modem(service)])
    assert service.get(ended[find_modem(service, OTHER_PORT)], JOB, "ErrorName").endswith("WrongFirmware")
    assert nothing_was_written(tmp_path, "other") and not jobs(service, "backup") and len(ended) == 2


def test_another_module_in_its_place_is_not_written_to(service, new_modem, make_package, tmp_path):
    """Swapped between two windows: the policy was the old one's."""
    firmware = import_package(service, make_package("--small"))
    new_modem(service, "loop=hard", "window_ms=700", "gap_ms=700", "swap_at=4")
    path = find_modem(service)
    wait_until(lambda: service.get(path, MODEM, "ChipSerial") == "49cbd7ef", what="its serial")
    set_policy(service, path, "off")
    wait_until(lambda: service.get(path, MODEM, "ChipSerial") == "5eed0001", what="the other one")
    assert service.get(path, MODEM, "Policy") == "hold" and service.get(path, MODEM, "RescueFirmware") == "/"
    turns(service, path, 2)
    assert nothing_was_written(tmp_path) and not jobs(service, "flash")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_service_ends_in_the_middle(service, new_modem, make_package, tmp_path, how):
    """Killed or stopped while it writes: the next one goes on by itself, from the journal."""
    package = make_package("--small")
    firmware = import_package(service, package)
    modem = new_modem(service, *LOOP, "fault=stop@program:2")
    find_modem(service)
    flash_py(tmp_path, "--snapshot", tmp_path / "before")
    arm(service, "rescue", firmware)
    wait_stopped(modem)
    [job] = jobs(service, "flash")
    service.stop(how, modem=modem)
    service.start()
    assert service.get(job, JOB, "Result") == "interrupted"
    [_, again] = wait_finished(service, "flash", 2)
    assert service.get(again, JOB, "Resumes") == job and service.get(again, JOB, "Result") == "done", service.log(again)
    assert service.get(again, JOB, "OwnerUid") == OWN
    assert_flashed(tmp_path, package)


def test_one_that_never_boots_is_given_up(new_service, new_modem, make_package):
    service = new_service().start(config=FAST + "[Flash]\nBootTimeoutSec=1\n")
    firmware = import_package(service, make_package("--small"))
    arm(service, "rescue", firmware)
    new_modem(service, *LOOP, "boots=no")
    path = find_modem(service)
    text = note(service, path, "left to a human")
    assert "2 attempts failed" in text
    assert len(jobs(service, "flash")) == 2 and "attempt 1 of 2 failed" in service.errors()


def test_a_user_s_own_work_is_not_disturbed(service, new_modem, make_package, tmp_path):
    """A user brings the modem to 9008 to look at it: that is no brick."""
    firmware = import_package(service, make_package("--small"))
    new_modem(service, "initial=working")
    path = find_modem(service)
    wait_until(lambda: service.get(path, MODEM, "Mode") == "normal", what="normal mode")
    set_policy(service, path, "rescue", firmware)
    job = service.call(path, MODEM, "EnterEdl", options())
    assert service.wait_job(job) == "done", service.log(job)
    job = service.call(path, MODEM, "Backup", options(kind="calibration"))
    assert service.wait_job(job) == "done", service.log(job)
    assert not jobs(service, "flash") and nothing_was_written(tmp_path)


def test_a_cancelled_rescue_is_not_begun_again(service, new_modem, make_package):
    firmware = import_package(service, make_package("--small"))
    arm(service, "rescue", firmware)
    modem = new_modem(service, *LOOP, IN_BACKUP)
    path = find_modem(service)
    wait_stopped(modem)
    [job] = jobs(service, "flash")
    in_phase(service, job, "backup")
    service.call(job, JOB, "Cancel", options())
    go_on(modem)
    assert service.wait_job(job) == "cancelled"
    note(service, path, "left to a human")
    assert len(jobs(service, "flash")) == 1


# ---- Modem.Rescue ----

def test_rescue_by_a_user(service, new_modem, make_package, tmp_path):
    package = make_package("--small")
    firmware = import_package(service, package)
    new_modem(service, "initial=working")
    path = find_modem(service)
    wait_until(lambda: service.get(path, MODEM, "Mode") == "normal", what="normal mode")
    with Refused("NoSuchFirmware") as e:
        service.call(path, MODEM, "Rescue", options())
    assert "policy" in e.message
    arm(service, "rescue", firmware, modem_version=VERSION)
    # A user brings it to 9008: the policy waits for his word.
    job = service.call(path, MODEM, "EnterEdl", options())
    assert service.wait_job(job) == "done", service.log(job)
    flash_py(tmp_path, "--snapshot", tmp_path / "before")
    job = service.call(path, MODEM, "Rescue", options())
    assert service.get(job, JOB, "Kind") == "flash" and service.get(job, JOB, "OwnerUid") == os.getuid()
    assert service.wait_job(job) == "done", service.log(job)
    assert_flashed(tmp_path, package)


CONTRADICTS = """
order = begin()
if order.kind in ("import", "verify"):
    say("READY=1")
    import_done(order, name="RM502QGLAAR05A03M4G_01.001.01.001", model="RM502QGL", prefix="RM502QGLAA", baseline="R05", memory="M4G", chip="SDX55", programmer="prog.elf") if order.kind == "import" else finish()
say("READY=1", "WAIT_DEVICE=edl")
hear_until("DEVICE")
say("SERIAL=49cbd7ef")
if order.kind == "flash":
    say("RESULT=failed", "ERROR=WrongUnit", "MESSAGE=its HWID is another one than before")
    sys.exit(0)
say("RESULT=done", "HOLDING=1")
hear_until("RELEASE")
"""


def test_one_that_is_another_each_time_is_given_up(new_service, forge, plug, make_package):
    """Its serial says that it is the same: it does not get another attempt for ever."""
    service = new_service().start(worker=forge(CONTRADICTS), config=FAST)
    firmware = import_package(service, make_package("--small"))
    arm(service, "rescue", firmware)
    plug(service)
    path = find_modem(service)
    for n in (1, 2):
        wait_until(lambda: len([j for j in jobs(service, "flash") if service.get(j, JOB, "State") == "finished"]) >= n, what=f"flash {n}")
        if n == 1:
            plug(service)
    text = note(service, path, "left to a human")
    assert "2 attempts failed" in text and "its HWID is another one" in text
