# SPDX-License-Identifier: LGPL-2.1-or-later
"""Broken packages, one function a kind, each with a line on what a reader must say about it.

A break bends the package before its XML and md5 list are printed (so that only this one thing is wrong), or after that, or
the finished archive. names() lists them; the tables below are the only place that knows them.
"""

import os
import re
import struct
import zlib

import layout
import pack

BOMB_BLOCK = 1024 * 1024


def prefix_of(version):
    found = re.match(r"([A-Z0-9]+)R\d\dA\d\d", version)
    return found.group(1) if found else version[:10]


# ---- before the XML and the md5 list are printed ----

def missing_image(p):
    """An image that the XML names is not there."""
    del p.files["update/tz.mbn"]


def truncated_image(p):
    """An empty image."""
    p.files["update/tz.mbn"] = b""


def xml_bomb(p):
    """Entities that expand to gigabytes."""
    entities = "".join('<!ENTITY e%d "%s">' % (i, "&e%d;" % (i - 1) * 10) for i in range(1, 12))
    p.rawprogram_text = ('<?xml version="1.0"?><!DOCTYPE data [<!ENTITY e0 "lol">%s]><data><program label="&e11;"/></data>'
                         % entities).encode()


def external_entity(p):
    """An entity that names a file of the machine."""
    p.rawprogram_text = (b'<?xml version="1.0"?><!DOCTYPE data [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
                         b'<data>&x;</data>')


def not_xml(p):
    """XML that ends in the middle."""
    p.rawprogram_text = p.rawprogram_xml()[:-300]


def negative(p):
    """A negative start."""
    p.command("program", "TZ").attributes["start_sector"] = "-64"


def overflow(p):
    """A count beyond 64 bits."""
    p.command("erase", "TZ").attributes["num_partition_sectors"] = "18446744073709551680"


def wrap(p):
    """start + count that wraps around 64 bits."""
    p.command("erase", "TZ").attributes["num_partition_sectors"] = "18446744073709551552"


def expression(p):
    """A start that is an expression, as disks have them."""
    p.command("program", "TZ").attributes["start_sector"] = "NUM_DISK_SECTORS-33."


def image_too_large(p):
    """An image larger than its partition."""
    room = layout.blocks_of("sec")[1] * layout.PAGES_PER_BLOCK * p.options.page_size
    p.files["update/sec.dat"] = b"\x5a" * (room + 1)


def overlap(p):
    """Two programs that overlap."""
    start = p.pages("TZ")[0] + layout.PAGES_PER_BLOCK
    p.command("program", "sec").attributes["start_sector"] = str(start)


def unaligned(p):
    """An erase that begins inside a block."""
    p.command("erase", "TZ").attributes["start_sector"] = str(p.pages("TZ")[0] + 1)


def straddle(p):
    """An erase that reaches into the next partition."""
    count = p.pages("sec")[1] + p.pages("cust_info")[1]
    p.command("erase", "sec").attributes["num_partition_sectors"] = str(count)


def beyond_chip(p):
    """A range behind the end of the chip."""
    c = p.add_command("erase", "misc")
    c.attributes["start_sector"] = str((layout.BLOCKS + 8) * layout.PAGES_PER_BLOCK)


def no_programmer(p):
    """No programmer."""
    for path in [x for x in p.files if "/prog_" in x]:
        del p.files[path]


def two_programmers(p):
    """Two programmers for the same chip."""
    path = next(x for x in p.files if "/prog_" in x)
    stem, ending = os.path.splitext(path)
    p.files[stem + "_b" + ending] = p.files[path]


def erase_no_range(p):
    """An erase without start and count: to a programmer that is the whole chip."""
    c = p.command("erase", "sec")
    c.attributes.pop("start_sector")
    c.attributes.pop("num_partition_sectors")


def erase_no_sector_size(p):
    """An erase without its sector size: to a programmer that is the whole chip, too."""
    p.command("erase", "sec").attributes.pop("SECTOR_SIZE_IN_BYTES")


def efs2(p):
    """An update that erases the calibration."""
    p.add_command("erase", "EFS2")


def factory(p):
    """Only a factory XML: it erases EFS2 and writes cefs.mbn."""
    p.rawprogram_name = p.rawprogram_name.replace("_update", "_factory")
    p.files["update/cefs.mbn"] = b"\x11" * 8192
    p.add_command("erase", "EFS2")
    p.add_command("program", "EFS2", "..\\cefs.mbn")


def disk_patch(p):
    """A patch that aims at the disk."""
    p.patches.append((0, "DISK", 4, "0", "1", "Patch the disk"))


def unpatched(p):
    """A partition table that still lacks what the patch would give."""
    path = "update/firehose/partition_complete_%s.mbn" % p.options.geometry
    p.files[path] = layout.mibib(p.options.page_size, grows=True)


def bad_table_crc(p):
    """A partition table whose CRC is wrong."""
    path = "update/firehose/partition_complete_%s.mbn" % p.options.geometry
    data = bytearray(p.files[path])
    struct.pack_into("<I", data, 3 * p.options.page_size + 12, 0x12345678)
    p.files[path] = bytes(data)
    p.patches = []


def moved_efs2(p):
    """A partition table that puts EFS2 elsewhere."""
    table = [(n, f + 2, c - 2) if n == "EFS2" else (n, f, c + 2) if n == "MIBIB" else (n, f, c)
             for n, f, c in layout.PARTITIONS]
    path = "update/firehose/partition_complete_%s.mbn" % p.options.geometry
    p.files[path] = layout.mibib(p.options.page_size, partitions=table)


def renamed(p, name):
    """A table that calls the place of a partition otherwise, and an erase of it: only the modem knows better."""
    p.use_table([("data" if n == name else n, f, c) for n, f, c in layout.PARTITIONS])
    p.add_command("erase", name)


def renamed_efs2(p):
    """A table that calls EFS2 otherwise, and an erase of it."""
    renamed(p, "EFS2")


def renamed_rawdata(p):
    """A table that calls RAWDATA otherwise, and an erase of it."""
    renamed(p, "RAWDATA")


def renamed_sys_rev(p):
    """A table that calls sys_rev otherwise, and an erase of it."""
    renamed(p, "sys_rev")


def renamed_cust_info(p):
    """A table that calls cust_info otherwise, and an erase of it."""
    renamed(p, "cust_info")


def without_efs2(p):
    """A partition table that does not have EFS2 any more."""
    p.use_table([("filler" if n == "EFS2" else n, f, c) for n, f, c in layout.PARTITIONS])


def cut_efs2(p):
    """A partition table that cuts through EFS2: its end becomes another partition."""
    p.use_table([x for n, f, c in layout.PARTITIONS for x in ([(n, f, c - 4), ("spare", f + c - 4, 4)] if n == "EFS2" else [(n, f, c)])])


def other_table(p):
    """No fault: a partition table that is not the modem's (usrdata gives blocks to recoveryfs)."""
    p.use_table([(n, f, c + 10) if n == "recoveryfs" else (n, f + 10, c - 10) if n == "usrdata" else (n, f, c)
                 for n, f, c in layout.PARTITIONS])


def no_table(p):
    """No fault: a package that writes no partition table (and has none)."""
    del p.files["update/firehose/partition_complete_%s.mbn" % p.options.geometry]
    p.commands = [c for c in p.commands if c.attributes.get("start_sector") != str(p.pages("MIBIB")[0])]
    p.patches = []


def nameless_table(p):
    """No fault: a partition image whose name does not say so."""
    p.files["update/firehose/table.mbn"] = p.files.pop("update/firehose/partition_complete_%s.mbn" % p.options.geometry)
    p.command("program", "MIBIB").attributes["filename"] = "table.mbn"
    p.patches = []


def nameless_moved_efs2(p):
    """The same, and it puts EFS2 where usrdata was."""
    places = {"EFS2": layout.blocks_of("usrdata"), "usrdata": layout.blocks_of("EFS2")}
    p.use_table([(n,) + places.get(n, (f, c)) for n, f, c in layout.PARTITIONS])
    nameless_table(p)


def table_without_crc(p):
    """A partition table without its CRC page."""
    nameless_table(p)
    p.files["update/firehose/table.mbn"] = p.files["update/firehose/table.mbn"][:3 * p.options.page_size]


def two_tables(p):
    """A second partition table, where misc is."""
    p.files["update/misc.img"] = layout.mibib(p.options.page_size, age=9)
    p.add_command("erase", "misc")
    p.add_command("program", "misc", "..\\misc.img")


def table_elsewhere(p):
    """The partition table goes to misc as well."""
    p.add_command("erase", "misc")
    p.add_command("program", "misc", p.command("program", "MIBIB").attributes["filename"])


def not_a_table(p):
    """What is written to MIBIB is no partition table, and the package has none: only the modem knows what lies there."""
    nameless_table(p)
    p.files["update/firehose/table.mbn"] = b"\x5a" * 4 * p.options.page_size


def mibib_erase_only(p):
    """An erase of the partition table and no image for it."""
    p.commands.remove(p.command("program", "MIBIB"))
    p.use_table(layout.PARTITIONS)


def sbl_erase_only(p):
    """An erase of sector 0 and no image for it."""
    p.commands.remove(p.command("program", "SBL"))


def sbl_tail_erase(p):
    """No image for sector 0, and an erase of SBL from its second block on."""
    p.commands = [c for c in p.commands if c.attributes.get("start_sector") != "0"]
    c = p.add_command("erase", "SBL")
    c.attributes["start_sector"] = str(layout.PAGES_PER_BLOCK)
    c.attributes["num_partition_sectors"] = str(9 * layout.PAGES_PER_BLOCK)


def sbl_tail_write(p):
    """No image for sector 0, and one for the second block of SBL."""
    sbl_tail_erase(p)
    c = p.add_command("program", "SBL", "..\\sbl1.mbn")
    c.attributes["start_sector"] = str(layout.PAGES_PER_BLOCK)
    c.attributes["num_partition_sectors"] = str(layout.PAGES_PER_BLOCK)


def sbl_in_the_middle(p):
    """sbl_tail_erase without a partition table: only the modem knows what lies there."""
    sbl_tail_erase(p)
    no_table(p)


def update_and_factory(p):
    """No fault: a factory XML that erases EFS2 lies beside the update XML."""
    page = p.options.page_size
    start, count = p.pages("EFS2")
    p.files["update/firehose/rawprogram_nand_%s_factory.xml" % p.options.geometry] = (
        '<?xml version="1.0" ?><data><erase SECTOR_SIZE_IN_BYTES="%d" num_partition_sectors="%d" start_sector="%d"/></data>'
        % (page, count, start)).encode()


def two_rawprograms(p):
    """Two update XMLs."""
    p.files["update/firehose/rawprogram_nand_%s_b_update.xml" % p.options.geometry] = p.rawprogram_xml()


def no_rawprogram(p):
    """No rawprogram XML."""
    p.rawprogram_name = "notes.xml"


def no_geometry(p):
    """File names that do not tell page and block."""
    p.rawprogram_name = "rawprogram_nand_update.xml"
    old = "partition_complete_%s.mbn" % p.options.geometry
    p.files["update/firehose/partition_complete.mbn"] = p.files.pop("update/firehose/" + old)
    p.command("program", "MIBIB").attributes["filename"] = "partition_complete.mbn"
    p.patches = []


def empty_project(p):
    """No fault: a vendor check that names no project."""
    p.add_vendor_tag("")


def hostile_project(p):
    """A project name that would end its attribute."""
    p.add_vendor_tag("RM502QGLAA&quot; start_sector=&quot;x")


def other_vendor(p):
    """A vendor command of somebody else."""
    p.add_vendor_tag(prefix_of(p.options.version))
    next(c for c in p.commands if "vendor" in c.attributes).attributes["vendor"] = "nobody"


def unknown_command(p):
    """A command that no NAND package has."""
    p.add_command("erase", "misc").tag = "poke"


def geometry_disagrees(p):
    """A sector size that is not that of the file's name."""
    p.command("program", "TZ").attributes["SECTOR_SIZE_IN_BYTES"] = "512"


def project_disagrees(p):
    """A vendor check for another model."""
    p.add_vendor_tag("RM520NGLAA")


def traversal(p):
    """A filename that leaves the package."""
    p.command("program", "TZ").attributes["filename"] = "..\\..\\..\\etc\\shadow"


def md5_garbage(p):
    """An md5 list with lines that are none."""
    p.md5_text = b"VERSION:1.0\r\nFILE:START\r\nthis is no entry\r\n"


# ---- behind the md5 list ----

def after_wrong_md5(p):
    """An image with one other byte."""
    data = bytearray(p.files["update/tz.mbn"])
    data[len(data) // 2] ^= 1
    p.files["update/tz.mbn"] = bytes(data)


def after_half_md5(p):
    """A digest whose first half is right."""
    text = p.files["md5.txt"].decode()
    found = re.search(r"tz\.mbn:([0-9A-F]{32})", text).group(1)
    p.files["md5.txt"] = text.replace(found, found[:16] + "0" * 16).encode()


def after_md5_missing(p):
    """An image that the md5 list does not know."""
    lines = p.files["md5.txt"].decode().split("\r\n")
    p.files["md5.txt"] = "\r\n".join(x for x in lines if "tz.mbn" not in x).encode()


def after_no_md5(p):
    """No md5 list."""
    del p.files["md5.txt"]


def after_parent_name(p):
    """A member whose name climbs out."""
    p.extra_members.append((pack.FILE, "../../etc/cron.d/evil", b"evil"))


def after_absolute_name(p):
    """A member with an absolute name."""
    p.extra_members.append((pack.FILE, "/etc/cron.d/evil", b"evil"))


def after_drive_name(p):
    """A member with a drive letter."""
    p.extra_members.append((pack.FILE, "C:\\windows\\evil.dll", b"evil"))


def after_control_name(p):
    """A member with control characters in its name."""
    p.extra_members.append((pack.FILE, "evil\x1b[2Jname", b"evil"))


def after_long_name(p):
    """A member with a component of 300 letters."""
    p.extra_members.append((pack.FILE, "update/" + "n" * 300, b"evil"))


def after_duplicate(p):
    """Two members with one name."""
    top = "" if p.options.flat else p.options.version + "/"
    p.extra_members.append((pack.FILE, top + "update/tz.mbn", b"evil"))


def after_symlink(p):
    """A symbolic link."""
    p.extra_members.append((pack.SYMLINK, "link", "/etc/passwd"))


def after_hardlink(p):
    """A hard link (tar only)."""
    top = "" if p.options.flat else p.options.version + "/"
    p.extra_members.append((pack.HARDLINK, top + "update/again.mbn", top + "update/tz.mbn"))


def after_device(p):
    """A character device (tar only)."""
    p.extra_members.append((pack.DEVICE, "null", ""))


def after_many_entries(p):
    """100 000 members."""
    for i in range(100000):
        p.extra_members.append((pack.FILE, "many/%06d" % i, b""))


# ---- the finished archive ----

def archive_truncated(p, out):
    """An archive that ends in the middle."""
    os.truncate(out, os.path.getsize(out) // 2)


def archive_empty(_, out):
    """Nothing at all."""
    os.truncate(out, 0)


def archive_garbage(p, out):
    """No archive."""
    with open(out, "wb") as f:
        f.write(p.rng.randbytes(65536))


def archive_bomb(p, out):
    """A member of --bomb-size zero bytes, honest about it (zip)."""
    write_bomb(out, p.options.bomb_size, p.options.bomb_size)


def archive_lying_bomb(p, out):
    """The same, but it says that it has 4096 bytes (zip)."""
    write_bomb(out, p.options.bomb_size, 4096)


def write_bomb(out, size, claimed):
    """One deflated member; its stream is one flushed block of zeros, repeated, so that even 10 GiB are written at once."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(b"\0" * BOMB_BLOCK) + deflate.flush(zlib.Z_FULL_FLUSH)
    data = block * (size // BOMB_BLOCK) + zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    name = b"update/NON-HLOS.ubi"
    zip64 = struct.pack("<HHQQ", 1, 16, claimed, len(data))
    fields = struct.pack("<5H3I2H", 45, 0, 8, 0, 0x5386, 0, 0xFFFFFFFF, 0xFFFFFFFF, len(name), len(zip64))
    with open(out, "wb") as f:
        f.write(b"PK\3\4" + fields + name + zip64 + data)
        at = f.tell()
        f.write(b"PK\1\2" + struct.pack("<H", 45) + fields + struct.pack("<3H2I", 0, 0, 0, 0x81A40000, 0) + name + zip64)
        size_of_directory = f.tell() - at
        f.write(b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 1, 1, size_of_directory, at, 0))


BEFORE = {f.__name__.replace("_", "-"): f for f in (
    missing_image, truncated_image, xml_bomb, external_entity, not_xml, negative, overflow, wrap, expression, image_too_large,
    overlap, unaligned, straddle, beyond_chip, no_programmer, two_programmers, erase_no_range, erase_no_sector_size, efs2,
    factory, disk_patch, unpatched, bad_table_crc, moved_efs2, geometry_disagrees, project_disagrees, traversal, md5_garbage,
    renamed_efs2, renamed_rawdata, renamed_sys_rev, renamed_cust_info, without_efs2, cut_efs2, other_table, no_table, mibib_erase_only, sbl_erase_only, sbl_tail_erase, sbl_tail_write,
    sbl_in_the_middle, nameless_table, nameless_moved_efs2, table_without_crc, two_tables, table_elsewhere, not_a_table,
    update_and_factory,
    two_rawprograms, no_rawprogram, no_geometry, empty_project, hostile_project, other_vendor, unknown_command)}
AFTER = {f.__name__[len("after_"):].replace("_", "-"): f for f in (
    after_wrong_md5, after_half_md5, after_md5_missing, after_no_md5, after_parent_name, after_absolute_name, after_drive_name,
    after_control_name, after_long_name, after_duplicate, after_symlink, after_hardlink, after_device, after_many_entries)}
ARCHIVE = {f.__name__[len("archive_"):].replace("_", "-"): f for f in (
    archive_truncated, archive_empty, archive_garbage, archive_bomb, archive_lying_bomb)}


def names():
    return sorted({**BEFORE, **AFTER, **ARCHIVE})


def before(package, kind):
    if kind in BEFORE:
        BEFORE[kind](package)


def after(package, kind):
    if kind in AFTER:
        AFTER[kind](package)


def on_archive(package, kind, out):
    if kind in ARCHIVE:
        if os.path.isdir(out):
            raise SystemExit("--break %s needs an archive" % kind)
        ARCHIVE[kind](package, out)
