# SPDX-License-Identifier: LGPL-2.1-or-later
"""A hard loop, from the service's first measure to the modem that boots: real workers, real time, few windows."""

import os
import re
import signal
import subprocess

import pytest
from catching import arm, find_modem, import_package, jobs, trace
from conftest import BACKUP, BUILD, JOB, MODEM, TOP, VERSION, in_phase, stop_when_gone, wait_until

HARD = ("loop=hard", "window_ms=3000", "gap_ms=1200", "program_us=15000", "erase_us=2000", "programmer_start_ms=300", "open_ms=300")
FIRMWARE = ("--small", "--image", "tz.mbn=1200K")


def flash_py(tmp_path, *arguments):
    result = subprocess.run(["/usr/bin/python3", TOP / "tests" / "modem" / "flash.py", tmp_path / "modem.flash", *arguments],
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture
def looping(service, make_package, new_modem, tmp_path):
    """A service with a package and a modem whose loop it has measured."""
    service.package = make_package(*FIRMWARE)
    import_package(service, service.package)
    service.process_of_modem = new_modem(service, *HARD)
    service.looping = find_modem(service)
    flash_py(tmp_path, "--snapshot", tmp_path / "before")
    measured(service)
    return service


def measured(service):
    wait_until(lambda: service.get(service.looping, MODEM, "Looping") and service.get(service.looping, MODEM, "WindowUSec") > 0,
               timeout=60, what="a measured loop")


def qdlctl(service, *arguments):
    return subprocess.Popen([BUILD / "qdlctl", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=service.address))


def assert_flashed(service, tmp_path):
    directory = tmp_path / "expected"
    directory.mkdir()
    subprocess.run(["tar", "xf", service.package, "-C", directory], check=True)
    flash_py(tmp_path, "--before", tmp_path / "before", "--package", next(directory.iterdir()))
    assert "VIOLATION" not in trace(tmp_path) and "boot normal" in trace(tmp_path)


def test_flashed_in_a_hard_loop(looping, tmp_path):
    out, err = qdlctl(looping, "flash", VERSION, f"--modem-version={VERSION}", "--yes").communicate(timeout=240)
    assert re.search(r"Job \d+ \(flash\) is done", out), (out, err)
    lines = [line for line in out.splitlines() if "%" in line]
    assert [line for line in lines if re.fullmatch(r" *\d+ %  waiting for the modem, window \d+, next in .*s", line)], lines
    assert [line for line in lines if re.fullmatch(r" *\d+ %  writing TZ, window \d+", line)], (lines, out)
    # What every window begins with is told of the first only.
    assert not [line for line in lines if "window" in line and ("boot ROM" in line or "uploading" in line)], lines
    [job] = jobs(looping, "flash")
    assert looping.get(job, JOB, "Window") >= 3
    assert_flashed(looping, tmp_path)


def test_service_killed_between_two_windows(looping, tmp_path):
    process = qdlctl(looping, "flash", VERSION, f"--modem-version={VERSION}", "--yes")
    wait_until(lambda: looping.paths(JOB), what="the job")
    job = wait_until(lambda: jobs(looping, "flash"), what="the flash")[0]
    wait_until(lambda: looping.get(job, JOB, "Window") >= 2, timeout=120, what="a window of the flash")
    stop_when_gone(looping.process_of_modem)
    in_phase(looping, job, "wait-device")
    looping.stop(signal.SIGKILL, modem=looping.process_of_modem)
    process.communicate(timeout=60)
    looping.start()
    looping.looping = find_modem(looping)
    assert looping.get(job, JOB, "Result") == "interrupted"
    measured(looping)
    out, err = qdlctl(looping, "flash", VERSION, f"--modem-version={VERSION}", "--yes").communicate(timeout=240)
    assert re.search(r"Job \d+ \(flash\) is done", out), (out, err)
    assert_flashed(looping, tmp_path)


def test_rescued_unattended_in_a_hard_loop(service, make_package, new_modem, tmp_path):
    """From the policy alone: nobody calls anything."""
    service.package = make_package(*FIRMWARE)
    firmware = import_package(service, service.package)
    new_modem(service, *HARD)
    path = find_modem(service)
    flash_py(tmp_path, "--snapshot", tmp_path / "before")
    arm(service, "rescue", firmware)
    wait_until(lambda: service.get(path, MODEM, "Mode") == "normal", timeout=180, what="normal mode")
    done = [j for j in jobs(service, "flash") if service.wait_job(j) == "done"]
    assert len(done) == 1 and service.get(done[0], JOB, "Window") >= 3, service.log(done[0])
    assert service.get(service.get(done[0], JOB, "Object"), BACKUP, "ChipSerial") == "49cbd7ef"
    assert_flashed(service, tmp_path)
