# SPDX-License-Identifier: LGPL-2.1-or-later
"""The chip of the tests: its partitions, and MIBIB as it lies in flash (reference/edl.md 2.8).

The virtual modem starts with the same table. 64 pages a block, 2048 blocks; (name, first block, blocks), None: up to the end.
"""

import struct

PAGES_PER_BLOCK = 64
BLOCKS = 2048
PARTITIONS = [
    ("SBL", 0, 10), ("MIBIB", 10, 10), ("EFS2", 20, 44), ("sys_rev", 64, 8), ("RAWDATA", 72, 5), ("TZ", 77, 10),
    ("sec", 87, 4), ("cust_info", 91, 6), ("boot", 97, 60), ("recovery", 157, 60), ("modem", 217, 440),
    ("misc", 657, 5), ("recoveryfs", 662, 160), ("usrdata", 822, 400), ("system", 1222, None),
]
# A chip for tests that count every command.
TINY_BLOCKS = 16
TINY_PARTITIONS = [
    ("SBL", 0, 3), ("MIBIB", 3, 2), ("EFS2", 5, 1), ("sys_rev", 6, 1), ("RAWDATA", 7, 1), ("TZ", 8, 3), ("sec", 11, 2),
    ("cust_info", 13, 1), ("system", 14, None),
]
GEOMETRIES = {"p4K_b256K": 4096, "p2K_b128K": 2048}

HEADER_MAGIC = (0xFE569FAC, 0xCD7F127A)
SYSTEM_MAGIC = (0x55EE73AA, 0xE35EBDDB)
USER_MAGIC = (0xAA7D1B9A, 0x1F7D48BC)
CRC_MAGIC = (0x9D41BEA1, 0xF1DED2EA)
GROWS = 0xFFFFFFFF
TABLE_VERSION = 4
ENTRY = struct.Struct("<16sII4B")


def use_tiny():
    """From here on the tiny chip is the one."""
    global BLOCKS, PARTITIONS
    BLOCKS, PARTITIONS = TINY_BLOCKS, TINY_PARTITIONS


def blocks_of(name):
    """First block and number of blocks of a partition; the growing one goes to the end of the chip."""
    for n, first, count in PARTITIONS:
        if n == name:
            return first, BLOCKS - first if count is None else count
    raise KeyError(name)


def mibib_crc(data):
    """Polynomial 0x04C11DB7, start 0, not reflected, no final xor."""
    crc = 0
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc


def mibib(page_size, grows=False, partitions=None, age=1):
    """The four pages of a partition image. grows: the last length stays 0xFFFFFFFF, as no patch had been applied."""
    table = partitions or PARTITIONS
    pages = [bytearray(b"\xff" * page_size) for _ in range(4)]
    struct.pack_into("<4I", pages[0], 0, *HEADER_MAGIC, TABLE_VERSION, age)
    struct.pack_into("<4I", pages[1], 0, *SYSTEM_MAGIC, TABLE_VERSION, len(table))
    for i, (name, first, count) in enumerate(table):
        length = (GROWS if grows else BLOCKS - first) if count is None else count
        ENTRY.pack_into(pages[1], 16 + i * ENTRY.size, ("0:" + name).encode(), first, length, 0xFF, 1, 0, 0)
    crc = mibib_crc(pages[0] + pages[1])
    struct.pack_into("<4I", pages[3], 0, *CRC_MAGIC, 1, crc)
    return b"".join(pages)


def user_table():
    """partition.mbn: the write table, sizes in blocks (attr4 0xFE)."""
    out = bytearray(struct.pack("<4I", *USER_MAGIC, TABLE_VERSION, len(PARTITIONS)))
    for name, _, count in PARTITIONS:
        size = GROWS if count is None else count
        out += struct.pack("<16sIHH4B", ("0:" + name).encode(), size, 0, 0, 0xFF, 1, 0, 0xFE)
    return bytes(out)
