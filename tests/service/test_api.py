# SPDX-License-Identifier: LGPL-2.1-or-later
"""org.qdld1 as clients see it: what is there, what is refused, and how."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import xml.etree.ElementTree as ElementTree

import dbus
import pytest
from conftest import (BACKUP, BUILD, FIRMWARE, INVALID_ARGS, JOB, MANAGER, MODEM, PATIENCE, ROOT, TOP, VERSION, WELL_BEFORE, Refused,
                      error, needs_own_memory, wait_until)

# Imports whatever the archive says; the content is the archive's first line. Other jobs go through to their end.
HONEST = """
order = begin()
say("READY=1")
if order.options.get("type") == "backup":
    backup_import(order) if order.kind == "import" else backup_verify(order)
elif order.kind == "import":
    import_done(order, os.pread(order.fds["archive"], 100, 0))
elif order.kind == "plan":
    say("PLAN=1", fds=[memfd("KIND=summary\\nFIRMWARE=" + order.options["firmware"] + "\\nBYTES=12\\nSBL_LAST=1\\nNOTE=one\\nNOTE=two\\n\\n"
                             "ACTION=erase\\nPARTITION=sbl\\nFIRST_BLOCK=0\\nBLOCKS=8\\n")])
    finish()
elif order.kind == "verify":
    finish()
else:
    say("WAIT_DEVICE=edl")
    hear_until("DEVICE")
    finish("REPORT.what=" + order.kind)
"""

# Stays in its job until it is cancelled or stopped.
LASTING = """
order = begin()
say("READY=1")
message, _ = hear()
say("RESULT=" + ("cancelled" if message[0][0] == "CANCEL" else "interrupted"), "ERROR=Cancelled", "MESSAGE=as asked")
"""


@pytest.fixture
def honest(new_service, forge):
    return new_service().start(worker=forge(HONEST))


@pytest.fixture
def lasting(new_service, forge):
    return new_service().start(worker=forge(LASTING))


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "archive"
    path.write_bytes(b"content")
    return path


def imported(service, archive):
    """The path of a firmware object."""
    job = service.import_file(archive)
    assert service.wait_job(job) == "done"
    return str(service.get(job, JOB, "Object"))


def backed_up(service, tmp_path, model="RM502QGL"):
    """The path of a backup object."""
    path = tmp_path / "backup"
    path.write_text(json.dumps({"kind": "nand", "state": "complete", "serial": "49cbd7ef", "sha256": "ab" * 32, "model": model,
                                "version": VERSION, "created": 1700000000000000, "partitions": "sbl,efs2"}))
    job = service.import_backup(path)
    assert service.wait_job(job) == "done", service.all(job, JOB)
    return str(service.get(job, JOB, "Object"))


# ---- what is there ----

def members(node):
    """{interface: {member: shape}} of an introspection document, of our interfaces only."""
    found = {}
    for interface in node.findall("interface"):
        if not interface.get("name").startswith("org.qdld1."):
            continue
        shapes = found[interface.get("name")] = {}
        for method in interface.findall("method"):
            shapes["method " + method.get("name")] = [(a.get("name"), a.get("type"), a.get("direction"))
                                                      for a in method.findall("arg")]
        for p in interface.findall("property"):
            notes = {a.get("name"): a.get("value") for a in p.findall("annotation")}
            shapes["property " + p.get("name")] = (p.get("type"), p.get("access"), notes)
        for s in interface.findall("signal"):
            shapes["signal " + s.get("name")] = [(a.get("name"), a.get("type")) for a in s.findall("arg")]
    return found


def test_introspection_is_the_documented_api(honest, archive, plug, tmp_path):
    plug(honest)
    honest.modem()
    firmware = imported(honest, archive)
    live = {}
    for path in (ROOT, honest.modem(), firmware, backed_up(honest, tmp_path), honest.paths(JOB)[0]):
        live.update(members(ElementTree.fromstring(honest.introspect(path))))
    documented = members(ElementTree.parse(TOP / "dbus" / "org.qdld1.xml").getroot())
    assert sorted(live) == sorted(documented)
    for interface in documented:
        assert live[interface] == documented[interface], interface


def test_every_method_ends_with_options(honest):
    for interface in ElementTree.parse(TOP / "dbus" / "org.qdld1.xml").getroot().findall("interface"):
        for method in interface.findall("method"):
            inputs = [a for a in method.findall("arg") if a.get("direction") == "in"]
            assert (inputs[-1].get("name"), inputs[-1].get("type")) == ("options", "a{sv}"), method.get("name")


def test_busctl_shows_the_tree(honest, plug, bus_address):
    plug(honest)
    path = honest.modem()
    environment = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=bus_address)
    tree = subprocess.run(["busctl", "--system", "--list", "tree", "org.qdld1"], env=environment, capture_output=True, text=True)
    assert path in tree.stdout.split()


def test_lists_give_what_the_objects_say(honest, archive, plug, tmp_path):
    plug(honest)
    honest.modem(), imported(honest, archive), backed_up(honest, tmp_path)
    for method, interface in (("ListModems", MODEM), ("ListFirmware", FIRMWARE), ("ListBackups", BACKUP), ("ListJobs", JOB)):
        listed = honest.manager(method, honest.no_options())
        assert {str(p): dict(v) for p, v in listed} == {p: dict(honest.all(p, interface)) for p in honest.paths(interface)} != {}


def test_list_jobs_since_and_modem(honest, archive, plug):
    plug(honest)
    modem = honest.modem()
    imported(honest, archive)
    job = honest.call(modem, MODEM, "Identify", honest.no_options())
    assert honest.wait_job(job) == "done"
    of_modem = honest.manager("ListJobs", dbus.Dictionary({"modem": dbus.ObjectPath(modem)}, signature="sv"))
    assert [str(p) for p, _ in of_modem] == [job]
    created = honest.get(job, JOB, "CreatedTime")
    since = honest.manager("ListJobs", dbus.Dictionary({"since": dbus.UInt64(created)}, signature="sv"))
    assert [str(p) for p, _ in since] == [job]
    with Refused("NoSuchModem"):
        honest.manager("ListJobs", dbus.Dictionary({"modem": dbus.ObjectPath("/org/qdld1/modem/nowhere")}, signature="sv"))


# ---- options ----

def options(**values):
    return dbus.Dictionary({k.replace("_", "-"): v for k, v in values.items()}, signature="sv")


def every_method(service, archive_fd, modem, firmware, backup, job):
    return [
        (ROOT, MANAGER, "ListModems", ()), (ROOT, MANAGER, "ListFirmware", ()), (ROOT, MANAGER, "ListJobs", ()),
        (ROOT, MANAGER, "GetHistory", ()), (ROOT, MANAGER, "ListBackups", ()), (ROOT, MANAGER, "ImportBackup", (dbus.types.UnixFd(archive_fd),)),
        (ROOT, MANAGER, "ImportFirmware", (dbus.types.UnixFd(archive_fd), "label")),
        (modem, MODEM, "Backup", ()), (modem, MODEM, "CollectDump", ()), (modem, MODEM, "Restore", (dbus.ObjectPath(backup),)),
        (backup, BACKUP, "Open", ()), (backup, BACKUP, "Verify", ()), (backup, BACKUP, "Remove", ()),
        (ROOT, MANAGER, "ArmPort", ("virtual-usb-0:9", "hold", dbus.ObjectPath("/"))), (modem, MODEM, "Catch", ()),
        (modem, MODEM, "Rescue", ()), (modem, MODEM, "SetPolicy", ("hold", dbus.ObjectPath("/"))), (modem, MODEM, "Forget", ()),
        (modem, MODEM, "Identify", ()), (modem, MODEM, "Plan", (dbus.ObjectPath(firmware),)),
        (modem, MODEM, "Flash", (dbus.ObjectPath(firmware),)), (modem, MODEM, "EnterEdl", ()), (modem, MODEM, "GetIdentity", ()), (modem, MODEM, "Reset", ()),
        (modem, MODEM, "Inhibit", ("a test",)),
        (firmware, FIRMWARE, "Verify", ()), (firmware, FIRMWARE, "Remove", ()),
        (job, JOB, "Cancel", ()), (job, JOB, "Wait", ()), (job, JOB, "GetLog", ()), (job, JOB, "Release", ()),
    ]


def test_unknown_options_are_refused_by_every_method(honest, archive, plug, tmp_path):
    plug(honest)
    firmware = imported(honest, archive)
    job = honest.paths(JOB)[0]
    backup = backed_up(honest, tmp_path)
    jobs = honest.paths(JOB)
    with open(archive) as f:
        methods = every_method(honest, f.fileno(), honest.modem(), firmware, backup, job)
        documented = ElementTree.parse(TOP / "dbus" / "org.qdld1.xml").getroot()
        assert len(methods) == len(documented.findall("interface/method"))
        for path, interface, method, arguments in methods:
            with Refused(INVALID_ARGS) as e:
                honest.call(path, interface, method, *arguments, options(never_heard=True))
            assert '"never-heard"' in e.message and method in e.message
    assert honest.paths(FIRMWARE) == [firmware] and honest.paths(BACKUP) == [backup] and honest.paths(JOB) == jobs


@pytest.mark.parametrize("method, given, named", [
    ("Identify", {"queue": "yes"}, "queue"), ("Reset", {"mode": True}, "mode"), ("Reset", {"mode": "sideways"}, "mode"),
    ("Flash", {"allow": "WrongFirmware"}, "allow"), ("Flash", {"reset": dbus.UInt32(1)}, "reset"),
    ("Flash", {"modem_version": dbus.Int32(5)}, "modem-version"), ("Flash", {"modem_version": "a\nb"}, "modem-version"),
    ("Flash", {"modem_version": "x" * 200}, "modem-version"),
    ("Flash", {"allow": dbus.Array(["EverythingElse"], signature="s")}, "allow"),
    ("Plan", {"allow": dbus.Array([1], signature="i")}, "allow"),
])
def test_options_of_the_wrong_type_or_value(honest, archive, plug, method, given, named):
    plug(honest)
    arguments = [dbus.ObjectPath(imported(honest, archive))] if method in ("Flash", "Plan") else []
    with Refused(INVALID_ARGS) as e:
        honest.call(honest.modem(), MODEM, method, *arguments, options(**given))
    assert f'"{named}"' in e.message


def test_wrong_argument_types(honest, plug):
    plug(honest)
    for path, interface, method, arguments in ((honest.modem(), MODEM, "Identify", ("text",)), (ROOT, MANAGER, "ListJobs", ()),
                                               (honest.modem(), MODEM, "Flash", (1, 2))):
        with Refused(INVALID_ARGS):
            honest.call(path, interface, method, *arguments)


def test_objects_of_another_kind(honest, archive, plug):
    plug(honest)
    modem = honest.modem()
    job = honest.import_file(archive)
    honest.wait_job(job)
    for path in (job, modem, "/", "/org/qdld1/firmware/nothing"):
        with Refused("NoSuchFirmware") as e:
            honest.call(modem, MODEM, "Flash", dbus.ObjectPath(path), honest.no_options())
        assert path in e.message
    with Refused("org.freedesktop.DBus.Error.UnknownObject"):
        honest.call("/org/qdld1/job/_39", JOB, "Cancel", honest.no_options())
    with Refused("org.freedesktop.DBus.Error.UnknownMethod"):
        honest.call(modem, JOB, "Cancel", honest.no_options())


# ---- descriptors ----

def test_descriptors_that_are_refused(honest, tmp_path, archive):
    pair = socket.socketpair()
    _, write_end = os.pipe()
    descriptors = {
        "directory": os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY),
        "O_PATH": os.open(archive, os.O_PATH),
        "writing only": os.open(archive, os.O_WRONLY),
        "neither": pair[0].fileno(),
        "neither ": os.open("/dev/zero", os.O_RDONLY),
        "writing only ": write_end,
    }
    for word, fd in descriptors.items():
        with Refused(INVALID_ARGS) as e:
            honest.import_file(fd)
        assert word.strip() in e.message
    o_path_directory = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    with Refused(INVALID_ARGS):
        honest.import_file(o_path_directory)
    assert honest.paths(JOB) == [] and honest.workers() == []


def test_a_closed_descriptor_never_reaches_the_service(honest, archive):
    fd = os.open(archive, os.O_RDONLY)
    os.close(fd)
    with pytest.raises((ValueError, OSError, dbus.exceptions.DBusException)):
        honest.import_file(fd)
    assert honest.manager("ListJobs", honest.no_options()) == []


def test_label_and_digest_are_checked(honest, archive):
    for label in ("x" * 256, "a\nb", "a\x1bb"):
        with Refused(INVALID_ARGS):
            honest.import_file(archive, label)
    for sha256 in ("", "12", "g" * 64):
        if sha256:
            with Refused(INVALID_ARGS) as e:
                honest.import_file(archive, sha256=sha256)
            assert "sha256" in e.message


def test_an_archive_beyond_the_limit(new_service, forge, tmp_path):
    service = new_service().start(worker=forge(HONEST), config="[Limits]\nPackageSizeMax=1M\n")
    big = tmp_path / "big"
    with open(big, "wb") as f:
        f.truncate((1 << 20) + 1)
    with Refused("TooLarge"):
        service.import_file(big)


def test_no_space(new_service, forge, archive):
    service = new_service()
    service.start(worker=forge(HONEST), config="ReserveFree=1024T\n")
    with Refused("NoSpace"):
        service.import_file(archive)


def test_the_library_limit_stops_an_import_under_way(new_service, forge, archive):
    worker = forge("""
order = begin()
say("READY=1")
os.pwrite(order.fds["store"], bytes(2 << 20), 0)
say("PROGRESS=10", "BYTES_DONE=2097152", "BYTES_TOTAL=9999999")
hear()
""")
    service = new_service().start(worker=worker, config="[Limits]\nLibrarySizeMax=1M\n")
    job = service.import_file(archive)
    assert service.wait_job(job) == "failed"
    assert service.get(job, JOB, "ErrorName") == error("NoSpace")
    assert os.listdir(service.state / "firmware") == []


# ---- the library ----

def test_same_content_same_object(honest, archive, tmp_path):
    first = imported(honest, archive)
    again = imported(honest, archive)
    assert first == again and honest.paths(FIRMWARE) == [first]
    properties = honest.all(first, FIRMWARE)
    assert properties["Label"] == "test" and properties["State"] == "ready" and properties["Name"] == VERSION
    assert properties["OwnerUid"] == os.getuid() and properties["Size"] == len(b"content")
    assert len(os.listdir(honest.state / "firmware")) == 2


def test_the_library_outlives_the_service(new_service, forge, archive):
    service = new_service().start(worker=forge(HONEST))
    firmware = imported(service, archive)
    before = service.all(firmware, FIRMWARE)
    (service.state / "firmware" / ("0" * 32 + ".tar")).write_bytes(b"left over by a crash")
    service.restart(worker=forge(HONEST))
    assert service.all(firmware, FIRMWARE) == before
    assert not (service.state / "firmware" / ("0" * 32 + ".tar")).exists()


def test_remove(honest, archive):
    firmware = imported(honest, archive)
    honest.call(firmware, FIRMWARE, "Remove", honest.no_options())
    assert honest.paths(FIRMWARE) == [] and os.listdir(honest.state / "firmware") == []
    with Refused("org.freedesktop.DBus.Error.UnknownObject"):
        honest.call(firmware, FIRMWARE, "Remove", honest.no_options())


def test_firmware_in_use_is_not_removed(new_service, forge, archive):
    service = new_service().start(worker=forge(HONEST))
    firmware = imported(service, archive)
    service.restart(worker=forge(LASTING))
    job = service.call(firmware, FIRMWARE, "Verify", service.no_options())
    with Refused("FirmwareInUse"):
        service.call(firmware, FIRMWARE, "Remove", service.no_options())
    service.call(job, JOB, "Cancel", service.no_options())
    assert service.wait_job(job) == "cancelled"
    service.call(firmware, FIRMWARE, "Remove", service.no_options())


def test_verify_that_finds_something_makes_it_invalid(new_service, forge, archive, plug):
    service = new_service().start(worker=forge(HONEST))
    firmware = imported(service, archive)
    service.restart(worker=forge("""
order = begin()
say("READY=1")
say("PROBLEM=sbl1.mbn: MD5 differs", "PROBLEM=tz.mbn is missing")
say("RESULT=failed", "ERROR=DigestMismatch", "MESSAGE=2 files are damaged")
"""))
    job = service.call(firmware, FIRMWARE, "Verify", service.no_options())
    assert service.wait_job(job) == "failed"
    assert service.get(firmware, FIRMWARE, "State") == "invalid"
    assert list(service.get(firmware, FIRMWARE, "Problems")) == ["sbl1.mbn: MD5 differs", "tz.mbn is missing"]
    assert list(service.get(job, JOB, "Report")["problems"]) == ["sbl1.mbn: MD5 differs", "tz.mbn is missing"]
    plug(service)
    with Refused("FirmwareInvalid") as e:
        service.call(service.modem(), MODEM, "Flash", dbus.ObjectPath(firmware), service.no_options())
    assert "sbl1.mbn" in e.message
    service.restart(worker=forge(HONEST))
    assert service.get(firmware, FIRMWARE, "State") == "invalid"
    assert service.wait_job(service.call(firmware, FIRMWARE, "Verify", service.no_options())) == "done"
    assert service.get(firmware, FIRMWARE, "State") == "ready" and list(service.get(firmware, FIRMWARE, "Problems")) == []


# ---- modes ----

@pytest.mark.parametrize("vid, pid, interfaces, mode", [
    ("05c6", "9008", 1, "sahara"), ("2c7c", "0800", 5, "normal"), ("05c6", "900e", 1, "crash-dump"),
])
def test_mode_by_what_appeared(honest, plug, vid, pid, interfaces, mode):
    device = plug(honest, vid=vid, pid=pid, interfaces=interfaces, product="anything")
    path = honest.modem()
    properties = honest.all(path, MODEM)
    assert properties["Mode"] == mode and properties["Port"] == "virtual-usb-0:1.2" and properties["KernelName"] == "1-1.2"
    assert (properties["VendorId"], properties["ProductId"]) == (int(vid, 16), int(pid, 16))
    assert properties["Job"] == "/" and properties["Interrupted"] == "/" and not properties["Held"]
    device.unplug()
    wait_until(lambda: honest.get(path, MODEM, "Mode") == "absent")
    assert honest.get(path, MODEM, "KernelName") == ""


def test_a_modem_in_fastboot_is_not_reset(honest, plug):
    p = plug(honest, vid="2c7c", pid="0800", interfaces=5, product="RM502Q-GL")
    honest.modem()
    p.unplug()
    plug(honest, vid="18d1", pid="d00d", product="Android")
    wait_until(lambda: honest.get(honest.modem(), MODEM, "Mode") == "fastboot", what="fastboot")
    with Refused("WrongMode") as e:
        honest.call(honest.modem(), MODEM, "Reset", honest.no_options())
    assert "fastboot mode" in e.message and "9008" in e.message


def test_plan_is_typed(honest, archive, plug):
    plug(honest)
    firmware = imported(honest, archive)
    plan = honest.call(honest.modem(), MODEM, "Plan", dbus.ObjectPath(firmware), honest.no_options())
    assert plan[0] == {"kind": "summary", "firmware": honest.get(firmware, FIRMWARE, "Sha256")[:32], "bytes": 12, "sbl-last": True,
                       "notes": ["one", "two"]}
    assert isinstance(plan[0]["bytes"], dbus.UInt64) and isinstance(plan[0]["sbl-last"], dbus.Boolean)
    assert plan[1] == {"action": "erase", "partition": "sbl", "first-block": 0, "blocks": 8}
    assert len(plan) == 2 and len(honest.paths(JOB)) == 1  # the import: a plan leaves no job


# ---- jobs ----

def test_one_job_a_modem_and_queue(lasting, plug):
    plug(lasting)
    modem = lasting.modem()
    first = lasting.call(modem, MODEM, "Identify", lasting.no_options())
    assert lasting.get(modem, MODEM, "Job") == first and lasting.get(first, JOB, "State") == "running"
    assert lasting.get(ROOT, MANAGER, "Busy")
    with Refused("ModemBusy") as e:
        lasting.call(modem, MODEM, "Reset", lasting.no_options())
    assert "identify" in e.message and "queue" in e.message
    second = lasting.call(modem, MODEM, "Reset", options(queue=True))
    third = lasting.call(modem, MODEM, "Identify", options(queue=True))
    assert lasting.get(second, JOB, "State") == "queued" and lasting.get(third, JOB, "Cancelable")
    lasting.call(third, JOB, "Cancel", lasting.no_options())
    assert lasting.wait_job(third) == "cancelled"
    lasting.call(first, JOB, "Cancel", lasting.no_options())
    assert lasting.wait_job(first) == "cancelled"
    wait_until(lambda: lasting.get(second, JOB, "State") == "running")
    assert lasting.get(modem, MODEM, "Job") == second
    lasting.call(second, JOB, "Cancel", lasting.no_options())
    assert lasting.wait_job(second) == "cancelled"
    wait_until(lambda: not lasting.get(ROOT, MANAGER, "Busy"))
    with Refused("NotCancelable"):
        lasting.call(second, JOB, "Cancel", lasting.no_options())


def test_cancel_is_honest(new_service, forge, plug):
    worker = forge("""
order = begin()
say("READY=1")
say("CANCELABLE=0", "UNSAFE=1", "PHASE=erase", "DETAIL=sbl")
hear()
""")
    service = new_service().start(worker=worker)
    plug(service)
    job = service.call(service.modem(), MODEM, "Identify", service.no_options())
    wait_until(lambda: not service.get(job, JOB, "Cancelable"))
    assert not service.get(job, JOB, "SafeToUnplug")
    with Refused("NotCancelable") as e:
        service.call(job, JOB, "Cancel", service.no_options())
    assert "erase" in e.message
    assert service.get(job, JOB, "State") == "running"


def test_limit_of_jobs_per_user(new_service, forge, plug):
    service = new_service().start(worker=forge(LASTING))
    for i in range(9):
        plug(service, port=f"virtual-usb-0:{i}", kernel=f"1-{i}")
    modems = wait_until(lambda: len(service.paths(MODEM)) == 9 and service.paths(MODEM))
    for modem in modems[:8]:
        service.call(modem, MODEM, "Identify", service.no_options())
    with Refused("LimitExceeded") as e:
        service.call(modems[8], MODEM, "Identify", service.no_options())
    assert "8" in e.message
    with Refused("LimitExceeded"):
        service.call(modems[0], MODEM, "Identify", options(queue=True))
    assert len(service.workers()) == 8


def test_limit_of_all_jobs_and_many_calls(new_service, forge, plug):
    service = new_service().start(worker=forge(LASTING), config="[Limits]\nJobsMax=3\nJobsPerUser=64\n")
    plug(service)
    modem = service.modem()
    accepted = 0
    for _ in range(1000):
        try:
            service.call(modem, MODEM, "Identify", options(queue=True))
            accepted += 1
        except dbus.exceptions.DBusException as e:
            assert e.get_dbus_name() == error("LimitExceeded")
    assert accepted == 3 and len(service.workers()) == 1


def another(archive, n):
    """A file of its own."""
    path = archive.with_name(f"archive-{n}")
    path.write_bytes(b"content %d" % n)
    return path


def test_limit_of_imports(new_service, forge, archive):
    service = new_service().start(worker=forge(LASTING), config="[Limits]\nImportWorkersMax=3\nImportsPerUser=2\n")
    for n in range(2):
        service.import_file(another(archive, n))
    with Refused("LimitExceeded") as e:
        service.import_file(archive)
    assert "2" in e.message and "queue=true" in e.message


def test_limit_of_import_workers(new_service, forge, archive):
    service = new_service().start(worker=forge(LASTING), config="[Limits]\nImportWorkersMax=1\n")
    service.import_file(archive)
    with Refused("LimitExceeded"):
        service.import_file(another(archive, 1))


def test_imports_wait_for_their_turn(new_service, forge, archive):
    service = new_service().start(worker=forge(LASTING))
    jobs = [service.import_file(another(archive, n), queue=True) for n in range(8)]
    assert len(service.workers()) == 2
    assert [str(service.get(j, JOB, "State")) for j in jobs] == ["running"] * 2 + ["queued"] * 6
    with Refused("LimitExceeded") as e:  # the other limits hold
        service.import_file(archive, queue=True)
    assert "8 unfinished jobs" in e.message
    service.call(jobs[3], JOB, "Cancel", service.no_options())
    assert service.get(jobs[3], JOB, "Result") == "cancelled"
    for job in jobs[:2]:
        service.call(job, JOB, "Cancel", service.no_options())
        service.wait_job(job)
    for job in (jobs[2], jobs[4]):
        wait_until(lambda: service.get(job, JOB, "State") == "running")
    assert len(service.workers()) == 2 and service.get(jobs[5], JOB, "State") == "queued"
    service.restart(worker=forge(LASTING))
    assert {str(service.get(j, JOB, "Result")) for j in jobs[4:]} == {"interrupted"}


def test_a_waiting_backup_has_its_turn(new_service, forge, archive):
    service = new_service().start(worker=forge(LASTING), config="[Limits]\nImportsPerUser=1\n")
    first = service.import_file(archive)
    with Refused("LimitExceeded"):
        service.import_backup(archive)
    second = service.import_backup(archive, queue=True)
    assert service.get(second, JOB, "State") == "queued"
    service.call(first, JOB, "Cancel", service.no_options())
    wait_until(lambda: service.get(second, JOB, "State") == "running")


def test_a_file_is_imported_once_at_a_time(new_service, forge, archive):
    service = new_service().start(worker=forge(LASTING))
    job = service.import_file(archive)
    assert service.import_file(archive) == job and service.import_file(archive, sha256="") == job
    assert len(service.workers()) == 1
    # Not for another label, another expectation, or another content.
    assert service.import_file(archive, label="other") != job
    with Refused("LimitExceeded"):
        service.import_file(archive, sha256="ab" * 32)
    os.utime(archive, ns=(1, 1))
    with Refused("LimitExceeded"):
        service.import_file(archive)
    service.call(job, JOB, "Cancel", service.no_options())
    assert service.wait_job(job) == "cancelled"
    assert service.import_file(archive) != job


def test_jobs_linger_and_numbers_are_never_used_again(new_service, forge, archive):
    service = new_service().start(worker=forge(HONEST), config="[Limits]\nJobsLinger=3\n")
    jobs = []
    for _ in range(5):
        jobs.append(str(service.import_file(archive)))
        service.wait_job(jobs[-1])
    assert [int(service.get(j, JOB, "Id")) for j in jobs[2:]] == [3, 4, 5]
    assert service.paths(JOB) == sorted(jobs[2:])
    before = [service.all(j, JOB) for j in jobs[2:]]
    service.restart(worker=forge(HONEST), config="[Limits]\nJobsLinger=3\n")
    after = [service.all(j, JOB) for j in jobs[2:]]
    for b, a in zip(before, after):
        for numbers in ("BytesDone", "BytesTotal", "Rate", "Phase", "Detail"):
            b.pop(numbers), a.pop(numbers)
        assert a == b
    for j in jobs[2:]:
        service.call(j, JOB, "Release", service.no_options())
    assert sorted(os.listdir(service.state / "jobs")) == ["history", "last"]
    service.restart(worker=forge(HONEST))
    assert service.get(service.import_file(archive), JOB, "Id") == 6


def test_jobs_linger_for_a_time(new_service, forge, archive):
    service = new_service().start(worker=forge(HONEST), config="[Limits]\nJobsLingerSec=1\n")
    first = service.import_file(archive)
    service.wait_job(first)
    ended = service.get(first, JOB, "EndTime") / 1e6
    time.sleep(max(0, ended + 1.1 - time.time()))
    second = service.import_file(archive)
    service.wait_job(second)
    assert service.paths(JOB) == [second]


def test_release_of_a_running_job(lasting, archive):
    job = lasting.import_file(archive)
    with Refused("NotCancelable"):
        lasting.call(job, JOB, "Release", lasting.no_options())
    assert lasting.paths(JOB) == [job]


def test_log_is_a_read_only_file(new_service, forge, archive):
    worker = forge("""
order = begin()
say("READY=1", "LOG=first line", "LOG=IMEI 490154203237518 and \\\\x1b[31m")
import_done(order)
""")
    service = new_service().start(worker=worker)
    job = service.import_file(archive)
    service.wait_job(job)
    text = service.log(job)
    lines = text.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z first line$", lines[0])
    assert "490154203237518" not in text and "\x1b" not in text and "\\x1b[31m" in lines[1]
    fd = service.call(job, JOB, "GetLog", service.no_options()).take()
    with pytest.raises(OSError):
        os.write(fd, b"x")
    os.close(fd)


def test_log_is_bounded(new_service, forge, archive):
    worker = forge("""
order = begin()
say("READY=1")
for _ in range(300):
    say("LOG=" + "x" * 1000)
import_done(order)
""")
    service = new_service().start(worker=worker, config="[Limits]\nJobLogMax=64K\n")
    job = service.import_file(archive)
    assert service.wait_job(job) == "done"
    text = service.log(job)
    assert 60000 < len(text) < 66000 and "full" in text.splitlines()[-1]


def test_wait_many_and_gone(lasting, archive, bus_address):
    job = lasting.import_file(archive)
    environment = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=bus_address)
    command = ["busctl", "--system", f"--timeout={PATIENCE:.0f}", "call", "org.qdld1", job, JOB, "Wait", "a{sv}", "0"]
    for _ in range(20):  # more than one user may have; each leaves again
        p = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.05)
        p.kill()
        p.wait()
    waiting = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    time.sleep(0.3)
    lasting.call(job, JOB, "Cancel", lasting.no_options())
    assert [p.communicate(timeout=PATIENCE)[0].strip() for p in waiting] == ['s "cancelled"'] * 3


def test_the_caller_may_leave(new_service, forge, archive, bus_address, tmp_path):
    """Its call is not answered yet; the job goes on to its end."""
    worker = forge(f"""
order = begin()
while not os.path.exists({str(tmp_path / "go")!r}):
    time.sleep(0.01)
say("READY=1")
import_done(order)
""")
    service = new_service().start(worker=worker)
    connection = dbus.bus.BusConnection(bus_address)
    proxy = connection.get_object("org.qdld1", ROOT, introspect=False)
    with open(archive) as f:
        message = dbus.lowlevel.MethodCallMessage("org.qdld1", ROOT, MANAGER, "ImportFirmware")
        message.append(dbus.types.UnixFd(f.fileno()), "label", dbus.Dictionary({}, signature="sv"), signature="hsa{sv}")
        connection.send_message(message)
        connection.flush()
    wait_until(service.workers)
    connection.close()
    (tmp_path / "go").touch()
    wait_until(lambda: service.paths(FIRMWARE))
    assert [service.wait_job(j) for j in service.paths(JOB)] == ["done"]


def test_progress_is_throttled_and_never_goes_back(new_service, forge, plug, changes, tmp_path):
    worker = forge(f"""
order = begin()
say("READY=1", "PHASE=program")
while not os.path.exists({str(tmp_path / "go")!r}):
    time.sleep(0.01)
for i in range(100):
    say(f"PROGRESS={{i * 10000 - (i % 10) * 20000 if i % 10 and i > 20 else i * 10000}}", f"BYTES_DONE={{i * 1000}}", "BYTES_TOTAL=100000")
    time.sleep(0.01)
finish()
""")
    service = new_service().start(worker=worker)
    plug(service)
    job = service.call(service.modem(), MODEM, "Identify", service.no_options())
    listener = changes(job)
    begin = time.monotonic()
    (tmp_path / "go").touch()
    seen = []
    while service.get(job, JOB, "State") != "finished":
        seen.append(float(service.get(job, JOB, "Progress")))
    took = time.monotonic() - begin
    assert seen == sorted(seen) and service.get(job, JOB, "Progress") == 1.0
    events = [names for names in listener.end() if "Progress" in names and "State" not in names]
    # Of 100 messages: one signal each 200 ms, however long the worker took for them here.
    assert 3 <= len(events) <= 2 + took / 0.2, (took, events)
    for names in events:
        assert {"Progress", "BytesDone", "BytesTotal", "Rate", "ExpectedEndTime"} <= set(names)


def test_the_end_is_told_at_once_and_together(new_service, forge, plug, changes, tmp_path):
    worker = forge(f"""
order = begin()
say("READY=1")
while not os.path.exists({str(tmp_path / "go")!r}):
    time.sleep(0.01)
say("RESULT=failed", "ERROR=FirehoseFailed", "MESSAGE=erase was refused", "WORDS=Failed to erase", "HINT=power-cycle")
""")
    service = new_service().start(worker=worker)
    plug(service)
    modem = service.modem()
    job = service.call(modem, MODEM, "Identify", service.no_options())
    listener = changes(job)
    (tmp_path / "go").touch()
    assert service.wait_job(job) == "failed"
    events = [names for names in listener.end() if "State" in names]
    assert len(events) == 1 and {"State", "Result", "ErrorName", "ErrorMessage", "RecoveryHint", "EndTime"} <= set(events[0])
    properties = service.all(job, JOB)
    assert properties["ErrorName"] == error("FirehoseFailed") and properties["RecoveryHint"] == "power-cycle"
    assert properties["ErrorMessage"] == 'erase was refused: "Failed to erase"'
    assert service.get(modem, MODEM, "LastError") == properties["ErrorMessage"]


# ---- pre-flight ----

def test_an_error_of_the_pre_flight_is_the_call_s_error(new_service, forge, archive, plug):
    service = new_service().start(worker=forge("""
order = begin()
say("RESULT=failed", "ERROR=WrongFirmware", "MESSAGE=this is for an EC25, the modem is an RM502Q-GL", "HINT=wrong-firmware")
"""))
    plug(service)
    modem = service.modem()
    with Refused("WrongFirmware") as e:
        service.call(modem, MODEM, "Identify", service.no_options())
    assert "EC25" in e.message
    assert service.paths(JOB) == [] and service.get(modem, MODEM, "Job") == "/" and not service.get(ROOT, MANAGER, "Busy")
    assert [n for n in os.listdir(service.state / "jobs") if n not in ("history", "last")] == []


def test_a_pre_flight_that_takes_too_long(new_service, forge, archive):
    service = new_service().start(worker=forge("order = begin()\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)"),
                                  config="[Limits]\nPreflightSec=1\n")
    begin = time.monotonic()
    with Refused("Timeout") as e:
        service.import_file(archive)
    assert 0.9 < time.monotonic() - begin < WELL_BEFORE and "1 s" in e.message
    assert service.workers() == [] and service.paths(JOB) == []


# ---- who may ----

def as_nobody(address, *arguments):
    environment = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=address)
    return subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "busctl", "--system", *arguments],
                          env=environment, capture_output=True, text=True)


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root to act as a second user")


@needs_root
def test_without_polkit_only_free_methods_for_others(lasting, archive, plug, bus_address):
    plug(lasting)
    modem, job = lasting.modem(), lasting.import_file(archive)
    call = ["call", "org.qdld1"]
    assert as_nobody(bus_address, *call, ROOT, MANAGER, "ListJobs", "a{sv}", "0").returncode == 0
    for path, interface, method in ((modem, MODEM, "Identify"), (modem, MODEM, "Reset"), (job, JOB, "Cancel"), (job, JOB, "GetLog"),
                                    (job, JOB, "Release")):
        result = as_nobody(bus_address, *call, path, interface, method, "a{sv}", "0")
        assert result.returncode != 0 and "Access denied" in result.stderr, result.stderr
    assert lasting.get(job, JOB, "State") == "running"


@contextlib.contextmanager
def polkit_allows(service, address, *actions):
    mock = subprocess.Popen(["/usr/bin/python3", "-m", "dbusmock", "--system", "--template", "polkitd"],
                            env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=address), stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: service.bus.name_has_owner("org.freedesktop.PolicyKit1"))
        policy = service.bus.get_object("org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority")
        policy.SetAllowed(dbus.Array(actions, signature="s"), dbus_interface="org.freedesktop.DBus.Mock")
        yield
    finally:
        mock.terminate()
        mock.wait(PATIENCE)


def import_as_nobody(address, archive, label):
    """The path of the job, as nobody is told it."""
    archive.chmod(0o644)
    script = ("import dbus, dbus.bus, sys\n"
              f"bus = dbus.bus.BusConnection({address!r})\n"
              "o = bus.get_object('org.qdld1', '/org/qdld1', introspect=False)\n"
              f"print(o.ImportFirmware(dbus.types.UnixFd(0), {label!r}, dbus.Dictionary({{}}, signature='sv'),"
              " dbus_interface='org.qdld1.Manager'))\n")
    with open(archive) as f:
        result = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", script],
                                stdin=f, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@needs_root
def test_polkit_is_asked_and_the_call_goes_on(new_service, forge, plug, archive, bus_address):
    """The answer comes later: the same call, descriptor included, is taken up again."""
    service = new_service().start(worker=forge(HONEST))
    with polkit_allows(service, bus_address, "org.qdld1.import"):
        plug(service)
        denied = as_nobody(bus_address, "call", "org.qdld1", service.modem(), MODEM, "Identify", "a{sv}", "0")
        assert "Access denied" in denied.stderr
        job = import_as_nobody(bus_address, archive, "mine")
        assert service.wait_job(job) == "done"
        assert service.get(job, JOB, "OwnerUid") == 65534
        firmware = service.get(job, JOB, "Object")
        assert service.get(firmware, FIRMWARE, "OwnerUid") == 65534 and service.get(firmware, FIRMWARE, "Label") == "mine"
        # The owner's own job is free, without polkit's word.
        assert as_nobody(bus_address, "call", "org.qdld1", job, JOB, "Release", "a{sv}", "0").returncode == 0


@needs_root
def test_an_import_of_somebody_else_is_not_shared(new_service, forge, archive, bus_address):
    """What the owner of a file answers may differ from reader to reader."""
    service = new_service().start(worker=forge(LASTING))
    job = service.import_file(archive, label="the same")
    with polkit_allows(service, bus_address, "org.qdld1.import"):
        archive.chmod(0o644)
        other = import_as_nobody(bus_address, archive, "the same")
    assert other != job and service.get(other, JOB, "OwnerUid") == 65534 and len(service.workers()) == 2


# ---- life of the service ----

def test_stop_ends_workers_in_order(lasting, plug, archive):
    plug(lasting)
    modem = lasting.modem()
    running = lasting.call(modem, MODEM, "Identify", lasting.no_options())
    queued = lasting.call(modem, MODEM, "Identify", options(queue=True))
    assert lasting.stop() == 0
    lasting.start(worker=lasting.directory / "forged")
    for job in (running, queued):
        assert lasting.get(job, JOB, "Result") == "interrupted", job


def test_the_bus_goes(new_service, forge, archive, tmp_path):
    """A worker is not killed in the middle of a write because dbus-daemon died: it is stopped in order."""
    service = new_service()
    worker = forge(f"""
order = begin()
say("READY=1")
hear_until("STOP")
open({str(tmp_path / "stopped")!r}, "w").close()
say("RESULT=interrupted", "ERROR=Interrupted", "MESSAGE=as asked")
""")
    service.start(worker=worker)
    service.import_file(archive)
    bus_daemon = service.call_bus("GetConnectionUnixProcessID", "org.freedesktop.DBus")
    os.kill(bus_daemon, signal.SIGKILL)
    assert service.process.wait(PATIENCE) == 1 and (tmp_path / "stopped").exists()
    service.process = None
    assert "RESULT=interrupted" in (service.state / "jobs" / "1.rec").read_text()


def test_systemd_is_told(new_service, forge, archive, tmp_path):
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(tmp_path / "notify"))
    notify.settimeout(PATIENCE)

    def hear(word):
        while not any(word in line for line in heard):
            heard.extend(notify.recv(4096).decode().splitlines())
    heard = []
    service = new_service().start(worker=forge(LASTING), environment={"NOTIFY_SOCKET": str(tmp_path / "notify"),
                                                                      "WATCHDOG_USEC": "600000"})
    hear("READY=1")
    hear("WATCHDOG=1")
    service.import_file(archive)
    hear("STATUS=import 1")
    assert service.stop() == 0
    hear("STOPPING=1")
    hear("EXTEND_TIMEOUT_USEC=")
    seconds = int(next(line for line in heard if line.startswith("EXTEND_")).split("=")[1]) / 1e6
    assert 120 <= seconds < 130


def test_killed_in_the_middle(lasting, archive):
    job = lasting.import_file(archive)
    workers = lasting.workers()
    lasting.stop(signal.SIGKILL)
    wait_until(lambda: not any(os.path.exists(f"/proc/{p}") for p in workers), what="the end of the workers")
    lasting.start(worker=lasting.directory / "forged")
    properties = lasting.all(job, JOB)
    assert properties["State"] == "finished" and properties["Result"] == "interrupted"
    assert properties["ErrorName"] == error("Interrupted") and properties["EndTime"] > 0


def test_a_damaged_record_is_set_aside(new_service, forge, archive):
    service = new_service().start(worker=forge(HONEST))
    firmware, job = imported(service, archive), service.paths(JOB)[0]
    assert service.stop() == 0
    for record in list((service.state / "jobs").glob("*.rec")):
        record.write_bytes(b"\x00\xffno record")
    service.start(worker=forge(HONEST))
    assert service.paths(JOB) == [] and service.paths(FIRMWARE) == [firmware]
    assert list((service.state / "jobs").glob("*.bad"))
    new = service.import_file(archive)
    assert service.get(new, JOB, "Id") == 2 and new != job


@needs_own_memory
def test_small_and_quiet(honest, plug):
    plug(honest)
    honest.modem()
    status = open(f"/proc/{honest.process.pid}/status").read()
    assert int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) < 12 * 1024

    def switches():
        text = open(f"/proc/{honest.process.pid}/status").read()
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.M).group(1))
    def quiet():
        """What it has to do at its start comes to an end; what it does again and again does not."""
        before = switches()
        time.sleep(1.5)
        return switches() == before
    wait_until(quiet, what="1.5 s in which it does nothing")


def test_bad_command_lines():
    for arguments, status in ((["--no-such-option"], 2), (["extra"], 2), (["--version"], 0), (["--help"], 0),
                              (["--worker=/nonexistent"], 1)):
        assert subprocess.run([BUILD / "qdld", *arguments], capture_output=True).returncode == status
