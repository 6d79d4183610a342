# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may do what: the actions as shipped against the table in bouncer.c, their texts against what the service tells polkit, the
rules by the engine that polkitd has, and the bus policy on a bus that is configured as Debian's."""

import json
import os
import pathlib
import pwd
import re
import shutil
import struct
import subprocess
import tempfile
from xml.etree import ElementTree

import dbus
import dbus.bus
import pytest
from conftest import BUILD, JOB, MODEM, NAME, ROOT, TOP, Service
from test_api import HONEST, backed_up, every_method, imported
from test_hostile import RawClient

POLICY = ElementTree.parse(TOP / "dbus" / "org.qdld1.policy").getroot()
ACTIONS = {a.get("id").removeprefix("org.qdld1."): a for a in POLICY.findall("action")}
KEEP, ADMIN, YES = "auth_admin_keep", "auth_admin", "yes"
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root to act as a second user")

# What an active user may; inactive and remote ones are always asked for an administrator's password.
ACTIVE = {"identify": YES, "catch": YES, "reset": YES, "inhibit": YES,
          "restore": ADMIN, "export-backup": ADMIN, "export-backup-other": ADMIN, "force": ADMIN,
          "enter-edl": KEEP, "flash": KEEP, "backup": KEEP, "set-policy": KEEP, "import": KEEP, "cancel-other": KEEP, "manage": KEEP}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """{(interface, method): (action, milder action)}, None for free, as the service has it."""
    directory = tmp_path_factory.mktemp("table")
    (directory / "print.c").write_text('#include "service/bouncer.h"\nint main(void)\n{\n    bouncer_print_table(stdout);\n    return 0;\n}\n')
    libraries = subprocess.run(["pkg-config", "--libs", "libsystemd", "libudev", "inih"], capture_output=True, text=True, check=True)
    subprocess.run(["cc", "-D_GNU_SOURCE", f"-I{TOP / 'daemon'}", "-o", directory / "print", directory / "print.c", BUILD / "libservice.a",
                    BUILD / "liblink.a", BUILD / "libbase.a", *libraries.stdout.split()], check=True)
    lines = subprocess.run([directory / "print"], capture_output=True, text=True, check=True).stdout.split("\n")
    rows = [line.split() for line in lines if line]
    return {(r[0], r[1]): tuple(None if a == "-" else a for a in r[2:]) for r in rows}


# ---- the actions ----

def test_every_action_of_the_table_is_shipped(table):
    used = {a for row in table.values() for a in row if a}
    assert used and used | {"force"} <= set(ACTIONS)


def test_defaults_are_those_of_the_interface():
    assert set(ACTIONS) == set(ACTIVE)
    for name, action in ACTIONS.items():
        assert action.findtext("defaults/allow_active") == ACTIVE[name], name
        assert action.findtext("defaults/allow_inactive") == ADMIN and action.findtext("defaults/allow_any") == ADMIN, name


def test_the_service_owns_its_actions():
    """polkitd takes a question about another user, and details, from root and from an action's owner only."""
    user = re.search(r"^User=(.*)$", (TOP / "systemd" / "qdld.service.in").read_text(), re.M).group(1)
    for name, action in ACTIONS.items():
        owners = [a.text for a in action.findall("annotate") if a.get("key") == "org.freedesktop.policykit.owner"]
        assert owners == ["unix-user:" + user], name


def test_what_is_implied_is_less():
    """An authorisation that lasts must not bring one that never does, nor one that an administrator would be asked for anew."""
    order = [YES, KEEP, ADMIN]
    seen = 0
    for name, action in ACTIONS.items():
        for annotation in action.findall("annotate"):
            if annotation.get("key") == "org.freedesktop.policykit.imply":
                for implied in annotation.text.split():
                    seen += 1
                    assert order.index(ACTIVE[implied.removeprefix("org.qdld1.")]) <= order.index(ACTIVE[name]), (name, implied)
                    assert implied not in ("org.qdld1.force", "org.qdld1.manage")
    assert seen


def test_texts_are_there():
    for name, action in ACTIONS.items():
        message, description = action.findtext("message"), action.findtext("description")
        assert message.startswith("Authentication is required to ") and message.endswith("."), name
        assert description and not description.endswith(".") and "$" not in description, name


# ---- the texts, filled in ----

# polkitd's part: writes down what it is asked, and says yes to what it was started with.
AUTHORITY = """
import json, sys
import dbus, dbus.bus, dbus.service
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib
DBusGMainLoop(set_as_default=True)
bus = dbus.bus.BusConnection(sys.argv[1])
class Authority(dbus.service.Object):
    @dbus.service.method("org.freedesktop.PolicyKit1.Authority", in_signature="(sa{sv})sa{ss}us", out_signature="(bba{ss})")
    def CheckAuthorization(self, subject, action, details, flags, cancellation):
        print(json.dumps([action, details]), flush=True)
        return (action in sys.argv[2:], False, {})
Authority(bus, "/org/freedesktop/PolicyKit1/Authority")
bus.request_name("org.freedesktop.PolicyKit1")
print("ready", flush=True)
GLib.MainLoop().run()
"""

# As nobody: [[path, interface, method, [arguments], {options}]]; "fd" is a descriptor, "/…" an object path.
CALLER = """
import json, sys
import dbus, dbus.bus
bus = dbus.bus.BusConnection(sys.argv[1])
f = open(sys.argv[2], "rb")
for path, interface, method, arguments, options in json.load(sys.stdin):
    given = [dbus.types.UnixFd(f.fileno()) if a == "fd" else dbus.ObjectPath(a) if a.startswith("/") else a for a in arguments]
    options = dbus.Dictionary({k: v if isinstance(v, bool) else dbus.Array(v, signature="s") for k, v in options.items()}, signature="sv")
    try:
        bus.get_object("org.qdld1", path, introspect=False).get_dbus_method(method, interface)(*given, options, timeout=20)
        print(json.dumps([method, None, ""]))
    except dbus.exceptions.DBusException as e:
        print(json.dumps([method, e.get_dbus_name(), e.get_dbus_message()]))
"""


def as_nobody(address, calls, file):
    result = subprocess.run([*NOBODY, "/usr/bin/python3", "-c", CALLER, address, file], input=json.dumps(calls), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


class Authority:
    """A polkitd that says yes to these actions."""

    def __init__(self, address, *allowed):
        self.process = subprocess.Popen(["/usr/bin/python3", "-c", AUTHORITY, address, *["org.qdld1." + a for a in allowed]],
                                        stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def asked(self):
        """[(action, details)], and its end."""
        self.process.terminate()
        return [(a.removeprefix("org.qdld1."), d) for a, d in map(json.loads, self.process.communicate(timeout=10)[0].splitlines())]


def filled(action, details):
    """The text as polkitd shows it."""
    return re.sub(r"\$\(([a-z]+)\)", lambda m: details.get(m.group(1)) or m.group(0), ACTIONS[action].findtext("message"))


@pytest.fixture
def scene(new_service, forge, plug, tmp_path):
    """A service with one of everything; (service, modem, firmware, backup, job)."""
    service = new_service().start(worker=forge(HONEST))
    plug(service)
    # Where nobody reaches it.
    with tempfile.NamedTemporaryFile() as archive:
        os.chmod(archive.name, 0o644)
        archive.write(b"content")
        archive.flush()
        firmware = imported(service, archive.name)
        backup = backed_up(service, tmp_path)
        yield service, service.modem(), firmware, backup, service.paths(JOB)[0], archive.name


def plain(argument):
    return "fd" if isinstance(argument, dbus.types.UnixFd) else str(argument)


@needs_root
def test_texts_say_what_they_are_about(scene, bus_address, table):
    """Every method that needs an authorisation tells polkit all that the text of its action uses."""
    service, modem, firmware, backup, job, archive = scene
    with open(archive) as f:
        methods = every_method(service, f.fileno(), modem, firmware, backup, job)
    calls = [[path, interface, method, [plain(a) for a in arguments], {"all": True} if method == "GetHistory" else {}] for path, interface, method, arguments in methods
             if table[(interface, method)][0] and table[(interface, method)] != (None, None)]
    assert {(c[1], c[2]) for c in calls} == {k for k, v in table.items() if v[0]}
    authority = Authority(bus_address)
    answers = as_nobody(bus_address, calls, archive)
    asked = authority.asked()
    assert [a[1] for a in answers] == ["org.freedesktop.DBus.Error.AccessDenied"] * len(calls), answers
    assert len(asked) == len(calls)
    for (path, interface, method, _, _), (action, details) in zip(calls, asked):
        # The modem is in 9008: Reset to normal is the milder case. Nobody owns nothing here.
        assert action == table[(interface, method)][method == "Reset"], method
        text = filled(action, details)
        assert "$(" not in text, (method, text, details)
        if interface == MODEM:
            assert "the modem at 1-1.2" in text, (method, text)


@needs_root
def test_force_is_asked_for_besides_and_says_of_what(scene, bus_address):
    service, modem, firmware, backup, job, archive = scene
    authority = Authority(bus_address, "flash", "restore", "manage")
    answers = as_nobody(bus_address, [
        [modem, MODEM, "Flash", [firmware], {"allow": ["EraseCalibration", "WrongFirmware"]}], [modem, MODEM, "Restore", [backup], {"allow": ["WrongUnit"]}],
        [backup, NAME + ".Backup", "Remove", [], {"allow": ["LastBackup"]}]], archive)
    asked = authority.asked()
    assert [a[1] for a in answers] == ["org.freedesktop.DBus.Error.AccessDenied"] * 3
    assert [a for a, _ in asked] == ["flash", "force", "restore", "force", "manage", "force"]
    for action, details in asked:
        assert "$(" not in filled(action, details)
    assert [filled(*a).partition(" for good: ")[2] for a in asked if a[0] == "force"] == [
        "Flash, the modem at 1-1.2, although the firmware is for another modem (WrongFirmware) and it erases the calibration (EraseCalibration).",
        "Restore, the modem at 1-1.2, although the backup is another unit's (WrongUnit).",
        f"Remove, {dict(asked)['manage']['backup']}, although it is the last good backup (LastBackup)."]
    assert service.get(backup, NAME + ".Backup", "State") == "complete"


@needs_root
def test_a_long_name_is_cut_at_a_character(scene, bus_address, tmp_path):
    """Half a character is no text for the bus: polkit could not be asked about such a backup, and nobody but root could remove it."""
    service, modem, firmware, _, job, archive = scene
    named = backed_up(service, tmp_path, model="R" + "\u00e9" * 60)
    authority = Authority(bus_address)
    answers = as_nobody(bus_address, [[named, NAME + ".Backup", "Verify", [], {}]], archive)
    asked = authority.asked()
    assert answers[0][1] == "org.freedesktop.DBus.Error.AccessDenied" and "polkit could not" not in answers[0][2], answers
    assert [a for a, _ in asked] == ["backup"] and "nand of R" + "\u00e9" * 31 + " (" in asked[0][1]["backup"]
    assert service.get(named, NAME + ".Backup", "State") == "complete"


# ---- the rules ----

HARNESS = """
var rules = [];
var polkit = {addRule: function (f) { rules.push(f); }, Result: {YES: "yes", NOT_HANDLED: null}};
%s
function judge(action, user, groups) {
    var subject = {user: user, isInGroup: function (g) { return groups.indexOf(g) >= 0; }};
    for (var i = 0; i < rules.length; i++) {
        var result = rules[i]({id: action, lookup: function () {}}, subject);
        if (result) return result;
    }
    return "not handled";
}
var asked = %s;
for (var i = 0; i < asked.length; i++) print(judge(asked[i][0], asked[i][1], asked[i][2]));
"""


def judge(tmp_path, asked):
    """By Duktape, which Debian 12's polkitd has for its rules."""
    (tmp_path / "rules.js").write_text(HARNESS % ((TOP / "dbus" / "org.qdld1.rules").read_text(), json.dumps(asked)))
    out = subprocess.run(["duk", tmp_path / "rules.js"], capture_output=True, text=True, check=True).stdout.split("\n")[:-1]
    assert len(out) == len(asked)
    return [line == "yes" for line in out]


def test_group_qdl_works_without_a_password(tmp_path):
    names = sorted(ACTIONS)
    may = judge(tmp_path, [["org.qdld1." + n, "maria", ["maria", "qdl"]] for n in names])
    assert {n for n, yes in zip(names, may) if not yes} == {"force", "manage", "export-backup-other"}
    # In no other group, and for nothing else.
    others = [["org.qdld1." + n, "maria", groups] for n in names for groups in ([], ["qdld"], ["sudo", "dialout", "qdl2"])]
    others += [[a, "maria", ["qdl"]] for a in ("org.qdld10.flash", "xorg.qdld1.flash", "org.freedesktop.login1.inhibit-block-sleep",
                                               "org.freedesktop.ModemManager1.Control", "org.freedesktop.systemd1.manage-units")]
    assert not any(judge(tmp_path, others))


def test_the_service_may_keep_the_machine_awake(tmp_path):
    needs = ["org.freedesktop.login1.inhibit-block-shutdown", "org.freedesktop.login1.inhibit-block-sleep",
             "org.freedesktop.login1.inhibit-handle-lid-switch", "org.freedesktop.ModemManager1.Control"]
    assert all(judge(tmp_path, [[n, "qdld", ["qdld"]] for n in needs]))
    refused = [[n, "maria", ["qdl"]] for n in needs]
    refused += [[n, "qdld", ["qdld"]] for n in ("org.freedesktop.login1.power-off", "org.freedesktop.systemd1.manage-units",
                                                "org.freedesktop.ModemManager1.Device.Control", "org.freedesktop.policykit.exec")]
    assert not any(judge(tmp_path, refused))


# ---- the bus policy ----

@pytest.fixture
def debian_bus(tmp_path):
    """debian_bus(user): a bus with Debian's own configuration and our policy, where `user` is the service's."""
    made = []

    def make(user, extra=""):
        directory = pathlib.Path(tempfile.mkdtemp(prefix="qdld-bus-"))
        directory.chmod(0o755)
        text = pathlib.Path("/usr/share/dbus-1/system.conf").read_text()
        text = re.sub(r"<(user|pidfile|listen|servicehelper|includedir|include)\b[^>]*>[^<]*</\1>|<(fork|syslog|standard_system_servicedirs)/>", "", text)
        policy = (TOP / "dbus" / "org.qdld1.conf").read_text().replace('user="qdld"', f'user="{user}"')
        (directory / "policy.conf").write_text(policy)
        (directory / "bus.conf").write_text(text.replace("</busconfig>", f"<listen>unix:path={directory / 'bus'}</listen>{extra}"
                                                         f"<include>{directory / 'policy.conf'}</include></busconfig>"))
        daemon = subprocess.Popen(["dbus-daemon", f"--config-file={directory / 'bus.conf'}", "--nofork", "--nopidfile", "--print-address"],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        made.append((daemon, directory))
        assert daemon.stdout.readline(), daemon.stderr.read()
        return f"unix:path={directory / 'bus'}"
    yield make
    for daemon, directory in made:
        daemon.terminate()
        daemon.communicate(timeout=10)
        shutil.rmtree(directory)


REJECTED = "Rejected send message"


def send_as_nobody(address, destination, path, member, *arguments, timeout=10):
    """What was wrong, "" if nothing."""
    out = subprocess.run([*NOBODY, "dbus-send", f"--bus={address}", "--print-reply", f"--reply-timeout={timeout * 1000}",
                          f"--dest={destination}", path, member, *arguments], capture_output=True, text=True)
    return out.stderr if out.returncode else ""


def me():
    return pwd.getpwuid(os.getuid()).pw_name


def test_every_interface_of_ours_is_in_the_policy():
    ours = {i.get("name") for i in ElementTree.parse(TOP / "dbus" / "org.qdld1.xml").getroot().findall("interface")}
    rules = ElementTree.parse(TOP / "dbus" / "org.qdld1.conf").getroot().findall("policy[@context='default']/allow")
    rules = [r for r in rules if "max_fds" not in r.keys()]
    assert ours <= {r.get("send_interface") for r in rules}
    assert all(r.get("send_destination") == NAME and set(r.keys()) == {"send_destination", "send_interface"} for r in rules)


@needs_root
def test_what_users_reach_on_the_bus(debian_bus, tmp_path, forge, plug, table):
    address = debian_bus(me())
    service = Service(address, tmp_path)
    service.start(worker=forge(HONEST))
    try:
        plug(service)
        modem = service.modem()
        assert as_nobody(address, [[ROOT, NAME + ".Manager", "ListModems", [], {}]], "/dev/null") == [["ListModems", None, ""]]
        for interface, method, *arguments in (("Introspectable", "Introspect"), ("ObjectManager", "GetManagedObjects"), ("Peer", "Ping"),
                                              ("Properties", "GetAll", "string:" + NAME + ".Manager")):
            assert send_as_nobody(address, NAME, ROOT, f"org.freedesktop.DBus.{interface}.{method}", *arguments) == "", interface
        # The service answers here (something is missing), not the bus.
        for interface, method in table:
            said = send_as_nobody(address, NAME, modem, f"{interface}.{method}")
            assert REJECTED not in said and "Error" in said, said
        # And here the bus.
        for interface in ("org.freedesktop.LogControl1", "org.qdld1.Secret"):
            assert REJECTED in send_as_nobody(address, NAME, ROOT, interface + ".Anything")
        control = "/org/freedesktop/LogControl1"
        level = ["string:org.freedesktop.LogControl1", "string:LogLevel"]
        assert send_as_nobody(address, NAME, control, "org.freedesktop.DBus.Properties.Get", *level) == ""
        assert REJECTED in send_as_nobody(address, NAME, control, "org.freedesktop.DBus.Properties.Set", *level, "variant:string:debug")
    finally:
        assert service.stop() == 0


def raw_as_nobody(address, calls):
    """What nobody is answered to raw calls with descriptors: the bytes of each answer."""
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        try:
            with open("/dev/null") as null:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                for path, interface, member, body, signature, n in calls:
                    client = RawClient(address)
                    client.hear(1)
                    client.call(path, NAME, interface, member, body, signature, fds=[null.fileno()] * n)
                    serial = client.hear(2)[1]
                    os.write(write_end, f"{serial < 0} {REJECTED.encode() in client.heard}\n".encode())
        finally:
            os._exit(0)
    os.close(write_end)
    os.wait()
    with os.fdopen(read_end) as f:
        return [line.split() for line in f]


@needs_root
def test_descriptors_come_only_with_what_reads_one(debian_bus, tmp_path, forge):
    service = Service(debian_bus(me()), tmp_path)
    service.start(worker=forge(HONEST))
    manager, none = NAME + ".Manager", struct.pack("<II", 0, 0)
    firmware, backup = struct.pack("<II1sxxxI", 0, 1, b"x", 0), struct.pack("<II", 0, 0)
    try:
        assert raw_as_nobody(service.address, [
            (ROOT, manager, "ListJobs", none, "a{sv}", 0),
            (ROOT, manager, "ListJobs", none, "a{sv}", 1),
            (ROOT, "org.freedesktop.DBus.Peer", "Ping", b"", "", 1),
            (ROOT, manager, "ImportFirmware", firmware, "hsa{sv}", 1),
            (ROOT, manager, "ImportFirmware", firmware, "hsa{sv}", 2),
            (ROOT, manager, "ImportBackup", backup, "ha{sv}", 1),
        ]) == [["False", "False"], ["True", "True"], ["True", "True"], ["True", "False"], ["True", "True"], ["True", "False"]]
    finally:
        assert service.stop() == 0


@needs_root
@pytest.mark.parametrize("user, owns", [("nobody", True), ("root", False)])
def test_who_owns_the_name(debian_bus, user, owns):
    """root: the name is not for everybody else."""
    address = debian_bus(user)
    script = ("import dbus, dbus.bus, sys\nbus = dbus.bus.BusConnection(sys.argv[1])\n"
              "try:\n    bus.request_name('org.qdld1')\nexcept dbus.exceptions.DBusException as e:\n    sys.exit(e.get_dbus_name())\n")
    out = subprocess.run([*NOBODY, "/usr/bin/python3", "-c", script, address], capture_output=True, text=True)
    assert (out.returncode == 0) == owns, out.stderr
    assert owns or "AccessDenied" in out.stderr


@needs_root
def test_the_service_reaches_modemmanager_s_inhibit_and_nothing_else_of_it(debian_bus):
    # As ModemManager's own policy has it, in short.
    manager = ('<policy user="root"><allow own="org.freedesktop.ModemManager1"/></policy><policy context="default">'
               '<deny send_destination="org.freedesktop.ModemManager1"/></policy>')
    for user, reached in (("nobody", True), ("root", False)):
        address = debian_bus(user, manager)
        bus = dbus.bus.BusConnection(address)
        bus.request_name("org.freedesktop.ModemManager1")
        said = {}
        for method in ("InhibitDevice", "ScanDevices"):
            silence = reached and method == "InhibitDevice"
            said[method] = send_as_nobody(address, "org.freedesktop.ModemManager1", "/org/freedesktop/ModemManager1",
                                          "org.freedesktop.ModemManager1." + method, timeout=1 if silence else 60)
        # The one that gets through is answered by nobody here.
        assert ("NoReply" if reached else REJECTED) in said["InhibitDevice"], said
        assert REJECTED in said["ScanDevices"], said
