# SPDX-License-Identifier: LGPL-2.1-or-later
"""What processes take: memory, wake-ups; and the real service on a private bus, with a watchdog."""
import hashlib
import json
import os
import socket
import subprocess
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ["BUILD"]
WATCHDOG_USEC = 2000000
PATIENCE = 60
QUIET = 20  # looks in a row at which nothing had changed


def status(pid, word):
    """The number in a line of its /proc status; None once it is a zombie."""
    with open("/proc/%d/status" % pid) as f:
        return next((int(line.split()[1]) for line in f if line.startswith(word)), None)


def peak(pid):
    """MiB it took at most so far."""
    kib = status(pid, "VmHWM")
    return kib and kib / 1024


def until(condition, what):
    end = time.monotonic() + PATIENCE
    while not (result := condition()):
        assert time.monotonic() < end, "%s did not come true" % what
        time.sleep(0.02)
    return result


def read_and_sync(path):
    """µs for what a careful copy of a file costs at least: written, synced, read and hashed."""
    copy = path + ".plain"
    with open(path, "rb") as f:
        data = f.read()
    start = time.monotonic()
    with open(copy, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    with open(copy, "rb") as f:
        hashlib.sha256(f.read()).digest()
    took = time.monotonic() - start
    os.unlink(copy)
    return took * 1e6


class Service:
    """qdld on a private bus, virtual modems at its socket, and this process in systemd's place."""

    def __init__(self, directory):
        self.directory = tempfile.mkdtemp(prefix="service-", dir=directory)
        self.modems = os.path.join(self.directory, "modems")
        self.state = os.path.join(self.directory, "state")
        self.modem = None
        bus = os.path.join(self.directory, "bus")
        with open(os.path.join(TOP, "tests/private-bus.conf.in")) as f, open(bus + ".conf", "w") as out:
            out.write(f.read().replace("@SOCKET@", bus))
        self.environment = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS="unix:path=" + bus, LC_ALL="C.UTF-8")
        self.bus = subprocess.Popen(["dbus-daemon", "--config-file=" + bus + ".conf", "--nofork", "--nopidfile"],
                                    stderr=subprocess.DEVNULL)
        until(lambda: os.path.exists(bus), "the bus")
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(os.path.join(self.directory, "notify"))
        # Nobody is caught who is not asked for: a worker that waits for a modem would be counted as its holder.
        with open(os.path.join(self.directory, "qdld.conf"), "w") as f:
            f.write("[Catch]\nDefaultPolicy=off\n")
        self.process = subprocess.Popen(
            [os.path.join(BUILD, "qdld"), "--virtual=" + self.modems, "--config=" + os.path.join(self.directory, "qdld.conf"), "--state=" + self.state,
             "--worker=" + os.path.join(BUILD, "qdld-worker")], stderr=subprocess.DEVNULL,
            env=dict(self.environment, NOTIFY_SOCKET=os.path.join(self.directory, "notify"), WATCHDOG_USEC=str(WATCHDOG_USEC)))
        self.said = []
        # As systemd does, at once: a full socket would stop the service.
        threading.Thread(target=self.listen, daemon=True).start()
        until(lambda: any(b"READY=1" in m for m in self.said), "the service's READY")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.unplug()
        for process in (self.process, self.bus):
            process.terminate()
            process.wait()

    def listen(self):
        while True:
            self.said.append(self.notified.recv(4096))

    def control(self, *arguments):
        return subprocess.run([os.path.join(BUILD, "qdlctl"), *arguments], env=self.environment, check=True, text=True,
                              stdout=subprocess.PIPE).stdout

    # ---- modems ----
    def start_modem(self, settings, name):
        trace = os.path.join(self.directory, name.replace(" ", "-") + ".trace")
        argv = [os.path.join(BUILD, "virtual-modem"), "--socket", self.modems, "--flash", trace + ".flash", "--new", "--trace",
                trace]
        for setting in settings:
            argv += ["--set", setting]
        self.modem = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        return trace

    def plug(self, settings, name):
        trace = self.start_modem(settings, name)
        # One in normal mode is asked who it is and has its calibration saved, one after the other.
        quiet, before = 0, None
        while quiet < QUIET:
            quiet = quiet + 1 if until(lambda: self.settled(settings), "a modem " + name) and self.workers() == before else 0
            before = self.workers()
            time.sleep(0.1)
        return trace

    def end_modem(self):
        self.modem.terminate()
        self.modem.wait()
        self.modem = None

    def settled(self, settings):
        """Is it there, and is nothing done with it any more? One in normal mode has its calibration saved first, unasked."""
        modems = [m for m in json.loads(self.control("status", "--json=short")) if m["Mode"] != "absent"]
        states = [j["State"] for j in json.loads(self.control("jobs", "--json=short"))]
        return modems and set(states) <= {"finished"} and (states or "initial=working" not in settings)

    def unplug(self):
        if self.modem:
            self.end_modem()
            until(lambda: not self.workers(), "the end of the holder")

    def workers(self):
        with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)) as f:
            return [int(pid) for pid in f.read().split()]

    # ---- what it does when it has nothing to do ----
    def dogs(self):
        """How many signs of life it gave so far."""
        return sum(b"WATCHDOG=1" in m for m in self.said)

    def wake_ups(self, seconds):
        """How often it woke, and how often it told the watchdog."""
        time.sleep(0.5)  # what a call of ours was answered with has gone
        before, dogs = status(self.process.pid, "voluntary_ctxt_switches"), self.dogs()
        time.sleep(seconds)
        return status(self.process.pid, "voluntary_ctxt_switches") - before, self.dogs() - dogs

    def holder_wake_ups(self, seconds):
        pids = self.workers()
        before = [status(pid, "voluntary_ctxt_switches") for pid in pids]
        time.sleep(seconds)
        return sum(status(pid, "voluntary_ctxt_switches") for pid in pids) - sum(before)

    # ---- a flash ----
    def flash(self, archive, version):
        """Imports and flashes; the modem's trace."""
        trace = self.plug([], "flashed")
        self.control("firmware", "import", archive)
        self.control("flash", version, "--modem-version=" + version, "--yes")
        return trace

    def backup_file(self):
        """The largest file among its backups."""
        found = [os.path.join(at, name) for at, _, names in os.walk(os.path.join(self.state, "backups")) for name in names]
        return max(found, key=os.path.getsize)
