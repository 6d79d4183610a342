#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every fault at every point of one flash (make check-faults).

A clean run tells which commands and transfers there are. Then the flash is repeated with one fault each: the modem
unplugged, hung, saying NAK or garbage; the worker killed, told to cancel, told to stop; the service gone. Every run must end in
a defined state, and a second call must finish the job with the flash byte for byte as expected. What the second call does to the modem
first is what the first one's hint says: nothing (retry), or a power cycle. The clock of worker and modem stands still while
one of them has something to do (still-clock.c), so a deadline of minutes is no reason to leave a point out.

  faults.py                              all of them
  faults.py --only unplug@command:7      one run, again, with the worker's log and the modem's trace kept
  faults.py --class kill                 one class
"""
import argparse
import os
import pickle
import re
import shutil
import signal
import socket
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
IN_PIECES = {"window": "replug", "window-kill": "kill"}
WINDOW_USEC, PERIOD_USEC = 60000000, 70000000
# Hints that a power cycle follows; with USB_BOOT bridged where what is in sector 0 might start.
NEEDS_POWER = ("power-cycle", "replug", "bridge-usb-boot")
BLOCKS = 16  # a small chip has few blocks to look at: fewer commands, so that all of them can be tried
WITH_BAD_BLOCKS = ["bad=1,8", "fail_program=9,11"]
NEW_BAD_MAX = 3
# A modem that is slow to speak in Sahara: longer than what is given to one that somebody has talked to before, longer than an
# answer is waited for.
LATE_MS = (100, 1500)
DESTRUCTIVE = ("erase", "program")
AT_ONCE = 2 * (os.cpu_count() or 2)  # driver, worker and modem of one run wait for each other a lot
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
            self.lines = [line.partition(" ")[2] for line in f.read().splitlines()][skip:]

    def split(self, word):
        """What came up to the first line that begins so, and what came behind it."""
        at = next((i for i, line in enumerate(self.lines) if line.startswith(word)), len(self.lines))
        parts = Trace("/dev/null"), Trace("/dev/null")
        parts[0].lines, parts[1].lines = self.lines[:at], self.lines[at:]
        return parts

    def having(self, word):
        """The lines that begin so."""
        return [line for line in self.lines if line.startswith(word)]

    def commands(self):
        """(number, tag, first block) of each command."""
        for line in self.having("command "):
            found = re.match(r"command (\d+) (\w+)", line)
            start = re.search(r'start_sector="(\d+)"', line)
            yield int(found[1]), found[2], int(start[1]) // 64 if start else None

    def finished_programs(self):
        return [int(re.match(r"nand program first=(\d+)", line)[1]) // 64 for line in self.having("nand program first=")]

    def transfers(self, direction):
        """(number, length, what) of each; what: sahara, raw, document, log, response."""
        for i, line in enumerate(self.lines):
            if not line.startswith(direction + " transfer="):
                continue
            found = re.match(direction + r" transfer=(\d+) length=(\d+)", line)
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


def copy_sparse(source, target):
    """Most of a flash is erased and takes no room."""
    with open(source, "rb") as a, open(target, "wb") as b:
        size = os.fstat(a.fileno()).st_size
        b.truncate(size)
        at = 0
        while at < size:
            try:
                at = os.lseek(a.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(a.fileno(), at, os.SEEK_HOLE)
            os.lseek(b.fileno(), at, os.SEEK_SET)
            while at < end:
                at += os.sendfile(b.fileno(), a.fileno(), at, end - at)


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
        self.plain = {initial: self.make("fresh-" + initial, ["version=" + VERSION, "initial=" + initial])
                      for initial in ("brick", "working")}

    def make(self, name, settings):
        """A fresh flash with these settings: its path, and what lies in it."""
        path = os.path.join(self.directory, name)
        argv = [os.path.join(os.environ["BUILD"], "virtual-modem"), "--flash", path, "--new", "--make-flash",
                "--blocks", str(BLOCKS)]
        for setting in settings:
            argv += ["--set", setting]
        subprocess.run(argv, check=True)
        with nand.Flash(path) as flash:
            return path, nand.Snapshot.of(flash, keep=True)

    def fresh(self, path, settings):
        """Puts a fresh flash there, and says what lies in it."""
        if len(settings) == 2:
            made, snapshot = self.plain[settings[1].partition("=")[2]]
            copy_sparse(made, path)
            return snapshot
        made, snapshot = self.make(os.path.relpath(path, self.directory), settings)
        return snapshot


# ---- one run ----

class Run:
    def __init__(self, ground, spec, directory):
        self.ground, self.spec, self.directory = ground, spec, directory
        kind, _, self.point = spec.partition("@")
        # The same faults for a modem whose window is known: it is flashed in pieces.
        self.windowed = kind in IN_PIECES
        self.kind = IN_PIECES.get(kind, kind)
        # A modem that comes back by itself has to come back in 9008, also before its SBL is erased.
        initial = "brick" if self.kind in ("replug", "swap") else "working"
        self.settings = ["version=" + VERSION, "initial=" + initial]
        if self.kind == "bad":
            self.settings += self.point.split("+")
        if self.kind == "unplug-bad":
            self.settings += WITH_BAD_BLOCKS
        self.flash = os.path.join(directory, "flash")
        self.before = ground.fresh(self.flash, self.settings)
        self.clock = driver.Clock(directory)
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

    def start_modem(self, settings):
        self.traces += 1
        self.modem = driver.Modem(self.directory, self.flash, self.settings + settings, new=False, clock=self.clock,
                                  trace=os.path.join(self.directory, "trace-%d" % self.traces))
        self.modem.accept()

    def power_cycle(self):
        self.modem.close()
        with nand.Flash(self.flash) as flash:
            bridged = has_sbl(flash)
        self.start_modem(["start=" + ("sahara" if bridged else "boot")])

    def flash_once(self, wait=BACK_USEC, boot=BOOT_USEC, on_stop=None):
        options = {"modem-version": VERSION, "firmware": self.ground.firmware, "wait-device-usec": wait,
                   "boot-usec": boot, "reset": 1}
        if self.windowed:
            options.update({"window-usec": WINDOW_USEC, "loop-period-usec": PERIOD_USEC})
        self.job = driver.Job(self.modem, "flash", options, [("package", self.package), ("journal", self.journal)])
        return self.job.run(on_stop=on_stop)

    # ---- expectations ----
    def check_end(self, job):
        """(1) and (2): a defined end, and words that help."""
        if job.killed:
            expect(job.process.returncode == -9, "the killed worker exited with %s", job.process.returncode)
            return
        if job.abandoned:
            expect(job.process.returncode == 0, "the worker of a dead service exited with %s", job.process.returncode)
            return
        expect(job.result is not None, "no RESULT; exit %s, log %s", job.process.returncode, job.log[-4:])
        expect(job.holding or job.process.returncode == 0, "RESULT=%s but exit %s", job.result, job.process.returncode)
        v = job.values
        if job.result == "done":
            expect(not v.get("ERROR"), "done, with the error %s", job.words)
            return
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
        wrong = trace.having("VIOLATION")
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

    def check_kind(self, job, trace):
        """What the kinds promise besides."""
        booted = bool(trace.having("boot normal"))
        if self.kind == "replug":
            # Only a modem whose SBL was there already, and with it everything, comes back otherwise than in 9008.
            expect(job.result == "done" or booted, "the job did not go on: %s", job.words)
            self.check_redone(*trace.split("unplug"))
        if self.kind == "swap":
            expect(job.values.get("ERROR") == "WrongUnit" or booted, "another unit, and %s", job.words)
            after = [] if booted else list(trace.split("swapped")[1].commands())
            expect(not after, "another unit was sent commands: %s", after[:2])
        if self.kind in ("stop", "orphan"):
            at_hand = self.point.rpartition("command:")[2]
            begun = [n for n, tag, _ in trace.split("fault ")[1].commands() if tag in DESTRUCTIVE and str(n) != at_hand]
            expect(not begun, "told to stop, it began something new: commands %s", begun)
        if self.kind == "bad":
            dying = len(set(re.findall(r"\d+", re.sub(r"bad=[\d,]+", "", self.point.replace("fail_", ""))))) > NEW_BAD_MAX
            expect(job.result == ("failed" if dying else "done"), "%s", job.words)
            expect(not dying or job.values.get("HINT") == "contact-vendor", "a dying flash and the hint %s",
                   job.values.get("HINT"))

    # ---- kinds ----
    def first_call(self):
        """The call that the fault happens to."""
        away = self.kind.startswith("unplug")
        on_stop = None
        faults = {"unplug-bad": "unplug", "replug": "unplug", "swap": "unplug"}
        fault = faults.get(self.kind, self.kind)
        if self.kind in ("kill", "cancel", "stop", "orphan") or self.kind.startswith("late"):
            fault = "stop"

            def on_stop(job):
                if self.kind.startswith("late"):
                    self.clock.pass_for_worker(int(self.kind[4:]))
                elif self.kind == "kill":
                    job.kill()
                    job.process.wait()
                    self.check_flash(job)
                elif self.kind == "orphan":
                    job.abandon()
                else:
                    job.send([self.kind.upper() + "=1"])
                self.modem.go_on()
        settings = ["start=sahara", "replug_ms=%d" % (20 if self.kind in ("replug", "swap") else FOR_EVER)]
        if self.kind == "swap":
            settings.append("swap_at=2")
        if self.kind != "bad":
            settings.append("fault=%s@%s" % (fault, self.point))
        self.start_modem(settings)
        return self.flash_once(AWAY_USEC if away else BACK_USEC, BOOT_USEC // 10 if away else BOOT_USEC, on_stop)

    def second_call(self, first):
        hint = first.values.get("HINT", "")
        first.finish()
        # A modem that was told to reset is on its way to normal mode.
        booting = any(tag == "power" for _, tag, _ in Trace(self.modem.trace).commands())
        dead = self.kind in ("unplug", "unplug-bad", "hang", "swap") or booting
        skip = 0
        if hint in NEEDS_POWER or dead or self.modem.normal:
            # A modem that dies at the end of the upload looks like one that refuses its programmer (reference/edl.md 1.3).
            expect(self.kind != "hang" or hint in NEEDS_POWER + ("wrong-firmware", ""), "a hung modem and the hint %s", hint)
            self.power_cycle()
        else:
            skip = len(Trace(self.modem.trace).lines)
        job = self.flash_once()
        expect(job.result == "done", "the second call after %s (%s): %s", first.words, hint or "no hint", job.words)
        return Trace(self.modem.trace, skip)

    def ordinary(self):
        first = self.first_call()
        self.clock.until_idle(driver.Clock.MODEM)  # then its trace is whole
        self.check_end(first)
        trace = Trace(self.modem.trace)
        self.check_trace(trace)
        if self.kind != "bad":
            expect(trace.having("fault "), "the fault did not happen: %s", first.words)
        self.check_flash(first)
        self.check_kind(first, trace)
        if first.values.get("HINT") == "contact-vendor":
            return first.words
        outcome = "killed" if first.killed else "on its own" if first.abandoned else first.words
        if first.result != "done":
            second = self.second_call(first)
            self.check_trace(second)
            # What was complete, or has run meanwhile, is not continued: that second call is another flash.
            powered = any(tag == "power" for _, tag, _ in trace.commands())
            booted = trace.having("boot normal")
            if not powered and not booted and \
                    "complete and verified" not in first.values.get("MESSAGE", ""):
                self.check_redone(trace, second)
            self.check_flash(self.job)
        self.job.finish()
        return outcome


def one(ground, spec, keep=False):
    """(spec, problem or None, how the first call ended, seconds)"""
    directory = tempfile.mkdtemp(prefix="run-", dir=ground.directory)
    started = time.monotonic()
    run = Run(ground, spec, directory)
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

def bad_blocks():
    """Settings of flashes with bad blocks: each block that a step addresses, by itself and with others."""
    blocks = [1, 2, 8, 9, 10, 11, 12]  # block 0 is good by what chip makers promise
    points = ["%s=%d" % (how, b) for how in ("bad", "fail_erase", "fail_program") for b in blocks]
    points += ["bad=%d,%d,%d" % (s, t, e) for s in (1, 2) for t in (8, 9, 10) for e in (11, 12)]
    points += ["%s=%d,%d" % (how, a, b) for how in ("bad", "fail_erase", "fail_program") for a, b in ((1, 2), (8, 9))]
    points += ["bad=%d+%s=%d" % (a, how, b) for how in ("fail_erase", "fail_program") for a, b in ((1, 2), (8, 9), (8, 10))]
    points += ["fail_erase=1,9,11", "fail_erase=1,2,9,10", "fail_erase=8,9,11,1+bad=2", "fail_erase=2+fail_program=8,11"]
    return points


def one_of_a_kind(transfers):
    """Of raw data that come in a row the first, the middle and the last, and no logs."""
    kept, row = [], []
    for transfer in [*transfers, None]:
        if transfer and transfer[2] == "raw":
            row.append(transfer)
            continue
        kept += [row[i] for i in sorted({0, len(row) // 2, len(row) - 1})] if row else []
        row = []
        kept += [transfer] if transfer and transfer[2] != "log" else []
    return kept


def in_pieces(trace):
    """Where a window can close: at every command, behind every one that changed something, in the images."""
    commands = list(trace.commands())
    every = ["command:%d" % n for n, _, _ in commands]
    changes = ["done:%d" % n for n, tag, _ in commands if tag in DESTRUCTIVE]
    image = ["out:%d+%d" % (n, k) for n, length, what in trace.transfers("out") if what == "raw" and n > 40
             for k in (0, length // 2)]
    return {"window": every + changes + image, "window-kill": every + changes}


def enumerate_points(trace, trace_with_bad):
    """class -> points"""
    commands = list(trace.commands())
    every = ["command:%d" % n for n, _, _ in commands]
    done = ["done:%d" % n for n, _, _ in commands]
    out = list(trace.transfers("out"))
    inward = one_of_a_kind(trace.transfers("in"))
    # Of a document half arrives; nothing of it is the transfer before, all of it is the command. Of raw data more places.
    broken = ["out:%d+%d" % (n, k) for n, length, what in out
              for k in (sorted({0, length // 2, max(length - 1, 0)}) if what == "raw" else [length // 2])]
    sahara = ["out:%d" % n for n, _, what in out if what in ("sahara", "raw")]
    hello = ["in:%d" % n for n, _, what in inward if what == "sahara"]
    some = ["in:%d" % n for n, _, _ in inward]
    # An answer of which nothing arrives is the command before, a piece of data is not.
    answers = ["in:%d" % n for n, _, what in inward if what == "raw"]
    answers += ["in:%d+%d" % (n, length // 2) for n, length, _ in inward if length]
    changes = ["done:%d" % n for n, tag, _ in commands if tag in DESTRUCTIVE]
    bad_commands = list(trace_with_bad.commands())
    with_bad = ["command:%d" % n for n, _, _ in bad_commands]
    with_bad += ["done:%d" % n for n, tag, _ in bad_commands if tag in DESTRUCTIVE]
    first = next(n for n, tag, _ in commands if tag in DESTRUCTIVE)
    image = ["out:%d+%d" % (n, k) for n, length, what in out if what == "raw" and n > 40 for k in (0, length // 2)]
    return {
        "unplug": every + done + broken + answers,
        "hang": every + changes + sahara + some,
        "nak": every + done + sahara,
        "garbage": every + done + sahara,
        "kill": every + done + sahara + some,
        "cancel": every + sahara,
        "stop": every + sahara,
        "orphan": every + sahara + some,
        "replug": every + changes + image,
        "swap": ["command:%d" % n for n, _, _ in commands if n >= first] + changes + image,
        "bad": bad_blocks(),
        "unplug-bad": with_bad,
        **{"late%d" % ms: hello + sahara for ms in LATE_MS},
    }


def clean_run(ground, kind):
    directory = tempfile.mkdtemp(prefix="clean-", dir=ground.directory)
    run = Run(ground, kind + "@nothing", directory)
    run.start_modem(["start=sahara"])
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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        ground = Ground(directory)
        if options.only:
            result = one(ground, options.only, True)
            print(result)
            shutil.copytree(directory, "/tmp/qdld-fault", dirs_exist_ok=True, ignore=shutil.ignore_patterns("flash*"))
            return 1 if result[1] else 0
        trace = clean_run(ground, "unplug")
        points = enumerate_points(trace, clean_run(ground, "unplug-bad"))
        points.update(in_pieces(clean_run(ground, "window")))
        print("one flash: %d commands, %d transfers out, %d in" % (
            len(list(trace.commands())), len(list(trace.transfers("out"))), len(list(trace.transfers("in")))), flush=True)
        return run_all(ground, points, options, started)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def in_processes(ground, specs):
    """Results as they come: of some processes, each of which takes the next run when it has done one."""
    waiting, ours = os.pipe()
    answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    children = []
    for _ in range(AT_ONCE):
        children.append(os.fork())
        if children[-1] == 0:
            os.close(ours)
            answers.close()
            work(ground, specs, waiting, theirs)
    os.close(waiting)
    theirs.close()
    try:
        with open(ours, "wb", buffering=0) as pipe:
            for i in range(len(specs)):
                pipe.write(i.to_bytes(INDEX, "little"))  # a pipe holds some thousands, and each is read whole
        while True:
            answer = answers.recv(ANSWER_MAX)
            if not answer:
                return
            yield pickle.loads(answer)
    finally:
        answers.close()  # nobody listens any more: the processes end
        for child in children:
            os.waitpid(child, 0)


INDEX, ANSWER_MAX = 4, 65536


def work(ground, specs, waiting, answers):
    """The life of one process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        while index := os.read(waiting, INDEX):
            spec, problem, outcome, seconds = one(ground, specs[int.from_bytes(index, "little")])
            answers.send(pickle.dumps((spec, problem and problem[:ANSWER_MAX // 4], outcome, seconds)))
    except BrokenPipeError:
        pass
    finally:
        os._exit(0)


def run_all(ground, points, options, started):
    specs = ["%s@%s" % (kind, point) for kind, many in points.items() for point in many
             if options.only_class in (None, kind) and point.startswith(options.at or "")]
    results = []
    for result in in_processes(ground, specs):
        results.append(result)
        if result[1]:
            print("FAILED %s: %s\n    again: tests/faults/faults.py --only %s" % (result[0], result[1], result[0]), flush=True)
    for kind in points:
        of = [r for r in results if r[0].startswith(kind + "@")]
        for point in sorted({re.split(r"[@:=]", r[0])[1] for r in of}):
            here = [r for r in of if re.split(r"[@:=]", r[0])[1] == point]
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
    failed = len(specs) - sum(1 for r in results if not r[1])  # one that never came back has failed, too
    print("%d passed, %d failed, %.0f s" % (len(specs) - failed, failed, time.monotonic() - started))
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
