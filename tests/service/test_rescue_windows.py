# SPDX-License-Identifier: LGPL-2.1-or-later
"""The loop that nobody else survives: rescued from a policy through the whole service, in windows of real length.

Where each scenario lies (the virtual modem plays it, real workers in their sandbox work on it; tests/system has them on USB):

    windows of 14, 6 and 3 s, soft           test_rescue.py test_from_loop_to_normal_mode_unattended
    windows of 14, 6 and 3 s, hard           here; of 3 s also test_window.py (a user's flash, the policy's)
    1.5 s, hard: too short, bridge USB_BOOT   here; as a flash rules/test_window.py test_impossible_window
    6 s, hard, at least ten windows          here, and rules/test_window.py test_ten_windows_and_bad_blocks_in_every_partition
    bad blocks in every partition            in the same two
    the window closes at every command       here (a rescue); test_catch.py test_whenever_the_window_closes (a catch: each packet, too);
                                             faults.py (a flash: offsets of each transfer, too), rules/interruptions.py (backup and restore)
    hello stolen                             test_rescue.py, test_catch.py test_whatever_somebody_left_it_in; by a program, and by qdl
                                             that is killed: tests/system/scenarios/70-rescue.py
    two that loop and one that is well       here; held only: test_catch.py
    the module swapped between two windows   here; before anything is written test_rescue.py
    service killed between and in windows    here, also by a reboot; test_rescue.py, test_window.py; before the catch test_catch.py; behind the reset
                                             test_booted.py, test_jobs.py
    windows that nobody can open             test_catch.py test_windows_that_nobody_can_open_end_in_the_bridge
    wrong firmware in the policy             test_rescue.py test_the_wrong_package_writes_nothing, at once test_policy.py
    9008 of a stranger                       test_catch.py test_a_stranger_...
    falls back again and again               test_unattended.py; another serial each time: there
"""

import os
import re
import signal
import subprocess

import pytest
from catching import OTHER, OTHER_PORT, PORT, Later, arm, count, find_modem, import_package, jobs, nothing_was_written, set_policy, trace
from conftest import BACKUP, BUILD, JOB, MODEM, in_phase, stop_when_gone, wait_stopped, wait_until
from test_rescue import assert_flashed, flash_py, note, wait_finished

# A slow modem: a window of 14 s is none too long for it.
SLOW = ("open_ms=300", "programmer_start_ms=300", "erase_us=3000", "read_us=60", "command_us=1000")
BAD = "bad=2,3,12,15,21,65,74,77,80,87,90,92,98,220,1300"  # in each partition of the layout, of TZ and SBL and MIBIB two
HARD = ("loop=hard", "window_ms=3000", "gap_ms=300", "program_us=15000", "erase_us=2000", "programmer_start_ms=300", "open_ms=300")


def hard(ms, gap=300):
    return "loop=hard", f"window_ms={ms}", f"gap_ms={gap}"


def written_after(text):
    """Commands that change the flash, behind this event of the modem."""
    return re.findall(r" command \d+ (?:erase|program) .*", text)


@pytest.mark.parametrize("window, slow, package, least", [
    (14000, ("program_us=50000",), ("--image", "tz.mbn=1200K"), 2),
    (6000, ("program_us=42000", BAD), ("--image", "tz.mbn=2000K", "--image", "sec.dat=400K"), 10)], ids=["14 s", "6 s, ten of them"])
def test_hard_windows(service, new_modem, make_package, tmp_path, window, slow, package, least):
    package = make_package("--small", *package)
    firmware = import_package(service, package)
    new_modem(service, *hard(window), *SLOW, *slow)
    path = find_modem(service)
    flash_py(tmp_path, "--snapshot", tmp_path / "before")
    arm(service, "rescue", firmware)
    [job] = wait_finished(service, "flash")
    assert service.get(job, JOB, "Result") == "done", service.log(job)
    assert service.get(job, JOB, "Window") >= least and count(tmp_path, r"unplug") >= least
    wait_until(lambda: service.get(path, MODEM, "Mode") == "normal", what="normal mode")
    assert service.get(service.get(job, JOB, "Object"), BACKUP, "ChipSerial") == "49cbd7ef"
    assert "VIOLATION" not in trace(tmp_path)
    # Twice it went away unforeseen; from then on nothing is in flight when a window closes.
    assert count(tmp_path, "nand torn") <= 2
    assert_flashed(tmp_path, package)


def test_a_window_that_is_too_short_for_anything(new_service, new_modem, make_package, tmp_path):
    """1.5 s: over before the storage is open. It says so wherever somebody looks."""
    service = new_service().start(config="[Rescue]\nAttempts=1\n")
    firmware = import_package(service, make_package("--small"))
    arm(service, "rescue", firmware)
    new_modem(service, *hard(1500), "programmer_start_ms=800", "open_ms=900")
    path = find_modem(service)
    assert "too short" in note(service, path, "left to a human")
    [job] = [j for j in jobs(service, "catch")]
    for where, interface in ((job, JOB), (path, MODEM)):
        assert service.get(where, interface, "RecoveryHint") == "bridge-usb-boot"
    said = subprocess.run([BUILD / "qdlctl", "status"], capture_output=True, text=True,
                          env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=service.address))
    assert "too short" in said.stdout and "Bridge USB_BOOT" in said.stdout, said
    assert nothing_was_written(tmp_path) and not jobs(service, "flash")


def test_two_that_loop_and_one_that_is_well(service, new_modem, make_package, tmp_path):
    firmware = import_package(service, make_package("--small"))
    new_modem(service, "initial=working", "port=virtual-usb-0:1.4", "kernel=1-1.4", "serial=600df00d", name="well")
    find_modem(service, "virtual-usb-0:1.4")  # one that comes behind the others may be one of them, booted there, and is asked
    ports = (PORT, OTHER_PORT, "virtual-usb-0:1.4")
    for port in ports:
        arm(service, "rescue", firmware, port=port)
    new_modem(service, *HARD, "program_us=2000")
    new_modem(service, *OTHER, *HARD, "program_us=2000", name="other")
    done = wait_finished(service, "flash", 2)
    assert [service.get(j, JOB, "Result") for j in done] == ["done"] * 2, [service.log(j) for j in done]
    assert {str(service.get(j, JOB, "Modem")) for j in done} == {str(find_modem(service, p)) for p in ports[:2]}
    well = find_modem(service, ports[2])
    assert service.get(well, MODEM, "Mode") == "normal" and count(tmp_path, "out transfer", "well") == 0
    assert "VIOLATION" not in trace(tmp_path) + trace(tmp_path, "other")


def test_the_module_is_swapped_in_the_middle(service, new_modem, make_package, tmp_path):
    """Between two windows of its rescue: the other one is not written to, and not taken for it."""
    firmware = import_package(service, make_package("--small", "--image", "tz.mbn=1200K"))
    arm(service)
    new_modem(service, *HARD, "program_us=25000", "swap_at=4")
    path = find_modem(service)
    wait_until(lambda: service.get(path, MODEM, "ChipSerial") == "49cbd7ef", what="its serial")
    set_policy(service, path, "rescue", firmware)
    [job] = wait_finished(service, "flash")
    assert service.get(job, JOB, "ErrorName").endswith("WrongUnit"), service.log(job)
    assert "49cbd7ef" in service.get(job, JOB, "ErrorMessage") and "5eed0001" in service.get(job, JOB, "ErrorMessage")
    before, _, after = trace(tmp_path).partition("swapped serial=5eed0001")
    assert written_after(before), "nothing was being written yet: the test is about nothing"
    wait_until(lambda: service.get(path, MODEM, "ChipSerial") == "5eed0001", what="the other one")
    assert service.get(path, MODEM, "Policy") == "hold" and service.get(path, MODEM, "Interrupted") == "/"
    wait_until(lambda: trace(tmp_path).count("plug 05c6:9008") >= 6, what="windows of the other one")
    assert not written_after(trace(tmp_path).partition("swapped serial=5eed0001")[2])
    assert len(jobs(service, "flash")) == 1


@pytest.mark.parametrize("when", ["in a window", "between two", "with the machine"])
def test_the_service_is_killed(service, new_modem, make_package, tmp_path, when):
    """With the machine: the next one's clock begins anew, days before all that this one has seen."""
    if when == "with the machine":
        later = Later(tmp_path)
        later.go(10 * 24 * 3600 * 10**6)
        service.restart(environment=later.environment)
    # Work for many windows.
    package = make_package("--small", "--image", "tz.mbn=800K")
    firmware = import_package(service, package)
    in_window = when == "in a window"
    modem = new_modem(service, *HARD, "program_us=20000", *(["fault=stop@program:3"] if in_window else []))
    find_modem(service)
    flash_py(tmp_path, "--snapshot", tmp_path / "before")
    arm(service, "rescue", firmware)
    if in_window:
        wait_stopped(modem)
        [job] = jobs(service, "flash")
    else:
        job = wait_until(lambda: jobs(service, "flash"), what="the flash")[0]
        wait_until(lambda: written_after(trace(tmp_path)), timeout=120, what="its first write")
        stop_when_gone(modem)
        in_phase(service, job, "wait-device")
    service.stop(signal.SIGKILL, modem=modem)
    service.start()
    assert service.get(job, JOB, "Result") == "interrupted"
    [_, again] = wait_finished(service, "flash", 2)
    assert service.get(again, JOB, "Resumes") == job and service.get(again, JOB, "Result") == "done", service.log(again)
    assert_flashed(tmp_path, package)


# ---- a window that closes at every command ----

TOGETHER = 20  # modems at once: one waits most of the time
COMMANDS = 100  # more than a rescue of such a small one takes
TINY = ("--small", "--tiny-chip")


def boots_unverified(before):
    """SBL is written last, and a modem whose window closes between that and its verification finds all that it needs."""
    written = re.split(r' command \d+ program .* start_sector="0"', before)
    return len(written) > 1 and not re.search(r" getsha256digest (?s:.*) response ACK ", written[-1])


@pytest.mark.parametrize("first", range(1, COMMANDS + 1, TOGETHER))
def test_the_window_closes_at_every_command(service, new_modem, make_package, tmp_path, first):
    """Of the catch, the backup, the flash, its verification, the reset: before one is done, and before the next one is answered. Each in
    either way is in tests/faults."""
    package = make_package(*TINY)
    firmware = import_package(service, package)
    expected = tmp_path / "expected"
    expected.mkdir()
    subprocess.run(["tar", "xf", package, "-C", expected], check=True)
    modems = [(f"modem-{n}", f"virtual-usb-0:1.{n}", n, f"unplug@{('done', 'command')[n % 2]}:{n}") for n in range(first, first + TOGETHER)]
    for name, port, n, fault in modems:
        arm(service, "rescue", firmware, port=port)
        subprocess.run([BUILD / "virtual-modem", "--make-flash", "--flash", tmp_path / f"{name}.flash", "--blocks", "16"], check=True)
        flash_py(tmp_path, "--snapshot", tmp_path / f"{name}.before", name=name)
    for name, port, n, fault in modems:
        new_modem(service, f"fault={fault}", f"serial={n:08x}", f"port={port}", f"kernel=1-1.{n}", name=name)
    ended = {service.get(service.get(j, JOB, "Modem"), MODEM, "Port"): j for j in wait_finished(service, "flash", TOGETHER)}
    for name, port, n, fault in modems:
        text, job = trace(tmp_path, name), ended[port]
        struck = f"fault {fault}+0" in text
        assert struck or text.count(" command ") < n, (name, text[-2000:])
        if struck and boots_unverified(text.partition("fault unplug")[0]):
            # Nobody calls it done.
            assert service.get(job, JOB, "Result") == "interrupted", (name, service.log(job)[-1500:])
            assert service.get(job, JOB, "ErrorName").endswith("ModemGone")
            assert "runs its firmware now" in service.get(job, JOB, "ErrorMessage") and service.get(job, JOB, "RecoveryHint") == "retry"
        else:
            assert service.get(job, JOB, "Result") == "done", (name, service.log(job))
        assert text.count("boot normal") == 1 and "VIOLATION" not in text, (name, text[-2000:])
        flash_py(tmp_path, "--before", tmp_path / f"{name}.before", "--package", next(expected.iterdir()), name=name)
    assert first + TOGETHER <= COMMANDS or not struck, "there are more commands than are tried"
