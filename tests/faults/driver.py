# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plays the service for one real worker and one virtual modem, without a bus: small enough to run thousands of flashes.

The worker speaks the link of daemon/link/keys.h on descriptor 3; the modem connects to our socket for each of its appearances
(daemon/transport/virtual.h), and each worker gets its own copy of that connection, as it would get a node opened anew.
"""
import array
import mmap
import os
import select
import signal
import socket
import subprocess
import time

BUILD = os.environ.get("BUILD", "build")
LIMIT = float(os.environ.get("LIMIT", 60.0))  # seconds for one job, or for one step of a Clock: what takes longer has hung


def escape(value):
    out = []
    for byte in value.encode():
        char = chr(byte)
        out.append("\\\\" if char == "\\" else char if 0x20 <= byte < 0x7F else "\\x%02x" % byte)
    return "".join(out)


class Clock:
    """The time of one worker and one modem (still-clock.c). It stands still until neither can do anything but wait, and then
    goes on to what one of them waits for; so no deadline takes long, and none is reached because the machine is busy."""

    WORKER, MODEM = 0, 1
    NEVER = 2 ** 63 - 1
    GRAIN = 0.001  # seconds after which a look is taken whether all of them wait
    PATIENCE = 280 * 10 ** 6  # µs for one job: longer than any deadline in it, all of them together

    def __init__(self, directory):
        self.library = os.path.join(BUILD, "still-clock.so")
        assert os.path.exists(self.library), "%s is not there: make check-faults builds it" % self.library
        self.path = os.path.join(directory, "clock")
        with open(self.path, "w+b") as f:
            f.truncate(mmap.PAGESIZE)
            self.page = memoryview(mmap.mmap(f.fileno(), mmap.PAGESIZE)).cast("q")
        self.page[0] = 10 ** 9
        self.processes = [None, None]

    @property
    def now(self):
        return self.page[0]

    def environment(self, slot):
        """For a process that is about to be started in this slot."""
        self.page[1 + 2 * slot] = 0
        return {"LD_PRELOAD": self.library, "STILL_CLOCK": self.path, "STILL_CLOCK_SLOT": str(slot)}

    def runs(self, slot, process):
        self.processes[slot] = process

    def waiting(self, slot):
        """Until when this process waits: None if it does not. An odd turn says that it does, a state of S that nothing has come
        for it since."""
        process = self.processes[slot]
        if process is None or process.returncode is not None:
            return self.NEVER
        if self.page[1 + 2 * slot] % 2 == 0:
            return None
        with open("/proc/%d/stat" % process.pid) as f:
            state = f.read().rpartition(") ")[2][:1]
        return self.NEVER if state in "Z" else self.page[2 + 2 * slot] if state == "S" else None

    def idle(self, slots):
        """Until when all of these wait with nothing left to do; None if one of them has."""
        turns = list(self.page[1:5:2])
        until = [self.waiting(slot) for slot in slots]
        return min(until) if None not in until and turns == list(self.page[1:5:2]) else None

    def go_to(self, now):
        """Sets the time, and wakes who waited for it."""
        self.page[0] = now = max(now, self.now)
        for slot, process in enumerate(self.processes):
            if process and process.returncode is None and self.page[1 + 2 * slot] % 2 and self.page[2 + 2 * slot] <= now:
                process.send_signal(signal.SIGUSR2)

    def until_idle(self, slot):
        """Lets this process do what it has left to do. Until when it waits then."""
        while (until := self.idle([slot])) is None:
            time.sleep(self.GRAIN / 4)
        return until

    def pass_for_worker(self, ms):
        """So much time passes for the worker alone, with the modem stopped."""
        end = self.now + ms * 1000
        while self.now < end:
            self.go_to(min(self.until_idle(self.WORKER), end))


class Modem:
    """One virtual modem and the socket that it plugs itself into, at once or when it is told to."""

    def __init__(self, directory, flash, settings, new=True, trace=None, blocks=2048, clock=None, start=True):
        self.path = os.path.join(directory, "modem.socket")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.listener.bind(self.path)
        self.listener.listen(4)
        self.connection = None
        self.plug = {}
        self.appearances = 0
        self.trace = trace or os.path.join(directory, "trace")
        self.argv = [os.path.join(BUILD, "virtual-modem"), "--socket", self.path, "--flash", flash, "--trace", self.trace]
        if new:
            self.argv += ["--new", "--blocks", str(blocks)]
        for setting in settings:
            self.argv += ["--set", setting]
        self.clock = clock
        self.process = None
        if start:
            self.start()

    def start(self):
        own = self.clock.environment(Clock.MODEM) if self.clock else {}
        self.process = subprocess.Popen(self.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **own})
        if self.clock:
            self.clock.runs(Clock.MODEM, self.process)

    @property
    def stopped(self):
        """Has its process stopped (the fault `stop`) since the last question?"""
        return os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOHANG) is not None

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def accept(self):
        self.drop()
        self.connection, _ = self.listener.accept()
        line = self.connection.recv(1024)
        self.plug = dict(item.split("=", 1) for item in line.decode().splitlines() if "=" in item)
        self.appearances += 1

    def drop(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    @property
    def in_edl(self):
        return self.connection is not None and self.plug.get("PID") == "9008"

    @property
    def normal(self):
        return self.connection is not None and self.plug.get("VID") == "2c7c" and self.plug.get("INTERFACES") != "1"

    def close(self):
        self.drop()
        self.go_on()
        self.process.terminate()
        self.process.wait()
        self.listener.close()
        if os.path.exists(self.path):
            os.unlink(self.path)


class StopSignal:
    """SIGCHLD as something to poll; the main thread of a process has one at a time."""

    def __init__(self):
        self.ours, self.theirs = socket.socketpair()
        for s in (self.ours, self.theirs):
            s.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.theirs.fileno(), warn_on_full_buffer=False)

    def fileno(self):
        return self.ours.fileno()

    def take(self):
        try:
            return self.ours.recv(64)
        except BlockingIOError:
            return b""

    def __del__(self):
        signal.set_wakeup_fd(-1)
        self.ours.close()
        self.theirs.close()


LINK = 3  # where a worker looks for its link


def spawn_with_link(argv, link, env):
    """Without a function in between, which would have the whole of this process copied for every worker."""
    try:
        saved = os.dup(LINK)
    except OSError:
        saved = None
    os.dup2(link.fileno(), LINK)
    try:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=(LINK,), env=env)
    finally:
        if saved is None:
            os.close(LINK)
        else:
            os.dup2(saved, LINK)
            os.close(saved)


class Job:
    """One worker and what it said."""

    def __init__(self, modem, kind, options, fds, product=""):
        self.modem = modem
        self.messages = []
        self.values = {}
        self.report = {}
        self.log = []
        self.phases = []
        self.result = None
        self.holding = False
        self.waits = set()
        self.killed = self.abandoned = False
        self.clock = getattr(modem, "clock", None)
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        env = {"LANG": "C.UTF-8", **self.environment, **(self.clock.environment(Clock.WORKER) if self.clock else {})}
        self.process = spawn_with_link([os.path.join(BUILD, "qdld-worker")], theirs, env)
        theirs.close()
        if self.clock:
            self.clock.runs(Clock.WORKER, self.process)
        # What a flash saves before its first erase (flash rule 5); answered in take().
        self.backup = None
        fds = list(fds)
        if kind in ("flash", "restore") and "backup" not in dict(fds):
            self.backup = os.memfd_create("backup")
            fds.append(("backup", self.backup))
        elif "backup" in dict(fds) and dict(fds)["backup"] is None:
            fds = [f for f in fds if f[0] != "backup"]
        lines = ["JOB=" + kind] + ["OPTION.%s=%s" % (k, escape(str(v))) for k, v in options.items()]
        lines += ["FD=" + name for name, _ in fds]
        self.send(lines, [fd for _, fd in fds])

    def send(self, lines, fds=()):
        data = "".join(line + "\n" for line in lines).encode()
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.link.sendmsg([data], ancillary)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def offer(self):
        """Gives the modem to the worker if it waits for what is there."""
        m = self.modem
        if m.connection is None or not self.waits:
            return
        ids = ["VID=" + m.plug["VID"], "PID=" + m.plug["PID"], "PRODUCT=" + escape(m.plug.get("PRODUCT", ""))]
        if "edl" in self.waits and m.in_edl:
            self.waits.clear()
            self.send(["DEVICE=1"] + ids, [m.connection.fileno()])
        elif "diag" in self.waits and m.normal and not self.withholds_diag:
            self.waits.clear()
            self.send(["DEVICE=1"] + ids, [m.connection.fileno()])
        elif "normal" in self.waits and m.normal:
            self.waits.clear()
            self.send(["APPEARED=normal"] + ids)
        elif "normal" in self.waits and m.in_edl and self.came_back:
            self.came_back = False
            self.send(["APPEARED=edl"] + ids)

    withholds_diag = False  # its node cannot be opened
    came_back = False
    backups = 0
    environment = {}  # of the worker, besides

    def answer_backup(self):
        """As the service does once another worker has read the file."""
        self.send(["BACKUP_STORED=1", "ID=" + "5a" * 16])

    def take(self, data):
        self.messages.append(data)
        self.latest_keys = set()
        for line in data.decode().splitlines():
            key, value = line.split("=", 1)
            self.latest_keys.add(key)
            if key == "LOG":
                self.log.append(value)
            elif key == "PHASE":
                self.phases.append(value)
            elif key == "WAIT_DEVICE":
                self.waits.add(value)
                if value == "normal":
                    self.waits.discard("diag")
            elif key.startswith("REPORT."):
                self.report[key[7:]] = value
            elif key == "HOLDING":
                self.holding = True
            elif key == "RESULT":
                self.result = value
            elif key == "BACKUP":
                self.backups += 1
                self.answer_backup()
            self.values[key] = value

    def run(self, on_message=None, on_stop=None):
        """Until the worker is gone or has become a holder. on_message(job) may kill it; on_stop(job) is called when the
        modem's process has stopped and lets it go on."""
        self.end = time.monotonic() + LIMIT
        self.latest = self.clock.now + Clock.PATIENCE if self.clock else None
        wakeup = StopSignal() if on_stop else None
        while not self.holding:
            if wakeup and wakeup.take() and self.modem.stopped:
                self.drain()
                on_stop(self)
                if self.abandoned:
                    return self.until_gone()
            watched = [self.link, self.modem.listener] + ([wakeup] if wakeup else [])
            if self.modem.connection:
                watched.append(self.modem.connection)
            poll = select.poll()
            for s in watched:
                poll.register(s, select.POLLIN if s is not self.modem.connection else select.POLLRDHUP)
            ready = self.wait(poll)
            if wakeup and wakeup.fileno() in ready:
                continue
            if not ready:
                self.process.kill()
                self.process.wait()
                raise AssertionError("the worker hung: phases %s, log %s" % (self.phases[-5:], self.log[-8:]))
            if self.modem.connection and self.modem.connection.fileno() in ready:
                self.modem.drop()
                self.send(["DEVICE_GONE=1"])
                continue
            if self.link.fileno() in ready:
                try:
                    data = self.link.recv(65536)
                except ConnectionResetError:
                    continue  # it left some of ours unread; its last words are still there
                if not data:
                    break
                self.take(data)
                if on_message:
                    on_message(self)
                self.offer()
            if self.modem.listener.fileno() in ready:
                self.modem.accept()
                self.came_back = True
                self.offer()
        if not self.holding:
            self.process.wait()
        return self

    def step(self, until):
        """On a busy machine thousands of steps take minutes; how much time there is for all of them the clock itself says."""
        self.clock.go_to(until)
        self.end = time.monotonic() + LIMIT

    def wait(self, poll):
        """The descriptors that are ready; none: the time is over."""
        while True:
            left = self.end - time.monotonic()
            ready = poll.poll(max(0, min(left, Clock.GRAIN) if self.clock else left) * 1000)
            if ready or left <= 0 or not self.clock:
                return {fd for fd, _ in ready}
            until = self.clock.idle([Clock.WORKER, Clock.MODEM])
            if until is None or poll.poll(0):
                continue
            if until > self.latest:
                return set()
            self.step(until)

    def abandon(self):
        """The service dies: nobody is at the other end of the link any more."""
        self.abandoned = True
        self.link.close()

    def until_gone(self):
        while self.process.poll() is None:
            until = self.clock.idle([Clock.WORKER, Clock.MODEM]) if self.clock else None
            if time.monotonic() > self.end or (until and until > self.latest):
                self.process.kill()
                self.process.wait()
                raise AssertionError("the worker of a dead service goes on: phases %s, log %s" % (self.phases[-5:], self.log[-8:]))
            if until:
                self.step(until)
            time.sleep(Clock.GRAIN / 4)
        return self

    def drain(self):
        """Takes what has been said up to now."""
        while select.select([self.link], [], [], 0)[0]:
            try:
                data = self.link.recv(65536)
            except ConnectionResetError:
                continue
            if not data:
                break
            self.take(data)

    def kill(self):
        self.killed = True
        self.process.send_signal(signal.SIGKILL)

    def finish(self):
        """Ends a holder in the way of the service."""
        if self.process.poll() is None:
            self.send(["RELEASE=1"])
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError("the holder did not let go")
        self.link.close()
        if self.backup is not None:
            os.close(self.backup)
            self.backup = None

    @property
    def words(self):
        return "%s %s: %s" % (self.result, self.values.get("ERROR", ""), self.values.get("MESSAGE", ""))


def import_package(directory, archive, on_message=None):
    """A package through a real import worker; the path of its store entry and its id."""
    store = os.path.join(directory, "package.store")
    fd = os.open(archive, os.O_RDONLY)
    out = os.open(store, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)

    class Nothing:
        connection = None

    nothing = Nothing()
    nothing.listener, other = socket.socketpair()
    job = Job(nothing, "import", {}, [("archive", fd), ("store", out)]).run(on_message)
    os.close(fd)
    os.close(out)
    assert job.result == "done", job.words
    job.finish()
    other.close()
    nothing.listener.close()
    return store, job.values["FIRMWARE.id"]
