# SPDX-License-Identifier: LGPL-2.1-or-later
"""What scenarios are written with: modems to plug, users to be, waits that end. See ../README.md."""

import contextlib
import json
import os
import pathlib
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time

SHARE = pathlib.Path("/ring")
OUT = pathlib.Path("/out")
# Which of the VMs this is: 1, 2, …
VM = re.search(r"ring.vm=(\d+)", pathlib.Path("/proc/cmdline").read_text()).group(1)
WORK = pathlib.Path("/run/ring")
USB = pathlib.Path("/sys/bus/usb/devices")
# Of the package "tiny".
VERSION = "RM502QGLAAR05A03M4G_01.001.01.001"
PORTS = 10
USBIP_PORTS = 8
# How long anything may take that does not depend on a deadline of ours: a rescue in windows, too.
PATIENCE = 300.0

sys.path.insert(0, str(SHARE / "bin"))
import flash as flashfile  # noqa: E402

USERS = {
    "member": "of group qdl once README's install section was followed, no administrator",
    "outsider": "may nothing",
    "boss": "an administrator: of group sudo",
}
PASSWORD = "correct horse"
SETTINGS = pathlib.Path("/etc/qdld/qdld.conf.d")


class Skip(Exception):
    """Raised with the reason where a scenario cannot run on this machine."""


def scenario(function=None, *, always=False):
    """Marks a function as a scenario; its docstring is the line that is printed. always: others stand on it."""
    def mark(f):
        f.scenario, f.always = True, always
        return f
    return mark(function) if function else mark


# ---- commands and users ----

class Done:
    def __init__(self, command, code, out, err):
        self.command, self.code, self.out, self.err = command, code, out, err

    def __str__(self):
        said = " / ".join((self.err.strip() or self.out.strip() or "(nothing)").splitlines()[-4:])
        return f"exit {self.code} and {said[-400:]} from {' '.join(map(str, self.command))}"


def run(*command, code=0, timeout=PATIENCE, **options):
    """As root. code: what it has to exit with; None: whatever."""
    p = subprocess.run([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                       check=False, **options)
    done = Done(command, p.returncode, p.stdout.decode(errors="replace"), p.stderr.decode(errors="replace"))
    assert code is None or done.code == code, f"{done} (exit {code} expected)"
    return done


def as_user(user, *command, **options):
    """Without a session, as from cron or a service. The groups are those that the user has now."""
    if user == "root":
        return run(*command, **options)
    return run("runuser", "-u", user, "--", *command, **options)


class Terminal:
    """A command of a user at a terminal of its own, who answers what it asks. session: logged in, as far as logind knows."""

    def __init__(self, user, *command, session=False):
        self.text = ""
        self.command = [str(c) for c in command]
        pid, self.fd = pty.fork()
        if pid == 0:
            os.environ["TERM"] = "dumb"
            if session:
                os.execvp("su", ["su", "--login", user, "--session-command", "exec " + shlex.join(self.command)])
            os.execvp("runuser", ["runuser", "-u", user, "--", *self.command])
        self.pid = pid

    def read(self, timeout):
        if not select.select([self.fd], [], [], max(timeout, 0))[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def expect(self, pattern, timeout=PATIENCE):
        """Until it has said this; what it said before is forgotten."""
        end = time.monotonic() + timeout
        while not (match := re.search(pattern, self.text)):
            assert self.read(end - time.monotonic()), f"{' '.join(self.command)} never said '{pattern}' but: {self.text[-600:]}"
        self.text = self.text[match.end():]

    def say(self, line):
        os.write(self.fd, line.encode() + b"\n")

    def say_secret(self, line):
        """What asks for a password throws away what was typed before it has turned the echo off."""
        wait(lambda: not termios.tcgetattr(self.fd)[3] & termios.ECHO, "a terminal without echo", 30)
        self.say(line)

    def end(self, code=0, timeout=PATIENCE):
        """Its text since the last expect()."""
        end = time.monotonic() + timeout
        while self.read(end - time.monotonic()):
            pass
        wait(lambda: os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), f"the end of {' '.join(self.command)}", 10)
        got = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        assert code is None or got == code, f"{' '.join(self.command)}: exit {got} (expected {code}): {self.text[-600:]}"
        return self.text


class Background:
    """A command of a user that goes on; text() is what it said so far."""

    def __init__(self, user, *command):
        self.command = [str(c) for c in command]
        full = self.command if user == "root" else ["runuser", "-u", user, "--", *self.command]
        self.path = WORK / f"background-{len(_background)}-{os.path.basename(self.command[0])}.log"
        with open(self.path, "wb") as f:
            self.process = subprocess.Popen(full, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT)
        _background.append(self)

    def text(self):
        return self.path.read_text(errors="replace")

    def end(self, code=0, timeout=PATIENCE):
        """Waits for its end; the text. code as for run()."""
        try:
            got = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{' '.join(self.command)} did not end in {timeout:.0f} s: {self.text()[-600:]}") from None
        assert code is None or got == code, f"{' '.join(self.command)}: exit {got} (expected {code}): {self.text()[-600:]}"
        return self.text()


_background = []


def wait(condition, what, timeout=PATIENCE):
    """The condition's first true value. Where that is a program's answer it is asked a twentieth of the time: waiting costs an emulated VM nothing, asking
    takes the processor from what is waited for."""
    end = time.monotonic() + timeout
    while True:
        begun = time.monotonic()
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what}: not in {timeout:.0f} s"
        time.sleep(min(max(0.05, 20 * (time.monotonic() - begun)), 2))


# ---- modems ----

_taken = {}


class Modem:
    """A virtual modem on a USB port of its own, plugged in when this returns. Settings are those of tests/modem/README.md. usbip: on a port
    with a SuperSpeed side and with AT ports that answer."""

    made = 0

    def __init__(self, *settings, blocks=16, plug=True, usbip=False):
        # The next one, not the first: what is known of a port is not to reach another scenario's modem.
        ports = USBIP_PORTS if usbip else PORTS
        self.port = next(n % ports for n in range(Modem.made, Modem.made + ports) if (usbip, n % ports) not in _taken)
        _taken[usbip, self.port] = self
        Modem.made += 1
        self.born = time.time()
        self.serial = f"{0x49cb0000 + Modem.made:08x}"
        self.name = f"modem-{Modem.made}"
        self.file = WORK / f"{self.name}.flash"
        self.trace_path = WORK / f"{self.name}.trace"
        self.settings = [x for s in (f"serial={self.serial}", "host_wait_ms=-1", *settings) for x in ("--set", s)]
        self.plug_into = ["--usbip", str(self.port)] if usbip else ["--gadget", f"dummy_udc.{self.port}"]
        # One of vhci_hcd's buses is for SuperSpeed, with the other port of the same connector.
        hub = "vhci_hcd.0" if usbip else f"dummy_hcd.{self.port}"
        buses = sorted(pathlib.Path("/sys/devices/platform", hub).glob("usb[0-9]*"), key=lambda p: float((p / "speed").read_text()))
        self.kernels = [f"{bus.name[3:]}-{self.port + 1 if usbip else 1}" for bus in buses]
        self.process, self.blocks = None, blocks
        self.make_flash()
        if plug:
            self.plug()

    def make_flash(self, *settings):
        """As it comes from the factory, or with these settings, which do not count for the modem's life."""
        run(SHARE / "bin/virtual-modem", "--flash", self.file, "--make-flash", "--blocks", self.blocks, *self.settings,
            *[x for s in settings for x in ("--set", s)])
        with flashfile.Flash(self.file) as f:
            self.before = flashfile.Snapshot.of(f)

    @property
    def kernel(self):
        """The kernel's name for where it is; where it was or will be if it is nowhere."""
        return next((k for k in self.kernels if (USB / k).exists()), self.kernels[0])

    @property
    def device(self):
        return USB / self.kernel

    @property
    def connector(self):
        """udev's ID_PATH: what the service calls the port of a gadget."""
        return f"platform-dummy_hcd.{self.port}-usb-0:1"

    def plug(self, *settings):
        """With these settings in addition, until it is unplugged."""
        more = [x for s in settings for x in ("--set", s)]
        with open(WORK / f"{self.name}.log", "ab") as f:
            self.process = subprocess.Popen([SHARE / "bin/virtual-modem", "--flash", self.file, *self.plug_into, "--trace", self.trace_path,
                                             *self.settings, *more], stderr=f)
        self.wait_present()

    def wait_present(self):
        wait(lambda: self.id() or self.process.poll() is not None, f"{self.name} on the bus")
        assert self.process.poll() is None, f"{self.name} ended: {(WORK / (self.name + '.log')).read_text()}"

    def heal(self):
        """From its next plug() on no fault comes of itself."""
        at = [i for i, x in enumerate(self.settings) if x.startswith("fault=")]
        self.settings = [x for i, x in enumerate(self.settings) if i not in at and i + 1 not in at]

    def unplug(self):
        """And switched off: what it was doing is gone as with the power."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(PATIENCE)
        self.process = None
        wait(lambda: not self.id(), f"{self.name} off the bus")

    def id(self):
        """vid:pid of what is plugged there now, or None."""
        try:
            return ":".join((self.device / n).read_text().strip() for n in ("idVendor", "idProduct"))
        except OSError:
            return None

    def node(self):
        return pathlib.Path("/dev/bus/usb/{:03d}/{:03d}".format(*(int((self.device / n).read_text()) for n in ("busnum", "devnum"))))

    def trace(self):
        try:
            return self.trace_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_trace(self, pattern, timeout=PATIENCE):
        """The match of a line of the trace."""
        return wait(lambda: re.search(pattern, self.trace(), re.M), f"{self.name}: {pattern} in its trace", timeout)

    def wait_stopped(self):
        """Until fault=stop@… has stopped it."""
        def stopped():
            pid, status = os.waitpid(self.process.pid, os.WNOHANG | os.WUNTRACED)
            assert not pid or os.WIFSTOPPED(status), f"{self.name} ended"
            return pid
        wait(stopped, f"{self.name} at the point where it stops")

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def rows(self):
        """What qdld says about the modem that is there now: ListModems' dictionaries."""
        return [m for m in json.loads(run("qdlctl", "list", "--json=short").out) if m.get("KernelName") == self.kernel]

    def known(self):
        """The same, whether it is there now or not."""
        return next((m for m in json.loads(run("qdlctl", "list", "--json=short").out) if m["Port"] == self.connector), {})

    def expect_flashed(self, package="tiny", normal=True, may=None):
        """Its flash holds the package page by page, all else as it was; it runs the new firmware. may: a violation that is none."""
        if normal:
            wait(lambda: self.id() == "2c7c:0800", f"{self.name} in normal mode (is {self.id()})")
        with flashfile.Flash(self.file) as f:
            verdict = flashfile.compare_package(f, self.before, str(firmware(package, "")))
        assert verdict, f"{self.name}: {verdict}"
        self.expect_no_violation(may)

    def expect_unchanged(self):
        with flashfile.Flash(self.file) as f:
            verdict = flashfile.compare_unchanged(f, self.before)
        assert verdict, f"{self.name}: {verdict}"

    def expect_no_programmer(self):
        """At most its boot ROM was asked who it is, which the service does by itself."""
        assert "state programmer" not in self.trace(), self.trace()

    def expect_no_violation(self, may=None):
        bad = [v for v in re.findall(r"^.*VIOLATION.*$", self.trace(), re.M) if not (may and re.search(may, v))]
        assert not bad, f"{self.name}: {bad[0]}"

    def flash_command(self, package="tiny", ending=".zip", *options):
        """For a user: the whole of it in one command."""
        return ["qdlctl", "flash", self.kernel, firmware(package, ending), "--yes", f"--modem-version={VERSION}", *options]


# What a modem gets that was left in the middle of raw data and is asked where it stands.
PROBED = "short transfer of 63 bytes|no ZLP"


def firmware(package="tiny", ending=".zip"):
    """The path of a package; without an ending that of its directory."""
    return next(p for p in (SHARE / "firmware" / package).iterdir() if p.is_dir() != bool(ending))


def library():
    """The package "tiny" is in the library, whatever else is, and flash takes VERSION for it; its object path."""
    def found():
        return [f["path"] for f in json.loads(run("qdlctl", "firmware", "--json=short").out) if f["Name"] == VERSION]
    if not found():
        run("qdlctl", "firmware", "import", firmware())
    return found()[0]


# ---- the service ----

def install():
    """The packages, as built; over a newer version, too."""
    run("apt-get", "install", "--yes", "--allow-downgrades", *sorted((SHARE / "deb").glob("*.deb")), timeout=900,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def install_for_member():
    """What README's install section leads to."""
    install()
    run("usermod", "--append", "--groups", "qdl", "member")


def restart():
    """However often that was done a moment ago: systemd starts a service five times in ten seconds and no more."""
    run("systemctl", "reset-failed", "qdld")
    run("systemctl", "restart", "qdld")


@contextlib.contextmanager
def settings(text):
    """What this machine's administrator sets, for a while."""
    SETTINGS.mkdir(exist_ok=True)
    path = SETTINGS / "scenario.conf"
    path.write_text(text)
    restart()
    try:
        yield
    finally:
        path.unlink()
        # A directory of ours would rightly outlive a purge.
        with contextlib.suppress(OSError):
            SETTINGS.rmdir()
        restart()


def readme_commands(after):
    """The first block of commands in README.md behind what matches the pattern, without their comments."""
    text = (SHARE / "README.md").read_text()
    block = re.search(after + r".*?^((?:    [^\n]*\n)+)", text, re.M | re.S).group(1)
    return [re.sub(r"\s+#.*", "", line.strip()) for line in block.splitlines()]


def follow(commands, place, user="member"):
    """As a user would who may use sudo: each in a new login, since a group counts from the next one on."""
    sudoers = pathlib.Path("/etc/sudoers.d/follow")
    sudoers.write_text(f"{user} ALL=(ALL) NOPASSWD: ALL\n")
    try:
        for command in commands:
            run("su", "--login", user, "-c",
                f"cd {shlex.quote(str(place))} && export USER={user} SYSTEMD_PAGER=cat DEBIAN_FRONTEND=noninteractive; {command}", timeout=300)
    finally:
        sudoers.unlink()


def installed():
    return os.path.exists("/usr/bin/qdlctl")


def show(*names, unit="qdld"):
    """Properties of the unit, as strings."""
    out = run("systemctl", "show", unit, *[f"--property={n}" for n in names]).out
    found = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    return found if len(names) > 1 else found[names[0]]


def jobs():
    return json.loads(run("qdlctl", "jobs", "--json=short").out)


def name_of(path):
    """The number or id at the end of an object path."""
    return re.sub("_([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), path.rsplit("/", 1)[1])


def running_jobs():
    return [j for j in jobs() if not j.get("Result")]


def journal(since, *matches):
    return run("journalctl", "--no-pager", "-o", "cat", f"--since=@{since:.3f}", *matches).out


def end_jobs():
    """Cancels what runs; whether nothing does any more. A job may just be in what it cannot leave: to be asked again."""
    running = running_jobs()
    for j in running:
        run("qdlctl", "cancel", j["Id"], code=None)
    return not running


def forget_ports():
    """All that is known of the ports, which are empty now, and their policies: another modem in one of them would be the old one's heir."""
    known = []

    def empty():
        known[:] = json.loads(run("qdlctl", "list", "--json=short").out)
        return not any(m["KernelName"] for m in known)
    wait(empty, "ports that are empty")
    for m in known:
        run("busctl", "--system", "call", "org.qdld1", m["path"], "org.qdld1.Modem", "Forget", "a{sv}", "0")


# ---- before and after ----

def prepare():
    WORK.mkdir(exist_ok=True)
    WORK.chmod(0o755)
    OUT.mkdir(exist_ok=True)
    run("mount", "-t", "9p", "-o", "trans=virtio,version=9p2000.L,msize=262144", "out", OUT)
    for name in USERS:
        run("useradd", "--create-home", "--shell", "/bin/bash", name)
    run("usermod", "-a", "-G", "sudo", "boss")
    for name in USERS:
        subprocess.run(["chpasswd"], input=f"{name}:{PASSWORD}\n", text=True, check=True)
    # Whoever wants it as a neighbour starts it: it opens every modem in normal mode, and asks it for a minute what it is.
    run("systemctl", "stop", "ModemManager")
    run("modprobe", "dummy_hcd", f"num={PORTS}")
    run("modprobe", "libcomposite")
    run("modprobe", "vhci_hcd")
    run("mountpoint", "/sys/kernel/config")


def tidy():
    """After each scenario: nothing plugged, nothing running, the service as it should be."""
    for b in _background:
        if b.process.poll() is None:
            b.process.terminate()
            b.process.wait(PATIENCE)
    _background.clear()
    for m in list(_taken.values()):
        m.unplug()
        for path in (m.file, m.trace_path, WORK / f"{m.name}.log"):
            path.unlink(missing_ok=True)
    _taken.clear()
    for path in WORK.glob("*.log"):
        path.unlink()
    if installed() and os.path.exists("/lib/systemd/system/qdld.service"):
        run("systemctl", "reset-failed", "qdld")
        run("systemctl", "start", "qdld")
        wait(end_jobs, "the end of all jobs")
        forget_ports()
