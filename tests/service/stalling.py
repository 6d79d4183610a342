#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A file system with one file in it whose owner stops answering: stalling.py DIRECTORY getattr|read|flush. Says "mounted", and "asked" at each such call; killed, it
lets go of whoever waits. For root; the numbers are those of linux/fuse.h."""

import ctypes
import os
import struct
import sys

LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT = 1, 2, 3, 14, 15, 18, 25, 26
ROOT, FILE = 1, 2
SIZE = 1 << 20


def attributes(node):
    mode = 0o40755 if node == ROOT else 0o100644
    return struct.pack("<6Q10I", node, SIZE, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


ANSWERS = {
    INIT: lambda node: struct.pack("<IIIIHHII", 7, 31, 0, 0, 0, 0, 1 << 17, 1) + bytes(36),
    LOOKUP: lambda node: struct.pack("<QQQQII", FILE, 0, 3600, 0, 0, 0) + attributes(FILE),
    GETATTR: lambda node: struct.pack("<QII", 0, 0, 0) + attributes(node),
    OPEN: lambda node: struct.pack("<QII", 1, 0, 0),
    RELEASE: lambda node: b"",
    FLUSH: lambda node: b"",
}


def main(directory, silent):
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if ctypes.CDLL(None, use_errno=True).mount(b"stalling", directory.encode(), b"fuse", 0, options):
        sys.exit(os.strerror(ctypes.get_errno()))
    print("mounted", flush=True)
    while True:
        try:
            request = os.read(device, 1 << 20)
        except OSError:
            return  # unmounted
        _, operation, unique, node = struct.unpack("<IIQQ", request[:24])
        if operation == silent:
            print("asked", flush=True)
        if operation in (silent, FORGET):
            continue
        answer = ANSWERS[operation](node) if operation in ANSWERS else b""
        error = 0 if operation in ANSWERS else -38  # ENOSYS
        os.write(device, struct.pack("<IiQ", 16 + len(answer), error, unique) + answer)


main(sys.argv[1], {"getattr": GETATTR, "read": READ, "flush": FLUSH}[sys.argv[2]])
