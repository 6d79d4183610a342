# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flash rule 4: what only this unit has is protected by its place, whatever names the package or the modem use."""
import pytest

from conftest import UNIT_DATA, blocks_of, flashfile, layout

TABLE = layout.PARTITIONS
RECORDED = "\n".join("NAME=%s\nFIRST=%d\n%s" % (n, f, "BLOCKS=%d\n" % c if c else "BLOCKS=0\nGROWS=1\n") for n, f, c in TABLE)


def renamed(old, new):
    return [(new if n == old else n, f, c) for n, f, c in TABLE]


def erase_of(partition):
    """An erase of a partition's place by a package whose own table calls the place otherwise."""
    return ("--break", "renamed-" + partition.lower().replace("_", "-"))


def test_update_leaves_unit_data_alone(bench):
    bench.start()
    bench.assert_done(bench.flash(("--break", "other-table")))


def test_erase_of_efs2(bench):
    bench.start()
    job = bench.flash(("--break", "efs2"))
    bench.assert_error(job, "EraseCalibration", "EFS2", "--allow=EraseCalibration")
    assert bench.assert_unchanged().bytes_out == []


@pytest.mark.parametrize("name", UNIT_DATA)
def test_every_one_by_its_place(bench, name):
    """The package's table calls it something else: the modem's own tells."""
    bench.start()
    job = bench.flash(erase_of(name))
    bench.assert_refused(job, "EraseCalibration", name, "--allow=EraseCalibration")


NAMES = [b"0:EFS2", b"EFS2", b"efs2", b"0:efs2", b"0:Efs2"]


@pytest.mark.parametrize("name", NAMES)
def test_names_in_the_modems_table(bench, name):
    bench.make_flash()
    bench.poke_table(TABLE, names={"EFS2": name})
    bench.start()
    bench.assert_refused(bench.flash(("--break", "renamed-efs2")), "EraseCalibration")


@pytest.mark.parametrize("block", [0, 5, 12, 15, 19])
def test_table_in_another_place(bench, block):
    bench.make_flash()
    bench.wipe(10, 11)
    bench.poke_table(TABLE, block=block)
    bench.start()
    bench.assert_refused(bench.flash(("--break", "renamed-efs2")), "EraseCalibration", "EFS2")


@pytest.mark.parametrize("newer,older", [(10, 12), (12, 10)])
def test_newest_copy_counts(bench, newer, older):
    bench.make_flash()
    bench.wipe(*blocks_of("MIBIB"))  # there is a copy of the factory's, too
    bench.poke_table(renamed("EFS2", "data"), block=older, age=3)
    bench.poke_table(TABLE, block=newer, age=7)
    bench.start()
    bench.assert_refused(bench.flash(("--break", "renamed-efs2")), "EraseCalibration", "EFS2")


def wrong_crc(pages):
    pages[3 * 4096 + 12] ^= 1


def test_copy_with_a_wrong_crc_does_not_count(bench):
    bench.make_flash()
    bench.poke_table(renamed("EFS2", "data"), block=12, age=90, spoil=wrong_crc)
    bench.start()
    bench.assert_refused(bench.flash(("--break", "renamed-efs2")), "EraseCalibration", "EFS2")


def test_nor_does_it_where_there_is_no_other(bench):
    bench.make_flash()
    bench.wipe(*blocks_of("MIBIB"))
    bench.poke_table(renamed("EFS2", "data"), spoil=wrong_crc)
    bench.start()
    bench.assert_refused(bench.flash(("--break", "no-table")), "EraseCalibration", "No partition table")


def test_package_that_moves_efs2(bench):
    bench.start()
    bench.assert_refused(bench.flash(("--break", "moved-efs2")), "EraseCalibration", "EFS2")


def test_package_whose_table_forgets_efs2(bench):
    """Nothing of it is erased, and the modem would not find it any more."""
    bench.start()
    bench.assert_refused(bench.flash(("--break", "without-efs2")), "EraseCalibration", "EFS2")


def test_repartitioning_that_cuts_through_efs2(bench):
    """It says what would move, each from where to where."""
    bench.start()
    job = bench.flash(("--break", "cut-efs2"))
    bench.assert_refused(job, "EraseCalibration", "moves EFS2", "EFS2 from blocks 20-63 to 20-59", "spare is new (blocks 60-63)",
                         "--allow=EraseCalibration")


def test_repartitioning_is_said(bench):
    """Of what is allowed: in the log before the first erase, and in the report."""
    bench.start()
    job = bench.flash(("--break", "other-table"))
    bench.assert_done(job)
    moves = ["recoveryfs from blocks 662-821 to 662-831", "usrdata from blocks 822-1221 to 832-1221"]
    assert job.report["partition-table"] == ", ".join(moves), job.report
    for line in moves:
        assert job.log_has("note: the partition table changes: " + line), job.log


MOVED = [(n, f, c - 2) if n == "sec" else ("cust_info", f - 2, c + 2) if n == "cust_info" else (n, f, c) for n, f, c in TABLE]
SPLIT = [x for n, f, c in TABLE for x in ([("sec", f, c - 2), ("other", f + c - 2, 2)] if n == "sec" else [(n, f, c)])]


def test_range_that_reaches_into_unit_data(bench):
    """The modem is laid out differently: the end of the package's sec is the beginning of its cust_info."""
    bench.make_flash()
    bench.poke_table(MOVED)
    bench.start()
    bench.assert_refused(bench.flash(), "EraseCalibration", "cust_info")


def test_range_that_straddles(bench):
    bench.make_flash()
    bench.poke_table(SPLIT)
    bench.start()
    bench.assert_refused(bench.flash(), "EraseCalibration", "straddle", "--allow=EraseCalibration")


def test_recorded_table_protects(bench):
    """The modem's own table is gone, the package's knows no EFS2: what was recorded of this unit is asked."""
    bench.start("initial=blank")
    job = bench.flash(("--break", "renamed-efs2"), recorded=RECORDED)
    bench.assert_error(job, "EraseCalibration", "EFS2", "recorded")
    assert bench.assert_unchanged().bytes_out == []


def test_recorded_table_beside_the_modems(bench):
    """The union counts: a modem whose table was overwritten by another firmware's."""
    bench.make_flash()
    bench.poke_table(renamed("EFS2", "data"))
    bench.start()
    job = bench.flash(("--break", "renamed-efs2"), recorded=RECORDED)
    bench.assert_error(job, "EraseCalibration", "EFS2", "recorded")
    bench.assert_unchanged()


def test_nobody_has_a_table(bench):
    bench.start("initial=blank")
    bench.assert_refused(bench.flash(("--break", "no-table")), "EraseCalibration", "No partition table")


def test_factory_only(bench):
    bench.start()
    job = bench.flash(("--break", "factory"))
    bench.assert_error(job, "EraseCalibration", "factory", "--allow=EraseCalibration", hint="import-firmware")
    assert bench.assert_unchanged().bytes_out == []


def test_factory_beside_update(bench):
    """Of the two only update is used."""
    bench.start()
    trace = bench.assert_done(bench.flash(("--break", "update-and-factory")))
    assert all(c.partition != "EFS2" for c in trace.changes)


def test_allowed_by_its_name(bench):
    bench.unit_data_may_change = True
    bench.start()
    job = bench.flash(("--break", "efs2"), allow="EraseCalibration")
    trace = bench.assert_done(job, "no-calibration")
    assert any(c.partition == "EFS2" for c in trace.erases)


@pytest.mark.parametrize("other", ["WrongFirmware", "CalibrationAtRisk", "NoBackup", "GeometryDiffers,WrongUnit,BackupDamaged"])
def test_not_allowed_by_another_name(bench, other):
    bench.start()
    job = bench.flash(("--break", "efs2"), allow=other)
    bench.assert_error(job, "EraseCalibration")
    assert bench.assert_unchanged().bytes_out == []


def test_allowed_only_where_it_is(bench):
    """Allowed EFS2 is EFS2 and nothing beside it."""
    bench.unit_data_may_change = True
    bench.start()
    bench.assert_done(bench.flash(("--break", "efs2"), allow="EraseCalibration"), "no-calibration")
    with bench.flashed() as f:
        for name in set(UNIT_DATA) - {"EFS2"}:
            for b in blocks_of(name):
                assert flashfile.unchanged_block(f, bench.before, b, bench.before.partitions()) is None
