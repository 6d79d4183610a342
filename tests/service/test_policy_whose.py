# SPDX-License-Identifier: LGPL-2.1-or-later
"""A policy is its unit's: what else comes to that place may be caught and held by it, and is not written to."""

import pytest
from catching import (LOOP, OTHER_PORT, PORT, Later, arm, find_modem, import_package, jobs, nothing_was_written, set_policy, turns, wait_held)
from conftest import JOB, MODEM, VERSION, pull, time_is_over, wait_until

PATIENT = "[Limits]\nPreflightSec=600\n"  # a standby may be getting ready when the clock is set on
ASKED = "[Identify]\nOnAppear=yes\nDelaySec=0\n[Backup]\nAutomatic=no\n" + PATIENT
RUNS = ("initial=working", "boots=falls-back", "normal_ms=600000")  # until time_is_over()
ANOTHER = ("serial=0badcafe", "project=")  # what it runs nobody can read: only the word for another one's label would do
MINUTE = 60 * 1000000


def mode(service, path, *modes):
    wait_until(lambda: service.get(path, MODEM, "Mode") in modes, what=" or ".join(modes))


def imei(service, path):
    wait_until(lambda: service.get(path, MODEM, "Imei"), what="its IMEI")


def note(service, path, text):
    wait_until(lambda: text in service.get(path, MODEM, "Note"), what=f"a note with {text!r}")
    return str(service.get(path, MODEM, "Note"))


def flashed(service):
    def done():
        found = jobs(service, "flash")
        return found[0] if found and service.get(found[0], JOB, "State") == "finished" else None
    job = wait_until(done, what="its flash")
    assert service.get(job, JOB, "Result") == "done", service.log(job)


def policy_of(service, path):
    f = service.all(path, MODEM)
    return f["Policy"], f["RescueFirmware"]


def held_and_no_more(service, path, tmp_path, name):
    wait_held(service, path)
    said = note(service, path, "whether it is the unit that its policy was set for is not known")
    assert "set the policy anew" in said and said in service.errors()
    assert not jobs(service, "flash") and nothing_was_written(tmp_path, name)


@pytest.fixture
def later(tmp_path):
    return Later(tmp_path)


@pytest.fixture
def running(new_service, new_modem, make_package, later):
    """A unit that runs its firmware, has told its IMEI or (asked=False) nothing, and has a policy: service, path, modem, firmware."""
    def make(*settings, asked=True):
        service = new_service().start(config=ASKED if asked else PATIENT, environment=later.environment)
        firmware = import_package(service, make_package("--small"))
        modem = new_modem(service, *RUNS, *settings)
        path = find_modem(service)
        mode(service, path, "normal")
        if asked:
            imei(service, path)
        set_policy(service, path, "rescue", firmware, modem_version=VERSION)
        return service, path, modem, firmware
    return make


def away(service, path, modem):
    pull(modem)
    mode(service, path, "absent")


@pytest.mark.parametrize("asked", [True, False], ids=["IMEI known", "nothing known"])
@pytest.mark.parametrize("restarted", [False, True], ids=["a minute later", "after a restart"])
def test_a_module_in_its_place_is_held_and_not_flashed(running, new_modem, later, tmp_path, asked, restarted):
    """Its own serial is the first one that is told there; the word for what the label says was of another one."""
    service, path, modem, firmware = running(asked=asked)
    away(service, path, modem)
    if restarted:
        service.restart(config=ASKED if asked else PATIENT)
    later.go(MINUTE)
    new_modem(service, *LOOP, *ANOTHER, name="other")
    held_and_no_more(service, path, tmp_path, "other")
    assert service.get(path, MODEM, "ChipSerial") == "0badcafe"
    # A human says that it is meant.
    set_policy(service, path, "rescue", firmware, modem_version=VERSION)
    flashed(service)


@pytest.mark.parametrize("asked", [True, False], ids=["IMEI known", "nothing known"])
@pytest.mark.parametrize("serial", ["49cbd7ef", "0"], ids=["serial", "no serial"])
def test_it_is_rescued_itself_when_it_falls(running, asked, serial):
    service, path, modem, _ = running(f"serial={serial}", asked=asked)
    assert service.get(path, MODEM, "Note") == "is rescued when it appears in 9008"
    time_is_over(modem)
    flashed(service)


def test_it_is_known_again_by_its_imei(running, new_modem, later):
    """Away for long, the service started anew: its own word counts."""
    service, path, modem, _ = running()
    away(service, path, modem)
    service.restart(config=ASKED)
    later.go(MINUTE)
    assert "once it is known" in note(service, path, "is caught when it appears in 9008")
    modem = new_modem(service, *RUNS)
    note(service, path, "is rescued when it appears in 9008")
    time_is_over(modem)
    flashed(service)


def test_an_imei_that_is_told_later_is_its_own(running, new_modem, later):
    """Set before anybody had asked it."""
    service, path, modem, _ = running(asked=False)
    service.wait_job(service.call(path, MODEM, "Identify", service.no_options()))
    away(service, path, modem)
    service.restart(config=ASKED)
    later.go(MINUTE)
    modem = new_modem(service, *RUNS)
    note(service, path, "is rescued when it appears in 9008")
    time_is_over(modem)
    flashed(service)


def test_another_one_that_runs_there_is_not_it(running, new_modem, later, tmp_path):
    """It tells another IMEI: what becomes of it is watched, and is not the old one's."""
    service, path, modem, _ = running()
    before = service.get(path, MODEM, "Imei")
    away(service, path, modem)
    modem = new_modem(service, *RUNS, *ANOTHER, name="other")
    wait_until(lambda: service.get(path, MODEM, "Imei") not in ("", before), what="its IMEI")
    assert "once it is known" in note(service, path, "is caught when it appears in 9008")
    time_is_over(modem)
    held_and_no_more(service, path, tmp_path, "other")


def test_it_takes_its_policy_to_another_connector(running, new_modem, later, tmp_path):
    """Known by its IMEI there, before it had ever told a serial; what comes to the old place has none."""
    service, path, modem, firmware = running()
    away(service, path, modem)
    modem = new_modem(service, *RUNS, f"port={OTHER_PORT}", "kernel=1-1.3")
    there = find_modem(service, OTHER_PORT)
    wait_until(lambda: service.get(there, MODEM, "RescueFirmware") == firmware, what="its policy")
    assert service.get(path, MODEM, "Policy") == "hold" and len(list((service.state / "modems").glob("*.arm"))) == 1
    new_modem(service, *LOOP, *ANOTHER, name="other")
    wait_held(service, path)
    time_is_over(modem)
    flashed(service)
    assert nothing_was_written(tmp_path, "other") and service.get(jobs(service, "flash")[0], JOB, "Modem") == there


def test_a_unit_that_is_known_is_not_taken_for_it_however_fast_it_comes(new_service, new_modem, make_package, later, tmp_path):
    """Changed within the time of a mode switch: its serial belongs to another IMEI."""
    service = new_service().start(config=ASKED, environment=later.environment)
    arm(service)
    firmware = import_package(service, make_package("--small"))
    other = new_modem(service, *RUNS, "serial=0badcafe", name="other")
    path = find_modem(service)
    imei(service, path)
    before = service.get(path, MODEM, "Imei")
    time_is_over(other)
    wait_held(service, path)
    away(service, path, other)
    later.go(MINUTE)
    modem = new_modem(service, *RUNS)
    wait_until(lambda: service.get(path, MODEM, "Imei") not in ("", before), what="the IMEI of the one that has no serial yet")
    set_policy(service, path, "rescue", firmware, modem_version=VERSION)
    away(service, path, modem)
    new_modem(service, "serial=0badcafe", "force_edl=yes", name="other")
    wait_until(lambda: service.get(path, MODEM, "ChipSerial") == "0badcafe", what="its serial")
    held_and_no_more(service, path, tmp_path, "other")
    # Nor has it another one's IMEI now.
    assert service.get(path, MODEM, "Imei") == before


@pytest.mark.parametrize("product", ["", "QUSB_BULK"], ids=["product string", "Sahara"])
def test_one_without_a_serial_does_not_get_the_policy_of_one_that_has_one(service, plug, new_modem, make_package, tmp_path, product):
    firmware = import_package(service, make_package("--small"))
    plug(service).unplug()
    path = find_modem(service)
    mode(service, path, "absent")
    set_policy(service, path, "rescue", firmware, modem_version=VERSION)
    new_modem(service, *LOOP, "serial=0", *([f"product_edl={product}"] if product else []))
    wait_until(lambda: service.get(path, MODEM, "ChipSerial") == "", what="that it has none")
    assert policy_of(service, path) == ("hold", "/")
    turns(service, path, 2) if not product else wait_held(service, path)
    assert policy_of(service, path) == ("hold", "/") and not jobs(service, "flash") and nothing_was_written(tmp_path)


def test_a_connector_s_policy_is_whoever_s_comes(service, new_modem, make_package):
    """ArmPort says so."""
    firmware = import_package(service, make_package("--small"))
    arm(service, "rescue", firmware, port=PORT, modem_version=VERSION)
    new_modem(service, *LOOP, *ANOTHER)
    flashed(service)
