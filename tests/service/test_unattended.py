# SPDX-License-Identifier: LGPL-2.1-or-later
"""How often a modem is rescued unattended, what of that is remembered, and whose word ends it."""

import os
import signal
import subprocess

import dbus
import pytest
from catching import IN_BACKUP, LOOP, PORT, Later, arm, find_modem, import_package, jobs, options, set_policy, trace, turns, wait_held
from conftest import BUILD, JOB, MODEM, Refused, go_on, in_phase, time_is_over, wait_stopped, wait_until

FALLS_BACK = ("boots=never-lasts", "normal_ms=1000")
NEARLY_TEN_MINUTES = 590 * 1000000  # it runs well after five; a standby may get ready for ten


def note(service, path, text):
    wait_until(lambda: text in service.get(path, MODEM, "Note"), timeout=120, what=f"a note with {text!r}")
    return str(service.get(path, MODEM, "Note"))


def mode(service, path, *modes):
    wait_until(lambda: service.get(path, MODEM, "Mode") in modes, timeout=120, what=" or ".join(modes))


def qdlctl(service, *arguments):
    result = subprocess.run([BUILD / "qdlctl", *arguments], capture_output=True, text=True,
                            env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=service.address))
    assert result.returncode == 0, result.stderr
    return result.stdout


def flash(service, path, firmware, **values):
    return service.call(path, MODEM, "Flash", dbus.ObjectPath(firmware), options(**values))


def flashed(service, n):
    """The last of n flashes, each of which was a success."""
    def done():
        found = jobs(service, "flash")
        return found if len(found) >= n and all(service.get(j, JOB, "State") == "finished" for j in found) else None
    found = wait_until(done, timeout=120, what=f"{n} flashes")
    assert len(found) == n and all(service.get(j, JOB, "Result") == "done" for j in found), [service.log(j) for j in found]
    return found[-1]


@pytest.fixture
def later(tmp_path):
    return Later(tmp_path)


# ---- a day ----

def test_one_that_falls_back_again_and_again_is_left_to_a_human(new_service, new_modem, make_package):
    """Each flash is a success, and none helps."""
    config = "[Rescue]\nAttempts=100\nBackoffSec=1\nFlashesPerDay=2\n"
    service = new_service().start(config=config)
    firmware = import_package(service, make_package("--small"))
    arm(service, "rescue", firmware)
    new_modem(service, *LOOP, *FALLS_BACK)
    path = find_modem(service)
    text = note(service, path, "left to a human")
    assert "flashed 2 times within a day" in text and "flashed 2 times" in service.get(path, MODEM, "LastError")
    flashed(service, 2)
    # Its flash is not damaged: what helps is to find out why, and then to ask for another one.
    assert service.get(path, MODEM, "RecoveryHint") == "retry" and "FlashesPerDay=" in text and "asks for" in text
    said = qdlctl(service, "status")
    assert "qdlctl rescue 1-1.2 does it once more" in said and "contact the vendor" not in said, said
    assert service.get(path, MODEM, "Held") and "flashed 2 times within a day" in service.errors()
    # Neither a restart nor time in which it works gives it a share that it has had.
    service.restart(config=config)
    assert "flashed 2 times within a day" in note(service, path, "left to a human")
    # A human's word does.
    job = service.call(path, MODEM, "Rescue", options())
    assert service.wait_job(job) == "done", service.log(job)
    wait_until(lambda: len(jobs(service, "flash")) > 3, what="another flash")


def test_one_that_falls_back_at_once_has_failed(new_service, new_modem, make_package):
    """Flashed, verified, booted, and in 9008 again within minutes: that counts as an attempt, and not only as one of a day."""
    service = new_service().start(config="[Rescue]\nAttempts=2\nBackoffSec=1\nFlashesPerDay=100\n")
    firmware = import_package(service, make_package("--small"))
    arm(service, "rescue", firmware)
    new_modem(service, *LOOP, *FALLS_BACK)
    path = find_modem(service)
    text = note(service, path, "left to a human")
    assert "2 attempts failed" in text and "fell back into 9008" in service.get(path, MODEM, "LastError")
    flashed(service, 2)


def test_minutes_in_normal_mode_are_no_new_day(new_service, new_modem, make_package, later, tmp_path):
    # The standby of the next window may be getting ready when the clock jumps: it has time enough.
    service = new_service().start(config="[Rescue]\nFlashesPerDay=2\n[Limits]\nPreflightSec=600\n", environment=later.environment)
    firmware = import_package(service, make_package("--small"))
    arm(service, "rescue", firmware)
    modem = new_modem(service, *LOOP, "boots=never-lasts", "normal_ms=600000")
    path = find_modem(service)
    for n in (1, 2):
        flashed(service, n)
        mode(service, path, "normal")
        wait_until(lambda: trace(tmp_path).count(" state normal ") == n, what="normal mode")
        later.go(NEARLY_TEN_MINUTES)  # it runs well, until it does not
        time_is_over(modem)
    assert "flashed 2 times within a day" in note(service, path, "left to a human")
    flashed(service, 2)
    assert modem.poll() is None


# ---- who is there ----

def other_unit(service, plug, path, serial):
    p = plug(service, product=f"QUSB_BULK_CID:0410_SN:{serial.upper()}")
    wait_until(lambda: service.get(path, MODEM, "ChipSerial") == serial, what=serial)
    return p


FAILS = """
order = begin()
if order.kind in ("import", "verify"):
    say("READY=1")
    import_done(order, name="RM502QGLAAR05A03M4G_01.001.01.001", model="RM502QGL", prefix="RM502QGLAA", baseline="R05", memory="M4G", chip="SDX55", programmer="prog.elf") if order.kind == "import" else finish()
say("READY=1", "WAIT_DEVICE=edl")
hear_until("DEVICE")
if order.kind == "catch":
    say("RESULT=failed", "ERROR=FirehoseFailed", "MESSAGE=it answers nonsense")
    sys.exit(0)
if order.kind == "enter-edl":
    say("RESULT=done", "HOLDING=1")
    hear_until("RELEASE")
finish()
"""


def test_another_unit_has_attempts_of_its_own(new_service, forge, plug, make_package):
    """What failed with the module that was there before is not the new one's; and back in its place the old one has not forgotten."""
    service = new_service().start(worker=forge(FAILS), config="[Rescue]\nAttempts=2\nBackoffSec=1\n")
    import_package(service, make_package("--small"))
    arm(service)
    path = find_modem(service)
    for n in (1, 2):
        p = other_unit(service, plug, path, "49cbd7ef")
        wait_until(lambda: len(jobs(service, "catch")) >= n, what=f"catch {n}")
        p.unplug()
        mode(service, path, "absent")
        if n == 1:
            wait_until(lambda: len(service.workers()) == 1, what="the pause to be over")
    assert "2 attempts failed" in note(service, path, "left to a human")
    p = other_unit(service, plug, path, "0badcafe")
    wait_until(lambda: "left to a human" not in service.get(path, MODEM, "Note"), what="another note")
    wait_until(lambda: len(jobs(service, "catch")) >= 3, what="the new one's catch")
    wait_until(lambda: "attempt 1 of 2 failed" in service.errors().split("left to a human")[-1], what="its first failure")
    p.unplug()
    mode(service, path, "absent")
    other_unit(service, plug, path, "49cbd7ef")
    assert "2 attempts failed" in note(service, path, "left to a human")


def test_a_failure_is_that_of_the_unit_that_was_there(new_service, forge, plug, make_package, tmp_path):
    """Its job ends when another unit is in its place already: that one has not failed yet."""
    go = tmp_path / "go"
    worker = FAILS.replace('if order.kind == "catch":', f'''if order.kind == "catch":
    while not os.path.exists({str(go)!r}):
        time.sleep(0.01)''')
    service = new_service().start(worker=forge(worker), config="[Rescue]\nAttempts=1\nBackoffSec=1\n")
    import_package(service, make_package("--small"))
    arm(service)
    path = find_modem(service)
    p = other_unit(service, plug, path, "49cbd7ef")
    first = wait_until(lambda: jobs(service, "catch"), what="its catch")[0]
    p.unplug()
    mode(service, path, "absent")
    other_unit(service, plug, path, "0badcafe")
    go.touch()
    assert service.wait_job(first) == "failed"
    wait_until(lambda: len(jobs(service, "catch")) == 2, what="the catch of the one that is there")


def test_attempts_are_counted_over_a_restart(new_service, new_modem, make_package):
    """A service that is restarted by a watchdog or an operator is no reason to begin anew."""
    config = "[Rescue]\nAttempts=2\nBackoffSec=1\n[Flash]\nBootTimeoutSec=1\n"
    service = new_service().start(config=config)
    firmware = import_package(service, make_package("--small"))
    arm(service, "rescue", firmware)
    new_modem(service, *LOOP, "boots=no")
    path = find_modem(service)
    wait_until(lambda: "attempt 1 of 2 failed" in service.errors(), timeout=120, what="a failed attempt")
    service.stop(signal.SIGKILL)
    service.start(config=config)
    assert "2 attempts failed" in note(service, path, "left to a human")
    assert len(jobs(service, "flash")) == 2


def test_what_a_user_brought_to_9008_stays_his_over_a_restart(service, new_modem, make_package):
    firmware = import_package(service, make_package("--small"))
    new_modem(service, "initial=working", "sahara_reset=reboot")
    path = find_modem(service)
    mode(service, path, "normal")
    set_policy(service, path, "rescue", firmware)
    assert service.wait_job(service.call(path, MODEM, "EnterEdl", options())) == "done"
    assert "left to the user" in note(service, path, "user")
    service.restart()
    mode(service, path, "sahara", "firehose", "unknown")
    assert "left to the user" in note(service, path, "user")
    assert not jobs(service, "flash") and not jobs(service, "catch")
    # It goes back to normal mode: the wish is over.
    job = service.call(path, MODEM, "Reset", options())
    assert service.wait_job(job) == "done", service.log(job)
    mode(service, path, "normal")
    assert "is rescued when it appears" in note(service, path, "when it appears")


# ---- a user's word ----

def test_a_flash_that_a_user_cancelled_is_not_begun_by_a_policy(service, new_modem, make_package):
    """He stopped it: the policy that wants the very same flash waits for his word."""
    firmware = import_package(service, make_package("--small"))
    modem = new_modem(service, *LOOP, IN_BACKUP)
    path = find_modem(service)
    arm(service)
    wait_held(service, path)
    job = flash(service, path, firmware)
    wait_stopped(modem)
    in_phase(service, job, "backup")
    arm(service, "rescue", firmware)
    service.call(job, JOB, "Cancel", options())
    go_on(modem)
    assert service.wait_job(job) == "cancelled"
    title = f"flash {service.get(job, JOB, 'Id')}"
    assert f"not flashed: {title} was cancelled by a user" in note(service, path, "cancelled")
    assert service.get(path, MODEM, "LastError") == ""
    service.restart()
    wait_held(service, path)
    assert title in note(service, path, "cancelled") and len(jobs(service, "flash")) == 1
    # Asked again, whatever comes of it, it is the policy's again.
    set_policy(service, path, "rescue", firmware)
    wait_until(lambda: len(jobs(service, "flash")) == 2, what="the policy's flash")


def test_a_flash_of_somebody_s_own_is_kept_for_him(service, new_modem, make_package):
    """Interrupted, with options that the policy does not have: another flash would void its journal. It says so."""
    firmware = import_package(service, make_package("--small"))
    arm(service, "rescue", firmware, modem_version="RM502QGLAAR05A03M4G")
    arm(service)
    modem = new_modem(service, *LOOP, "fault=stop@program:2")
    path = find_modem(service)
    wait_held(service, path)
    job = flash(service, path, firmware, reset=False)
    wait_stopped(modem)
    arm(service, "rescue", firmware)
    service.stop(signal.SIGKILL, modem=modem)
    service.start()
    wait_held(service, path)
    assert f"is kept for flash {service.get(job, JOB, 'Id')}" in note(service, path, "same call continues it")
    assert len(jobs(service, "flash")) == 1
    again = flash(service, path, firmware, reset=False)
    assert service.wait_job(again) == "done" and service.get(again, JOB, "Resumes") == job


# ---- a port has an end, too ----

SERIALS = [f"5eed{n:04x}" for n in range(1, 40)]


def test_a_port_where_another_serial_is_told_each_time_is_left_to_a_human(new_service, forge, plug, make_package):
    """Each would have attempts of its own, for ever."""
    config = "[Rescue]\nAttempts=1\nBackoffSec=1\n"
    service = new_service().start(worker=forge(FAILS), config=config)
    firmware = import_package(service, make_package("--small"))
    arm(service)
    path = find_modem(service)

    def come_and_go(serial):
        n = len(jobs(service, "catch"))
        p = other_unit(service, plug, path, serial)
        wait_until(lambda: len(jobs(service, "catch")) > n and service.get(jobs(service, "catch")[-1], JOB, "State") == "finished",
                   what="its catch")
        p.unplug()
        mode(service, path, "absent")
    for serial in SERIALS[:4]:
        come_and_go(serial)
    text = note(service, path, "at this port")
    assert "left to a human: there were 4 failures in a row at this port" in text and service.get(path, MODEM, "LastError") in text
    assert service.get(path, MODEM, "RecoveryHint") == "retry"
    # Neither the next one nor a restart has another try.
    other_unit(service, plug, path, SERIALS[5]).unplug()
    service.restart(worker=forge(FAILS), config=config)
    assert "4 failures in a row" in note(service, path, "at this port")
    other_unit(service, plug, path, SERIALS[6]).unplug()
    mode(service, path, "absent")
    assert len(jobs(service, "catch")) == 4 and not service.workers()
    # A human's word begins anew.
    arm(service, "rescue", firmware)
    wait_until(lambda: "left to a human" not in service.get(path, MODEM, "Note"), what="another note")
    come_and_go(SERIALS[7])


HELD = FAILS.replace('''    say("RESULT=failed", "ERROR=FirehoseFailed", "MESSAGE=it answers nonsense")
    sys.exit(0)''', '''    say("MODE=firehose", "RESULT=done", "HOLDING=1")
    hear()
    sys.exit(0)''')


def test_units_that_are_lost_each_time_are_one_story(new_service, forge, plug, make_package):
    """Caught with success, gone at once, another serial each time."""
    service = new_service().start(worker=forge(HELD), config="[Rescue]\nAttempts=1\nBackoffSec=1\n")
    import_package(service, make_package("--small"))
    arm(service)
    path = find_modem(service)
    for serial in SERIALS:
        if "at this port" in service.get(path, MODEM, "Note"):
            break
        p = other_unit(service, plug, path, serial)
        wait_until(lambda: service.get(path, MODEM, "Held") or "left to a human" in service.get(path, MODEM, "Note"), what="Held")
        p.unplug()
        mode(service, path, "absent")
        wait_until(lambda: not service.get(path, MODEM, "Held"), what="the holder's end")
    assert "failures in a row at this port" in note(service, path, "left to a human")
    assert len(jobs(service, "catch")) < len(SERIALS)


def test_flashes_of_a_port_have_a_day_of_their_own(new_service, forge, plug, make_package):
    """Each is a success, on a unit that nobody has seen before."""
    service = new_service().start(worker=forge(HELD.replace('if order.kind == "enter-edl"', '''if order.kind == "flash":
    say("DESTRUCTIVE=1", "PHASE=reset")
    hear_until("DEVICE_GONE")
    finish()
if order.kind == "enter-edl"''')), config="[Rescue]\nAttempts=100\nFlashesPerDay=1\n")
    firmware = import_package(service, make_package("--small"))
    arm(service, "rescue", firmware)
    path = find_modem(service)
    for n, serial in enumerate(SERIALS[:4], 1):
        wait_until(lambda: len(service.workers()) == 1, what="the standby")
        p = other_unit(service, plug, path, serial)
        wait_until(lambda: len(jobs(service, "flash")) == n and service.get(jobs(service, "flash")[-1], JOB, "Phase") == "reset",
                   what=f"flash {n}")
        p.unplug()
        flashed(service, n)
        mode(service, path, "absent")
    wait_until(lambda: len(service.workers()) == 1, what="the standby")
    other_unit(service, plug, path, SERIALS[4])
    assert "4 flashes within a day at this port" in note(service, path, "left to a human")
    assert len(jobs(service, "flash")) == 4 and service.get(path, MODEM, "Held")
