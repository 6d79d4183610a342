# SPDX-License-Identifier: LGPL-2.1-or-later
"""DIAG that goes wrong: floods, spoiled answers, faults at every exchange, modems that fall back or have crashed."""

import struct
import time

import pytest

from diaghost import ONLINE, UNASKED, Diag, Refused, decode, encode, is_silent
from modemhost import WORKING, Gone, Silent, make_programmer

VERSION = "RM502QGLAAR05A03M4G"
EDL = bytes.fromhex("4b650100")


def silence(d):
    d.ask(bytes.fromhex("7300000000000000"))
    d.ask(bytes.fromhex("7d05000000000000"))
    d.ask(bytes.fromhex("6000"))


# ---- logs ----

def test_logs_before_answers(diag):
    d = diag("diag_logs=40")
    assert d.version() == VERSION and d.mode() == ONLINE
    assert len(d.unasked) == 80
    assert {p[0] for p in d.unasked} == {0x10, 0x79, 0x60, 0x1F, 0x92, 0x99, 0x98, 0x9B} <= UNASKED | {0x60}
    assert not d.bad_frames


def test_a_flood_ends_when_it_is_silenced(diag):
    d = diag("diag_flood=until-silenced", "diag_flood_us=200")
    assert d.frame()[0] in UNASKED | {0x60}
    silence(d)
    with pytest.raises(Silent):
        for _ in range(1000):
            d.frame(0.3)
    assert d.version() == VERSION


def test_each_kind_is_silenced_by_its_own_command(diag):
    d = diag("diag_flood=until-silenced", "diag_flood_us=200")
    d.ask(bytes.fromhex("7d05000000000000"))
    for _ in range(20):  # what was on its way
        d.frame()
    assert {d.frame()[0] for _ in range(60)} == {0x10, 0x60, 0x98, 0x9B}


def test_a_flood_that_nothing_stops(diag):
    d = diag("diag_flood=always", "diag_flood_us=200")
    silence(d)
    assert d.version() == VERSION
    for _ in range(50):
        assert d.frame()[0] in UNASKED | {0x60}


def test_a_flood_that_nobody_reads_does_not_block(diag):
    d = diag("diag_flood=always", "diag_flood_us=50", "fault=unplug@diag:4")
    for _ in range(4):
        d.send(b"\x7c")
        time.sleep(0.05)
    with pytest.raises(Gone):
        while True:
            d.frame()


@pytest.mark.parametrize("settings", [["diag_split=1"], ["diag_split=7", "diag_logs=3"], ["diag_glue=yes", "diag_logs=5"],
                                      ["diag_tail=yes"], ["diag_split=64", "max_packet_normal=64"]])
def test_shapes_of_transfers(diag, settings):
    d = diag(*settings)
    assert d.version() == VERSION and d.imei() and d.mode() == ONLINE
    assert d.bad_frames == ("diag_tail=yes" in settings)


# ---- spoiled answers ----

def raw_frame(d):
    """As it comes, without its end."""
    while b"\x7e" not in d.rest:
        d.rest += d.host.receive(2)
    frame, d.rest = d.rest.split(b"\x7e", 1)
    return frame


def ask_mode_then_version(d):
    assert d.mode() == ONLINE
    d.send(b"\x7c")


def test_wrong_crc(diag):
    d = diag("fault=crc@diag:2")
    ask_mode_then_version(d)
    assert decode(raw_frame(d)) is None
    assert d.version() == VERSION


def test_cut(diag):
    d = diag("fault=cut@answered:2")
    ask_mode_then_version(d)
    with pytest.raises(Silent):
        d.frame(0.3)
    d.send(b"\x7c")  # the end of this one ends the other, too
    with pytest.raises(Silent):
        d.frame(0.3)
    assert d.bad_frames == 1 and d.version() == VERSION


def test_short_and_long(diag):
    d = diag("fault=short@diag:2", "fault=long@diag:3")
    ask_mode_then_version(d)
    short = d.frame()
    d.send(b"\x7c")
    long = d.frame()
    whole = d.ask(b"\x7c")
    assert short == whole[:(len(whole) + 1) // 2] and long == whole + b"\x7e" * 3


def test_a_flipped_bit_in_a_right_frame(diag):
    d = diag("fault=flip@diag:3")
    path = "/policyman/carrier_policy.xml"
    fd = d.open(path)
    whole, flipped, again = d.read(fd, 1024, 0), d.read(fd, 1024, 0), d.read(fd, 1024, 0)
    assert whole == again and [i for i in range(1024) if whole[i] != flipped[i]] == [(20 + 1024) // 2 - 20]


def test_latency(diag):
    d = diag("diag_us=20000")
    start = time.monotonic()
    for _ in range(5):
        d.mode()
    assert time.monotonic() - start >= 0.1


def test_twice_other_and_stale(diag):
    d = diag("fault=twice@diag:2", "fault=other@diag:3", "fault=stale@diag:4")
    first = d.nv_read(10)
    assert d.nv_read(447) != first
    d.send(struct.pack("<BH130x", 0x26, 550))
    frames = [d.frame(), d.frame()]
    assert [struct.unpack_from("<H", f, 1)[0] for f in frames] == [447, 447]
    with pytest.raises(Silent):
        d.frame(0.2)
    d.send(struct.pack("<BH130x", 0x26, 10))
    frames = [d.frame(), d.frame()]
    assert [struct.unpack_from("<H", f, 1)[0] for f in frames] == [550, 10]


def test_slow(diag):
    d = diag("fault=slow@diag:2+400")
    ask_mode_then_version(d)
    with pytest.raises(Silent):
        d.frame(0.1)
    assert d.answer(b"\x7c")


def test_silent_before_and_after(diag):
    d = diag("fault=silent@diag:2", "fault=silent@answered:3").offline()
    request = struct.pack("<BH128sH", 0x27, 10, b"new", 0)
    assert is_silent(d, request) and d.modem.process.poll() is None
    assert is_silent(d, request)
    assert d.nv_read(10)[1][:3] == b"new"


def test_silent_before_does_nothing(diag):
    d = diag("fault=silent@diag:2").offline()
    assert is_silent(d, struct.pack("<BH128sH", 0x27, 10, b"new", 0))
    assert d.nv_read(10)[1][:3] != b"new"


@pytest.mark.parametrize("fault,code,done", [("nak@diag:2", 0x13, False), ("nak@diag:2+66", 0x42, False), ("nak@answered:2+0x18", 0x18, True)])
def test_error_codes(diag, fault, code, done):
    d = diag(f"fault={fault}").offline()
    with pytest.raises(Refused) as e:
        d.nv_write(10, b"new")
    assert e.value.code == code
    assert (d.nv_read(10)[1][:3] == b"new") == done


def test_every_third_answer(diag):
    d = diag("fault=crc@every:3")
    bad = []
    for i in range(1, 13):
        d.send(b"\x7c")
        bad.append(decode(raw_frame(d)) is None)
    assert bad == [False, False, True] * 4


def test_garbage_and_hang(diag):
    d = diag("fault=garbage@diag:1", "fault=hang@diag:2")
    d.send(b"\x7c")
    assert d.host.receive() == b"\xa5" * 63
    assert is_silent(d, b"\x7c")


@pytest.mark.parametrize("point", ["diag", "answered"])
def test_unplug_at_the_nth_exchange(diag, point):
    d = diag(f"fault=unplug@{point}:4").offline()
    d.mode()
    d.efs(48, b"\1\0/\0")
    with pytest.raises(Gone):
        d.nv_write(10, b"new")
    m = d.modem
    d = Diag(m.appear())
    assert d.mode() == ONLINE and d.nv_read(10)[1][:3] != b"new"


def test_pipelining_is_seen(diag):
    d = diag()
    d.host.send(b"\x7e" + encode(b"\x7c") + b"\x7e")
    d.answer(b"\x7c")
    assert not d.modem.violations()
    d.host.send(encode(b"\x7c") + encode(b"\x00"))
    d.answer(b"\x7c"), d.answer(b"\x00")
    assert d.modem.violations() == ["DIAG requests without waiting for the answer"]


# ---- the way to 9008, and ways into trouble ----

def test_edl_command_after_a_crash(modem):
    m = modem(WORKING, "start=crash-dump")
    host = m.appear()
    assert (host.plug["PID"], host.plug["INTERFACES"]) == ("0800", "1")
    host.poll()
    host.packet()
    host.send(encode(EDL))
    assert host.receive() == encode(EDL)
    host.wait_gone()
    m.appear().upload(make_programmer())


def test_900e_does_not_know_it(modem):
    host = modem(WORKING, "start=crash-dump", "crash_id=qualcomm").appear()
    host.poll()
    host.packet()
    host.send(encode(EDL))
    assert host.packet()[0] == 4


def test_another_connector_in_normal_mode(modem):
    m = modem(WORKING, "port_normal=virtual-usb3-0:1.2", "kernel_normal=2-1.2", "max_packet_normal=1024")
    d = Diag(m.appear())
    assert (d.host.plug["KERNEL"], d.host.max_packet) == ("2-1.2", 1024) and d.version() == VERSION
    d.ask(EDL)
    d.host.wait_gone()
    host = m.appear()
    assert (host.plug["KERNEL"], host.plug["PID"], host.max_packet) == ("1-1.2", "9008", 512)


def test_crashes_again_and_again(modem):
    """In its crash dump after each boot; the way out of it begins where that takes the EDL command."""
    m = modem(WORKING, "boots=crashes", "normal_ms=50")
    for _ in range(3):
        host = m.appear()
        assert (host.plug["PID"], host.plug["INTERFACES"]) == ("0800", "5")
        host.wait_gone()
        host = m.appear()
        assert (host.plug["PID"], host.plug["INTERFACES"]) == ("0800", "1")
        host.poll()
        assert host.packet()[1][3] == 2
        host.send_packet(7)
        host.wait_gone()
    m.appear().wait_gone()
    host = m.appear()
    host.poll()
    host.packet()
    host.send(encode(EDL))
    host.wait_gone()
    host = m.appear().start_programmer()
    data, _ = host.read(0, 64)
    host.erase(0, 640)
    host.program(0, data)
    host.command("power", value="reset")
    host.wait_gone()
    d = Diag(m.appear())
    time.sleep(0.2)
    assert d.mode() == ONLINE


def test_a_reset_is_not_a_fall(modem):
    m = modem(WORKING, "boots=falls-back", "normal_ms=60000")
    for _ in range(2):
        Diag(m.appear()).reset()
    assert m.appear().plug["PID"] == "0800"


@pytest.mark.parametrize("boots, lasts", [("falls-back", True), ("never-lasts", False)])
def test_falls_back_until_it_is_flashed(modem, boots, lasts):
    m = modem(WORKING, f"boots={boots}", "normal_ms=1000", "loop=soft", "window_ms=100", "gap_ms=20")
    seen, versions = [], set()
    for _ in range(6):
        host = m.appear()
        seen.append(host.plug["PID"])
        try:
            versions.add(Diag(host).version() if seen[-1] == "0800" else VERSION)
            host.wait_gone()
        except Gone:
            pass
    assert seen == ["0800", "9008"] * 3 and versions == {VERSION}
    m.stop()
    m = modem(f"boots={boots}", "normal_ms=100", new=False)
    host = m.appear()
    host.wait_gone()
    host = m.appear().start_programmer()
    data, _ = host.read(0, 64)
    host.erase(0, 640)
    assert host.program(0, data)["value"] == "ACK"
    host.command("power", value="reset")
    host.wait_gone()
    if lasts:
        d = Diag(m.appear())
        time.sleep(0.3)
        assert d.version() == VERSION
    else:
        m.appear().wait_gone()
        assert m.appear().plug["PID"] == "9008"
