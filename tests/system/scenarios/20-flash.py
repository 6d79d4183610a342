# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flashes that nothing disturbs."""

import json

from qdlpackage import package_for_qdl
from ring import VERSION, Background, Modem, as_user, library, run, scenario, settings


@scenario
def qdl_of_debian_flashes_the_virtual_modem():
    """the peer check: a tool that shares nothing with us takes the modem for a real one"""
    run("systemctl", "stop", "qdld")
    modem = Modem("sahara_zlp=ignore")
    programmer, xml = package_for_qdl("tiny")
    run("qdl", "--storage", "nand", "--include", programmer.parent, programmer, xml, timeout=300)
    modem.expect_flashed()


@scenario
def member_flashes_from_a_zip():
    """qdlctl flash PACKAGE.zip by a user of group qdl, no password, compared page by page"""
    modem = Modem()
    as_user("member", *modem.flash_command(), timeout=300)
    modem.expect_flashed()


@scenario
def member_flashes_by_busctl():
    """the same over the bus by hand: Flash and Wait by busctl, the package from the library"""
    modem = Modem()
    row, = modem.rows()
    package = library()
    call = ["busctl", "--system", "--json=short", "--timeout=300", "call", "org.qdld1"]
    answer = as_user("member", *call, row["path"], "org.qdld1.Modem", "Flash", "oa{sv}", package, "1", "modem-version", "s", VERSION)
    job, = json.loads(answer.out)["data"]
    answer = as_user("member", *call, job, "org.qdld1.Job", "Wait", "a{sv}", "0", timeout=300)
    assert json.loads(answer.out)["data"] == ["done"], answer
    modem.expect_flashed()


@scenario
def plan_touches_nothing():
    """qdlctl plan by a user who may nothing: says what would be, and no programmer goes to the modem"""
    library()
    modem = Modem()
    text = as_user("outsider", "qdlctl", "plan", modem.kernel, VERSION, f"--modem-version={VERSION}").out
    assert "EFS2" in text and "keep" in text, text
    modem.expect_no_programmer()
    modem.expect_unchanged()


@scenario
def eight_modems_at_once():
    """eight modems, eight commands of one user at the same time, each from the path of the zip; each flash is right"""
    modems = [Modem() for _ in range(8)]
    # Eight of everything at the same time on processors that are emulated; twenty thousand questions of each that is back are not about this.
    with settings("[Limits]\nPreflightSec=60\n[Backup]\nAutomatic=no\n"):
        running = [Background("member", *m.flash_command()) for m in modems]
        for command in running:
            command.end(timeout=600)
        for m in modems:
            m.expect_flashed()
