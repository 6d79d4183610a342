# SPDX-License-Identifier: LGPL-2.1-or-later
"""60-qdld.rules, judged by the real udevadm on a mocked sysfs, among the rules of this machine and those that widen access.

Runs in a mount namespace of its own: its rules, its group file, and what udevadm writes are seen by nobody else."""

import os
import re
import subprocess

import pytest
from conftest import TOP

NAMESPACE = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--map-root-user", "--mount"]
QDLD, PLUGDEV = 4711, 4712

# What Debian's android-sdk-platform-tools-common and libmtp-common do, in the same words, and somebody's own rule.
NEIGHBOURS = {
    "51-android.rules": """
SUBSYSTEM!="usb", GOTO="android_usb_rules_end"
SUBSYSTEM=="usb", ATTR{idVendor}=="05c6", ENV{adb_user}="yes"
SUBSYSTEM=="usb", ATTR{idVendor}=="2c7c", ENV{adb_user}="yes"
SUBSYSTEM=="usb", ATTR{idVendor}=="0fce", ENV{adb_user}="yes"
ENV{adb_user}=="yes", MODE="0660", GROUP="plugdev", TAG+="uaccess"
LABEL="android_usb_rules_end"
""",
    "52-mine.rules": """
SUBSYSTEM=="usb", ATTR{idProduct}=="900e", MODE="0666", OWNER="daemon"
SUBSYSTEM=="tty", ATTRS{idProduct}=="9008", MODE="0666", TAG+="uaccess"
""",
    "69-libmtp.rules": 'SUBSYSTEM=="usb", ENV{MTP_NO_PROBE}!="1", ENV{PROBED_BY_LIBMTP}="yes"\n',
    # What 73-seat-late.rules gives to the user at seat0; in systemd 252 a tag that was taken away counts, too.
    "74-seat.rules": 'TAG=="uaccess", ENV{ID_SEAT}=="|seat0", ENV{GIVEN_TO_THE_SEAT}="yes"\n',
}

# (vendor, product, interfaces): the modems that the service may open in download mode, and what may look like them.
EDL = [("05c6", "9008", 1), ("05c6", "900e", 1), ("05c6", "9006", 2), ("05c6", "9091", 1), ("05c6", "9025", 1), ("2c7c", "0800", 1),
       ("2c7c", "0125", 1), ("2c7c", "6008", 1)]
WORKING = [("2c7c", "0800", 5), ("2c7c", "0125", 11), ("2c7c", "6009", 5)]
STRANGERS = [("05c6", "9091", 6), ("05c6", "9025", 4), ("05c6", "901d", 4), ("05c6", "6769", 3), ("2c7c", "6001", 5), ("2c7c", "8001", 1),
             ("0fce", "9dde", 1), ("18d1", "d00d", 1), ("1d6b", "0002", 1)]


def name_of(device):
    return "-".join(map(str, device))


def describe(device, number):
    vendor, product, interfaces = device
    path = f"/devices/pci0000:00/0000:00:14.0/usb1/1-{number}"
    text = f"""P: {path}
N: bus/usb/001/{number:03}
E: DEVNAME=/dev/bus/usb/001/{number:03}
E: MAJOR=189
E: MINOR={number - 1}
E: DEVTYPE=usb_device
E: SUBSYSTEM=usb
E: PRODUCT={vendor.lstrip('0')}/{product.lstrip('0')}/0
A: idVendor={vendor}\\n
A: idProduct={product}\\n
A: bDeviceClass=00\\n
A: bNumInterfaces={interfaces:2}\\n
A: power/control=auto\\n

"""
    # The port that qcserial makes of it.
    interface = f"{path}/1-{number}:1.0"
    text += f"P: {interface}\nE: DEVTYPE=usb_interface\nE: SUBSYSTEM=usb\n\n"
    text += f"P: {interface}/ttyUSB{number}\nE: SUBSYSTEM=usb-serial\n\n"
    text += (f"P: {interface}/ttyUSB{number}/tty/ttyUSB{number}\nN: ttyUSB{number}\nE: DEVNAME=/dev/ttyUSB{number}\nE: MAJOR=188\nE: MINOR={number}\nE: SUBSYSTEM=tty\n\n")
    return text, path, f"{interface}/ttyUSB{number}/tty/ttyUSB{number}"


class Result:
    """What udevadm test said of one device."""

    def __init__(self, text):
        self.text = text
        last = lambda key: (re.findall(rf"rules:\d+ {key} (\d+)", text) or [None])[-1]
        self.owner, self.group, self.mode = last("OWNER"), last("GROUP"), last("MODE")
        self.written = dict(re.findall(r"ATTR '[^']*/([^/']+/[^/']+)' writing '([^']*)'", text))
        self.properties = dict(re.findall(r"^([A-Za-z_]+)=(.*)$", text.split("would be", 1)[-1], re.M))

    @property
    def is_ours_alone(self):
        return (self.owner in (None, "0") and self.group == str(QDLD) and self.mode == "0660"
                and "GIVEN_TO_THE_SEAT" not in self.properties and "uaccess" not in self.properties.get("CURRENT_TAGS", ""))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """{name: Result}, the tty of each as name + "-tty"."""
    directory = tmp_path_factory.mktemp("udev")
    (directory / "rules.d").mkdir()
    for name, text in NEIGHBOURS.items():
        (directory / "rules.d" / name).write_text(text)
    (directory / "rules.d" / "60-qdld.rules").write_text((TOP / "systemd" / "60-qdld.rules").read_text())
    (directory / "group").write_text(open("/etc/group").read() + f"qdld:x:{QDLD}:\nplugdev:x:{PLUGDEV}:\n")
    # udevadm writes its database, and links below /dev.
    script = ["set -e", "mount -t tmpfs tmpfs /run", "mkdir -p /run/udev /run/dev", f"cp -r {directory} /run/files",
              "cp -r /run/files/rules.d /run/udev/", "export TMPDIR=/run",  # what lies below /dev/shm is hidden in a moment
              "mount --rbind /dev /run/dev", "mount -t tmpfs tmpfs /dev",
              "for n in null zero full random urandom; do touch /dev/$n; mount --bind /run/dev/$n /dev/$n; done",
              "mkdir /dev/pts; mount --rbind /run/dev/pts /dev/pts; ln -s pts/ptmx /dev/ptmx",
              "mount --bind /run/files/group /etc/group", "exec umockdev-run -d /run/files/devices -- sh /run/files/all"]
    devices, runs = "", []
    for number, device in enumerate(EDL + WORKING + STRANGERS, 2):
        text, path, tty = describe(device, number)
        devices += text
        for name, where in ((name_of(device), path), (name_of(device) + "-tty", tty)):
            runs.append(f"echo '@@@{name}'; udevadm test --action=add /sys{where} 2>&1")
    (directory / "devices").write_text(devices)
    (directory / "all").write_text("\n".join(runs))
    (directory / "script").write_text("\n".join(script))
    if subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount namespace can be made here")
    out = subprocess.run([*NAMESPACE, "sh", directory / "script"], capture_output=True, text=True)
    found = {}
    for part in out.stdout.split("@@@")[1:]:
        name, text = part.split("\n", 1)
        found[name] = Result(text)
    assert len(found) == len(runs), out.stdout + out.stderr
    return found


def test_the_rules_are_understood(results):
    """udevd passes over what it does not understand, and says so."""
    said = results[name_of(EDL[0])].text
    assert "Reading rules file: /run/udev/rules.d/60-qdld.rules" in said
    complaints = [line for line in said.splitlines() if "60-qdld.rules:" in line and not line.startswith("1-")]
    assert complaints == []


@pytest.mark.parametrize("device", EDL, ids=name_of)
def test_a_modem_in_download_mode_is_ours_alone(results, device):
    r = results[name_of(device)]
    assert r.is_ours_alone, r.text
    assert r.written == {"power/control": "on"}
    assert r.properties["ID_MM_DEVICE_IGNORE"] == "1" and r.properties["MTP_NO_PROBE"] == "1"
    assert "PROBED_BY_LIBMTP" not in r.properties and r.properties.get("adb_user", "") == ""


@pytest.mark.parametrize("device", [d for d in EDL if d[1] in ("9008", "900e", "9006")], ids=name_of)
def test_its_serial_port_is_ours_too(results, device):
    r = results[name_of(device) + "-tty"]
    assert r.is_ours_alone and r.properties["ID_MM_PORT_IGNORE"] == "1", r.text


@pytest.mark.parametrize("device", WORKING, ids=name_of)
def test_a_working_modem_stays_with_its_programs(results, device):
    r = results[name_of(device)]
    assert (r.group, r.mode) == (str(QDLD), "0664"), r.text
    assert r.written == {}
    assert "ID_MM_DEVICE_IGNORE" not in r.properties and "MTP_NO_PROBE" not in r.properties
    # Somebody who uses adb with it goes on doing so.
    assert r.properties["GIVEN_TO_THE_SEAT"] == "yes" and r.properties["adb_user"] == "yes"
    tty = results[name_of(device) + "-tty"]
    assert tty.group != str(QDLD) and "ID_MM_PORT_IGNORE" not in tty.properties


@pytest.mark.parametrize("device", STRANGERS, ids=name_of)
def test_others_are_left_alone(results, device):
    for r in (results[name_of(device)], results[name_of(device) + "-tty"]):
        assert "60-qdld.rules:" not in "".join(line for line in r.text.splitlines() if line.startswith(("1-", "ttyUSB")))
        assert r.group != str(QDLD) and r.written.get("power/control") != "on"


def test_every_download_id_of_qualcomm_and_quectel_is_covered():
    """What watch.c takes for a modem in download mode or a crash dump; other makers' own ids are not ours to give."""
    table = (TOP / "daemon" / "service" / "watch.c").read_text()
    ids = re.findall(r"\{0x(05c6|2c7c), 0x([0-9a-f]{4}), KIND_(EDL|CRASH_DUMP|NORMAL_OR_DUMP)\}", table)
    assert len(ids) >= 5
    assert {(vendor, product) for vendor, product, _ in ids} <= {d[:2] for d in EDL}


def test_the_groups_exist_before_the_rules():
    users = (TOP / "systemd" / "qdld.sysusers").read_text()
    for group in set(re.findall(r'GROUP="([a-z]+)"', (TOP / "systemd" / "60-qdld.rules").read_text())):
        assert re.search(rf"^[ug] {group} ", users, re.M)
