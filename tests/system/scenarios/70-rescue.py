# SPDX-License-Identifier: LGPL-2.1-or-later
"""Loops, caught and held; brought back by policy, with nobody at the keyboard."""

import json
import re
import signal
import subprocess
import time

from qdlpackage import package_for_qdl
from ring import PROBED, VERSION, Background, Modem, as_user, firmware, jobs, library, run, scenario, settings, wait

PACKAGE = firmware()
STRANGER = ("hwid=009600e100000000", "pkhash=" + "5a" * 32, "serial=0badcafe", "product_edl=QUSB_BULK_CID:0402_SN:0BADCAFE")
# Of the commands of a rescue one in the middle of what it saves: the catch has 27, the flash erases with its 42nd.
SAVING = "fault=stop@command:57"
# Any program that looks at what appears: it takes the kernel's driver away, claims the interface, reads what the modem says first, and dies.
THIEF = """
import ctypes, fcntl, os, struct, sys
CLAIMINTERFACE, BULK, IOCTL, DISCONNECT = 0x8004550f, 0xc0185502, 0xc0105512, 0x5516
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.ioctl(fd, IOCTL, struct.pack("iiP", 0, DISCONNECT, 0))
except OSError:
    pass  # there was none
fcntl.ioctl(fd, CLAIMINTERFACE, struct.pack("I", 0))
room = ctypes.create_string_buffer(512)
n = fcntl.ioctl(fd, BULK, bytearray(struct.pack("IIIP", int(sys.argv[2], 16), len(room), 10000, ctypes.addressof(room))))
assert room.raw[:4] == b"\\1\\0\\0\\0" and n == 48, (n, room.raw[:n])
os.kill(os.getpid(), 9)
"""
BAD = "2,3,12,15,21,65,74,77,80,87,90,92,98,220,1300"  # in each partition of a whole chip, of TZ and SBL and MIBIB two
KILL = ["systemctl", "kill", "--kill-whom=main", "--signal=KILL", "qdld"]


def status(modem, user="outsider"):
    """Its paragraph of what qdlctl status says."""
    return next((p for p in as_user(user, "qdlctl", "status").out.split("\n\n") if modem.connector in p), "")


def says(modem, pattern):
    """Until qdlctl status says this of it."""
    try:
        return wait(lambda: re.search(pattern, status(modem), re.S), pattern)
    except AssertionError:
        raise AssertionError(f"status of {modem.name} never said {pattern} but: {status(modem)}") from None


def policy(modem, *words, user="member", code=0):
    as_user(user, "qdlctl", "policy", f"--port={modem.connector}", *words, code=code)


def flashes(modem):
    """Its flash jobs, oldest first."""
    path = modem.known()["path"]
    return sorted((j for j in jobs() if j["Kind"] == "flash" and j["Modem"] == path and j["CreatedTime"] >= modem.born * 1e6),
                  key=lambda j: j["CreatedTime"])


def expect_nothing_written(trace):
    bad = re.search(r"^.* command \d+ (erase|program) .*$", trace, re.M)
    assert not bad, bad.group()


def outlive_window(modem, seconds):
    """A modem that stands still does not look at its clock: it goes away as soon as it goes on."""
    begun = int(re.findall(r"^(\d+) plug ", modem.trace(), re.M)[-1])
    wait(lambda: time.monotonic() * 1e6 > begun + seconds * 1e6, "the end of its window")


def stop_in_a_gap(modem):
    """It goes on, and stands still again between two windows, so that the gap is long enough for whatever is done in it."""
    def stopped():
        modem.go_on()
        if modem.id():
            return False
        modem.process.send_signal(signal.SIGSTOP)
        modem.wait_stopped()
        return not modem.id()
    wait(stopped, "a gap")


@scenario
def a_loop_is_seen_and_held():
    """a soft loop of 3 s: period and window in qdlctl status; armed by a member it is held, by a restarted service, too; then it is flashed"""
    library()
    modem = Modem("loop=soft", "window_ms=3000", "gap_ms=600", plug=False)
    policy(modem, "off")  # a package of the library has its key: it would be held before anybody has looked
    modem.plug()
    says(modem, r"Looping: every \d+\.\d s, window [2-9]\.\d s.*policy is off")
    policy(modem, "hold", user="outsider", code=4)
    modem.expect_no_programmer()
    policy(modem, "hold")
    says(modem, r"Held: yes")
    run("systemctl", "restart", "qdld")
    says(modem, r"Held: yes.*Policy: hold")
    as_user("member", *modem.flash_command(), timeout=300)
    modem.expect_flashed()


@scenario
def windows_of_14_6_and_3_seconds():
    """soft ones and hard ones, six modems at once: rescued from policy, saved first; one of 1.5 s: too short; a healthy one and a stranger: left alone"""
    # Nobody asks for the calibration of those in normal mode: that is the work of twenty thousand questions each.
    with settings("[Backup]\nAutomatic=no\n"):
        library()
        healthy = Modem("initial=working")
        stranger = Modem("loop=soft", "window_ms=3000", "gap_ms=600", *STRANGER)
        loops = [Modem(f"loop={kind}", f"window_ms={ms}", "gap_ms=600", plug=False) for kind in ("soft", "hard") for ms in (14000, 6000, 3000)]
        short = Modem("loop=hard", "window_ms=1500", "gap_ms=600", "programmer_start_ms=800", "open_ms=900", plug=False)
        for m in (short, *loops):
            policy(m, "rescue", PACKAGE)
            m.plug()
        says(stranger, r"Looping: .*left alone")
        stranger.expect_no_programmer()
        says(short, r"too short.*[Bb]ridge USB_BOOT")
        expect_nothing_written(short.trace())
        for m in (stranger, short):
            m.unplug()
            m.expect_unchanged()
        for m in loops:
            m.expect_flashed()
            wait(lambda m=m: flashes(m)[-1].get("Result") == "done", f"the job of {m.name}")
        saved = {b["ChipSerial"] for b in json.loads(run("qdlctl", "backups", "--json=short").out)}
        assert {m.serial for m in loops} <= saved, saved
        healthy.expect_unchanged()
        assert healthy.trace().count(" plug") == 1 and healthy.id() == "2c7c:0800"


@scenario
def ten_windows_and_bad_blocks_in_every_partition():
    """a hard loop of 6 s and a slow modem, whose rescue needs ten of its windows; bad blocks in each partition; nothing is cut off by the end of one"""
    library()
    modem = Modem("loop=hard", "window_ms=6000", "gap_ms=600", "program_us=42000", "erase_us=3000", "open_ms=300", "programmer_start_ms=300",
                  f"bad={BAD}", blocks=2048, plug=False)
    policy(modem, "rescue", firmware("long"))
    modem.plug()
    modem.expect_flashed("long")
    wait(lambda: flashes(modem)[-1].get("Result") == "done", "the end of its job")
    assert modem.trace().count(" plug 05c6:9008") >= 10, modem.trace().count(" plug 05c6:9008")
    # Twice it went away unforeseen; from then on nothing is in flight when a window closes.
    assert modem.trace().count(" nand torn") <= 2


@scenario
def window_closes_at_every_command():
    """one rescue shows which commands there are; then as many modems go away at the last one of each kind: each is rescued, or said to run unverified"""
    with settings("[Backup]\nAutomatic=no\n"):
        library()
        modem = Modem(plug=False)
        policy(modem, "rescue", PACKAGE)
        modem.plug()
        modem.expect_flashed()
        commands = re.findall(r" command (\d+) (\w+)", modem.trace())
        last = {kind: number for number, kind in commands}
        assert {"configure", "read", "erase", "program", "power"} <= set(last), last
        cut = [Modem(f"fault=unplug@command:{n}", "replug_ms=600", plug=False) for n in last.values()]
        for m in cut:
            policy(m, "rescue", PACKAGE)
            m.plug()
        for m, (kind, number) in zip(cut, last.items()):
            m.expect_flashed()
            assert f"fault unplug@command:{number}+" in m.trace(), kind
            # Between its last program and its reset all is written, so that it boots; nobody has read all of it back.
            unverified = int(last["program"]) < int(number) < int(last["power"])
            expected = "interrupted" if unverified else "done"
            job = wait(lambda m=m: [j for j in flashes(m) if j.get("Result") == expected], f"a job of {m.name}, cut at {kind}, that is {expected}")[0]
            assert not unverified or "flash it again" in job["ErrorMessage"], job


@scenario
def rescue_outlives_the_service():
    """a hard loop of 6 s; SIGKILL of the service between two windows and in the middle of one: the rescue ends by itself, from the journal"""
    library()
    modem = Modem("loop=hard", "window_ms=6000", "gap_ms=1000", SAVING, "fault=stop@program:1", plug=False)
    policy(modem, "rescue", PACKAGE)
    modem.plug()
    modem.wait_stopped()
    outlive_window(modem, 6)
    stop_in_a_gap(modem)
    run(*KILL)
    modem.go_on()
    modem.wait_stopped()
    assert re.search(r" command \d+ program ", modem.trace()), "stopped elsewhere"
    run(*KILL)
    modem.go_on()
    modem.expect_flashed(may=PROBED)
    wait(lambda: flashes(modem)[-1].get("Result") == "done", "the end of the last job")
    *others, last = flashes(modem)
    assert [j["Result"] for j in others] == ["interrupted"] * 2, others
    assert last["Resumes"] == others[-1]["path"], (last, others)


@scenario
def stolen_hello_is_recovered():
    """a program opens the node, takes the HELLO and dies: held all the same; Debian's qdl killed in its upload: rescued by policy all the same"""
    library()
    robbed = Modem(plug=False)
    policy(robbed, "off")
    robbed.plug()
    endpoint = wait(lambda: [p.name.removeprefix("ep_") for p in robbed.device.glob("*:1.0/ep_8*")], "its endpoint")[0]
    run("python3", "-c", THIEF, robbed.node(), endpoint, code=-signal.SIGKILL)
    assert "sahara in HELLO" in robbed.trace() and "sahara out" not in robbed.trace(), robbed.trace()
    policy(robbed, "hold")
    says(robbed, r"Held: yes")
    path = robbed.known()["path"]
    job = max(j["Id"] for j in jobs() if j["Kind"] == "catch" and j["Modem"] == path)
    assert "after some persuasion" in run("qdlctl", "log", job).out
    robbed.expect_unchanged()
    robbed.unplug()  # qdl takes the first one that it sees
    cut = Modem("sahara_zlp=ignore", "fault=stop@byte:8000", plug=False)  # of its programmer's 24 KiB
    policy(cut, "off")
    programmer, xml = package_for_qdl("tiny")
    with subprocess.Popen(["qdl", "--storage", "nand", "--include", programmer.parent, programmer, xml], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as qdl:
        cut.plug()
        cut.wait_stopped()
        qdl.kill()
    cut.go_on()
    cut.expect_no_programmer()
    policy(cut, "rescue", PACKAGE)
    cut.expect_flashed(may=PROBED)


@scenario
def another_module_is_not_written_to():
    """the module swapped between two windows of its rescue: it stops; the other one is held, for the policy was not its own, and not written to"""
    library()
    modem = Modem()
    wait(lambda: modem.known().get("ChipSerial") == modem.serial, "its serial")
    modem.unplug()
    as_user("member", "qdlctl", "policy", modem.connector, "rescue", PACKAGE)
    modem.plug("loop=hard", "window_ms=6000", "gap_ms=600", "swap_at=2", SAVING)
    modem.wait_stopped()
    outlive_window(modem, 6)  # and no longer: the read that it does not answer has ten seconds
    modem.go_on()
    job, = wait(lambda: [j for j in flashes(modem) if j.get("Result")], "the end of the rescue")
    assert job["ErrorName"].endswith("WrongUnit"), job
    says(modem, r"Chip serial: 5eed0001.*Held: yes.*Policy: hold")
    expect_nothing_written(modem.trace())
    modem.expect_unchanged()
    assert len(flashes(modem)) == 1, flashes(modem)


@scenario
def wrong_firmware_is_not_written():
    """a policy whose firmware is for another model than the modem's own data say: held, said to be left to a human, and why; nothing is written"""
    library()
    modem = Modem("loop=soft", "window_ms=14000", "gap_ms=600", "project=RM500QGLAA", plug=False)
    policy(modem, "rescue", PACKAGE)
    modem.plug()
    says(modem, r"Held: yes.*left to a human.*RM500QGLAA")
    expect_nothing_written(modem.trace())
    modem.expect_unchanged()


@scenario
def wait_tells_what_to_do():
    """qdlctl rescue --wait of a member: plug it in; its windows of 1.5 s are too short; bridge USB_BOOT; seen; done"""
    library()
    command = Background("member", "qdlctl", "rescue", "--wait", f"--modem-version={VERSION}", PACKAGE)
    wait(lambda: "Waiting for a modem" in command.text(), "what to do first")
    modem = Modem("loop=hard", "window_ms=1500", "gap_ms=400", "programmer_start_ms=1500")
    wait(lambda: "windows are too short" in command.text(), "that they are too short")
    modem.unplug()
    modem.plug("loop=none")
    text = command.end()
    order = ["Waiting for a modem", "Bridge USB_BOOT", "hold the wire until this says", "Seen: ", "windows are too short", "bridge USB_BOOT", "Seen: ", "It boots"]
    assert re.search(".*".join(map(re.escape, order)), " ".join(text.split())), text
    modem.expect_flashed()


@scenario
def crash_dump_is_collected():
    """05c6:900e: said to be a crash dump; a member saves its memory, and it runs again"""
    library()
    modem = Modem("initial=working", "start=crash-dump", "crash_id=qualcomm")
    assert modem.id() == "05c6:900e"
    says(modem, r"Mode: crash dump")
    as_user("member", "qdlctl", "dump", modem.kernel)
    wait(lambda: modem.id() == "2c7c:0800", "normal mode")
    dump, = [b for b in json.loads(run("qdlctl", "backups", "--json=short").out) if b["Kind"] == "dump" and b["CreatedTime"] > modem.born * 1e6]
    assert dump["State"] == "complete", dump
    modem.expect_no_violation()
    modem.expect_unchanged()
