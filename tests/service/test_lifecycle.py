# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the service starts, tells systemd what it does, follows an upgrade and ends (architecture, Life of the service)."""

import os
import signal
import socket
import subprocess
import time

import dbus
import pytest
from conftest import BUILD, JOB, MANAGER, MODEM, PATIENCE, ROOT, TOP, VERSION, WELL_BEFORE, wait_stopped, wait_until

RESTART = 75

# Says what the test writes into the fifo, a line a message.
TOLD = """
order = begin()
say("READY=1")
if order.kind != "import" or {imports}:
    with open({fifo!r}) as f:
        for line in f:
            say(*line.split())
message, _ = hear()
say("RESULT=" + ("cancelled" if message[0][0] == "CANCEL" else "interrupted"), "ERROR=Cancelled", "MESSAGE=as asked")
"""

LASTING = """
order = begin()
say("READY=1")
message, _ = hear()
say("RESULT=" + ("cancelled" if message[0][0] == "CANCEL" else "interrupted"), "ERROR=Cancelled", "MESSAGE=as asked")
"""

# Neither its STOP nor SIGTERM matters to it.
DEAF = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
order = begin()
say("READY=1", "PHASE=program")
while True:
    hear()
"""


class Systemd:
    """The socket at the other end of sd_notify()."""

    def __init__(self, path):
        self.path, self.lines = path, []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(PATIENCE)

    def hear(self, word):
        """The first line with this word that came since the last one that was asked for."""
        while True:
            while self.lines:
                line = self.lines.pop(0)
                if word in line:
                    return line
            self.lines.extend(self.socket.recv(4096).decode().splitlines())

    def fill(self):
        """As PID 1 leaves it while it reloads: no room for another word. How many it holds."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.setblocking(False)
            try:
                for count in range(10000):
                    s.sendto(b"FILLED=1", str(self.path))
            except BlockingIOError:
                return count

    def rest(self):
        """Everything that was not asked for."""
        self.socket.setblocking(False)
        try:
            while True:
                self.lines.extend(self.socket.recv(4096).decode().splitlines())
        except BlockingIOError:
            return self.lines


@pytest.fixture
def systemd(tmp_path):
    s = Systemd(tmp_path / "notify")
    yield s
    s.socket.close()


@pytest.fixture
def start(new_service, forge, systemd):
    """start(source of a worker, or None for the real one): a service that tells systemd."""
    def make(source=None, environment=None, **options):
        worker = forge(source) if source else None
        return new_service().start(worker=worker, environment={"NOTIFY_SOCKET": str(systemd.path), **(environment or {})}, **options)
    return make


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "archive"
    path.write_bytes(b"content")
    return path


def reload(service):
    service.process.send_signal(signal.SIGHUP)


def exit_status(service, timeout=PATIENCE):
    status = service.process.wait(timeout)
    service.process = None
    return status


def options(**values):
    return dbus.Dictionary(values, signature="sv")


# ---- start ----

def test_ready_is_told_with_the_name_taken(systemd, bus_address, new_service):
    """At READY=1, and not a moment later, a call finds the service."""
    service = new_service()
    bus = dbus.bus.BusConnection(bus_address)
    connect, service.connect = service.connect, lambda: None
    service.start(environment={"NOTIFY_SOCKET": str(systemd.path)})
    systemd.hear("READY=1")
    assert bus.name_has_owner("org.qdld1")
    service.connect = connect
    service.connect()


def test_a_systemd_that_does_not_read_stops_nothing(start, systemd, archive, tmp_path):
    """At the start, in between and at the end: the bus is served, and all is told as soon as somebody reads."""
    fifo = tmp_path / "steps"
    os.mkfifo(fifo)
    assert systemd.fill() > 0
    service = start("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + TOLD.format(imports=True, fifo=str(fifo)),
                    environment={"WATCHDOG_USEC": "200000"})
    assert service.manager("ListJobs", options()) == []
    systemd.hear("READY=1")
    systemd.hear("WATCHDOG=1")
    service.import_file(archive)
    with open(fifo, "w"):
        systemd.rest()
        systemd.fill()
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "ShdPnd:\t0000000000000000" in open(f"/proc/{service.process.pid}/status").read(), what="the signal being taken")
        systemd.lines.clear()
        systemd.socket.settimeout(PATIENCE)
        systemd.hear("STOPPING=1")
        systemd.fill()
    assert exit_status(service) == 0


def test_ready_is_told_after_the_first_enumeration(systemd, bus_address, tmp_path):
    """A modem that is plugged in when the service starts is there at READY=1. With libudev on a mocked sysfs."""
    (tmp_path / "device").write_text("""P: /devices/pci0000:00/0000:00:14.0/usb1/1-2
N: bus/usb/001/005
E: DEVNAME=/dev/bus/usb/001/005
E: DEVTYPE=usb_device
E: SUBSYSTEM=usb
E: ID_PATH=pci-0000:00:14.0-usb-0:2
E: PRODUCT=5c6/9008/0
E: BUSNUM=001
E: DEVNUM=005
A: devnum=5\\n
A: speed=480\\n
A: product=QUSB_BULK_CID:0410_SN:49CBD7EF\\n
""")
    process = subprocess.Popen(
        ["umockdev-run", "-d", tmp_path / "device", "--", BUILD / "qdld", f"--state={tmp_path / 'state'}",
         f"--config={tmp_path / 'none'}", f"--worker={BUILD / 'qdld-worker'}"],
        env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=bus_address, NOTIFY_SOCKET=str(systemd.path)))
    try:
        systemd.hear("READY=1")
        bus = dbus.bus.BusConnection(bus_address)
        modems = bus.get_object("org.qdld1", ROOT).ListModems(options(), dbus_interface=MANAGER)
        assert [(str(m["Port"]), str(m["ChipSerial"])) for _, m in modems] == [("pci-0000:00:14.0-usb-0:2", "49cbd7ef")]
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0


# ---- what it does ----

def test_status_names_every_running_job(systemd, start, archive, plug, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    service = start(TOLD.format(fifo=str(fifo), imports=False))
    assert systemd.hear("STATUS=") == "STATUS=Idle"
    plug(service)
    modem = service.modem()
    job = service.call(modem, MODEM, "Identify", options())
    systemd.hear("identify 1 on the modem at 1-1.2: running 0 %")
    with open(fifo, "w", buffering=1) as f:
        f.write("PHASE=program\n")
        assert systemd.hear("STATUS=identify 1 on the modem at 1-1.2: program 0 %")
        f.write("PROGRESS=437000\n")
        assert systemd.hear("STATUS=identify 1 on the modem at 1-1.2: program 43 %")
        second = service.import_file(archive, "second")
        assert systemd.hear("import 2") == "STATUS=identify 1 on the modem at 1-1.2: program 43 %; import 2: running 0 %"
    for j in (job, second):
        service.call(j, JOB, "Cancel", options())
        service.wait_job(j)
    systemd.hear("STATUS=Idle")


def test_a_systemd_that_does_not_read_holds_nothing_up(systemd, start, archive, tmp_path):
    """PID 1 is busy for seconds when it reloads; a job's progress must not wait for that."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    service = start(TOLD.format(fifo=str(fifo), imports=True))
    job = service.import_file(archive)
    with open(fifo, "w", buffering=1) as f:
        for i in range(1, 600):
            f.write(f"PHASE=phase{i}\n")
    wait_until(lambda: service.get(job, JOB, "Phase") == "phase599", what="the last phase")
    assert len(systemd.rest()) < 600
    service.call(job, JOB, "Cancel", options())
    assert service.wait_job(job) == "cancelled"


def test_status_is_told_only_when_it_changes(systemd, start, archive):
    service = start(LASTING)
    systemd.hear("STATUS=Idle")
    for _ in range(20):
        service.manager("ListJobs", options())
    job = service.import_file(archive)
    systemd.hear("STATUS=import 1: running")
    for _ in range(20):
        service.get(job, JOB, "State")
    assert not [line for line in systemd.rest() if line.startswith("STATUS=")]


# ---- reload: an upgrade, other settings ----

def test_reload_when_idle(systemd, start):
    service = start(LASTING)
    reload(service)
    assert exit_status(service) == RESTART
    systemd.hear("STOPPING=1")


def test_reload_waits_for_the_job_and_takes_new_ones(systemd, start, archive):
    service = start(LASTING)
    first = service.import_file(archive)
    reload(service)
    assert systemd.hear("starts anew") == "STATUS=import 1: running 0 %; starts anew when idle"
    second = service.import_file(archive, "second")
    service.call(first, JOB, "Cancel", options())
    assert service.wait_job(first) == "cancelled"
    # Not while the second one runs.
    assert service.get(second, JOB, "State") == "running"
    service.call(second, JOB, "Cancel", options())
    assert exit_status(service) == RESTART  # at once: nobody can be asked any more how it ended
    service.start(worker=service.directory / "forged")
    assert service.get(second, JOB, "Result") == "cancelled"


def test_reload_waits_for_a_queued_job(start, plug):
    service = start(LASTING)
    plug(service)
    modem = service.modem()
    running = service.call(modem, MODEM, "Identify", options())
    queued = service.call(modem, MODEM, "Identify", options(queue=True))
    reload(service)
    service.call(running, JOB, "Cancel", options())
    assert service.wait_job(running) == "cancelled"
    wait_until(lambda: service.get(queued, JOB, "State") == "running", what="the queued job")
    service.call(queued, JOB, "Cancel", options())
    assert exit_status(service) == RESTART


def test_reload_lets_a_modem_be_held(systemd, start, new_modem):
    """A held modem in EDL would fall back to its loop: the service stays until it has been given up."""
    service = start()
    new_modem(service)
    modem = service.modem()
    assert service.wait_job(service.call(modem, MODEM, "Reset", options(mode="edl"))) == "done"
    if not service.get(modem, MODEM, "Held"):
        assert service.wait_job(service.call(modem, MODEM, "Identify", options())) == "done"
    wait_until(lambda: service.get(modem, MODEM, "Held"), what="the holder")
    reload(service)
    assert "holding" in systemd.hear("starts anew when idle")
    assert service.process.poll() is None
    service.call(modem, MODEM, "Reset", options(mode="off"))
    assert exit_status(service) == RESTART


def test_stop_goes_before_reload(start, archive):
    """systemctl stop after an upgrade: the service stays stopped."""
    service = start(LASTING)
    service.import_file(archive)
    reload(service)
    assert service.stop() == 0


def test_reload_loses_no_call(bus_address, tmp_path, forge):
    """Called all the while, and asked to start anew all the while: every call is answered, by the old one or by the next."""
    state = tmp_path / "state"
    (state / "jobs").mkdir(parents=True)
    # As systemd does: the next one is started when the last one has ended.
    start = tmp_path / "start"
    start.write_text(f"#!/bin/sh\nexec 2>>{tmp_path / 'stderr'}\nflock {state / 'jobs'} true\n"
                     f"exec {BUILD / 'qdld'} --virtual={tmp_path / 'modems'} --config={tmp_path / 'none'} --state={state}"
                     f" --worker={BUILD / 'qdld-worker'}\n")
    start.chmod(0o755)
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "org.qdld1.service").write_text(f"[D-BUS Service]\nName=org.qdld1\nExec={start}\nUser=root\n")
    text = (TOP / "tests" / "private-bus.conf.in").read_text().replace("@SOCKET@", str(tmp_path / "own-bus"))
    (tmp_path / "bus.conf").write_text(text.replace("</busconfig>", f"<servicedir>{tmp_path / 'services'}</servicedir></busconfig>"))
    address = f"unix:path={tmp_path / 'own-bus'}"
    daemon = subprocess.Popen(["dbus-daemon", f"--config-file={tmp_path / 'bus.conf'}", "--nofork", "--nopidfile", "--print-address"],
                              stdout=subprocess.PIPE, env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=address))
    try:
        assert daemon.stdout.readline()
        bus = dbus.bus.BusConnection(address)

        def call():
            # Not by a proxy: that one keeps to the connection that it found first.
            return bus.call_blocking("org.qdld1", ROOT, MANAGER, "ListJobs", "a{sv}", (options(),), timeout=PATIENCE)
        dbus_object = dbus.Interface(bus.get_object("org.freedesktop.DBus", "/org/freedesktop/DBus", introspect=False),
                                     "org.freedesktop.DBus")
        call()
        seen = set()
        end = time.monotonic() + 5
        while time.monotonic() < end or len(seen) < 5:
            pid = int(dbus_object.GetConnectionUnixProcessID("org.qdld1")) if bus.name_has_owner("org.qdld1") else 0
            if pid:
                seen.add(pid)
                try:
                    os.kill(pid, signal.SIGHUP)
                except ProcessLookupError:
                    pass
            for _ in range(20):
                call()
            assert time.monotonic() < end + PATIENCE
        assert len(seen) >= 5
    finally:
        daemon.terminate()
        daemon.wait(PATIENCE)
        subprocess.run(["flock", "-w", "20", state / "jobs", "true"], check=True)
    assert "in use by another" not in (tmp_path / "stderr").read_text()


# ---- stop ----

def test_stop_tells_what_it_waits_for(systemd, start, archive):
    service = start(LASTING)
    service.import_file(archive)
    systemd.hear("import 1: running")
    assert service.stop() == 0
    systemd.hear("STOPPING=1")
    assert systemd.hear("EXTEND_TIMEOUT_USEC=") == "EXTEND_TIMEOUT_USEC=123000000"
    assert systemd.hear("STATUS=") == "STATUS=Stopping; import 1: running 0 %"


def test_stop_does_not_wait_for_ever(systemd, start, plug, bus_address):
    """At the cap the worker is killed, and the job is one that was interrupted."""
    service = start(DEAF, config="[Limits]\nStopSec=2\n")
    plug(service)
    job = service.call(service.modem(), MODEM, "Identify", options())
    begin = time.monotonic()
    assert service.stop() == 0
    assert 1.9 < time.monotonic() - begin < WELL_BEFORE
    assert systemd.hear("EXTEND_TIMEOUT_USEC=") == "EXTEND_TIMEOUT_USEC=5000000"
    service.start(worker=service.directory / "forged")
    assert service.get(job, JOB, "Result") == "interrupted"
    assert service.get(job, JOB, "ErrorMessage") == "The service was stopped in phase program."


def test_a_second_sigterm_cuts_nothing_off(new_service, new_modem, make_package, tmp_path):
    """A real worker in the middle of a write: it comes to the end of its command however often it is asked."""
    service = new_service().start()
    job = service.import_file(make_package("--small"))
    assert service.wait_job(job) == "done"
    firmware = service.get(job, JOB, "Object")
    process = new_modem(service, "fault=stop@program:2")
    modem = service.modem()
    job = service.call(modem, MODEM, "Flash", dbus.ObjectPath(firmware), dbus.Dictionary({"modem-version": VERSION}, signature="sv"))
    wait_stopped(process)
    service.process.send_signal(signal.SIGTERM)
    assert service.stop(modem=process) == 0
    service.start()
    assert service.get(job, JOB, "Result") == "interrupted"
    assert "signal" not in service.get(job, JOB, "ErrorMessage")
    service.modem()
    assert service.get(modem, MODEM, "Interrupted") == job
