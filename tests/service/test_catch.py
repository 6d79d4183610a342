# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whom the service catches, and how: unasked from a policy, and by Modem.Catch."""

import os
import signal
import threading
import time

import dbus
import pytest
from catching import (LOOP, OTHER, OTHER_PORT, OWN, PORT, STRANGER, arm, count, find_modem, import_package, jobs,
                      nothing_was_written, options, set_policy, trace, turns, wait_held)
from conftest import JOB, MODEM, NAME, Refused, go_on, pull, wait_stopped, wait_until


@pytest.fixture
def library(service, make_package):
    """A service whose library has one package."""
    import_package(service, make_package("--small"))
    return service


def catch(service, path, **values):
    return service.call(path, MODEM, "Catch", options(**values))


# ---- unasked ----

# Long enough for a busy machine, where it matters which window it was.
LONG_WINDOW = (*LOOP, "window_ms=14000")


def test_an_armed_port_is_caught_unattended(library, new_modem, tmp_path):
    arm(library)
    new_modem(library, *LONG_WINDOW)
    path = find_modem(library)
    wait_held(library, path)
    f = library.all(path, MODEM)
    assert f["Mode"] == "firehose" and f["ChipSerial"] == "49cbd7ef" and f["HardwareId"] and f["PkHash"] and f["Storage"]
    job = wait_until(lambda: jobs(library, "catch"), what="the job")
    assert len(job) == 1 and library.get(job[0], JOB, "OwnerUid") == OWN and library.wait_job(job[0]) == "done"
    assert library.get(job[0], JOB, "Window") == 1
    assert nothing_was_written(tmp_path)
    # The table is on record for the day on which it cannot be read any more.
    assert list((library.state / "modems").glob("*.tables"))


def test_the_first_window_is_enough(library, new_modem, tmp_path):
    arm(library)
    new_modem(library, *LONG_WINDOW)
    wait_held(library, find_modem(library))
    assert count(tmp_path, " plug ") == 1 and count(tmp_path, "state programmer") == 1


def test_a_stranger_is_left_alone_and_said_to_be(library, new_modem, tmp_path):
    """Somebody's phone in EDL: nothing goes to it, not even an answer to its hello."""
    new_modem(library, STRANGER)
    path = find_modem(library)
    note = wait_until(lambda: library.get(path, MODEM, "Note"), what="a note")
    assert "left alone" in note and "phone" in note
    assert f"the modem at 1-1.2 {note}" in library.errors()
    # Another modem is caught meanwhile: what was to happen has happened.
    arm(library, port=OTHER_PORT)
    new_modem(library, *OTHER, name="other")
    wait_held(library, find_modem(library, OTHER_PORT))
    assert "sahara out" not in trace(tmp_path) and not library.get(path, MODEM, "Held")


def test_a_stranger_that_loops_is_asked_once_and_no_more(library, new_modem, tmp_path):
    new_modem(library, STRANGER, "loop=hard", "window_ms=500", "gap_ms=200")
    path = find_modem(library)
    wait_until(lambda: library.get(path, MODEM, "HardwareId"), what="its identity")
    turns(library, path, 4)
    assert len(jobs(library, "identify")) == 1 and not jobs(library, "catch")
    assert count(tmp_path, "state programmer") == 0 and not library.get(path, MODEM, "Held")
    assert "left alone" in wait_until(lambda: library.get(path, MODEM, "Note"), what="a note")


def test_chip_and_key_of_the_library_make_a_stranger_known(library, new_modem, tmp_path):
    """A programmer of the library ran on another modem with the same key; this one loops, is asked, and is caught."""
    arm(library)
    new_modem(library)
    wait_held(library, find_modem(library))
    new_modem(library, *OTHER, *LOOP, name="other")
    path = find_modem(library, OTHER_PORT)
    wait_held(library, path)
    assert len(jobs(library, "identify")) == 1 and count(tmp_path, "state programmer", "other") == 1


def test_what_was_learned_of_a_key_survives_a_restart(library, new_modem):
    arm(library)
    new_modem(library)
    wait_held(library, find_modem(library))
    library.restart()
    new_modem(library, *OTHER, *LOOP, name="other")
    wait_held(library, find_modem(library, OTHER_PORT))


def test_a_remembered_modem_is_caught(library, new_modem, plug):
    """It ran its firmware at this port, long ago; now it loops without a name."""
    p = plug(library, vid="2c7c", pid="0800", product="RM502Q-GL", interfaces=5)
    path = find_modem(library)
    p.unplug()
    wait_until(lambda: library.get(path, MODEM, "Mode") == "absent", what="its end")
    library.restart()
    new_modem(library, *LOOP, "product_edl=QUSB_BULK")
    wait_held(library, path)


def test_a_remembered_modem_is_caught_wherever_it_is(library, new_modem, plug, tmp_path):
    """By its serial, which it told where it was before; whoever has its place there now is a stranger."""
    plug(library, vid="2c7c", pid="0800", product="RM502Q-GL", interfaces=5).unplug()
    path = find_modem(library)
    wait_until(lambda: library.get(path, MODEM, "Mode") == "absent", what="its end")
    plug(library).unplug()
    wait_until(lambda: library.get(path, MODEM, "ChipSerial") == "49cbd7ef", what="its serial")
    library.restart()
    new_modem(library, STRANGER, "serial=0badcafe", name="stranger")
    new_modem(library, *LOOP, f"port={OTHER_PORT}", "kernel=1-1.3")
    wait_held(library, find_modem(library, OTHER_PORT))
    assert "left alone" in wait_until(lambda: library.get(path, MODEM, "Note"), what="a note")
    assert "sahara out" not in trace(tmp_path, "stranger")


def test_off_is_off(library, new_modem, tmp_path):
    arm(library, "off")
    new_modem(library, *LOOP)
    path = find_modem(library)
    turns(library, path, 3)
    wait_until(lambda: "policy is off" in library.get(path, MODEM, "Note"), what="a note")
    assert "sahara out" not in trace(tmp_path)
    set_policy(library, path, "hold")
    wait_held(library, path)


def test_the_default_can_be_off(new_service, new_modem, make_package, plug, tmp_path):
    service = new_service().start(config="[Catch]\nDefaultPolicy=off\n")
    import_package(service, make_package("--small"))
    plug(service, vid="2c7c", pid="0800", product="RM502Q-GL", interfaces=5).unplug()
    path = find_modem(service)
    assert service.get(path, MODEM, "Policy") == "off"
    new_modem(service, *LOOP)
    turns(service, path, 3)
    assert "sahara out" not in trace(tmp_path)


def test_an_administrator_may_catch_everything(new_service, new_modem, make_package):
    service = new_service().start(config="[Catch]\nCatchUnknown=yes\n")
    import_package(service, make_package("--small"))
    new_modem(service, *LOOP)
    wait_held(service, find_modem(service))


def test_without_a_programmer_it_says_what_to_do(service, new_modem, make_package):
    arm(service)
    path = find_modem(service)
    assert "import the package" in wait_until(lambda: service.get(path, MODEM, "Note"), what="a note")
    new_modem(service, *LOOP)
    turns(service, path, 2)
    import_package(service, make_package("--small"))
    wait_held(service, path)


# ---- programmers ----

@pytest.mark.parametrize("check, tries", [("refuse", 1), ("silent", 3)])
def test_the_next_programmer_has_its_turn(service, new_modem, make_package, tmp_path, check, tries):
    """The newest package is tried first; it is signed for another maker. A modem that only goes away may have been at the end of
    its window: three times in a row are a refusal."""
    import_package(service, make_package("--small"))
    import_package(service, make_package("--small", "--signed-for", "0011223344556677", "--seed", "2"))
    arm(service)
    new_modem(service, *LOOP, f"programmer_check={check}")
    path = find_modem(service)
    wait_held(service, path)
    assert count(tmp_path, "not signed for this unit") == tries and count(tmp_path, "state programmer") == 1
    assert len(jobs(service, "catch")) == 1


def test_a_refused_programmer_is_not_offered_again(service, new_modem, make_package, tmp_path):
    import_package(service, make_package("--small", "--signed-for", "0011223344556677"))
    arm(service)
    new_modem(service, "loop=hard", "window_ms=700", "gap_ms=200")
    path = find_modem(service)
    note = wait_until(lambda: "cannot be caught" in service.get(path, MODEM, "Note") and service.get(path, MODEM, "Note"), what="a note")
    assert "import the package" in note
    service.restart()
    turns(service, path, 3)
    assert count(tmp_path, "not signed for this unit") == 1
    # A user's own word tries it again, once.
    job = catch(service, path)
    assert service.wait_job(job) == "failed" and service.get(job, JOB, "ErrorName").endswith("ProgrammerRejected")
    assert count(tmp_path, "not signed for this unit") == 2
    # And one that fits is taken as soon as it is there.
    import_package(service, make_package("--small"))
    wait_until(lambda: count(tmp_path, "state programmer"), what="a programmer")


def test_a_package_for_another_chip_is_not_tried(service, new_modem, make_package, tmp_path):
    import_package(service, make_package("--small", "--chip", "SDX24", "--version", "EM160RGLAUR02A11M4G_01.001.01.001"))
    arm(service)
    new_modem(service, *LOOP)
    path = find_modem(service)
    wait_until(lambda: "cannot be caught" in service.get(path, MODEM, "Note"), what="a note")
    assert count(tmp_path, "not signed for this unit") == 0 and count(tmp_path, "sahara out raw") == 0


# ---- modems with manners ----

@pytest.mark.parametrize("setting", ["hello=lost", "hello=twice", "start=mid-transfer", "start=reset-resp", "start=firehose", "read64=yes",
                                     "sahara_version=3", "command_mode=no", "done=pending"])
def test_whatever_somebody_left_it_in(library, new_modem, tmp_path, setting):
    """The hello was stolen, a transfer broken off, a programmer runs already: it is caught all the same."""
    arm(library)
    new_modem(library, setting)
    wait_held(library, find_modem(library))
    assert nothing_was_written(tmp_path)


@pytest.mark.parametrize("fault", [f"unplug@in:{n}" for n in range(1, 13)] + [f"unplug@out:{n}" for n in range(1, 13, 2)]
                         + [f"unplug@command:{n}" for n in range(1, 6)] + [f"unplug@done:{n}" for n in range(1, 6)])
def test_whenever_the_window_closes(library, new_modem, tmp_path, fault):
    """Once, at each packet and command of a catch: the next window does it."""
    arm(library)
    new_modem(library, f"fault={fault}")
    path = find_modem(library)
    wait_until(lambda: library.get(path, MODEM, "Held"), what="Held")
    assert nothing_was_written(tmp_path) and len(jobs(library, "catch")) == 1
    assert not library.get(path, MODEM, "LastError")


@pytest.mark.parametrize("fault", ["hang@in:3", "hang@command:1", "nak@command:1", "garbage@in:2", "garbage@in:6"])
def test_whatever_goes_wrong_once(new_service, new_modem, make_package, tmp_path, fault):
    service = new_service().start(config="[Rescue]\nBackoffSec=1\n")
    import_package(service, make_package("--small"))
    arm(service)
    new_modem(service, "loop=hard", "window_ms=3000", "gap_ms=300", f"fault={fault}")  # one that hangs is freed by its loop
    wait_until(lambda: service.get(find_modem(service), MODEM, "Held"), timeout=120, what="Held")
    assert nothing_was_written(tmp_path)


def test_two_that_loop_and_one_that_is_well(library, new_modem, tmp_path):
    arm(library)
    arm(library, port=OTHER_PORT)
    new_modem(library, "initial=working", "port=virtual-usb-0:1.4", "kernel=1-1.4", "serial=600df00d", name="well")
    new_modem(library, *LOOP)
    new_modem(library, *OTHER, *LOOP, name="other")
    paths = [find_modem(library), find_modem(library, OTHER_PORT)]
    for path in paths:
        wait_held(library, path)
    well = find_modem(library, "virtual-usb-0:1.4")
    assert library.get(well, MODEM, "Mode") == "normal" and not library.get(well, MODEM, "Held")
    assert [library.get(p, MODEM, "ChipSerial") for p in paths] == ["49cbd7ef", "0badcafe"]
    assert count(tmp_path, "out transfer", "well") == 0


def test_a_window_that_is_too_short_says_so(library, new_modem, make_package):
    """1.5 s, scaled down: the upload alone takes longer."""
    arm(library)
    new_modem(library, "loop=hard", "window_ms=150", "gap_ms=100", "read_data_us=50000")
    path = find_modem(library)
    turns(library, path, 1)
    job = wait_until(lambda: [j for j in jobs(library, "catch") if library.get(j, JOB, "State") == "finished"], what="a failed catch")[0]
    assert library.get(job, JOB, "ErrorName").endswith("ModemGone") and library.get(job, JOB, "RecoveryHint") == "bridge-usb-boot"
    assert "too short" in library.get(job, JOB, "ErrorMessage") and library.get(job, JOB, "Window") >= 8
    # And is not tried again at once.
    assert "attempt 2 of 5" in wait_until(lambda: library.get(path, MODEM, "Note"), what="a note")


def blink(service, plug, until):
    """Appearances that are over before anybody can open them: the service hears of an end together with its beginning."""
    def once():
        seen = service.errors().count(" appeared")
        service.process.send_signal(signal.SIGSTOP)
        plug(service).unplug()
        service.process.send_signal(signal.SIGCONT)
        wait_until(lambda: service.errors().count(" appeared") > seen, what="an appearance")
        return until()
    wait_until(once, what="an end of it")


def test_windows_that_nobody_can_open_end_in_the_bridge(service, plug):
    """A job that waits does not wait for its time to be over, and does not ask for another power cycle."""
    plug(service).unplug()
    path = find_modem(service)
    job = service.call(path, MODEM, "Identify", options())
    blink(service, plug, lambda: service.get(job, JOB, "State") == "finished")
    f = service.all(job, JOB)
    assert f["ErrorName"].endswith("ModemGone") and f["RecoveryHint"] == "bridge-usb-boot", f
    assert "too short" in f["ErrorMessage"] and f["Result"] == "failed"


def test_a_standby_whose_windows_nobody_can_open_is_given_up(new_service, plug, make_package):
    service = new_service().start(config="[Rescue]\nAttempts=2\nBackoffSec=1\n")
    import_package(service, make_package("--small"))
    arm(service)
    path = find_modem(service)
    wait_until(lambda: len(service.workers()) == 1, what="the standby")
    blink(service, plug, lambda: "left to a human" in service.get(path, MODEM, "Note"))
    assert "too short" in service.get(path, MODEM, "LastError") and service.get(path, MODEM, "RecoveryHint") == "bridge-usb-boot"


def test_one_that_cannot_be_held_is_given_up(new_service, new_modem, make_package):
    service = new_service().start(config="[Rescue]\nAttempts=2\nBackoffSec=1\n")
    import_package(service, make_package("--small"))
    arm(service)
    new_modem(service, "loop=hard", "window_ms=700", "gap_ms=200")
    path = find_modem(service)
    note = wait_until(lambda: "left to a human" in service.get(path, MODEM, "Note") and service.get(path, MODEM, "Note"), what="the end of it")
    assert "even with a programmer running" in note and "even with a programmer running" in service.get(path, MODEM, "LastError")
    assert service.get(path, MODEM, "RecoveryHint") == "bridge-usb-boot"
    n = len(jobs(service, "catch"))
    turns(service, path, 3)
    assert len(jobs(service, "catch")) == n
    # A human's decision begins it anew.
    set_policy(service, path, "hold")
    wait_until(lambda: len(jobs(service, "catch")) > n, what="another catch")


def test_what_another_tool_has_is_left_to_it(library, new_modem, tmp_path):
    """Somebody inhibits the modem and flashes it himself: no policy goes in between."""
    arm(library)
    path = find_modem(library)
    guard = library.call(path, MODEM, "Inhibit", "qdl", options()).take()
    new_modem(library, *LOOP)
    turns(library, path, 3)
    assert "sahara out" not in trace(tmp_path) and not library.get(path, MODEM, "Held")
    os.close(guard)
    wait_held(library, path)


# ---- the service's own life ----

@pytest.mark.parametrize("faults", [("stop@out:3",), ("stop@command:1",), ("unplug@command:1", "stop@gone:1")],
                         ids=["in the upload", "at its programmer", "between two windows"])
def test_killed_and_back(library, new_modem, faults):
    arm(library)
    modem = new_modem(library, *LOOP, *("fault=" + f for f in faults))
    path = find_modem(library)
    wait_stopped(modem)
    assert not library.get(path, MODEM, "Held")  # and its job is made known when the modem has answered, or soon
    library.stop(signal.SIGKILL)
    library.start()
    go_on(modem)
    wait_held(library, path)


def standby_at_rest(library):
    """Its process id, once it waits."""
    def ticks():
        with open(f"/proc/{worker}/stat") as f:
            return f.read().rpartition(")")[2].split()[11:13]

    def at_rest():
        before = ticks()
        time.sleep(0.3)
        return ticks() == before
    worker, = wait_until(lambda: len(library.workers()) == 1 and library.workers(), what="the standby")
    wait_until(at_rest, what="a standby that waits")
    return worker


def test_its_worker_goes_first(library, new_modem, tmp_path):
    """Nothing is told, written or published while the worker that was given a modem says nothing; after 100 ms it is all the same."""
    arm(library)
    path = find_modem(library)
    for n in range(3):  # of which one at least found its standby waiting
        worker = standby_at_rest(library)
        os.kill(worker, signal.SIGSTOP)
        modem = new_modem(library)
        wait_until(lambda: len(jobs(library, "catch")) > n, what="the job")
        plugged = max(int(line.split()[0]) for line in trace(tmp_path).splitlines() if " plug " in line) / 1e6
        told = time.monotonic() - plugged
        os.kill(worker, signal.SIGCONT)
        wait_held(library, path)
        if told > 0.1:
            return
        pull(modem)
        wait_until(lambda: library.get(path, MODEM, "Mode") == "absent", what="its end")
    raise AssertionError(f"told after {told:.3f} s, with a worker that had said nothing")


def test_a_standby_is_no_job(library):
    """It waits for ever, and holds up nothing: no restart, no stop, no limit."""
    arm(library)
    wait_until(lambda: len(library.workers()) == 1, what="the standby")
    assert not jobs(library, "catch") and not library.get("/org/qdld1", "org.qdld1.Manager", "Busy")
    assert "caught when it appears" in library.get(find_modem(library), MODEM, "Note")
    library.process.send_signal(signal.SIGHUP)
    assert library.process.wait(30) == 75
    library.start()
    wait_until(lambda: len(library.workers()) == 1, what="the standby of the next service")


def test_a_standby_that_dies_is_replaced_with_a_pause(new_service, make_package, tmp_path, new_modem):
    service = new_service().start(config="[Rescue]\nBackoffSec=1\n")
    import_package(service, make_package("--small"))
    arm(service)
    first = wait_until(service.workers, what="the standby")[0]
    os.kill(first, signal.SIGKILL)
    second = wait_until(lambda: [w for w in service.workers() if w != first], what="another standby")
    assert second != [first]
    new_modem(service, *LOOP)
    wait_held(service, find_modem(service))


# ---- Catch ----

def test_catch_by_a_user(library, new_modem, tmp_path):
    new_modem(library, STRANGER.replace("5a", "d9357db88795b5a8", 1), *LOOP)
    path = find_modem(library)
    job = catch(library, path)
    assert library.wait_job(job) == "done" and library.get(path, MODEM, "Held") and library.get(job, JOB, "OwnerUid") == os.getuid()
    assert library.get(job, JOB, "Report")["programmer"] and nothing_was_written(tmp_path)
    # Caught again it is the same programmer, asked anew.
    assert library.wait_job(catch(library, path)) == "done" and library.get(path, MODEM, "Held")
    assert count(tmp_path, "state programmer") == 1


def test_catch_waits_as_long_as_it_is_told(library, new_modem, plug):
    plug(library).unplug()
    path = find_modem(library)
    wait_until(lambda: library.get(path, MODEM, "Mode") == "absent", what="its end")
    job = catch(library, path, timeout=dbus.UInt64(300000))
    assert library.get(job, JOB, "Phase") in ("", "wait-device")
    assert library.wait_job(job) == "failed" and library.get(job, JOB, "ErrorName").endswith("Timeout")
    job = catch(library, path)
    wait_until(lambda: library.get(job, JOB, "Phase") == "wait-device", what="wait-device")
    library.call(job, JOB, "Cancel", options())
    assert library.wait_job(job) == "cancelled"
    job = catch(library, path)
    new_modem(library, *LOOP)
    assert library.wait_job(job) == "done" and library.get(path, MODEM, "Held")


def test_catch_needs_a_programmer(service, plug):
    plug(service)
    with Refused("NoSuchFirmware") as e:
        catch(service, find_modem(service))
    assert "import" in e.message


def test_a_users_job_goes_first(library, new_modem):
    """The policy catches it in every window; nobody is told that it is busy with that."""
    arm(library)
    new_modem(library, "loop=hard", "window_ms=900", "gap_ms=200", "programmer_start_ms=60000")
    path = find_modem(library)
    for _ in range(3):
        wait_until(lambda: library.get(path, MODEM, "Job") != "/", what="a catch")
        job = library.call(path, MODEM, "Identify", options())
        assert library.get(job, JOB, "OwnerUid") == os.getuid()
        assert library.wait_job(job) == "done"


HESITATING = """
order = begin()
if order.kind in ("import", "verify"):
    say("READY=1")
    import_done(order, chip="SDX55", programmer="prog.elf") if order.kind == "import" else finish()
if "wait-device-usec" not in order.options and order.kind == "identify":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it asks the modem who it is, and does not let go
    say("READY=1")
    open({asking!r}, "w").close()
    time.sleep(60)
say("READY=1", "WAIT_DEVICE=edl")
if order.kind == "catch":
    hear_until("CANCEL")
    open({cancelled!r}, "w").close()
    while not os.path.exists({gone!r}):
        time.sleep(0.01)
    say("RESULT=cancelled", "ERROR=Cancelled", "MESSAGE=cancelled")
    sys.exit(0)
finish()
"""


@pytest.fixture
def offered(new_service, forge, plug, tmp_path):
    """A service whose standby has been offered the modem, and does not have it yet: service, path, the device in 9008."""
    marks = {name: str(tmp_path / name) for name in ("asking", "cancelled", "gone")}
    service = new_service().start(worker=forge(HESITATING.format(**marks)), config="[Identify]\nOnAppear=yes\nDelaySec=0\n")
    archive = tmp_path / "package"
    archive.write_bytes(b"package")
    assert service.wait_job(service.import_file(archive)) == "done"
    arm(service)
    path = find_modem(service)
    wait_until(lambda: len(service.workers()) == 1, what="the standby")
    normal = plug(service, vid="2c7c", pid="0800", product="RM502Q-GL", interfaces=5)
    wait_until((tmp_path / "asking").exists, what="one that asks")
    normal.unplug()
    edl = plug(service)
    wait_until(lambda: service.get(path, MODEM, "Mode") == "sahara", what="9008")
    return service, path, edl


def leave(service, path, device):
    device.unplug()
    wait_until(lambda: service.get(path, MODEM, "Mode") == "absent", what="its end")


def test_a_modem_that_goes_before_the_standby_has_it(offered):
    """The standby waits on, the same one; no catch was begun."""
    service, path, edl = offered
    before = service.workers()
    leave(service, path, edl)
    wait_until(lambda: len(service.workers()) == 1, what="the standby alone")
    assert service.workers()[0] in before and not jobs(service, "catch")


def test_a_users_job_goes_first_even_if_the_modem_goes(offered, tmp_path):
    """The standby was offered the modem, makes way for a user's job, and the modem leaves before it has gone."""
    service, path, edl = offered
    answers = []
    call = threading.Thread(target=lambda: answers.append(identify_from_elsewhere(service, path)))
    call.start()
    wait_until((tmp_path / "cancelled").exists, what="the standby's CANCEL")
    leave(service, path, edl)
    (tmp_path / "gone").touch()
    call.join(60)
    assert answers and answers[0].startswith("/org/qdld1/job/")


def identify_from_elsewhere(service, path):
    bus = dbus.bus.BusConnection(service.address)
    try:
        return str(bus.get_object(NAME, path, introspect=False).Identify(options(), dbus_interface=MODEM, timeout=60))
    finally:
        bus.close()
