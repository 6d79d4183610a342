# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boot decision, loops, faults, and what the flash says afterwards."""

import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest

import flash as flash_tool
from modemhost import MODEM, PATIENCE, Gone, Host, Silent, make_programmer
from flash import INCOMPLETE, UNREADABLE, WRITTEN, Flash, Snapshot, compare_package, compare_unchanged

HERE = pathlib.Path(__file__).resolve().parent
PPB = 64
SBL = struct.pack("<I", 0x844BDCD1) + b"sbl" * 5000
TZ = 77 * PPB


def reset(host):
    assert host.command("power", value="reset")["value"] == "ACK"
    host.wait_gone()


def write_sbl(host):
    assert host.program(0, SBL, last_sector=10 * PPB - 1)["value"] == "ACK"


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def is_normal(host):
    return (host.plug["VID"], host.plug["PID"], host.plug["INTERFACES"]) == ("2c7c", "0800", "5")


# ---- the boot decision ----

def test_a_brick_boots_once_it_has_an_sbl(modem):
    m = modem()
    host = m.appear().start_programmer()
    write_sbl(host)
    reset(host)
    host = m.appear()
    assert is_normal(host) and host.plug["PRODUCT"] == "RM502Q-GL"
    assert m.stop() == 0
    assert not m.violations()


def test_a_working_modem_comes_up_normal(modem):
    assert is_normal(modem("initial=working", "kernel_normal=2-1.2", "max_packet_normal=1024").appear())


def break_sbl_magic(host):
    host.program(0, b"not an SBL", last_sector=10 * PPB - 1)


def break_table(host):
    data, _ = host.read(10 * PPB, 4)
    host.erase(11 * PPB, PPB)
    host.program(10 * PPB, data[:5000] + b"!" + data[5001:])


def erase_versions(host):
    for start, blocks in ((109, 24), (170, 22)):
        host.erase(start * PPB, blocks * PPB)


@pytest.mark.parametrize("damage,reason", [(break_sbl_magic, "no valid SBL"), (break_table, "no valid MIBIB"),
                                           (erase_versions, "no version")])
def test_what_does_not_boot(modem, damage, reason):
    m = modem("initial=working", "start=sahara")
    host = m.appear().start_programmer()
    damage(host)
    reset(host)
    assert m.appear().plug["PID"] == "9008"
    m.stop()
    assert reason in "\n".join(m.trace())


def test_a_half_written_image_does_not_boot(modem):
    m = modem("initial=working", "start=sahara", "fault=unplug@out:20", "torn=no")
    host = m.appear().start_programmer()
    with pytest.raises((Gone, Silent)):
        host.program(0, bytes(200000))
    host = m.appear().start_programmer()
    write_sbl(host)
    reset(host)
    assert is_normal(m.appear())


def test_half_written_sbl(modem):
    m = modem("initial=working", "start=sahara", "torn=no")
    host = m.appear().start_programmer()
    host.command("program", **host.address(0, 10))
    host.send(SBL[:8192])
    with Flash(m.flash) as f:
        wait_until(lambda: f.states(0).count(WRITTEN) == 2)
    m.stop()
    with Flash(m.flash) as f:
        assert f.record(0)[0] & INCOMPLETE and f.page(0)[:4] == SBL[:4]
    again = modem(new=False)
    assert again.appear().plug["PID"] == "9008"


def diag(host, request):
    host.poll()
    host.send(bytes.fromhex(request))
    return host.receive()


@pytest.mark.parametrize("settings,version", [([], b"RM502QGLAAR05A03M4G"), (["boots=other-version"], b"RM502QGLAAR99A99M4G"),
                                              (["version=EG25GGBR07A08M2G"], b"EG25GGBR07A08M2G")])
def test_normal_mode_says_its_version(modem, settings, version):
    answer = diag(modem("initial=working", *settings).appear(), "7c93497e")
    assert answer[0] == 0x7C and answer[12:12 + len(version) + 1] == version + b"\0"


@pytest.mark.parametrize("request_bytes", ["4b650100540f7e", "3aa16e7e"])
def test_normal_mode_goes_to_edl(modem, request_bytes):
    m = modem("initial=working")
    host = m.appear()
    assert diag(host, request_bytes).hex() == request_bytes
    host.wait_gone()
    host = m.appear()
    assert host.plug["PID"] == "9008"
    host.start_programmer()
    reset(host)
    assert is_normal(m.appear())


def test_boots_no(modem):
    assert modem("initial=working", "boots=no").appear().plug["PID"] == "9008"


def test_boots_once_more(modem):
    m = modem("initial=working", "boots=once-more")
    host = m.appear()
    assert is_normal(host)
    host.wait_gone()
    host = m.appear()
    assert is_normal(host)
    with pytest.raises(Silent):
        host.receive(0.2)


def test_swapped_unit(modem):
    m = modem("swap_at=2", "swap_serial=11112222")
    host = m.appear().start_programmer()
    reset(host)
    assert m.appear().plug["PRODUCT"].endswith("SN:11112222")


# ---- loops ----

@pytest.mark.parametrize("start", ["sahara", "firehose"])
def test_loop(modem, start):
    m = modem("loop=hard", "window_ms=100", "gap_ms=30", "start=" + start)
    for _ in range(4):
        m.appear().wait_gone()
    m.stop()
    # The end of the test, in the next window, is none of the ends.
    assert ("state programmer" in "\n".join(m.trace())) == (start == "firehose")
    boots, ends = ([int(line.split()[0]) / 1e6 for line in m.trace() if line.split(" ", 1)[1].startswith(words)]
                   for words in ("plug 05c6:9008", "power off reason=window"))
    assert len(boots) >= 4
    for boot, end in zip(boots, ends):
        assert 0.1 <= end - boot < PATIENCE
    for end, boot in zip(ends, boots[1:]):
        assert 0.03 <= boot - end < PATIENCE


def test_soft_loop_ends_with_a_programmer(modem):
    m = modem("loop=soft", "window_ms=1000", "gap_ms=30")
    m.appear().wait_gone()
    host = m.start_in_a_window()
    with pytest.raises(Silent):
        host.receive(0.5)
    assert host.command("nop")["value"] == "ACK"


def test_power_loss_tears_the_page_at_hand(modem):
    m = modem("loop=hard", "window_ms=1000")
    host = m.start_in_a_window()
    host.command("program", **host.address(TZ, 64))
    host.send(bytes(8192))
    host.wait_gone()
    m.stop()
    with Flash(m.flash) as f:
        assert (f.state(TZ), f.state(TZ + 1)) == (WRITTEN, UNREADABLE)


# ---- faults ----

def test_unplug_before_and_after_a_command(modem):
    m = modem("fault=unplug@command:2", "fault=unplug@done:4")
    host = m.appear().start_programmer()
    before = Snapshot.load(m.flash)
    with pytest.raises(Gone):
        host.erase(TZ, PPB)
    with Flash(m.flash) as f:
        assert compare_unchanged(f, before)
    host = m.appear().start_programmer()
    with pytest.raises(Gone):
        host.erase(TZ, PPB)
    with Flash(m.flash) as f:
        assert not f.states(77).count(WRITTEN)


def test_unplug_never_to_return(modem):
    m = modem("fault=unplug@byte:1", "replug_ms=-1")
    host = m.appear()
    host.send(b"x")
    host.wait_gone()
    with pytest.raises(Silent):
        m.appear(0.2)


def test_unplug_in_the_middle_of_a_transfer(modem):
    m = modem("fault=unplug@out:40+9000", "torn=no", "programmer_check=accept")
    host = m.appear().start_programmer()
    while host.sent < 38:
        host.command("nop")
    host.command("program", **host.address(TZ, 4))
    with pytest.raises(Gone):
        host.send(bytes(16384))
        host.response()
    m.stop()
    with Flash(m.flash) as f:
        assert f.states(77)[:3] == bytes([WRITTEN, WRITTEN, 0])  # the payload that was whole


def test_unplug_in_the_middle_of_an_in_transfer(modem):
    m = modem("fault=unplug@in:1+10")
    host = m.appear()
    host.poll()
    assert len(host.receive()) == 10
    host.wait_gone()


@pytest.mark.parametrize("point", ["in:1", "out:1", "command:1", "done:1"])
def test_hang(modem, point):
    m = modem(f"fault=hang@{point}")
    host = m.appear()

    def receive(timeout=PATIENCE, receive=host.receive):
        """What comes, or nothing once it hangs."""
        while True:
            try:
                return receive(0.2)
            except Silent:
                if any("fault hang" in line for line in m.trace()):
                    raise
    with pytest.raises(Silent):
        host.receive = receive
        host.start_programmer()


@pytest.mark.parametrize("point", ["command:2", "done:2"])
def test_nak(modem, point):
    host = modem(f"fault=nak@{point}").appear().start_programmer()
    assert host.erase(TZ, PPB)["value"] == "NAK"
    assert host.erase(TZ, PPB)["value"] == "ACK"


def test_faults_counted_by_kind_of_command(modem):
    host = modem("fault=nak@erase:2", "fault=nak@program:1").appear().start_programmer()
    answers = [host.erase(TZ, PPB)["value"], host.erase(TZ, PPB)["value"], host.erase(TZ, PPB)["value"],
               host.command("program", **host.address(TZ, 1))["value"]]
    assert answers == ["ACK", "NAK", "ACK", "NAK"]


def test_nak_in_the_middle_of_raw_data(modem):
    m = modem("start=firehose", "fault=nak@out:4")
    host = m.appear()
    host.poll()
    host.configure()
    host.command("program", **host.address(TZ, 8))
    host.send(bytes(8192))
    host.send(bytes(8192))
    assert host.response()["value"] == "NAK"


def test_garbage(modem):
    host = modem("start=firehose", "fault=garbage@command:1").appear()
    host.poll()
    host.send(b"<data><nop /></data>")
    assert host.receive() == b"\xa5" * 63


def test_faults_that_happen_always(modem):
    m = modem("fault=unplug@command:1", "fault_always=yes", "replug_ms=10")
    for _ in range(3):
        host = m.appear()
        host.upload(make_programmer())
        host.banner()
        host.send(b"<data><nop /></data>")
        host.wait_gone()


# ---- hosts that come and go ----

def test_the_host_goes_and_the_state_stays(modem):
    m = modem()
    host = m.appear().start_programmer()
    host.command("program", **host.address(TZ, 4))
    host.send(bytes(8192))
    host.close()
    host = m.appear()
    assert host.plug["PID"] == "9008"
    host.send(b"\1" * 8192)  # the rest of the raw data
    host.poll()
    assert host.response()["value"] == "ACK"
    m.stop()
    with Flash(m.flash) as f:
        assert f.page(TZ + 3) == b"\1" * 4096


def test_hello_is_not_said_again_to_the_next_host(modem):
    m = modem()
    host = m.appear()
    host.poll()
    host.packet()
    host.close()
    host = m.appear()
    host.poll()
    with pytest.raises(Silent):
        host.receive(0.1)


def test_clear_halt_and_port_reset(modem):
    m = modem("port_reset=restart")
    host = m.appear()
    host.poll()
    host.packet()
    host.control(b"H")
    host.control(b"R")
    host.wait_gone()
    host = m.appear()
    host.upload(make_programmer())


def test_given_descriptor(tmp_path):
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    flash = tmp_path / "flash"
    with its:
        process = subprocess.Popen([MODEM, "--fd", str(its.fileno()), "--flash", flash, "--new", "--blocks", "192"],
                                   pass_fds=[its.fileno()])
    host = Host(ours)
    host.start_programmer()
    host.close()
    assert process.wait(PATIENCE) == 0


def test_nobody_there(tmp_path):
    process = subprocess.Popen([MODEM, "--socket", tmp_path / "none", "--flash", tmp_path / "flash", "--new", "--blocks",
                                "192", "--set", "host_wait_ms=50"])
    assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("state", ["unpolled", "hello", "raw", "blocked"])
def test_sigterm_always_ends_it(modem, state):
    m = modem()
    host = m.appear()
    if state == "hello":
        host.poll()
    elif state == "raw":
        host.start_programmer()
        host.command("program", **host.address(TZ, 4))
    elif state == "blocked":
        host.start_programmer()
        host.send(b"<data><nop /></data>")
    m.process.send_signal(signal.SIGTERM)
    assert m.process.wait(PATIENCE) == 0


# ---- what a test does to its time ----

def state_of(m):
    return pathlib.Path(f"/proc/{m.process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def goes_on(m):
    wait_until(lambda: state_of(m) == "T")
    with pytest.raises(Silent):
        m.appear(0.3)
    m.process.send_signal(signal.SIGCONT)
    return m.appear()


def test_it_stops_where_it_is_gone(modem):
    m = modem("fault=stop@gone:2", "initial=working", "start=sahara", "boots=no", "reboot_ms=1")
    for _ in range(2):
        reset(m.appear().start_programmer())
    goes_on(m).start_programmer()
    assert not m.violations()


def test_it_stops_when_it_is_gone_next(modem):
    m = modem("initial=working", "start=sahara", "boots=no", "reboot_ms=1")
    host = m.appear().start_programmer()
    m.process.send_signal(signal.SIGUSR1)
    assert host.command("nop")["value"] == "ACK"
    reset(host)
    reset(goes_on(m).start_programmer())
    m.appear().start_programmer()  # once


@pytest.mark.parametrize("point, times", [("read:2", 2), ("power:1", 1)])
def test_it_stops_at_a_command(modem, point, times):
    m = modem("start=sahara", f"fault=stop@{point}")
    host = m.appear().start_programmer()
    for i in range(times):
        tag = point.split(":")[0]
        host.send(f'<?xml version="1.0" ?><data><{tag} value="reset"/></data>'.encode())  # as a read it is refused
        if i < times - 1:
            host.response()
    wait_until(lambda: state_of(m) == "T")
    with pytest.raises(Silent):
        host.response(0.1)
    m.process.send_signal(signal.SIGCONT)
    host.response()


def test_its_clock_goes_on_by_an_hour(modem):
    m = modem("initial=working", "boots=never-lasts", "normal_ms=3000000", "gap_ms=1000000", "reboot_ms=3000000")
    host = m.appear()
    assert is_normal(host)
    wait_until(lambda: " state normal " in "\n".join(m.trace()))
    m.process.send_signal(signal.SIGHUP)
    host.wait_gone()
    with pytest.raises(Silent):
        m.appear(0.3)
    m.process.send_signal(signal.SIGHUP)
    assert m.appear().plug["PID"] == "9008"


@pytest.mark.parametrize("arguments", [["--set", "nonsense=1"], ["--set", "loop=maybe"], ["--set", "fault=melt@in:1"],
                                       ["--set", "fault=nak@in:0"], ["--set", "fault=unplug@gone:1"], ["--blocks", "5", "--new"]])
def test_wrong_settings_are_refused(tmp_path, arguments):
    r = subprocess.run([MODEM, "--socket", "x", "--flash", tmp_path / "f", *arguments], capture_output=True, text=True)
    assert r.returncode == 2 and r.stderr.startswith("virtual-modem: ")


def test_every_setting_is_documented():
    readme = (HERE / "README.md").read_text()
    settings = subprocess.run([MODEM, "--settings"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(settings) > 60
    for line in settings:
        name, default, choices, _ = line.split("\t")
        row = [r for r in readme.splitlines() if r.startswith(f"| `{name}` |")]
        assert len(row) == 1, name
        assert (f"| `{default}` |" if default else f"| `{name}` | |") in row[0], (name, default)


# ---- the judge ----

@pytest.fixture
def package(tmp_path):
    target = tmp_path / "package"
    subprocess.run([sys.executable, HERE.parent / "package" / "make-package.py", "--out", target, "--small"], check=True)
    return target


def flash_it(host, package, areas):
    """In the order of flash rule 6, as a host should."""
    areas = sorted(areas, key=lambda a: a.first == 0)
    host.erase(0, 10 * PPB, last_sector=10 * PPB - 1)
    for a in areas:
        last = (a.first + a.blocks) * PPB - 1
        host.erase(a.first * PPB, a.blocks * PPB, last_sector=last)
        with open(a.file, "rb") as f:
            assert host.program(a.first * PPB, f.read(), last_sector=last)["value"] == "ACK"


@pytest.mark.parametrize("bad", ["", "2,79"])
def test_a_flashed_package(modem, package, bad):
    m = modem(f"bad={bad}", blocks=2048)
    host = m.appear()
    before = Snapshot.load(m.flash)
    host.start_programmer(next(package.rglob("prog_firehose*")).read_bytes())
    with Flash(m.flash) as f:
        flash_it(host, package, flash_tool.package_areas(package, f))
        verdict = compare_package(f, before, package)
        assert verdict, verdict
        assert not compare_unchanged(f, before)
    reset(host)
    assert is_normal(m.appear())
    assert m.stop() == 0
    assert not m.violations()
    assert "version=RM502QGLAAR11A02M4G_01.001.01.001" in "\n".join(m.trace())


def spoil_byte(host):
    data, _ = host.read(TZ, 5)
    host.program(TZ, data[:9999] + bytes([data[9999] ^ 1]) + data[10000:])


def spoil_tail(host):
    host.program(TZ + 3 * PPB, b"left over")


def spoil_efs(host):
    host.erase(21 * PPB, PPB)


def spoil_missing(host):
    host.erase(TZ, PPB)


def spoil_sec(host):
    host.program(88 * PPB, b"left over")


@pytest.mark.parametrize("spoil,message", [
    (spoil_byte, "differs from tz.mbn at byte 9999"), (spoil_tail, "TZ (block 80, page 0) is written and must be erased"),
    (spoil_efs, "EFS2 (block 21, page 0) was written and is erased"), (spoil_missing, "is erased, must have tz.mbn from byte 0"),
    (spoil_sec, "sec (block 88, page 0) is written and must be erased"),
])
def test_the_judge_sees_each_difference(modem, package, spoil, message):
    m = modem(blocks=2048)
    host = m.appear()
    before = Snapshot.load(m.flash)
    host.start_programmer()
    with Flash(m.flash) as f:
        flash_it(host, package, flash_tool.package_areas(package, f))
        assert compare_package(f, before, package)
        spoil(host)
        verdict = compare_package(f, before, package)
    assert not verdict and message in verdict.message


def test_judge_as_a_command(modem, tmp_path):
    m = modem()
    m.appear()
    m.stop()
    tool = [sys.executable, HERE / "flash.py", m.flash]
    shutil.copy(m.flash, tmp_path / "copy")
    subprocess.run([*tool, "--snapshot", tmp_path / "snap"], check=True)
    for before in ("copy", "snap"):
        assert subprocess.run([*tool, "--before", tmp_path / before], capture_output=True).returncode == 0
    with open(m.flash, "r+b") as f:
        f.seek(4096 + 20 * PPB)
        f.write(b"\0")
    r = subprocess.run([*tool, "--before", tmp_path / "snap"], capture_output=True, text=True)
    assert r.returncode == 1 and "EFS2 (block 20, page 0) was written and is erased" in r.stdout
    assert "EFS2" in subprocess.run(tool, capture_output=True, text=True, check=True).stdout
    subprocess.run([*tool, "--dump", "RAWDATA", tmp_path / "dump"], check=True)
    assert (tmp_path / "dump").read_bytes()[:0x1A] == bytes.fromhex("2404192025041920") + bytes(8) + b"RM502QGLAA"


def test_unit_data_of_a_fresh_flash_is_recognisable(modem):
    m = modem("serial=cafe0001")
    m.appear()
    with Flash(m.flash) as f:
        for name in ("EFS2", "sys_rev", "cust_info"):
            assert f.content(name).startswith(f"{name} of unit cafe0001, page 0".encode())
        pages = [f.page(p) for p in range(20 * PPB, 64 * PPB) if f.state(p) == WRITTEN]
        assert len(set(pages)) == len(pages) == 44 * 40


def test_mibib_crc_of_a_real_one():
    sample = HERE.parents[2] / "shared" / "data" / "eg25g" / "partition_complete_p2K_b128K.mbn"
    if not os.path.exists(sample):
        pytest.skip("no sample of a real package here")
    data = sample.read_bytes()
    assert flash_tool.mibib_crc(data[:4096]) == struct.unpack_from("<I", data, 3 * 2048 + 12)[0] == 0xDE5D6102
    names = [p.name for p in flash_tool.parse_table(data[2048:4096], 2048)]
    assert names[:3] == ["SBL", "MIBIB", "EFS2"] and names[-1] == "system"


def test_gadget_without_a_controller(tmp_path):
    """The port says what it lacks, and the modem does not outlive it."""
    r = subprocess.run([MODEM, "--flash", tmp_path / "flash", "--new", "--blocks", "24", "--gadget", "no-such-udc"],
                       capture_output=True, text=True, timeout=20)
    assert r.returncode == 1
    assert "gadget on no-such-udc: " in r.stderr
