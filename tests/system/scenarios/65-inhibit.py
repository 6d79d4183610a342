# SPDX-License-Identifier: LGPL-2.1-or-later
"""Asking others to wait, and waiting for others."""

import json

from qdlpackage import package_for_qdl
from ring import WORK, Background, Modem, as_user, run, scenario, show, wait


def inhibitors():
    """Of the service, as logind knows them: what is blocked."""
    out = json.loads(run("busctl", "--system", "--json=short", "call", "org.freedesktop.login1", "/org/freedesktop/login1",
                         "org.freedesktop.login1.Manager", "ListInhibitors").out)
    return [what.split(":") for what, who, _, mode, *_ in out["data"][0] if who == "qdld" and mode == "block"]


@scenario
def suspend_is_inhibited_while_it_writes():
    """systemd-inhibit lists the service while a modem is between erase and boot; suspend is refused then, and possible again afterwards"""
    run("systemctl", "start", "systemd-logind")
    assert not inhibitors(), inhibitors()
    modem = Modem("fault=stop@program:2")
    command = Background("member", *modem.flash_command())
    modem.wait_stopped()
    what, = wait(inhibitors, "an inhibitor")
    assert {"sleep", "shutdown", "handle-lid-switch"} <= set(what), what
    assert "qdld" in run("systemd-inhibit", "--list", "--no-pager").out
    refused = as_user("boss", "systemctl", "suspend", code=None)
    assert refused.code != 0, refused
    modem.go_on()
    command.end(timeout=300)
    wait(lambda: not inhibitors(), "the end of the inhibitor")
    modem.expect_flashed()


@scenario
def inhibit_leaves_the_modem_to_qdl():
    """qdlctl inhibit … -- qdl …, with a restart of the service in the middle: the service keeps its hands off, Debian's qdl flashes"""
    modem = Modem("sahara_zlp=ignore")
    programmer, xml = package_for_qdl("tiny")
    wait(modem.rows, "the modem in the list")
    before = show("MainPID")
    script = WORK / "other-tool"
    script.write_text(f"#!/bin/sh -e\nqdlctl list --json=short >{WORK}/before\nsystemctl restart qdld\nqdlctl list --json=short >{WORK}/after\n"
                      f"if runuser -u member -- qdlctl identify {modem.kernel}; then exit 9; fi\n"
                      f"exec qdl --storage nand --include {programmer.parent} {programmer} {xml}\n")
    script.chmod(0o755)
    run("qdlctl", "inhibit", modem.kernel, "--", script, timeout=300)
    assert show("MainPID") != before
    for name in ("before", "after"):
        row, = [m for m in json.loads((WORK / name).read_text()) if m["KernelName"] == modem.kernel]
        assert row["Inhibited"] is True, (name, row)
    modem.expect_flashed()
    wait(lambda: not any(m["Inhibited"] for m in modem.rows()), "the end of the inhibition")


@scenario
def doctor_tells_what_stands_in_the_way():
    """nothing for a member; for a user outside, the command that makes him one"""
    modem = Modem()
    wait(modem.rows, "the modem in the list")
    as_user("member", "qdlctl", "doctor")
    text = as_user("outsider", "qdlctl", "doctor", code=None).out
    assert "adduser" in text and "qdl" in text, text
