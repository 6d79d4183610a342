# SPDX-License-Identifier: LGPL-2.1-or-later
"""The modem that still runs: saved unasked, flashed from where it is, its calibration lost and put back, its ways into 9008. Not among the last files: the
last scenario is by far the longest, and another VM does the others meanwhile."""

import contextlib
import itertools
import json
import pathlib
import re
import time

from ring import VERSION, WORK, Background, Modem, as_user, firmware, journal, run, scenario, settings, wait

BEFORE = "RM502QGLAAR05A02M4G"
AFTER = VERSION.split("_")[0]
IMEI = "490154203237518"
OTHER_IMEI = "356938035643809"
POLICY_UID = 4294967295
# All of a calibration is twenty thousand questions; each takes milliseconds under emulation.
LONG = 900


def running(*settings, usbip=False, **options):
    """A healthy one with a single SIM, so that a third of the questions is enough. usbip: as for Modem, where a question costs twice as much."""
    modem = Modem("initial=working", f"version={BEFORE}", "nv_contexts=1", "sahara_reset=reboot", *settings, usbip=usbip, **options)
    if modem.process:
        wait(modem.rows, "the modem in the list")
    return modem


def status(modem):
    return as_user("member", "qdlctl", "status", modem.kernel).out


def saved(modem):
    """The calibration that was saved without being asked for, once it is."""
    def found():
        listed = json.loads(run("qdlctl", "backups", "--json=short").out)
        return [b for b in listed if b["Kind"] == "xqcn" and b["OwnerUid"] == POLICY_UID and b["CreatedTime"] > modem.born * 1e6]
    return wait(found, "the calibration in the store", LONG)[0]


@contextlib.contextmanager
def file_of(path, text, *heard):
    """The administrator has written it and has it read by this command; and takes it back."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    try:
        run(*heard)
        yield
    finally:
        path.unlink()
        run(*heard)


def nothing_unasked():
    """The service asks who it is, and saves nothing by itself."""
    return settings("[Backup]\nAutomatic=no\n")


# ---- beside ModemManager ----

def in_modemmanager(modem):
    """What ModemManager says of it, or None: the object's path and the firmware it read."""
    listed = run("mmcli", "-L", "-J", code=None).out
    for path in json.loads(listed)["modem-list"] if listed else []:
        told = run("mmcli", "-m", path, "-J", code=None).out
        generic = json.loads(told)["modem"]["generic"] if told else {}
        if generic.get("device", "").endswith("/" + modem.kernel):
            return path, generic["revision"]
    return None


@contextlib.contextmanager
def modemmanager():
    """Running, and not waiting 45 s for the network's control channel, where nobody is."""
    with file_of("/run/modprobe.d/no-network.conf", "blacklist qmi_wwan\n", "systemctl", "restart", "systemd-udevd"):
        run("modprobe", "-r", "qmi_wwan")
        run("systemctl", "start", "ModemManager")
        try:
            yield
        finally:
            run("systemctl", "stop", "ModemManager")


@scenario
def running_modem_is_flashed_beside_modemmanager():
    """from SuperSpeed to 9008 at USB 2 and back in one command, with its calibration as it was; ModemManager has it before, lets go, has it again"""
    with nothing_unasked(), modemmanager():
        begun = time.time()
        modem = running("max_packet_normal=1024", usbip=True)
        had = wait(lambda: in_modemmanager(modem), "the modem in ModemManager")
        assert had[1] == BEFORE, had
        # That the service has asked who it is has not taken it from ModemManager.
        wait(lambda: BEFORE in status(modem), "who it is")
        assert in_modemmanager(modem) == had and "nhibit" not in journal(begun, "-u", "ModemManager"), journal(begun, "-u", "ModemManager")
        superspeed = modem.kernel
        command = Background("member", "qdlctl", "flash", superspeed, firmware(), "--yes")
        wait(lambda: modem.id() == "05c6:9008", "9008")
        assert modem.kernel != superspeed and "/Modem/" not in run("mmcli", "-L", code=None).out
        said = command.end(timeout=300)
        modem.expect_flashed()
        assert modem.kernel == superspeed and AFTER in said, said
        assert wait(lambda: in_modemmanager(modem), "the modem in ModemManager again")[1] == VERSION
        heard = journal(begun, "-u", "ModemManager", "-u", "qdld")
        assert heard.index("device inhibition setup") < heard.index("05c6:9008 appeared"), heard
        # Not before it was asked what it runs now.
        assert heard.index("device inhibition teardown") > heard.rindex("2c7c:0800 appeared"), heard
        text = status(modem)
        assert AFTER in text and "this very unit" in text and "factory test" not in text, text


@scenario
def into_9008_and_back():
    """qdlctl enter-edl from normal mode, in the middle of being saved unasked, and from a crash dump that is 2c7c:0800; qdlctl reset brings both back"""
    modems = [running(), running("start=crash-dump")]
    modems[0].wait_trace(r"diag request=200 ")
    for modem in modems:
        as_user("member", "qdlctl", "enter-edl", modem.kernel)
        assert modem.id() == "05c6:9008"
        text = status(modem)
        assert modem.serial in text and "Held: yes" in text, text
        as_user("member", "qdlctl", "reset", modem.kernel)
        wait(lambda: modem.id() == "2c7c:0800", "normal mode")
        modem.expect_no_programmer()
        modem.expect_unchanged()


# ---- files of others ----

def imei_item(imei):
    """NV 550 of an XQCN: its record (reference/diag.md 3 and 4.1); blank without one."""
    digits = "A" + imei if imei else ""
    value = bytes.fromhex("08" + "".join(b + a for a, b in zip(digits[::2], digits[1::2])))
    return bytes.fromhex("8800010026020000") + (value if imei else b"").ljust(128, b"\0")


def xqcn(imei):
    """As small as one can be that says whose it is."""
    def stream(name, value):
        return f"<Stream Length='{len(value)}' Name='{name}' Value='{value.hex(' ').upper()}'/>"
    version = BEFORE.encode() + b"\0"
    properties = bytes(8) + b"\x01\x00\x41\x00" + len(version).to_bytes(2, "little") + version
    return ("<?xml version='1.0' encoding='Windows-1252' ?>\n<Storage Name='x.xqcn'><Storage Name='00000186'><Storage Name='default'>"
            f"<Storage Name='NV_NUMBERED_ITEMS'>{stream('NV_ITEM_ARRAY', imei_item(imei))}</Storage>{stream('Mobile_Property_Info', properties)}"
            f"</Storage></Storage>{stream('File_Version', bytes([2, 0, 0, 0, 0, 0]))}</Storage>\n").encode()


HOSTILE = {
    "foreign": (xqcn(OTHER_IMEI), "WrongUnit: the backup is of another unit: its IMEI is not this modem's"),
    "generic": (xqcn(""), "WrongUnit: the backup holds no IMEI"),
    "truncated": (xqcn(IMEI)[:600], "BackupDamaged: this is no XQCN: line"),
    "large": (b"A" * 100000000, "BackupDamaged: this is no XQCN: line 1"),
    "length": (xqcn(IMEI).replace(b"Length='6' ", b"Length='7' "), "the Length of File_Version is 7, and its Value has 6 bytes"),
    "deep": (xqcn(IMEI).replace(b"<Storage Name='NV", b"<Storage Name='x'>" * 1000 + b"<Storage Name='NV"), "more than 8 Storages in each other"),
    "entities": (b"<!DOCTYPE Storage [<!ENTITY a SYSTEM 'file:///etc/shadow'>]>\n<Storage Name='&a;'/>", "BackupDamaged: this is no XQCN: line 1, column"),
    "qpst": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000), "this is a QCN (an OLE2 file) and not an XQCN"),
}


@scenario
def files_of_others_are_refused():
    """qdlctl restore FILE by a member: another unit's, nobody's, a cut one, 100 MB, a wrong Length, a thousand in each other, entities, QPST's older
    form: refused with the reason"""
    with nothing_unasked():
        modem = running(f"imei={IMEI}")
        for name, (content, reason) in HOSTILE.items():
            file = WORK / f"{name}.xqcn"
            file.write_bytes(content)
            said = as_user("member", "qdlctl", "--yes", "restore", modem.kernel, file, code=None)
            file.unlink()
            assert said.code not in (0, 4) and reason in said.err, f"{name}: {said}"
        assert not re.search(r"command=0x2[79]\b", modem.trace()), "it was written to, or its mode changed"
        modem.expect_unchanged()


# ---- all of it ----

@scenario
def calibration_is_saved_lost_and_put_back():
    """nobody asks: unplugged at one of its first exchanges after another and in the middle, its calibration is saved whole in the end; qdlctl flash saves
    it again, brings it to 9008, flashes it, and it is what it was; without its EFS2 status names what fits and the command, and the command does it"""
    modem = running(f"imei={IMEI}", plug=False)
    # At the first of its first appearance, at the second of its second, and so on: to be asked who it is, and then what is saved.
    at = list(itertools.accumulate([*range(1, 21), 3000]))
    modem.plug(*(f"fault=unplug@diag:{n}" for n in at), "replug_ms=500")
    backup = saved(modem)
    trace = modem.trace()
    assert all(f"fault unplug@diag:{n}+" in trace for n in at), [n for n in at if f"fault unplug@diag:{n}+" not in trace]
    assert not re.search(r"command=0x2[79]\b", trace), "it was written to, or its mode changed"
    modem.expect_unchanged()

    said = as_user("member", "qdlctl", "flash", modem.kernel, firmware(), "--yes", timeout=LONG).out
    assert AFTER in said, said
    modem.expect_flashed()

    modem.unplug()
    modem.blocks = 192  # a file system that is put back file by file wants room
    modem.make_flash("calibration=erased")
    modem.plug()
    wait(modem.rows, "the modem in the list")
    text = wait(lambda: (t := status(modem)) and "factory test mode" in t and t, "factory test mode in its status")
    command = re.search(r"To leave it: qdlctl (restore \S+ (\S+))", text)
    fits = [b["path"] for b in json.loads(run("qdlctl", "backups", "--json=short").out) if b["Kind"] == "xqcn" and b["CreatedTime"] >= backup["CreatedTime"]]
    assert command and any(command.group(2)[1:] in path for path in fits), text
    as_user("member", "qdlctl", "--yes", *command.group(1).split(), timeout=LONG)
    text = status(modem)
    assert "factory test" not in text, text
    assert modem.id() == "2c7c:0800"
    modem.expect_no_violation()
    assert IMEI not in run("journalctl", "--no-pager").out
