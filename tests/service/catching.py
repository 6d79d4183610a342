# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of catch, policy and rescue share."""

import re
import struct
import subprocess

import dbus
from conftest import JOB, MODEM, TOP, wait_until

OWN = 4294967295  # OwnerUid of what a policy did
PORT, OTHER_PORT = "virtual-usb-0:1.2", "virtual-usb-0:1.3"
OTHER = ("serial=0badcafe", f"port={OTHER_PORT}", "kernel=1-1.3")
LOOP = ("loop=soft", "window_ms=1000", "gap_ms=300")
IN_BACKUP = "fault=stop@read:150"  # of some 250 before the first write; in_phase() judges
STRANGER = "pkhash=" + "5a" * 32


def options(**values):
    return dbus.Dictionary({k.replace("_", "-"): v for k, v in values.items()}, signature="sv")


def find_modem(service, port=PORT):
    def find():
        return next((p for p, m in sorted(service.properties(MODEM).items()) if m["Port"] == port), None)
    return wait_until(find, what=f"a modem at {port}")


def import_package(service, path):
    job = service.import_file(path)
    assert service.wait_job(job) == "done", service.get(job, JOB, "ErrorMessage")
    return service.get(job, JOB, "Object")


def arm(service, policy="hold", firmware="/", port=PORT, **values):
    service.manager("ArmPort", port, policy, dbus.ObjectPath(firmware), options(**values))


def set_policy(service, path, policy, firmware="/", **values):
    service.call(path, MODEM, "SetPolicy", policy, dbus.ObjectPath(firmware), options(**values))


def jobs(service, kind):
    """Its jobs of this kind, oldest first."""
    found = service.properties(JOB)
    return sorted((p for p in found if found[p]["Kind"] == kind), key=lambda p: found[p]["Id"])


def wait_held(service, path):
    wait_until(lambda: service.get(path, MODEM, "Held"), what="Held")


def turns(service, path, n):
    """n appearances more."""
    count = service.get(path, MODEM, "LoopCount")
    wait_until(lambda: service.get(path, MODEM, "LoopCount") >= count + n, what=f"{n} windows")


def trace(tmp_path, name="modem"):
    file = tmp_path / (name + ".trace")
    return file.read_text() if file.exists() else ""


def count(tmp_path, pattern, name="modem"):
    return len(re.findall(pattern, trace(tmp_path, name)))


def nothing_was_written(tmp_path, name="modem"):
    return count(tmp_path, r" command \d+ (erase|program)", name) == 0 and "VIOLATION" not in trace(tmp_path, name)


class Later:
    """A clock of the service that is set on."""

    def __init__(self, directory):
        self.file, self.library, self.usec = directory / "ahead", directory / "later-clock.so", 0
        self.go(0)
        subprocess.run(["cc", "-D_GNU_SOURCE", "-O2", "-fPIC", "-shared", "-o", self.library, TOP / "tests" / "service" / "later-clock.c"],
                       check=True)
        self.environment = {"LD_PRELOAD": str(self.library), "LATER_CLOCK": str(self.file)}

    def go(self, usec):
        self.usec += usec
        with open(self.file, "r+b" if self.file.exists() else "wb") as f:
            f.write(struct.pack("<q", self.usec))
