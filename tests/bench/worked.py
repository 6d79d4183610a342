# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a modem was worked with: in each window, from the first command behind `configure` to the last answer."""
import re


def work(trace):
    """(seconds of work, seconds of presence) of each appearance in 9008 until the first in another mode; the lines of the trace."""
    found, there = [], False
    for line in trace:
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
