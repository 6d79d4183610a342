# SPDX-License-Identifier: LGPL-2.1-or-later
"""Service, real workers and the virtual modem together: the ways of a job."""

import os
import pathlib
import signal
import subprocess
import threading
import time

import dbus
import pytest
from conftest import FIRMWARE, JOB, MODEM, TOP, VERSION, WELL_BEFORE, Refused, error, go_on, in_phase, pull, wait_stopped, wait_until


def word(**options):
    return dbus.Dictionary({k.replace("_", "-"): v for k, v in options.items()}, signature="sv")


def import_package(service, path):
    job = service.import_file(path)
    assert service.wait_job(job) == "done", service.get(job, JOB, "ErrorMessage")
    return service.get(job, JOB, "Object")


def flash(service, firmware, **options):
    return service.call(service.modem(), MODEM, "Flash", dbus.ObjectPath(firmware), word(modem_version=VERSION, **options))


def judge(tmp_path, *arguments):
    """What tests/modem/flash.py says of the modem's flash."""
    result = subprocess.run(["/usr/bin/python3", TOP / "tests" / "modem" / "flash.py", tmp_path / "modem.flash", *arguments],
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def remember_flash(tmp_path):
    judge(tmp_path, "--snapshot", tmp_path / "before")


def assert_flash_is(tmp_path, package):
    """Page by page what flashing the package onto the remembered flash must give, and no more."""
    directory = tmp_path / "expected"
    directory.mkdir()
    subprocess.run(["tar", "xf", package, "-C", directory], check=True)
    judge(tmp_path, "--before", tmp_path / "before", "--package", next(directory.iterdir()))


# ---- import ----

def test_every_form_of_a_package_is_the_same_firmware(service, make_package):
    paths = [make_package("--small", ending=e) for e in (".tar", ".zip", ".7z", ".tar.gz", ".tar.xz", ".tar.zst")]
    firmware = {str(import_package(service, p)) for p in paths}
    assert len(firmware) == 1 and service.paths(FIRMWARE) == list(firmware)


def test_a_better_name_wins(service, make_package, new_modem, tmp_path):
    """The content has no name: under one that is no version it fits no modem, until it comes under a good one."""
    good = make_package("--small")
    subprocess.run(["tar", "-xf", good, "-C", tmp_path], check=True)
    (tmp_path / VERSION).rename(tmp_path / "from the forum")
    bad = tmp_path / "some.tar"
    subprocess.run(["tar", "-cf", bad, "-C", tmp_path, "from the forum"], check=True)
    firmware = import_package(service, bad)
    assert service.get(firmware, FIRMWARE, "Name") == "from the forum" and service.get(firmware, FIRMWARE, "Prefix") == ""
    new_modem(service)
    assert flash_failure(service, firmware) == error("WrongFirmware")
    assert import_package(service, good) == firmware
    service.restart()
    found = service.all(firmware, FIRMWARE)
    assert found["Name"] == VERSION and found["Prefix"] == "RM502QGLAA" and found["State"] == "ready"
    assert service.paths(FIRMWARE) == [firmware] and len(os.listdir(service.state / "firmware")) == 2
    # One that is there stays.
    assert import_package(service, bad) == firmware and service.get(firmware, FIRMWARE, "Name") == VERSION
    assert service.wait_job(flash(service, firmware)) == "done"


def flash_failure(service, firmware):
    name, job = finished_or_refused(lambda: flash(service, firmware))
    if job:
        assert service.wait_job(job) == "failed"
        name = service.get(job, JOB, "ErrorName")
    return name


def test_a_package_from_a_pipe(service, make_package):
    read_end, write_end = os.pipe()

    def feed():
        with os.fdopen(write_end, "wb") as f:
            f.write(make_package("--small").read_bytes())
    threading.Thread(target=feed).start()
    job = service.import_file(read_end)
    os.close(read_end)
    assert service.wait_job(job) == "done"
    assert service.get(service.get(job, JOB, "Object"), FIRMWARE, "Name") == VERSION


def finished_or_refused(call):
    """The error of a call, whether its pre-flight or its job finds it."""
    try:
        return None, call()
    except dbus.exceptions.DBusException as e:
        return e.get_dbus_name(), None


def failure_of_import(service, fd):
    name, job = finished_or_refused(lambda: service.import_file(fd))
    if not job:
        return name
    assert service.wait_job(job) == "failed"
    return service.get(job, JOB, "ErrorName")


def test_a_pipe_that_says_nothing(new_service):
    service = new_service().start(config="[Limits]\nInputTimeoutSec=1\nPreflightSec=600\n")
    read_end, write_end = os.pipe()
    begin = time.monotonic()
    assert failure_of_import(service, read_end) == error("Timeout")
    assert time.monotonic() - begin < WELL_BEFORE
    os.close(write_end)
    assert os.listdir(service.state / "firmware") == [] and service.workers() == []


def test_a_pipe_that_never_ends(new_service):
    service = new_service().start(config="[Limits]\nPackageSizeMax=4M\n")
    source = subprocess.Popen(["sh", "-c", "head -c 100000000 /dev/zero; sleep 60"], stdout=subprocess.PIPE)
    assert failure_of_import(service, source.stdout.fileno()) in (error("TooLarge"), error("FirmwareInvalid"))
    source.kill()
    source.wait()
    assert service.workers() == []


def test_a_broken_package_lists_its_problems(service, make_package):
    job = service.import_file(make_package("--small", "--break", "wrong-md5"))
    assert service.wait_job(job) == "failed"
    assert service.get(job, JOB, "ErrorName") in (error("DigestMismatch"), error("FirmwareInvalid"))
    problems = service.get(job, JOB, "Report")["problems"]
    assert problems and all(p in service.log(job) for p in problems)
    assert service.paths(FIRMWARE) == [] and os.listdir(service.state / "firmware") == []


def test_verify_finds_what_the_disk_did(service, make_package):
    firmware = import_package(service, make_package("--small"))
    verify = lambda: service.wait_job(service.call(firmware, FIRMWARE, "Verify", service.no_options()))
    assert verify() == "done" and service.get(firmware, FIRMWARE, "State") == "ready"
    tar = next((service.state / "firmware").glob("*.tar"))
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 1
    tar.write_bytes(data)
    assert verify() == "failed" and service.get(firmware, FIRMWARE, "State") == "invalid"


# ---- flash ----

def test_flash_from_library_to_normal_mode(service, new_modem, make_package, tmp_path):
    package = make_package("--small")
    firmware = import_package(service, package)
    new_modem(service)
    modem = service.modem()
    remember_flash(tmp_path)
    assert service.wait_job(service.call(modem, MODEM, "Identify", service.no_options())) == "done"
    assert service.get(modem, MODEM, "Held") and service.get(modem, MODEM, "Chip") == "SDX55"
    job = flash(service, firmware)
    assert service.wait_job(job) == "done", service.get(job, JOB, "ErrorMessage")
    known = service.all(modem, MODEM)
    assert known["Mode"] == "normal" and known["FirmwareVersion"] == VERSION and not known["Held"]
    assert service.get(job, JOB, "SafeToUnplug") and service.get(job, JOB, "Progress") == 1
    assert_flash_is(tmp_path, package)


def test_flash_with_busctl_alone(service, new_modem, make_package, bus_address):
    firmware = import_package(service, make_package("--small"))
    new_modem(service)
    modem = service.modem()
    environment = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=bus_address)

    def busctl(*arguments):
        return subprocess.run(["busctl", "--system", "call", "org.qdld1", *arguments], env=environment, check=True,
                              capture_output=True, text=True).stdout.split()
    job = busctl(modem, MODEM, "Flash", "oa{sv}", firmware, "1", "modem-version", "s", VERSION)[1].strip('"')
    assert busctl(job, JOB, "Wait", "a{sv}", "0", ) == ["s", '"done"']


# In the middle of what is written: SBL is erased, and not all of the rest is there.
WRITING = "fault=stop@program:2"


@pytest.mark.parametrize("victim", ["worker", "service"])
def test_killed_while_writing_and_continued(service, new_modem, make_package, tmp_path, victim):
    package = make_package("--small")
    firmware = import_package(service, package)
    process = new_modem(service, WRITING)
    modem = service.modem()
    remember_flash(tmp_path)
    job = flash(service, firmware)
    wait_stopped(process)
    in_phase(service, job, "program")
    if victim == "worker":
        os.kill(service.workers()[0], signal.SIGKILL)
        go_on(process)
        assert service.wait_job(job) == "failed"
    else:
        # The modem is a client of the service's socket: it comes back as a new appearance.
        service.stop(signal.SIGKILL, modem=process)
        service.start()
        assert service.get(job, JOB, "Result") == "interrupted"
        service.modem()
    assert service.get(modem, MODEM, "Interrupted") == job
    again = flash(service, firmware)
    assert service.wait_job(again) == "done", service.log(again)
    assert service.get(again, JOB, "Resumes") == job and service.get(modem, MODEM, "Interrupted") == "/"
    assert_flash_is(tmp_path, package)


@pytest.mark.parametrize("victim", ["worker", "service"])
def test_killed_behind_the_reset_and_continued(service, new_modem, make_package, tmp_path, victim):
    """Everything is written and the modem on its way to normal mode: it is not waited for in 9008, where it never comes again."""
    package = make_package("--small")
    firmware = import_package(service, package)
    process = new_modem(service, "fault=stop@gone:1")  # it does not come back before the test has looked
    modem = service.modem()
    remember_flash(tmp_path)
    job = flash(service, firmware)
    wait_stopped(process)
    in_phase(service, job, "wait-normal")
    if victim == "worker":
        os.kill(service.workers()[0], signal.SIGKILL)
        assert service.wait_job(job) == "failed"
    else:
        service.stop(signal.SIGKILL)
        service.start()
        assert service.get(job, JOB, "Result") == "interrupted"
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "absent", what="the modem's end in 9008")
    assert service.get(modem, MODEM, "Interrupted") == job
    again = service.call(modem, MODEM, "Flash", dbus.ObjectPath(firmware), word(modem_version=VERSION))
    go_on(process)
    assert service.wait_job(again) == "done", service.log(again)
    assert service.get(again, JOB, "Resumes") == job and service.get(modem, MODEM, "Interrupted") == "/"
    report = service.get(again, JOB, "Report")
    assert "continues" in report["verified"] and "continues" in report["backup"] and VERSION in report["version"]
    assert_flash_is(tmp_path, package)


def test_killed_behind_the_reset_and_back_in_9008(service, new_modem, make_package, tmp_path):
    """It did not boot: everything is read again, and it is reset once more."""
    package = make_package("--small")
    firmware = import_package(service, package)
    process = new_modem(service, "fault=stop@gone:1")
    modem = service.modem()
    remember_flash(tmp_path)
    job = flash(service, firmware)
    in_phase(service, job, "wait-normal")
    os.kill(service.workers()[0], signal.SIGKILL)
    assert service.wait_job(job) == "failed"
    pull(process)
    again = service.call(modem, MODEM, "Flash", dbus.ObjectPath(firmware), word(modem_version=VERSION))
    in_phase(service, again, "wait-device")
    new_modem(service, "start=sahara")
    assert service.wait_job(again) == "done", service.log(again)
    assert "SBL" in service.get(again, JOB, "Report")["verified"]
    assert_flash_is(tmp_path, package)


def test_stop_while_writing_is_an_interruption(service, new_modem, make_package, tmp_path):
    package = make_package("--small")
    firmware = import_package(service, package)
    process = new_modem(service, WRITING)
    modem = service.modem()
    remember_flash(tmp_path)
    job = flash(service, firmware)
    wait_stopped(process)
    assert service.stop(modem=process) == 0
    service.start()
    assert service.get(job, JOB, "Result") == "interrupted"
    service.modem()
    assert service.get(modem, MODEM, "Interrupted") == job
    again = flash(service, firmware)
    assert service.wait_job(again) == "done", service.log(again)
    assert_flash_is(tmp_path, package)


def test_many_modems_at_once(service, new_modem, make_package):
    firmware = import_package(service, make_package("--small"))
    for i in range(3):
        new_modem(service, f"port=virtual-usb-0:{i}", f"kernel=1-{i}", f"serial=0000000{i + 1}", name=f"modem{i}")
    modems = wait_until(lambda: len(service.paths(MODEM)) == 3 and service.paths(MODEM))
    jobs = [service.call(m, MODEM, "Flash", dbus.ObjectPath(firmware), word(modem_version=VERSION)) for m in modems]
    assert [service.wait_job(j) for j in jobs] == ["done"] * 3, [(service.get(j, JOB, "ErrorMessage"), service.log(j)[-600:]) for j in jobs]


def test_nothing_is_left_open(service, new_modem, make_package):
    """Ten jobs do not make the service larger by a descriptor."""
    firmware = import_package(service, make_package("--small"))
    new_modem(service)
    modem = service.modem()
    count = lambda: len(list(pathlib.Path(f"/proc/{service.process.pid}/fd").iterdir()))
    assert service.wait_job(service.call(modem, MODEM, "Identify", service.no_options())) == "done"
    before = count()
    for _ in range(5):
        assert service.wait_job(service.call(modem, MODEM, "Identify", service.no_options())) == "done"
        assert service.wait_job(service.call(firmware, FIRMWARE, "Verify", service.no_options())) == "done"
        service.call(modem, MODEM, "Plan", dbus.ObjectPath(firmware), word(modem_version=VERSION))
    wait_until(lambda: len(service.workers()) == 1)
    wait_until(lambda: count() <= before)


def test_errors_of_a_flash_before_anything_is_sent(service, new_modem, make_package, tmp_path):
    wrong = import_package(service, make_package("--small"))
    new_modem(service)
    modem = service.modem()
    with Refused("WrongFirmware") as e:
        service.call(modem, MODEM, "Flash", dbus.ObjectPath(wrong), word(modem_version="EC25EFAR06A01M4G"))
    assert "EC25" in e.message and "RM502Q" in e.message
    with Refused("WrongFirmware"):
        service.call(modem, MODEM, "Plan", dbus.ObjectPath(wrong), word(modem_version="EC25EFAR06A01M4G"))
    assert service.paths(JOB) == [p for p in service.paths(JOB) if service.get(p, JOB, "Kind") == "import"]
    assert not service.get(modem, MODEM, "Held")


# ---- a modem that boots in the middle ----

def take_away(service, process):
    pull(process)
    wait_until(lambda: service.get(service.paths(MODEM)[0], MODEM, "Mode") == "absent")


def boot(service, plug):
    plug(service, vid="2c7c", pid="0800", product="RM502Q-GL", interfaces=5)


def flash_in_its_middle(service, new_modem, make_package):
    firmware = import_package(service, make_package("--small"))
    process = new_modem(service, WRITING)
    modem = service.modem()
    job = flash(service, firmware)
    wait_stopped(process)
    return process, modem, job


def test_lost_in_the_middle_and_back_in_normal_mode(service, new_modem, make_package, plug):
    process, modem, job = flash_in_its_middle(service, new_modem, make_package)
    take_away(service, process)
    in_phase(service, job, "wait-device")
    begin = time.monotonic()
    boot(service, plug)
    assert service.wait_job(job) == "interrupted"
    assert time.monotonic() - begin < WELL_BEFORE  # of the 600 s that it would wait for 9008
    assert service.get(job, JOB, "ErrorName") == error("ModemGone")
    assert "runs its firmware now" in service.get(job, JOB, "ErrorMessage")
    assert service.get(job, JOB, "RecoveryHint") == "retry"
    assert service.get(modem, MODEM, "Interrupted") == "/" and service.get(modem, MODEM, "Mode") == "normal"


def test_it_boots_while_the_worker_looks_away(service, new_modem, make_package, plug):
    """What the modem does between its loss and the worker's end voids the journal, too."""
    process, modem, job = flash_in_its_middle(service, new_modem, make_package)
    worker = service.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    take_away(service, process)
    boot(service, plug)
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal")
    os.kill(worker, signal.SIGKILL)
    assert service.wait_job(job) == "failed"
    assert service.get(modem, MODEM, "Interrupted") == "/"
    assert not list((service.state / "jobs").glob("*.journal"))
