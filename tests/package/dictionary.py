#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Archives that ask for much memory: dictionary.py TREE FILE.7z|FILE.tar.xz BYTES packs a tree with a dictionary of so many bytes.

What unpacks it takes as much memory as its header asks for, whatever was needed to pack it.
"""
import lzma
import os
import subprocess
import sys
import tarfile
import zlib

LZMA2 = b"\x21\x21\x01"  # a coder with an id of one byte and properties; LZMA2; one byte of properties


def lzma2_property(size):
    """The byte that says so large a dictionary (7-Zip's and xz's coding: 2 or 3 times a power of two)."""
    return next(p for p in range(40) if (2 | p & 1) << (p // 2 + 11) >= size)


def pack(tree, out, size):
    if str(out).endswith(".tar.xz"):
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": size}]
        with lzma.open(out, "wb", filters=filters) as f, tarfile.open(fileobj=f, mode="w|") as tar:
            tar.add(tree, os.path.basename(tree))
    else:
        subprocess.run(["7z", "a", "-bd", "-bso0", "-mx=1", "-ms=on", "-mmt=1", "-m0=lzma2:c=1g", "-mhc=off", out, os.path.basename(tree)],
                       cwd=os.path.dirname(tree), check=True)
        patch_7z(out, size)


def patch_7z(path, size):
    """7zFormat.txt: signature header of 32 bytes, with the place, the size and the CRC of the header, and a CRC of these."""
    with open(path, "r+b") as f:
        start = bytearray(f.read(32))
        at, length = (int.from_bytes(start[i:i + 8], "little") for i in (12, 20))
        f.seek(32 + at)
        header = f.read(length)
        place = header.index(LZMA2) + len(LZMA2)
        header = header.replace(header[place - len(LZMA2):place + 1], LZMA2 + bytes([lzma2_property(size)]))
        start[28:32] = zlib.crc32(header).to_bytes(4, "little")
        start[8:12] = zlib.crc32(start[12:32]).to_bytes(4, "little")
        f.seek(0)
        f.write(start)
        f.seek(32 + at)
        f.write(header)


if __name__ == "__main__":
    pack(sys.argv[1], sys.argv[2], int(sys.argv[3]))
