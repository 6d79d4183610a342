# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a trace of the virtual modem says of the host: how fast it writes, and where it lets the modem wait."""
import collections
import re

LEAST = 1 << 20  # bytes of a program command that tells a rate
DESTRUCTIVE = ("erase", "program")

# us: from what the modem last sent, or was first asked for, to what came next from the host. place: which transfer of the host ended
# it. store: it ended with the first command that changes the flash, which waits until the backup is stored (flash rule 5).
Wait = collections.namedtuple("Wait", "us place before store")

# first: page; size: bytes; begun: a time; us: how long.
Program = collections.namedtuple("Program", "first pages size begun us")


def events(path):
    with open(path, errors="replace") as f:
        for line in f:
            stamp, _, rest = line.rstrip("\n").partition(" ")
            if stamp.isdigit():
                yield int(stamp), rest


def large_programs(path):
    """The program commands that tell a rate, from command to final response."""
    found, command = [], None
    for stamp, what in events(path):
        if re.match(r"command \d+ program ", what):
            first, pages, size = (int(re.search(name + r'="(\d+)"', what).group(1)) for name in (
                "start_sector", "num_partition_sectors", "SECTOR_SIZE_IN_BYTES"))
            command = first, pages, pages * size, stamp
        elif command and what.startswith("response ACK rawmode=false"):
            found.append(Program(*command, stamp - command[-1]))
            command = None
    return [c for c in found if c.size >= LEAST]


def program_rate(path):
    """Bytes a second."""
    commands = large_programs(path)
    return sum(c.size for c in commands) / (sum(c.us for c in commands) / 1e6)


def large_reads(path):
    """(begun, ended, bytes): from the first large read command to the last one's response, with all that the host does in between."""
    first = last = size = None
    moved = 0
    for stamp, what in events(path):
        if re.match(r"command \d+ read ", what):
            size = int(re.search(r'num_partition_sectors="(\d+)"', what).group(1))
            size *= int(re.search(r'SECTOR_SIZE_IN_BYTES="(\d+)"', what).group(1))
            if size >= LEAST // 4 and first is None:
                first = stamp
        elif first is not None and size and what.startswith("response ACK rawmode=false"):
            if size >= LEAST // 4:
                moved += size
                last = stamp
            size = None
    return first, last, moved


def read_rate(path):
    """Bytes a second."""
    begun, ended, size = large_reads(path)
    return size / ((ended - begun) / 1e6)


def host_waits(path):
    """Every wait of the modem for the host, in order."""
    found, last, appearance, changed, pending = [], None, 0, False, None
    for stamp, what in events(path):
        word = what.split(" ", 1)[0]
        if pending:
            # The line behind a transfer says what it was.
            command = re.match(r"command \d+ (\w+)", what)
            first = bool(command) and command[1] in DESTRUCTIVE and not changed
            changed |= first
            found.append(Wait(*pending, what, first))
            pending = None
        if word == "plug":
            appearance += 1
            last = stamp if "05c6:" in what else None  # in normal mode nothing is urgent
        elif word == "poll":
            # From the plug to the first question is the host's, too; later ones mean that it listens and the modem is at work.
            if last is not None:
                found.append(Wait(stamp - last, (appearance, what), what, False))
            last = stamp
        elif what.startswith("in transfer"):
            last = stamp
        elif what.startswith("out transfer") and last is not None:
            pending = (stamp - last, (appearance, what.split(" ")[1]))
            last = None
        elif word in ("unplug", "boot") or word == "state" and "reset" in what:
            last = None  # it is not there, or busy with itself
    return found
