#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Seeded round trips: random contents are saved by the real worker, spoilt, and put back; all of it compared page by page.

  round-trips.py --cases 1000            in check
  round-trips.py --first 731 --cases 1   one again; what it did stands in its last line
  round-trips.py --seconds 60            other ones each time, as long as there is time

A case is a tiny chip of one of two geometries with a table of its own, a programmer with random habits for the saving and
another for the putting back, bad blocks before and after, pages that cannot be read, erased pages in all positions, pages of
nothing but what elsewhere is a fill, and some or all partitions to be restored. The judge is the flash file.
"""
import argparse
import functools
import os
import random
import re
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from conftest import Bench, Package, driver, file_job, flashfile, layout  # noqa: E402
import backupfile  # noqa: E402
from pool import run_pool  # noqa: E402
from test_restore import difference_outside, expected_difference, impossible_error, is_physical, used_blocks  # noqa: E402

PAGES = 64
TABLE = [("SBL", 0, 3), ("MIBIB", 3, 2), ("EFS2", 5, 6), ("sys_rev", 11, 1), ("RAWDATA", 12, 2), ("TZ", 14, 5), ("sec", 19, 1),
         ("cust_info", 20, 1), ("boot", 21, 5), ("system", 28, 3)]  # 26, 27 and what is behind belong to nobody
PROBLEMS = ("EraseCalibration", "BackupDamaged", "CalibrationAtRisk")


@functools.lru_cache(maxsize=None)
def table_image(page_size, age):
    return layout.mibib(page_size, partitions=TABLE, age=age)


class Chip:
    """A flash file in memory."""

    def __init__(self, path, blocks):
        with open(path, "rb") as f:
            self.data = bytearray(f.read())
        with flashfile.Flash(path) as f:
            self.page_size, self.states, self.records, self.pages = f.page_size, f.states_offset, f.records_offset, f.data_offset
        self.blocks = blocks

    def block(self, number, pages):
        """Their contents; None: erased."""
        last = 0
        for i, p in enumerate(pages):
            page = number * PAGES + i
            self.data[self.states + page] = flashfile.WRITTEN if p is not None else flashfile.ERASED
            if p is not None:
                self.data[self.pages + page * self.page_size:self.pages + (page + 1) * self.page_size] = p
                last = i + 1
        self.record(number, next_page=last)

    def record(self, number, next_page=None, bad=None):
        at = self.records + number * flashfile.RECORD.size
        flags, at_page, _, count = flashfile.RECORD.unpack_from(self.data, at)
        flags = flags if bad is None else flags | flashfile.BAD
        flashfile.RECORD.pack_into(self.data, at, flags, at_page if next_page is None else next_page, 0, count)

    def unreadable(self, page):
        if self.data[self.states + page] == flashfile.WRITTEN:
            self.data[self.states + page] = flashfile.UNREADABLE

    def save(self, path):
        with open(path, "wb") as f:
            f.write(self.data)


def random_pages(rng, page_size, density, in_a_row=False):
    """in_a_row: without an erased page in front of a written one, as chips are written."""
    kind = 1 if in_a_row else rng.random()
    if kind < 0.25:
        return [None] * PAGES
    pages = []
    for _ in range(PAGES):
        if rng.random() > density:
            pages.append(None)
        elif rng.random() < 0.08:
            pages.append(bytes([rng.choice((0x00, 0xBD, 0xEE, 0xFF))]) * page_size)
        else:
            pages.append(rng.randbytes(32) * (page_size // 32))
    if kind > 0.6:  # as a file system leaves it: written up to somewhere
        end = rng.randrange(PAGES + 1)
        pages = [p or b"x" * page_size if i < end else None for i, p in enumerate(pages)]
    while pages and pages[-1] in (None, b"\xff" * page_size):
        pages.pop()  # behind the last written page nobody can tell 0xFF from erased
    return pages + [None] * (PAGES - len(pages))


def fill(chip, rng, density, in_a_row):
    for block in range(chip.blocks):
        if not 3 <= block < 5:  # MIBIB stays: the modem goes by it
            chip.block(block, random_pages(rng, chip.page_size, density, in_a_row))
    for _, first, count in TABLE:  # room for what moves behind bad blocks
        if count > 2 and rng.random() < 0.8:
            for block in range(first + count - 2, first + count):
                chip.block(block, [None] * PAGES)


def hides_pages(chosen):
    """Pages among erased ones, of which only those next to a written one are looked for."""
    return "fill_batch=yes" in chosen


def habits(rng):
    """Of one programmer."""
    chosen = ["fill=" + rng.choice(("ff", "ee")), "erase_kind=" + rng.choice(("physical", "good-ack", "good-nak", "spill")),
              "read_error=" + rng.choice(("fill", "fill", "nak")), "program_ff=" + rng.choice(("yes", "yes", "no"))]
    if rng.random() < 0.3:
        chosen += ["payload_max=16384", "fill_batch=yes"]
    return chosen


class Case:
    def __init__(self, seed, bench, templates):
        self.rng, self.bench, self.seed = random.Random(seed), bench, seed
        self.geometry = "p4K_b256K" if self.rng.random() < 0.15 else "p2K_b128K"
        self.chip = templates[self.geometry]
        self.saving, self.putting_back = habits(self.rng), habits(self.rng)
        bench.made, bench.before, bench.unit_data_may_change, bench.traces = True, True, True, []

    def make_chip(self):
        rng, chip = self.rng, self.chip
        chip.data[:] = chip.blank
        image = table_image(chip.page_size, rng.randrange(1, 4))
        pages = [image[i * chip.page_size:(i + 1) * chip.page_size] for i in range(4)]
        for block in (3, 4)[:rng.randrange(1, 3)]:
            chip.block(block, pages + [None] * (PAGES - 4))
        fill(chip, rng, rng.choice((0.2, 0.6, 0.95)), hides_pages(self.saving))
        free = [b for b in range(chip.blocks) if not 3 <= b < 5]
        for block in rng.sample(free, rng.randrange(6)):
            chip.record(block, bad=True)
        if rng.random() < 0.25:
            for _ in range(rng.randrange(1, 4)):
                chip.unreadable(rng.choice(free) * PAGES + rng.randrange(PAGES))
        chip.save(self.bench.flash_path)

    def check(self, truth, words):
        assert truth, words() if callable(words) else words

    def take(self):
        bench, kind = self.bench, self.rng.choice(("nand", "nand", "calibration"))
        bench.start("force_edl=yes", "family=devprg", *self.saving)
        job = bench.backup(bench.package, kind=kind)
        self.check(job.result == "done", lambda: job.words)
        bench.stop()
        b = backupfile.Backup(bench.saved)
        with bench.flashed() as f:
            wrong = b.difference(f)
        self.check(wrong is None, wrong)
        if self.rng.random() < 0.1:  # it is what the restore does first, too
            verified = file_job("verify", bench.directory, bench.saved)
            self.check(verified.result == "done", lambda: verified.words)
        return b, bench.saved

    def spoil(self, b):
        """What lies there when it is put back."""
        rng, chip = self.rng, self.chip
        with open(self.bench.flash_path, "rb") as f:
            chip.data[:] = f.read()
        for block in range(chip.blocks):
            if not 3 <= block < 5 and rng.random() < 0.6:
                chip.block(block, random_pages(rng, chip.page_size, 0.5, hides_pages(self.saving + self.putting_back)))
        precious = {x for n, p in b.parts.items() if is_physical(n) for x in used_blocks(p)}
        free = [x for x in range(chip.blocks) if not 3 <= x < 5 and (x not in precious or rng.random() < 0.03)]
        for block in rng.sample(free, rng.randrange(min(4, len(free)))):
            chip.record(block, bad=True)
        if rng.random() < 0.2:
            chip.unreadable(rng.choice(free) * PAGES + rng.randrange(PAGES))
        chip.save(self.bench.flash_path)

    def put_back(self, b, path):
        bench, rng = self.bench, self.rng
        names = [n for n in b.parts if rng.random() < 0.7] if rng.random() < 0.6 else list(b.parts)
        names = names or ["EFS2"]
        now = flashfile.Snapshot.load(bench.flash_path)
        bench.start("force_edl=yes", "family=devprg", *self.putting_back)
        job = bench.restore(path, bench.package, partitions=",".join(names), allow=",".join(PROBLEMS))
        impossible = impossible_error(b, now, names)
        bench.stop()
        if impossible:
            self.check(job.error == impossible, lambda: "%s instead of %s" % (job.words, impossible))
            with bench.flashed() as f:
                verdict = flashfile.compare_unchanged(f, now)
            self.check(verdict, lambda: "refused, and yet: %s" % verdict)
            return impossible
        self.check(job.result == "done", lambda: job.words)
        with bench.flashed() as f:
            wrong = expected_difference(b, f, names) or difference_outside(b, f, names, now)
        self.check(wrong is None, wrong)
        saved = backupfile.Backup(bench.saved) if job.backups else None
        covered = {x for p in saved.parts.values() for x in range(p.first, p.first + p.blocks)} if saved else None
        for n in names if saved else ():
            p = b.parts[n]
            self.check(covered >= set(range(p.first, p.first + p.blocks)), "%s was not saved before it was written" % n)
        return "done"

    def always_true(self):
        """Nothing that no host may make a modem do. A block that is bad to the programmer is no range; one that is asked alone
        whether it is bad may be out of good blocks."""
        for path in self.bench.traces:
            with open(path, errors="replace") as f:
                text = f.read()
            bad = [v for v in text.splitlines() if "VIOLATION" in v and "program of erased" not in v and "out of good blocks" not in v]
            self.check(not bad, lambda: bad)
            for number, attributes in re.findall(r"command (\d+) (?:erase|program) (.*)", text):
                c = {k: int(v) for k, v in re.findall(r'(\w+)="(\d+)"', attributes)}
                start, count = c["start_sector"], c["num_partition_sectors"]
                self.check(start % PAGES == 0 and 0 < count <= PAGES and c["last_sector"] == start + PAGES - 1,
                           lambda: "command %s: %s" % (number, attributes))

    def run(self):
        self.make_chip()
        b, path = self.take()
        self.spoil(b)
        what = self.put_back(b, path)
        self.always_true()
        for name in os.listdir(self.bench.directory):
            if name.startswith(("trace.", "saved.")):
                os.unlink(os.path.join(self.bench.directory, name))
        return what


def make_templates(directory):
    """A blank flash of each geometry."""
    made = {}
    for geometry, blocks in (("p2K_b128K", 34), ("p4K_b256K", 32)):
        bench = Bench(directory, None)
        bench.flash_path = os.path.join(directory, geometry)
        bench.make_flash("initial=blank", "geometry=" + geometry, blocks=blocks)
        made[geometry] = Chip(bench.flash_path, blocks)
        made[geometry].blank = bytes(made[geometry].data)
    return made


def run_cases(seeds, report, directory):
    templates = make_templates(directory)
    package = Package(directory, ["--small", "--tiny-chip"])
    for seed in seeds:
        report.begin(seed)
        own = os.path.join(directory, "case")
        os.makedirs(own, exist_ok=True)
        bench = Bench(own, None)
        bench.package = package
        try:
            report.done(Case(seed, bench, templates).run())
        finally:
            bench.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args()
    end = time.monotonic() + options.seconds if options.seconds else None
    first = random.SystemRandom().randrange(10 ** 6, 10 ** 9) if end else options.first

    def seeds(number, jobs):
        seed = first + number
        while (time.monotonic() < end) if end else seed < first + options.cases:
            yield seed
            seed += jobs

    def work(number, jobs, report):
        shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="qdld-round-trips.", dir=shm) as directory:
            run_cases(seeds(number, jobs), report, directory)
    return run_pool("round trips", work, 1 if options.cases == 1 else None, "round-trips.py --cases 1 --first",
                    lambda came_to: came_to["done"] > sum(came_to.values()) / 2)


if __name__ == "__main__":
    sys.exit(main())
