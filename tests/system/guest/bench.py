# SPDX-License-Identifier: LGPL-2.1-or-later
"""make bench-system: qdld and Debian's qdl on the same modems in the same VM. Ratios count; seconds are an emulation's.

All times but those of a whole command are read from the modem's trace: from what it did to what it received. The package is "whole": 16 MiB of
images onto 2048 blocks. qdl neither saves nor reads back, so a whole flash of ours is more work; the rate of writing alone compares like with like.
"""

import os
import re
import time

import ring
from qdlpackage import package_for_qdl
from ring import Background, Modem, run

ROWS = []


def row(what, ours, theirs, unit, more_is_better):
    ratio = ours / theirs if theirs else float("nan")
    line = f"{what:<58} qdld {ours:8.2f}   qdl {theirs:8.2f} {unit:<8} ratio {ratio:5.2f} ({'more' if more_is_better else 'less'} is better)"
    print(line, flush=True)
    ROWS.append(line)


def events(modem):
    for line in modem.trace().splitlines():
        stamp, _, rest = line.partition(" ")
        if stamp.isdigit():
            yield int(stamp) / 1e6, rest


def first(modem, start, end, number=1):
    """Seconds from the number-th event that begins with `start` to the next that begins with `end`."""
    begun, seen = None, 0
    for when, what in events(modem):
        if begun is None and what.startswith(start):
            seen += 1
            begun = when if seen == number else None
        elif begun is not None and what.startswith(end):
            return when - begun
    raise AssertionError(f"{modem.name}: no {start} … {end} in its trace")


def written(modem):
    """(MiB, seconds) over all program commands, from the command to its last response."""
    size = took = 0.0
    begun = None
    for when, what in events(modem):
        if re.match(r"command \d+ program ", what):
            sectors, each = (int(re.search(name + r'="(\d+)"', what).group(1)) for name in ("num_partition_sectors", "SECTOR_SIZE_IN_BYTES"))
            begun, size = when, size + sectors * each
        elif begun is not None and what.startswith("response ACK rawmode=false"):
            took, begun = took + when - begun, None
    return size / (1 << 20), took


def cpu():
    """Seconds of processor that the service and its workers have used."""
    return int(ring.show("CPUUsageNSec")) / 1e9


def with_qdl():
    modem = Modem("sahara_zlp=ignore", blocks=2048, plug=False)
    programmer, xml = package_for_qdl("whole")
    begun = time.monotonic()
    said = ring.WORK / "qdl.log"
    with open(said, "wb") as f:
        pid = os.posix_spawnp("qdl", ["qdl", "--storage", "nand", "--include", str(programmer.parent), str(programmer), str(xml)], os.environ,
                              file_actions=[(os.POSIX_SPAWN_DUP2, f.fileno(), 1), (os.POSIX_SPAWN_DUP2, f.fileno(), 2)])
    modem.plug()
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, said.read_text(errors="replace")[-1000:]
    took = time.monotonic() - begun
    modem.expect_flashed("whole")
    return modem, took, usage.ru_utime + usage.ru_stime


def with_qdld(count):
    """count modems at once; (modems, seconds, processor seconds)"""
    modems = [Modem(blocks=2048) for _ in range(count)]
    for m in modems:
        ring.wait(m.rows, "the modem in the list")
    before, begun = cpu(), time.monotonic()
    commands = [Background("member", *m.flash_command("whole")) for m in modems]
    for c in commands:
        c.end(timeout=1800)
    took, used = time.monotonic() - begun, cpu() - before
    for m in modems:
        m.expect_flashed("whole")
    return modems, took, used


def to_first_byte():
    """From the enumeration of a modem that a job waits for to its first byte."""
    modem = Modem("fault=unplug@command:1", "replug_ms=1000")
    ring.wait(modem.rows, "the modem in the list")
    run(*modem.flash_command(), timeout=600)
    return first(modem, "plug 05c6:9008", "out transfer", number=2)


def main():
    ring.install()
    run("usermod", "-a", "-G", "qdl", "member")
    run("qdlctl", "firmware", "import", ring.FIRMWARE / "whole" / (ring.VERSION + ".zip"), timeout=600)
    run("systemctl", "stop", "qdld")
    theirs, their_time, their_cpu = with_qdl()
    size, their_writing = written(theirs)
    their_first, their_loader = first(theirs, "plug 05c6:9008", "out transfer"), first(theirs, "state pbl transfer", "state pbl done")
    ring.tidy()

    row("enumeration to the first byte, a job waits for it (s)", to_first_byte(), their_first, "s", False)
    ring.tidy()
    for count in (1, 4, 8):
        modems, took, used = with_qdld(count)
        if count == 1:
            ours_size, our_writing = written(modems[0])
            row("upload of the programmer (s)", first(modems[0], "state pbl transfer", "state pbl done"), their_loader, "s", False)
            row("rate of writing", ours_size / our_writing, size / their_writing, "MiB/s", True)
            row("whole flash; ours saves before and reads back after (s)", took, their_time, "s", False)
        row(f"aggregate rate of whole flashes, {count} modem{'s' if count > 1 else ''} (qdl: one)", count * size / took, size / their_time, "MiB/s", True)
        row(f"processor seconds a MiB, {count} modem{'s' if count > 1 else ''}", used / (count * size), their_cpu / size, "s/MiB", False)
        ring.tidy()
    (ring.OUT / "bench").write_text("\n".join(ROWS) + "\n")
