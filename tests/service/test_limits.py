# SPDX-License-Identifier: LGPL-2.1-or-later
"""The limits that protect the service from its callers and from what is plugged in, where no other file is about them."""

import os
import re
import struct
import subprocess

import dbus
from catching import find_modem, options
from conftest import FIRMWARE, INVALID_ARGS, JOB, MANAGER, MODEM, NAME, ROOT, Refused, needs_own_memory, wait_until
from test_api import LASTING, archive, needs_root
from test_hostile import RawClient
from test_link import BROKEN

MODEMS = 256
WAITS = 16


def serial_of(n):
    return f"{0x10000000 + n:08x}"


def come_and_go(plug, service, n, port, kernel):
    """One unit appears in 9008, says its serial by its name, gets a policy, and is away again."""
    device = plug(service, port=port, kernel=kernel, product=f"QUSB_BULK_CID:0410_SN:{serial_of(n).upper()}")
    known = lambda: [p for p, i in service.objects().items() if MODEM in i and i[MODEM]["ChipSerial"] == serial_of(n)]
    path = wait_until(known, what=f"unit {n}")[0]
    if service.get(path, MODEM, "Policy") != "off":
        service.call(path, MODEM, "SetPolicy", "off", dbus.ObjectPath("/"), options())
    device.unplug()
    wait_until(lambda: service.get(path, MODEM, "Mode") == "absent", what=f"the end of unit {n}")
    return str(path)


def test_modems_at_many_ports(service, plug):
    """The one that is away the longest is forgotten as an object; who it was stays known."""
    first = come_and_go(plug, service, 0, "virtual-usb-0:1", "1-1")
    for n in range(1, MODEMS + 2):
        come_and_go(plug, service, n, f"virtual-usb-0:{n + 1}", f"1-{n + 1}")
    assert len(service.paths(MODEM)) == MODEMS and first not in service.paths(MODEM)
    files = os.listdir(service.state / "modems")
    assert sorted(f for f in files if f.startswith("unit-")) == [f"unit-{serial_of(n)}.rec" for n in (0, 1)]
    assert len(files) == MODEMS + 2 + 1  # and the key for IMEIs
    service.restart()
    assert len(service.paths(MODEM)) == MODEMS and first not in service.paths(MODEM)
    plug(service, port="virtual-usb-0:999", kernel="1-999", product=f"QUSB_BULK_CID:0410_SN:{serial_of(0)}")
    again = find_modem(service, "virtual-usb-0:999")
    assert service.get(again, MODEM, "Policy") == "off"


def test_many_units_at_one_port(service, plug):
    """A test bench: of the units that went, the last ones are remembered, and nothing of the others stays on the disk."""
    shelf = service.state / "modems"
    for n in range(3):
        come_and_go(plug, service, n, "virtual-usb-0:1", "1-1")
    (shelf / f"unit-{serial_of(0)}.tables").write_text("NAME=EFS2\nFIRST=20\nBLOCKS=44\n")
    for n in range(3, MODEMS + 2):
        come_and_go(plug, service, n, "virtual-usb-0:1", "1-1")
    units = sorted(name for name in os.listdir(shelf) if name.startswith("unit-"))
    assert units == [f"unit-{serial_of(n)}.rec" for n in range(1, MODEMS + 1)]


# ---- callers ----

def wait_calls(address, job, n):
    """A client with n calls of Wait under way."""
    client = RawClient(address)
    client.hear(1)
    for _ in range(n):
        client.call(job, NAME, JOB, "Wait", struct.pack("<II", 0, 0), "a{sv}")
    return client


def test_calls_that_wait_for_one_job(new_service, forge, archive, bus_address):
    service = new_service().start(worker=forge(LASTING))
    job = str(service.import_file(archive))
    client = wait_calls(bus_address, job, WAITS + 1)
    assert client.hear(2)[1] == -(WAITS + 2) and b"LimitExceeded" in client.heard  # Hello was call 1
    client.socket.close()
    again = wait_calls(bus_address, job, WAITS)
    service.call(job, JOB, "Cancel", service.no_options())
    assert len(again.hear(WAITS + 1)) == WAITS + 1 and b"LimitExceeded" not in again.heard


def test_jobs_of_modems_are_no_imports(new_service, forge, archive, plug):
    service = new_service().start(worker=forge(LASTING), config="[Limits]\nImportWorkersMax=1\nImportsPerUser=1\n")
    for n in range(3):
        plug(service, port=f"virtual-usb-0:{n}", kernel=f"1-{n}")
    modems = wait_until(lambda: len(service.paths(MODEM)) == 3 and service.paths(MODEM))
    for modem in modems[:2]:
        service.call(modem, MODEM, "Identify", service.no_options())
    service.import_file(archive)
    service.call(modems[2], MODEM, "Identify", service.no_options())
    assert len(service.workers()) == 4


IMPORT = """
import dbus, dbus.bus, sys
o = dbus.bus.BusConnection(sys.argv[1]).get_object("org.qdld1", "/org/qdld1", introspect=False)
o.ImportFirmware(dbus.types.UnixFd(0), "label", dbus.Dictionary({}, signature="sv"), dbus_interface="org.qdld1.Manager")
"""


@needs_root
def test_not_a_byte_is_read_of_who_may_not(new_service, forge, bus_address):
    service = new_service().start(worker=forge(LASTING))
    reading, writing = os.pipe()
    os.write(writing, b"a package")
    result = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", IMPORT,
                             bus_address], stdin=reading, capture_output=True, text=True)
    assert "AccessDenied" in result.stderr, result.stderr
    assert os.read(reading, 100) == b"a package"
    assert service.workers() == [] and service.paths(JOB) == []


# ---- nothing is left of what was refused ----

def descriptors(service):
    return len(os.listdir(f"/proc/{service.process.pid}/fd"))


def refuse_calls(service, modem, archive):
    """A call of each kind that is refused before a worker is started."""
    with open(archive, "rb") as f, open("/dev/null", "rb") as null:
        for name, path, interface, method, arguments in (
                (INVALID_ARGS, ROOT, MANAGER, "ImportFirmware", (dbus.types.UnixFd(f.fileno()), "label", options(never_heard=True))),
                (INVALID_ARGS, ROOT, MANAGER, "ImportFirmware", (dbus.types.UnixFd(null.fileno()), "label", options())),
                (INVALID_ARGS, ROOT, MANAGER, "ImportFirmware", (dbus.types.UnixFd(f.fileno()), "a\nb", options())),
                (INVALID_ARGS, ROOT, MANAGER, "ImportBackup", (dbus.types.UnixFd(null.fileno()), options())),
                (INVALID_ARGS, modem, MODEM, "Identify", (options(queue="yes"),)),
                (INVALID_ARGS, modem, MODEM, "Inhibit", ("two\nlines", options())),
                (INVALID_ARGS, modem, MODEM, "Flash", (dbus.ObjectPath("/"), options(allow=dbus.Array(["All"], signature="s")))),
                ("NoSuchFirmware", modem, MODEM, "Flash", (dbus.ObjectPath(modem), options())),
                ("NoSuchFirmware", modem, MODEM, "Plan", (dbus.ObjectPath("/" + "x" * 200), options())),
                ("org.freedesktop.DBus.Error.UnknownObject", "/org/qdld1/firmware/none", FIRMWARE, "Verify", (options(),))):
            with Refused(name):
                service.call(path, interface, method, *arguments)


def memory(service):
    """KiB of its own."""
    with open(f"/proc/{service.process.pid}/status") as f:
        return int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1))


@needs_own_memory
def test_refused_calls_take_no_memory(new_service, forge, archive, plug, bus_address):
    service = new_service().start(worker=forge(LASTING))
    plug(service)
    modem = service.modem()

    def round_of_calls():
        refuse_calls(service, modem, archive)
        stranger = RawClient(bus_address)  # one that the service has not met
        stranger.call(modem, NAME, MODEM, "Identify", struct.pack("<II", 0, 1), "a{sv}")
        stranger.socket.close()
    for _ in range(40):
        round_of_calls()
    before = memory(service), descriptors(service)
    for _ in range(400):
        round_of_calls()
    assert memory(service) - before[0] < 100, before[0]  # 4400 calls: 24 bytes each
    wait_until(lambda: descriptors(service) <= before[1], what="the end of its descriptors")


def test_broken_workers_leave_nothing_open(new_service, forge, archive, plug):
    service = new_service().start(worker=forge("begin()"), config="[Limits]\nJobsLinger=1\n")
    plug(service)
    modem = service.modem()

    def one_of_each():
        for message in BROKEN.values():
            forge(f"order = begin()\n{message}\ntime.sleep(60)\n")
            with Refused("Failed"):
                service.call(modem, MODEM, "Identify", service.no_options())
            forge(f'order = begin()\nsay("READY=1")\n{message}\ntime.sleep(60)\n')
            assert service.wait_job(service.import_file(archive)) == "failed"
        wait_until(lambda: not service.workers(), what="the end of the workers")
    one_of_each()
    before = descriptors(service)
    one_of_each()
    wait_until(lambda: descriptors(service) <= before, what="the end of its descriptors")
