# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a programmer shows is not what lies there: fills that hide data, fills that are data, pages that are refused."""
import pytest

import backupfile
from conftest import PAGE, PAGES, blocks_of, flashfile
from test_restore import BLOCKS, expected_difference

EE = b"\xee" * PAGE
EFS2 = blocks_of("EFS2")[0]


def taken(bench, *settings, package=(), kind="calibration", **options):
    """A backup of the flash as it is; the modem that it was taken with is gone again."""
    bench.start("force_edl=yes", *settings)
    job = bench.backup(package, kind=kind, **options)
    assert job.result == "done", job.words
    bench.stop()
    return backupfile.Backup(bench.saved), bench.saved


@pytest.fixture
def working(bench):
    bench.make_flash("initial=working", blocks=BLOCKS)
    bench.unit_data_may_change = True
    return bench


def fill_with(bench, data, *blocks):
    for b in blocks:
        for i in range(PAGES):
            bench.poke(b * PAGES + i, data)


def difference(bench, path, names):
    with bench.flashed() as f:
        return expected_difference(backupfile.Backup(path), f, names)


# ---- pages that hide among erased ones ----

@pytest.mark.parametrize("fill", ["ff", "ee"])
def test_pages_hidden_by_the_fill_of_their_neighbours(working, fill):
    """Four pages a storage call: what is written last in a block stands among erased ones."""
    settings = ("payload_max=16384", "fill_batch=yes", "fill=" + fill)
    for block, last in ((24, 1), (25, 7), (80, 2), (98, 62)):
        working.wipe(block)
        for i in range(last):
            working.poke(block * PAGES + i, b"page %d" % i * 100)
    b, path = taken(working, *settings, kind="nand")
    with working.flashed() as f:
        assert b.difference(f) is None, b.difference(f)
    working.poke(24 * PAGES, b"other")
    working.poke(80 * PAGES, b"other")
    # Stale, and hidden by the erased pages behind it.
    working.poke(25 * PAGES + 7, b"stale")
    working.start("force_edl=yes", *settings)
    job = working.restore(path, partitions="EFS2,TZ")
    assert job.result == "done", job.words
    working.stop()
    assert difference(working, path, ["EFS2", "TZ"]) is None


# ---- which fill is erased ----

def test_written_pages_of_ff_do_not_tell_the_fill(working):
    """Somebody wrote MIBIB back with 0xFF to the end of its block; the programmer fills with 0xEE all the same."""
    for i in range(4, PAGES):
        working.poke(10 * PAGES + i, b"")
    b, path = taken(working, "fill=ee")
    assert b.parts["EFS2"].page(EFS2, PAGES - 1)[0] == flashfile.ERASED, "0xEE programmed as data is what bricks modems"
    assert all(b.parts[n].page(b.parts[n].first, PAGES - 1)[0] == flashfile.ERASED for n in ("misc", "cust_info"))


@pytest.mark.parametrize("table", ["yes", "no"])
def test_pages_of_ee_that_are_data(working, table):
    """A programmer that fills with 0xFF shows 0xEE only where it lies."""
    working.poke(EFS2 * PAGES + 2, EE)
    if table == "no":
        working.wipe(10, 11)
    b, path = taken(working, "fill=ff")
    at = next(p for p in b.parts.values() if p.first <= EFS2 < p.first + p.blocks)
    assert at.page(EFS2, 2) == (flashfile.WRITTEN, EE)
    with working.flashed() as f:
        assert b.difference(f) is None, b.difference(f)


@pytest.mark.parametrize("fill", ["ff", "ee"])
def test_flash_that_somebody_filled_with_ee(working, fill):
    """The trap of reference/edl.md 2.8: a dump was written back with its fill. To a programmer that fills with 0xEE it looks
    as it should; only an erase tells."""
    _, path = taken(working, "fill=" + fill)
    for block in blocks_of("EFS2"):
        with working.flashed() as f:
            holes = [i for i, s in enumerate(f.states(block)) if s == flashfile.ERASED]
        for i in holes:
            working.poke(block * PAGES + i, EE)
    working.start("force_edl=yes", "fill=" + fill)
    job = working.restore(path, partitions="EFS2")
    assert job.result == "done", job.words
    working.stop()
    assert difference(working, path, ["EFS2"]) is None


# ---- pages that are refused ----

def test_refused_page_does_not_cost_its_block(working):
    """Where nobody knows the bad blocks, a block that is refused may be one with a single page that cannot be read."""
    working.unit_data_may_change = False
    page = EFS2 * PAGES + 3
    working.start("force_edl=yes", "read_error=nak", "unreadable=%d" % page, "bad=30")
    job = working.backup(("--literals", "last_sector,PAGES_PER_BLOCK"), kind="calibration")
    assert job.result == "done", job.words
    b = backupfile.Backup(working.saved)
    assert b.state == "damaged" and b.parts["EFS2"].unreadable == {3} and b.parts["EFS2"].bad == {30}
    working.stop()
    with working.flashed() as f:
        assert b.difference(f) is None, b.difference(f)


def test_refused_page_is_unreadable(working):
    working.start("force_edl=yes", "read_error=nak", "unreadable=%d" % (EFS2 * PAGES + 3))
    job = working.backup(kind="calibration")
    assert job.result == "done", job.words
    b = backupfile.Backup(working.saved)
    assert b.state == "damaged" and b.parts["EFS2"].unreadable == {3}


@pytest.mark.parametrize("kind", ["fill", "nak"])
def test_what_cannot_be_read_is_put_back(working, kind):
    """Pages that went bad are why somebody restores."""
    _, path = taken(working)
    working.start("force_edl=yes", "read_error=" + kind, "unreadable=%d,%d" % (EFS2 * PAGES + 3, 22 * PAGES))
    job = working.restore(path, partitions="EFS2", allow="CalibrationAtRisk")
    assert job.result == "done", job.words
    working.stop()
    assert difference(working, path, ["EFS2"]) is None
