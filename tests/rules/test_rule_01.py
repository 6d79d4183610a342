# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flash rule 1: gate 1 judges the package before one byte goes to the modem, gate 2 the modem before the first erase."""
import copy
import os
import subprocess

import pytest

import driver
from conftest import Package, blocks_of, import_anything, make_package

INVALID, INCOMPLETE = "FirmwareInvalid", "FirmwareIncomplete"

# kind of tests/package/breaks.py: the error's name and a word that its message must have.
DEFECTS = {
    "missing-image": (INCOMPLETE, "tz.mbn"),
    "truncated-image": (INVALID, "tz.mbn"),
    "xml-bomb": (INVALID, "rawprogram"),
    "external-entity": (INVALID, "rawprogram"),
    "not-xml": (INVALID, "rawprogram"),
    "negative": (INVALID, "-64"),
    "overflow": (INVALID, "18446744073709551680"),
    "wrap": (INVALID, "18446744073709551552"),
    "expression": (INVALID, "NUM_DISK_SECTORS"),
    "image-too-large": (INVALID, "sec.dat"),
    "overlap": (INVALID, "overlap"),
    "unaligned": (INVALID, "block"),
    "straddle": (INVALID, "sec"),
    "beyond-chip": (INVALID, "chip"),
    "no-programmer": (INCOMPLETE, "programmer"),
    "two-programmers": (INVALID, "programmer"),
    "erase-no-range": (INVALID, "num_partition_sectors"),
    "erase-no-sector-size": (INVALID, "SECTOR_SIZE_IN_BYTES"),
    "disk-patch": (INVALID, "disk"),
    "unpatched": (INVALID, "partition_complete"),
    "bad-table-crc": (INVALID, "CRC"),
    "geometry-disagrees": (INVALID, "512"),
    "project-disagrees": (INVALID, "RM520NGLAA"),
    "traversal": (INVALID, "not a name inside the package"),
    "md5-garbage": (INVALID, "md5"),
    "wrong-md5": (INVALID, "tz.mbn"),
    "half-md5": (INVALID, "tz.mbn"),
    "md5-missing": (INVALID, "tz.mbn"),
    "no-md5": (INCOMPLETE, "md5.txt"),
    "two-rawprograms": (INVALID, "rawprogram"),
    "no-rawprogram": (INCOMPLETE, "rawprogram"),
    "no-geometry": (INVALID, "p4K_b256K"),
    "hostile-project": (INVALID, "c_project_name"),
    "other-vendor": (INVALID, "nobody"),
    "unknown-command": (INVALID, "poke"),
    # What only this unit has (rule 4) is judged here too where the package's own table tells.
    "efs2": ("EraseCalibration", "EFS2"),
    "factory": ("EraseCalibration", "factory"),
}


def assert_not_one_byte(bench, job):
    """The worker neither asked for the modem nor said that its pre-flight is over (only then is a modem switched to EDL)."""
    assert "WAIT_DEVICE" not in job.values and "READY" not in job.values, job.values
    trace = bench.assert_unchanged()
    assert trace.bytes_out == [], trace.bytes_out


@pytest.mark.parametrize("kind", sorted(DEFECTS))
def test_defect_never_reaches_the_modem(bench, kind):
    bench.start("initial=working", "start=sahara")
    job = bench.flash(("--break", kind), came_from_normal=1)
    bench.assert_error(job, DEFECTS[kind][0], DEFECTS[kind][1])
    assert_not_one_byte(bench, job)


@pytest.mark.parametrize("kind", sorted(k for k in DEFECTS if DEFECTS[k][0] != "EraseCalibration"))
def test_defect_is_refused_at_import(packages, kind):
    p = packages("--small", "--break", kind)
    assert not p.imported
    assert p.job.error == DEFECTS[kind][0], p.job.words
    problems = [m for m in p.job.messages if b"PROBLEM=" in m]
    assert problems, p.job.words


def test_every_problem_is_listed(packages):
    """Two defects are two problems: nobody repairs a package one refusal at a time."""
    p = packages("--small", "--break", "wrong-md5", "--attribute", "erase:sec:start_sector=-1")
    text = b"".join(m for m in p.job.messages if b"PROBLEM=" in m).decode()
    assert "tz.mbn" in text and "start_sector" in text, text


@pytest.mark.parametrize("value", ["0x1640", " 5568", "+5568", "5568.", "5568.0", "5.568e3", "5568 ", "", "5568L", "\uff15\uff15"])
@pytest.mark.parametrize("name", ["start_sector"])
def test_only_plain_numbers(bench, name, value):
    bench.start()
    job = bench.flash(("--attribute", "erase:sec:%s=%s" % (name, value)))
    bench.assert_error(job, INVALID, name)
    assert_not_one_byte(bench, job)


@pytest.mark.parametrize("attribute", ["start_sector", "num_partition_sectors", "SECTOR_SIZE_IN_BYTES"])
@pytest.mark.parametrize("tag", ["erase", "program"])
def test_missing_number(bench, tag, attribute):
    bench.start()
    job = bench.flash(("--drop", "%s:sec:%s" % (tag, attribute)))
    bench.assert_error(job, INVALID, attribute)
    assert_not_one_byte(bench, job)


def test_missing_file_that_nothing_names_is_a_note(bench):
    """targetfiles.zip stands in every real md5 list and is never shipped."""
    bench.start()
    job = bench.flash()
    bench.assert_done(job)
    assert bench.package.job.log_has("targetfiles.zip"), bench.package.job.log


def test_store_that_rotted(bench, packages):
    """What lies in the library is compared again: one flipped bit in an image stops the job."""
    p = packages("--small", "--seed", "77")
    with open(p.store, "r+b") as f:
        data = f.read()
        at = data.index(b"QUECTEL_VERSION=") + 4096
        f.seek(at)
        f.write(bytes([data[at] ^ 1]))
    try:
        bench.start()
        job = bench.flash(p)
        bench.assert_error(job, INVALID, "tz.mbn")
        assert_not_one_byte(bench, job)
    finally:
        with open(p.store, "r+b") as f:
            f.write(data)


def test_other_package_than_asked(bench, packages):
    bench.start()
    job = bench.flash(packages("--small"), firmware="0" * 32)
    bench.assert_error(job, "DigestMismatch", "0" * 32)
    assert_not_one_byte(bench, job)


@pytest.mark.parametrize("damage", ["empty", "short", "no-index", "garbage"])
def test_store_that_is_none(bench, packages, damage, tmp_path):
    p = copy.copy(packages("--small"))
    data = open(p.store, "rb").read()
    p.store = str(tmp_path / "store")
    open(p.store, "wb").write({"empty": b"", "short": data[:40], "no-index": data[:-64], "garbage": os.urandom(9000)}[damage])
    bench.start()
    job = bench.flash(p)
    bench.assert_error(job, INVALID)
    assert_not_one_byte(bench, job)


def test_version_from_the_archives_name(bench, tmp_path):
    """No top directory: the archive's name says what it is; without either it is no firmware for any modem."""
    archive = str(tmp_path / "flat.tar")
    make_package(archive, ["--small", "--flat"])
    store, imported = import_anything(str(tmp_path), archive)
    assert imported.result == "done" and imported.values.get("FIRMWARE.prefix", "") == "", imported.values

    p = Package.__new__(Package)
    p.store, p.job, p.id = store, imported, imported.values["FIRMWARE.id"]
    bench.start()
    job = bench.flash(p)
    bench.assert_error(job, "WrongFirmware", "--allow=WrongFirmware")
    assert_not_one_byte(bench, job)


# ---- gate 2: the modem, before the first erase ----

@pytest.mark.parametrize("hwid,chip", [("000960e100040000", "SDX24"), ("001990e100040000", "SDX62"),
                                       ("100970e100040000", "SDX24")])
def test_other_chip(bench, hwid, chip):
    """An accepted programmer proves nothing: another chip is not even sent one."""
    bench.start("hwid=" + hwid)
    bench.assert_refused(bench.flash(), "WrongFirmware", "SDX55", chip)
    assert bench.trace().commands == []


SDX62 = "001990e100040000"


def late_by(bench, ms):
    def late(job):
        bench.modem.clock.pass_for_worker(ms)
        bench.modem.go_on()
    return late


def assert_other_chip(bench, job, transfer):
    assert bench.trace().having("fault stop@" + transfer)
    bench.assert_refused(job, "WrongFirmware", "SDX55", "SDX62")
    assert bench.trace().commands == []


# Its HELLO; HELLO_RESP in command mode, then the serial and the hardware id, each asked for and fetched.
@pytest.mark.parametrize("ms", [700, 1500, 3500])
@pytest.mark.parametrize("transfer", ["in:1"] + ["out:%d" % n for n in range(1, 6)])
def test_other_chip_that_says_so_late(bench, transfer, ms):
    """A modem that was only slow is asked again, and not taken for one that does not know."""
    bench.start("hwid=" + SDX62, "fault=stop@" + transfer, still_clock=True)
    job = bench.flash(on_stop=late_by(bench, ms))
    assert_other_chip(bench, job, transfer)
    if (ms == 3500) != (transfer == "in:1"):  # behind a reset nothing is late any more
        assert any("asked again" in line for line in job.log), "nothing was late"


@pytest.mark.parametrize("transfer,ms", [("out:1", 3500), ("in:1", 700)])
@pytest.mark.parametrize("then", range(2, 6))
def test_other_chip_whose_window_ends_while_it_is_late(bench, transfer, ms, then):
    """Whatever comes of the question that it was late with: gone because of its window, it is asked in the next one."""
    bench.start("hwid=" + SDX62, "fault=stop@" + transfer, "fault=unplug@out:%d" % then, still_clock=True)
    job = bench.flash(on_stop=late_by(bench, ms))
    assert bench.trace().having("fault unplug@out")
    assert_other_chip(bench, job, transfer)


def test_other_chip_that_runs_our_programmer(bench):
    """Held since somebody knew better; nothing asks it who it is, and the service remembers."""
    bench.start("hwid=" + SDX62)
    job = bench.flash(allow="WrongFirmware", reset=0)
    assert job.result == "done" and job.holding, job.words
    job = bench.flash(hwid=SDX62, serial="49cbd7ef", running_programmer=bench.package.id)
    bench.assert_error(job, "WrongFirmware", "SDX55", "SDX62")


@pytest.mark.parametrize("hwid", ["000cf0e100040000", "200e50e1000400ff", "0badc0de00000000"])
def test_chip_that_is_right_or_not_known(bench, hwid):
    bench.start("hwid=" + hwid)
    bench.assert_done(bench.flash())


def test_other_geometry(bench):
    bench.start("geometry=p2K_b128K", "family=devprg")
    job = bench.flash()
    bench.assert_refused(job, "GeometryDiffers", "p4K_b256K", "p2K_b128K")


@pytest.mark.parametrize("told", ["wrong", "none", "zero", "huge", "negative", "garbage"])
def test_geometry_that_is_no_chips(bench, told):
    bench.start("storage_info=" + told)
    bench.assert_refused(bench.flash(), "GeometryDiffers")


def test_chip_too_small_for_the_package(bench):
    bench.start("geometry=p4K_b256K")
    bench.stop()
    subprocess.run([os.path.join(driver.BUILD, "virtual-modem"), "--flash", bench.flash_path, "--new", "--make-flash",
                    "--blocks", "512"], check=True)
    bench.before = None
    bench.start()
    bench.assert_refused(bench.flash(), "GeometryDiffers", "512")


def test_image_that_does_not_fit_the_good_blocks(bench):
    bench.start("bad=" + ",".join(str(b) for b in blocks_of("sec")))
    bench.assert_refused(bench.flash(), INVALID, "sec.dat", "bad", hint="contact-vendor")


def test_image_that_just_fits_the_good_blocks(bench):
    bench.start("bad=" + ",".join(str(b) for b in list(blocks_of("sec"))[:-1]))
    bench.assert_done(bench.flash())


def test_storage_that_does_not_open(bench):
    bench.start("storage=dead")
    job = bench.flash()
    bench.assert_refused(job, "FirehoseFailed")
    assert "type:nand" in job.values["WORDS"], job.values


def test_all_reading_comes_before_the_first_erase(bench):
    """Gate 2 has looked at every block that the plan addresses before anything is changed."""
    bench.start()
    job = bench.flash()
    trace = bench.assert_done(job)
    first = trace.changes[0].number
    looked = {b for c in trace.of("read") if c.number < first and c.attributes.get("skip_bad_block") == "1" for b in c.blocks}
    addressed = {b for c in trace.changes for b in c.blocks}
    assert addressed <= looked, sorted(addressed - looked)
