# SPDX-License-Identifier: LGPL-2.1-or-later
"""What make install puts where, and whether the parts know each other: the unit, its sandbox and the workers' needs, users, settings,
manuals and the maintainer scripts."""

import os
import re
import stat
import subprocess

import pytest
from conftest import BUILD, TOP

SERVICE = TOP / "daemon" / "service"


def pkg_config(package, variable):
    return subprocess.run(["pkg-config", f"--variable={variable}", package], capture_output=True, text=True, check=True).stdout.strip()


def make(*arguments):
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    subprocess.run(["make", "-s", "-C", TOP, f"BUILD={BUILD}", *arguments], env=environment, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The root directory of an installation."""
    root = tmp_path_factory.mktemp("root")
    make("install", f"DESTDIR={root}")
    return root


@pytest.fixture(scope="module")
def unit(installed):
    return (installed / pkg_config("systemd", "systemdsystemunitdir").lstrip("/") / "qdld.service").read_text()


def setting(unit, name):
    return re.findall(rf"^{name}=(.*)$", unit, re.M)


# ---- files ----

def test_everything_is_where_it_is_looked_for(installed):
    units, users, udev = pkg_config("systemd", "systemdsystemunitdir"), pkg_config("systemd", "sysusersdir"), pkg_config("udev", "udevdir")
    expected = {
        "/etc/qdld/qdld.conf": 0o644, "/etc/xdg/autostart/org.qdld1.agent.desktop": 0o644, "/usr/bin/qdlctl": 0o755, "/usr/bin/qdl-agent": 0o755, "/usr/libexec/qdld": 0o755, "/usr/libexec/qdld-worker": 0o755,
        f"{units}/qdld.service": 0o644, f"{users}/qdld.conf": 0o644, f"{udev}/rules.d/60-qdld.rules": 0o644,
        "/usr/share/dbus-1/system.d/org.qdld1.conf": 0o644, "/usr/share/dbus-1/system-services/org.qdld1.service": 0o644,
        "/usr/share/dbus-1/interfaces/org.qdld1.xml": 0o644, "/usr/share/polkit-1/actions/org.qdld1.policy": 0o644,
        "/usr/share/polkit-1/rules.d/60-qdld.rules": 0o644, "/usr/share/metainfo/org.qdld1.qdld.metainfo.xml": 0o644,
        pkg_config("systemd", "catalogdir") + "/qdld.catalog": 0o644,
    }
    expected["/usr/share/bash-completion/completions/qdlctl"] = 0o644
    expected["/usr/share/man/man5/org.qdld1.5"] = 0o644
    for page in (TOP / "man").iterdir():
        expected[f"/usr/share/man/man{page.suffix[1:]}/{page.name}"] = 0o644
    found = {"/" + str(p.relative_to(installed)): p.stat().st_mode & 0o7777 for p in installed.rglob("*") if p.is_file()}
    assert found == expected


def test_another_prefix():
    """Our own files follow it, and the programs know; what others look for in one place only stays."""
    out = subprocess.run(["make", "-n", "-C", TOP, f"BUILD={BUILD}", "install", "DESTDIR=/x", "PREFIX=/opt/qdld"], capture_output=True, text=True)
    assert "/x/opt/qdld/libexec/qdld-worker" in out.stdout and "/x/opt/qdld/bin/qdlctl" in out.stdout
    assert "/x/usr/share/polkit-1/actions/org.qdld1.policy" in out.stdout
    assert "s|@libexecdir@|/opt/qdld/libexec|" in out.stdout


def test_install_says_what_is_missing(tmp_path):
    out = subprocess.run(["make", "-C", TOP, f"BUILD={BUILD}", "install", f"DESTDIR={tmp_path}", "UDEVDIR="], capture_output=True, text=True)
    assert out.returncode != 0 and "udev.pc is missing" in out.stderr and list(tmp_path.iterdir()) == []


def test_the_debian_packages_take_everything(installed):
    """What is installed and in no package is a file that users never get."""
    lists = [line for name in ("qdld", "qdlctl", "qdl-agent") for line in (TOP / "debian" / f"{name}.install").read_text().split()]
    for path in installed.rglob("*"):
        if path.is_file():
            relative = str(path.relative_to(installed))
            assert len([entry for entry in lists if relative == entry or relative.startswith(entry + "/")]) == 1, relative


# ---- the unit ----

def test_exposure(installed):
    path = next(installed.rglob("qdld.service"))
    out = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=16", path], capture_output=True, text=True)
    assert out.returncode == 0, out.stdout + out.stderr


def test_the_unit_is_understood(unit, tmp_path):
    """Every line: systemd passes over what it does not know, and says so."""
    path = tmp_path / "qdld.service"
    path.write_text(unit.replace("/usr/libexec/qdld", str(BUILD / "qdld")))
    out = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True)
    assert out.returncode == 0 and "qdld.service:" not in out.stderr, out.stderr


def test_the_unit_and_the_service_agree(unit):
    source = (SERVICE / "manager.h").read_text()
    restart = re.search(r"MANAGER_EXIT_RESTART = (\d+)", source).group(1)
    assert setting(unit, "RestartForceExitStatus") == setting(unit, "SuccessExitStatus") == [restart]
    assert setting(unit, "BusName") == [re.search(r'BUS_NAME\s+"(.*)"', source).group(1)]
    assert setting(unit, "CapabilityBoundingSet") == setting(unit, "AmbientCapabilities") == [""]
    assert setting(unit, "Type") == ["notify"] and setting(unit, "KillMode") == ["mixed"]
    activation = (TOP / "dbus" / "org.qdld1.service").read_text()
    assert setting(activation, "Name") == setting(unit, "BusName") and setting(activation, "SystemdService") == ["qdld.service"]
    # A stop may take StopSec and the workers' last seconds, which the service asks for; more than that it must not need.
    assert "TimeoutStopSec" not in unit


# Each of these or tighter: what the service has been measured with (systemd-analyze sums up, and would not miss a single line).
SANDBOX = """CapabilityBoundingSet= AmbientCapabilities= NoNewPrivileges=yes UMask=0077 StateDirectory=qdld StateDirectoryMode=0700 RuntimeDirectory=qdld
RuntimeDirectoryMode=0700 ProtectSystem=strict ProtectHome=yes PrivateTmp=yes PrivateDevices=no DevicePolicy=closed ProtectClock=yes ProtectControlGroups=yes
ProtectHostname=yes ProtectKernelLogs=yes ProtectKernelModules=yes ProtectKernelTunables=yes ProtectProc=invisible ProcSubset=pid IPAddressDeny=any
RestrictNamespaces=yes RestrictRealtime=yes RestrictSUIDSGID=yes RemoveIPC=yes LockPersonality=yes MemoryDenyWriteExecute=yes KeyringMode=private
SystemCallArchitectures=native SystemCallErrorNumber=EPERM"""


def test_the_sandbox_line_by_line(unit):
    for line in SANDBOX.split():
        name, value = line.split("=", 1)
        assert setting(unit, name) == [value], line
    assert setting(unit, "DeviceAllow") == ["char-usb_device rw"] and setting(unit, "RestrictAddressFamilies") == ["AF_UNIX AF_NETLINK"]
    assert setting(unit, "SystemCallFilter")[0].split()[0] == "@system-service" and setting(unit, "SystemCallFilter")[1] == "~@privileged @resources"
    assert "SupplementaryGroups" not in unit


def test_what_the_service_relies_on(unit):
    """Guards outlive a restart, a hang is seen, a burst of calls has descriptors, and whoever stops it has it stopped."""
    assert setting(unit, "FileDescriptorStoreMax") == ["512"] and setting(unit, "RuntimeDirectoryPreserve") == ["restart"]
    assert setting(unit, "LimitNOFILE") == ["4096"] and setting(unit, "WatchdogSec") == ["3min"]
    assert setting(unit, "Restart") == ["on-failure"] and setting(unit, "WantedBy") == ["multi-user.target"]
    assert "SYSTEMD_WANTS" not in (TOP / "systemd" / "60-qdld.rules").read_text()


def expand(names, group_of):
    out = set()
    for name in names:
        out |= expand(group_of[name], group_of) if name.startswith("@") else {name}
    return out


def test_the_sandbox_leaves_the_workers_what_they_need(unit):
    """The unit's filter is in force in the workers, too: what their own filter allows must pass it, and what they need to set it up."""
    groups, group = {}, None
    text = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True).stdout
    for line in text.splitlines():
        if line.startswith("@"):
            group = line.strip()
            groups[group] = []
        elif line.startswith("    ") and not line.strip().startswith("#"):
            groups[group].append(line.split()[0])
    allowed = set()
    for value in setting(unit, "SystemCallFilter"):
        if value.startswith("~"):
            allowed -= expand(value[1:].split(), groups)
        else:
            allowed |= expand(value.split(), groups)
    source = (TOP / "daemon" / "worker" / "syscalls.c").read_text()
    table = re.search(r"allowed\[\] = \{(.*?)\};", source, re.S).group(1)
    workers = set(re.findall(r'"([a-z0-9_]+)"', re.sub(r"/\*.*?\*/", "", table, flags=re.S)))
    assert len(workers) > 60
    setup = {"landlock_create_ruleset", "landlock_restrict_self", "seccomp", "prctl", "prlimit64", "execveat", "close_range", "setsid",
             "clone", "pidfd_open", "waitid", "linkat", "openat", "socketpair"}
    assert (workers | setup) - allowed == set()


# ---- users ----

def test_users_and_groups(installed, tmp_path):
    (tmp_path / "etc").mkdir()
    out = subprocess.run(["systemd-sysusers", f"--root={tmp_path}", next(installed.rglob("sysusers.d/qdld.conf"))], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    user = dict((line.split(":")[0], line.split(":")) for line in (tmp_path / "etc" / "passwd").read_text().splitlines())["qdld"]
    groups = dict((line.split(":")[0], line.split(":")) for line in (tmp_path / "etc" / "group").read_text().splitlines())
    assert user[6] == "/usr/sbin/nologin" and user[3] == groups["qdld"][2]
    assert "qdl" in groups and groups["qdld"][3] == groups["qdl"][3] == ""


def test_the_unit_s_user_is_made(unit, installed):
    users = next(installed.rglob("sysusers.d/qdld.conf")).read_text()
    assert setting(unit, "User") == setting(unit, "Group") == ["qdld"]
    assert re.search(r"^u qdld ", users, re.M)


# ---- settings ----

def settings_of_the_service():
    """{(section, name): default as one writes it}"""
    source = re.sub(r"\s+", " ", (SERVICE / "config.c").read_text())
    found = {}
    for section, name, kind, _, fallback in re.findall(r'SETTING\("(\w+)", "(\w+)", (\w+), (\w+), ([^,]+),', source):
        shift = re.fullmatch(r"(?:UINT64_C\()?(\d+)\)? << (\d+)", fallback)
        if kind == "CHOICE":
            fallback = fallback.split("_")[1].lower()  # POLICY_HOLD
        elif kind == "SWITCH":
            fallback = ["no", "yes"][int(fallback)]
        elif kind == "BYTES" and shift:
            fallback = f"{shift.group(1)}{ {10: 'K', 20: 'M', 30: 'G', 40: 'T'}[int(shift.group(2))]}"
        else:
            number = eval(fallback, {"__builtins__": {}})  # "7 * 86400"
            fallback = str(number)
        found[section, name] = fallback
    assert len(found) >= 16
    return found


def parse(text, comment):
    section, found = None, {}
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif re.fullmatch(comment + r"\w+=.*", line):
            name, value = line.removeprefix(comment).split("=", 1)
            found[section, name] = value
    return found


def test_the_shipped_settings_are_the_defaults(installed):
    assert parse((installed / "etc/qdld/qdld.conf").read_text(), "#") == settings_of_the_service()


def test_every_setting_is_in_the_manual():
    text = re.sub(r"^\.SH \[(\w+)\]$", r"[\1]", (TOP / "man" / "qdld.conf.5").read_text(), flags=re.M)
    assert parse(text, r".B ") == settings_of_the_service()


# ---- manuals ----

def test_the_manual_of_qdlctl_knows_every_option_and_verb():
    help_text = subprocess.run([BUILD / "qdlctl", "--help"], capture_output=True, text=True, check=True).stdout
    page = (TOP / "man" / "qdlctl.1").read_text().replace("\\-", "-")
    options = set(re.findall(r"--[a-z][a-z-]+", help_text))
    assert len(options) > 12 and options == set(re.findall(r"--[a-z][a-z-]+", page))
    verbs = re.search(r"^Verbs:\n(.*?)\n\n", help_text, re.M | re.S).group(1)
    verbs = {re.match(r"  ([a-z-]+(?: [a-z-]+\b(?! *\[))?)", line).group(1).strip() for line in verbs.splitlines() if line.startswith("  ") and line[2] != " "}
    plain = re.sub(r"^\.\w+ ", "", page.replace('"', ""), flags=re.M)
    for verb in verbs:
        assert re.search(rf"^{verb}\b", plain, re.M), verb


# ---- README ----

SHIMS = {
    "sudo": 'exec "$@"',
    "make": 'exec /usr/bin/make -s BUILD="$BUILD" DESTDIR="$ROOT" "$@"',
    "systemd-sysusers": 'exec /usr/bin/systemd-sysusers --root="$ROOT" "$@"',
    **dict.fromkeys(("systemctl", "udevadm", "usermod"), 'echo "${0##*/}" "$@" >>"$ROOT/told"'),
}


def test_the_block_for_other_distributions_is_right_as_written(tmp_path):
    """Each command of README's "Elsewhere", in a staging directory; what would change this machine is only noted. The VM does it for true."""
    block = re.search(r"^Elsewhere.*?^((?:    [^\n]*\n)+)", (TOP / "README.md").read_text(), re.M | re.S).group(1)
    commands = [re.sub(r"\s+#.*", "", line.strip()) for line in block.splitlines()]
    root, shims = tmp_path / "root", tmp_path / "shims"
    (root / "etc").mkdir(parents=True)
    shims.mkdir()
    for name, text in SHIMS.items():
        (shims / name).write_text(f"#!/bin/sh\n{text}\n")
        (shims / name).chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    environment.update(PATH=f"{shims}:{os.environ['PATH']}", ROOT=str(root), BUILD=str(BUILD), USER="somebody")
    for command in commands:
        done = subprocess.run(["sh", "-c", command], cwd=TOP, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
    groups = [line.split(":")[0] for line in (root / "etc" / "group").read_text().splitlines()]
    assert {"qdl", "qdld"} <= set(groups)
    assert (root / "usr" / "libexec" / "qdld").exists() and (root / "usr" / "bin" / "qdlctl").exists()
    told = (root / "told").read_text().splitlines()
    assert told == ["systemctl daemon-reload", "systemctl reload dbus", "udevadm control --reload", "udevadm trigger --subsystem-match=usb",
                    "systemctl enable --now qdld", "usermod -a -G qdl somebody"]


# ---- Debian's maintainer scripts ----

def script(name):
    return (TOP / "debian" / name).read_text()


@pytest.mark.parametrize("name", ["qdld.preinst.in", "qdld.postinst", "qdld.postrm"])
def test_scripts_are_understood(name):
    assert subprocess.run(["sh", "-n", TOP / "debian" / name]).returncode == 0


def test_no_script_stops_or_restarts_the_service():
    """debhelper's own part is checked when the package is made (tests/make-deb)."""
    for name in ("qdld.preinst.in", "qdld.postinst", "qdld.postrm"):
        assert not re.search(r"\b(restart|try-restart|stop|kill)\b[^\n]*qdld", re.sub(r"#.*", "", script(name))), name
    assert "--no-stop-on-upgrade --no-restart-after-upgrade" in script("rules")


def told_by(text, tmp_path, *arguments):
    """What a maintainer script runs, with what is fed to it, as lines; whoever it tells is there and hears it."""
    for name in ("systemd-sysusers", "busctl", "udevadm", "deb-systemd-invoke"):
        (tmp_path / name).write_text('#!/bin/sh\necho "${0##*/} $*" >>"$TOLD"\n[ "${0##*/}" != systemd-sysusers ] || cat >>"$TOLD"\n')
        (tmp_path / name).chmod(0o755)
    for path in ("/run/dbus/system_bus_socket", "/run/udev/control", "/run/systemd/system"):
        mine = tmp_path / path.rsplit("/", 1)[1]
        if not mine.exists() and path.endswith("system"):
            mine.mkdir()
        elif not mine.exists():
            os.mknod(mine, stat.S_IFSOCK | 0o600)
        text = text.replace(path, str(mine))
    told = tmp_path / "told"
    told.write_text("")
    subprocess.run(["sh", "-c", text, "script", *arguments], check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin", "TOLD": str(told)})
    return told.read_text().splitlines()


def test_users_and_groups_are_made_before_anything_is_unpacked(tmp_path):
    """From the one list of them, as debian/rules puts it in."""
    users = (TOP / "systemd" / "qdld.sysusers").read_text()
    assert "'r systemd/qdld.sysusers'" in script("rules") and "execute_before_dh_installdeb" in script("rules")
    text = script("qdld.preinst.in").replace("#SYSUSERS#\n", users)
    for why in ("install", "upgrade"):
        assert told_by(text, tmp_path, why, "0.0.1") == ["systemd-sysusers --replace=/usr/lib/sysusers.d/qdld.conf -", *users.splitlines()]
    assert told_by(text, tmp_path, "abort-upgrade", "0.0.1") == []


def test_installing_tells_whoever_has_to_know(tmp_path):
    """The bus before the service is started, udevd and the modems that are there; an upgrade asks the service to follow."""
    first = told_by(script("qdld.postinst"), tmp_path, "configure", "")
    assert "ReloadConfig" in first[0] and first[1] == "udevadm control --reload"
    for vendor in ("05c6", "2c7c"):
        assert f"udevadm trigger --action=change --subsystem-match=usb --attr-match=idVendor={vendor}" in first
    assert not [line for line in first if line.startswith("deb-systemd-invoke")]
    assert told_by(script("qdld.postinst"), tmp_path, "configure", "0.0.1") == [*first, "deb-systemd-invoke reload qdld.service"]
    assert told_by(script("qdld.postrm"), tmp_path, "remove") == ["udevadm control --reload"]


def purge(tmp_path):
    text = script("qdld.postrm").replace("/var/lib/qdld", str(tmp_path / "qdld")).replace("#DEBHELPER#", "")
    return subprocess.run(["sh", "-c", text, "postrm", "purge"], capture_output=True, text=True, check=True).stdout


def fill(tmp_path, *files):
    for name in files:
        path = tmp_path / "qdld" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")


def test_purge_leaves_backups_and_says_so(tmp_path):
    fill(tmp_path, "firmware/a.tar", "jobs/1.rec", "modems/x.rec", "backups/b.tar")
    said = purge(tmp_path)
    left = sorted(str(p.relative_to(tmp_path / "qdld")) for p in (tmp_path / "qdld").rglob("*") if p.is_file())
    assert left == ["backups/b.tar", "modems/x.rec"]
    assert str(tmp_path / "qdld" / "backups") in said and f"rm -r {tmp_path / 'qdld'}" in said


def test_purge_leaves_nothing_else(tmp_path):
    fill(tmp_path, "firmware/a.tar", "jobs/1.rec", "modems/x.rec")
    (tmp_path / "qdld" / "backups").mkdir()
    assert purge(tmp_path) == "" and not (tmp_path / "qdld").exists()
    assert purge(tmp_path) == ""


def test_removing_leaves_everything(tmp_path):
    fill(tmp_path, "firmware/a.tar", "backups/b.tar")
    text = script("qdld.postrm").replace("/var/lib/qdld", str(tmp_path / "qdld")).replace("#DEBHELPER#", "").replace("/run/udev/control", "/nonexistent")
    subprocess.run(["sh", "-c", text, "postrm", "remove"], check=True)
    assert (tmp_path / "qdld" / "firmware" / "a.tar").exists()
