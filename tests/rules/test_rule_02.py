# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flash rule 2: package and modem must match by name; the chip, the geometry and an accepted programmer prove nothing."""
import re

import pytest

from conftest import PAGES, VERSION, blocks_of, flashfile

RAWDATA_PAGE = blocks_of("RAWDATA")[0] * PAGES
MAGIC = bytes([0x24, 0x04, 0x19, 0x20, 0x25, 0x04, 0x19, 0x20])


def record(name, kind=b"STD"):
    return MAGIC.ljust(0x10, b"\0") + name.ljust(0x20, b"\0") + kind.ljust(0x20, b"\0")


def forget_rawdata(bench, *settings):
    """A modem whose RAWDATA says nothing."""
    bench.make_flash(*settings)
    for i in range(PAGES):
        bench.poke(RAWDATA_PAGE + i, b"", flashfile.ERASED)
    return bench


OTHERS = ["RM500QGLAAR11A02M4G", "RM502QAEAAR11A02M4G", "RM502QGLABR11A02M4G", "RM502QGLAAR05A02M4G", "RM502QGLAAR11A02M8G",
          "RM502QGLAAR11A02M2G_01.001", "EC25EFAR06A06M4G"]


@pytest.mark.parametrize("modem", OTHERS)
def test_confirmed_version_that_differs(bench, modem):
    bench.start()
    job = bench.flash(known=modem)
    own = re.match(r"[A-Z]+\d+[A-Z]+R\d\d", modem)[0]
    bench.assert_error(job, "WrongFirmware", VERSION, modem, "begin with " + own, "--allow=WrongFirmware", hint="wrong-firmware")
    assert bench.assert_unchanged().bytes_out == []


@pytest.mark.parametrize("modem", OTHERS)
def test_modem_version_that_differs(bench, modem):
    """The user's word is held against the package, too."""
    forget_rawdata(bench).start()
    job = bench.flash(known=None, modem_version=modem)
    bench.assert_error(job, "WrongFirmware", VERSION, modem)
    assert bench.assert_unchanged().bytes_out == []


@pytest.mark.parametrize("modem", ["RM502QGLAAR11A01M4G", "RM502QGLAAR11A09M4G_30.001.30.001", VERSION])
def test_other_release_of_the_same_baseline(bench, modem):
    bench.start()
    bench.assert_done(bench.flash(known=modem))


def test_nobody_knows(bench):
    """Same chip, same geometry, an accepted programmer: and still nothing is erased."""
    forget_rawdata(bench).start()
    job = bench.flash(known=None)
    bench.assert_refused(job, "VersionUnknown", "modem-version", "RM502QGLAA", hint="check-label")


def test_modem_version_lifts_the_unknown(bench):
    forget_rawdata(bench).start()
    bench.assert_done(bench.flash(known=None, modem_version=VERSION))


def test_rawdata_agrees(bench):
    bench.start()
    job = bench.flash(known=None)
    bench.assert_done(job)
    assert job.values["PROJECT"] == "RM502QGLAA"


@pytest.mark.parametrize("project", ["RM500QGLAA", "RM502QAEAA", "RM502QGLA", "RM502QGLAAB", "T99W175"])
def test_rawdata_disagrees(bench, project):
    bench.start("project=" + project)
    bench.assert_refused(bench.flash(known=None), "WrongFirmware", VERSION, project, hint="wrong-firmware")


def test_modem_version_does_not_lift_what_rawdata_says(bench):
    bench.start("project=RM502QAEAA")
    bench.assert_refused(bench.flash(known=None, modem_version=VERSION), "WrongFirmware", "RM502QAEAA")


def test_modem_version_does_not_lift_a_confirmed_mismatch(bench):
    bench.start()
    job = bench.flash(known="RM502QAEAAR11A02M4G", modem_version=VERSION)
    bench.assert_error(job, "WrongFirmware", "RM502QAEAA")
    assert bench.assert_unchanged().bytes_out == []


def test_modem_version_lifts_no_other_refusal(bench):
    bench.start("geometry=p2K_b128K", "family=devprg")
    bench.assert_refused(bench.flash(known=None, modem_version=VERSION), "GeometryDiffers")


def test_unconfirmed_memory_is_no_proof(bench):
    """The port last saw the right modem; this one's own data say otherwise (somebody swapped the card)."""
    bench.start("project=RM502QAEAA")
    bench.assert_refused(bench.flash(confirmed=False), "WrongFirmware", "RM502QAEAA")


def test_unconfirmed_memory_does_not_refuse(bench):
    bench.start()
    job = bench.flash(known="RM520NGLAAR01A01M4G", confirmed=False)
    bench.assert_done(job)
    assert job.log_has("RM520NGLAAR01A01M4G")


def test_unconfirmed_memory_alone(bench):
    forget_rawdata(bench).start()
    bench.assert_refused(bench.flash(confirmed=False), "VersionUnknown")


HOSTILE = ["%s%n%n%n", "RM502QGLAA", "R11A02M4G", "RM502QGLAAR11A02M4G\x1b[2J", "RM502QGLAAR11A02M4G\nALLOW=1", "A" * 3000,
           "RM502QGLAAR11A02M4G" + "_" * 900, "\u202eRM502QGLAAR11A02M4G", "RM502QGLAAR11A02M", "../../etc/passwd", " "]


@pytest.mark.parametrize("known", HOSTILE)
def test_hostile_known_version_proves_nothing(bench, known):
    """A remembered text that is no version name, however confirmed, is not compared: RAWDATA decides."""
    bench.start("project=RM502QAEAA")
    job = bench.flash(known=known)
    bench.assert_refused(job, "WrongFirmware", "RM502QAEAA")
    assert all(ord(c) >= 32 and not 127 <= ord(c) < 160 for line in job.log for c in line), job.log


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_modem_version(bench, word):
    forget_rawdata(bench).start()
    job = bench.flash(known=None, modem_version=word)
    bench.assert_error(job, "InvalidArgs", "modem-version")
    assert bench.assert_unchanged().bytes_out == []


@pytest.mark.parametrize("name", [b"", b"\x01\x02", b"RM502QGLAA\n", b"\xff" * 0x20, b"R", b"RM 502"])
def test_rawdata_without_a_name(bench, name):
    forget_rawdata(bench)
    bench.poke(RAWDATA_PAGE, record(name))
    bench.start()
    bench.assert_refused(bench.flash(known=None), "VersionUnknown")


def test_rawdata_name_that_fills_its_room(bench):
    forget_rawdata(bench)
    bench.poke(RAWDATA_PAGE, record(b"RM502QGLAA" * 3 + b"XX"))
    bench.start()
    bench.assert_refused(bench.flash(known=None), "WrongFirmware", "RM502QGLAARM502QGLAA")


@pytest.mark.parametrize("place", [0, 0x200, 3 * 4096, 63 * 4096 + 0x400])
def test_rawdata_record_anywhere_in_its_block(bench, place):
    forget_rawdata(bench)
    page, offset = divmod(place, 4096)
    for i in range(page + 1):
        bench.poke(RAWDATA_PAGE + i, (b"\xff" * offset + record(b"RM502QAEAA")) if i == page else b"filler")
    bench.start()
    bench.assert_refused(bench.flash(known=None), "WrongFirmware", "RM502QAEAA")


def test_rawdata_behind_a_bad_block(bench):
    bench.start("project=RM502QAEAA", "bad=%d" % blocks_of("RAWDATA")[0])
    job = bench.flash(known=None)
    assert job.error in ("WrongFirmware", "VersionUnknown"), job.words
    bench.assert_unchanged()


def test_package_without_a_name(bench):
    bench.start()
    job = bench.flash(("--version", "firmware-2021"))
    bench.assert_error(job, "WrongFirmware", "firmware-2021", "--allow=WrongFirmware")
    assert bench.assert_unchanged().bytes_out == []


def test_package_without_a_name_allowed(bench):
    bench.start()
    bench.assert_done(bench.flash(("--version", "firmware-2021"), allow="WrongFirmware"))


def test_wrong_firmware_allowed_by_its_name_only(bench):
    bench.start()
    job = bench.flash(known="RM502QAEAAR11A02M4G", allow="WrongUnit,GeometryDiffers,EraseCalibration,NoBackup")
    bench.assert_error(job, "WrongFirmware", "RM502QAEAA")
    assert bench.assert_unchanged().bytes_out == []


def test_unknown_allow(bench):
    bench.start()
    job = bench.flash(allow="WrongFirmware,Everything")
    bench.assert_error(job, "InvalidArgs", "Everything")
    assert bench.assert_unchanged().bytes_out == []


@pytest.mark.parametrize("option,value", [("serial", "5eed0001"), ("hwid", "000cf0e100040000"), ("pkhash", "00" * 32)])
def test_other_unit(bench, option, value):
    bench.start()
    job = bench.flash(**{option: value})
    bench.assert_error(job, "WrongUnit", value)
    assert bench.trace().commands == [], "a programmer was started on a modem that is not the job's"


@pytest.mark.parametrize("after", [0, 1, 3])
def test_other_unit_in_the_middle(bench, rehearsal, after):
    """The card is swapped while the job waits: nothing is written to the other one."""
    bench.start("fault=unplug@command:%d" % rehearsal().changes[after].number, "swap_at=2")
    job = bench.flash()
    bench.assert_error(job, "WrongUnit", "5eed0001")
    trace = bench.trace()
    at = next(i for i, line in enumerate(trace.lines) if "fault unplug" in line)
    assert not [line for line in trace.lines[at:] if line.startswith("command ")]
