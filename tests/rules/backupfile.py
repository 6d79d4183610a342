# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a backup with nothing of the daemon's: tar, JSON and hashlib; and holds it against a flash file."""
import hashlib
import json
import tarfile

import flash as flashfile


def numbers(text):
    """"0-3 7" as a set."""
    found = set()
    for item in text.split():
        first, _, last = item.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


class Part:
    def __init__(self, entry, image, pages_per_block, page_size):
        self.name, self.first, self.blocks = entry["name"], entry["first_block"], entry["blocks"]
        self.bad = numbers(entry["bad_blocks"])
        self.erased, self.unreadable = numbers(entry["erased_pages"]), numbers(entry["unreadable_pages"])
        self.image, self.pages_per_block, self.page_size = image, pages_per_block, page_size

    def page(self, block, index):
        """State and content of a page."""
        number = (block - self.first) * self.pages_per_block + index
        if number in self.erased:
            return flashfile.ERASED, None
        if number in self.unreadable:
            return flashfile.UNREADABLE, None
        good = sum(b not in self.bad for b in range(self.first, block))
        at = (good * self.pages_per_block + index) * self.page_size
        return flashfile.WRITTEN, self.image[at:at + self.page_size]


class Backup:
    def __init__(self, path):
        with tarfile.open(path) as tar:
            self.members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
        for line in self.members["SHA256SUMS"].decode().splitlines():
            digest, name = line.split("  ")
            assert hashlib.sha256(self.members[name]).hexdigest() == digest, name
        self.manifest = json.loads(self.members["manifest.json"])
        self.id = hashlib.sha256(self.members["manifest.json"]).hexdigest()[:32]
        self.parts = {}
        for entry in self.manifest["partitions"]:
            image = self.members[entry["file"]]
            assert len(image) == entry["size"] and hashlib.sha256(image).hexdigest() == entry["sha256"]
            self.parts[entry["name"]] = Part(entry, image, self.manifest["pages_per_block"], self.manifest["page_size"])

    @property
    def state(self):
        return self.manifest["state"]

    def difference(self, flash):
        """None, or the first page that is not as the flash (or the snapshot) has it. A page of nothing but 0xFF (or of the
        fill) is an erased one to everybody."""
        for p in self.parts.values():
            for block in range(p.first, p.first + p.blocks):
                if flash.is_bad(block) != (block in p.bad):
                    return "%s: block %d is %s in the backup" % (p.name, block, "bad" if block in p.bad else "good")
                for i in range(p.pages_per_block if block not in p.bad else 0):
                    state, data = p.page(block, i)
                    number = block * p.pages_per_block + i
                    really = flash.state(number)
                    if state != really and not (really == flashfile.WRITTEN and state == flashfile.ERASED and
                                                len(set(flash.page(number))) == 1):
                        return "%s: page %d of block %d is %d and not %d" % (p.name, i, block, state, really)
                    if state == flashfile.WRITTEN and data != flash.page(number):
                        return "%s: page %d of block %d differs" % (p.name, i, block)
        return None
