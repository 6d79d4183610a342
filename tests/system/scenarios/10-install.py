# SPDX-License-Identifier: LGPL-2.1-or-later
"""From nothing to a running service, as README.md tells it."""

import os
import pathlib
import re
import shutil

from ring import SHARE, follow, readme_commands, run, scenario, show, wait


@scenario(always=True)
def install_as_the_readme_says():
    """each command of README's install section, as written, by an ordinary user with sudo"""
    commands = readme_commands("^## Install$")
    # This one was run where the VM was made.
    assert commands.pop(0) == "make deb", commands
    checkout = pathlib.Path("/home/member/qdld")
    shutil.copytree(SHARE / "deb", checkout / "build" / "deb")
    try:
        follow(commands, checkout)
    finally:
        shutil.rmtree(checkout)
    assert "qdl" in run("id", "-nG", "member").out.split()
    wait(lambda: show("ActiveState") == "active", "a service that nobody has started by hand")


@scenario
def unit_is_active_and_says_so():
    """Type=notify reached READY, the bus name is owned by user qdld, STATUS has words"""
    run("systemctl", "restart", "qdld")  # others have killed it
    got = show("ActiveState", "SubState", "Type", "UnitFileState", "StatusText", "MainPID", "NRestarts")
    assert (got["ActiveState"], got["SubState"], got["Type"], got["UnitFileState"]) == ("active", "running", "notify", "enabled"), got
    assert got["StatusText"] and got["NRestarts"] == "0", got
    status = run("busctl", "--system", "status", "org.qdld1").out
    assert f"PID={got['MainPID']}" in status, status
    assert run("ps", "-o", "user=", "-p", got["MainPID"]).out.strip() == "qdld"


@scenario
def sandbox_is_what_the_unit_says():
    """no capability, no_new_privs, seccomp, a mount namespace of its own: read off the running process"""
    pid = show("MainPID")
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, (name, status[name])
    assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2", status
    assert os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/1/ns/mnt")
    exposure = run("systemd-analyze", "security", "--no-pager", "qdld").out.splitlines()[-1]
    assert float(re.search(r"(\d+\.\d)", exposure).group(1)) <= 1.6, exposure
