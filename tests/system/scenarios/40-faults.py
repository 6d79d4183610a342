# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes wrong in the middle of a flash."""

import re
import time

from ring import PROBED, Background, Modem, as_user, jobs, journal, run, scenario, show, wait


def last_flash():
    """A modem that appears is identified, one in normal mode is saved: other jobs."""
    return max((j for j in jobs() if j["Kind"] == "flash"), key=lambda j: j["CreatedTime"])


@scenario
def modem_unplugged_at_program():
    """unplugged in the middle of a program and plugged again: the job waits for it and finishes"""
    modem = Modem("fault=unplug@program:2", "replug_ms=500")
    as_user("member", *modem.flash_command(), timeout=300)
    assert "fault unplug@program:2" in modem.trace()
    modem.expect_flashed()


@scenario
def service_killed_in_the_middle():
    """SIGKILL of the service: systemd restarts it, the job is shown as interrupted, the same call finishes it"""
    modem = Modem("fault=stop@program:2")
    command = Background("member", *modem.flash_command())
    modem.wait_stopped()
    killed = show("MainPID")
    run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "qdld")
    command.end(code=None)
    wait(lambda: show("SubState") == "running" and show("MainPID") != killed, "a new service")
    modem.go_on()
    job = wait(lambda: last_flash().get("Result") == "interrupted" and last_flash(), "the interrupted job")
    wait(lambda: [m for m in modem.rows() if m["Interrupted"] == job["path"]], "the modem that says which job the same call continues")
    as_user("member", *modem.flash_command(), timeout=300)
    modem.expect_flashed(may=PROBED)
    assert last_flash()["Resumes"] == job["path"], last_flash()


@scenario
def stop_in_the_middle():
    """systemctl stop waits for the end of the modem's command, longer than its timeout; nothing is written after it"""
    run("mkdir", "-p", "/run/systemd/system/qdld.service.d")
    with open("/run/systemd/system/qdld.service.d/short.conf", "w") as f:
        f.write("[Service]\nTimeoutStopSec=2\n")
    run("systemctl", "daemon-reload")
    try:
        modem = Modem("fault=stop@program:2")
        command = Background("member", *modem.flash_command())
        modem.wait_stopped()
        begun = time.time()
        stop = Background("root", "systemctl", "stop", "qdld")
        wait(lambda: show("ActiveState") == "deactivating", "a service that is stopping")
        # The only wait for a time: that it outlives TimeoutStopSec= is what is tested.
        time.sleep(5)
        assert show("ActiveState") == "deactivating", show("ActiveState", "Result")
        modem.go_on()
        stop.end()
        command.end(code=None)
        assert show("Result") == "success" and show("ActiveState") == "inactive", show("Result", "ActiveState")
        assert "SIGKILL" not in journal(begun, "-u", "qdld"), journal(begun, "-u", "qdld")
        after = [line for line in modem.trace().split("fault stop@program:2")[1].splitlines() if re.search(r" command \d+ (program|erase) ", line)]
        assert not after, after
    finally:
        run("rm", "-r", "/run/systemd/system/qdld.service.d")
        run("systemctl", "daemon-reload")
    run("systemctl", "start", "qdld")
    assert last_flash()["Result"] == "interrupted", last_flash()
    as_user("member", *modem.flash_command(), timeout=300)
    modem.expect_flashed()


@scenario
def worker_killed_in_the_middle():
    """SIGKILL of the worker: the job fails with what helps, the service goes on, the same call finishes it"""
    modem = Modem("fault=stop@program:2")
    command = Background("member", *modem.flash_command())
    modem.wait_stopped()
    service = show("MainPID")
    run("pkill", "-KILL", "--parent", service, "qdld-worker")
    text = command.end(code=6)
    assert "What helps" in text, text
    assert show("MainPID") == service
    modem.go_on()
    as_user("member", *modem.flash_command(), timeout=300)
    modem.expect_flashed(may=PROBED)
