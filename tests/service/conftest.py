# SPDX-License-Identifier: LGPL-2.1-or-later
"""A private bus that behaves as the system bus, the real qdld on it, virtual modems, packages, and forged workers.

Run by "make check-service" with BUILD set to the absolute build directory. Nothing here needs root; a test that needs a
second user says so and is skipped otherwise."""

import contextlib
import os
import pathlib
import py_compile
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import dbus
import dbus.bus
import dbus.exceptions
import pytest

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
BUILD = pathlib.Path(os.environ.get("BUILD", TOP / "build")).resolve()
sys.path.insert(0, str(HERE))

NAME = "org.qdld1"
ROOT = "/org/qdld1"
MANAGER = NAME + ".Manager"
MODEM = NAME + ".Modem"
FIRMWARE = NAME + ".Firmware"
BACKUP = NAME + ".Backup"
JOB = NAME + ".Job"
PROPERTIES = "org.freedesktop.DBus.Properties"
INVALID_ARGS = "org.freedesktop.DBus.Error.InvalidArgs"
VERSION = "RM502QGLAAR05A03M4G_01.001.01.001"


# A shell without job control starts what it runs beside itself with SIGINT ignored, and every child would inherit that: a test could
# press Ctrl-C for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


def error(name):
    return NAME + ".Error." + name


# AddressSanitizer keeps what was freed, and more: nothing can be said of memory then.
needs_own_memory = pytest.mark.skipif(b"libasan.so" in (BUILD / "qdld").read_bytes(), reason="AddressSanitizer")

# How long anything may take that does not depend on a deadline of the service: what takes longer has hung, however busy the
# machine is. A test that wants to know whether the service waited for something compares with WELL_BEFORE and lets that last for ever.
PATIENCE = 60.0
WELL_BEFORE = 20.0


# LATE=0.3: how many seconds a test comes late to every look and every call, as on a machine on which everything else is fast. No test may
# fail for it: each waits for what lasts.
LATE = float(os.environ.get("LATE", 0))


def wait_until(condition, timeout=PATIENCE, what="it"):
    """Polls; for conditions that have no event a test could wait for, and that last once they are true."""
    begin = time.monotonic()
    while True:
        time.sleep(LATE)
        result = condition()
        if result:
            return result
        waited = time.monotonic() - begin
        assert waited < timeout, f"{what} did not come true within {timeout} s"
        time.sleep(min(0.01 + waited / 10, 0.1))  # six that wait are not to take the machine from those that work


class Refused:
    """with Refused("ModemBusy") as e: ... ; then e.message."""

    def __init__(self, name):
        self.name = name if "." in name else error(name)
        self.message = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        assert kind is not None, f"expected {self.name}, got no error"
        if not issubclass(kind, dbus.exceptions.DBusException):
            return False
        assert value.get_dbus_name() == self.name, value
        self.message = value.get_dbus_message()
        assert self.message and "\n" not in self.message
        return True


def id_of(path):
    """Of a backup, what its files are called: no path begins with a digit."""
    return re.sub("_([0-9a-f]{2})", lambda m: chr(int(m.group(1), 16)), str(path).rsplit("/", 1)[1])


# ---- the bus ----

@pytest.fixture
def bus_address():
    # Not below tmp_path: other users have to reach it.
    directory = pathlib.Path(tempfile.mkdtemp(prefix="qdld-bus-"))
    directory.chmod(0o755)
    path, configuration = directory / "bus", directory / "bus.conf"
    configuration.write_text((TOP / "tests" / "private-bus.conf.in").read_text().replace("@SOCKET@", str(path)))
    daemon = subprocess.Popen(["dbus-daemon", f"--config-file={configuration}", "--nofork", "--nopidfile",
                               "--print-address"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert daemon.stdout.readline()
    yield f"unix:path={path}"
    daemon.terminate()
    daemon.wait(PATIENCE)
    shutil.rmtree(directory)


# ---- the service ----

class Service:
    """qdld with a state directory of its own. Calls are blocking; each one may take `timeout` seconds."""

    def __init__(self, address, directory):
        self.address = address
        self.directory = directory
        self.state = directory / "state"
        self.socket = directory / "modems"
        self.process = None
        self.bus = None

    def start(self, worker=None, config="", environment=None):
        configuration = self.directory / "qdld.conf"
        # Nobody is asked unless the test is about that: a modem that is only plugged in does not answer.
        configuration.write_text("[Identify]\nOnAppear=no\n[Backup]\nReserveFree=0\n" + config)
        self.stderr = open(self.directory / "qdld.stderr", "ab")
        environment = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=self.address, **(environment or {}))
        self.process = subprocess.Popen(
            [BUILD / "qdld", f"--virtual={self.socket}", f"--config={configuration}", f"--state={self.state}",
             f"--worker={worker or BUILD / 'qdld-worker'}"], env=environment, stderr=self.stderr)
        self.connect()
        return self

    def connect(self):
        self.bus = self.bus or dbus.bus.BusConnection(self.address)
        wait_until(lambda: self.process.poll() is not None or self.bus.name_has_owner(NAME), what="the bus name")
        assert self.process.poll() is None, self.errors()

    def errors(self):
        return (self.directory / "qdld.stderr").read_text(errors="replace")

    def stop(self, how=signal.SIGTERM, timeout=PATIENCE, modem=None):
        """Returns the exit status. modem: a stopped one, which goes on as soon as the service was told."""
        self.process.send_signal(how)
        if modem:
            go_on(modem)
        status = self.process.wait(timeout)
        self.process = None
        return status

    def restart(self, **options):
        assert self.stop() == 0
        return self.start(**options)

    # ---- calls ----
    def call_bus(self, method, *arguments):
        """Of the bus itself."""
        bus = self.bus.get_object("org.freedesktop.DBus", "/org/freedesktop/DBus", introspect=False)
        return bus.get_dbus_method(method, "org.freedesktop.DBus")(*arguments)

    def call(self, path, interface, method, *arguments, timeout=PATIENCE):
        """Without a proxy, which asks the bus for the owner first: conditions are polled by calls."""
        time.sleep(LATE / 10)
        return self.bus.call_blocking(NAME, path, interface, method, None, arguments, timeout=timeout)

    def manager(self, method, *arguments, **options):
        return self.call(ROOT, MANAGER, method, *arguments, **options)

    def get(self, path, interface, name):
        return self.call(path, PROPERTIES, "Get", interface, name)

    def all(self, path, interface):
        return self.call(path, PROPERTIES, "GetAll", interface)

    def objects(self):
        return self.call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")

    def properties(self, interface):
        """{path: properties} of all that have it, at one moment."""
        return {str(p): i[interface] for p, i in self.objects().items() if interface in i}

    def paths(self, interface):
        return sorted(self.properties(interface))

    def introspect(self, path):
        return str(self.call(path, "org.freedesktop.DBus.Introspectable", "Introspect"))

    def no_options(self):
        return dbus.Dictionary({}, signature="sv")

    def import_file(self, archive, label="test", **options):
        """The path of the job. archive: a path, or a descriptor."""
        options = dbus.Dictionary(options, signature="sv")
        if isinstance(archive, int):
            return self.manager("ImportFirmware", dbus.types.UnixFd(archive), label, options)
        with open(archive, "rb") as f:
            return self.manager("ImportFirmware", dbus.types.UnixFd(f.fileno()), label, options)

    def import_backup(self, archive, **options):
        """The path of the job. archive: a path, or a descriptor."""
        options = dbus.Dictionary(options, signature="sv")
        if isinstance(archive, int):
            return self.manager("ImportBackup", dbus.types.UnixFd(archive), options)
        with open(archive, "rb") as f:
            return self.manager("ImportBackup", dbus.types.UnixFd(f.fileno()), options)

    def wait_job(self, path, timeout=2 * PATIENCE):
        """Its Result, once it is finished."""
        return str(self.call(path, JOB, "Wait", self.no_options(), timeout=timeout))

    def log(self, path):
        fd = self.call(path, JOB, "GetLog", self.no_options()).take()
        with os.fdopen(fd, "rb") as f:
            return f.read().decode()

    def modem(self, timeout=PATIENCE):
        """The path of the one modem that is present."""
        def present():
            found = [p for p in self.paths(MODEM) if self.get(p, MODEM, "Mode") != "absent"]
            return found if len(found) == 1 else None
        return wait_until(present, timeout, "one modem")[0]

    def workers(self):
        """Process ids of its children."""
        out = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return [int(p) for p in out.stdout.split()]


@pytest.fixture
def new_service(bus_address, tmp_path):
    """Makes services that are not started yet; all of them are stopped in order at the end."""
    made = []

    def make():
        s = Service(bus_address, tmp_path)
        made.append(s)
        return s
    yield make
    for s in made:
        if s.process:
            assert s.stop() == 0, s.errors()
        for word in ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:"):
            assert word not in s.errors(), s.errors()


@pytest.fixture
def service(new_service):
    """The service with the real worker."""
    return new_service().start()


# ---- modems ----

@pytest.fixture
def new_modem(tmp_path):
    """new_modem(service, "loop=soft", ...): a virtual modem in 9008, plugged in."""
    started = []

    def make(service, *settings, name="modem", blocks=2048):
        arguments = [BUILD / "virtual-modem", "--socket", str(service.socket), "--flash", str(tmp_path / (name + ".flash")), "--trace",
                     str(tmp_path / (name + ".trace"))]
        if not (tmp_path / (name + ".flash")).exists():
            arguments += ["--new", "--blocks", str(blocks)]
        for s in settings:
            arguments += ["--set", s]
        process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        started.append(process)
        return process
    make.started = started
    yield make
    for p in started:
        if p.poll() is None:
            pull(p)


# A modem with fault=stop@... stops at that very point, for as long as the test likes: what is to happen to the host "in the middle"
# happens there, however busy the machine is.

def wait_stopped(modem):
    def state():
        with open(f"/proc/{modem.pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0]
    wait_until(lambda: state() == "T", what="the point at which the modem stops")


def go_on(modem):
    modem.send_signal(signal.SIGCONT)


def dies_at_rename(directory, when, of):
    """The environment of a service that dies "before" or "behind" the moment at which a file with the ending `of` gets another job's name."""
    library = directory / "die-at-rename.so"
    subprocess.run(["cc", "-D_GNU_SOURCE", "-O2", "-fPIC", "-shared", "-o", library, HERE / "die-at-rename.c"], check=True)
    return {"LD_PRELOAD": str(library), "DIE_AT_RENAME": when, "DIE_AT_RENAME_OF": of}


def stop_when_gone(modem):
    """It stops between two appearances, the next time that it is there: where nobody can say fault=stop@gone:N, as nobody can count."""
    modem.send_signal(signal.SIGUSR1)
    wait_stopped(modem)


def time_is_over(modem):
    """Whatever it waits for has come: reboot_ms=, normal_ms= and such can be as long as a test likes."""
    modem.send_signal(signal.SIGHUP)


def in_phase(service, job, phase):
    """Waits for a phase that lasts: the modem is stopped in it or away for ever, or a forged worker waits for something."""
    def there():
        f = service.all(job, JOB)
        assert f["State"] != "finished", (phase, dict(f), service.log(job)[-2000:])
        return f["Phase"] == phase
    wait_until(there, what=phase)


def pull(modem):
    """Plugs a modem out, stopped or not, for ever."""
    modem.terminate()
    go_on(modem)
    modem.wait(PATIENCE)


class Plug:
    """A device at the virtual bus that only plugs itself in: for tests of the service that never reach a wire."""

    def __init__(self, service, port="virtual-usb-0:1.2", kernel="1-1.2", vid="05c6", pid="9008",
                 product="QUSB_BULK_CID:0410_SN:49CBD7EF", interfaces=1):
        import socket
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(str(service.socket))
        self.socket.send(f"PORT={port}\nKERNEL={kernel}\nVID={vid}\nPID={pid}\nPRODUCT={product}\n"
                         f"INTERFACES={interfaces}\nMAX_PACKET=512\n".encode())

    def unplug(self):
        self.socket.close()


@pytest.fixture
def plug():
    made = []

    def make(*arguments, **options):
        made.append(Plug(*arguments, **options))
        return made[-1]
    yield make
    for p in made:
        p.unplug()


# ---- packages ----

@pytest.fixture(scope="session")
def make_package(tmp_path_factory):
    """make_package("--break", "overlap", ending=".zip"): the path of a package; the same arguments give the same file."""
    directory = tmp_path_factory.mktemp("packages")
    made = {}

    def make(*arguments, ending=".tar", name=VERSION):
        key = (arguments, ending, name)
        if key not in made:
            out = directory / str(len(made)) / (name + ending)
            out.parent.mkdir()
            subprocess.run([sys.executable, TOP / "tests" / "package" / "make-package.py", "--out", out, "--version", VERSION,
                            *arguments], check=True, stdout=subprocess.DEVNULL)
            made[key] = out
        return made[key]
    return make


# ---- forged workers ----

LAUNCHER = r"""
#include <stdio.h>
#include <unistd.h>
int main(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 5);
    if (n < 0)
        return 125;
    snprintf(path + n, 5, ".pyc");
    execl("/usr/bin/python3", "python3", "-I", "-S", path, (char *)0);
    return 126;
}
"""


@pytest.fixture(scope="session")
def launcher(tmp_path_factory):
    """A binary that runs the compiled Python beside it: the service starts workers by descriptor, which no script survives."""
    directory = tmp_path_factory.mktemp("launcher")
    (directory / "launcher.c").write_text(LAUNCHER)
    subprocess.run(["cc", "-o", directory / "launcher", directory / "launcher.c"], check=True)
    return directory / "launcher"


def build_id():
    return re.search(r'"([0-9a-f]+)"', (BUILD / "build-id.h").read_text()).group(1)


@pytest.fixture
def python_worker(launcher, tmp_path):
    """python_worker(name, source): the path for --worker of a worker that is this Python. A hundred are started in a minute: each finds
    itself compiled, and without what Python can do without (-S)."""
    def make(name, source):
        worker = tmp_path / name
        if not worker.exists():  # the service holds it open, and a worker of before may be running still
            shutil.copy(launcher, worker)
        (tmp_path / (name + ".py")).write_text(source)
        py_compile.compile(tmp_path / (name + ".py"), tmp_path / (name + ".pyc"), doraise=True)  # renames it: a service may start it at any time
        return worker
    return make


@pytest.fixture
def forge(python_worker):
    """forge(source): a worker that runs this Python, with everything of forged.py in reach. The path for --worker."""
    prelude = (HERE / "forged.py").read_text().replace("@BUILD_ID@", build_id())
    return lambda source, name="forged": python_worker(name, prelude + "\n" + source)


# ---- files of FUSE ----

@pytest.fixture
def stalling(tmp_path):
    """stalling("read"): a descriptor of a file; this operation on it never ends, until stalling.end(). stalling.asked() waits for
    one."""
    started = []

    def make(operation):
        if os.geteuid() != 0 or not os.access("/dev/fuse", os.W_OK):
            pytest.skip("needs root and FUSE")
        directory = tmp_path / "stalling"
        directory.mkdir()
        process = subprocess.Popen(["/usr/bin/python3", HERE / "stalling.py", directory, operation], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "mounted\n"
        started.append((process, directory))
        files.append(os.open(directory / "file", os.O_RDONLY))
        return files[-1]
    def end():
        for process, directory in started:
            process.kill()
            process.wait()
            subprocess.run(["umount", "-l", directory], check=True)
        started.clear()

    def asked():
        assert started[-1][0].stdout.readline() == "asked\n"
    files = []
    make.end, make.asked = end, asked
    yield make
    end()
    for fd in files:
        with contextlib.suppress(OSError):  # its owner is gone
            os.close(fd)


# ---- signals ----

class Changes:
    """PropertiesChanged of one object, by a match of its own connection."""

    def __init__(self, address, path):
        self.address, self.text = address, ""
        self.process = subprocess.Popen(
            ["dbus-monitor", "--address", address,
             f"type='signal',path='{path}',interface='{PROPERTIES}',member='PropertiesChanged'",
             "type='signal',interface='org.qdld1.Test'"], stdout=subprocess.PIPE)
        self.reach("begin")

    def reach(self, mark):
        """Everything sent before this call has been heard: a signal of our own came back."""
        end = time.monotonic() + PATIENCE
        while f'"{mark}"' not in self.text:
            assert time.monotonic() < end, self.text
            subprocess.run(["dbus-send", f"--bus={self.address}", "--type=signal", "/", "org.qdld1.Test.Mark", f"string:{mark}"],
                           check=True)
            while select.select([self.process.stdout], [], [], 0.2)[0]:
                data = os.read(self.process.stdout.fileno(), 65536)
                assert data, self.text
                self.text += data.decode()

    def end(self):
        """[[names]] in order."""
        self.reach("end")
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE)
        return [re.findall(r'dict entry\(\s*string "([^"]+)"', block)
                for block in re.split(r"^(?=signal )", self.text, flags=re.M) if "PropertiesChanged" in block]


@pytest.fixture
def changes(bus_address):
    return lambda path: Changes(bus_address, path)
