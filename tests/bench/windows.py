# SPDX-License-Identifier: LGPL-2.1-or-later
"""What flashing in windows costs over flashing at once, with the same modem.

Its time stands still while anybody computes (tests/faults/still-clock.c), so a figure is that of the commands, and the same on every
machine. Compared are the seconds in which the modem was worked with: from the first command behind `configure` to the last
answer, in each window; what a window costs by itself (boot ROM, upload, opening of the storage, the last tenth) is shown beside it.
"""
import os
import re
import subprocess
import sys

import driver

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VERSION = "RM502QGLAAR11A02M4G"
MODEM = ("program_us=5000", "erase_us=3000", "read_us=60", "command_us=2000", "open_ms=500", "programmer_start_ms=300", "gap_ms=4000")
IMAGES = ("--image", "tz.mbn=2400K", "--image", "sec.dat=900K", "--image", "sbl1.mbn=400K")
WINDOW_MS = 3000


def work(trace):
    """(seconds of work, seconds of presence) of each appearance in 9008."""
    found, there = [], False
    for line in open(trace, errors="replace"):
        stamp, _, what = line.rstrip("\n").partition(" ")
        if what.startswith("plug 05c6:9008"):
            found.append([int(stamp), None, None, int(stamp)])
            there = True
        elif what.startswith("plug"):
            break
        elif there and stamp.isdigit():
            found[-1][3] = int(stamp)
            there = what != "unplug"
            if re.match(r"command \d+ ", what) and " configure " not in what and "getstorageinfo" not in what:
                found[-1][1] = found[-1][1] or int(stamp)
            elif what.startswith("response") and found[-1][1]:
                found[-1][2] = int(stamp)
    return [((last - first) / 1e6 if first and last else 0, (end - begin) / 1e6) for begin, first, last, end in found]


def flash(directory, store, firmware, name, settings, options):
    place = os.path.join(directory, name)
    os.mkdir(place)
    clock = driver.Clock(place)
    modem = driver.Modem(place, os.path.join(place, "flash"), [*MODEM, "version=" + VERSION, *settings], clock=clock)
    modem.accept()
    journal = os.open(os.path.join(place, "journal"), os.O_RDWR | os.O_CREAT)
    package = os.open(store, os.O_RDONLY)
    job = driver.Job(modem, "flash", {"firmware": firmware, "known-version": VERSION, "known-confirmed": 1, **options},
                     [("package", package), ("journal", journal)]).run()
    assert job.result == "done", job.words
    job.finish()
    modem.close()
    os.close(journal)
    os.close(package)
    return work(modem.trace)


def measure(directory):
    """(work at once, work in windows, number of windows, useful share of a window), in seconds."""
    archive = os.path.join(directory, "small.tar")
    subprocess.run([sys.executable, os.path.join(TOP, "tests/package/make-package.py"), "--small", *IMAGES, "--version", VERSION,
                    "--out", archive], check=True)
    store, firmware = driver.import_package(directory, archive)
    plain = flash(directory, store, firmware, "plain", [], {})
    windows = flash(directory, store, firmware, "windows", ["loop=hard", "window_ms=%d" % WINDOW_MS],
                    {"window-usec": WINDOW_MS * 1000, "loop-period-usec": WINDOW_MS * 1000 + 4000000})
    worked = sum(w for w, _ in windows)
    return sum(w for w, _ in plain), worked, len(windows), worked / sum(p for _, p in windows)
