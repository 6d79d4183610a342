#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A backup and a restore that are interrupted at every command: the modem goes,

  back      it is unplugged, or resets, when the command arrives, and comes back: the job goes on by itself
  done      the same, when the command is done and not answered
  gone      it does not come back: the job ends with a reason and a hint; the same call made again comes to its end

the worker dies,

  killed    a crash: the same call made again comes to its end

or the service does:

  stopped   it asks the worker to end
  orphaned  it is not there any more

After each of them the flash is what it was (backup; a restore that changed nothing), or boots into 9008 (a restore with SBL,
until it is over), and in the end it is what it shall be, page by page.

  interruptions.py            every command with each of the three, its ways in turn
  interruptions.py --all      every command in each way
  interruptions.py --only restore:killed:57
"""
import os
import shutil
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from conftest import GIVE_UP, Bench, Package, Trace, flashfile  # noqa: E402
import backupfile  # noqa: E402
from pool import run_points  # noqa: E402
from test_restore import expected_difference  # noqa: E402

WAYS = (("back", "done", "gone"), ("killed",), ("stopped", "orphaned"))
BASE = ("force_edl=yes", "family=devprg", "geometry=p2K_b128K")
WRONG = (0, 5, 8, 9, 13)  # blocks that are not what the backup has: of SBL, EFS2, TZ, cust_info
BLOCKS, PAGES = 16, 64


class Interruptions:
    def __init__(self, directory):
        self.directory = directory
        self.package = Package(directory, ["--small", "--tiny-chip"])
        self.original = os.path.join(directory, "original")
        bench = self.bench()
        bench.make_flash("initial=working", "geometry=p2K_b128K", blocks=BLOCKS)
        shutil.copy(bench.flash_path, self.original)
        bench.start(*BASE)
        job = bench.backup(self.package, kind="nand")
        assert job.result == "done", job.words
        self.backup = os.path.join(directory, "backup")
        shutil.copy(bench.saved, self.backup)
        self.n_backup = bench.trace().commands[-1].number
        bench.stop()
        self.b = backupfile.Backup(self.backup)
        self.spoilt = os.path.join(directory, "spoilt")
        with open(self.original, "rb") as f, flashfile.Flash(self.original) as layout_of:
            data = bytearray(f.read())
            for block in WRONG:
                at = layout_of.data_offset + block * PAGES * layout_of.page_size
                data[at + 100:at + 108] = b"spoilt !"
        with open(self.spoilt, "wb") as f:
            f.write(data)
        bench = self.bench(self.spoilt)
        bench.start(*BASE)
        assert bench.restore(self.backup, self.package, journal=self.journal(bench)).result == "done"
        trace = bench.trace()
        self.n_restore, self.changes = trace.commands[-1].number, [c.number for c in trace.changes]

    def bench(self, flash=None):
        own = os.path.join(self.directory, "case")
        shutil.rmtree(own, ignore_errors=True)
        os.makedirs(own)
        bench = Bench(own, None)
        bench.unit_data_may_change = True
        if flash:
            shutil.copy(flash, bench.flash_path)
            bench.made = True
        return bench

    @staticmethod
    def journal(bench):
        return os.path.join(bench.directory, "restore.journal")

    def points(self, every_way):
        for kind, n in (("backup", self.n_backup), ("restore", self.n_restore)):
            for number in range(1, n + 1):
                for way in sum(WAYS, ()) if every_way else [ways[number % len(ways)] for ways in WAYS]:
                    yield "%s:%s:%d" % (kind, way, number)

    def call(self, bench, kind, **options):
        if kind == "backup":
            return bench.backup(self.package, kind="nand", **options)
        return bench.restore(self.backup, self.package, journal=self.journal(bench), **options)

    def first_call(self, bench, kind, way, number):
        point = "%d" % number
        if way in ("back", "done"):
            bench.start(*BASE, "fault=unplug@%s:%s" % ("command" if way == "back" else "done", point), "replug_ms=5")
            return self.call(bench, kind)
        if way == "gone":
            bench.start(*BASE, "fault=unplug@done:" + point, "replug_ms=-1")
            return self.call(bench, kind, wait_device_usec=GIVE_UP)
        bench.start(*BASE, "fault=stop@command:" + point)

        def on_stop(job):
            if way == "killed":
                job.kill()
            elif way == "orphaned":
                job.abandon()
            else:
                job.send(["STOP=1"])
            bench.modem.go_on()
        return self.call(bench, kind, on_stop=on_stop)

    def check_between(self, bench, kind, way, number, job):
        """Interrupted, with words, and a flash in a state that is defined."""
        if way in ("killed", "orphaned"):
            assert job.result in (None, "done"), job.words
        elif job.result != "done":
            assert job.result == "interrupted" or job.error in ("ModemGone", "Interrupted"), job.words
            assert job.message, job.words
        began = kind == "restore" and number >= self.changes[0]
        bench.stop()
        commands = Trace(bench.traces[-1]).commands
        # Whose service has died ends SBL and looks at it, and has nobody to tell.
        to_its_end = way == "orphaned" and commands[-1].number == self.n_restore
        if began and way in WAYS[2] and job.result != "done":
            late = [c for c in commands if c.number > number]
            assert all(c.partition == "SBL" for c in late), "behind the command in hand: %r" % late
        if began and number == self.changes[0] and way != "gone":
            return  # the command arrived, and nobody knows whether it was done
        if not began:
            with bench.flashed() as f:
                verdict = flashfile.compare_unchanged(f, flashfile.Snapshot.load(self.original if kind == "backup" else self.spoilt))
            assert verdict, str(verdict)
        elif job.result != "done" and number < self.changes[-1] and not to_its_end:
            assert bench.boots() == "edl", "half of a restore must come back in 9008"

    def run(self, point):
        kind, way, number = point.split(":")
        number = int(number)
        bench = self.bench(self.original if kind == "backup" else self.spoilt)
        try:
            job = self.first_call(bench, kind, way, number)
            if way in ("back", "done"):
                assert job.result == "done", job.words
            else:
                self.check_between(bench, kind, way, number, job)
                if job.result != "done":
                    bench.start(*BASE)
                    job = self.call(bench, kind)
                    assert job.result == "done", "again: " + job.words
            bench.stop()
            if kind == "backup":
                b = backupfile.Backup(bench.saved)
                with bench.flashed() as f:
                    assert b.difference(f) is None, b.difference(f)
            else:
                with bench.flashed() as f:
                    wrong = expected_difference(self.b, f, self.b.parts)
                assert wrong is None, wrong
            for path in bench.traces:
                bad = [v for v in Trace(path).having("VIOLATION") if "out of good blocks" not in v]
                assert not bad, bad
        finally:
            bench.stop()
        return way


if __name__ == "__main__":
    sys.exit(run_points(__doc__, "interruptions", Interruptions))
