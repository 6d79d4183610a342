# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may what: real users, real polkit."""

from ring import PASSWORD, VERSION, Modem, Terminal, as_user, firmware, jobs, library, run, scenario

ALL_FIRMWARE = ["qdlctl", "firmware", "--json=short"]


def asked_for():
    """The jobs that somebody started: the service identifies what appears by itself."""
    return [j for j in jobs() if j["Kind"] != "identify"]


@scenario
def outsider_is_denied():
    """a user outside: exit 4 from qdlctl, AccessDenied or NotAuthorized over the bus; no job, no package, no programmer to the modem"""
    modem = Modem()
    package = library()
    before = asked_for(), run(*ALL_FIRMWARE).out
    as_user("outsider", *modem.flash_command(), code=4)
    as_user("outsider", "qdlctl", "flash", modem.kernel, VERSION, "--yes", code=4)
    as_user("outsider", "qdlctl", "firmware", "import", firmware("whole"), code=4)
    row, = modem.rows()
    denied = as_user("outsider", "busctl", "--system", "call", "org.qdld1", row["path"], "org.qdld1.Modem", "Flash", "oa{sv}", package, "0",
                     code=1)
    assert "authori" in denied.err.lower(), denied
    assert (asked_for(), run(*ALL_FIRMWARE).out) == before
    modem.expect_no_programmer()
    modem.expect_unchanged()


@scenario
def outsider_may_look():
    """lists of modems, packages, jobs and backups are free"""
    modem = Modem()
    assert modem.serial in as_user("outsider", "qdlctl").out
    for command in (["status"], ["firmware"], ["jobs"], ["backups"]):
        as_user("outsider", "qdlctl", *command)


@scenario
def root_flashes():
    """root needs no group and is not asked"""
    modem = Modem()
    run(*modem.flash_command(), timeout=300)
    modem.expect_flashed()


@scenario
def right_password_flashes():
    """a user outside who is logged in is asked by pkttyagent for an administrator's password and gives the right one"""
    library()
    modem = Modem()
    command = Terminal("outsider", "qdlctl", "flash", modem.kernel, VERSION, "--yes", f"--modem-version={VERSION}", session=True)
    command.expect(r"Authenticating as: boss")
    command.expect(r"Password: ")
    command.say_secret(PASSWORD)
    command.end(timeout=300)
    modem.expect_flashed()


@scenario
def wrong_password_is_denied():
    """the same at a terminal without a session, with a wrong password: exit 4, no programmer to the modem"""
    library()
    modem = Modem()
    command = Terminal("outsider", "qdlctl", "flash", modem.kernel, VERSION, "--yes", f"--modem-version={VERSION}")
    command.expect(r"Password: ")
    command.say_secret("wrong")
    command.end(code=4)
    modem.expect_no_programmer()
    modem.expect_unchanged()


@scenario
def member_is_asked_before_a_refusal_is_lifted():
    """--allow= asks members for an administrator's password, and says what for; without a terminal it is denied"""
    library()
    modem = Modem()
    flash = ["qdlctl", "flash", modem.kernel, VERSION, "--yes", f"--modem-version={VERSION}", "--allow=WrongFirmware"]
    as_user("member", *flash, code=4)
    command = Terminal("member", *flash)
    command.expect(r"safety check of qdld.*the modem at " + modem.kernel)
    command.expect(r"Password: ")
    command.say_secret("wrong")
    command.end(code=4)
    modem.expect_unchanged()
