# SPDX-License-Identifier: LGPL-2.1-or-later
"""Peers, measured so that a machine which is now fast and now slow says the same of all of them.

A virtual machine's host takes back memory that nobody used for a while and finds it again slowly, and to wake a process on another
processor takes it many times what a payload takes: the same copy of bytes runs at a third of its rate now and then. So a flash is
renewed in its memory (Chip), memory that nobody has is made warm before each turn (warm), a modem shares one processor with whoever
speaks to it (share): what is compared is the work that a byte takes both of them, and none of it is hidden beside the other's. The
same bytes at another place of the same flash can take half as long again, so peers write to the same places. Each peer has its turn
beside the other ones', the figure of a round is a quotient, and what is told is the middle of all rounds: one that something disturbed
counts as one, however far off it is. Nothing is left out.
"""
import mmap
import os
import random
import statistics
import struct
import subprocess
import time


def share(*processes):
    for process in processes:
        os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})


WARM = 512 << 20  # bytes: more than a turn takes


def warm(*files):
    """Memory that is free, and what is cached of these files, is where a process finds it soon, whoever had his turn before."""
    with mmap.mmap(-1, WARM) as m:
        for at in range(0, WARM, mmap.PAGESIZE):
            m[at] = 1
    for path in files:
        with open(path, "rb", buffering=0) as f:
            while f.read(1 << 20):
                pass


class Turns:
    """Everyone finds memory equally cold: half a second in which nobody touches it costs a fifth of a rate. So who does little before
    his first command waits as long as we need for ours."""

    OURS = "ours"

    def __init__(self, begun, *files):
        """begun: of a trace, the microsecond of the first command that counts. files: found in memory by all."""
        self.begun, self.files, self.lead = begun, files, {self.OURS: 0}

    def take(self, who, run, at_once=False):
        """run() gives a trace, and so does this."""
        warm(*self.files)
        time.sleep(0 if at_once else max(self.lead[self.OURS] - self.lead.get(who, 0), 0))
        start = time.monotonic()
        trace = run()
        self.lead[who] = self.begun(trace) / 1e6 - start
        return trace


class First:
    """While it lasts, all that is started comes before what else runs, where that is allowed."""

    NICE = -15

    def __enter__(self):
        self.before = os.getpriority(os.PRIO_PROCESS, 0)
        try:
            os.setpriority(os.PRIO_PROCESS, 0, self.NICE)
        except PermissionError:
            pass

    def __exit__(self, *_):
        os.setpriority(os.PRIO_PROCESS, 0, self.before)


class Chip:
    """The flash of a modem, made new again and again in the same memory."""

    DATA_OFFSET_AT = 40  # in struct flash_header (tests/modem/nand.c)

    def __init__(self, program, path, *settings, blocks=2048):
        self.path = path
        subprocess.run([program, "--flash", path, "--blocks", str(blocks), "--make-flash",
                        *(x for s in settings for x in ("--set", s))], check=True, stderr=subprocess.DEVNULL)
        self.fresh = list(self.written())

    def written(self):
        """(offset, bytes) of what makes it a new one: the state of all pages, and what lies in those that are written."""
        with open(self.path, "rb") as f:
            end, = struct.unpack("=Q", os.pread(f.fileno(), 8, self.DATA_OFFSET_AT))
            yield 0, os.pread(f.fileno(), end, 0)
            while True:
                try:
                    begin = os.lseek(f.fileno(), end, os.SEEK_DATA)
                except OSError:
                    return
                end = os.lseek(f.fileno(), begin, os.SEEK_HOLE)
                yield begin, os.pread(f.fileno(), end - begin, begin)

    def renew(self):
        """What lies in pages that count as erased nobody reads."""
        with open(self.path, "r+b", buffering=0) as f:
            for at, data in self.fresh:
                os.pwrite(f.fileno(), data, at)


class Rounds:
    """Figures of some peers by round; a peer is a function without arguments that gives one. Whose turn comes after whose is mixed. The
    first round does not count: in it everything is found that is found only once."""

    ORDER = 1  # seed

    def __init__(self, count, *peers):
        self.of = [[] for _ in peers]
        mixed = random.Random(self.ORDER)
        with First():
            for _ in range(1 + count):
                for which in mixed.sample(range(len(peers)), len(peers)):
                    self.of[which].append(peers[which]())
        for figures in self.of:
            del figures[0]

    def ratio(self, ours=0, other=1):
        """The middle of the quotients, and within what half of them lie."""
        quotients = [a / b for a, b in zip(self.of[ours], self.of[other])]
        low, _, high = statistics.quantiles(quotients, n=4)
        return statistics.median(quotients), "half of the rounds from %.2f to %.2f" % (low, high)
