# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flash rule 4 with several tables recorded for the unit: each of them protects, whichever came first, and what cannot be read is not
gone without."""
import pytest

import backupfile
from conftest import PAGES, flashfile, layout

BETWEEN = "\n\n"  # RECORDED_BETWEEN
ELSEWHERE, BLOCKS = 154, 20  # where another table of the unit has EFS2: the end of the package's boot, the beginning of its recovery
USUAL = [(n, f, c) for n, f, c in layout.PARTITIONS]
OTHER = [("SBL", 0, 10), ("MIBIB", 10, 10), ("RAWDATA", 72, 5), ("EFS2", ELSEWHERE, BLOCKS)]
IN_TZ = [(n, 77, 10) if n == "EFS2" else (n, f, c) for n, f, c in OTHER]  # which the package writes
UNREADABLE = ["", "garbage\n", "NAME=EFS2\nFIRST=minus\n", "NAME=SBL\nFIRST=0\nBLOCKS=10\n\n\ngarbage\n"]


def text_of(table):
    return "\n".join("NAME=%s\nFIRST=%d\n%s" % (n, f, "BLOCKS=%d\n" % c if c else "BLOCKS=0\nGROWS=1\n") for n, f, c in table)


# What an earlier version wrote: one blank line, as between two partitions.
def orders(other):
    return [pytest.param(between.join(text_of(t) for t in order), id="%s-%s" % (name, kind))
            for kind, between in (("now", BETWEEN), ("before", "\n")) for name, order in (("first", (other, USUAL)), ("last", (USUAL, other)))]


ORDERS = orders(OTHER)


@pytest.mark.parametrize("recorded", orders(IN_TZ))
def test_each_refuses(bench, recorded):
    """The modem's table is the package's; only one of the two knows where its data were before."""
    bench.start()
    job = bench.flash(recorded=recorded)
    bench.assert_refused(job, "EraseCalibration", "blocks 77 to 86, where a partition table recorded for this unit has EFS2",
                         "--allow=EraseCalibration")


@pytest.mark.parametrize("recorded", ORDERS)
def test_a_place_that_is_not_touched_is_saved_and_hinders_nothing(bench, recorded):
    """Or no unit could ever be flashed again whose layout was once changed for good."""
    bench.make_flash("initial=working")
    bench.poke(ELSEWHERE * PAGES, b"the real calibration" * 9)
    bench.start("start=sahara")
    job = bench.flash(recorded=recorded, reset=0)
    assert job.result == "done", job.words
    saved_elsewhere(bench)


@pytest.mark.parametrize("recorded", ORDERS)
def test_what_lies_there_is_saved(bench, recorded):
    bench.make_flash("initial=working")
    bench.poke(ELSEWHERE * PAGES, b"the real calibration" * 9)
    bench.start("start=sahara")
    job = bench.flash(recorded=recorded, allow="EraseCalibration", reset=0)
    assert job.result == "done", job.words
    saved_elsewhere(bench)


def saved_elsewhere(bench):
    backup = backupfile.Backup(bench.saved)
    part = next(p for p in backup.parts.values() if p.first <= ELSEWHERE < p.first + p.blocks)
    assert part.page(ELSEWHERE, 0)[1].startswith(b"the real calibration")
    return backup


@pytest.mark.parametrize("recorded", ORDERS)
def test_a_backup_of_the_calibration_has_it(bench, recorded):
    bench.make_flash("initial=working")
    bench.poke(ELSEWHERE * PAGES, b"the real calibration" * 9)
    bench.start("start=sahara")
    job = bench.backup(kind="calibration", recorded=recorded)
    assert job.result == "done", job.words
    backup = saved_elsewhere(bench)
    there = "blocks-%d-%d" % (ELSEWHERE, ELSEWHERE + BLOCKS - 1)
    assert {"EFS2", there} <= set(backup.parts) and "usrdata" not in backup.parts
    # Today boot and recovery lie there: it goes back only for whoever names it.
    path = bench.saved
    bench.start("force_edl=yes")
    job = bench.restore(path, recorded=recorded)
    assert job.result == "done" and job.log_has(there + " of the backup is left out"), job.words
    bench.start("force_edl=yes")
    bench.assert_refused(bench.restore(path, recorded=recorded, partitions=there), "EraseCalibration", there)


def test_what_is_asked_for_by_name_is_where_any_has_it(bench):
    """The modem has no table of its own."""
    bench.start("initial=blank")
    job = bench.backup(kind="nand", partitions="EFS2,boot", recorded=text_of(USUAL) + BETWEEN + text_of(OTHER))
    assert job.result == "done", job.words
    parts = backupfile.Backup(bench.saved).parts.values()
    assert [(p.first, p.blocks) for p in sorted(parts, key=lambda p: p.first)] == [(20, 44), (97, 57), (154, 20)]


# A table that the unit had once, and that some other tool has laid out, does not make it one of the unit's own.
def test_what_was_laid_out_by_others_stays_foreign(bench):
    foreign = [("EFS2", f, c - 4) if n == "EFS2" else (n, f, c) for n, f, c in USUAL]
    bench.make_flash()
    bench.poke_table(foreign)
    bench.start()
    for recorded in text_of(OTHER), text_of(OTHER) + BETWEEN + text_of(foreign):
        job = bench.flash(recorded=recorded, allow="EraseCalibration", reset=0, backup=False)
        assert job.log_has("all of the flash is saved"), job.log
        bench.release()


# ---- restore ----

@pytest.fixture
def taken(bench):
    """What lies where another table has EFS2, from a modem whose table has boot and recovery there."""
    bench.make_flash("initial=working")
    bench.start("force_edl=yes")
    job = bench.backup(kind="nand", partitions="boot")
    assert job.result == "done", job.words
    bench.release()
    path = bench.saved
    bench.stop()
    bench.poke(ELSEWHERE * PAGES, b"the real calibration" * 9)
    bench.before = flashfile.Snapshot.load(bench.flash_path)
    return path


@pytest.mark.parametrize("recorded", ORDERS)
def test_a_restore_over_it_is_refused(bench, taken, recorded):
    bench.start("force_edl=yes")
    bench.assert_refused(bench.restore(taken, recorded=recorded), "EraseCalibration", "boot", "EFS2", "--allow=EraseCalibration")
    bench.start("force_edl=yes")
    job = bench.restore(taken, recorded=recorded, allow="EraseCalibration")
    assert job.result == "done", job.words
    saved_elsewhere(bench)


MOVED = [("boot", f, c - 2) if n == "boot" else (n, f, c) for n, f, c in USUAL]


def test_a_restore_goes_by_what_the_modem_has_now(bench, taken):
    """Where its partitions were in an earlier life refuses nothing."""
    bench.start("force_edl=yes")
    job = bench.restore(taken, recorded=text_of(MOVED) + BETWEEN + text_of(USUAL))
    assert job.result == "done", job.words


@pytest.mark.parametrize("order", [(MOVED, USUAL), (USUAL, MOVED)], ids=["last", "first"])
def test_a_modem_without_a_table_is_restored_where_any_has_it(bench, taken, order):
    bench.wipe(*range(10, 20))
    bench.before = flashfile.Snapshot.load(bench.flash_path)
    bench.start("force_edl=yes")
    bench.assert_refused(bench.restore(taken, recorded=text_of(MOVED)), "GeometryDiffers",
                         "no partition table recorded for this unit has boot at blocks 97 to 156")
    bench.start("force_edl=yes")
    job = bench.restore(taken, recorded=BETWEEN.join(map(text_of, order)))
    assert job.result == "done", job.words


# ---- what cannot be read ----

@pytest.mark.parametrize("recorded", UNREADABLE)
def test_a_flash_does_not_go_on_without(bench, recorded):
    bench.start()
    job = bench.flash(recorded=recorded)
    bench.assert_refused(job, "EraseCalibration", "recorded for this unit cannot be read", "--allow=EraseCalibration")


def test_but_where_it_is_allowed(bench):
    """All of the chip is saved: nobody knows where the unit's own data lie."""
    bench.make_flash("initial=working")
    bench.poke(ELSEWHERE * PAGES, b"the real calibration" * 9)
    bench.start("start=sahara")
    job = bench.flash(recorded="garbage\n", allow="EraseCalibration", reset=0)
    assert job.result == "done" and job.log_has("WARN: the partition tables recorded for this unit cannot be read"), job.log
    assert job.log_has("all of the flash is saved: the tables recorded for it cannot be read"), job.log
    assert "usrdata" in saved_elsewhere(bench).parts


def test_a_restore_does_not_either(bench, taken):
    bench.start("force_edl=yes")
    bench.assert_refused(bench.restore(taken, recorded="garbage\n"), "EraseCalibration", "cannot be read", "--allow=EraseCalibration")
    bench.start("force_edl=yes")
    job = bench.restore(taken, recorded="garbage\n", allow="EraseCalibration")
    assert job.result == "done", job.words
    assert "usrdata" in saved_elsewhere(bench).parts


def test_a_backup_saves_all_of_it(bench):
    bench.make_flash("initial=working")
    bench.poke(ELSEWHERE * PAGES, b"the real calibration" * 9)
    bench.start("start=sahara")
    job = bench.backup(kind="calibration", recorded="garbage\n")
    assert job.result == "done" and job.log_has("all of it is saved"), job.log
    assert "usrdata" in saved_elsewhere(bench).parts
