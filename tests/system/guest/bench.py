# SPDX-License-Identifier: LGPL-2.1-or-later
"""make bench-system: qdld and Debian's qdl on the same modems in the same VM. Ratios count; seconds are an emulation's.

All times but those of a whole command are read from the modem's trace: from what it did to what it received. ROUNDS of each, the median counts.
The package is "whole": 16 MiB of images onto 2048 blocks. qdl neither saves nor reads back, so a whole flash of ours is more work; the rate of
writing alone compares like with like. Debian's qdl takes the first modem it sees and cannot read: several modems are compared with one of its
flashes, and a backup with a bare reader that waits for each transfer, as qdl's later versions do, and drops what comes.
"""

import os
import re
import shutil
import statistics
import time
import traceback

import ring
from qdlpackage import package_for_qdl
from ring import FIRMWARE, SHARE, VERSION, Background, Modem, run

ROUNDS = 5
CATCH_MAX, BACKUP_MAX = 0.5, 0.8
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

    def __init__(self):
        programmer, xml = package_for_qdl("whole")
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

def latencies(text):
    return [between(text, "plug 05c6:9008", end) for end in ("poll", "out transfer", "sahara out HELLO_RESP", "state programmer")]


def appear(modem, udev):
    """What became of a new appearance until a programmer ran: latencies(), and behind them the part of HELLO_RESP that comes after udevd
    has told of the device, for which everybody waits."""
    modem.trace_path.unlink(missing_ok=True)
    modem.plug()
    modem.wait_trace("state programmer")
    text = modem.trace()
    plugged = next(when for when, what in events(text) if what.startswith("plug 05c6:9008"))
    pattern = r"UDEV +\[ *([0-9.]+)\] add +\S+/" + re.escape(modem.kernel) + r" \(usb\)"
    told = ring.wait(lambda: [t for t in map(float, re.findall(pattern, udev.text())) if t > plugged], "udevd's word of it")
    known = told[0] - plugged
    found = latencies(text)
    return [*found, known, found[2] - known]


def medians(rounds):
    return [statistics.median(column) for column in zip(*rounds)]


def catching():
    """A modem that falls into 9008 while somebody waits for it."""
    modem = Modem("sahara_zlp=ignore")
    ours, theirs = [], []
    udev = Background("root", "udevadm", "monitor", "--udev", "--subsystem-match=usb")
    ring.wait(modem.rows, "the modem in the list")
    for _ in range(ROUNDS):
        # Anew each time: a modem that goes again and again as soon as it is held is left to a human.
        run("qdlctl", "policy", modem.kernel, "hold")
        modem.unplug()
        ring.wait(lambda: len(workers()) == 1 and at_rest(workers()), "a worker that waits")
        ours.append(appear(modem, udev))
        ring.wait(lambda: any(m["Held"] for m in modem.rows()), "a modem that is held")
    run("qdlctl", "policy", modem.kernel, "off")
    run("systemctl", "stop", "qdld")
    modem.unplug()
    for _ in range(ROUNDS):
        qdl = Qdl()
        theirs.append(appear(modem, udev))
        qdl.kill()
        modem.unplug()
    udev.process.terminate()
    say(f"    by round, to the programmer: qdld {' '.join(f'{r[3]:.3f}' for r in ours)}, qdl {' '.join(f'{r[3]:.3f}' for r in theirs)}")
    names = ("enumeration to the first question", "enumeration to the first byte", "enumeration to HELLO_RESP", "enumeration to a programmer that runs",
             "enumeration to udevd's word of it", "udevd's word to HELLO_RESP")
    for name, one, other, limit in zip(names, medians(ours), medians(theirs), (None, None, CATCH_MAX, CATCH_MAX, None, None)):
        row(f"caught: {name}", one, other, "s", "less", limit)


def backup():
    """The same ranges: ours reads, hashes and stores them, and a second process reads the file; all of it counts but the latter."""
    ours, theirs = [], []
    programmer, = (FIRMWARE / "whole" / VERSION / "update" / "firehose").glob("prog_*")
    for _ in range(3):
        modem = Modem("initial=working", "force_edl=yes", blocks=2048)
        ring.wait(modem.rows, "the modem in the list")
        run("qdlctl", "backup", modem.kernel, "--kind=nand", "--partitions=modem", timeout=600)
        found = commands(modem.trace(), "read")
        large = [c for c in found if c[1] >= 0.25]
        ours.append((large[-1][2] - large[0][0], sum(c[1] for c in large)))
        run("systemctl", "stop", "qdld")
        modem.unplug()
        modem.trace_path.unlink()
        modem.plug()
        first, last = (re.search(r'start_sector="(\d+)"', c[3])[1] for c in (large[0], large[-1]))
        pages = int(last) + int(re.search(r'num_partition_sectors="(\d+)"', large[-1][3])[1]) - int(first)
        run(SHARE / "bin/bare-writer", modem.node(), programmer, first, pages, "read", timeout=600)
        (begun, size, end, _), = commands(modem.trace(), "read")
        theirs.append((end - begun, size))
        ring.tidy()
    say(f"    by round: qdld {', '.join('%.1f MiB in %.3f s' % r[::-1] for r in ours)}; bare {', '.join('%.1f MiB in %.3f s' % r[::-1] for r in theirs)}")
    row("backup of modem beside a bare reader: time for a MiB", *(statistics.median(t / size for t, size in r) for r in (ours, theirs)), "s/MiB", "less", BACKUP_MAX)


def one_of_qdl():
    """(trace, seconds, processor seconds) of a whole flash by qdl."""
    run("systemctl", "stop", "qdld")
    modem = Modem("sahara_zlp=ignore", blocks=2048, plug=False)
    qdl = Qdl()
    begun = time.monotonic()
    modem.plug()
    used = qdl.end()
    took = time.monotonic() - begun
    modem.expect_flashed("whole")
    text = modem.trace()
    ring.tidy()
    return text, took, used


def ours(count):
    """(traces, seconds, processor seconds) of count whole flashes at once."""
    modems = [Modem(blocks=2048) for _ in range(count)]
    for m in modems:
        ring.wait(m.rows, "the modem in the list")
    before, begun = cpu(), time.monotonic()
    for c in [Background("member", *m.flash_command("whole")) for m in modems]:
        c.end(timeout=1800)
    took, used = time.monotonic() - begun, cpu() - before
    for m in modems:
        m.expect_flashed("whole")
    texts = [m.trace() for m in modems]
    ring.tidy()
    return texts, took, used


def flashing():
    text, their_time, their_cpu = one_of_qdl()
    programs = commands(text, "program")
    size = sum(c[1] for c in programs)
    say(f"    {size:.1f} MiB are written to each modem")
    for count in (1, 4, 8):
        texts, took, used = ours(count)
        if count == 1:
            row("upload of the programmer", *(between(t, "state pbl transfer", "state pbl done") for t in (texts[0], text)), "s", "less")
            row("rate while programming", *(rate(c) for c in (commands(texts[0], "program"), programs)), "MiB/s", "more")
            row("whole flash; ours saves before and reads back after", took, their_time, "s", "less")
            moved = sum(c[1] for tag in ("program", "read") for c in commands(texts[0], tag))
            row(f"processor time a MiB over the wire (ours: {moved:.1f} MiB)", used / moved, their_cpu / size, "s/MiB", "less")
        each = f"{count} modem{'s' if count > 1 else ''}"
        row(f"whole flashes, {each} (qdl: one): MiB of images a second", count * size / took, size / their_time, "MiB/s", "more")
        row(f"processor time a MiB of images, {each}", used / (count * size), their_cpu / size, "s/MiB", "less")


def main(words):
    """How many limits were missed."""
    parts = [f for f in (catching, backup, flashing) if not words or f.__name__ in words]
    ring.install_for_member()
    run("qdlctl", "firmware", "import", FIRMWARE / "whole" / (VERSION + ".zip"), timeout=600)
    say(f"{'':<54} {'qdld':>9} {'qdl':>9} {'':<6} {'ratio':>6}")
    for part in parts:
        try:
            part()
        except AssertionError:
            MISSED.append(part.__name__)
            say(traceback.format_exc())
            (ring.OUT / part.__name__).mkdir()
            for path in (*ring.WORK.glob("*.trace"), *ring.WORK.glob("*.log")):
                shutil.copy(path, ring.OUT / part.__name__)
        ring.tidy()
    (ring.OUT / "bench").write_text("\n".join(ROWS) + "\n")
    say(f"{len(MISSED)} limits missed" + (": " + "; ".join(MISSED) if MISSED else ""))
    return len(MISSED)
