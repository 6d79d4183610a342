# SPDX-License-Identifier: LGPL-2.1-or-later
"""A restore of a modem that goes away by itself, also with its programmer running: in pieces that fit its windows, as a flash.

Time stands still while worker and modem compute, as in test_window.py. Judged is what the modem received when, and its flash.
"""
import os
import re

import pytest

import backupfile
from conftest import PAGE, PAGES, blocks_of, flashfile
from test_restore import expected_difference
from test_window import assert_orderly, in_flight, windows

# 0.8 s a block: a window of 6 s holds a few.
SLOW = ("force_edl=yes", "loop=hard", "gap_ms=4000", "open_ms=300", "programmer_start_ms=300", "program_us=12000", "erase_us=3000",
        "read_us=60", "command_us=2000")
OTHER = (0, 1, 2, 11, 20, 21, 77, 78, 79, 80, 97, 98, 99)  # SBL, MIBIB, EFS2, TZ, boot
PARTS = ("SBL", "MIBIB", "EFS2", "TZ", "boot")
SECOND = 1000000


def put(bench, blocks, text):
    """Whole blocks of it, each page its own."""
    with open(bench.flash_path, "r+b") as f, flashfile.Flash(bench.flash_path) as places:
        for b in blocks:
            f.seek(places.states_offset + b * PAGES)
            f.write(bytes([flashfile.WRITTEN]) * PAGES)
            f.seek(places.data_offset + b * PAGES * PAGE)
            f.write(b"".join((b"%s of block %d page %d " % (text, b, i) * 40).ljust(PAGE, b"\xff") for i in range(PAGES)))
            flags, _, count = places.record(b)
            f.seek(places.records_offset + b * flashfile.RECORD.size)
            f.write(flashfile.RECORD.pack(flags, PAGES, 0, count))


def spoil(bench, blocks=OTHER):
    put(bench, blocks, b"something else")
    bench.before = flashfile.Snapshot.load(bench.flash_path)


def restore(bench, path, window_ms, *settings, base=SLOW, told=None, **options):
    bench.start("window_ms=%d" % window_ms, *base, *settings, still_clock=True)
    return bench.restore(path, window_usec=(told or window_ms) * 1000, loop_period_usec=(window_ms + 4000) * 1000,
                         partitions=",".join(PARTS), **options)


def assert_restored(bench, path, names=PARTS):
    bench.stop()
    b = backupfile.Backup(path)
    with bench.flashed() as f:
        difference = expected_difference(b, f, names)
    assert difference is None, difference


def appearances(bench):
    """Those in which the modem was asked to do something: one that is stopped may plug itself in once more. The first is the
    backup's."""
    return [events for events in windows(bench) if any(what.startswith("command ") for _, what in events)]


def changes_of(bench, name):
    """In how many windows was it changed?"""
    places = ['start_sector="%d"' % (b * PAGES) for b in blocks_of(name)]
    return [n for n, events in enumerate(windows(bench)) if
            any(what.startswith("command ") and (" erase " in what or " program " in what) and any(p in what for p in places)
                for _, what in events)]


@pytest.fixture
def full(bench):
    """A backup of a chip whose blocks are full, and something else in the modem now."""
    bench.make_flash("initial=working", blocks=192)
    bench.unit_data_may_change = True
    put(bench, (1, 2, 77, 78, 79, 80, 97, 98, 99), b"firmware")
    bench.start("force_edl=yes")
    assert bench.backup(kind="nand").result == "done"
    path = bench.saved
    bench.stop()
    spoil(bench)
    return path


@pytest.mark.parametrize("window_ms,least,bad", [(6000, 2, {78, 98}), (4000, 3, set())])
def test_hard_windows(bench, full, window_ms, least, bad):
    """In what may shift the data follow the good blocks, in every window."""
    job = restore(bench, full, window_ms, "bad=%s" % ",".join(map(str, bad)))
    assert job.result == "done" and job.backups == 1, job.words
    assert_restored(bench, full)
    used = [n for n, events in enumerate(windows(bench)) if in_flight(events)]
    assert len(used) >= least, used
    assert_orderly(bench, window_ms)
    # SBL is gone from the first window that changes anything on, and comes back last, in one.
    assert changes_of(bench, "SBL")[0] == used[0] and changes_of(bench, "SBL")[-1] == used[-1]
    assert len(changes_of(bench, "SBL")) == 2
    assert not bad & {c.first for c in bench.trace().changes}
    # What only the unit has lies in its own blocks again.
    assert {c.first for c in bench.trace().changes if c.partition == "EFS2"} == {20, 21}
    assert bench.boots() == "normal"


def test_nobody_knew_of_the_window(bench, full):
    """Two appearances that end under its hands are a loop."""
    bench.start("window_ms=6000", *SLOW, still_clock=True)
    job = bench.restore(full, partitions=",".join(PARTS))
    assert job.result == "done", job.words
    assert_restored(bench, full)
    for events in appearances(bench)[3:]:
        assert all(over is not None and over <= 5400000 for _, over in in_flight(events))


def test_block_in_hand_goes_bad_when_the_power_goes(bench, full):
    """What was cut off is looked at first: a bad block is not addressed again, and what lies behind it shifts."""
    contents = open(bench.flash_path, "rb").read()
    names = ",".join(PARTS)
    bench.start("force_edl=yes")
    assert bench.restore(full, partitions=names).result == "done"
    erase = next(c.number for c in bench.trace().erases if c.first == 79)
    bench.stop()
    open(bench.flash_path, "wb").write(contents)
    bench.may_violate = ("out of good blocks",)
    bench.start("force_edl=yes", "fail_erase=79", "fault=unplug@done:%d" % erase)
    job = bench.restore(full, partitions=names)
    assert job.result == "done", job.words
    assert_restored(bench, full)
    with bench.flashed() as f:
        assert f.is_bad(79)
    assert not [what for _, what in appearances(bench)[-1] if " erase " in what and 'start_sector="%d"' % (79 * PAGES) in what]


def test_sbl_block_goes_bad_when_it_is_erased(bench, full):
    bench.may_violate = ("out of good blocks",)
    bench.start("force_edl=yes", "fail_erase=1")
    job = bench.restore(full, partitions=",".join(PARTS))
    assert job.result == "done", job.words
    bench.stop()
    with bench.flashed() as f:
        assert f.is_bad(1)
    assert_restored(bench, full)
    assert bench.boots() == "normal"


def test_impossible_window(bench, full):
    """Nothing of it is begun, and the words help."""
    job = restore(bench, full, 1500, "programmer_start_ms=700", "open_ms=600")
    bench.assert_refused(job, "ModemGone", "too short", "1.5", hint="bridge-usb-boot")
    assert len(windows(bench)) < 20


def test_sbl_larger_than_the_window(bench, full):
    """It comes back block by block: its first one, without which no loader starts it, last of all."""
    job = restore(bench, full, 2600)
    assert job.result == "done", job.words
    assert_restored(bench, full)
    written = [int(re.search(r'start_sector="(\d+)"', what)[1]) // PAGES for events in windows(bench) for _, what in events
               if re.match(r"command \d+ program ", what)]
    assert written[-1] == 0 and set(written[-3:]) == {0, 1, 2} and len(changes_of(bench, "SBL")) > 2, written


@pytest.mark.parametrize("gap_ms,again", [(4000, False), (90000, True)])
def test_absent_for_long(bench, full, gap_ms, again):
    """Longer than its loop takes: it may have been in other hands, and nothing that was seen counts any more."""
    contents = open(bench.flash_path, "rb").read()
    names = ",".join(PARTS)
    bench.start("force_edl=yes")
    assert bench.restore(full, partitions=names).result == "done"
    change = bench.trace().changes[5].number
    bench.stop()
    open(bench.flash_path, "wb").write(contents)
    bench.start("force_edl=yes", "fault=unplug@done:%d" % change, "replug_ms=%d" % gap_ms, still_clock=True)
    job = bench.restore(full, partitions=names, loop_period_usec=10 * SECOND)
    assert job.result == "done", job.words
    assert_restored(bench, full)
    read = [what for _, what in appearances(bench)[-1] if " read " in what and 'num_partition_sectors="%d"' % PAGES in what]
    assert any('start_sector="%d"' % (102 * PAGES) in what for what in read) == again, read


@pytest.mark.parametrize("kill", ["program", "wait-device"])
def test_worker_killed(bench, full, kill):
    """In a window or between two of them; the same call finishes it, and does not save half a state."""
    journal = os.path.join(bench.directory, "restore.journal")

    def on_message(job):
        if job.values.get("DESTRUCTIVE") and job.phases.count("program") > 2 and job.phases[-1] == kill:
            job.kill()

    bench.start("window_ms=6000", *SLOW, still_clock=True)
    job = bench.restore(full, journal=journal, on_message=on_message, partitions=",".join(PARTS),
                        window_usec=6 * SECOND, loop_period_usec=10 * SECOND)
    assert job.killed and job.backups == 1, job.words
    bench.stop()
    bench.may_violate = ("short transfer of 63 bytes", "no ZLP")
    assert bench.sbl_is_erased()
    job = restore(bench, full, 6000, journal=journal)
    assert job.result == "done" and job.backups == 0, job.words
    assert_restored(bench, full)
    assert bench.boots() == "normal"


def test_another_unit_in_the_next_window(bench, full):
    job = restore(bench, full, 4000, "swap_at=4")
    bench.assert_error(job, "WrongUnit")
    others = [events for events in windows(bench) if "SN:5EED0001" in events[0][1]]
    assert others and not [w for events in others for _, w in events if w.startswith("command ")]
