#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""make bench: how fast and how small, as ratios within one run. Nothing here fails a build; the limits stand beside the figures.

Rates and gaps are read from the trace of the virtual modem, whose clock is the same for all peers.
"""
import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("BUILD", os.path.join(TOP, "build")))
os.environ["BUILD"] = BUILD
sys.path.insert(0, os.path.join(TOP, "tests", "faults"))
import driver  # noqa: E402

VERSION = "RM502QGLAAR05A03M4G_01.001.01.001"
SIZE = os.environ.get("SIZE", "96M")
ROUNDS = int(os.environ.get("ROUNDS", "5"))
rows = []


def row(name, value, limit, good):
    rows.append(good)
    print("%-58s %14s   %s%s" % (name, value, limit, "" if good else "   <-- not met"))


def events(path):
    for line in open(path, errors="replace"):
        stamp, _, rest = line.rstrip("\n").partition(" ")
        if stamp.isdigit():
            yield int(stamp), rest


def program_rate(path, least):
    """Bytes a second over the program commands of at least so many bytes, from command to final response."""
    moved = took = 0
    start = pages = None
    for stamp, what in events(path):
        if re.match(r"command \d+ program ", what):
            pages = int(re.search(r'num_partition_sectors="(\d+)"', what).group(1))
            size = int(re.search(r'SECTOR_SIZE_IN_BYTES="(\d+)"', what).group(1))
            start = stamp
        elif start and what.startswith("response ACK rawmode=false"):
            if pages * size >= least:
                moved += pages * size
                took += stamp - start
            start = None
    return moved / (took / 1e6)


def host_gaps(path):
    """Every pause in which the modem waited for us, in microseconds: from what it last sent to what we sent next."""
    last_in, gaps = None, []
    for stamp, what in events(path):
        if what.startswith(("in transfer", "poll", "plug")):
            last_in = (stamp, what)
        elif what.startswith("out transfer") and last_in:
            gaps.append((stamp - last_in[0], stamp, what))
            last_in = None
        elif what.startswith("state") and "reset" in what:
            last_in = None
    return sorted(gaps, reverse=True)


def peak(pid):
    for line in open("/proc/%d/status" % pid):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024


def bare_rate(directory, package):
    programmer = os.path.join(package, "update/firehose/prog_firehose_sdx55.mbn")
    socket_path, trace = os.path.join(directory, "bare"), os.path.join(directory, "bare-trace")
    writer = subprocess.Popen([os.path.join(BUILD, "bare-writer"), socket_path, programmer, str(217 * 64), "16384"])
    while not os.path.exists(socket_path):
        time.sleep(0.01)
    modem = subprocess.Popen([os.path.join(BUILD, "virtual-modem"), "--socket", socket_path, "--flash",
                              os.path.join(directory, "bare-flash"), "--new", "--trace", trace])
    assert writer.wait(120) == 0
    modem.terminate()
    modem.wait()
    return program_rate(trace, 1 << 20)


def flash(directory, store, firmware):
    modem = driver.Modem(directory, os.path.join(directory, "flash"), ["version=" + VERSION[:19]])
    journal = os.open(os.path.join(directory, "journal"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    package = os.open(store, os.O_RDONLY)
    memory = [0]

    def watch(job):
        memory[0] = max(memory[0], peak(job.process.pid) or 0)

    start = time.monotonic()
    job = driver.Job(modem, "flash", {"modem-version": VERSION, "firmware": firmware, "wait-device-usec": 5000000,
                                      "boot-usec": 10000000, "reset": 1}, [("package", package), ("journal", journal)])
    job.run(watch)
    took = time.monotonic() - start
    assert job.result == "done", job.words
    job.finish()
    modem.close()
    os.close(journal)
    os.close(package)
    return modem.trace, took, memory[0]


def imports(directory):
    for ending, limit in (("zip", 24), ("tar", 24), ("tar.xz", 192), ("7z", 192)):
        archive = os.path.join(directory, "package." + ending)
        subprocess.run([sys.executable, os.path.join(TOP, "tests/package/make-package.py"), "--version", VERSION, "--size",
                        SIZE, "--out", archive], check=True)
        memory = []
        driver.import_package(directory, archive, lambda job: memory.append(peak(job.process.pid) or 0))
        row("import worker, %s: peak memory" % ending, "%.1f MiB" % max(memory), "at most %d" % limit, max(memory) <= limit)
        os.unlink(archive)


def idle(directory):
    """The service alone on a private bus: memory and wake-ups."""
    bus = os.path.join(directory, "bus")
    conf = open(os.path.join(TOP, "tests/private-bus.conf.in")).read().replace("@SOCKET@", bus)
    open(bus + ".conf", "w").write(conf)
    env = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS="unix:path=" + bus)
    daemon = subprocess.Popen(["dbus-daemon", "--config-file=" + bus + ".conf", "--nofork", "--nopidfile"],
                              stderr=subprocess.DEVNULL)
    while not os.path.exists(bus):
        time.sleep(0.01)
    qdld = subprocess.Popen([os.path.join(BUILD, "qdld"), "--virtual=" + os.path.join(directory, "modems"), "--state=" +
                             os.path.join(directory, "state"), "--worker=" + os.path.join(BUILD, "qdld-worker")],
                            env=env, stderr=subprocess.DEVNULL)
    time.sleep(2)

    def switches():
        return sum(int(line.split()[1]) for line in open("/proc/%d/status" % qdld.pid) if "ctxt_switches" in line)

    before = switches()
    time.sleep(5)
    woke = switches() - before
    row("idle service: wake-ups in 5 s", str(woke), "0 (no watchdog here)", woke == 0)
    row("idle service: peak memory", "%.1f MiB" % peak(qdld.pid), "at most 12", peak(qdld.pid) <= 12)
    for process in (qdld, daemon):
        process.terminate()
        process.wait()


def main():
    with tempfile.TemporaryDirectory(prefix="qdld-bench-") as directory:
        package = os.path.join(directory, "package")
        make = [sys.executable, os.path.join(TOP, "tests/package/make-package.py"), "--version", VERSION, "--size", SIZE]
        subprocess.run(make + ["--out", package], check=True)
        subprocess.run(make + ["--out", package + ".tar"], check=True)
        store, firmware = driver.import_package(directory, package + ".tar")
        # In turns, and the best of each: what else runs on the machine only ever makes a round slower.
        bares, rates, times, waits = [], [], [], []
        for _ in range(ROUNDS):
            bares.append(bare_rate(directory, package))
            trace, took, memory = flash(directory, store, firmware)
            rates.append(program_rate(trace, 1 << 20))
            waits.append(host_gaps(trace)[:3])
            times.append(took)
        ratio, bare = max(rates) / max(bares), max(bares)
        row("flash: rate of its program commands / bare writer's", "%.2f" % ratio, "at least 0.80 (bare: %.0f MB/s)" % (bare / 1e6),
            ratio >= 0.8)
        print("%-58s %13.2fs   package of %s" % ("flash: whole job", min(times), SIZE))
        gaps = min(waits)
        row("flash: longest wait of the modem for us", "%.1f ms" % (gaps[0][0] / 1e3), "at most 5", gaps[0][0] <= 5000)
        for gap, stamp, what in gaps:
            print("    %8.1f ms before %s at %d" % (gap / 1e3, what, stamp))
        row("flash worker: peak memory", "%.1f MiB" % memory, "at most 24", memory <= 24)
        imports(directory)
        idle(directory)
    print("%d of %d limits met" % (sum(rows), len(rows)))


main()
