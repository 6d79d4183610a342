#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""make bench-here: how fast and how small. Ends with 1 if a limit is missed, and says which.

Rates and waits are read from the trace of the virtual modem, whose clock is the same for all peers, and are compared within one
run: a figure of one machine says nothing on another. Rates are compared in pairs, and the middle of them counts (fair.py). What
else runs on the machine only ever makes a wait longer, and never the same one in each round: so a wait of the modem is ours if it
comes back in every round at the same place. What is seen once is shown beside it.

    SIZE=96M ROUNDS=15 make bench-here
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("BUILD", os.path.join(TOP, "build")))
os.environ["BUILD"] = BUILD
VIRTUAL_MODEM = os.path.join(BUILD, "virtual-modem")
sys.dont_write_bytecode = True
sys.path[:0] = [HERE, os.path.join(TOP, "tests", "faults"), os.path.join(TOP, "tests", "package")]
import catching  # noqa: E402
import dictionary  # noqa: E402
import driver  # noqa: E402
import fair  # noqa: E402
import footprint  # noqa: E402
import waits  # noqa: E402
import windows  # noqa: E402

VERSION = "RM502QGLAAR05A03M4G_01.001.01.001"
SIZE = os.environ.get("SIZE", "96M")
LARGE = "4"  # a package so many times as large needs no more memory
ROUNDS = int(os.environ.get("ROUNDS", "15"))
CATCHES = 5
ZLP_EACH = "in_zlp=each"  # as a modem does to a host that says it is aware of them, as all of these do
IN_POSTED = 4 * 16384  # IN_TRANSFERS of IN_SIZE, daemon/transport/usb.c
PATIENCE = 1800  # seconds for all of it
RATIO_MIN, WAIT_MAX_US, WORKER_MIB, SERVICE_MIB, UNPACKER_MIB = 0.80, 5000, 24, 12, 192
CATCH_HELLO_US = 20000  # beyond what the kernel needs, on an idle machine
BACKUP_TIME_MAX = 0.80  # of the one that reads as qdl does
WINDOWS_RATIO_MAX = 1.5
STORE_RATIO_MAX = 10  # to store a backup is to start a process that reads, hashes and compares it, and to sync it
missed = []


def row(name, value, limit="", good=True):
    if not good:
        missed.append("%s: %s, %s" % (name, value, limit))
    print("%-58s %14s   %s%s" % (name, value, limit, "" if good else "   <-- MISSED"), flush=True)


def make_package(out, size=SIZE):
    subprocess.run([sys.executable, os.path.join(TOP, "tests/package/make-package.py"), "--version", VERSION, "--size", size,
                    "--out", out], check=True)
    return out


# ---- one flash, and the yardstick ----

MODEM = [(217 * 64, 440 * 64)]  # the partition of that name


def bare(directory, package, flash, ranges, *mode, settings=()):
    """The trace of a modem that a writer fills, or a reader empties, as fast as it can, in these (first page, pages)."""
    programmer = os.path.join(package, "update/firehose/prog_firehose_sdx55.mbn")
    path, trace = os.path.join(directory, "bare"), os.path.join(directory, "bare-trace")
    writer = subprocess.Popen([os.path.join(BUILD, "bare-writer"), path, programmer,
                               ",".join("%d+%d" % r for r in ranges), *mode])
    while not os.path.exists(path):
        time.sleep(0.01)
    modem = subprocess.Popen([VIRTUAL_MODEM, "--socket", path, "--flash", flash, "--trace", trace, "--set", "force_edl=yes",
                              *(x for s in settings for x in ("--set", s))])
    fair.share(modem, writer)
    assert writer.wait(120) == 0
    modem.terminate()
    modem.wait()
    return trace


class Flash:
    """One flash by a worker that is ready before the modem is plugged in."""

    def __init__(self, directory, flash, store, firmware):
        self.memory = 0
        self.modem = driver.Modem(directory, flash, [], new=False, start=False)
        self.trace = self.modem.trace
        journal = os.open(os.path.join(directory, "journal"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        package = os.open(store, os.O_RDONLY)
        start = time.monotonic()
        job = driver.Job(self.modem, "flash", {"modem-version": VERSION, "firmware": firmware, "wait-device-usec": 5000000,
                                               "boot-usec": 10000000, "reset": 1}, [("package", package), ("journal", journal)])
        job.run(self.look)
        self.took = time.monotonic() - start
        assert job.result == "done", job.words
        job.finish()
        self.modem.close()
        os.close(journal)
        os.close(package)

    def look(self, job):
        if self.modem.process is None and "edl" in job.waits:
            self.modem.start()
            fair.share(self.modem.process, job.process)
        if {"RESULT", "BACKUP"} & job.latest_keys:
            self.memory = max(self.memory, footprint.peak(job.process.pid) or 0)


def compare(what, ours, peers, scale=1e6, unit="MB/s"):
    """A row for the quotient of our rate and that of each peer; more is better. peers: (name, function, the least, or None: is only shown)."""
    rounds = fair.Rounds(ROUNDS, ours, *(rate for _, rate, _ in peers))
    for which, (who, _, limit) in enumerate(peers, 1):
        ratio, spread = rounds.ratio(other=which)
        if limit:
            row("%s / %s's" % (what, who), "%.2f" % ratio, "at least %.2f" % limit, ratio >= limit)
            print("    " + spread)
        else:
            print("    %.2f of %s's; %s" % (ratio, who, spread))
    for who, of in zip(["ours"] + [who for who, _, _ in peers], rounds.of):
        print("    %s by round, %s: %s" % (unit, who, " ".join("%.0f" % (r / scale) for r in of)))


def rates_and_waits(directory, package, store, firmware, chip):
    flashes = []
    turns = fair.Turns(lambda trace: waits.large_programs(trace)[0].begun, store)

    def rate(who, run, at_once=False):
        chip.renew()
        return waits.program_rate(turns.take(who, run, at_once))

    def flash():
        flashes.append(Flash(directory, chip.path, store, firmware))
        flashes[-1].waits = waits.host_waits(flashes[-1].trace)
        return flashes[-1].trace

    def our_rate():
        return rate(turns.OURS, flash)

    def bare_rate(*source, at_once=False):
        return rate(source, lambda: bare(directory, package, chip.path, ranges, *source), at_once)

    our_rate()
    ranges = [(c.first, c.pages) for c in waits.large_programs(flashes.pop().trace)]
    compare("flash: rate of its program commands", our_rate, [
        ("bare writer", lambda: bare_rate("write", store), RATIO_MIN), ("a writer that has nothing to read", bare_rate, None),
        ("a bare writer in memory that is warm still", lambda: bare_rate("write", store, at_once=True), None)])
    memory = max(f.memory for f in flashes)
    print("    whole job: %.2f s with a package of %s" % (min(f.took for f in flashes), SIZE))
    row("flash worker: peak memory", "%.1f MiB" % memory, "at most %d" % WORKER_MIB, 0 < memory <= WORKER_MIB)
    report_waits([f.waits for f in flashes])


def save(directory, target, flash, store, firmware):
    """A backup into a file; the modem's trace."""
    modem = driver.Modem(directory, flash, ["force_edl=yes", ZLP_EACH, "in_posted=%d" % IN_POSTED], new=False)
    modem.accept()
    fds = [("store", os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC)),
           ("package", os.open(store, os.O_RDONLY)),
           ("journal", os.open(target + "-journal", os.O_RDWR | os.O_CREAT | os.O_TRUNC))]
    job = driver.Job(modem, "backup", {"kind": "nand", "partitions": "modem", "firmware": firmware, "known-version": VERSION,
                                       "known-confirmed": 1, "created": 1, "wait-device-usec": 5000000}, fds)
    fair.share(modem.process, job.process)
    job.run()
    for _, fd in fds:
        os.close(fd)
    assert job.result == "done", job.words
    job.finish()
    modem.close()
    return modem.trace


def backups(directory, library, package, store, firmware, chip):
    """One partition of 110 MiB, as the flash before left it, against a reader that has 16 KiB read, writes them into a file on the
    same disk, and only then asks the wire for more. qdld has transfers posted all the time, which a socket has not: the modem is
    told how much of what it says goes in there (IN_POSTED). On one processor that saves no time but that of waking up; what judging
    and hashing cost beside the plain reader's writing is what is seen here. Debian 12's qdl is no peer; it knows erase, program and
    patch, and no read. The other reader does what later versions of it do (linux-msm/qdl, lib/firehose.c and lib/usb.c): one payload of 8
    KiB with one transfer, the ZLP behind it with another one, a write, and only then the next. That costs it little on a socket,
    where a transfer takes no time of its own."""

    target = os.path.join(library, "read")
    turns = fair.Turns(lambda trace: waits.large_reads(trace)[0], chip.path)

    def rate(who, run, at_once=False):
        if os.path.exists(target):
            os.unlink(target)  # or its cold memory would be the first that is found
        return waits.read_rate(turns.take(who, run, at_once))

    def bare_rate(mode, at_once=False):
        return rate(mode, lambda: bare(directory, package, chip.path, MODEM, mode, target, settings=[ZLP_EACH]), at_once)

    def our_rate():
        return rate(turns.OURS, lambda: save(directory, target, chip.path, store, firmware))

    chip.renew()
    Flash(directory, chip.path, store, firmware)
    compare("backup: its rate, between reads too", our_rate, [
        ("plain reader", lambda: bare_rate("read"), RATIO_MIN),
        ("qdl-like reader", lambda: bare_rate("read-as-qdl"), 1 / BACKUP_TIME_MAX),
        ("a qdl-like reader in memory that is warm still", lambda: bare_rate("read-as-qdl", at_once=True), None)])


def report_waits(rounds):
    if len({tuple(w.place for w in r) for r in rounds}) != 1:
        row("flash: the same commands in every round", "no", "so that waits can be compared", False)
        return
    # The driver answers for the service: the wait for the store is measured with the service itself.
    places = [[r[i] for r in rounds] for i in range(len(rounds[0])) if not rounds[0][i].store]
    ours = sorted(places, key=lambda p: min(w.us for w in p), reverse=True)
    longest = min(w.us for w in ours[0])
    row("flash: longest wait of the modem for us, in every round", "%.1f ms" % (longest / 1e3), "at most %.0f" % (WAIT_MAX_US / 1e3),
        longest <= WAIT_MAX_US)
    single = sorted(w.us for p in places for w in p)
    print("    of %d waits in each of %d rounds; seen once: 99.9 %% below %.1f ms, at most %.1f ms" % (
        len(places), len(rounds), single[int(len(single) * 0.999)] / 1e3, single[-1] / 1e3))
    for place in ours[:3]:
        print("    %8.1f ms (%s) before %s" % (min(w.us for w in place) / 1e3, " ".join("%.1f" % (w.us / 1e3) for w in place),
                                               place[0].before[:90]))


# ---- with the service ----

def with_the_service(directory, archive):
    with footprint.Service(directory) as service:
        for name, settings in (("alone", None), ("beside a modem in normal mode", ["initial=working"]),
                               ("holding a modem in 9008", [])):
            if settings is not None:
                service.plug(settings, name)
            woke, dogs = service.wake_ups(5)
            row("idle service %s: wake-ups in 5 s" % name, str(woke), "the watchdog's %d" % dogs, woke <= dogs and dogs > 0)
            if settings == []:
                holders = service.holder_wake_ups(2)
                row("holder: wake-ups in 2 s", str(holders), "0", holders == 0)
            service.unplug()
        trace = service.flash(archive, VERSION)
        file = service.backup_file()
        plain = footprint.read_and_sync(file)
        store = next(w for w in waits.host_waits(trace) if w.store)
        ratio = store.us / plain
        row("flash rule 5: wait for the store / hashing and syncing it", "%.1f" % ratio, "at most %d (%.1f ms for %.1f MiB)" % (
            STORE_RATIO_MAX, store.us / 1e3, os.path.getsize(file) / (1 << 20)), ratio <= STORE_RATIO_MAX)
        memory = footprint.peak(service.process.pid)
        row("service after an import and a flash: peak memory", "%.1f MiB" % memory, "at most %d" % SERVICE_MIB,
            memory <= SERVICE_MIB)


def catches(directory, archive, package, chip):
    """From the modem's enumeration, over the sleeps of its own life: what we add to the handshake itself."""
    bares = [catching.latency(bare(directory, package, chip.path, [(MODEM[0][0], 64)])) for _ in range(CATCHES)]
    ours = catching.by_the_service(directory, archive, CATCHES)
    for i, (name, limit) in enumerate((("HELLO_RESP", CATCH_HELLO_US), ("a programmer that runs", None))):
        best, bare_best = min(c[i] for c in ours), min(b[i] for b in bares)
        text = "at most %.0f ms" % (limit / 1e3) if limit else "%.1f times a bare client's" % (best / max(bare_best, 1))
        row("catch: from enumeration to " + name, "%.1f ms" % (best / 1e3), text, limit is None or best <= limit)
        print("    by round: catch %s, bare client %s" % tuple(" ".join("%.1f" % (c[i] / 1e3) for c in of) for of in (ours, bares)))


def import_peak(directory, archive):
    memory = []
    driver.import_package(directory, archive, lambda job: memory.append(footprint.peak(job.process.pid) or 0))
    return max(memory)


def imports(directory):
    large = "%dM" % (int(LARGE) * int(SIZE.rstrip("M")))
    for ending, size, limit in (("zip", SIZE, WORKER_MIB), ("zip", large, WORKER_MIB), ("tar", SIZE, WORKER_MIB),
                                ("tar", large, WORKER_MIB), ("tar.xz", SIZE, UNPACKER_MIB), ("7z", SIZE, UNPACKER_MIB)):
        archive = make_package(os.path.join(directory, "package." + ending), size)
        peak = import_peak(directory, archive)
        row("import worker, %s of %s: peak memory" % (ending, size), "%.1f MiB" % peak, "at most %d" % limit, peak <= limit)
        os.unlink(archive)
    # More of it than the dictionary holds, so that all of that is used. test_package_memory.py: one too large is TooLarge.
    tree = make_package(os.path.join(directory, VERSION), "192M")
    for ending in ("tar.xz", "7z"):
        archive = os.path.join(directory, "package." + ending)
        dictionary.pack(tree, archive, 128 << 20)
        peak = import_peak(directory, archive)
        row("import worker, %s, dictionary of 128 MiB: peak memory" % ending, "%.1f MiB" % peak, "at most %d" % UNPACKER_MIB,
            peak <= UNPACKER_MIB)
        os.unlink(archive)


# ---- numbered items over DIAG ----

ITEMS = 8000
RUNNING = ("initial=working", "imei=490154203237518")


def items_per_second(trace):
    """Of the first sweep: from the answer to item 0 to that of the last, in the modem's own time."""
    times = {}
    with open(trace, errors="replace") as f:
        for line in f:
            if " diag nv read item=" in line and " index=0 " in line:
                times.setdefault(int(line.split("item=")[1].split()[0]), int(line.split()[0]))
    return (ITEMS - 2) / (times[ITEMS - 1] - times[1]) * 1e6


def bare_items(directory, flash):
    path, trace = os.path.join(directory, "bare-diag"), os.path.join(directory, "bare-diag-trace")
    reader = subprocess.Popen([os.path.join(BUILD, "bare-diag"), path, str(ITEMS)])
    while not os.path.exists(path):
        time.sleep(0.01)
    modem = subprocess.Popen([VIRTUAL_MODEM, "--socket", path, "--flash", flash, "--trace", trace,
                              *(x for s in RUNNING for x in ("--set", s))], stderr=subprocess.DEVNULL)
    fair.share(modem, reader)
    assert reader.wait(120) == 0
    modem.terminate()
    modem.wait()
    os.unlink(path)
    return items_per_second(trace)


def worker_items(directory, flash):
    """The same of a backup job of kind xqcn."""
    m = driver.Modem(directory, flash, RUNNING, new=False, trace=os.path.join(directory, "diag-trace"))
    try:
        m.accept()
        job = driver.Job(m, "backup", {"kind": "xqcn", "imei-key": "00" * 32}, [("store", os.memfd_create("backup"))])
        fair.share(m.process, job.process)
        job.run()
        assert job.result == "done", job.log
        job.finish()
    finally:
        m.close()
    return items_per_second(os.path.join(directory, "diag-trace"))


def items(directory):
    chip = fair.Chip(VIRTUAL_MODEM, os.path.join(directory, "flash-diag"), *RUNNING, blocks=192)
    compare("DIAG: rate of %d NV reads" % ITEMS, lambda: worker_items(directory, chip.path),
            [("bare reader", lambda: bare_items(directory, chip.path), RATIO_MIN)], scale=1e3, unit="thousand a second")


def in_windows(directory):
    place = os.path.join(directory, "in-windows")
    os.mkdir(place)
    plain, worked, n, share = windows.measure(place)
    row("flash in %d windows: work / work of one at once" % n, "%.2f" % (worked / plain), "at most %.1f" % WINDOWS_RATIO_MAX,
        worked / plain <= WINDOWS_RATIO_MAX)
    row("flash in windows of 3 s: share of each that is work", "%.0f %%" % (100 * share))


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("the bench takes longer than %d s: something hangs" % PATIENCE))
    signal.alarm(PATIENCE)
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = tempfile.mkdtemp(prefix="qdld-bench-", dir=place)
    library = tempfile.mkdtemp(prefix="qdld-bench-", dir="/var/tmp")  # on a disk, as a library is
    try:
        package, archive = make_package(os.path.join(directory, "package")), make_package(os.path.join(directory, "package.tar"))
        store, firmware = driver.import_package(library, archive)
        chip = fair.Chip(VIRTUAL_MODEM, os.path.join(directory, "flash"), "version=" + VERSION[:19])
        rates_and_waits(directory, package, store, firmware, chip)
        backups(directory, library, package, store, firmware, chip)
        catches(directory, archive, package, chip)
        with_the_service(directory, archive)
        os.unlink(archive)
        in_windows(directory)
        items(directory)
        imports(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(library, ignore_errors=True)
    print("\n".join(["%d limits missed:" % len(missed)] + missed) if missed else "every limit met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
