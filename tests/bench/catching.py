# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a modem in 9008 waits for us: from its enumeration to the first answer, and to a programmer that runs, read from its
own trace. Caught by a policy, with nobody at the keyboard."""

import os
import re
import time

import footprint

PORT = "virtual-usb-0:1.2"


def event(text, pattern):
    """The time of the first such event in microseconds; None."""
    found = re.search(r"^(\d+) " + pattern, text, re.M)
    return int(found.group(1)) if found else None


def latency(trace):
    """(to HELLO_RESP, to the programmer) in microseconds."""
    with open(trace) as f:
        text = f.read()
    plug = event(text, "plug 05c6:9008")
    return event(text, "sahara out HELLO_RESP") - plug, event(text, "state programmer") - plug


def caught(trace):
    if not os.path.exists(trace):
        return False
    with open(trace) as f:
        return event(f.read(), "state programmer") is not None


def by_the_service(directory, archive, rounds):
    found = []
    with footprint.Service(directory) as service:
        service.control("firmware", "import", archive)
        for i in range(rounds):
            # Anew each time: a modem that goes again and again as soon as it is held is left to a human.
            service.control("policy", "--port=" + PORT, "hold")
            footprint.until(lambda: len(service.workers()) == 1, "a worker that waits")
            time.sleep(0.3)  # it has read its programmers
            trace = service.start_modem([], "caught-%d" % i)
            footprint.until(lambda trace=trace: caught(trace), "a catch")
            footprint.until(lambda: '"Held":true' in service.control("status", "--json=short"), "a holder")
            found.append(latency(trace))
            service.end_modem()
        service.control("policy", "--port=" + PORT, "off")
        footprint.until(lambda: not service.workers(), "the end of the worker that waited")
    return found
