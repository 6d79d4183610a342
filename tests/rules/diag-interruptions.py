#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A calibration saved and put back over DIAG, with something going wrong at every single exchange:

  gone      the modem is unplugged when the request arrives, and is plugged in again later
  answered  the same, when it has done what it was asked and has not said so
  hung      it says nothing any more, to nobody; its power is taken away
  garbage   its answer is spoiled: noise, a wrong CRC, half a frame, half a payload, the answer to another question…
  killed    the worker dies (a crash, the service's end)
  stopped   the service asks it to end

Nothing half-done is called done: a backup that is done is, byte for byte, the one of an undisturbed modem. A restore writes
nothing before the present state is stored; interrupted, it leaves a modem that answers, and the same call made again ends with a
modem out of factory test mode that holds every item and file of the backup.

A modem of few items is asked for few numbers, so that all exchanges can be tried; the clock of worker and modem stands still
while one of them has something to do (tests/faults/still-clock.c). Of a whole calibration, some 38000 exchanges that take a
second, each sort of exchange behind each other sort is unplugged when it comes first in a part of the job: what repeats it there
differs from that by a number only. --all takes the last time, too, and every 97th exchange whatever it is.

  diag-interruptions.py            every exchange: unplugged, and in one of the other ways, in turn, garbage most often
  diag-interruptions.py --all      every exchange in each way
  diag-interruptions.py --only restore:killed:57
"""
import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
os.environ["BUILD"] = os.path.abspath(os.environ.get("BUILD", os.path.join(TOP, "build")))
sys.path[:0] = [HERE, os.path.join(TOP, "tests", "faults")]
import driver  # noqa: E402
from pool import run_points  # noqa: E402

WAYS = ("gone", "answered", "hung", "garbage", "killed", "stopped")
IN_TURN = ("answered", "garbage", "hung", "garbage", "killed", "garbage", "stopped")
GARBAGE = ("garbage", "crc", "cut", "short", "long", "twice", "other", "stale", "silent", "nak")
BLOCKS = "16"
# Of the numbered items the IMEI and those beside it, of the hidden files the first; the others are shown by their directory.
FEW = {"nv-first": 546, "nv-end": 554, "rfnv-end": 20003}
SETTINGS = ("initial=working", "imei=490154203237518", "rfnv_items=4", "nv_items=900", "efs_hidden=none", "reboot_ms=5",
            "efs_sync_ms=1")
OPTIONS = {"imei-key": "00" * 32, "created": 1790000000000001, "wait-device-usec": 10000000, "boot-usec": 20000000, **FEW}
WHOLE = {"nv-first": 0, "nv-end": 8192, "rfnv-end": 32001}
WHOLE_SETTINGS = ("rfnv_items=150", "nv_items=238", "efs_hidden=rfnv")
STEP = 97
PARTS = 7  # who it is, its IMEI, what it runs; the items, the files, the items again, the files compared
MAY_END = ("failed", "interrupted")


def requests(trace):
    with open(trace, errors="replace") as f:
        return [int(n) for n in re.findall(r"diag request=(\d+)", f.read())]


def sort_of(lines):
    """What a question and its answer were about, without names and numbers: "efs open rfnv errno=2", "19 -> 46 nothing"."""
    text = " ".join(lines)
    if found := re.search(r" diag nv read item=\d+ (index=\d) (status=\d)", text):
        return "nv %s %s" % found.groups()
    if found := re.search(r" diag efs (open|opendir) (\S+) (?:flags=\d+ )?(errno=\d+)", text):
        return "efs %s %s %s" % (found[1], "rfnv" if "/rfnv/" in found[2] else "other", found[3])
    # The rest names nothing in the trace: what it was shows in the lengths, but for those that a name or content makes.
    lengths = [min(int(n), 24) for n in re.findall(r"length=(\d+)", text)]
    return " ".join(map(str, lengths)) + (re.search(r"command=\S+", text) or [""])[0]


def turns(trace):
    """The numbers of the requests at which something follows that did not follow before in that part of the job; of those that never
    do so again there. A part is as long as it asks for items, or for all else (PARTS)."""
    found, lines, before, part = {}, [], "", 0
    with open(trace, errors="replace") as f:
        for line in f:
            if " diag request=" in line and lines:
                number, this = int(re.search(r"request=(\d+)", lines[0])[1]), sort_of(lines)
                part += this.startswith("nv ") != before.startswith("nv ")
                first, _ = found.get((part, before, this), (number, number))
                found[part, before, this] = first, number
                before, lines = this, []
            if " diag request=" in line or lines:
                lines.append(line)
    assert part == PARTS - 1, "the job has %d parts" % (part + 1)
    return [sorted(set(numbers)) for numbers in zip(*found.values())]


class Plug:
    """One flash with a modem in front of it, from one power cycle to the next."""

    def __init__(self, directory, name, source=None, **settings):
        self.directory = os.path.join(directory, name)
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)
        self.flash = os.path.join(self.directory, "flash")
        self.settings = list(SETTINGS) + ["%s=%s" % pair for pair in settings.items()]
        if source:
            shutil.copy(source, self.flash)
        else:
            argv = [os.path.join(os.environ["BUILD"], "virtual-modem"), "--flash", self.flash, "--new", "--make-flash", "--blocks",
                    BLOCKS]
            subprocess.run(argv + [x for s in self.settings for x in ("--set", s)], check=True)
        self.clock = driver.Clock(self.directory)
        self.modem, self.traces = None, []

    def start(self, *settings):
        self.stop()
        self.traces.append(os.path.join(self.directory, "trace-%d" % len(self.traces)))
        self.modem = driver.Modem(self.directory, self.flash, self.settings + list(settings), new=False, clock=self.clock,
                                  trace=self.traces[-1])
        self.modem.accept()

    def stop(self):
        if self.modem:
            self.modem.close()
        self.modem = None

    def call(self, kind, source=None, on_stop=None, span=FEW):
        """A whole job; job.file is what it saved."""
        path = os.path.join(self.directory, "saved")
        with open(path, "w+b") as saved:
            fds = [("store" if kind == "backup" else "backup", saved.fileno())]
            options = {"kind": "xqcn", **OPTIONS, **span}
            if kind == "restore":
                fds.append(("source", source.fileno()))
                options.update({"bound": 1})
            job = driver.Job(self.modem, kind, options, fds)
            job.answer_backup, answer = lambda: (offered.append(requests(self.last_trace())[-1:]), answer()), job.answer_backup
            offered = job.offered = []
            job.run(on_stop=on_stop)
        with open(path, "rb") as saved:
            job.file = saved.read()
        return job

    def last_trace(self):
        return self.traces[-1]

    def said(self):
        """All that every modem of this plug was told; the one that runs is stopped."""
        self.stop()
        text = ""
        for path in self.traces:
            with open(path, errors="replace") as f:
                text += f.read()
        return text


def is_write(line):
    return " diag nv write " in line or " diag efs put " in line or re.search(r" diag efs open .* flags=0?[1-9]", line)


class Interruptions:
    def __init__(self, directory):
        self.directory = directory
        healthy = Plug(directory, "healthy")
        self.healthy = healthy.flash
        healthy.start()
        job = healthy.call("backup")
        assert job.result == "done", job.words
        self.calibration = os.path.join(directory, "calibration")
        with open(self.calibration, "wb") as f:
            f.write(job.file)
        self.content = job.file
        healthy.stop()
        self.n = {"backup": len(requests(healthy.last_trace()))}
        lost = Plug(directory, "lost", calibration="erased")
        self.lost = os.path.join(directory, "flash-lost")
        shutil.copy(lost.flash, self.lost)
        lost.start()
        with open(self.calibration, "rb") as source:
            job = lost.call("restore", source)
        assert job.result == "done", job.words
        said = lost.said().splitlines()
        self.n["restore"] = len(requests(lost.last_trace()))
        self.prepare_whole()
        # Without these the enumeration would say nothing.
        assert sum(bool(is_write(line)) for line in said) > 25 and not job.report.get("PROBLEM"), said[-5:]

    def prepare_whole(self):
        whole = Plug(self.directory, "whole", **dict(s.split("=") for s in WHOLE_SETTINGS))
        self.whole = whole.flash
        whole.start()
        job = whole.call("backup", span=WHOLE)
        assert job.result == "done", job.words
        self.whole_content = job.file
        whole.stop()
        self.n["whole"] = len(requests(whole.last_trace()))
        self.first, self.last = turns(whole.last_trace())
        assert self.n["whole"] > 20000 and len(self.first) > 40, (self.n, self.first)

    def run_whole(self, number):
        """Cut off, nothing is called saved; plugged in again, it is the same to the last byte."""
        plug = Plug(self.directory, "case", self.whole, **dict(s.split("=") for s in WHOLE_SETTINGS))
        try:
            plug.start("fault=unplug@diag:%d" % number, "replug_ms=-1")
            job = plug.call("backup", span=WHOLE)
            assert job.result == "failed" and job.values["ERROR"] == "ModemGone", job.words
            plug.start()
            job = plug.call("backup", span=WHOLE)
            assert job.result == "done" and job.file == self.whole_content, job.words
            return "whole ended"
        finally:
            plug.stop()

    def points(self, every_way):
        more = (*self.last, *range(1, self.n["whole"], STEP)) if every_way else ()
        for number in sorted({*self.first, *more}):
            yield "whole:gone:%d" % number
        for kind in ("backup", "restore"):
            for number in range(1, self.n[kind] + 1):
                for way in WAYS if every_way else ("gone", IN_TURN[number % len(IN_TURN)]):
                    yield "%s:%s:%d" % (kind, way, number)

    def first_call(self, plug, kind, way, number, source):
        fault = {"gone": "unplug@diag", "answered": "unplug@answered", "hung": "hang@diag", "killed": "stop@diag",
                 "stopped": "stop@diag", "garbage": GARBAGE[number // 2 % len(GARBAGE)] + "@answered"}[way]
        plug.start("fault=%s:%d" % (fault, number), "replug_ms=-1")

        def on_stop(job):
            if way == "killed":
                job.kill()
            else:
                job.send(["STOP=1"])
            plug.modem.go_on()
        return plug.call(kind, source, on_stop if way in ("killed", "stopped") else None)

    def check_end(self, job, kind, way):
        if way == "killed":
            assert job.result in (None, "done"), job.words
            return
        assert job.process.returncode == 0, "the worker exited with %s" % job.process.returncode
        if job.result == "done":
            assert kind == "restore" or job.file == self.content, "another content is called done"
            return
        assert job.result in MAY_END or (kind == "restore" and job.result == "not-returned"), job.words
        assert job.values.get("ERROR") and 10 < len(job.values.get("MESSAGE", "")) < 300, job.words
        if "DESTRUCTIVE" in job.values:
            assert job.values.get("HINT") or job.result == "interrupted", job.words

    def check_order(self, plug, job):
        """Nothing is written before the present state is stored, and nothing at all before the job says so."""
        with open(plug.last_trace(), errors="replace") as f:
            lines = f.read().splitlines()
        written, last = [], 0
        for line in lines:
            found = re.search(r"diag request=(\d+)", line)
            last = int(found[1]) if found else last
            if is_write(line):
                written.append(last)
        if not written:
            return
        assert job.offered, "written at request %d, and nothing was stored" % written[0]
        assert "DESTRUCTIVE" in job.values or job.killed, "written, and not said to be"

    def check_restored(self, plug):
        plug.start()
        job = plug.call("backup")
        assert job.result == "done" and "OPERATING" in job.values and job.values["OPERATING"] == "5", job.values
        ours, theirs = (re.findall(rb"<(?:Stream|Storage) [^>]*>", f) for f in (job.file, self.content))
        assert ours == theirs and len(ours) > 60, "what it holds now is not what the backup holds"

    def run(self, point):
        kind, way, number = point.split(":")
        if kind == "whole":
            return self.run_whole(int(number))
        plug = Plug(self.directory, "case", self.healthy if kind == "backup" else self.lost)
        try:
            with open(self.calibration, "rb") as source:
                job = self.first_call(plug, kind, way, int(number), source)
                self.check_end(job, kind, way)
                if kind == "restore":
                    self.check_order(plug, job)
                first = job.result
                if first != "done":
                    # A worker that died or was stopped left the modem as it was, perhaps offline; the others lost power.
                    if way not in ("killed", "stopped") or not plug.modem.connection:
                        plug.start()
                    job = plug.call(kind, source)
                    assert job.result == "done", "again: " + job.words
                    assert kind == "restore" or job.file == self.content, "again: another content"
            if kind == "restore":
                self.check_restored(plug)
            bad = [line for line in plug.said().splitlines() if "VIOLATION" in line]
            assert not bad, bad
            return "%s %s" % (kind, "went on" if first == "done" else "ended")
        finally:
            plug.stop()


if __name__ == "__main__":
    sys.exit(run_points(__doc__, "diag-interruptions", Interruptions,
                        lambda came_to: came_to["backup ended"] > 200 and came_to["restore ended"] > 150))
