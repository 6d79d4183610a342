# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flash rules 4 and 6 where the partition table itself is the trouble: half of one, one that is hard to read, one in disguise."""
import pytest

from conftest import PAGE, PAGES, blocks_of, flashfile, layout

MIBIB = blocks_of("MIBIB")[0] * PAGES


def put_table(bench, block=blocks_of("MIBIB")[0], pages=4, **more):
    """The first pages of a table, the rest of the four erased."""
    image = layout.mibib(PAGE, **more)
    for i in range(4):
        bench.poke(block * PAGES + i, image[i * PAGE:(i + 1) * PAGE] if i < pages else b"",
                   flashfile.WRITTEN if i < pages else flashfile.ERASED)


def swapped():
    """EFS2 where others have usrdata."""
    places = {"EFS2": layout.blocks_of("usrdata"), "usrdata": layout.blocks_of("EFS2")}
    return [(n,) + places.get(n, (f, c)) for n, f, c in layout.PARTITIONS]


@pytest.mark.parametrize("pages", [1, 2, 3])
def test_half_a_table_is_written_again(bench, pages):
    """Power went between two of its pages: no CRC, so it is not the package's, whatever it lists."""
    bench.make_flash()
    bench.wipe(*blocks_of("MIBIB"))  # the second copy, too
    put_table(bench, pages=pages)
    bench.start()
    job = bench.flash()
    trace = bench.assert_done(job)
    assert [c.tag for c in trace.changes if c.partition == "MIBIB"] == ["erase", "program"]
    with bench.flashed() as f:
        assert f.table() is not None


@pytest.mark.parametrize("bend", ["order", "empty"])
def test_table_in_another_order(bench, bend):
    """Its loaders do not mind: EFS2 is where this table says, and no older copy speaks for it."""
    table = swapped()
    table = table[::-1] if bend == "order" else table + [("spare", 2048, 0)]
    table = [(n, f, 2048 - f if c is None else c) for n, f, c in table]
    bench.make_flash()
    put_table(bench, block=11)
    put_table(bench, partitions=table, age=9)
    bench.start()
    bench.assert_refused(bench.flash(bench.packages()), "EraseCalibration", "EFS2")


def test_table_that_nobody_understands(bench):
    """Whole by its CRC and newer than a good one, with partitions inside each other."""
    bench.make_flash()
    put_table(bench, block=11)
    put_table(bench, partitions=[(n, f, c + 1 if n == "EFS2" else c) for n, f, c in layout.PARTITIONS], age=9)
    bench.start()
    bench.assert_refused(bench.flash(), "EraseCalibration", "block 10", "sys_rev begins at block 64 inside EFS2")


def test_table_that_nobody_understands_damaged(bench):
    """With a wrong CRC it is nothing, and the good one counts."""
    bench.make_flash()
    put_table(bench, block=11)
    put_table(bench, partitions=[(n, f, c + 1 if n == "EFS2" else c) for n, f, c in layout.PARTITIONS], age=9)
    crc = bytearray(layout.mibib(PAGE)[3 * PAGE:])
    crc[12] ^= 1
    bench.poke(MIBIB + 3, bytes(crc))
    bench.start()
    assert bench.flash().result == "done"


def test_package_calls_its_table_otherwise(bench):
    """The image is known by what is in it: it goes to MIBIB in its turn, and not at all if it equals the modem's."""
    bench.start()
    trace = bench.assert_done(bench.flash(("--break", "nameless-table")))
    assert all(c.partition != "MIBIB" for c in trace.changes)


def test_package_moves_the_calibration_in_disguise(bench):
    bench.start()
    bench.assert_refused(bench.flash(("--break", "nameless-moved-efs2")), "EraseCalibration", "EFS2")


def test_package_writes_no_table_to_mibib(bench):
    bench.start()
    job = bench.flash(("--break", "not-a-table"))
    bench.assert_refused(job, "FirmwareInvalid", "MIBIB")


@pytest.mark.parametrize("kind", ["table-without-crc", "two-tables", "table-elsewhere"])
def test_package_with_a_wrong_table(bench, kind):
    bench.start()
    bench.assert_error(bench.flash(("--break", kind)), "FirmwareInvalid", "table")
    assert bench.assert_unchanged().bytes_out == []
