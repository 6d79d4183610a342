#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every fault at every point of one flash (make check-faults).

A clean run tells which commands and transfers there are. Then the flash is repeated with one fault each: the modem
unplugged, hung, saying NAK or garbage; the worker killed, told to cancel, told to stop. Every run must end in a defined
state, and a second call must finish the job with the flash byte for byte as expected. What the second call does to the modem
first is what the first one's hint says: nothing (retry), or a power cycle.

  faults.py                              all of them
  faults.py --only unplug@command:7      one run, again, with the worker's log and the modem's trace kept
  faults.py --class kill                 one class
"""
import argparse
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
os.environ["BUILD"] = os.path.abspath(os.environ.get("BUILD", os.path.join(TOP, "build")))
sys.dont_write_bytecode = True
sys.path[:0] = [HERE, os.path.join(TOP, "tests", "modem")]
import driver  # noqa: E402
import flash as nand  # noqa: E402

VERSION = "RM502QGLAAR11A02M4G"
FOR_EVER = -1
BLOCKS = 24  # a small chip has few blocks to look at: fewer commands, so that all of them can be tried
DESTRUCTIVE = ("erase", "program")
# Modems that say nothing: these runs sleep most of their time, through the real deadlines of the protocols.
SLOW_AT_ONCE = 40
FAST_AT_ONCE = 3 * (os.cpu_count() or 2)  # they wait for each other a lot
driver.LIMIT = 280
AWAY_USEC, BACK_USEC, BOOT_USEC = 400000, 5000000, 5000000


class Wrong(Exception):
    """An expectation that was not met."""


def expect(condition, text, *values):
    if not condition:
        raise Wrong(text % values if values else text)


# ---- what is said: traces ----

class Trace:
    """The events of a modem's trace from some line on."""

    def __init__(self, path, skip=0):
        with open(path, errors="replace") as f:
            self.lines = [line.rstrip("\n").partition(" ")[2] for line in f][skip:]

    def commands(self):
        """(number, tag, first block) of each command."""
        for line in self.lines:
            found = re.match(r"command (\d+) (\w+)", line)
            if found:
                start = re.search(r'start_sector="(\d+)"', line)
                yield int(found[1]), found[2], int(start[1]) // 64 if start else None

    def finished_programs(self):
        return [int(m[1]) // 64 for m in (re.match(r"nand program first=(\d+)", line) for line in self.lines) if m]

    def transfers(self, direction):
        """(number, length, what) of each; what: sahara, raw, document, log, response."""
        for i, line in enumerate(self.lines):
            found = re.match(direction + r" transfer=(\d+) length=(\d+)", line)
            if not found:
                continue
            near = self.lines[i + 1:i + 2] if direction == "out" else self.lines[i - 1:i]
            word = near[0].split(" ")[0] if near else ""
            raw = near and near[0].startswith("sahara out raw")
            what = {"command": "document", "sahara": "raw" if raw else "sahara", "log": "log", "response": "response"}
            yield int(found[1]), int(found[2]), what.get(word, "raw")


# ---- what lies there: the flash ----

def has_sbl(flash):
    """Would the boot ROM start what lies in sector 0?"""
    sbl = nand.default_layout(flash.blocks)[0]
    blocks = flash.good_blocks(sbl)
    page = flash.page(blocks[0] * flash.pages_per_block)
    if page is None or page[:4] != b"\xd1\xdc\x4b\x84":
        return False
    return not any(flash.is_incomplete(b) or nand.UNREADABLE in flash.states(b) for b in blocks)


class Ground:
    """What all runs share: package, store entry, the flash as it was."""

    def __init__(self, directory):
        self.directory = directory
        self.package = os.path.join(directory, "package")
        make = [sys.executable, os.path.join(TOP, "tests", "package", "make-package.py"), "--small", "--tiny-chip", "--version",
                VERSION + "_01.001.01.001"]
        subprocess.run(make + ["--out", self.package], check=True)
        subprocess.run(make + ["--out", self.package + ".tar"], check=True)
        self.store, self.firmware = driver.import_package(directory, self.package + ".tar")
        self.snapshots = {}
        for initial in ("working", "brick"):
            path = os.path.join(directory, "flash-" + initial)
            subprocess.run([os.path.join(os.environ["BUILD"], "virtual-modem"), "--flash", path, "--new", "--make-flash", "--blocks", str(BLOCKS),
                            "--set", "initial=" + initial, "--set", "version=" + VERSION], check=True)
            with nand.Flash(path) as flash:
                self.snapshots[initial] = nand.Snapshot.of(flash)


# ---- one run ----

class Run:
    def __init__(self, ground, spec, directory, initial="working", settings=()):
        self.ground, self.spec, self.directory = ground, spec, directory
        self.kind, _, self.point = spec.partition("@")
        self.initial, self.settings = initial, list(settings)
        self.before = ground.snapshots[initial]
        self.flash = os.path.join(directory, "flash")
        self.journal = os.open(os.path.join(directory, "journal"), os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self.package = os.open(ground.store, os.O_RDONLY)
        self.traces = 0
        self.modem = self.job = None

    def close(self):
        for fd in (self.journal, self.package):
            os.close(fd)
        if self.job and self.job.process.poll() is None:
            self.job.process.kill()
            self.job.process.wait()
        if self.modem and self.modem.process.poll() is None:
            self.modem.close()

    def start_modem(self, settings, new=False):
        self.traces += 1
        self.modem = driver.Modem(self.directory, self.flash, ["version=" + VERSION, "initial=" + self.initial] + settings,
                                  new=new, blocks=BLOCKS, trace=os.path.join(self.directory, "trace-%d" % self.traces))
        self.modem.accept()

    def power_cycle(self):
        self.modem.close()
        with nand.Flash(self.flash) as flash:
            bridged = has_sbl(flash)
        self.start_modem(["start=" + ("sahara" if bridged else "boot")] + self.settings)

    def flash_once(self, wait=BACK_USEC, boot=BOOT_USEC, on_stop=None):
        options = {"modem-version": VERSION, "firmware": self.ground.firmware, "wait-device-usec": wait,
                   "boot-usec": boot, "reset": 1}
        self.job = driver.Job(self.modem, "flash", options, [("package", self.package), ("journal", self.journal)])
        return self.job.run(on_stop=on_stop)

    # ---- expectations ----
    def check_end(self, job):
        """(1) and (2): a defined end, and words that help."""
        if job.killed:
            expect(job.process.returncode == -9, "the killed worker exited with %s", job.process.returncode)
            return
        expect(job.result is not None, "no RESULT; exit %s, log %s", job.process.returncode, job.log[-4:])
        expect(job.holding or job.process.returncode == 0, "RESULT=%s but exit %s", job.result, job.process.returncode)
        if job.result == "done":
            return
        v = job.values
        expect(v.get("ERROR"), "%s names no error", job.result)
        expect(10 < len(v.get("MESSAGE", "")) < 300, "the message is no clear line: %r", v.get("MESSAGE"))
        over = "complete and verified" in v.get("MESSAGE", "")
        expect("DESTRUCTIVE" not in v or v.get("HINT") or over, "no hint after the first erase: %s", job.words)

    def check_flash(self, job):
        """(3) and (4): unit data untouched; unchanged, or in 9008, or complete."""
        with nand.Flash(self.flash) as flash:
            partitions = self.before.partitions()
            for p in partitions:
                for b in range(p.first, p.first + p.blocks) if p.name in nand.UNIT_DATA else ():
                    difference = nand.unchanged_block(flash, self.before, b, partitions)
                    expect(not difference, "unit data: %s", difference)
            destructive = "DESTRUCTIVE" in job.values
            if destructive and job.result != "done" and not has_sbl(flash):
                return
            unchanged = job.result != "done" and nand.compare_unchanged(flash, self.before)
            if destructive and not unchanged:
                complete = nand.compare_package(flash, self.before, self.ground.package)
                expect(complete, "%s; it would boot, but %s", job.words, complete.message)
            else:
                expect(unchanged, "not destructive, but %s", unchanged and unchanged.message)

    def check_trace(self, trace):
        """(3): nothing that no host may do, and nothing outside of what the package covers."""
        wrong = [line for line in trace.lines if line.startswith("VIOLATION")]
        if self.kind == "kill":
            # Whoever comes after a worker that died while it sent an image cannot know that: its first question lands in
            # the image. That piece is written anew.
            wrong = [line for line in wrong if not re.match("VIOLATION (short transfer of 63 bytes|no ZLP)", line)]
        expect(not wrong, "%s", wrong[:1])
        for number, tag, block in trace.commands():
            expect(tag not in DESTRUCTIVE or block in self.covered(), "command %d: %s of block %s", number, tag, block)

    def covered(self):
        return {b for p in self.before.partitions() if p.name in ("SBL", "TZ", "sec")
                for b in range(p.first, p.first + p.blocks)}

    def check_redone(self, first, second):
        """(5): at most the interrupted piece is written again, and SBL, which goes first and last."""
        begun = [block for _, tag, block in first.commands() if tag == "program"]
        finished = set(first.finished_programs())
        again = [block for _, tag, block in second.commands() if tag == "program"]
        needless = [b for b in again if b in finished and b != begun[-1] and b != 0]
        expect(not needless, "written again although it was finished: blocks %s", needless)
        expect(len(again) == len(set(again)), "written twice in the second call: %s", again)

    # ---- kinds ----
    def first_call(self):
        """The call that the fault happens to."""
        unplug = self.kind == "unplug"
        on_stop = None
        fault = self.kind
        if self.kind in ("kill", "cancel", "stop"):
            fault = "stop"

            def on_stop(job):
                if self.kind == "kill":
                    job.kill()
                    job.process.wait()
                    self.check_flash(job)
                else:
                    job.send([self.kind.upper() + "=1"])
                self.modem.go_on()
        self.start_modem(["start=sahara", "replug_ms=%d" % FOR_EVER, "fault=%s@%s" % (fault, self.point)] + self.settings,
                         new=True)
        return self.flash_once(AWAY_USEC if unplug else BACK_USEC, BOOT_USEC // 10 if unplug else BOOT_USEC, on_stop)

    def second_call(self, first):
        hint = first.values.get("HINT", "")
        first.finish()
        # A modem that was told to reset is on its way to normal mode.
        booting = any(tag == "power" for _, tag, _ in Trace(self.modem.trace).commands())
        dead = self.kind in ("unplug", "hang") or booting
        skip = 0
        if hint in ("power-cycle", "replug") or dead or self.modem.normal:
            # A modem that dies at the end of the upload looks like one that refuses its programmer (reference/edl.md 1.3).
            expect(self.kind != "hang" or hint in ("power-cycle", "replug", "wrong-firmware", ""), "a hung modem and the hint %s", hint)
            self.power_cycle()
        else:
            skip = len(Trace(self.modem.trace).lines)
        job = self.flash_once()
        expect(job.result == "done", "the second call after %s (%s): %s", first.words, hint or "no hint", job.words)
        return Trace(self.modem.trace, skip)

    def ordinary(self):
        first = self.first_call()
        self.check_end(first)
        trace = Trace(self.modem.trace)
        self.check_trace(trace)
        expect(any(line.startswith("fault ") for line in trace.lines), "the fault did not happen: %s", first.words)
        self.check_flash(first)
        outcome = first.words if not first.killed else "killed"
        if first.result != "done":
            second = self.second_call(first)
            self.check_trace(second)
            self.check_redone(trace, second)
            self.check_flash(self.job)
        self.job.finish()
        return outcome


def one(arguments):
    ground, spec, keep = arguments
    directory = tempfile.mkdtemp(prefix="run-", dir=ground.directory)
    run = Run(ground, spec, directory)
    started = time.monotonic()
    problem = outcome = None
    try:
        outcome = run.ordinary()
    except Wrong as e:
        problem = str(e)
    except Exception:  # a broken test is a failed one
        problem = traceback.format_exc()
    log = (run.job.phases, run.job.log) if run.job else None
    if problem and log:
        said = [line for line in log[1] if not line.startswith("modem: INFO")]
        problem += "\n    the worker's last words: " + " | ".join(said[-6:])
    run.close()
    if keep:
        print("\n".join(log[1]), "\nphases:", log[0], "\nkept:", directory)
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return spec, problem, outcome, time.monotonic() - started


# ---- enumeration ----

def enumerate_points(trace):
    """class -> points"""
    commands = list(trace.commands())
    every = ["command:%d" % n for n, _, _ in commands]
    done = ["done:%d" % n for n, _, _ in commands]
    out = list(trace.transfers("out"))
    inward = list(trace.transfers("in"))
    # Of a document half arrives; nothing of it is the transfer before, all of it is the command. Of raw data more places.
    broken = ["out:%d+%d" % (n, k) for n, length, what in out
              for k in (sorted({0, 1, length // 2, length - 1}) if what == "raw" else [length // 2])]
    sahara = ["out:%d" % n for n, _, what in out if what in ("sahara", "raw")]
    # Logs are told apart by their command, everything else is broken off in its middle.
    answers = ["in:%d+%d" % (n, length // 2) for n, length, what in inward if what != "log"]
    whole = ["in:%d" % n for n, _, what in inward if what != "log"]
    changes = ["done:%d" % n for n, tag, _ in commands if tag in DESTRUCTIVE]
    return {
        "unplug": every + done + broken + answers,
        "hang": every + changes + sahara,
        "nak": every + done + sahara,
        "garbage": every + done + sahara,
        "kill": every + done + sahara + whole[:40],
        "cancel": every + sahara,
        "stop": every + sahara,
    }


def clean_run(ground):
    directory = tempfile.mkdtemp(prefix="clean-", dir=ground.directory)
    run = Run(ground, "none", directory)
    run.start_modem(["start=sahara"], new=True)
    job = run.flash_once()
    run.check_end(job)
    expect(job.result == "done", "the clean run: %s", job.words)
    run.check_flash(job)
    job.finish()
    run.modem.close()
    trace = Trace(run.modem.trace)
    run.check_trace(trace)
    run.close()
    return trace


def main():
    parser = argparse.ArgumentParser(description="Every fault at every point of one flash.")
    parser.add_argument("--only", help="KIND@POINT of one run")
    parser.add_argument("--class", dest="only_class", help="one class")
    parser.add_argument("--at", help="only points that begin so")
    parser.add_argument("--outcomes", action="store_true", help="how often each outcome of the first call came")
    options = parser.parse_args()
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = tempfile.mkdtemp(prefix="qdld-faults-", dir=place)
    started = time.monotonic()
    try:
        ground = Ground(directory)
        if options.only:
            result = one((ground, options.only, True))
            print(result)
            shutil.copytree(directory, "/tmp/qdld-fault", dirs_exist_ok=True, ignore=shutil.ignore_patterns("flash*"))
            return 1 if result[1] else 0
        trace = clean_run(ground)
        points = enumerate_points(trace)
        print("one flash: %d commands, %d transfers out, %d in" % (
            len(list(trace.commands())), len(list(trace.transfers("out"))), len(list(trace.transfers("in")))), flush=True)
        return run_all(ground, points, options, started)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def is_slow(spec):
    return spec.startswith(("hang@", "garbage@done", "garbage@out"))


def run_all(ground, points, options, started):
    specs = ["%s@%s" % (kind, point) for kind, many in points.items() for point in many
             if options.only_class in (None, kind) and point.startswith(options.at or "")]
    # The longest waits first: a hung program or erase waits minutes.
    slow = [s for s in specs if is_slow(s)]
    fast = [s for s in specs if not is_slow(s)]
    slow.sort(key=lambda s: -int(re.search(r":(\d+)", s)[1]))
    results = []
    with multiprocessing.Pool(SLOW_AT_ONCE) as sleepers, multiprocessing.Pool(FAST_AT_ONCE) as workers:
        first = sleepers.imap_unordered(one, [(ground, s, False) for s in slow])
        for many in (workers.imap_unordered(one, [(ground, s, False) for s in fast]), first):
            for result in many:
                results.append(result)
                if result[1]:
                    print("FAILED %s: %s\n    again: tests/faults/faults.py --only %s" % (result[0], result[1], result[0]),
                          flush=True)
    for kind in points:
        of = [r for r in results if r[0].startswith(kind + "@")]
        for point in sorted({re.split(r"[@:]", r[0])[1] for r in of}):
            here = [r for r in of if r[0].startswith("%s@%s:" % (kind, point))]
            bad = sum(1 for r in here if r[1])
            print("%s at %s: %d runs, %s (longest %.1f s)" % (kind, point, len(here), "%d FAILED" % bad if bad else "ok",
                                                            max(r[3] for r in here)))
            if options.outcomes:
                counted = {}
                for r in here:
                    word = re.sub(r"\d+", "N", r[2] or "failed")
                    counted.setdefault(word, []).append(r[0])
                for word, which in sorted(counted.items(), key=lambda i: -len(i[1])):
                    print("    %4d  %s   (%s)" % (len(which), word, which[0]))
    failed = sum(1 for r in results if r[1])
    print("%d passed, %d failed, %.0f s" % (len(results) - failed, failed, time.monotonic() - started))
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
