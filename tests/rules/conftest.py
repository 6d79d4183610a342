# SPDX-License-Identifier: LGPL-2.1-or-later
"""One bench a test: a virtual modem, packages, one worker after the other, and the judges.

The judges are what the modem received (its trace) and what lies in its flash, never what the worker says of itself.
Whatever a test is about, Bench.close() holds every flash of every test to what is always true: nothing that no host may
make a modem do, every erase and program complete and inside its own partition, the unit's own data untouched.
"""
import importlib.util
import os
import re
import struct
import subprocess
import sys
import tempfile
import types

import pytest

sys.dont_write_bytecode = sys.pycache_prefix is None
HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
ROOT = os.path.dirname(TESTS)
for name in ("faults", "modem", "package"):
    sys.path.insert(0, os.path.join(TESTS, name))
os.environ.setdefault("BUILD", os.path.join(ROOT, "build"))

import driver  # noqa: E402
import flash as flashfile  # noqa: E402
import layout  # noqa: E402

PAGES = layout.PAGES_PER_BLOCK
PAGE = 4096
VERSION = "RM502QGLAAR11A02M4G"
UNIT_DATA = flashfile.UNIT_DATA

# Microseconds that a job waits for a modem that never comes back. It waits as long for the one that is there to be handed over,
# so this is no small number.
GIVE_UP = 1000000


def blocks_of(name):
    first, count = layout.blocks_of(name)
    return range(first, first + count)


# ---- what the modem received ----

class Command:
    """One Firehose command as it came over the wire."""

    def __init__(self, number, tag, text):
        self.number, self.tag, self.text = number, tag, text
        self.pairs = re.findall(r'([\w]+)="([^"]*)"', text)
        self.attributes = dict(self.pairs)
        self.answer = None

    def __repr__(self):
        return "command %d: %s %s" % (self.number, self.tag, self.text)

    @property
    def vendor(self):
        return "vendor" in self.attributes

    @property
    def first(self):
        return int(self.attributes["start_sector"]) // PAGES

    @property
    def count(self):
        return int(self.attributes["num_partition_sectors"])

    @property
    def blocks(self):
        """The blocks that a command addresses by its own numbers."""
        start = int(self.attributes["start_sector"])
        return range(start // PAGES, -(-(start + self.count) // PAGES))

    @property
    def last(self):
        return int(self.attributes["last_sector"])

    @property
    def partition(self):
        for n, first, count in layout.PARTITIONS:
            if self.first in blocks_of(n):
                return n
        return None


class Trace:
    def __init__(self, path):
        with open(path, errors="replace") as f:
            self.lines = [line.rstrip("\n").split(" ", 1)[1] for line in f if " " in line]
        self.commands = []
        for line in self.lines:
            found = re.match(r"command (\d+) (\w+) ?(.*)", line)
            if found:
                self.commands.append(Command(int(found.group(1)), found.group(2), found.group(3)))
            elif line.startswith("response ") and self.commands and self.commands[-1].answer is None:
                self.commands[-1].answer = line.split()[1]

    def having(self, text):
        return [line for line in self.lines if text in line]

    def of(self, tag):
        return [c for c in self.commands if c.tag == tag and not c.vendor]

    @property
    def erases(self):
        return self.of("erase")

    @property
    def programs(self):
        return self.of("program")

    @property
    def changes(self):
        """All that can change a flash, in order; vendor tags not among them."""
        return [c for c in self.commands if c.tag in ("erase", "program", "patch", "fixgpt", "poke") and not c.vendor]

    @property
    def vendors(self):
        return [c for c in self.commands if c.vendor]

    @property
    def resets(self):
        return [c for c in self.commands if c.tag == "power" and c.attributes.get("value") == "reset"]

    @property
    def bytes_out(self):
        """Anything at all that a host sent."""
        return self.having("out transfer=") + self.having("poll")


# ---- packages ----

SPEC = importlib.util.spec_from_file_location("make_package", os.path.join(TESTS, "package", "make-package.py"))
MAKER = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MAKER)


def make_package(out, arguments):
    """As the command does it, without starting a Python each time."""
    command, sys.argv = sys.argv, ["make-package.py", "--out", out] + list(arguments)
    try:
        MAKER.main()
    finally:
        sys.argv = command


class Package:
    """A package as a directory (the judge reads that) and as a store entry (the worker reads that)."""

    def __init__(self, directory, arguments):
        self.place = directory
        self.arguments = arguments
        archive = os.path.join(directory, "package.tar")
        make_package(archive, arguments)
        self.store, self.job = import_anything(directory, archive)
        self.id = self.job.values.get("FIRMWARE.id", "")

    @property
    def directory(self):
        out = os.path.join(self.place, "package")
        if not os.path.isdir(out):
            make_package(out, self.arguments)
        return out

    @property
    def imported(self):
        return self.job.result == "done"


def import_anything(directory, archive):
    """Also a package that is refused; what is in the store then is what the flash worker must refuse, too."""
    store = os.path.join(directory, "package.store")
    fd = os.open(archive, os.O_RDONLY)
    out = os.open(store, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    listener, other = driver.socket.socketpair()
    nothing = types.SimpleNamespace(connection=None, listener=listener)
    job = Job(nothing, "import", {}, [("archive", fd), ("store", out)]).run()
    os.close(fd)
    os.close(out)
    job.finish()
    other.close()
    listener.close()
    return store, job


@pytest.fixture(scope="session")
def packages():
    made = {}
    with tempfile.TemporaryDirectory(prefix="qdld-rules-packages.") as top:
        def get(*arguments):
            if arguments not in made:
                directory = os.path.join(top, str(len(made)))
                os.mkdir(directory)
                made[arguments] = Package(directory, list(arguments))
            return made[arguments]
        yield get


# ---- jobs ----

class Job(driver.Job):
    """With the words of its end by name."""

    def log_has(self, text):
        return any(text in line for line in self.log)

    @property
    def error(self):
        return self.values.get("ERROR", "")

    @property
    def message(self):
        return self.values.get("MESSAGE", "")

    @property
    def hint(self):
        return self.values.get("HINT", "")


def memory(data):
    fd = os.memfd_create("given")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def file_job(kind, directory, path, **options):
    """A job without a modem over one backup file: verify, or import into PATH.imported."""
    listener, other = driver.socket.socketpair()
    nothing = types.SimpleNamespace(connection=None, listener=listener)
    fds = [("store" if kind == "verify" else "archive", os.open(path, os.O_RDONLY))]
    if kind == "import":
        fds.append(("store", os.open(path + ".imported", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)))
    job = Job(nothing, kind, {"type": "backup", **options}, fds).run()
    for _, fd in fds:
        os.close(fd)
    job.finish()
    other.close()
    listener.close()
    return job


class Bench:
    def __init__(self, directory, packages):
        self.directory = directory
        self.packages = packages
        self.flash_path = os.path.join(directory, "flash")
        self.journal = os.path.join(directory, "journal")
        self.modem = None
        self.holder = None
        self.before = None
        self.unit_data_may_change = False
        self.may_violate = ()
        self.traces = []
        self.last_job = None
        self.made = False

    # ---- modem ----
    def make_flash(self, *settings, blocks=layout.BLOCKS):
        """The flash alone, to be looked at or bent before the modem starts."""
        argv = [os.path.join(driver.BUILD, "virtual-modem"), "--flash", self.flash_path, "--new", "--make-flash",
                "--blocks", str(blocks)]
        for s in settings:
            argv += ["--set", s]
        subprocess.run(argv, check=True)
        self.made = True

    def poke(self, page, data, state=flashfile.WRITTEN):
        """Puts a page of data into the flash file."""
        with flashfile.Flash(self.flash_path) as f:
            at, states, records, size = f.data_offset, f.states_offset, f.records_offset, f.page_size
            block = page // f.pages_per_block
            flags, next_page, count = f.record(block)
        with open(self.flash_path, "r+b") as f:
            f.seek(states + page)
            f.write(bytes([state]))
            f.seek(at + page * size)
            f.write(data.ljust(size, b"\xff"))
            f.seek(records + block * flashfile.RECORD.size)
            f.write(flashfile.RECORD.pack(flags, max(next_page, page % PAGES + 1), 0, count))

    def poke_table(self, partitions, block=10, age=9, names=None, spoil=None):
        """The modem's own partition table; names: raw bytes in place of a name; spoil(pages) bends it behind the CRC."""
        pages = bytearray(layout.mibib(PAGE, partitions=partitions, age=age))
        for i, (name, _, _) in enumerate(partitions):
            if names and name in names:
                pages[PAGE + 16 + 28 * i:PAGE + 32 + 28 * i] = names[name].ljust(16, b"\0")
        struct.pack_into("<I", pages, 3 * PAGE + 12, layout.mibib_crc(pages[:2 * PAGE]))
        if spoil:
            spoil(pages)
        self.wipe(block)
        for i in range(4):
            self.poke(block * PAGES + i, bytes(pages[i * PAGE:(i + 1) * PAGE]))

    def wipe(self, *blocks):
        for b in blocks:
            for i in range(PAGES):
                self.poke(b * PAGES + i, b"", flashfile.ERASED)

    def start(self, *settings, still_clock=False):
        """Plugs a modem with this flash in (a new one the first time). still_clock: its time and the worker's pass only while
        both wait (tests/faults/still-clock.c), so that minutes take no longer than the work in them."""
        self.stop()
        clock = driver.Clock(self.directory) if still_clock else None
        trace = os.path.join(self.directory, "trace.%d" % len(self.traces))
        self.traces.append(trace)
        self.modem = driver.Modem(self.directory, self.flash_path, settings, new=not self.made, trace=trace, clock=clock)
        self.made = True
        self.modem.accept()
        if self.before is None:
            self.before = flashfile.Snapshot.load(self.flash_path)
        return self

    def stop(self):
        try:
            self.release()
        finally:
            modem, self.modem = self.modem, None
            if modem:
                modem.close()

    # ---- jobs ----
    def job(self, kind, options=None, fds=(), **more):
        self.release()
        self.last_job = Job(self.modem, kind, {**(options or {}), **{k.replace("_", "-"): v for k, v in more.items()}}, list(fds))
        return self.last_job

    def flash(self, package=(), recorded=None, on_message=None, on_stop=None, known=VERSION, confirmed=True, backup=True,
              answer=None, **options):
        """A flash of the package that these arguments of make-package.py make, to its end."""
        p = package if isinstance(package, Package) else self.packages("--small", *package)
        self.package = p
        given = {"firmware": p.id, **{k.replace("_", "-"): v for k, v in options.items()}}
        if known:
            given.update({"known-version": known, "known-confirmed": int(confirmed)})
        if not p.imported:
            given.pop("firmware")
        store = os.open(p.store, os.O_RDONLY)
        journal = os.open(self.journal, os.O_RDWR | os.O_CREAT, 0o600)
        fds = [("package", store), ("journal", journal)]
        if recorded is not None:
            fds.append(("recorded", memory(recorded.encode())))
        self.saved = os.path.join(self.directory, "saved.%d" % len(os.listdir(self.directory)))
        fds.append(("backup", os.open(self.saved, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600) if backup else None))
        return self.run("flash", given, fds, answer, on_message, on_stop)

    def run(self, kind, given, fds, answer, on_message, on_stop):
        """A job with these files to its end."""
        try:
            job = self.job(kind, given, fds)
            if answer:
                job.answer_backup = lambda: answer(job)
            job.run(on_message, on_stop)
        finally:
            for _, fd in fds:
                if fd is not None:
                    os.close(fd)
        self.holder = job
        return job

    def backup(self, package=(), recorded=None, on_message=None, known=VERSION, on_stop=None, **options):
        """A backup job to its end; the file is at self.saved."""
        p = package if package is None or isinstance(package, Package) else self.packages("--small", *package)
        given = {"created": 1790000000000000, **{k.replace("_", "-"): v for k, v in options.items()}}
        if known:
            given.update({"known-version": known, "known-confirmed": 1})
        self.saved = os.path.join(self.directory, "saved.%d" % len(os.listdir(self.directory)))
        fds = [("store", os.open(self.saved, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))]
        if p:
            fds.append(("package", os.open(p.store, os.O_RDONLY)))
        if recorded is not None:
            fds.append(("recorded", memory(recorded.encode())))
        return self.run("backup", given, fds, None, on_message, on_stop)

    def restore(self, path, package=(), on_message=None, known=VERSION, answer=None, backup=True, journal=None,
                on_stop=None, recorded=None, **options):
        """A restore of this backup file to its end."""
        p = package if isinstance(package, Package) else self.packages("--small", *package)
        given = {"created": 1790000000000001, **{k.replace("_", "-"): v for k, v in options.items()}}
        if known:
            given.update({"known-version": known, "known-confirmed": 1})
        self.saved = os.path.join(self.directory, "saved.%d" % len(os.listdir(self.directory)))
        fds = [("source", os.open(path, os.O_RDONLY)), ("package", os.open(p.store, os.O_RDONLY)),
               ("backup", os.open(self.saved, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600) if backup else None)]
        if recorded is not None:
            fds.append(("recorded", memory(recorded.encode())))
        if journal:
            fds.append(("journal", os.open(journal, os.O_RDWR | os.O_CREAT, 0o600)))
        return self.run("restore", given, fds, answer, on_message, on_stop)

    def release(self):
        if self.holder:
            self.holder.finish()
            self.holder = None

    # ---- judges ----
    def trace(self):
        """What all modems of this bench got; the one that runs is stopped so that nothing is missing."""
        self.stop()
        return Trace(self.traces[-1])

    def flashed(self):
        return flashfile.Flash(self.flash_path)

    def assert_done(self, job, result="done"):
        """result: of a flash that is complete and leaves a modem that lacks something."""
        assert job.result == result, job.words
        self.stop()
        with self.flashed() as f:
            verdict = flashfile.compare_package(f, self.before, self.package.directory)
        assert verdict, str(verdict)
        trace = self.trace()
        assert trace.having("boot normal"), "the modem does not boot from this flash"
        return trace

    def assert_unchanged(self):
        """Nothing was erased or written, and nobody tried to."""
        trace = self.trace()
        assert trace.changes == [], trace.changes
        with self.flashed() as f:
            verdict = flashfile.compare_unchanged(f, self.before)
        assert verdict, str(verdict)
        return trace

    def assert_refused(self, job, error, *words, hint=None):
        """The named error in one clear line, and nothing changed."""
        self.assert_error(job, error, *words, hint=hint)
        return self.assert_unchanged()

    def assert_error(self, job, error, *words, hint=None):
        assert job.result not in (None, "done"), job.words
        assert job.error == error, job.words
        assert job.message and "\\n" not in job.message and len(job.message) < 1024, job.words
        for word in words:
            assert word in job.message, (word, job.message)
        if hint is not None:
            assert job.hint == hint, (job.hint, job.words)

    def block_state(self, block):
        with self.flashed() as f:
            return f.states(block)

    def sbl_is_erased(self):
        with self.flashed() as f:
            return all(f.is_bad(b) or not any(f.states(b)) for b in blocks_of("SBL"))

    def boots(self):
        """In which mode does a modem with this flash come up?"""
        self.stop()
        modem = driver.Modem(self.directory, self.flash_path, [], new=False,
                             trace=os.path.join(self.directory, "trace.boot"))
        modem.accept()
        mode = "edl" if modem.in_edl else "normal"
        modem.close()
        return mode

    def always_true(self):
        for path in self.traces:
            trace = Trace(path)
            bad = [v for v in trace.having("VIOLATION") if not any(m in v for m in self.may_violate)]
            assert bad == [], bad
            for c in trace.changes:
                assert_complete(c)
        if self.before is None or self.unit_data_may_change:
            return
        with self.flashed() as f:
            for name in UNIT_DATA:
                for b in blocks_of(name):
                    difference = flashfile.unchanged_block(f, self.before, b, self.before.partitions())
                    assert difference is None, difference

    def close(self):
        self.stop()
        self.always_true()


ERASE_ATTRIBUTES = {"PAGES_PER_BLOCK", "SECTOR_SIZE_IN_BYTES", "num_partition_sectors", "physical_partition_number",
                    "start_sector", "last_sector"}


def assert_complete(c):
    """Flash rule 7, for one command: exactly our attributes, each a plain number, and an end that is its own partition's."""
    assert c.tag in ("erase", "program"), c
    assert len(c.pairs) == len(c.attributes) and set(c.attributes) == ERASE_ATTRIBUTES, c
    assert all(re.fullmatch(r"0|[1-9][0-9]{0,9}", v) for v in c.attributes.values()), c
    assert c.attributes["physical_partition_number"] == "0", c
    assert int(c.attributes["start_sector"]) % PAGES == 0 and c.count > 0, c
    end = int(c.attributes["start_sector"]) + c.count - 1
    own = c.partition
    assert own is not None and c.last <= blocks_of(own)[-1] * PAGES + PAGES - 1, c
    if c.tag == "erase":
        assert c.last == end and c.count % PAGES == 0, c
    else:
        assert c.last >= end, c


@pytest.fixture
def bench(packages):
    with tempfile.TemporaryDirectory(prefix="qdld-rules.") as directory:
        b = Bench(directory, packages)
        yield b
        b.close()


@pytest.fixture(scope="session")
def rehearsal(packages):
    """The trace of a flash without faults, for tests that need the number of a command."""
    made = {}

    def get(*arguments, settings=()):
        if (arguments, settings) not in made:
            with tempfile.TemporaryDirectory(prefix="qdld-rules.") as directory:
                b = Bench(directory, packages)
                b.start(*settings)
                made[arguments, settings] = b.assert_done(b.flash(arguments))
                b.close()
        return made[arguments, settings]
    return get
