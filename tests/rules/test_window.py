# SPDX-License-Identifier: LGPL-2.1-or-later
"""Windowed flashing (architecture, "Catch and hold"): a modem that goes away by itself, also with its programmer running.

Time stands still while worker and modem compute (tests/faults/still-clock.c), so windows are those of real modems, seconds long, and
tests are not. Judged is what the modem received when, and its flash, byte for byte.
"""
import re

import pytest

from conftest import PAGES, blocks_of, flashfile

# A slow modem of real proportions: 2.5 s a block, so that a window holds one or two.
SLOW = ("loop=hard", "gap_ms=4000", "open_ms=500", "programmer_start_ms=300", "program_us=40000", "erase_us=3000", "read_us=60",
        "command_us=2000")
# One whose times a test does not care for.
QUICK = ("loop=hard", "gap_ms=4000", "open_ms=500", "programmer_start_ms=300", "program_us=2000", "erase_us=3000", "read_us=60",
         "command_us=2000")
BIG = ("--image", "tz.mbn=2000K")  # eight blocks of the ten of TZ
BAD = {"SBL": [2, 3], "MIBIB": [12, 15], "EFS2": [21], "sys_rev": [65], "RAWDATA": [74], "TZ": [77, 80], "sec": [87, 90],
       "cust_info": [92], "boot": [98], "modem": [220], "system": [1300]}
BAD_EVERYWHERE = "bad=" + ",".join(str(b) for blocks in BAD.values() for b in blocks)
SECOND = 1000000


def windows(bench):
    """The events of each appearance in 9008, with the microseconds since it began."""
    found = []
    for path in bench.traces:
        begin = None
        with open(path, errors="replace") as f:
            for line in f:
                stamp, _, what = line.rstrip("\n").partition(" ")
                if what.startswith("plug "):
                    begin = int(stamp) if what.startswith("plug 05c6:9008") else None
                    found += [[]] if begin is not None else []
                if begin is not None and stamp.isdigit():
                    found[-1].append((int(stamp) - begin, what))
    return found


def in_flight(events):
    """(begin, end) of each command that changes the flash; end None: the power went."""
    spans = []
    for at, what in events:
        if re.match(r"command \d+ (erase|program) ", what):
            spans.append([at, None])
        elif spans and spans[-1][1] is None and re.match(r"response (ACK|NAK) rawmode=false", what):
            spans[-1][1] = at
    return spans


def assert_orderly(bench, window_ms):
    """No command that changes the flash was cut off, or in flight during the last tenth of a window."""
    end = (window_ms - max(window_ms // 10, 300)) * 1000
    for n, events in enumerate(windows(bench)):
        for begin, over in in_flight(events):
            assert over is not None and over <= end, (n, begin, over, end)
        assert not [what for _, what in events if "torn" in what], n


def assert_sbl_in_one_window(bench):
    """SBL is written once, last, and verified and reset in the same window."""
    last = windows(bench)[-1]
    words = [what for _, what in last if what.startswith("command ")]
    program = next(i for i, w in enumerate(words) if re.match(r"command \d+ program .*start_sector=\"0\"", w))
    assert not [w for w in words[program + 1:] if re.match(r"command \d+ (program|erase) ", w)]
    assert any("getsha256digest" in w or " read " in w for w in words[program + 1:]) and " power " in words[-1]
    for events in windows(bench)[:-1]:
        assert not [w for _, w in events if re.match(r"command \d+ program .*start_sector=\"0\"", w)]


def loop(bench, window_ms, *settings, package=BIG, base=QUICK, told=None, **options):
    """A flash of a modem in such a loop; the service has measured its window (told: wrongly)."""
    bench.start("window_ms=%d" % window_ms, *base, *settings, still_clock=True)
    return bench.flash(package, **{"window_usec": (told or window_ms) * 1000, "loop_period_usec": (window_ms + 4000) * 1000, **options})


# ---- hard windows ----

@pytest.mark.parametrize("window_ms,least", [(14000, 1), (6000, 1), (3000, 2)])
def test_hard_windows(bench, window_ms, least):
    job = loop(bench, window_ms)
    bench.assert_done(job)
    assert len(windows(bench)) >= least
    assert_orderly(bench, window_ms)
    assert_sbl_in_one_window(bench)


def test_ten_windows_and_bad_blocks_in_every_partition(bench):
    job = loop(bench, 6000, BAD_EVERYWHERE, "program_us=50000", base=SLOW, package=BIG + ("--image", "sec.dat=400K"))
    bench.assert_done(job)
    assert len(windows(bench)) >= 10
    assert_orderly(bench, 6000)
    assert_sbl_in_one_window(bench)
    # Pieces: each went on at the physical block that the bad ones in front of it make.
    begun = [c.first for c in bench.trace().programs if c.partition == "TZ"]
    assert begun[0] == 78 and len(begun) >= 6 and begun == sorted(begun) and not {77, 80} & set(begun), begun


def test_soft_window_is_held(bench):
    """With a programmer running this one does not go away: what was said of its window is not true any more."""
    bench.start("window_ms=3000", *QUICK, "loop=soft", still_clock=True)
    job = bench.flash(BIG, window_usec=3 * SECOND, loop_period_usec=7 * SECOND)
    bench.assert_done(job)
    assert len(windows(bench)) == 1
    assert job.log_has("still there although its window of 3.0 s is over")


def test_nobody_knew_of_the_window(bench):
    """Two appearances that end under its hands are a loop; what was measured is the window."""
    job = loop(bench, 6000, base=SLOW, window_usec=0, loop_period_usec=0)
    bench.assert_done(job)
    assert job.log_has("expected to go away by itself 6.0 s after it appeared")
    end = 5400000
    for events in windows(bench)[2:]:
        assert all(over is not None and over <= end for _, over in in_flight(events))


def test_shorter_than_it_was(bench):
    job = loop(bench, 4000, base=SLOW, told=9000)
    bench.assert_done(job)


def test_no_window_no_pieces(bench):
    """The plain way stays as it is: a whole image a command, nothing read that need not be."""
    bench.start(*QUICK, "loop=none", still_clock=True)
    job = bench.flash(BIG)
    trace = bench.assert_done(job)
    assert [c.partition for c in trace.programs] == ["TZ", "sec", "SBL"]
    assert [c.partition for c in trace.erases] == ["SBL", "sec", "TZ"]


# ---- too short ----

def test_impossible_window(bench):
    """1.5 s is over before the programmer is up and the storage open."""
    job = loop(bench, 1500, "programmer_start_ms=700", "open_ms=600")
    bench.assert_refused(job, "ModemGone", "too short", "1.5", hint="bridge-usb-boot")
    assert job.result == "failed"
    assert len(windows(bench)) < 30


def test_impossible_once_it_was_begun(bench):
    """A modem that becomes slower than its window in the middle: nothing is lost, and the words help."""
    job = loop(bench, 3000, "program_us=200000", base=SLOW)
    bench.assert_error(job, "ModemGone", "too short", hint="bridge-usb-boot")
    assert job.result == "interrupted"
    bench.stop()
    assert bench.sbl_is_erased()
    bench.assert_done(loop(bench, 6000))


def test_sbl_larger_than_the_window(bench):
    """It is not cut into pieces: that is said, with what helps; where the modem stays it is all that is left."""
    big = ("--image", "sbl1.mbn=1500K")
    job = loop(bench, 3000, "program_us=12000", package=big)
    bench.assert_error(job, "ModemGone", "too short for SBL", "All that comes before it is done", hint="bridge-usb-boot")
    assert job.result == "interrupted"
    bench.stop()
    begun = [n for n, events in enumerate(windows(bench))
             if any(re.match(r"command \d+ program .*start_sector=\"0\"", what) for _, what in events)]
    # Each time that it is cut off may cost a block: what it takes is learned, and it is not begun in every window.
    assert 0 < len(begun) <= 7 < len(windows(bench)), begun
    assert bench.boots() == "edl"
    bench.start()
    trace = bench.assert_done(bench.flash(big))
    assert {c.partition for c in trace.programs} == {"SBL"}


def test_never_there_long_enough_to_be_asked(bench):
    job = loop(bench, 30, "gap_ms=200", "read_data_us=20000", "programmer_start_ms=50")
    bench.assert_refused(job, "ModemGone", hint="bridge-usb-boot")


def test_without_a_bad_block_map_nothing_is_split(bench):
    literals = ("--literals", "last_sector,getsha256digest,PAGES_PER_BLOCK")
    job = loop(bench, 6000, package=BIG + literals, allow="CalibrationAtRisk")
    bench.assert_done(job)
    assert [c.partition for c in bench.trace().programs] == ["TZ", "sec", "SBL"]


def test_without_a_bad_block_map_too_large_is_too_short(bench):
    literals = ("--literals", "last_sector,getsha256digest,PAGES_PER_BLOCK")
    job = loop(bench, 6000, package=BIG + literals, base=SLOW)
    bench.assert_error(job, "ModemGone", "too short", hint="bridge-usb-boot")
    assert [c.partition for c in bench.trace().programs if c.partition == "SBL"] == []


# ---- blocks that die ----

def test_a_block_that_dies_under_a_piece(bench):
    job = loop(bench, 6000, "fail_program=79,81", base=SLOW)
    bench.assert_done(job)


def test_no_room_is_left(bench):
    job = loop(bench, 6000, "fail_program=79,81", "bad=77", base=SLOW)
    bench.assert_error(job, "FirehoseFailed", "no room", hint="contact-vendor")


def test_a_dying_flash(bench):
    job = loop(bench, 6000, "fail_program=77,78,79,81", base=SLOW)
    bench.assert_error(job, "FirehoseFailed", hint="contact-vendor")


# ---- cut off ----

@pytest.mark.parametrize("kill", ["program", "erase", "verify", "wait-device", "gate"])
def test_worker_killed(bench, kill):
    """In a window or between two of them; the same call finishes it."""
    seen = []

    def on_message(job):
        phase = job.phases[-1] if job.phases else ""
        if job.values.get("DESTRUCTIVE") or kill in ("gate",):
            seen.append(phase)
        if seen and phase == kill and len(seen) > 3:
            job.kill()

    bench.start("window_ms=6000", *SLOW, still_clock=True)
    job = bench.flash(BIG, on_message=on_message, window_usec=6 * SECOND, loop_period_usec=10 * SECOND)
    assert job.killed, job.words
    bench.stop()
    bench.may_violate = ("short transfer of 63 bytes", "no ZLP")
    if kill not in ("gate", "erase"):
        assert bench.sbl_is_erased()
    job = loop(bench, 6000, base=SLOW)
    bench.assert_done(job)


def test_every_piece_is_verified_after_a_restart(bench):
    def on_message(job):
        if job.phases.count("program") >= 6:
            job.kill()

    bench.start("window_ms=6000", *SLOW, still_clock=True)
    bench.flash(BIG, on_message=on_message, window_usec=6 * SECOND, loop_period_usec=10 * SECOND)
    bench.stop()
    tz = blocks_of("TZ")[0]
    bench.start("window_ms=6000", *SLOW, "unreadable=%d" % (tz * PAGES + 3), still_clock=True)
    bench.may_violate = ("short transfer of 63 bytes", "no ZLP")
    job = bench.flash(BIG, window_usec=6 * SECOND, loop_period_usec=10 * SECOND)
    bench.assert_done(job)
    assert job.log_has("TZ was written and is not there any more")


def test_another_unit_in_the_next_window(bench):
    job = loop(bench, 6000, "swap_at=3", base=SLOW)
    bench.assert_error(job, "WrongUnit")
    events = windows(bench)[2]
    assert not [w for _, w in events if w.startswith("command ")]


def test_cancel_between_two_windows(bench):
    """Nothing is in flight then, and the modem waits in 9008."""
    def on_message(job):
        if job.values.get("DESTRUCTIVE") and job.phases[-1] == "wait-device" and job.values.get("CANCELABLE") == "1":
            job.send(["CANCEL=1"])

    bench.start("window_ms=6000", *SLOW, still_clock=True)
    job = bench.flash(BIG, on_message=on_message, window_usec=6 * SECOND, loop_period_usec=10 * SECOND)
    assert job.result == "cancelled", job.words
    bench.stop()
    assert bench.sbl_is_erased()


def test_backup_over_many_windows(bench):
    """Read in pieces that fit."""
    bench.start("window_ms=2500", *QUICK, "read_us=100", "command_us=10000", still_clock=True)
    job = bench.backup(kind="nand", partitions="modem", window_usec=2500000, loop_period_usec=6 * SECOND)
    assert job.result == "done", job.words
    assert len(windows(bench)) > 2
    assert not job.log_has("went away during")
    with open(bench.saved, "rb") as f:
        assert f.read(512)[257:262] == b"ustar"
