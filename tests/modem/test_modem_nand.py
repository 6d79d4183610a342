# SPDX-License-Identifier: LGPL-2.1-or-later
"""NAND rules, erase in all its forms, vendor tag: reference/edl.md 2.6, 2.7 and the corrections at its top."""

import pytest

from modemhost import make_programmer, sha256
from flash import ERASED, UNREADABLE, WRITTEN, Flash, Snapshot, compare_unchanged

PPB = 64
TZ, EFS2, RAWDATA, BOOT = 77 * PPB, 20 * PPB, 72 * PPB, 97 * PPB


def started(modem, *settings, programmer=None, **options):
    m = modem(*settings, **options)
    host = m.appear()
    host.start_programmer(programmer)
    return m, host


def image(pages, seed=1):
    return b"".join(bytes([(seed + i) % 251 + 1]) * 4096 for i in range(pages))


def written(m, block):
    with Flash(m.flash) as f:
        return f.states(block).count(WRITTEN)


def violations(m):
    assert m.stop() == 0
    return m.violations()


# ---- program ----

def test_program_and_read_back(modem):
    m, host = started(modem)
    data = image(130)[:-100]
    assert host.program(BOOT, data, last_sector=BOOT + 6 * PPB - 1)["value"] == "ACK"
    read, r = host.read(BOOT, 131, last_sector=BOOT + 6 * PPB - 1)
    assert read[:len(data)] == data and read[130 * 4096:] == b"\xff" * 4096 and r["value"] == "ACK"
    assert host.digest(BOOT, 130)[1] == sha256(read[:130 * 4096])
    with Flash(m.flash) as f:
        assert f.states(99) == bytes([WRITTEN] * 2 + [ERASED] * 62)
        assert not f.is_incomplete(97)
    assert not violations(m)


def test_program_erases_each_block_that_it_enters(modem):
    m, host = started(modem)
    assert host.program(TZ, image(3))["value"] == "ACK"
    assert (written(m, 77), written(m, 78)) == (3, PPB)
    assert not violations(m)


def test_without_auto_erase_a_written_page_is_ruined(modem):
    m, host = started(modem, "auto_erase=no")
    assert host.program(TZ, image(1))["value"] == "ACK"
    with Flash(m.flash) as f:
        assert f.state(TZ) == UNREADABLE
    assert violations(m) == [f"program of page={TZ} which is not erased"]


def test_program_starts_with_a_block(modem):
    m, host = started(modem)
    assert host.program(TZ + 1, image(1))["value"] == "NAK"
    assert "not the first page" in violations(m)[0]


def test_program_past_last_sector(modem):
    m, host = started(modem)
    assert host.program(TZ, image(PPB + 1), last_sector=TZ + PPB - 1)["value"] == "NAK"
    assert host.command("nop")["value"] == "ACK"
    assert written(m, 78) == PPB  # what was there
    found = violations(m)
    assert "past last_sector" in found[0] and "out of good blocks" in found[1]


@pytest.mark.parametrize("attributes", [
    {"start": 192 * PPB, "count": 1}, {"start": 0, "count": 192 * PPB + 1}, {"start": 10, "count": 0},
    {"start": "x", "count": 1}, {"start": 0, "count": "1x"}, {"start": 0, "count": "-1"}, {"start": 0, "count": 1, "page": 2048},
    {"start": 0, "count": 1, "page": ""}, {"start": 64, "count": 1, "last_sector": 63},
])
@pytest.mark.parametrize("tag", ["program", "read"])
def test_ranges_that_it_refuses(modem, tag, attributes):
    m, host = started(modem)
    before = Snapshot.load(m.flash)
    assert host.command(tag, **host.address(**attributes))["value"] == "NAK"
    with Flash(m.flash) as f:
        assert compare_unchanged(f, before)


def test_pages_per_block_must_fit(modem):
    _, host = started(modem)
    assert host.command("read", **{**host.address(0, 1), "PAGES_PER_BLOCK": 32})["value"] == "NAK"


# ---- bad blocks ----

def test_bad_blocks_shift_everything_inside_one_command(modem):
    m, host = started(modem, "bad=98,99")
    data = image(3 * PPB)
    assert host.program(BOOT, data, last_sector=BOOT + 6 * PPB - 1)["value"] == "ACK"
    assert host.read(BOOT, 3 * PPB)[0] == data
    assert (written(m, 97), written(m, 100), written(m, 101), written(m, 102)) == (PPB, PPB, PPB, 0)
    # A command of its own begins to count at its own start.
    assert host.read(BOOT + PPB, PPB)[0] == data[PPB * 4096:2 * PPB * 4096]
    assert host.read(BOOT + 2 * PPB, PPB)[0] == data[PPB * 4096:2 * PPB * 4096]
    physical, r = host.read(BOOT, 6 * PPB, skip_bad_block=1)
    assert physical[PPB * 4096:3 * PPB * 4096] == b"\xbd" * (2 * PPB * 4096)
    assert physical[3 * PPB * 4096:5 * PPB * 4096] == data[PPB * 4096:]
    assert r["value"] == "ACK"
    assert not violations(m)


def test_a_programmer_without_the_literal_ignores_the_attribute(modem):
    _, host = started(modem, "bad=98", programmer=make_programmer(literals=["last_sector"]))
    data = image(2 * PPB)
    host.program(BOOT, data)
    assert host.read(BOOT, 2 * PPB, skip_bad_block=1)[0] == data
    assert host.command("getsha256digest", **host.address(0, 1))["value"] == "NAK"


def test_a_block_that_goes_bad_in_the_middle(modem):
    m, host = started(modem, "fail_program=98,99")
    data = image(3 * PPB)
    assert host.program(BOOT, data, last_sector=BOOT + 6 * PPB - 1)["value"] == "ACK"
    assert host.read(BOOT, 3 * PPB)[0] == data
    with Flash(m.flash) as f:
        assert f.bad_blocks() == [98, 99]
    assert not violations(m)


def test_read_past_the_good_blocks_gives_zeros_and_nak(modem):
    _, host = started(modem, "bad=98")
    data, r = host.read(BOOT, 2 * PPB, last_sector=BOOT + 2 * PPB - 1)
    assert len(data) == 2 * PPB * 4096 and data[PPB * 4096:] == bytes(PPB * 4096) and r["value"] == "NAK"


@pytest.mark.parametrize("fill,byte", [("ff", 0xFF), ("ee", 0xEE)])
def test_fills(modem, fill, byte):
    _, host = started(modem, f"fill={fill}", f"unreadable={BOOT + 1}")
    data, r = host.read(BOOT, 2 * PPB + 7)
    assert data[4096:8192] == b"\xfa" * 4096
    assert data[-2 * 4096:] == bytes([byte]) * 8192
    assert r["value"] == "ACK"


def test_a_fill_for_a_whole_payload(modem):
    """Two pages a payload: the last written one is hidden by the erased one behind it, unless it is read alone."""
    _, host = started(modem, "fill=ee", "fill_batch=yes")
    host.program(BOOT, image(3))
    data, r = host.read(BOOT, 4)
    assert data[:8192] == image(2) and data[8192:] == b"\xee" * 8192 and r["value"] == "ACK"
    assert host.read(BOOT + 2, 1)[0] == image(3)[8192:]
    assert host.read(BOOT + PPB - 1, 2)[0][:4096] == b"\xee" * 4096


def test_a_page_that_is_refused(modem):
    _, host = started(modem, "read_error=nak", f"unreadable={BOOT + 1}")
    data, r = host.read(BOOT, 3)
    assert data[4096:8192] == bytes(4096) and data[:4096] != bytes(4096) and r["value"] == "NAK"
    assert host.read(BOOT, 1)[1]["value"] == "ACK"


def test_a_bit_that_flips_once(modem):
    _, host = started(modem, f"flip={BOOT + 1}")
    data = image(3)
    host.program(BOOT, data)
    assert host.digest(BOOT, 3)[1] != sha256(data)
    assert host.read(BOOT, 1)[0] == data[:4096]
    host.program(BOOT, data)
    assert host.digest(BOOT, 3)[1] == sha256(data)


@pytest.mark.parametrize("settings,right", [(["digest=wrong"], False), (["digest_form=bare"], True),
                                            (["digest_form=attribute"], True)])
def test_digest_forms(modem, settings, right):
    _, host = started(modem, *settings)
    data = image(3)
    host.program(BOOT, data)
    assert (host.digest(BOOT, 3)[1] == sha256(data)) == right


# ---- erase ----

def test_erase_of_a_partition(modem):
    m, host = started(modem)
    before = Snapshot.load(m.flash)
    assert host.erase(TZ, 10 * PPB, last_sector=TZ + 10 * PPB - 1)["value"] == "ACK"
    assert "INFO: Erasing start sector %d, num sectors 0" % TZ in host.logs
    with Flash(m.flash) as f:
        assert not any(f.states(b).count(WRITTEN) for b in range(77, 87))
        assert "TZ" in compare_unchanged(f, before).message
    assert not violations(m)


@pytest.mark.parametrize("start,count", [(TZ + 1, PPB), (TZ, PPB + 1)])
def test_erase_unaligned(modem, start, count):
    m, host = started(modem)
    assert host.erase(start, count)["value"] == "NAK"
    assert violations(m)


GARBLED = [
    {"SECTOR_SIZE_IN_BYTES": None}, {"num_partition_sectors": None}, {"start_sector": None}, {"start_sector": ""},
    {"start_sector": "x"}, {"start_sector": "640 "}, {"start_sector": "-1"}, {"start_sector": "640."},
    {"num_partition_sectors": "0"}, {"num_partition_sectors": "64x"}, {"num_partition_sectors": "99999999999"},
    {"SECTOR_SIZE_IN_BYTES": "4k"}, {"start_sector": "NUM_DISK_SECTORS-999999999."},
]


@pytest.mark.parametrize("change", GARBLED)
def test_a_garbled_erase_erases_the_whole_chip_and_is_acked(modem, change):
    m, host = started(modem)
    attributes = {k: v for k, v in {**host.address(TZ, PPB, last_sector=TZ + PPB - 1), **change}.items() if v is not None}
    assert host.command("erase", **attributes)["value"] == "ACK"
    with Flash(m.flash) as f:
        assert not any(f.states(b).count(WRITTEN) for b in range(f.blocks))
    assert violations(m) == ["erase of the whole chip"]


def test_start_counted_from_the_end(modem):
    m, host = started(modem)
    assert host.command("erase", **host.address("NUM_DISK_SECTORS-64.", 64))["value"] == "ACK"
    assert not violations(m)


@pytest.mark.parametrize("kind,last,answer,reaches", [
    ("physical", True, "ACK", 86), ("physical", False, "ACK", 86), ("good-ack", True, "ACK", 86),
    ("good-nak", True, "NAK", 86), ("good-ack", False, "ACK", 88), ("spill", True, "ACK", 88),
])
def test_what_an_erase_counts(modem, kind, last, answer, reaches):
    """TZ has two bad blocks, sec lies behind it."""
    m, host = started(modem, f"erase_kind={kind}", "bad=78,79")
    assert written(m, 87) == 1 and written(m, 88) == 1
    more = {"last_sector": TZ + 10 * PPB - 1} if last else {}
    assert host.erase(TZ, 10 * PPB, **more)["value"] == answer
    erased = [b for b in (87, 88, 89) if not written(m, b)]
    assert erased == [b for b in (87, 88, 89) if b <= reaches]
    assert len(violations(m)) == max(0, reaches - 86)


@pytest.mark.parametrize("kind,answer", [("physical", "ACK"), ("good-ack", "ACK"), ("good-nak", "NAK")])
def test_erase_of_a_single_bad_block(modem, kind, answer):
    m, host = started(modem, f"erase_kind={kind}", "bad=78")
    assert host.erase(TZ + PPB, PPB, last_sector=TZ + 2 * PPB - 1)["value"] == answer
    assert written(m, 79) == PPB
    assert not violations(m)


def test_a_block_that_fails_to_erase(modem):
    m, host = started(modem, "fail_erase=80")
    assert host.erase(TZ, 10 * PPB, last_sector=TZ + 10 * PPB - 1)["value"] == "ACK"
    assert any(log.startswith("ERROR") for log in host.logs)
    with Flash(m.flash) as f:
        assert f.bad_blocks() == [80]


# ---- the vendor tag ----

def vendor(host, name="RM502QGLAA", kind="STD", **more):
    return host.command("erase", vendor="quectel", a_rawdata_start_sector=RAWDATA, b_rawdata_num_sector=5 * PPB,
                        c_project_name=name, d_project_type=kind, **more)


def test_vendor_tag_agrees(modem):
    m, host = started(modem)
    before = Snapshot.load(m.flash)
    assert vendor(host)["value"] == "ACK"
    assert host.logs[-1] == "INFO: [harden] project name or type = RM502QGLAA ok!"
    with Flash(m.flash) as f:
        assert compare_unchanged(f, before)


@pytest.mark.parametrize("name,kind", [("RM500QGLAA", "STD"), ("RM502QGLAA", "OTHER"), ("RM502QGLAAB", "STD"), ("", "")])
def test_vendor_tag_disagrees(modem, name, kind):
    _, host = started(modem)
    assert vendor(host, name, kind)["value"] == "NAK"
    assert host.logs[-1].endswith("error!")


@pytest.mark.parametrize("settings", [["vendor=notfound"], ["initial=blank"]])
def test_vendor_tag_finds_nothing_and_is_acked(modem, settings):
    _, host = started(modem, *settings)
    assert vendor(host)["value"] == "ACK"
    assert "not find" in host.logs[-1]


@pytest.mark.parametrize("how", ["literal", "setting"])
def test_vendor_tag_unknown_to_the_programmer_erases_everything(modem, how):
    programmer = make_programmer(literals=["last_sector"] if how == "literal" else ["c_project_name"])
    m, host = started(modem, *(["vendor=unknown"] if how == "setting" else []), programmer=programmer)
    assert vendor(host)["value"] == "ACK"
    assert written(m, 20) == 0
    assert violations(m) == ["erase of the whole chip"]


def test_vendor_tag_with_a_range_costs_only_that(modem):
    m, host = started(modem, "vendor=unknown")
    assert vendor(host, SECTOR_SIZE_IN_BYTES=4096, start_sector=0, num_partition_sectors=PPB, last_sector=PPB - 1)["value"] == "ACK"
    assert written(m, 20) == 40
    assert not violations(m)
