# SPDX-License-Identifier: LGPL-2.1-or-later
"""make bench-system: qdld and Debian's qdl on the same modems in the same VM. Ratios count; seconds are an emulation's.

All times but those of a whole command are read from the modem's trace: from what it did to what it received. The median of the rounds counts.
qdl neither saves nor reads back, so a whole flash of ours is more work; the rate of writing alone compares like with like. Debian's qdl takes
the first modem it sees and cannot read: several modems are compared with one of its flashes, and a backup with a reader in the manner of its later
versions.
"""

import os
import re
import shutil
import statistics
import time
import traceback

import ring
from qdlpackage import package_for_qdl
from ring import SHARE, Background, Modem, firmware, run
from worked import work as worked_with

ROUNDS = 5
CATCH_MAX, WINDOWS_MAX = 0.5, 1.5
WINDOW_SHARE = 0.85  # of a flash at once
PAGES_PER_BLOCK = 64
RECOVERY = 157 * PAGES_PER_BLOCK  # tests/package/layout.py
ROWS, MISSED = [], []


def say(line):
    print(line, flush=True)
    ROWS.append(line)


def row(what, ours, theirs, unit, better, limit=None):
    """better: "less" or "more"; limit: the largest ratio."""
    ratio = ours / theirs
    verdict = f"at most {limit:.2f}" if limit else f"{better} is better"
    if limit and ratio > limit:
        verdict += "   <-- MISSED"
        MISSED.append(what)
    say(f"{what:<54} {ours:9.3f} {theirs:9.3f} {unit:<6} {ratio:6.2f}   {verdict}")


# ---- what a trace tells ----

def events(text):
    for line in text.splitlines():
        stamp, _, rest = line.partition(" ")
        if stamp.isdigit():
            yield int(stamp) / 1e6, rest


def between(text, start, end):
    """Seconds from the last event that begins with `start` to the first one behind it that begins with `end`."""
    begun = took = None
    for when, what in events(text):
        if what.startswith(start):
            begun, took = when, None
        elif begun is not None and took is None and what.startswith(end):
            took = when - begun
    assert took is not None, f"no {start} … {end} in the trace: {text[-2000:]}"
    return took


def commands(text, tag):
    """(when, MiB, when its last response came, attributes) of each such command."""
    found, open_one = [], None
    for when, what in events(text):
        match = re.match(r"command \d+ (\w+) ?(.*)", what)
        if match:
            sizes = [re.search(name + r'="(\d+)"', match[2]) for name in ("num_partition_sectors", "SECTOR_SIZE_IN_BYTES")]
            open_one = (when, int(sizes[0][1]) * int(sizes[1][1]) / (1 << 20), match[2]) if match[1] == tag and all(sizes) else None
        elif open_one and what.startswith("response ACK rawmode=false"):
            found.append((open_one[0], open_one[1], when, open_one[2]))
            open_one = None
    return found


def rate(found):
    """MiB a second while such commands ran."""
    return sum(c[1] for c in found) / sum(c[2] - c[0] for c in found)


# ---- the programs ----

class Qdl:
    """Debian's qdl, which waits for a modem."""

    def __init__(self, package="whole"):
        programmer, xml = package_for_qdl(package)
        self.said = ring.WORK / "qdl.log"
        with open(self.said, "wb") as f:
            self.pid = os.posix_spawnp("qdl", ["qdl", "--debug", "--storage", "nand", "--include", str(programmer.parent), str(programmer), str(xml)],
                                       os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, f.fileno(), 1), (os.POSIX_SPAWN_DUP2, f.fileno(), 2)])
        ring.wait(lambda: b"Waiting for EDL" in self.said.read_bytes() or at_rest([self.pid]), "qdl that waits")

    def end(self):
        """Its processor seconds."""
        _, status, usage = os.wait4(self.pid, 0)
        assert status == 0, self.said.read_text(errors="replace")[-1000:]
        return usage.ru_utime + usage.ru_stime

    def kill(self):
        os.kill(self.pid, 9)
        os.wait4(self.pid, 0)


def ticks(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def at_rest(pids):
    """They have done nothing for a second."""
    before = [ticks(p) for p in pids]
    time.sleep(1)
    return before == [ticks(p) for p in pids]


def workers():
    return [int(p) for p in run("pgrep", "-P", ring.show("MainPID"), "qdld-worker", code=None).out.split()]


def cpu():
    """Seconds of processor that the service and its workers have used."""
    return int(ring.show("CPUUsageNSec")) / 1e9


# ---- what is compared ----

# Between what appear() tells. Until udevd has told of it everybody waits: the kernel gives the node to root alone. From there on it is ours.
PLUG, NODE, WORD, ANSWER, PROGRAMMER = range(5)
INTERVALS = (
    ("caught: plug to its node, which is the kernel's", PLUG, NODE, None),
    ("caught: its node to udevd's word of it", NODE, WORD, None),
    ("caught: udevd's word to HELLO_RESP, which is ours", WORD, ANSWER, None),
    ("caught: HELLO_RESP to a programmer that runs", ANSWER, PROGRAMMER, None),
    ("caught: its node to HELLO_RESP", NODE, ANSWER, CATCH_MAX),
    ("caught: its node to a programmer that runs", NODE, PROGRAMMER, CATCH_MAX),
)


def made(node):
    """When the kernel made it, just before its uevent, on the clock of traces."""
    ahead = time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    return float(run("stat", "--format=%.W", node).out) - ahead


def appear(modem, udev):
    """A new appearance until a programmer runs: when it was plugged in, its node was made, udevd told of it, HELLO_RESP came, one ran."""
    modem.trace_path.unlink(missing_ok=True)
    modem.plug()
    modem.wait_trace("state programmer")
    text = modem.trace()

    def first(what):
        return next(when for when, event in events(text) if event.startswith(what))
    plugged = first("plug 05c6:9008")
    pattern = r"UDEV +\[ *([0-9.]+)\] add +\S+/" + re.escape(modem.kernel) + r" \(usb\)"
    told = ring.wait(lambda: [t for t in map(float, re.findall(pattern, udev.text())) if t > plugged], "udevd's word of it")
    return plugged, made(modem.node()), told[0], first("sahara out HELLO_RESP"), first("state programmer")


def catching():
    """A modem that falls into 9008 while somebody waits for it; in turns, for the machine is not the same all the time."""
    modem = Modem("sahara_zlp=ignore")
    ours, theirs = [], []
    udev = Background("root", "udevadm", "monitor", "--udev", "--subsystem-match=usb")
    ring.wait(modem.rows, "the modem in the list")
    for _ in range(ROUNDS):
        # Anew each time: a modem that goes again and again as soon as it is held is left to a human.
        run("systemctl", "start", "qdld")
        run("qdlctl", "policy", modem.connector, "hold")
        modem.unplug()
        ring.wait(lambda: len(workers()) == 1 and at_rest(workers()), "a worker that waits")
        ours.append(appear(modem, udev))
        ring.wait(lambda: any(m["Held"] for m in modem.rows()), "a modem that is held")
        run("qdlctl", "policy", modem.connector, "off")
        run("systemctl", "stop", "qdld")
        modem.unplug()
        qdl = Qdl()
        theirs.append(appear(modem, udev))
        qdl.kill()
        modem.unplug()
    udev.process.terminate()
    for name, rounds in (("qdld", ours), ("qdl", theirs)):
        say(f"    {name}, seconds from the plug, by round: " + "; ".join(" ".join(f"{t - r[0]:.3f}" for t in r[1:]) for r in rounds))
    for name, begin, end, limit in INTERVALS:
        one, other = (statistics.median(r[end] - r[begin] for r in rounds) for rounds in (ours, theirs))
        row(name, one, other, "s", "less", limit)


def backup():
    """The same ranges: ours reads, hashes and stores them, and a second process reads the file; all of it counts but the latter. The other
    one reads as qdl's later versions do (tests/bench/bare-writer.c), one transfer at a time, and writes each to a file before it asks for the
    next. The modem sends a ZLP behind each payload, as one does to a host that says it is aware of them. Only shown: in an
    emulation the modem and its bus set the pace, whoever reads. tests/bench/bench.py has the limit."""
    ours, theirs = [], []
    programmer, = (firmware("whole", "") / "update" / "firehose").glob("prog_*")
    run("systemctl", "stop", "qdld")
    modem = Modem("initial=working", "force_edl=yes", "in_zlp=each", blocks=2048)

    def bare(*arguments):
        modem.unplug()
        modem.trace_path.unlink()
        modem.plug()
        run(SHARE / "bin/bare-writer", modem.node(), programmer, *arguments, timeout=600)

    # Half of a partition that is fresh from the factory and holds only the beginning of something.
    bare(f"{RECOVERY + 3 * PAGES_PER_BLOCK}+1920")
    for _ in range(3):
        modem.unplug()
        modem.trace_path.unlink()
        run("systemctl", "start", "qdld")
        modem.plug()
        ring.wait(modem.rows, "the modem in the list")
        run("qdlctl", "backup", modem.kernel, "--kind=nand", "--partitions=recovery", timeout=600)
        large = [c for c in commands(modem.trace(), "read") if c[1] >= 0.25]
        ours.append((large[-1][2] - large[0][0], total(large)))
        run("systemctl", "stop", "qdld")
        first, last = (int(re.search(r'start_sector="(\d+)"', c[3])[1]) for c in (large[0], large[-1]))
        pages = last + int(re.search(r'num_partition_sectors="(\d+)"', large[-1][3])[1]) - first
        bare(f"{first}+{pages}", "read-as-qdl", "/var/tmp/bare")
        (begun, size, end, _), = commands(modem.trace(), "read")
        theirs.append((end - begun, size))
    for name, rounds in (("qdld", ours), ("as qdl", theirs)):
        say(f"    {name} by round: " + ", ".join(f"{size:.1f} MiB in {took:.2f} s" for took, size in rounds))
    own, other = (statistics.median(took / size for took, size in rounds) for rounds in (ours, theirs))
    row("backup of a MiB beside a reader in qdl's manner", own, other, "s", "less")


# Its chip's blocks. The small one is for several modems at once: what they do to each other, in a time that an emulation has.
BLOCKS = {"whole": 2048, "tiny": 16}


def one_of_qdl(package):
    """(trace, seconds, processor seconds) of a whole flash by qdl."""
    run("systemctl", "stop", "qdld")
    modem = Modem("sahara_zlp=ignore", blocks=BLOCKS[package], plug=False)
    qdl = Qdl(package)
    begun = time.monotonic()
    modem.plug()
    used = qdl.end()
    took = time.monotonic() - begun
    modem.expect_flashed(package)
    text = modem.trace()
    ring.tidy()
    return text, took, used


def ours(count, package):
    """(traces, seconds, processor seconds) of count whole flashes at once."""
    modems = [Modem(blocks=BLOCKS[package]) for _ in range(count)]
    for m in modems:
        ring.wait(m.rows, "the modem in the list")
    before, begun = cpu(), time.monotonic()
    for c in [Background("member", *m.flash_command(package)) for m in modems]:
        c.end(timeout=600)
    took, used = time.monotonic() - begun, cpu() - before
    for m in modems:
        m.expect_flashed(package)
    texts = [m.trace() for m in modems]
    ring.tidy()
    return texts, took, used


def total(found):
    return sum(c[1] for c in found)


def flashing():
    """One modem with a package of 16 MiB."""
    text, their_time, their_cpu = one_of_qdl("whole")
    (own,), took, used = ours(1, "whole")
    programs = commands(text, "program")
    size, moved = total(programs), total(commands(own, "program")) + total(commands(own, "read"))
    say(f"    of {size:.1f} MiB; ours saves before and reads back after: {moved:.1f} MiB over the wire")
    row("upload of the programmer", *(between(t, "state pbl transfer", "state pbl done") for t in (own, text)), "s", "less")
    row("rate while programming", *(rate(commands(t, "program")) for t in (own, text)), "MiB/s", "more")
    row("whole flash", took, their_time, "s", "less")
    row("    of a MiB over the wire", took / moved, their_time / size, "s/MiB", "less")
    row("processor time of a MiB over the wire", used / moved, their_cpu / size, "s/MiB", "less")
    row("    of a MiB of images", used / size, their_cpu / size, "s/MiB", "less")


def together():
    """1, 4 and 8 modems with a small package beside one of qdl's, which knows no second one."""
    text, their_time, their_cpu = one_of_qdl("tiny")
    say(f"    of {total(commands(text, 'program')) * 1024:.0f} KiB each: what a flash costs beside its data")
    for count in (1, 4, 8):
        _, took, used = ours(count, "tiny")
        each = f"{count} modem{'s' if count > 1 else ''}"
        row(f"whole flashes of {each}", count * 60 / took, 60 / their_time, "1/min", "more")
        row("    processor time of a flash", used / count, their_cpu, "s", "less")


def windows():
    """One modem flashed at once, and one that goes a little too soon for that whatever runs there: how much longer it is worked with."""
    work, settings, window = [], [], 0
    for _ in range(2):
        modem = Modem(*settings, plug=False)
        modem.plug()
        ring.wait(modem.rows, "the modem in the list")
        run(*modem.flash_command(), timeout=600)
        modem.expect_flashed()
        work.append([(worked, there) for worked, there in worked_with(modem.trace().splitlines()) if worked])
        window = int(WINDOW_SHARE * 1000 * work[0][0][1])
        settings = ["loop=hard", f"window_ms={window}", "gap_ms=1000"]
        ring.tidy()
    say("    work of time there, by window: " + "; ".join(" ".join(f"{w:.2f}/{t:.2f}" for w, t in of) for of in work))
    (at_once,), in_windows = work
    worked, there = map(sum, zip(*in_windows))
    row(f"flash in {len(in_windows)} windows of {window / 1000:.1f} s beside one at once: work", worked, at_once[0], "s", "less", WINDOWS_MAX)
    row("    work in a second of such windows beside the flash at once", worked / there, at_once[0] / at_once[1], "", "more")


def main(words):
    """How many limits were missed."""
    parts = [f for f in (catching, backup, windows, together, flashing) if not words or f.__name__ in words]
    ring.install_for_member()
    run("qdlctl", "firmware", "import", firmware("whole"), timeout=600)
    say(f"{'':<54} {'qdld':>9} {'qdl':>9} {'':<6} {'ratio':>6}")
    for part in parts:
        try:
            part()
        except Exception:
            MISSED.append(part.__name__)
            say(traceback.format_exc())
            (ring.OUT / part.__name__).mkdir()
            for path in (*ring.WORK.glob("*.trace"), *ring.WORK.glob("*.log")):
                shutil.copy(path, ring.OUT / part.__name__)
        ring.tidy()
    (ring.OUT / "bench").write_text("\n".join(ROWS) + "\n")
    say(f"{len(MISSED)} limits missed" + (": " + "; ".join(MISSED) if MISSED else ""))
    return len(MISSED)
