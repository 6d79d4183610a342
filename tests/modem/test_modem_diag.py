# SPDX-License-Identifier: LGPL-2.1-or-later
"""Normal mode: DIAG, numbered NV, modes, locks, and the way to 9008 (reference/diag.md)."""

import struct

import pytest

from diaghost import FTM, LPM, OFFLINE, ONLINE, Diag, Refused, decode, encode, imei_item, is_silent
from flash import Flash, Snapshot, compare_unchanged
from modemhost import Silent


def luhn(digits):
    return sum(sum(divmod(int(d) * (i % 2 + 1), 10)) for i, d in enumerate(digits)) % 10 == 0


# ---- frames ----

@pytest.mark.parametrize("payload,frame", [
    ("00", "0078f07e"), ("1c", "1c952a7e"), ("7c", "7c93497e"), ("0c", "0c143a7e"), ("51", "5174b37e"),
    ("4b650100", "4b650100540f7e"), ("290100", "29010031407e"), ("290400", "290400893e7e"), ("4b0f0000", "4b0f0000bb607e"),
    ("4b130b002f00", "4b130b002f0019117e"), ("7d05000000000000", "7d5d0500000000000074417e"),
])
def test_the_frames_of_the_reference(payload, frame):
    assert encode(bytes.fromhex(payload)).hex() == frame
    assert decode(bytes.fromhex(frame)[:-1]).hex() == payload


def test_frames_that_are_none_are_passed_over(diag):
    d = diag()
    for junk in ("7e", "7e7e", "aa7e", "7c93487e", "7d7e", "7c937e"):
        d.host.send(bytes.fromhex(junk))
    d.host.send(b"\x11" * 17000)  # longer than any
    d.host.send(b"\x22" * 500 + b"\x7e")
    with pytest.raises(Silent):
        d.frame(0.2)
    assert d.version() == "RM502QGLAAR05A03M4G"


def test_a_frame_in_pieces_and_an_empty_one_before_it(diag):
    d = diag()
    for byte in b"\x7e" + encode(b"\x7c"):
        d.host.send(bytes([byte]))
    assert d.answer(b"\x7c")[0] == 0x7C


def test_escapes_go_both_ways(diag):
    d = diag().offline()
    data = bytes([0x7D, 0x7E, 0x5D, 0x5E] * 32)
    assert d.nv_write(10, data) == 0
    assert d.nv_read(10) == (0, data)


def test_an_answer_that_fills_its_packets_ends(diag):
    d = diag("product=" + "x" * (64 - 3 - 12 - 20 - 1), "max_packet_normal=64")
    d.send(b"\x7c")
    assert len(d.host.receive()) == 64 and d.host.receive() == b""


# ---- identity ----

def test_identity(diag):
    d = diag("mobile_model=186")
    build = d.ask(b"\x7c")
    assert struct.unpack_from("<I", build, 8)[0] == 186
    assert build[12:].split(b"\0")[:2] == [b"RM502QGLAAR05A03M4G", b"RM502Q-GL"]
    verno = d.ask(b"\x00")
    assert len(verno) == 55 and verno[39:47] == b"RM502QGL"
    assert d.ask(b"\x01") == bytes.fromhex("010dd0adde")
    assert len(d.ask(b"\x1c")) == 3
    features = d.ask(b"\x51")
    assert struct.unpack_from("<H", features, 1)[0] == len(features) - 1


def test_imei(diag):
    first = diag("serial=00000001").imei()
    second = diag("serial=00000002", "imei=490154203237518").imei()
    assert len(first) == 15 and luhn(first)
    assert second == "490154203237518" and imei_item(second).hex() == "084a09512430325781"


def test_second_imei(diag):
    d = diag()
    first, second = d.imei(), d.imei(1)
    assert luhn(second) and first != second and d.imei(0) == first
    assert d.nv_read(550, 2)[0] == 5 and d.nv_read(10, 2)[0] == 0 and d.nv_read(550, 3)[0] == 6


@pytest.mark.parametrize("request_hex,code", [
    ("42", 0x13), ("4b770000", 0x13), ("4b", 0x15), ("2600", 0x15), ("29", 0x15), ("290900", 0x14), ("4130", 0x15)])
def test_refusals_echo_the_request(diag, request_hex, code):
    d = diag()
    with pytest.raises(Refused) as e:
        d.ask(bytes.fromhex(request_hex))
    assert e.value.code == code


# ---- numbered NV ----

def test_every_item_has_a_status(diag):
    d = diag("nv_items=50")
    found = {}
    for item in list(range(600)) + [7165, 7166, 20000, 65535]:
        if item != 3252:
            found.setdefault(d.nv_read(item)[0], []).append(item)
    assert set(found) == {0, 5, 6, 8}
    assert {0, 10, 447, 453, 550} <= set(found[0]) and found[6] == [7166, 20000, 65535]


def test_short_read_request(diag):
    d = diag()
    assert len(d.ask(struct.pack("<BH128x", 0x26, 550))) == 133
    with pytest.raises(Refused):
        d.ask(struct.pack("<BH140x", 0x26, 550))


def test_busy_now_and_then(diag):
    d = diag("nv_busy=3")
    assert [d.nv_read(550)[0] for _ in range(6)] == [0, 0, 1] * 2


def test_item_that_breaks_the_protocol(diag):
    d = diag()
    assert is_silent(d, struct.pack("<BH130x", 0x26, 3252))
    assert d.imei()
    assert not d.modem.violations()


def test_writes_need_offline(diag):
    d = diag()
    with pytest.raises(Refused) as e:
        d.nv_write(10, b"new")
    assert e.value.code == 0x18 and d.nv_read(10)[1][:3] != b"new"
    assert d.offline().nv_write(10, b"new") == 0 and d.nv_read(10)[1] == b"new".ljust(128, b"\0")


def test_written_items_survive_a_reset(diag):
    d = diag().offline()
    d.nv_write(10, b"plain")
    d.nv_write(10, b"indexed", 1)
    assert d.nv_write(550, imei_item("490154203237518")) == 7
    d.reset()
    m, d = d.modem, Diag(d.modem.appear())
    assert d.nv_read(10)[1][:5] == b"plain" and d.nv_read(10, 1)[1][:7] == b"indexed"
    assert "another IMEI" in m.violations()[0]


def test_imei_may_be_written_where_there_is_none(diag):
    d = diag("calibration=no-imei").offline()
    assert d.imei() is None
    assert d.nv_write(550, imei_item("490154203237518")) == 0
    assert not d.modem.violations()
    assert d.imei() == "490154203237518"
    assert not d.modem.violations()


# ---- locks ----

@pytest.mark.parametrize("setting,code,key", [("diag_spc", 0x42, b"\x41000000"), ("diag_password", 0x47, b"\x46" + b"\xff" * 7 + b"\xfe")])
def test_locks(diag, setting, code, key):
    d = diag(f"{setting}=writes").offline()
    assert d.imei()
    with pytest.raises(Refused) as e:
        d.nv_write(10, b"x")
    assert e.value.code == code
    assert d.ask(key) == key[:1] + b"\1"
    assert d.nv_write(10, b"x") == 0
    d = diag(f"{setting}=all")
    with pytest.raises(Refused):
        d.nv_read(550)
    d.ask(key)
    assert d.imei()


def test_guessing_resets_the_modem(diag):
    d = diag("diag_spc=all", "spc=123456")
    for _ in range(3):
        assert d.ask(b"\x41000000")[1] == 0
    d.host.wait_gone()
    assert len(d.modem.violations()) == 3


# ---- modes ----

def test_modes(diag):
    d = diag()
    assert d.mode() == ONLINE
    for order, mode in ((5, LPM), (4, ONLINE), (1, OFFLINE), (4, OFFLINE), (5, OFFLINE)):
        assert d.control(order) == struct.pack("<BH", 0x29, order)
        assert d.mode() == mode
    d.reset()
    assert Diag(d.modem.appear()).mode() == ONLINE


def test_power_off(diag):
    d = diag()
    d.control(6)
    d.host.wait_gone()
    with pytest.raises(Silent):
        d.modem.appear(0.2)


def test_a_host_that_crashes_it(diag):
    d = diag()
    d.ask(bytes.fromhex("4b250300"))
    d.host.wait_gone()
    host = d.modem.appear()
    assert (host.plug["PID"], host.plug["INTERFACES"]) == ("0800", "1")
    assert d.modem.violations()


@pytest.mark.parametrize("settings", [["calibration=erased"], ["calibration=none"], ["calibration=partial"],
                                      ["calibration=no-imei"], ["calibration=blank-imei"]])
def test_without_calibration_it_is_in_factory_test_mode(diag, settings):
    d = diag(*settings)
    assert d.version() == "RM502QGLAAR05A03M4G"
    assert d.mode() == FTM
    d.control(4)
    assert d.mode() == FTM
    assert d.nv_read(550)[0] == (0 if settings[0] in ("calibration=partial", "calibration=blank-imei") else 5)
    if settings == ["calibration=blank-imei"]:
        assert d.nv_read(550)[1] == bytes(128) and d.offline().nv_write(550, imei_item("490154203237518")) == 0
    assert not d.modem.violations()


# ---- the flash behind it ----

def test_reading_changes_nothing(diag):
    d = diag()
    before = Snapshot.load(d.modem.flash)
    d.version(), d.imei(), d.mode()
    d.offline().reset()
    Diag(d.modem.appear()).mode()
    with Flash(d.modem.flash) as f:
        assert compare_unchanged(f, before)
