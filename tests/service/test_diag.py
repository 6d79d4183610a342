# SPDX-License-Identifier: LGPL-2.1-or-later
"""The modem that still runs: who it is, and its way to 9008. The real service, real workers, a virtual modem in normal mode."""

import subprocess

import dbus
import pytest
from conftest import JOB, MODEM, Refused, wait_until

WORKING = "initial=working"
VERSION = "RM502QGLAAR05A03M4G"
IMEI = "490154203237518"
MASKED = "49***********18"
ASKED = "[Identify]\nOnAppear=yes\nDelaySec=0\n"


@pytest.fixture
def running(new_service, new_modem):
    """running("setting", config=...) -> service, modem: one in normal mode."""
    def make(*settings, config="", **options):
        service = new_service().start(config=config)
        new_modem(service, WORKING, "imei=" + IMEI, *settings, **{"blocks": 192, **options})
        return service, service.modem()
    return make


def run(service, modem, method, **options):
    job = service.call(modem, MODEM, method, dbus.Dictionary(options, signature="sv"))
    result = service.wait_job(job)
    return job, result


def is_nowhere(text, *places):
    return subprocess.run(["grep", "-r", "-a", "-l", text, *map(str, places)], capture_output=True, text=True).stdout == ""


def trace(service, name="modem"):
    return (service.directory / (name + ".trace")).read_text(errors="replace")


# ---- who it is ----

def test_identify(running):
    service, modem = running()
    assert service.get(modem, MODEM, "Mode") == "normal"
    job, result = run(service, modem, "Identify")
    assert result == "done", service.get(job, JOB, "ErrorMessage")
    facts = service.all(modem, MODEM)
    assert facts["FirmwareVersion"] == VERSION and facts["Model"] == "RM502QGL" and facts["Confirmed"]
    assert facts["Imei"] == MASKED and not facts["FactoryTestMode"] and not facts["Held"]
    report = service.get(job, JOB, "Report")
    assert report["version"] == VERSION and report["imei"] == MASKED
    # Twice in a row: the interface was given back.
    assert run(service, modem, "Identify")[1] == "done"
    # The number itself is nowhere: not on disk, not in logs.
    assert is_nowhere(IMEI, service.state, service.directory / "qdld.stderr")
    assert IMEI not in service.log(job)
    service.restart()
    wait_until(lambda: service.paths(MODEM), what="the remembered modem")
    assert service.get(modem, MODEM, "Imei") == MASKED and service.get(modem, MODEM, "FirmwareVersion") == VERSION


def test_factory_test_mode_is_shown(running):
    service, modem = running("calibration=erased")
    assert run(service, modem, "Identify")[1] == "done"
    assert service.get(modem, MODEM, "FactoryTestMode") and service.get(modem, MODEM, "Imei") == ""


def test_asked_when_it_appears(running):
    service, modem = running(config=ASKED)
    wait_until(lambda: service.get(modem, MODEM, "FirmwareVersion") == VERSION, what="the version")
    wait_until(lambda: service.get(modem, MODEM, "Imei") == MASKED, what="the IMEI")
    wait_until(lambda: not service.workers(), what="the end of the worker")
    assert service.paths(JOB) == []
    # Once an appearance.
    before = trace(service).count("command=0x7c")
    assert before == 1
    assert run(service, modem, "Identify")[1] == "done"
    wait_until(lambda: not service.workers(), what="the end of the worker")
    assert trace(service).count("command=0x7c") == 2


def test_not_asked_if_it_is_switched_off(running):
    service, modem = running(config="[Identify]\nOnAppear=no\nDelaySec=0\n")
    assert run(service, modem, "Identify")[1] == "done"
    assert trace(service).count("command=0x7c") == 1


def test_a_silent_one_disturbs_nobody(new_service, plug):
    """It takes what it is given and says nothing; the user's job gets it at once, without ModemBusy."""
    service = new_service().start(config=ASKED)
    plug(service, vid="2c7c", pid="0800", product="RM502Q-GL", interfaces=5)
    modem = service.modem()
    wait_until(service.workers, what="the worker that asks")
    job = service.call(modem, MODEM, "Identify", service.no_options())
    assert service.get(job, JOB, "State") == "running"
    wait_until(lambda: len(service.workers()) == 1, what="the end of the one that was not asked for")
    service.call(job, JOB, "Cancel", service.no_options())
    assert service.wait_job(job) == "cancelled"


# ---- into EDL ----

def test_enter_edl(running):
    service, modem = running()
    job, result = run(service, modem, "EnterEdl")
    assert result == "done", service.get(job, JOB, "ErrorMessage")
    facts = service.all(modem, MODEM)
    assert facts["Mode"] == "sahara" and facts["Held"] and facts["ChipSerial"] == "49cbd7ef"
    # What was learned in normal mode is known to be this very device's.
    assert facts["Confirmed"] and facts["FirmwareVersion"] == VERSION and facts["Imei"] == MASKED
    with Refused("WrongMode") as e:
        service.call(modem, MODEM, "EnterEdl", service.no_options())
    assert "already" in e.message
