#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads the flash file of a virtual modem (its format stands in nand.h and README.md) and judges it.

  flash.py FLASH                             what lies in each partition
  flash.py FLASH --dump modem FILE           a partition's good blocks; erased pages as 0xFF
  flash.py FLASH --snapshot FILE             remembers all of it in a small file
  flash.py FLASH --before FILE --package DIR is it what flashing this package onto that must give? (exit 0 or 1)
  flash.py FLASH --before FILE               is it unchanged?

FILE of --before is a snapshot or another flash file. Importable: Flash, Snapshot, compare_package, compare_unchanged.
"""

import argparse
import dataclasses
import fnmatch
import functools
import hashlib
import json
import mmap
import os
import struct
import sys
import xml.etree.ElementTree as ElementTree

ERASED, WRITTEN, UNREADABLE = 0, 1, 2
STATE_NAMES = {ERASED: "erased", WRITTEN: "written", UNREADABLE: "unreadable"}
BAD, INCOMPLETE = 1, 2

HEADER = struct.Struct("<8sIIIIQQQ")
MAGIC = b"QVMNAND1"
RECORD = struct.Struct("<BBHI")

MIBIB_SCAN_BLOCKS = 21
MIBIB_HEADER = struct.pack("<II", 0xFE569FAC, 0xCD7F127A)
MIBIB_TABLE = struct.pack("<II", 0x55EE73AA, 0xE35EBDDB)
MIBIB_CRC = struct.pack("<II", 0x9D41BEA1, 0xF1DED2EA)
GROWS = 0xFFFFFFFF

# What every modem here starts with, for a chip whose table is gone: name, first block, blocks (0: to the end).
LAYOUT = [
    ("SBL", 0, 10), ("MIBIB", 10, 10), ("EFS2", 20, 44), ("sys_rev", 64, 8), ("RAWDATA", 72, 5), ("TZ", 77, 10),
    ("sec", 87, 4), ("cust_info", 91, 6), ("boot", 97, 60), ("recovery", 157, 60), ("modem", 217, 440), ("misc", 657, 5),
    ("recoveryfs", 662, 160), ("usrdata", 822, 400), ("system", 1222, 0),
]
LAYOUT_SMALL = LAYOUT[:8] + [
    ("boot", 97, 6), ("recovery", 103, 6), ("modem", 109, 24), ("misc", 133, 5), ("recoveryfs", 138, 16),
    ("usrdata", 154, 16), ("system", 170, 0),
]
LAYOUT_TINY = [
    ("SBL", 0, 3), ("MIBIB", 3, 2), ("EFS2", 5, 1), ("sys_rev", 6, 1), ("RAWDATA", 7, 1), ("TZ", 8, 3), ("sec", 11, 2),
    ("cust_info", 13, 1), ("system", 14, 0),
]
LAYOUT_BLOCKS_FULL, LAYOUT_BLOCKS_SMALL = 1232, 192
UNIT_DATA = ("EFS2", "RAWDATA", "sys_rev", "cust_info")


@dataclasses.dataclass
class Partition:
    name: str
    first: int
    blocks: int

    def __contains__(self, block):
        return self.first <= block < self.first + self.blocks


@dataclasses.dataclass
class Verdict:
    """ok, or the first difference; notes are what a reader wants to know besides."""
    ok: bool
    message: str
    notes: list = dataclasses.field(default_factory=list)

    def __bool__(self):
        return self.ok

    def __str__(self):
        return "\n".join([("as expected: " if self.ok else "DIFFERENT: ") + self.message] + ["note: " + n for n in self.notes])


@functools.lru_cache(maxsize=16)  # the same table is asked for again and again
def mibib_crc(data):
    """Polynomial 0x04C11DB7, start 0, not reflected, no final xor."""
    crc = 0
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc


def parse_table(page, blocks):
    """Partitions of a MIBIB system table; names without "0:"."""
    if page[:8] != MIBIB_TABLE:
        return None
    result = []
    count, = struct.unpack_from("<I", page, 12)
    if count > (len(page) - 16) // 28:
        return None
    for i in range(count):
        name, first, count = struct.unpack_from("<16sII", page, 16 + 28 * i)
        name = name.split(b"\0")[0].decode(errors="replace").removeprefix("0:")
        result.append(Partition(name, first, blocks - first if count == GROWS else count))
    return result


def default_layout(blocks):
    table = LAYOUT if blocks >= LAYOUT_BLOCKS_FULL else LAYOUT_SMALL if blocks >= LAYOUT_BLOCKS_SMALL else LAYOUT_TINY
    return [Partition(n, f, c or blocks - f) for n, f, c in table]


class Flash:
    """A flash file, read only; it may be in use by a modem."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.map = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        magic, self.page_size, self.pages_per_block, self.blocks, _, states, records, self.data_offset = \
            HEADER.unpack_from(self.map)
        if magic != MAGIC:
            raise ValueError(f"{path}: not a flash file")
        self.pages = self.blocks * self.pages_per_block
        self.states_offset, self.records_offset = states, records

    def close(self):
        self.map.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- pages and blocks ----
    def state(self, page):
        return self.map[self.states_offset + page]

    def states(self, block):
        at = self.states_offset + block * self.pages_per_block
        return self.map[at:at + self.pages_per_block]

    def page(self, page):
        """The bytes of a page; None unless it is written."""
        if self.state(page) != WRITTEN:
            return None
        at = self.data_offset + page * self.page_size
        return self.map[at:at + self.page_size]

    def raw(self, block):
        """A block's states, and the bytes up to its last page that is not erased."""
        states = self.states(block)
        at = self.data_offset + block * self.pages_per_block * self.page_size
        return states, self.map[at:at + len(states.rstrip(b"\0")) * self.page_size]

    def record(self, block):
        """flags, next page, erase count"""
        flags, next_page, _, count = RECORD.unpack_from(self.map, self.records_offset + block * RECORD.size)
        return flags, next_page, count

    def is_bad(self, block):
        return bool(self.record(block)[0] & BAD)

    def is_incomplete(self, block):
        return bool(self.record(block)[0] & INCOMPLETE)

    def bad_blocks(self):
        return [b for b in range(self.blocks) if self.is_bad(b)]

    # ---- partitions ----
    def table(self):
        """The partition table on the chip: the whole copy with the highest age, or None."""
        best, best_age = None, -1
        for block in range(min(MIBIB_SCAN_BLOCKS, self.blocks)):
            first = block * self.pages_per_block
            header, table, check = (self.page(first + n) for n in (0, 1, 3))
            if self.is_bad(block) or None in (header, table, check) or header[:8] != MIBIB_HEADER or \
                    table[:8] != MIBIB_TABLE or check[:8] != MIBIB_CRC:
                continue
            age, = struct.unpack_from("<I", header, 12)
            if struct.unpack_from("<I", check, 12)[0] == mibib_crc(header + table) and age > best_age:
                best, best_age = parse_table(table, self.blocks), age
        return best

    def partitions(self):
        return self.table() or default_layout(self.blocks)

    def partition(self, name):
        for p in self.partitions():
            if p.name.lower() == name.lower():
                return p
        raise KeyError(name)

    def good_blocks(self, partition):
        return [b for b in range(partition.first, partition.first + partition.blocks) if not self.is_bad(b)]

    def content(self, name, fill=0xFF):
        """A partition's good blocks one after the other; pages that are not written as fill."""
        empty = bytes([fill]) * self.page_size
        out = bytearray()
        for block in self.good_blocks(self.partition(name)):
            for page in range(block * self.pages_per_block, (block + 1) * self.pages_per_block):
                data = self.page(page)
                out += empty if data is None else data
        return bytes(out)


class Snapshot:
    """What lay in a flash: per block its states and a digest of each written page."""

    def __init__(self, content):
        self.content = content
        self.kept = None

    @classmethod
    def of(cls, flash, keep=False):
        """keep: also the bytes, of a small flash that is compared often."""
        blocks = {}
        for b in range(flash.blocks):
            states = flash.states(b)
            if not any(states) and not flash.is_bad(b):
                continue
            first = b * flash.pages_per_block
            pages = [hashlib.blake2b(flash.page(first + i), digest_size=8).hexdigest() if s == WRITTEN else s
                     for i, s in enumerate(states)]
            while pages and pages[-1] == ERASED:
                pages.pop()
            blocks[str(b)] = [flash.is_bad(b), pages]
        made = cls({"page_size": flash.page_size, "pages_per_block": flash.pages_per_block, "blocks": flash.blocks,
                    "content": blocks, "table": [dataclasses.astuple(p) for p in flash.partitions()]})
        if keep:
            made.kept = [flash.raw(b) for b in range(flash.blocks)]
        return made

    @classmethod
    def load(cls, path):
        """A snapshot or a flash file."""
        with open(path, "rb") as f:
            if f.read(len(MAGIC)) != MAGIC:
                f.seek(0)
                return cls(json.load(f))
        with Flash(path) as flash:
            return cls.of(flash)

    def save(self, path):
        with open(path, "w") as f:
            json.dump(self.content, f)

    def is_bad(self, block):
        return self.content["content"].get(str(block), [False])[0]

    def is_written(self, block):
        return bool(self.content["content"].get(str(block), [False, []])[1])

    def page(self, block, index):
        """A digest, or ERASED or UNREADABLE."""
        pages = self.content["content"].get(str(block), [False, []])[1]
        return pages[index] if index < len(pages) else ERASED

    def partitions(self):
        return [Partition(*p) for p in self.content["table"]]


# ---- comparison ----

def where(partitions, block, page_in_block):
    for p in partitions:
        if block in p:
            return f"{p.name} (block {block}, page {page_in_block})"
    return f"block {block}, page {page_in_block}"


def unchanged_block(flash, before, block, partitions):
    """None, or how this block differs from what it was."""
    if before.kept and flash.raw(block) == before.kept[block]:
        return None
    states = flash.states(block)
    if not any(states) and not before.is_written(block):
        return None
    for i in range(flash.pages_per_block):
        was = before.page(block, i)
        if states[i] == WRITTEN:
            now = hashlib.blake2b(flash.page(block * flash.pages_per_block + i), digest_size=8).hexdigest()
        else:
            now = states[i]
        if now != was:
            text = [STATE_NAMES[x] if isinstance(x, int) else "written" for x in (was, now)]
            if text[0] == text[1]:
                text[1] += " otherwise"
            return f"{where(partitions, block, i)} was {text[0]} and is {text[1]}"
    return None


def new_bad_blocks(flash, before):
    return [b for b in flash.bad_blocks() if not before.is_bad(b)]


def compare_unchanged(flash, before):
    """Nothing at all may have changed."""
    partitions = before.partitions()
    for b in new_bad_blocks(flash, before):
        return Verdict(False, f"{where(partitions, b, 0)} has gone bad")
    for b in range(flash.blocks):
        difference = unchanged_block(flash, before, b, partitions)
        if difference:
            return Verdict(False, difference)
    return Verdict(True, "unchanged")


@dataclasses.dataclass
class Area:
    """A range of blocks that a package erases, and the image that it writes there."""
    name: str
    first: int
    blocks: int
    file: str = None


def find_rawprogram(package):
    """The _update XML, else the only one."""
    found = []
    for directory, _, files in os.walk(package):
        found += [os.path.join(directory, f) for f in files if fnmatch.fnmatch(f, "rawprogram*.xml")]
    updates = [f for f in found if f.endswith("_update.xml")]
    if len(updates or found) != 1:
        raise ValueError(f"{package}: {len(updates or found)} rawprogram files")
    return (updates or found)[0]


def package_areas(package, flash):
    """What the rawprogram XML of a package directory covers, by first block."""
    path = find_rawprogram(package)
    areas = {}
    for tag in ElementTree.parse(path).getroot():
        if tag.tag not in ("erase", "program") or "vendor" in tag.attrib:
            continue
        if int(tag.get("SECTOR_SIZE_IN_BYTES")) != flash.page_size:
            raise ValueError(f"{path}: pages of {tag.get('SECTOR_SIZE_IN_BYTES')} for a chip of {flash.page_size}")
        first, rest = divmod(int(tag.get("start_sector")), flash.pages_per_block)
        if rest:
            raise ValueError(f"{path}: start_sector {tag.get('start_sector')} is not a block")
        blocks = -(-int(tag.get("num_partition_sectors")) // flash.pages_per_block)
        area = areas.setdefault(first, Area(f"blocks {first}+{blocks}", first, blocks))
        area.blocks = max(area.blocks, blocks)
        if tag.tag == "program":
            name = tag.get("filename").replace("\\", "/")
            area.file = os.path.normpath(os.path.join(os.path.dirname(path), name))
    return sorted(areas.values(), key=lambda a: a.first)


def compare_image(flash, area, partitions):
    """The image in the area's good blocks, page by page, and nothing behind it."""
    data = b""
    if area.file:
        with open(area.file, "rb") as f:
            data = f.read()
    size, position = flash.page_size, 0
    for block in range(area.first, area.first + area.blocks):
        if flash.is_bad(block):
            continue
        if flash.is_incomplete(block):
            return f"{where(partitions, block, 0)}: the program command did not come to its end"
        if position >= len(data) and not any(flash.states(block)):
            continue
        for i in range(flash.pages_per_block):
            state = flash.state(block * flash.pages_per_block + i)
            if position >= len(data):
                if state != ERASED:
                    return f"{where(partitions, block, i)} is {STATE_NAMES[state]} and must be erased"
                continue
            want = data[position:position + size]
            have = flash.page(block * flash.pages_per_block + i)
            if have is None:
                return f"{where(partitions, block, i)} is {STATE_NAMES[state]}, must have {os.path.basename(area.file)} " \
                       f"from byte {position}"
            if have[:len(want)] != want:
                at = next(k for k in range(len(want)) if have[k] != want[k])
                return f"{where(partitions, block, i)} differs from {os.path.basename(area.file)} at byte {position + at}"
            if len(set(have[len(want):])) > 1:
                return f"{where(partitions, block, i)}: padding behind {os.path.basename(area.file)} is not uniform"
            position += size
    if position < len(data):
        return f"{area.name}: {os.path.basename(area.file)} does not fit, {len(data) - position} bytes are missing"
    return None


def same_table(flash, area):
    """The MIBIB of the chip already says what the package's says (then it need not be written)."""
    with open(area.file, "rb") as f:
        wanted = parse_table(f.read()[flash.page_size:2 * flash.page_size], flash.blocks)
    return wanted is not None and wanted == flash.table()


def compare_package(flash, before, package):
    """Is the flash what flashing this package directory onto `before` must give: each image from the start of its
    partition over the good blocks, the rest of what the package covers erased, everything else unchanged."""
    areas = package_areas(package, flash)
    partitions = before.partitions()
    covered, notes = set(), []
    for area in areas:
        for p in partitions:
            if p.first == area.first:
                area.name = p.name
        blocks = range(area.first, area.first + area.blocks)
        covered.update(blocks)
        difference = compare_image(flash, area, partitions)
        if difference and area.name == "MIBIB" and area.file and same_table(flash, area) and \
                not any(unchanged_block(flash, before, b, partitions) for b in blocks):
            notes.append("MIBIB was left as it was: it says the same")
            difference = None
        if difference:
            return Verdict(False, difference, notes)
    for b in new_bad_blocks(flash, before):
        notes.append(f"{where(partitions, b, 0)} has gone bad")
    for b in range(flash.blocks):
        difference = None if b in covered else unchanged_block(flash, before, b, partitions)
        if difference:
            return Verdict(False, difference, notes)
    images = sum(1 for a in areas if a.file)
    return Verdict(True, f"{images} images in place, the rest of {len(areas)} ranges erased, all else unchanged", notes)


def report(flash):
    lines = [f"{flash.blocks} blocks of {flash.pages_per_block} pages of {flash.page_size} bytes, "
             f"table {'on the chip' if flash.table() else 'GONE'}, bad blocks: {flash.bad_blocks() or 'none'}"]
    for p in flash.partitions():
        states = b"".join(flash.states(b) for b in range(p.first, p.first + p.blocks))
        marks = " INCOMPLETE" if any(flash.is_incomplete(b) for b in range(p.first, p.first + p.blocks)) else ""
        lines.append(f"{p.name:<12} {p.first:>5}+{p.blocks:<5} {states.count(WRITTEN):>6} written "
                     f"{states.count(ERASED):>6} erased {states.count(UNREADABLE):>4} unreadable{marks}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description="Reads and judges the flash of a virtual modem.")
    parser.add_argument("flash")
    parser.add_argument("--before", help="a snapshot or flash file: how it was")
    parser.add_argument("--package", help="a package directory that was flashed")
    parser.add_argument("--snapshot", help="writes a snapshot")
    parser.add_argument("--dump", nargs=2, metavar=("PARTITION", "FILE"))
    options = parser.parse_args()
    with Flash(options.flash) as flash:
        if options.snapshot:
            Snapshot.of(flash).save(options.snapshot)
        elif options.dump:
            with open(options.dump[1], "wb") as f:
                f.write(flash.content(options.dump[0]))
        elif options.before:
            before = Snapshot.load(options.before)
            verdict = compare_package(flash, before, options.package) if options.package \
                else compare_unchanged(flash, before)
            print(verdict)
            return 0 if verdict else 1
        else:
            print(report(flash))
    return 0


if __name__ == "__main__":
    sys.exit(main())
