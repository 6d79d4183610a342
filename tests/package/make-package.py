#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes a firmware package in Quectel's real layout (reference/edl.md 3.4) for tests, the demo and rehearsals.

The content is invented but consistent: md5 list, partition table with CRC, patches that are already applied, erases behind
the programs and out of order, comments, some lines without physical_partition_number. The same options and --seed give the
same bytes.

  programmer   is an ELF32 with the segments of a real one and carries the literals of what it can do (--literals) and the line
               SIGNED-FOR=<first 8 bytes of the PK hash it is signed for>; a virtual modem with another hash refuses it.
  sbl1.mbn     begins with 0x844BDCD1 (reference/edl.md 2.8).
  version      the modem image and tz.mbn hold "QUECTEL_VERSION=<version name>\\0" at offset 64, sbl1.mbn does not: what the
               virtual modem reports after it has booted. --small has no modem image, there it is tz.mbn alone.

Partitions: tests/package/layout.py. See README.md beside this file for --break.
"""

import argparse
import hashlib
import os
import random
import struct
import sys

sys.dont_write_bytecode = sys.pycache_prefix is None
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import breaks
import layout
import pack

DEFAULT_VERSION = "RM502QGLAAR11A02M4G_01.001.01.001"
PK_HASH = "d9357db88795b5a8"
LITERALS = "skip_bad_block,last_sector,getsha256digest,c_project_name,PAGES_PER_BLOCK"
SBL_MAGIC = 0x844BDCD1
KIB, MIB = 1024, 1024 * 1024

# chip: (chipid in contents.xml, programmer, prefix of the images)
CHIPS = {
    "SDX55": ("SDX55", "prog_firehose_sdx55.mbn", "sdxprairie"),
    "SDX24": ("SDX24", "prog_firehose_sdx24.mbn", "sdxpoorwills"),
    "SDX62": ("SDX62", "prog_firehose_sdx6x.elf", "sdxlemur"),
    "MDM9x07": ("MDM9607", "prog_nand_firehose_9x07.mbn", "mdm9607"),
}

# image, partitions it is written to, share of what --size leaves, smallest size. The order is that of the XML.
def images(chip):
    hlos = CHIPS[chip][2]
    return [
        ("sbl1.mbn", ["SBL"], 0, 300 * KIB),
        ("tz.mbn", ["TZ"], 0, 200 * KIB),
        ("sec.dat", ["sec"], 0, 4 * KIB),
        (hlos + "-boot.img", ["boot", "recovery"], 8, 128 * KIB),
        ("NON-HLOS.ubi", ["modem"], 30, 256 * KIB),
        (hlos + "-recoveryfs.ubi", ["recoveryfs"], 12, 256 * KIB),
        ("usrdata.ubi", ["usrdata"], 10, 256 * KIB),
        (hlos + "-sysfs.ubi", ["system"], 40, 256 * KIB),
    ]


SMALL_IMAGES = [("sbl1.mbn", ["SBL"], 12 * KIB), ("tz.mbn", ["TZ"], 20 * KIB), ("sec.dat", ["sec"], 4 * KIB)]
SMALL_PROGRAMMER = 24 * KIB


def sizes(options):
    """[(file, partitions, bytes)] that add up to about --size, each within its partition."""
    if options.small:
        return [(name, partitions, options.image.get(name, size)) for name, partitions, size in SMALL_IMAGES]
    block = options.page_size * layout.PAGES_PER_BLOCK
    wanted = images(options.chip)
    rest = max(0, options.size - sum(least for _, _, _, least in wanted) - options.programmer_size)
    result = []
    for name, partitions, share, least in wanted:
        room = layout.blocks_of(partitions[0])[1] * block * 9 // 10
        size = min(room, least + rest * share // 100)
        # Not a multiple of a page: the last one is partly filled, as in real images.
        result.append((name, partitions, size if share == 0 else size - size % 512 - 188))
    return result


def noise(rng, size):
    """Cheap and hardly compressible: one random half MiB, repeated with a counter so that no two stretches are alike."""
    seed = rng.randbytes(min(size, 512 * KIB))
    out = bytearray()
    while len(out) < size:
        out += struct.pack("<Q", len(out)) + seed
    return out[:size]


def image(rng, name, size, version):
    data = noise(rng, size)
    if name == "sbl1.mbn":
        struct.pack_into("<I", data, 0, SBL_MAGIC)
    if name == "NON-HLOS.ubi" or name == "tz.mbn":
        mark = b"QUECTEL_VERSION=" + version.encode() + b"\0"
        data[64:64 + len(mark)] = mark
    if name.endswith(".ubi"):
        data[:4] = b"UBI#"
        # A few erased pages inside, as file systems have them.
        if size > 128 * KIB:
            data[96 * KIB:104 * KIB] = b"\xff" * (8 * KIB)
    return bytes(data)


def programmer(rng, options):
    """An ELF32 as the ROM reads it: header, program headers, hash segment at 0x1000, code from 0x3000 on; the literals are
    in the code, the gaps are never asked for."""
    head = bytearray(0x34)
    head[:7] = b"\x7fELF\x01\x01\x01"
    struct.pack_into("<HHIIIIIHHHHHH", head, 16, 2, 40, 1, 0x1000, len(head), 0, 0, len(head), 32, 3, 0, 0, 0)
    words = [w for w in options.literals.split(",") if w]
    text = b"\0" + b"".join(w.encode() + b"\0" for w in words) + b"\nSIGNED-FOR=" + options.signed_for.encode() + b"\n\0"
    headers_end = len(head) + 3 * 32
    segments = [(0, 0, headers_end), (0, 0x1000, 0x19d0), (1, 0x3000, options.programmer_size - 0x3000)]
    table = b"".join(struct.pack("<8I", kind, offset, 0, 0, size, size, 7, 0x1000) for kind, offset, size in segments)
    body = noise(rng, options.programmer_size - headers_end - len(text))
    middle = max(0x3000, len(body) // 2)
    return bytes(head) + table + bytes(body[:middle]) + text + bytes(body[middle:])


class Command:
    """One line of the rawprogram XML; breaks.py bends them."""

    def __init__(self, tag, page_size, start, count, filename=None):
        self.tag = tag
        self.attributes = {
            "PAGES_PER_BLOCK": str(layout.PAGES_PER_BLOCK), "SECTOR_SIZE_IN_BYTES": str(page_size),
        }
        if filename is not None:
            self.attributes["filename"] = filename
        self.attributes["num_partition_sectors"] = str(count)
        self.attributes["physical_partition_number"] = "0"
        self.attributes["start_sector"] = str(start)

    def text(self):
        return "  <%s %s/>" % (self.tag, " ".join('%s="%s"' % item for item in self.attributes.items()))


class Package:
    """Files by their path in the package, and the parts that the XML is printed from."""

    def __init__(self, options):
        self.options = options
        self.rng = random.Random(options.seed)
        self.files = {}
        self.commands = []
        self.patches = []
        self.rawprogram_name = "rawprogram_nand_%s_update.xml" % options.geometry
        self.rawprogram_text = None  # in place of the printed one
        self.md5_extra = ["FILE:\\upgrade\\targetfiles.zip:222EAA53A6C111E7F2E248587D6EA079"]
        self.md5_text = None
        self.extra_members = []  # what only an archive can hold, see pack.py

    def pages(self, partition):
        first, count = layout.blocks_of(partition)
        return first * layout.PAGES_PER_BLOCK, count * layout.PAGES_PER_BLOCK

    def add_command(self, tag, partition, filename=None):
        start, count = self.pages(partition)
        command = Command(tag, self.options.page_size, start, count, filename)
        self.commands.append(command)
        return command

    def command(self, tag, partition):
        start = str(self.pages(partition)[0])
        return next(c for c in self.commands if c.tag == tag and c.attributes.get("start_sector") == start)

    def build(self):
        o = self.options
        table = "partition_complete_%s.mbn" % o.geometry
        late = []
        for name, partitions, size in sizes(o):
            self.files["update/" + name] = image(self.rng, name, size, o.version)
            for p in partitions:
                self.add_command("program", p, "..\\" + name)
                if p in ("SBL", "TZ"):
                    late.insert(0, p)
                else:
                    self.add_command("erase", p)
            if name == "sbl1.mbn":
                self.add_command("program", "MIBIB", table)
                late.insert(0, "MIBIB")
        # As in real packages: the erases of the boot chain come last, and that of sector 0 is not the first of them.
        for p in late:
            self.add_command("erase", p)
        for name, _, _ in layout.PARTITIONS:
            for c in self.commands if name in ("boot", "recoveryfs") else []:
                if c.attributes["start_sector"] == str(self.pages(name)[0]):
                    c.attributes.pop("physical_partition_number")
        if o.no_sbl:
            self.commands = [c for c in self.commands if c.attributes["start_sector"] != "0"]
        if o.vendor_tag:
            self.add_vendor_tag(breaks.prefix_of(o.version))

        firehose = "update/firehose/"
        self.files[firehose + CHIPS[o.chip][1]] = programmer(self.rng, o)
        self.files[firehose + table] = layout.mibib(o.page_size, o.grow)
        for where, value in o.page or []:
            name, number = where
            data = bytearray(self.files["update/" + name])
            data[number * o.page_size:(number + 1) * o.page_size] = bytes([value]) * o.page_size
            self.files["update/" + name] = bytes(data)
        self.files["update/partition.mbn"] = layout.user_table()
        self.files["update/partition_nand.xml"] = self.partition_xml()
        self.files["contents.xml"] = self.contents_xml()
        system = layout.blocks_of("system")[0]
        entry = 16 + 28 * (len(layout.PARTITIONS) - 1) + 20
        if not o.grow:
            self.patches.append((entry, table, 4, 1, "NUM_DISK_BLOCKS-%d." % system,
                                 "Update MIBIB partition last sector size limit"))
        self.patches.append((12, table, 4, 3, "CRC32(0,%d)" % (2 * o.page_size),
                             "Update MIBIB partition with CRC of MIBIB header sector and Syster partition sector."))

    def set_attributes(self):
        """--attribute and --drop: the words of one line of the XML."""
        for (tag, partition, name), value in self.options.attribute or []:
            self.command(tag, partition).attributes[name] = value
        for tag, partition, name in self.options.drop or []:
            self.command(tag, partition).attributes.pop(name)

    def use_table(self, table):
        """Another partition table in the package's image, otherwise whole."""
        o = self.options
        self.files["update/firehose/partition_complete_%s.mbn" % o.geometry] = layout.mibib(o.page_size, partitions=table)
        self.patches = []

    def add_vendor_tag(self, project):
        start, count = self.pages("RAWDATA")
        c = Command("erase", self.options.page_size, 0, 0)
        c.attributes = {"vendor": "quectel", "a_rawdata_start_sector": str(start), "b_rawdata_num_sector": str(count),
                        "c_project_name": project, "d_project_type": "STD"}
        self.commands.insert(len(self.commands) // 2, c)

    def rawprogram_xml(self):
        if self.rawprogram_text is not None:
            return self.rawprogram_text
        page = self.options.page_size
        lines = ['<?xml version="1.0" ?>', "<data>", "  <!--NOTE: This is an ** Autogenerated file **-->",
                 "  <!--BlockSize = %d KB-->" % (page * layout.PAGES_PER_BLOCK // KIB),
                 "  <!--PageSize  = %d KB-->" % (page // KIB),
                 "  <!--NUM_PARTITION_SECTORS  = %d-->" % (layout.BLOCKS * layout.PAGES_PER_BLOCK)]
        lines += [c.text() for c in self.commands]
        return ("\n".join(lines + ["</data>", ""])).encode()

    def patch_xml(self):
        lines = ['<?xml version="1.0" ?>', "<patches>", "  <!--NOTE: This is an ** Autogenerated file **-->"]
        for offset, name, size, sector, value, what in self.patches:
            lines.append('  <patch SECTOR_SIZE_IN_BYTES="%d" byte_offset="%d" filename="%s" physical_partition_number="0" '
                         'size_in_bytes="%d" start_sector="%s" value="%s" what="%s"/>'
                         % (self.options.page_size, offset, name, size, sector, value, what))
        return "\n".join(lines + ["</patches>", ""]).encode()

    def partition_xml(self):
        lines = ['<?xml version="1.0" encoding="utf-8"?>', "<nandboot>", "\t<partitions>"]
        for name, _, count in layout.PARTITIONS:
            size = "0xFFFFFFFF" if count is None else hex(count)
            lines += ["\t\t<partition>", '\t\t\t<name length="16" type="string">0:%s</name>' % name,
                      '\t\t\t<size_blks length="4">%s</size_blks>' % size, "\t\t</partition>"]
        return "\n".join(lines + ["\t</partitions>", "</nandboot>", ""]).encode()

    def contents_xml(self):
        o = self.options
        return ('<?xml version="1.0" encoding="utf-8"?>\n<contents>\n  <product_info>\n    <product_name>%s</product_name>\n'
                '    <chipid>%s</chipid>\n  </product_info>\n</contents>\n'
                % (breaks.prefix_of(o.version), CHIPS[o.chip][0])).encode()

    def finish(self):
        """Prints what depends on everything else: the XML, then the md5 list over all of it."""
        firehose = "update/firehose/"
        self.files[firehose + self.rawprogram_name] = self.rawprogram_xml()
        self.files[firehose + "patch_%s.xml" % self.options.geometry] = self.patch_xml()
        lines = ["VERSION:1.0", "FILE:START"]
        for path in sorted(self.files, key=str.lower):
            digest = hashlib.md5(self.files[path]).hexdigest().upper()
            lines.append("FILE:\\" + path.replace("/", "\\") + ":" + digest)
        lines += self.md5_extra + ["FILE:END", ""]
        self.files["md5.txt"] = self.md5_text if self.md5_text is not None else "\r\n".join(lines).encode()


def attribute_argument(text):
    where, value = text.split("=", 1)
    return tuple(where.split(":")), value


def page_argument(text):
    where, value = text.split("=")
    name, number = where.split(":")
    return (name, int(number)), int(value, 16)


def size_argument(text):
    factor = {"K": KIB, "M": MIB, "G": 1024 * MIB}.get(text[-1:].upper())
    return int(text[:-1]) * factor if factor else int(text)


def image_argument(text):
    name, _, size = text.partition("=")
    return name, size_argument(size)


def main():
    parser = argparse.ArgumentParser(description="Makes a firmware package in Quectel's layout.")
    parser.add_argument("--version", default=DEFAULT_VERSION, help="version name (default %(default)s)")
    parser.add_argument("--out", required=True, help="a directory, or a file ending in .zip .7z .tar .tar.gz .tar.xz .tar.zst")
    parser.add_argument("--size", type=size_argument, default=8 * MIB, help="bytes of the images together (K, M, G)")
    parser.add_argument("--geometry", choices=sorted(layout.GEOMETRIES), default=None)
    parser.add_argument("--chip", choices=sorted(CHIPS), default="SDX55")
    parser.add_argument("--vendor-tag", action="store_true", help="with the vendor's project check (2.7)")
    parser.add_argument("--small", action="store_true", help="few partitions, few bytes: for the enumeration of faults")
    parser.add_argument("--image", action="append", type=image_argument, default=[], metavar="FILE=SIZE",
                        help="another size for an image of --small")
    parser.add_argument("--tiny-chip", action="store_true", help="for a chip of 16 blocks instead of 2048")
    parser.add_argument("--grow", action="store_true", help="the last partition keeps its length 0xFFFFFFFF")
    parser.add_argument("--no-sbl", action="store_true", help="no image and no erase for sector 0")
    parser.add_argument("--flat", action="store_true", help="an archive without a top directory")
    parser.add_argument("--literals", default=LITERALS, help="what the programmer says it can (default %(default)s)")
    parser.add_argument("--signed-for", default=PK_HASH, help="first 8 bytes of the PK hash (default %(default)s)")
    parser.add_argument("--programmer-size", type=size_argument, default=None)
    parser.add_argument("--attribute", action="append", type=attribute_argument, metavar="TAG:PARTITION:NAME=VALUE",
                        help="an attribute of one line of the XML, in XML's own spelling; may be repeated")
    parser.add_argument("--drop", action="append", type=lambda t: t.split(":"), metavar="TAG:PARTITION:NAME",
                        help="a line of the XML without one of its attributes")
    parser.add_argument("--page", action="append", type=page_argument, metavar="FILE:N=HH",
                        help="page N of an image holds nothing but the byte HH")
    parser.add_argument("--break", dest="kind", default=None, metavar="KIND", help="one of: " + ", ".join(breaks.names()))
    parser.add_argument("--bomb-size", type=size_argument, default=10 * 1024 * MIB)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.image = dict(options.image)
    options.geometry = options.geometry or ("p2K_b128K" if options.chip == "MDM9x07" else "p4K_b256K")
    options.page_size = layout.GEOMETRIES[options.geometry]
    if options.programmer_size is None:
        options.programmer_size = SMALL_PROGRAMMER if options.small else 320 * KIB
    if options.kind is not None and options.kind not in breaks.names():
        parser.error("--break: one of " + ", ".join(breaks.names()))

    if options.tiny_chip:
        layout.use_tiny()
    package = Package(options)
    package.build()
    if options.kind:
        breaks.before(package, options.kind)
    package.set_attributes()
    package.finish()
    if options.kind:
        breaks.after(package, options.kind)
    top = "" if options.flat else options.version
    pack.write(package, options.out, top)
    if options.kind:
        breaks.on_archive(package, options.kind, options.out)


def each():
    """A package for each line of stdin, its arguments separated by tabs; a line on stdout for each that is made."""
    for line in sys.stdin:
        sys.argv[1:] = line.rstrip("\n").split("\t")
        main()
        os.write(1, b"made\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--each"]:
        each()
    else:
        main()
