# SPDX-License-Identifier: LGPL-2.1-or-later
"""XQCN as reference/diag.md 3 has it, taken apart and printed in the layouts of others; shares nothing with the daemon."""
import re
import struct

TOKEN = re.compile(r"<(/?)(Storage|Stream)([^>]*?)(/?)>")
ATTRIBUTE = re.compile(r"(\w+)=(['\"])(.*?)\2", re.S)
RECORD = 136
IMEI_ITEM = 550
SECTIONS = ("EFS_Backup", "Provisioning_Item_Files", "NV_Items")


class Calibration:
    """nv: {(context, item): data}; files: {path: content}; version: what ran when it was taken."""

    def __init__(self, text):
        self.nv, self.files, self.version = {}, {}, ""
        halves, path = {}, []
        for end, kind, attributes, closed in TOKEN.findall(text.decode("ascii")):
            a = {k: v for k, _, v in ATTRIBUTE.findall(attributes)}
            if kind == "Storage":
                if end:
                    path.pop()
                elif not closed:
                    path.append(a["Name"])
                continue
            value = bytes.fromhex(a["Value"])
            assert len(value) == int(a["Length"])
            if path[-1] == "NV_NUMBERED_ITEMS":
                context = int(a["Name"][len("NV_ITEM_ARRAY_SIM_"):] or 0)
                for at in range(0, len(value), RECORD):
                    size, mark, item, _ = struct.unpack_from("<4H", value, at)
                    assert (size, mark) == (RECORD, 1)
                    self.nv[context, item] = value[at + 8:at + RECORD]
            elif path[-1] in ("EFS_Dir", "EFS_Data"):
                halves[path[-2], a["Name"], path[-1]] = value
            elif a["Name"] == "Mobile_Property_Info":
                n, = struct.unpack_from("<H", value, 8)
                self.version = value[10:10 + n].decode()
        for (section, name, which), value in halves.items():
            if which == "EFS_Dir":
                file = value[8 if value[0] != 0x2f else 0:].rstrip(b"\0").decode()
                self.files[file] = halves[section, name, "EFS_Data"]

    def __eq__(self, other):
        return self.nv == other.nv and self.files == other.files


class Layout:
    """One writer's habits."""
    quote, end, upper = "'", "\r\n", True
    head = {"/nv/item_files/rfnv": bytes.fromhex("01000101803DD512"), "/rfc": bytes.fromhex("0100010100000000")}
    nul = ("Provisioning_Item_Files",)
    both = False  # /rfc in two sections, as QPST has it
    reverse = False  # contents in another order than their entries
    name, tool, file_version = "RM502Q.xqcn", "QPST 2.7.496", bytes([2, 0, 0, 0, 0, 0])

    def stream(self, name, value):
        text = value.hex(" ")
        return "<Stream Length={q}{n}{q} Name={q}{name}{q} Value={q}{v}{q}/>".format(
            q=self.quote, n=len(value), name=name, v=text.upper() if self.upper else text) + self.end

    def storage(self, name, inner):
        return "<Storage Name={q}{n}{q}>{e}{i}</Storage>{e}".format(q=self.quote, n=name, e=self.end, i=inner)

    def section_of(self, path):
        if path.startswith(("/nv/item_files/rfnv/", "/rfc/")):
            return "EFS_Backup"
        return "Provisioning_Item_Files" if path.startswith("/nv/item_files/") else "NV_Items"

    def entry(self, section, path):
        head = next((h for start, h in self.head.items() if path.startswith(start)), b"") if section == "EFS_Backup" else b""
        return head + path.encode() + (b"\0" if section in self.nul else b"")

    def files(self, c, section):
        mine = [p for p in c.files if self.section_of(p) == section or (self.both and section == "NV_Items" and p.startswith("/rfc/"))]
        entries = [self.stream("%08X" % i, self.entry(section, p)) for i, p in enumerate(mine)]
        contents = [self.stream("%08X" % i, c.files[p]) for i, p in enumerate(mine)]
        if self.reverse:
            contents.reverse()
        return self.storage(section, self.storage("EFS_Dir", "".join(entries)) + self.storage("EFS_Data", "".join(contents)))

    def items(self, c):
        streams = ""
        for context in sorted({k[0] for k in c.nv}):
            array = b"".join(struct.pack("<4H", RECORD, 1, item, 0) + data for (n, item), data in c.nv.items() if n == context)
            streams += self.stream("NV_ITEM_ARRAY" + ("_SIM_%d" % context if context else ""), array)
        return self.storage("NV_NUMBERED_ITEMS", streams)

    def properties(self, c):
        return struct.pack("<IIH", 0xDEADD00D, 0, len(c.version)) + c.version.encode() + struct.pack("<H", len(self.tool)) + self.tool.encode()

    def write(self, c):
        inner = self.items(c) + "".join(self.files(c, s) for s in SECTIONS)
        inner += self.stream("Mobile_Property_Info", self.properties(c)) + self.stream("Feature_Mask", b"\2\0")
        tree = self.storage("00000334", self.storage("default", inner))
        start = "<?xml version={q}1.0{q} encoding={q}Windows-1252{q} ?>{e}".format(q=self.quote, e=self.end)
        return (start + self.storage(self.name, tree + self.stream("File_Version", self.file_version))).encode("ascii")


class Qpst(Layout):
    both = reverse = True


class Qfenix(Layout):
    end, nul, name, tool = "\n", ("Provisioning_Item_Files",), "backup.xqcn", "qfenix"


class Plain(Layout):
    """No heads, no NULs, double quotes, small letters: what an editor or an older tool makes of it."""
    quote, end, upper, head, nul, name, tool = '"', "\n", False, {}, (), "x", ""
