# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's fwupd, whose plugin qc-firehose opens what appears in 9008."""

import time

from ring import Background, Modem, as_user, journal, run, scenario, wait


def inhibited():
    """fwupd says of some device that it may not be updated because of the system; None while it answers nothing."""
    said = run("fwupdmgr", "get-devices", "--json", "--no-remote-check", "--no-metadata-check", "--no-unreported-check", code=None)
    return None if '"Devices"' not in said.out else "system-inhibit" in said.out


@scenario
def fwupd_does_not_disturb():
    """fwupd runs and looks at the modem when it appears: the flash is right, and meanwhile fwupd updates nothing"""
    run("systemctl", "start", "fwupd", timeout=300)
    begun = time.time()
    try:
        modem = Modem("fault=stop@program:2")
        command = Background("member", *modem.flash_command())
        modem.wait_stopped()
        wait(lambda: inhibited() is True, "a fwupd that updates nothing")
        modem.go_on()
        command.end(timeout=300)
        modem.expect_flashed()
        wait(lambda: inhibited() is False, "a fwupd that may update again")
        assert run("systemctl", "is-active", "fwupd").out.strip() == "active", journal(begun, "-u", "fwupd")
        assert "fwupd runs" in as_user("member", "qdlctl", "doctor").out
    finally:
        run("systemctl", "stop", "fwupd", timeout=300)
