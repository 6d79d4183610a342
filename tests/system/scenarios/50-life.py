# SPDX-License-Identifier: LGPL-2.1-or-later
"""The life of the service: activation, reload, stop, upgrade."""

import os
import re
import shutil

from ring import SHARE, WORK, Background, Modem, as_user, jobs, run, running_jobs, scenario, settings, show, wait


@scenario
def stop_stays_stopped_while_a_modem_loops():
    """systemctl stop holds although a modem comes and goes; a client starts the service again by its bus name"""
    modem = Modem("loop=hard", "window_ms=1500", "gap_ms=200")
    wait(modem.rows, "the modem in the list")
    run("systemctl", "stop", "qdld")
    seen = modem.trace().count(" plug")
    wait(lambda: modem.trace().count(" plug") >= seen + 3, "three more appearances")
    assert show("ActiveState", "SubState") == {"ActiveState": "inactive", "SubState": "dead"}
    assert modem.serial in as_user("outsider", "qdlctl").out
    assert show("ActiveState") == "active"


@scenario
def modem_before_the_service():
    """plugged in while the service is down, taken by qcserial: found at its start, flashed"""
    run("systemctl", "stop", "qdld")
    run("modprobe", "qcserial")
    modem = Modem()
    driver = modem.device.parent / modem.kernel / f"{modem.kernel}:1.0" / "driver"
    wait(driver.exists, "a driver for the modem")
    assert os.path.basename(os.path.realpath(driver)) == "qcserial", os.path.realpath(driver)
    run("systemctl", "start", "qdld")
    as_user("member", *modem.flash_command(), timeout=300)
    modem.expect_flashed()


@scenario
def reload_when_idle_starts_anew():
    """systemctl reload: exit 75, a new process, nothing that looks like a failure"""
    before = show("MainPID")
    run("systemctl", "reload", "qdld")
    wait(lambda: show("MainPID") not in (before, "0") and show("SubState") == "running", "the new process")
    assert show("Result") == "success"


def newer_packages():
    """The same packages under a version that is higher than what is installed, also where an upgrade was tried before."""
    place = WORK / "newer"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    made = []
    version = run("dpkg-query", "-W", "-f", "${Version}", "qdld").out + "+next"
    for deb in sorted((SHARE / "deb").glob("*.deb")):
        tree = place / deb.stem
        run("dpkg-deb", "-R", deb, tree)
        control = tree / "DEBIAN" / "control"
        control.write_text(re.sub(r"^Version: .*$", f"Version: {version}", control.read_text(), flags=re.M))
        made.append(place / (deb.stem + "-next.deb"))
        run("dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, made[-1], timeout=300)
    return made


@scenario
def upgrade_while_a_job_runs():
    """apt installs a newer version in the middle of a flash: the job ends as if nothing were, then the new service takes over"""
    packages = newer_packages()
    # However long apt takes: the modem is gone meanwhile, and the job waits for it.
    with settings("[Flash]\nWaitDeviceSec=3600\n"):
        modem = Modem("fault=unplug@program:2", "replug_ms=-1")
        command = Background("member", *modem.flash_command())
        modem.wait_trace("fault unplug@program:2")
        modem.unplug()
        wait(lambda: running_jobs()[0]["Phase"] == "wait-device", "a job that waits for its modem")
        before = show("MainPID")
        run("apt-get", "install", "--yes", *packages, timeout=600, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        assert command.process.poll() is None, command.text()
        assert show("MainPID", "ActiveState") == {"MainPID": before, "ActiveState": "active"}, show("MainPID", "ActiveState")
        assert "(deleted)" in os.readlink(f"/proc/{before}/exe"), "not the old program any more"
        modem.heal()
        modem.plug()
        command.end(timeout=300)
        modem.expect_flashed()
        pid = wait(lambda: show("SubState") == "running" and show("MainPID") not in (before, "0") and show("MainPID"), "the new service")
        assert "(deleted)" not in os.readlink(f"/proc/{pid}/exe")
    assert run("dpkg-query", "-W", "-f", "${Version}", "qdld").out.endswith("+next")
    # The last flash, that is: a modem in normal mode is saved unasked.
    assert max((j for j in jobs() if j["Kind"] == "flash"), key=lambda j: j["CreatedTime"])["Result"] == "done", jobs()
