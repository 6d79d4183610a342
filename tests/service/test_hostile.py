# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a hostile user, a damaged disk and a captured worker can try beyond single calls and single messages."""

import contextlib
import hashlib
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import threading
import time

import dbus
import dbus.bus
import pytest
from conftest import BUILD, FIRMWARE, JOB, MANAGER, MODEM, PATIENCE, WELL_BEFORE, Refused, error, wait_until
from test_api import HONEST, LASTING, archive, imported  # noqa: F401
from test_link import HONEST_FLASH, INTERRUPTED, flash, flash_with, library  # noqa: F401


# ---- a damaged disk ----

@pytest.mark.parametrize("line", ["MODEM=no path", "OBJECT=/org//x", "RESUMES=relative", r"MESSAGE=\xff\xfe", r"PHASE=\x07",
                                  r"REPORT.what=\xff", r"PROBLEM.0=\xff"])
def test_a_bad_value_in_a_job_s_record(new_service, forge, archive, line):
    service = new_service().start(worker=forge(HONEST))
    imported(service, archive)
    job = service.paths(JOB)[0]
    assert service.stop() == 0
    record = service.state / "jobs" / "1.rec"
    key = line.split("=")[0]
    lines = [old for old in record.read_text().splitlines() if not old.startswith(key + "=")]
    record.write_text("\n".join(lines + [line, ""]))
    service.start(worker=forge(HONEST))
    assert service.paths(JOB) == [job]
    assert service.all(job, JOB)["Result"] == "done"
    assert service.manager("ListJobs", service.no_options())


def test_a_job_s_record_without_its_data(new_service, forge, archive):
    """Nor has the file that counts the jobs: the number is not given to another one."""
    service = new_service().start(worker=forge(HONEST))
    imported(service, archive)
    job = service.paths(JOB)[0]
    assert service.stop() == 0
    for name in ("1.rec", "last"):
        (service.state / "jobs" / name).write_text("")
    service.start(worker=forge(HONEST))
    assert service.paths(JOB) == [] and (service.state / "jobs" / "1.rec.bad").exists()
    assert service.import_file(archive) != job


def test_a_bad_value_in_a_firmware_s_record(new_service, forge, archive):
    service = new_service().start(worker=forge(HONEST))
    firmware = imported(service, archive)
    assert service.stop() == 0
    record = next((service.state / "firmware").glob("*.rec"))
    record.write_text(record.read_text() + "label=\\xff\nproblem.0=\\xff\n")
    service.start(worker=forge(HONEST))
    assert service.paths(FIRMWARE) == [firmware]


# ---- descriptors ----

class RawClient:
    """D-Bus by hand: libraries do not send descriptors that no argument names."""

    def __init__(self, address):
        self.serial, self.heard = 0, b""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(address.removeprefix("unix:path="))
        self.socket.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        assert self.socket.recv(4096).startswith(b"OK")
        self.socket.sendall(b"NEGOTIATE_UNIX_FD\r\n")
        assert self.socket.recv(4096).startswith(b"AGREE")
        self.socket.sendall(b"BEGIN\r\n")
        self.call("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus", "Hello", b"", "")

    def hear(self, n):
        """The serials of the first n calls that are answered, in the order of the answers; negative for an error."""
        while True:
            answers, at = [], 0
            while len(self.heard) >= at + 16:
                kind, body, fields = struct.unpack("<xBxxIxxxxI", self.heard[at:at + 16])
                serial = re.search(rb"\x05\x01u\0(....)", self.heard[at:at + 16 + fields], re.S)
                at += 16 + fields + -fields % 8 + body
                if kind in (2, 3) and at <= len(self.heard):
                    answers.append(struct.unpack("<i", serial.group(1))[0] * (1 if kind == 2 else -1))
            if len(answers) >= n:
                return answers
            data = self.socket.recv(65536)
            assert data, "the bus hung up"
            self.heard += data

    def call(self, *arguments, fds=()):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
        self.socket.sendmsg([self.pack(*arguments, fds=fds)], rights)

    def pack(self, path, destination, interface, member, body, signature, fds=()):
        self.serial += 1
        fields = b""
        for code, kind, value in ((1, "o", path), (6, "s", destination), (2, "s", interface), (3, "s", member)):
            fields += b"\0" * (-len(fields) % 8) + struct.pack("<B2sBI", code, b"\1" + kind.encode(), 0, len(value))
            fields += value.encode() + b"\0"
        if signature:
            fields += b"\0" * (-len(fields) % 8) + struct.pack("<B3sB", 8, b"\1g\0", len(signature)) + signature.encode() + b"\0"
        if fds:
            fields += b"\0" * (-len(fields) % 8) + struct.pack("<B3sI", 9, b"\1u\0", len(fds))
        header = struct.pack("<cBBBIII", b"l", 1, 0, 1, len(body), self.serial, len(fields)) + fields
        return header + b"\0" * (-len(header) % 8) + body


def test_surplus_descriptors_of_waiting_calls_are_not_kept(new_service, forge, archive, plug, bus_address):
    service = new_service().start(worker=forge(LASTING))
    resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (128, 128))
    job = service.import_file(archive)
    with open("/dev/null") as null:
        clients = [RawClient(bus_address) for _ in range(16)]
        for client in clients:
            client.call(job, "org.qdld1", JOB, "Wait", struct.pack("<II", 0, 0), "a{sv}", fds=[null.fileno()] * 16)
            service.get(job, JOB, "State")
    assert service.process.poll() is None, service.errors()
    assert len(os.listdir(f"/proc/{service.process.pid}/fd")) < 64
    plug(service)
    service.call(service.modem(), MODEM, "Identify", service.no_options())


def test_a_burst_of_descriptors_does_not_cost_the_bus(new_service, forge, archive, bus_address):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        service = new_service().start(worker=forge(LASTING))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    job = service.import_file(archive)
    client = RawClient(bus_address)
    with open("/dev/null") as null:
        try:
            for _ in range(200):
                client.call(job, "org.qdld1", JOB, "Wait", struct.pack("<II", 0, 0), "a{sv}", fds=[null.fileno()] * 16)
        except BrokenPipeError:
            pass  # the bus has had enough of this client
    assert service.get(job, JOB, "State") == "running"


# ---- a bus that takes its time ----

class SlowBus:
    """Stands between the service and the bus. From the moment that the service asks the bus for somebody's name or
    credentials, or that a test sets `silent`, it hears nothing from there before a test sets `go_on`."""

    def __init__(self, address, path):
        self.real, self.path = address.removeprefix("unix:path="), path
        self.silent, self.go_on, self.leaves = threading.Event(), threading.Event(), threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        service, _ = self.listener.accept()
        bus = socket.socket(socket.AF_UNIX)
        bus.connect(self.real)
        threading.Thread(target=self.pump, args=(bus, service, False), daemon=True).start()
        self.pump(service, bus, True)

    def pump(self, source, sink, from_service):
        while True:
            data, fds, _, _ = socket.recv_fds(source, 65536, 16)
            if from_service and re.search(rb"GetConnection|NameOwner\0", data):
                self.silent.set()
            if from_service and b"ReleaseName\0" in data:
                self.leaves.set()
            if not data:
                sink.shutdown(socket.SHUT_RDWR)
                return
            if not from_service and self.silent.is_set():
                self.go_on.wait()
            with contextlib.suppress(BrokenPipeError):  # it may have gone without a last word
                socket.send_fds(sink, [data], fds)
            for fd in fds:
                os.close(fd)


@pytest.mark.parametrize("member", ["Identify", "Wait"])
def test_the_loop_goes_on_while_the_bus_is_slow(new_service, forge, archive, plug, bus_address, tmp_path, member):
    """Whoever calls is known from the bus, and that is not waited for: a stop is heard meanwhile."""
    service = new_service()
    first = service.start(worker=forge(LASTING))
    job = first.import_file(archive)
    assert service.stop() == 0
    slow = SlowBus(bus_address, tmp_path / "slow")
    service.address = f"unix:path={slow.path}"
    service.start(worker=forge(LASTING))
    plug(service)
    path = service.modem() if member == "Identify" else job
    client = RawClient(bus_address)
    client.call(path, "org.qdld1", MODEM if member == "Identify" else JOB, member, struct.pack("<II", 0, 0), "a{sv}")
    assert slow.silent.wait(PATIENCE)
    begin = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - begin < WELL_BEFORE
    slow.go_on.set()


def test_a_call_that_came_before_the_service_left_is_answered(new_service, forge, bus_address, tmp_path):
    service = new_service()
    service.bus = dbus.bus.BusConnection(bus_address)
    slow = SlowBus(bus_address, tmp_path / "slow")
    service.address = f"unix:path={slow.path}"
    service.start(worker=forge(LASTING))
    client = RawClient(bus_address)
    slow.silent.set()
    client.call("/org/qdld1", "org.qdld1", "org.qdld1.Manager", "ListJobs", struct.pack("<II", 0, 0), "a{sv}")
    client.call("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus", "GetId", b"", "")
    client.hear(2)
    service.process.send_signal(signal.SIGHUP)
    assert slow.leaves.wait(PATIENCE)
    slow.go_on.set()
    assert client.hear(3) == [1, 3, 2]
    assert service.process.wait(PATIENCE) == 75
    service.process = None


def test_a_caller_s_first_calls_are_answered_in_their_order(new_service, forge, bus_address):
    """Also those that come while the bus is asked who it is."""
    new_service().start(worker=forge(LASTING))
    client = RawClient(bus_address)
    client.socket.sendall(b"".join(client.pack("/org/qdld1", "org.qdld1", "org.qdld1.Manager", "ListJobs", struct.pack("<II", 0, 0),
                                               "a{sv}") for _ in range(100)))
    assert client.hear(101) == list(range(1, 102))


# ---- a file whose owner does not answer ----

def test_what_a_file_is_is_not_asked_of_its_owner(new_service, forge, stalling, bus_address):
    service = new_service().start(worker=forge(LASTING))
    client = RawClient(bus_address)
    body = struct.pack("<II1sxxxI", 0, 1, b"x", 0)
    client.call("/org/qdld1", "org.qdld1", MANAGER, "ImportFirmware", body, "hsa{sv}", fds=[stalling("getattr")])
    job = wait_until(lambda: service.paths(JOB))[0]
    assert service.get(job, JOB, "State") == "running"


# ---- the library ----

def test_an_invalid_package_is_mended_by_another_import(new_service, forge, archive):
    service = new_service().start(worker=forge(HONEST))
    firmware = imported(service, archive)
    service.restart(worker=forge(HONEST.replace("elif order.kind == \"verify\":\n    finish()", """elif order.kind == "verify":
    say("PROBLEM=it is broken", "RESULT=failed", "ERROR=DigestMismatch", "MESSAGE=broken")""")))
    tar = next((service.state / "firmware").glob("*.tar"))
    tar.write_bytes(b"rotten!")
    assert service.wait_job(service.call(firmware, FIRMWARE, "Verify", service.no_options())) == "failed"
    assert service.get(firmware, FIRMWARE, "State") == "invalid"
    assert imported(service, archive) == firmware
    assert tar.read_bytes() == b"content"
    assert service.get(firmware, FIRMWARE, "State") == "ready" and service.get(firmware, FIRMWARE, "Problems") == []


GENUINE = "RM502QGLAAR05A03M4G_01.001.01.001"
FOREIGN = """
import hashlib
{second}
order = begin()
say("READY=1")
os.pwrite(order.fds["store"], b"evil", 0)
{then}
sha256 = hashlib.sha256(b"genuine").hexdigest()
say("FIRMWARE.id=" + sha256[:32], "FIRMWARE.sha256=" + sha256, "FIRMWARE.name=%s")
finish()
""" % GENUINE


def failed_import(service, archive):
    job = service.import_file(archive)
    assert service.wait_job(job) == "failed"
    assert service.get(job, JOB, "Object") == "/" and service.paths(FIRMWARE) == []
    assert os.listdir(service.state / "firmware") == []
    return service.get(job, JOB, "ErrorMessage")


def test_a_package_is_what_is_in_it(new_service, forge, archive):
    """Not what the worker says that unpacked it: by then that one may be anybody's."""
    service = new_service().start(worker=forge(FOREIGN.format(second="", then="")))
    message = failed_import(service, archive)
    for content in (b"evil", b"genuine"):
        assert hashlib.sha256(content).hexdigest()[:32] in message


@pytest.mark.parametrize("second, says", [
    ("fail_job('DigestMismatch', 'sbl1.mbn in the library is not what was imported')", "sbl1.mbn"),
    ("os.abort()", "without a result"),
    ("finish()", "no content"),
    ("say('WAIT_DEVICE=edl'); time.sleep(60)", "rules of the link"),
])
def test_a_package_that_cannot_be_read_again(new_service, forge, archive, second, says):
    service = new_service().start(worker=forge(FOREIGN.format(second=f"def content_verify(order):\n    {second}", then="")))
    assert says in failed_import(service, archive)


def test_a_package_is_not_written_to_any_more(new_service, forge, archive):
    """Somebody has the file open still: what is read now need not be what is there later."""
    then = "if os.fork() == 0:\n    os.close(3)\n    time.sleep(3)\n    os._exit(0)"
    service = new_service().start(worker=forge(FOREIGN.format(second="", then=then).replace("genuine", "evil")))
    assert "did not close" in failed_import(service, archive)


SLOW_SECOND = f"def content_verify(order):\n    hear_until('STOP')\n{HONEST}"


def test_cancel_while_a_package_is_read_again(new_service, forge, archive):
    service = new_service().start(worker=forge(SLOW_SECOND))
    job = service.import_file(archive)
    wait_until(lambda: service.get(job, JOB, "Phase") == "verify")
    service.call(job, JOB, "Cancel", service.no_options())
    assert service.wait_job(job) == "cancelled" and service.paths(FIRMWARE) == []
    wait_until(lambda: service.workers() == [])


def test_stop_while_a_package_is_read_again(new_service, forge, archive):
    service = new_service().start(worker=forge(SLOW_SECOND))
    job = service.import_file(archive)
    wait_until(lambda: service.get(job, JOB, "Phase") == "verify")
    begin = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - begin < WELL_BEFORE
    service.start(worker=forge(HONEST))
    assert service.get(job, JOB, "Result") == "interrupted" and service.paths(FIRMWARE) == []


# ---- interrupted flashes ----

def test_an_interrupted_flash_is_not_pushed_out_by_others(library, forge, plug):
    library.restart(worker=forge(INTERRUPTED), config="[Limits]\nJobsLinger=3\n")
    plug(library)
    modem = library.modem()
    first = flash(library)
    assert library.wait_job(first) == "failed"
    library.restart(worker=forge('begin()\nsay("READY=1")\nfinish()\n'), config="[Limits]\nJobsLinger=3\n")
    plug(library)
    for _ in range(5):
        assert library.wait_job(library.call(library.modem(), MODEM, "Identify", library.no_options())) == "done"
    assert library.get(modem, MODEM, "Interrupted") == first
    assert len(library.paths(JOB)) == 4
    library.restart(worker=forge("begin()"), config="[Limits]\nJobsLinger=3\nJobsLingerSec=1\n")
    time.sleep(1.1)
    library.restart(worker=forge("begin()"), config="[Limits]\nJobsLinger=3\nJobsLingerSec=1\n")
    assert library.paths(JOB) == [first]


def test_a_job_stays_when_the_clock_has_jumped_back(new_service, forge, archive):
    """A gateway without a clock starts in 1970: what ended just now is the newest all the same."""
    service = new_service().start(worker=forge(HONEST), config="[Limits]\nJobsLinger=2\n")
    for _ in range(2):
        imported(service, archive)
    assert service.stop() == 0
    for record in (service.state / "jobs").glob("*.rec"):
        text = record.read_text()
        record.write_text("".join(f"ENDED={2**52}\n" if line.startswith("ENDED=") else line + "\n" for line in text.splitlines()))
    service.start(worker=forge(HONEST), config="[Limits]\nJobsLinger=2\n")
    new = service.import_file(archive)
    assert service.wait_job(new) == "done"
    assert new in service.paths(JOB) and len(service.paths(JOB)) == 2


def test_a_flash_elsewhere_voids_the_journal_of_the_unit(library, forge, plug):
    """The unit moved to another port and was written there: what the journal of the first port says is over."""
    library.restart(worker=forge(INTERRUPTED))
    device = plug(library)
    first = flash(library)
    assert library.wait_job(first) == "failed"
    device.unplug()
    wait_until(lambda: library.get("/org/qdld1/modem/" + library.paths(MODEM)[0].split("/")[-1], MODEM, "Mode") == "absent")
    library.restart(worker=forge("\n".join(HONEST_FLASH)))
    plug(library, port="virtual-usb-0:7", kernel="1-7")
    moved = library.modem()
    assert library.get(moved, MODEM, "Interrupted") == first
    assert library.wait_job(flash_with(library, reset=False)) == "done"
    assert library.get(moved, MODEM, "Interrupted") == "/"


def test_release_of_the_flash_that_is_being_continued(library, forge, plug, tmp_path):
    """The call is answered, whatever becomes of its journal in its pre-flight."""
    library.restart(worker=forge(INTERRUPTED))
    plug(library)
    first = flash(library)
    assert library.wait_job(first) == "failed"
    go = tmp_path / "go"
    library.restart(worker=forge(f"""
order = begin()
while not os.path.exists({str(go)!r}):
    time.sleep(0.01)
say("READY=1")
hear()
"""))
    plug(library)
    modem = library.modem()
    call = subprocess.Popen(["busctl", f"--timeout={PATIENCE:.0f}", f"--address={library.address}", "call", "org.qdld1", modem, MODEM, "Flash",
                             "oa{sv}", str(library.firmware), "0"], stderr=subprocess.PIPE, text=True)
    wait_until(library.workers)
    library.call(first, JOB, "Release", library.no_options())
    go.touch()
    text = call.communicate(timeout=PATIENCE)[1]
    assert call.returncode != 0 and "recorded" in text, text
    assert library.paths(JOB) == []
    assert set(os.listdir(library.state / "jobs")) <= {"history", "last"}


# ---- the end ----

def test_a_reader_that_hangs_does_not_hold_up_the_end(new_service, forge, archive):
    """A file that its owner never lets us read to the end (FUSE) is no reason to wait: no modem is touched."""
    service = new_service().start(worker=forge('begin()\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsay("READY=1")\n'
                                               'while True:\n    time.sleep(10)\n'))
    job = service.import_file(archive)
    begin = time.monotonic()
    assert service.stop(timeout=2 * PATIENCE) == 0
    assert time.monotonic() - begin < WELL_BEFORE
    service.start(worker=forge(HONEST))
    assert service.get(job, JOB, "Result") == "interrupted"


def test_a_flash_gets_its_time_at_the_end(library, forge, plug):
    """In the middle of a command: only STOP, no signal after three seconds."""
    library.restart(worker=forge("\n".join(HONEST_FLASH[:15]) + """
hear_until("STOP")
time.sleep(5)
os.pwrite(order.fds["journal"], b"done", 0)
say("RESULT=interrupted", "ERROR=Interrupted", "MESSAGE=stopped in order")
"""))
    plug(library)
    job = flash(library)
    wait_until(lambda: library.get(job, JOB, "Phase") == "wait-device" and not library.get(job, JOB, "SafeToUnplug"))
    assert library.stop() == 0
    library.start(worker=forge("begin()"))
    assert library.get(job, JOB, "Result") == "interrupted" and "in order" in library.get(job, JOB, "ErrorMessage")


def test_one_service_a_state_directory(new_service, forge, tmp_path):
    service = new_service().start(worker=forge(HONEST))
    # Another bus, the same state: nothing of the first one's is touched.
    result = subprocess.run([BUILD / "qdld", f"--state={service.state}", f"--worker={BUILD / 'qdld-worker'}",
                             f"--virtual={tmp_path / 'other'}", f"--config={tmp_path / 'none'}"],
                            env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=service.address), capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 1 and "another qdld" in result.stderr, result.stderr


# ---- a captured worker ----

def test_a_worker_that_never_makes_up_its_mind_who_it_is(library, forge, plug, tmp_path):
    library.restart(worker=forge("""
order = begin()
say("READY=1", "WAIT_DEVICE=edl")
hear_until("DEVICE")
for i in range(3000):
    say("SERIAL=%08x" % (i + 1))
finish()
"""))
    plug(library)
    job = flash(library)
    assert library.wait_job(job) == "failed"
    assert "SERIAL" in library.get(job, JOB, "ErrorMessage")
    assert len(list((library.state / "modems").glob("unit-*.rec"))) < 100


def test_cancel_that_came_too_late(new_service, forge, plug):
    """Cancel, and at that moment the worker begins what must not be left: its time does not run in there."""
    service = new_service().start(worker=forge("""
order = begin()
say("READY=1", "WAIT_DEVICE=edl")
hear_until("CANCEL")
say("UNSAFE=1", "CANCELABLE=0", "PHASE=program")
say("UNSAFE=0", "CANCELABLE=1")
say("RESULT=cancelled", "ERROR=Cancelled", "MESSAGE=as asked")
"""))
    plug(service)
    job = service.call(service.modem(), MODEM, "Identify", service.no_options())
    service.call(job, JOB, "Cancel", service.no_options())
    assert service.wait_job(job) == "cancelled"


# ---- hot-plug ----

def test_every_appearance_is_a_window(new_service, forge, plug):
    """Also where the key of an appearance is the same each time, as a port's path in sysfs is."""
    service = new_service().start(worker=forge("""
order = begin()
say("READY=1")
for i in range(3):
    say("WAIT_DEVICE=edl")
    hear_until("DEVICE")
    say("PHASE=window")
    hear_until("DEVICE_GONE")
finish()
"""))
    device = plug(service)
    modem = service.modem()
    job = service.call(modem, MODEM, "Identify", service.no_options())
    for i in range(3):
        wait_until(lambda: service.get(job, JOB, "Window") == i + 1, what=f"window {i + 1}")
        device.unplug()
        wait_until(lambda: service.get(modem, MODEM, "Mode") == "absent")
        if i < 2:
            device = plug(service)
    assert service.wait_job(job) == "done"
    assert service.get(job, JOB, "Window") == 3


def test_another_unit_that_boots_is_not_the_one_that_was_flashed(library, forge, plug):
    library.restart(worker=forge("""
order = begin()
say("READY=1", "WAIT_DEVICE=edl")
hear_until("DEVICE")
say("SERIAL=49cbd7ef", "WAIT_DEVICE=normal", "PHASE=wait-normal")
message, _ = hear_until("APPEARED")
say("REPORT.port=" + message["PRODUCT"])
finish()
"""))
    device = plug(library)
    other = plug(library, port="virtual-usb-0:7", kernel="1-7", product="QUSB_BULK_CID:0410_SN:5EED0001")
    modem = wait_until(lambda: [p for p in library.paths(MODEM) if library.get(p, MODEM, "ChipSerial") == "49cbd7ef"])[0]
    job = library.call(modem, MODEM, "Identify", library.no_options())
    wait_until(lambda: library.get(job, JOB, "Phase") == "wait-normal")
    device.unplug()
    other.unplug()
    wait_until(lambda: library.get(modem, MODEM, "Mode") == "absent")
    plug(library, port="virtual-usb-0:7", kernel="1-7", vid="2c7c", pid="0800", interfaces=5, product="other")
    plug(library, port="virtual-usb-0:9", kernel="2-9", vid="2c7c", pid="0800", interfaces=5, product="mine")
    assert library.wait_job(job) == "done"
    assert library.get(job, JOB, "Report")["port"] == "mine"


def test_one_that_left_before_it_was_asked_is_waited_for_again(library, forge, plug):
    """Its DIAG was asked for in vain; what it comes back as is told all the same, and nothing is handed over unasked."""
    library.restart(worker=forge("""
order = begin()
say("READY=1", "WAIT_DEVICE=edl")
hear_until("DEVICE")
say("PHASE=given")
hear_until("DEVICE_GONE")
say("WAIT_DEVICE=normal")
hear_until("APPEARED")
say("PHASE=seen")
hear_until("CANCEL")
say("WAIT_DEVICE=diag")
say("WAIT_DEVICE=normal", "PHASE=again")
fields, _ = hear()
say("REPORT.heard=" + fields[0][0])
finish()
"""))
    device = plug(library)
    modem = library.modem()
    job = identify(library, modem)
    device.unplug()
    in_mode(library, modem, "absent")
    device = plug(library, **NORMAL)
    in_phase(library, job, "seen")
    device.unplug()
    in_mode(library, modem, "absent")
    library.call(job, JOB, "Cancel", library.no_options())
    in_phase(library, job, "again")
    plug(library, **NORMAL)
    assert library.wait_job(job) in ("done", "cancelled")
    assert library.get(job, JOB, "Report")["heard"] == "APPEARED"


# A reset: the modem goes, and the question comes when the test lets it.
LATE = """
order = begin()
say("READY=1", "WAIT_DEVICE=edl")
hear_until("DEVICE")
say("PHASE=given")
hear_until("DEVICE_GONE")
say("PHASE=gone")
while not os.path.exists({ask!r}):
    time.sleep(0.01)
say("WAIT_DEVICE=normal", "PHASE=asked")
message, _ = hear_until("APPEARED")
say("REPORT.port=" + message["PRODUCT"])
finish()
"""
NORMAL = {"vid": "2c7c", "pid": "0800", "interfaces": 5}
SUPERSPEED = {**NORMAL, "port": "virtual-usb-0:9", "kernel": "2-9"}


def in_phase(service, job, phase):
    wait_until(lambda: service.get(job, JOB, "Phase") == phase, what=phase)


def in_mode(service, modem, mode):
    wait_until(lambda: service.get(modem, MODEM, "Mode") == mode, what=mode)


def identify(service, modem, phase="given"):
    job = service.call(modem, MODEM, "Identify", service.no_options())
    in_phase(service, job, phase)
    return job


@pytest.mark.parametrize("where", [NORMAL, SUPERSPEED], ids=["here", "elsewhere"])
def test_it_has_booted_before_it_is_asked_for(new_service, forge, plug, tmp_path, where):
    ask = tmp_path / "ask"
    service = new_service().start(worker=forge(LATE.format(ask=str(ask))))
    healthy = plug(service, port="virtual-usb-0:3", kernel="2-3", product="another", **NORMAL)
    in_mode(service, service.modem(), "normal")
    device = plug(service)
    modem = wait_until(lambda: [p for p, m in service.properties(MODEM).items() if m["ChipSerial"] == "49cbd7ef"])[0]
    job = identify(service, modem)
    device.unplug()
    in_phase(service, job, "gone")
    plug(service, product="mine", **where)
    wait_until(lambda: [m["Mode"] for m in service.properties(MODEM).values()].count("normal") == 2)
    ask.touch()
    assert service.wait_job(job, timeout=PATIENCE) == "done"
    assert service.get(job, JOB, "Report")["port"] == "mine"
    healthy.unplug()


def test_a_modem_that_was_there_before_is_not_the_one(new_service, forge, plug, tmp_path):
    ask = tmp_path / "ask"
    service = new_service().start(worker=forge(LATE.format(ask=str(ask))))
    plug(service, product="another", **SUPERSPEED)
    in_mode(service, service.modem(), "normal")
    device = plug(service)
    modem = wait_until(lambda: [p for p, m in service.properties(MODEM).items() if m["ChipSerial"] == "49cbd7ef"])[0]
    job = identify(service, modem)
    device.unplug()
    ask.touch()
    in_phase(service, job, "asked")
    plug(service, product="mine", **NORMAL)
    assert service.wait_job(job, timeout=PATIENCE) == "done"
    assert service.get(job, JOB, "Report")["port"] == "mine"


def test_one_that_another_tool_has_is_not_asked(new_service, forge, plug):
    """What boots at a connector that is inhibited is that tool's, and left alone."""
    service = new_service().start(worker=forge(LATE.format(ask="/")))
    service.manager("ArmPort", SUPERSPEED["port"], "off", dbus.ObjectPath("/"), service.no_options())
    kept = service.call(service.paths(MODEM)[0], MODEM, "Inhibit", "another tool", service.no_options()).take()
    device = plug(service)
    modem = wait_until(lambda: [p for p, m in service.properties(MODEM).items() if m["ChipSerial"] == "49cbd7ef"])[0]
    job = identify(service, modem)
    device.unplug()
    in_phase(service, job, "asked")
    plug(service, product="another", **SUPERSPEED)
    wait_until(lambda: "normal" in [m["Mode"] for m in service.properties(MODEM).values()], what="the other tool's")
    plug(service, product="mine", **NORMAL)
    assert service.wait_job(job, timeout=PATIENCE) == "done"
    assert service.get(job, JOB, "Report")["port"] == "mine"
    os.close(kept)


def test_it_boots_elsewhere_before_its_end_here_is_heard(new_service, forge, plug):
    """The events of two ports come in any order."""
    service = new_service().start(worker=forge(LATE.replace('hear_until("DEVICE_GONE")', "").format(ask="/")))
    device = plug(service)
    job = identify(service, service.modem(), "asked")
    plug(service, product="mine", **SUPERSPEED)
    wait_until(lambda: len(service.paths(MODEM)) == 2)
    device.unplug()
    assert service.wait_job(job, timeout=PATIENCE) == "done"
    assert service.get(job, JOB, "Report")["port"] == "mine"


def test_two_boot_elsewhere(new_service, forge, plug):
    """Either could be either: nobody is told of the first one; with the second all have come, and each job has one."""
    service = new_service().start(worker=forge(LATE.format(ask="/")))
    devices = [plug(service), plug(service, port="virtual-usb-0:3", kernel="1-3", product="QUSB_BULK_CID:0410_SN:5EED0001")]
    modems = wait_until(lambda: len(service.paths(MODEM)) == 2 and service.paths(MODEM))
    jobs = [identify(service, m) for m in modems]
    for device in devices:
        device.unplug()
    for job in jobs:
        in_phase(service, job, "asked")
    plug(service, product="one", **SUPERSPEED)
    wait_until(lambda: len(service.paths(MODEM)) == 3)
    for job in jobs:
        with Refused("org.freedesktop.DBus.Error.NoReply"):
            service.wait_job(job, timeout=1)
    plug(service, product="two", **{**SUPERSPEED, "port": "virtual-usb-0:8", "kernel": "2-8"})
    assert [service.wait_job(j, timeout=PATIENCE) for j in jobs] == ["done"] * 2
    assert {str(service.get(j, JOB, "Report")["port"]) for j in jobs} == {"one", "two"}


def test_two_on_one_port(new_service, forge, plug):
    """A port holds one device: the next one's coming is the first one's end, whichever is heard first."""
    service = new_service().start(worker=forge(LATE.format(ask="/")))
    device = plug(service)
    modem = service.modem()
    job = identify(service, modem)
    plug(service, kernel="2-1.2", product="mine", **NORMAL)
    assert service.wait_job(job, timeout=PATIENCE) == "done"
    assert service.get(job, JOB, "Report")["port"] == "mine"
    device.unplug()
    assert service.get(modem, MODEM, "Mode") == "normal" and service.get(modem, MODEM, "KernelName") == "2-1.2"


# ---- a node that cannot be opened ----

UNOPENED = """
order = begin()
say("READY=1", "PHASE=ready")
while not os.path.exists({go!r}):
    time.sleep(0.01)
say("WAIT_DEVICE=edl", "PHASE=asked")
{then}
"""


def without_descriptors(service):
    used = {int(fd) for fd in os.listdir(f"/proc/{service.process.pid}/fd")}
    free = next(n for n in range(1024) if n not in used)
    resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def test_why_the_modem_could_not_be_opened_is_said(new_service, forge, plug, tmp_path):
    go = tmp_path / "go"
    service = new_service().start(worker=forge(UNOPENED.format(go=str(go), then="hear_until('STOP')")))
    plug(service)
    job = service.call(service.modem(), MODEM, "Identify", service.no_options())
    without_descriptors(service)
    go.touch()
    assert service.wait_job(job, timeout=PATIENCE) == "failed"
    properties = service.all(job, JOB)
    assert properties["ErrorName"] == error("LimitExceeded") and properties["RecoveryHint"] == "retry"
    assert "virtual:" in properties["ErrorMessage"] and "EMFILE" in properties["ErrorMessage"]


def test_a_flash_in_its_middle_waits_for_the_next_window_and_says_why_it_lost_one(library, forge, plug, tmp_path):
    go = tmp_path / "go"
    library.restart(worker=forge(UNOPENED.format(go=str(go), then="""
message, _ = hear_until("CANCEL")
say("RESULT=interrupted", "ERROR=ModemGone", "MESSAGE=it did not come back", "HINT=replug")
""").replace('"PHASE=ready"', '"DESTRUCTIVE=1", "PHASE=ready"')))
    plug(library)
    job = flash(library)
    in_phase(library, job, "ready")
    without_descriptors(library)
    go.touch()
    in_phase(library, job, "asked")
    assert library.get(job, JOB, "State") == "running"
    library.call(job, JOB, "Cancel", library.no_options())
    assert library.wait_job(job, timeout=PATIENCE) == "interrupted"
    properties = library.all(job, JOB)
    assert properties["ErrorName"] == error("LimitExceeded") and "EMFILE" in properties["ErrorMessage"]


# ---- digests ----

def test_a_digest_with_a_long_run_of_digits(new_service, forge, tmp_path):
    """One package in fifty has one by chance; it is no IMEI."""
    content = next(b"%d" % i for i in range(10**6) if re.search(r"(?<!\d)\d{14,16}(?!\d)", hashlib.sha256(b"%d" % i).hexdigest()))
    archive = tmp_path / "package"
    archive.write_bytes(content)
    service = new_service().start(worker=forge(HONEST))
    firmware = imported(service, archive)
    assert service.get(firmware, FIRMWARE, "Sha256") == hashlib.sha256(content).hexdigest()
