# SPDX-License-Identifier: LGPL-2.1-or-later
"""The file system behind DIAG: EFS2 operations, and how it lives in the flash (reference/diag.md 2.5, 6.1)."""

import hashlib
import struct
import subprocess
import threading

import pytest

from diaghost import FTM, ONLINE, Diag, EfsError, Refused, is_silent, rfnv_path
from flash import ERASED, WRITTEN, Flash, Snapshot, compare_unchanged
from modemhost import MODEM, Gone

CREATE, TRUNCATE, EXCLUSIVE, APPEND, WRITE = 0o100, 0o1000, 0o200, 0o2000, 1
ITEM, AUTODIR = 0o1000000, 0o2000000
XML = "/policyman/carrier_policy.xml"
ITEM_FILE = "/nv/item_files/modem/mmode/lte_bandpref"
RFNV = [20000 + 80 * i for i in range(150)]
EFS2 = range(20, 64)


def again(d):
    """The same modem after a reset."""
    d.reset()
    found = Diag(d.modem.appear())
    found.modem = d.modem
    return found


def error_of(function, *arguments):
    with pytest.raises(EfsError) as e:
        function(*arguments)
    return e.value.number


# ---- reading ----

def test_hello_and_limits(diag):
    d = diag()
    hello = struct.pack("<10I", *[0x100000] * 6, 1, 1, 1, 0xFFFFFFFF)
    assert d.efs(0, hello) == hello
    name, path, *_ = struct.unpack("<6I", d.efs(1))
    assert 32 <= name <= path <= 1024
    assert struct.unpack_from("<4I", d.efs(21))[1:] == (192, 64, 4096)
    assert struct.unpack_from("<I", d.efs(19, b"/\0"))[0] == 0


@pytest.mark.parametrize("setting,answers", [("both", {0x13, 0x3E}), ("standard", {0x13}), ("alternate", {0x3E})])
def test_subsystems(diag, setting, answers):
    d = diag(f"efs_subsystem={setting}")
    found = set()
    for subsystem in (0x13, 0x3E):
        try:
            d.efs(0, bytes(40), subsystem)
            found.add(subsystem)
        except Refused as e:
            assert e.code == 0x13
    assert found == answers


def test_tree_walk_sees_all_but_rfnv(diag):
    d = diag()
    files = d.walk()
    assert XML in files and ITEM_FILE in files and len(files) == 26
    assert d.list("/nv/item_files/rfnv") == {}
    assert d.list("/nv")["reserved"][0] == 2
    kind, mode, size = d.list("/nv/item_files/modem/mmode")["lte_bandpref"]
    assert (kind, mode & 0o170000, size) == (15, 0o160000, 8)
    assert d.list("/policyman")["carrier_policy.xml"] == (0, 0o100644, 1900)


@pytest.mark.parametrize("setting,seen", [("none", 176), ("item-files", 5)])
def test_what_is_hidden(diag, setting, seen):
    assert len(diag(f"efs_hidden={setting}").walk()) == seen


def test_hidden_items_are_there_by_path(diag):
    d = diag()
    found = [item for item in range(20000, 32001, 40) if not is_missing(d, rfnv_path(item))]
    assert found == RFNV
    assert len({d.read_file(rfnv_path(i)) for i in RFNV[:20]}) == 20


def is_missing(d, path):
    try:
        d.close(d.open(path))
        return False
    except EfsError as e:
        assert e.number == 2
        return True


def test_read_stat_and_md5_agree(diag):
    d = diag()
    for path in (XML, ITEM_FILE, rfnv_path(20000)):
        data = d.read_file(path)
        assert len(data) == d.stat(path)[1] > 0
        assert d.md5(path) == hashlib.md5(data).hexdigest()
    assert d.md5("/rfc/rfc_overrides") == hashlib.md5(d.read_file("/rfc/rfc_overrides")).hexdigest()


def test_reads_are_short(diag):
    d = diag()
    fd = d.open(XML)
    assert len(d.read(fd, 5000, 0)) == 1024 and len(d.read(fd, 5000, 1024)) == 876 and d.read(fd, 100, 1900) == b""


def test_errors(diag):
    d = diag()
    assert error_of(d.open, "/nothing/here") == 2
    assert error_of(d.open, "relative") == 0x40000005
    assert error_of(d.open, "/" + "x" * 600) == 0x40000006
    assert error_of(d.open, "/policyman") == 21
    for look in (d.open, d.stat, d.md5):
        assert error_of(look, "/nv/item_files/modem/uim/simlock/perso_state") == 13
    assert error_of(d.read, 5, 10, 0) == 9 and error_of(d.close, -1) == 9
    assert error_of(d.list, XML) == 20 and error_of(d.list, "/none") == 2
    with pytest.raises(Refused) as e:
        d.efs(2, struct.pack("<II", 0, 0) + b"/no end")
    assert e.value.code == 0x15


def test_handles_are_few(diag):
    d = diag()
    for slot in range(4):
        assert struct.unpack("<II", d.efs(11, b"/\0")) == (slot + 1, 0)
    assert error_of(d.list, "/") == 0x40000007
    d.efs(13, struct.pack("<I", 2))
    d.list("/")
    for _ in range(8):
        d.open(XML)
    assert error_of(d.open, XML) == 0x40000009


def test_directories_are_read_in_order(diag):
    d = diag()
    dirp, _ = struct.unpack("<II", d.efs(11, b"/\0"))
    assert struct.unpack_from("<I", d.efs(12, struct.pack("<II", dirp, 2)), 8)[0] == 0x40000002
    assert struct.unpack_from("<I", d.efs(12, struct.pack("<II", 9, 1)), 8)[0] == 0x40000003


def test_links(diag):
    d = diag().offline()
    assert d.efs(7, b"/nv/reserved\0")[4:] == b"/nv/item_files\0"
    assert d.list("/nv/reserved") == d.list("/nv/item_files")
    d.path_operation(6, XML, "/link")
    assert d.read_file("/link") == d.read_file(XML)
    lstat = struct.unpack("<5I", d.efs(16, b"/link\0"))
    assert lstat[0] == 0 and lstat[1] & 0o170000 == 0o120000


@pytest.mark.parametrize("form", ["edl", "qf"])
def test_get(diag, form):
    d = diag(f"efs_get={form}")
    path = ITEM_FILE.encode() + b"\0"
    data = d.read_file(ITEM_FILE)
    if form == "edl":
        answer = d.efs(39, struct.pack("<IIH", 100, len(path), 9) + path)
        assert answer == struct.pack("<IIH", len(data), 0, 9) + data
    else:
        assert d.efs(39, path) == struct.pack("<II", len(data), 0) + data
    d = diag("efs_md5=no")
    for operation in (39, 43):
        with pytest.raises(Refused):
            d.efs(operation, struct.pack("<H", 1) + path)


# ---- writing ----

def test_writes_need_offline(diag):
    d = diag()
    for write in (lambda: d.open(XML, WRITE), lambda: d.open("/new", CREATE), lambda: d.put("/new", b"1"), lambda: d.unlink(XML),
                  lambda: d.mkdir("/d")):
        with pytest.raises(Refused) as e:
            write()
        assert e.value.code == 0x18
    d.open(XML)


def test_write_and_read_back(diag):
    d = diag().offline()
    data = bytes(i * 7 & 0xFF for i in range(5000))
    d.mkdir("/made")
    d.write_file("/made/file", data)
    d.put("/nv/item_files/deep/er/item", data[:6144])
    assert d.read_file("/made/file") == d.read_file("/nv/item_files/deep/er/item") == data
    assert d.list("/nv/item_files/deep/er") == {"item": (15, 0o160777, 5000)}
    assert d.stat("/made/file")[0] & 0o170000 == 0o100000
    d.put("/made/file", b"short", flags=WRITE | TRUNCATE)
    assert d.read_file("/made/file") == b"short"
    d.unlink("/made/file")
    assert d.list("/made") == {}
    assert not d.modem.violations()


def test_open_flags(diag):
    d = diag().offline()
    assert error_of(d.open, "/no/parent", WRITE | CREATE) == 2
    d.close(d.open("/auto/dir", WRITE | CREATE | AUTODIR, 0o644))
    assert error_of(d.open, "/auto/dir", WRITE | CREATE | EXCLUSIVE) == 17
    fd = d.open("/auto/dir", WRITE | APPEND)
    d.write(fd, 0, b"one")
    d.write(fd, 0, b"two")
    assert d.read_file("/auto/dir") == b"onetwo"
    assert error_of(d.write, d.open("/auto/dir"), 0, b"read only") == 9
    fd = d.open("/auto/dir", WRITE | TRUNCATE)
    d.write(fd, 3, b"x")
    assert d.read_file("/auto/dir") == b"\0\0\0x"
    assert error_of(d.mkdir, "/auto") == 17 and error_of(d.unlink, "/auto") == 21
    d.path_operation(14, "/auto/dir", "/auto/other")
    assert list(d.list("/auto")) == ["other"] and d.read_file("/auto/other") == b"\0\0\0x"


def test_too_much_at_once(diag):
    d = diag().offline()
    with pytest.raises(Refused):
        d.put("/big", bytes(6145))
    fd = d.open("/big", WRITE | CREATE)
    with pytest.raises(Refused):
        d.write(fd, 0, bytes(1025))


def test_operations_that_no_careful_host_sends(diag):
    d = diag().offline()
    for operation in (10, 22, 23, 25, 37, 44, 45, 53):
        with pytest.raises(Refused):
            d.efs(operation, b"/\0")
    assert len(d.modem.violations()) == 8
    assert is_silent(d, struct.pack("<BBH", 0x4B, 0x13, 26) + bytes(20))
    assert is_silent(d, b"\x7c")


def test_open_that_crashes(diag):
    d = diag().offline()
    with pytest.raises(Gone):
        d.open("/nv/item_files/new", WRITE | CREATE | ITEM | AUTODIR)
    assert d.modem.appear().plug["INTERFACES"] == "1"
    d = diag("efs_open_autodir=ok").offline()
    d.open("/nv/item_files/new/item", WRITE | CREATE | ITEM | AUTODIR)


# ---- sync and power ----

def test_what_was_synced_or_reset_survives(diag):
    d = diag("efs_sync_ms=1").offline()
    d.write_file("/synced", b"1")
    d.sync()
    d.write_file("/reset", b"2")
    d = again(d)
    assert d.read_file("/synced") == b"1" and d.read_file("/reset") == b"2"
    assert d.mode() == ONLINE


def test_what_was_not_synced_is_lost_with_the_power(diag):
    d = diag("efs_sync_ms=0", "fault=unplug@out:40").offline()
    d.write_file("/synced", b"1")
    d.sync()
    d.write_file("/lost", b"2")
    assert d.read_file("/lost") == b"2"
    with pytest.raises(Gone):
        while True:
            d.mode()
    d2 = Diag(d.modem.appear())
    assert d2.read_file("/synced") == b"1"
    assert error_of(d2.open, "/lost") == 2


def test_sync_takes_its_time(diag):
    assert diag("efs_sync_ms=100").sync() > 1


def test_journal_fills_until_a_sync(diag):
    d = diag("efs_journal=20", "efs_sync_ms=0").offline()
    with pytest.raises(EfsError) as e:
        for i in range(100):
            d.put(f"/nv/item_files/many_{i}", b"x")
    assert e.value.number == 28
    d.sync()
    d.put("/nv/item_files/many_after", b"x")


# ---- in the flash ----

def erase_and_reset(m, d, blocks, page=4096):
    """Erases blocks over EDL and boots again."""
    d.ask(bytes.fromhex("4b650100"))
    d.host.wait_gone()
    host = m.appear().start_programmer()
    for b in blocks:
        host.erase(b * 64, 64)
    host.command("power", value="reset")
    host.wait_gone()
    return Diag(m.appear())


def contents(d):
    """All that a careful backup would have."""
    items = {(i, n): d.nv_read(i, n) for n in range(3) for i in list(range(0, 7166, 5)) + [550, 453, 447] if i != 3252}
    files = {path: d.read_file(path) for path in list(d.walk()) + [rfnv_path(i) for i in RFNV] if "perso" not in path}
    return items, files


@pytest.mark.parametrize("blocks", [EFS2, [20], [41], [63]])
def test_an_erased_efs2_is_a_lost_calibration_and_putting_it_back_ends_it(diag, blocks):
    d = diag()
    imei = d.imei()
    with Flash(d.modem.flash) as f:
        kept = {b: f.raw(b)[1] for b in blocks}
    d2 = erase_and_reset(d.modem, d, blocks)
    assert d2.mode() == FTM and d2.imei() is None
    assert error_of(d2.open, rfnv_path(20000)) == 2
    assert d2.version() == "RM502QGLAAR05A03M4G"
    d2.ask(bytes.fromhex("4b650100"))
    d2.host.wait_gone()
    host = d.modem.appear().start_programmer()
    for b, data in kept.items():
        assert host.program(b * 64, data)["value"] == "ACK"
    host.command("power", value="reset")
    host.wait_gone()
    d3 = Diag(d.modem.appear())
    assert d3.mode() == ONLINE and d3.imei() == imei
    assert not d.modem.violations()


def test_pages_in_another_place_are_none(diag):
    """Everything is there, but two blocks have changed places."""
    d = diag()
    with Flash(d.modem.flash) as f:
        first, second = f.raw(21)[1], f.raw(22)[1]
    d.ask(bytes.fromhex("4b650100"))
    d.host.wait_gone()
    host = d.modem.appear().start_programmer()
    host.erase(21 * 64, 128)
    host.program(21 * 64, second)
    host.program(22 * 64, first)
    host.command("power", value="reset")
    host.wait_gone()
    assert Diag(d.modem.appear()).mode() == FTM


def test_an_altered_byte_is_a_lost_calibration(diag):
    d = diag()
    with Flash(d.modem.flash) as f:
        data = bytearray(f.raw(30)[1])
    data[5 * 4096 + 2000] ^= 4
    d.ask(bytes.fromhex("4b650100"))
    d.host.wait_gone()
    host = d.modem.appear().start_programmer()
    host.erase(30 * 64, 64)
    host.program(30 * 64, bytes(data))
    host.command("power", value="reset")
    host.wait_gone()
    assert Diag(d.modem.appear()).mode() == FTM


def test_a_lost_file_system_is_formatted_when_it_boots(diag):
    d = diag("efs_lost=format")
    assert erase_and_reset(d.modem, d, [20]).mode() == FTM
    with Flash(d.modem.flash) as f:
        assert [f.states(b).count(WRITTEN) for b in EFS2] == [1] + [0] * 43


def test_restore_by_diag_ends_factory_test_mode(diag):
    d = diag("efs_sync_ms=0")
    m = d.modem
    items, files = contents(d)
    d = erase_and_reset(m, d, EFS2)
    assert d.mode() == FTM
    d.offline()
    for (item, index), (status, data) in items.items():
        if status == 0 and item:
            assert d.nv_write(item, data, index) == 0, (item, index)
    for path, data in files.items():
        d.put(path, data, flags=0o101 | 0o2000000 | (ITEM if path.startswith("/nv/item_files") else 0))
    assert d.sync() == 1
    d.reset()
    d = Diag(m.appear())
    assert d.mode() == ONLINE
    assert contents(d) == (items, files)
    assert not m.violations()


def test_half_of_rfnv_is_not_enough(diag):
    d = diag("calibration=partial").offline()
    for item in RFNV[1::4]:
        d.put(rfnv_path(item), b"calibration")
    d = again(d)
    assert d.mode() == ONLINE
    d.offline().unlink(rfnv_path(RFNV[0]))
    assert again(d).mode() == FTM


def test_writes_append_to_erased_pages(diag):
    d = diag("efs_sync_ms=0").offline()
    before = Snapshot.load(d.modem.flash)
    with Flash(d.modem.flash) as f:
        were = {b: f.states(b) for b in range(f.blocks)}
    d.put("/new", bytes(3000))
    d.put("/another", bytes(6000))
    d.sync()
    with Flash(d.modem.flash) as f:
        assert not compare_unchanged(f, before)
        changed = {b: f.states(b) for b in range(f.blocks) if f.states(b) != were[b]}
        assert set(changed) <= set(EFS2)
        for b, states in changed.items():
            assert states[:40] == were[b][:40] and states[40] == WRITTEN
            assert f.page(b * 64 + 40).startswith(f"EFS2 of unit 49cbd7ef, page {(b - 20) * 64 + 40}".encode())
        assert sum(states.count(WRITTEN) - 40 for states in changed.values()) == 3
    assert not d.modem.violations()


def test_it_goes_on_when_the_log_is_full(diag):
    """More changes than there are erased pages: blocks are freed by the rules of NAND, and nothing is lost."""
    d = diag("efs_sync_ms=0").offline()
    for i in range(1500):
        d.put("/nv/item_files/churn", struct.pack("<I", i) * 1500)
    d.put("/last", b"word")
    imei = d.imei()
    d = again(d)
    assert "compacts" in "\n".join(d.modem.trace())
    assert d.mode() == ONLINE and d.imei() == imei and d.read_file("/last") == b"word"
    assert d.read_file("/nv/item_files/churn") == struct.pack("<I", 1499) * 1500
    assert not d.modem.violations()


def test_bad_blocks_in_efs2(diag):
    d = diag("bad=20,30,63", "efs_sync_ms=0").offline()
    assert d.imei()
    d.put("/new", b"1")
    d = again(d)
    assert d.mode() == ONLINE and d.read_file("/new") == b"1"
    assert not d.modem.violations()


def test_a_block_that_goes_bad_while_it_is_written(diag):
    d = diag("fail_program=63", "efs_sync_ms=0").offline()
    d.put("/new", bytes(6000))
    d = again(d)
    assert d.mode() == ONLINE and d.read_file("/new") == bytes(6000)
    with Flash(d.modem.flash) as f:
        assert f.is_bad(63)


def test_large_files(diag):
    d = diag("efs_large_kib=4096")
    large = {p: s for p, s in d.walk().items() if "mbn_sw" in p}
    assert sum(large.values()) == 4096 * 1024
    path = max(large, key=large.get)
    data = d.read_file(path)
    assert len(data) == large[path] and d.md5(path) == hashlib.md5(data).hexdigest()
    assert d.mode() == ONLINE


def test_more_than_it_holds(tmp_path):
    r = subprocess.run([MODEM, "--flash", tmp_path / "f", "--make-flash", "--blocks", "192", "--set", "efs_large_kib=20000"],
                       capture_output=True, text=True)
    assert r.returncode == 1 and "No space left" in r.stderr


@pytest.mark.parametrize("settings,blocks", [(["geometry=p2K_b128K"], 192), ([], 16), ([], 2048), (["geometry=p2K_b128K"], 16)])
def test_other_chips(diag, settings, blocks):
    d = diag(*settings, blocks=blocks)
    assert d.mode() == ONLINE and d.imei() and d.read_file(rfnv_path(20000))
    assert d.offline().nv_write(10, b"x") == 0
    assert again(d).nv_read(10)[1][:1] == b"x"
    assert not d.modem.violations()


def test_erased_pages_stay_erased(diag):
    d = diag()
    with Flash(d.modem.flash) as f:
        assert all(f.states(b)[40:] == bytes([ERASED]) * 24 for b in EFS2)


def test_a_firmware_that_writes_while_it_is_online(diag):
    d = diag("efs_activity=3")
    for _ in range(3):
        d.mode()
    first = d.read_file("/data/counters")
    for _ in range(3):
        d.mode()
    assert d.read_file("/data/counters") != first
    d.control(5)
    kept = d.read_file("/data/counters")
    for _ in range(6):
        d.mode()
    assert d.read_file("/data/counters") == kept


def test_a_flash_that_changes_while_it_boots(diag):
    """A test may write into the flash file at any time: what is read then is no file system, and no crash."""
    d = diag()
    with open(d.modem.flash, "r+b") as f:
        with Flash(d.modem.flash) as flash:
            heads = [flash.data_offset + (63 * 64 + page) * 4096 + 64 for page in range(40)]
        stop = threading.Event()

        def scribble():
            while not stop.is_set():
                for at in heads:
                    f.seek(at + 20)
                    word = f.read(4)
                    f.seek(at + 20)
                    f.write(b"\xff\xff\xff\x7f")
                    f.flush()
                    f.seek(at + 20)
                    f.write(word)
                    f.flush()
        writer = threading.Thread(target=scribble)
        writer.start()
        try:
            for _ in range(60):
                d = again(d)
        finally:
            stop.set()
            writer.join()
    assert again(d).mode() == ONLINE
