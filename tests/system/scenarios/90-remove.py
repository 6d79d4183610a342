# SPDX-License-Identifier: LGPL-2.1-or-later
"""Removing and purging; the last file: afterwards nothing is installed, but for what a scenario here installs again."""

import os
import pathlib

from ring import Modem, as_user, install, run, scenario, wait

# Each begins with what the one before has left.
TOGETHER = True
STATE = pathlib.Path("/var/lib/qdld")
QUIET = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}


def apt(*arguments):
    return run("apt-get", "--yes", *arguments, timeout=600, env=QUIET)


def purge():
    """What apt says."""
    return apt("purge", "qdld", "qdlctl").out


def running():
    return run("systemctl", "is-active", "qdld", code=None).out.strip() == "active"


@scenario
def remove_leaves_what_was_saved():
    """apt remove: service and rules are gone, settings, library and backups are not"""
    if not list(STATE.glob("backups/*")) or not list(STATE.glob("firmware/*")):
        modem = Modem()
        as_user("member", *modem.flash_command(), timeout=300)
        modem.unplug()
    files = [p for p in run("dpkg", "--listfiles", "qdld", "qdlctl").out.split("\n") if p and pathlib.Path(p).is_file()]
    backups = sorted(STATE.glob("backups/**/*"))
    assert backups and list(STATE.glob("firmware/*"))
    apt("remove", "qdld", "qdlctl")
    assert not running()
    assert run("busctl", "--system", "status", "org.qdld1", code=None).code != 0
    left = [p for p in files if os.path.exists(p) and not p.startswith("/etc/")]
    assert not left, left
    assert sorted(STATE.glob("backups/**/*")) == backups and list(STATE.glob("firmware/*"))
    assert run("systemctl", "list-units", "--failed", "--no-legend").out == "", "failed units"


@scenario
def installed_again_it_knows_its_backups():
    """apt install after a remove: the service runs and shows the backups of before"""
    install()
    wait(running, "the service")  # apt does not wait until it has started
    assert len(run("qdlctl", "backups", "--no-legend").out.splitlines()) == len(list(STATE.glob("backups/*.tar")) or list(STATE.glob("backups/*")))


@scenario
def purge_keeps_backups_and_says_so():
    """apt purge: records, library and settings are gone; backups stay, and it says where"""
    backups = sorted(STATE.glob("backups/**/*"))
    assert backups
    said = purge()
    assert "kept in /var/lib/qdld/backups" in said, said
    assert sorted(STATE.glob("backups/**/*")) == backups
    assert not (STATE / "firmware").exists() and not os.path.exists("/etc/qdld")


@scenario
def purge_without_backups_leaves_nothing():
    """installed, never used, purged: no file, no unit, no directory stays"""
    run("rm", "-r", STATE)
    install()
    purge()
    left = [p for p in ("/etc/qdld", "/usr/lib/qdld", "/usr/libexec/qdld", str(STATE), "/run/qdld", "/lib/systemd/system/qdld.service",
                        "/usr/lib/systemd/system/qdld.service", "/lib/udev/rules.d/60-qdld.rules", "/etc/systemd/system/multi-user.target.wants/qdld.service")
            if os.path.lexists(p)]
    assert not left, left
    assert run("systemctl", "list-units", "--failed", "--no-legend").out == "", "failed units"
