# SPDX-License-Identifier: LGPL-2.1-or-later
"""What flashing in windows costs over flashing at once, with the same modem.

Its time stands still while anybody computes (tests/faults/still-clock.c), so a figure is that of the commands, and the same on every
machine. Compared are the seconds in which the modem was worked with (worked.py); what a window costs by itself (boot ROM, upload,
opening of the storage, the last tenth) is shown beside it.
"""
import os
import subprocess
import sys

import driver
from worked import work

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VERSION = "RM502QGLAAR11A02M4G"
MODEM = ("program_us=5000", "erase_us=3000", "read_us=60", "command_us=2000", "open_ms=500", "programmer_start_ms=300", "gap_ms=4000")
IMAGES = ("--image", "tz.mbn=2400K", "--image", "sec.dat=900K", "--image", "sbl1.mbn=400K")
WINDOW_MS = 3000


def flash(directory, store, firmware, name, settings, options):
    place = os.path.join(directory, name)
    os.mkdir(place)
    clock = driver.Clock(place)
    modem = driver.Modem(place, os.path.join(place, "flash"), [*MODEM, "version=" + VERSION, *settings], clock=clock)
    journal = os.open(os.path.join(place, "journal"), os.O_RDWR | os.O_CREAT)
    package = os.open(store, os.O_RDONLY)
    try:
        modem.accept()
        job = driver.Job(modem, "flash", {"firmware": firmware, "known-version": VERSION, "known-confirmed": 1, **options},
                         [("package", package), ("journal", journal)]).run()
        assert job.result == "done", job.words
        job.finish()
    finally:
        modem.close()
        os.close(journal)
        os.close(package)
    with open(modem.trace, errors="replace") as trace:
        return work(trace)


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
