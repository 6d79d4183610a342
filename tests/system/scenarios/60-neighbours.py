# SPDX-License-Identifier: LGPL-2.1-or-later
"""Beside what else looks at USB devices: the rules of other packages, ModemManager, libmtp."""

import grp
import pathlib
import pwd
import shutil
import time

from ring import VERSION, Modem, as_user, journal, library, run, scenario, wait

RULES = "/lib/udev/rules.d/60-qdld.rules"


def acl(path):
    """The lines of getfacl that give somebody access: {"user::rw-", "user:boss:rw-", …}."""
    return set(run("getfacl", "--omit-header", "--absolute-names", path).out.split())


def owner(path):
    st = path.stat()
    return pwd.getpwuid(st.st_uid).pw_name, grp.getgrgid(st.st_gid).gr_name, oct(st.st_mode & 0o7777)


def properties(modem):
    out = run("udevadm", "info", "--query=property", modem.device).out
    return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


class AtTheSeat:
    """boss has logged in at the console: the user to whom logind gives what is tagged uaccess."""

    def __enter__(self):
        run("systemd-run", "--unit=console-login", "--property=StandardInput=tty-force", "--property=StandardOutput=tty", "--property=TTYPath=/dev/tty1",
            "--property=TTYReset=yes", "--property=PAMName=login", "--property=User=boss", "--property=UtmpIdentifier=tty1", "--setenv=XDG_SEAT=seat0",
            "--setenv=XDG_VTNR=1", "sleep", "infinity")
        wait(lambda: "boss" in run("loginctl", "show-seat", "seat0", "--property=ActiveSession", "--value", code=None).out
             or "seat0" in run("loginctl", "--no-legend", "list-sessions").out, "a session at seat0")

    def __exit__(self, *_):
        run("systemctl", "stop", "console-login")


@scenario
def nobody_else_gets_the_node():
    """the rules of android-sdk and libmtp and a user at the seat: without our rules the node is theirs, with them root's and qdld's"""
    with AtTheSeat():
        run("systemctl", "stop", "qdld")
        shutil.move(RULES, "/run/ring/rules")
        try:
            run("udevadm", "control", "--reload")
            without = Modem()
            run("udevadm", "settle")
            assert owner(without.node())[1] == "plugdev", owner(without.node())
            assert "user:boss:rw-" in acl(without.node()), acl(without.node())
            assert "ID_MTP_DEVICE" in properties(without) or "adb_user" in properties(without), properties(without)
            without.unplug()
        finally:
            shutil.move("/run/ring/rules", RULES)
            run("udevadm", "control", "--reload")
        modem = Modem()
        run("udevadm", "settle")
        assert owner(modem.node()) == ("root", "qdld", "0o660"), owner(modem.node())
        assert acl(modem.node()) == {"user::rw-", "group::rw-", "other::---"}, acl(modem.node())
        has = properties(modem)
        assert has["ID_MM_DEVICE_IGNORE"] == "1" and has["MTP_NO_PROBE"] == "1" and not has.get("adb_user"), has
        for user in ("boss", "member", "outsider"):
            as_user(user, "test", "-r", modem.node(), code=1)
        assert (modem.device / "power/control").read_text() == "on\n"


@scenario
def serial_port_of_qcserial_is_not_dialouts():
    """before the service takes it away from qcserial, /dev/ttyUSB0 of a modem in 9008 is root's and qdld's, too"""
    run("systemctl", "stop", "qdld")
    run("modprobe", "qcserial")
    modem = Modem()
    tty = wait(lambda: next(modem.device.glob(f"{modem.kernel}:1.0/ttyUSB*"), None), "a serial port")
    run("udevadm", "settle")
    node = pathlib.Path("/dev") / tty.name
    assert owner(node) == ("root", "qdld", "0o660"), owner(node)


@scenario
def modemmanager_does_not_disturb():
    """ModemManager runs beside a whole flash: it never opens the modem in 9008"""
    run("systemctl", "start", "ModemManager")
    try:
        begun = time.time()
        modem = Modem()
        as_user("member", *modem.flash_command(), timeout=300)
        modem.expect_flashed()
        assert run("systemctl", "is-active", "ModemManager").out.strip() == "active"
        said = journal(begun, "-u", "ModemManager")
        assert "05c6" not in said and "9008" not in said, said
    finally:
        run("systemctl", "stop", "ModemManager")


@scenario
def mtp_probe_leaves_it_alone():
    """libmtp's probe, which opens unknown devices at every plug, is not started for a modem in 9008"""
    run("udevadm", "settle")  # of modems of before, which run and may be looked at
    begun = time.time()
    modem = Modem()
    run("udevadm", "settle")
    wait(modem.rows, "the modem in the list")
    said = journal(begun, "-t", "mtp-probe")
    assert said.strip() in ("", "-- No entries --"), said


@scenario
def foreign_device_is_left_alone():
    """a 05c6:9008 that is no Quectel's: shown, not a byte to it by itself, and a flash is refused before a programmer is sent"""
    modem = Modem("hwid=009600e100000000", "pkhash=" + "5a" * 32, "product_edl=QUSB_BULK_CID:0402_SN:%s" % "0badcafe")
    wait(modem.rows, "the device in the list")
    run("udevadm", "settle")
    assert "out transfer" not in modem.trace(), modem.trace()
    library()
    text = as_user("member", "qdlctl", "flash", modem.kernel, VERSION, "--yes", f"--modem-version={VERSION}", code=None)
    assert text.code not in (0, 4), text
    assert "state programmer" not in modem.trace()
    modem.expect_unchanged()
