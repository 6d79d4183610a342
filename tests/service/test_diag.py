# SPDX-License-Identifier: LGPL-2.1-or-later
"""The modem that still runs: who it is, and its way to 9008. The real service, real workers, a virtual modem in normal mode."""

import re
import subprocess

import dbus
import pytest
from conftest import BACKUP, JOB, MODEM, Refused, wait_until
from test_qdlctl_backup import qdlctl  # noqa: F401 (a fixture)

WORKING = "initial=working"
VERSION = "RM502QGLAAR05A03M4G"
IMEI = "490154203237518"
MASKED = "49***********18"
SHORT = 8  # requests: silencing, is anybody there, version, IMEI, mode
ASKED = "[Identify]\nOnAppear=yes\nDelaySec=0\n"
ONLY_ASKED = ASKED + "[Backup]\nAutomatic=no\n"


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
    # No code and no password before the modem asks, one short exchange, nothing written.
    said = trace(service)
    assert "command=0x41" not in said and "command=0x46" not in said and said.count("diag request=") <= SHORT
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
    service, modem = running(config=ONLY_ASKED)
    wait_until(lambda: service.get(modem, MODEM, "FirmwareVersion") == VERSION, what="the version")
    wait_until(lambda: service.get(modem, MODEM, "Imei") == MASKED, what="the IMEI")
    wait_until(lambda: not service.workers(), what="the end of the worker")
    assert service.paths(JOB) == []
    # Once an appearance.
    assert trace(service).count("command=0x7c") == 1 and trace(service).count("diag request=") <= SHORT
    assert run(service, modem, "Identify")[1] == "done"
    wait_until(lambda: not service.workers(), what="the end of the worker")
    assert trace(service).count("command=0x7c") == 2


def test_not_asked_if_it_is_switched_off(running):
    """It runs its firmware for a second, in which it would have been asked, and is in 9008 again."""
    service, modem = running("boots=falls-back", "normal_ms=1000", config="[Identify]\nOnAppear=no\nDelaySec=0\n")
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "sahara", what="9008")
    assert "plug 2c7c" in trace(service) and "diag request" not in trace(service)


def test_why_it_could_not_be_asked_is_told(running):
    service, modem = running("fault=nak@every:1", config=ONLY_ASKED)
    log = service.directory / "qdld.stderr"
    wait_until(lambda: "could not be asked who it is: " in log.read_text(), what="the reason in the journal")
    wait_until(lambda: not service.workers(), what="the end of the worker")
    assert "was killed" not in log.read_text(), log.read_text()


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


def test_the_whole_imei_is_told_to_the_one_who_may_ask(running):
    service, modem = running()
    told = service.call(modem, MODEM, "GetIdentity", service.no_options())
    assert told == {"imei": IMEI, "version": VERSION, "model": "RM502Q-GL"}
    # And to nobody else: no job, no record, no log.
    assert service.paths(JOB) == [] and is_nowhere(IMEI, service.state, service.directory / "qdld.stderr")
    assert service.get(modem, MODEM, "Imei") == MASKED
    # The modem is free again.
    assert run(service, modem, "EnterEdl")[1] == "done"
    with Refused("WrongMode"):
        service.call(modem, MODEM, "GetIdentity", service.no_options())


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


def test_enter_edl_from_a_crash_dump_that_listens(running):
    """SDX55's 2c7c:0800 with one interface (reference/edl.md 3.1): no identity, and the way to 9008 all the same."""
    service, modem = running("start=crash-dump")
    assert service.get(modem, MODEM, "Mode") == "crash-dump" and service.get(modem, MODEM, "VendorId") == 0x2c7c
    job, result = run(service, modem, "EnterEdl")
    assert result == "done", (service.get(job, JOB, "ErrorMessage"), service.log(job), trace(service)[-1500:])
    assert service.get(modem, MODEM, "Mode") == "sahara" and service.get(modem, MODEM, "Held")
    assert service.get(modem, MODEM, "ChipSerial") == "49cbd7ef" and "VIOLATION" not in trace(service)


def test_no_way_from_qualcomms_own_crash_dump(running):
    service, modem = running("start=crash-dump", "crash_id=qualcomm")
    with Refused("WrongMode") as e:
        service.call(modem, MODEM, "EnterEdl", service.no_options())
    assert "crash-dump" in e.message


# ---- a restart ----

@pytest.mark.parametrize("mode", ["normal", "edl", "off"])
def test_reset_of_a_running_modem(running, mode):
    service, modem = running("sahara_reset=reboot")
    job, result = run(service, modem, "Reset", mode=mode)
    assert result == "done", (service.get(job, JOB, "ErrorMessage"), service.log(job))
    wanted = {"normal": "normal", "edl": "sahara", "off": "absent"}[mode]
    wait_until(lambda: service.get(modem, MODEM, "Mode") == wanted, what=wanted)
    assert trace(service).count("diag request=") and trace(service).count("command=0x29") == (mode != "edl")
    assert service.get(modem, MODEM, "Held") == (mode == "edl")
    if mode == "normal":
        assert service.get(job, JOB, "Report")["came-back"] == "normal"
        assert run(service, modem, "Identify")[1] == "done"


# ---- from a running state in one command ----

@pytest.fixture
def with_firmware(running, make_package):
    """with_firmware(package arguments, settings...) -> service, modem, firmware: a modem of 2048 blocks in normal mode."""
    def make(*settings, package=("--small",), version="RM502QGLAAR05A04M4G_01.001.01.001", **options):
        service, modem = running(*settings, **{"blocks": 2048, **options})
        archive = make_package(*package, "--version", version, name=version)
        job = service.import_file(archive)
        assert service.wait_job(job) == "done", service.get(job, JOB, "ErrorMessage")
        return service, modem, dbus.ObjectPath(service.get(job, JOB, "Object"))
    return make


def flash(service, modem, firmware, **options):
    job = service.call(modem, MODEM, "Flash", firmware, dbus.Dictionary(options, signature="sv"))
    return job, service.wait_job(job)


def test_flash_of_a_running_modem(with_firmware):
    service, modem, firmware = with_firmware()
    job, result = flash(service, modem, firmware)
    assert result == "done", (service.get(job, JOB, "ErrorMessage"), service.log(job))
    # Asked in normal mode, written in 9008, asked again: that is one window, which nobody is told of.
    assert service.get(job, JOB, "Window") == 1
    # The version is the modem's own word now.
    assert service.get(job, JOB, "Report")["version"] == "RM502QGLAAR05A04M4G_01.001.01.001"
    facts = service.all(modem, MODEM)
    assert facts["Mode"] == "normal" and facts["FirmwareVersion"].startswith("RM502QGLAAR05A04M4G") and facts["Confirmed"]
    # It was saved before, item by item and from the flash; and it is what it was.
    kinds = sorted(str(service.get(b, BACKUP, "Kind")) for b in service.paths(BACKUP))
    assert kinds == ["calibration", "xqcn"], service.log(job)
    assert "xqcn" in service.get(job, JOB, "Report")["calibration"]
    assert not facts["FactoryTestMode"]
    assert run(service, modem, "Identify")[1] == "done"
    assert service.get(modem, MODEM, "Imei") == MASKED


def percent_of(printed, phase):
    """The first and the last percentage of a phase's plain lines."""
    found = [int(n) for n in re.findall(r"^ *(\d+) %  (?:\S+ )?" + phase, printed, re.M)]
    return found[0], found[-1]


def test_the_bar_of_such_a_flash_is_of_all_of_it(with_firmware, qdlctl):
    """It is not at its end when the calibration is saved."""
    with_firmware("program_us=100000")  # so that a bar is shown of what else takes no time
    printed = qdlctl("--yes", "flash", "RM502QGLAAR05A04M4G_01.001.01.001").stdout
    saved, begun, written = percent_of(printed, "saving NV"), percent_of(printed, "erasing"), percent_of(printed, "verifying SBL")
    assert saved[0] == 0 and 5 < saved[1] < 40 and begun[0] < 45 and written[1] > begun[0] + 10, printed


def test_a_running_modem_stays_where_it_is_for_a_wrong_package(with_firmware):
    service, modem, firmware = with_firmware(version="RM502QGLAAR11A04M4G_01.001.01.001")
    job, result = flash(service, modem, firmware)
    assert result == "failed" and str(service.get(job, JOB, "ErrorName")).endswith("WrongFirmware")
    assert VERSION in service.get(job, JOB, "ErrorMessage")
    assert service.get(modem, MODEM, "Mode") == "normal" and "4b650100" not in trace(service) and "plug 05c6" not in trace(service)
    # Known from now on: the call itself is refused.
    with Refused("WrongFirmware"):
        flash(service, modem, firmware)


def test_a_failure_before_the_first_erase_brings_it_back(with_firmware):
    """Flash rule 11."""
    service, modem, firmware = with_firmware("vendor=refuse", package=("--small", "--vendor-tag"))
    job, result = flash(service, modem, firmware)
    assert result == "failed", service.log(job)
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal", what="normal mode")
    assert "plug 05c6:9008" in trace(service)


def test_backup_of_a_running_modem(with_firmware):
    service, modem, _ = with_firmware(blocks=512)
    job, result = run(service, modem, "Backup", kind="calibration")
    assert result == "done", service.get(job, JOB, "ErrorMessage")
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal", what="normal mode")


# ---- modems that make it hard ----

@pytest.mark.parametrize("setting", ["diag_flood=until-silenced", "diag_flood=always", "diag_logs=50", "diag_split=1", "diag_glue=yes",
                                     "diag_tail=yes", "diag_spc=all", "diag_password=all", "fault=crc@diag:5", "fault=silent@diag:6",
                                     "fault=other@diag:6", "fault=twice@diag:5", "max_packet_normal=64"])
def test_identify_all_the_same(running, setting):
    service, modem = running(setting)
    job, result = run(service, modem, "Identify")
    assert result == "done", (service.get(job, JOB, "ErrorMessage"), trace(service)[-1500:])
    assert service.get(modem, MODEM, "FirmwareVersion") == VERSION and service.get(modem, MODEM, "Imei") == MASKED
    assert "VIOLATION" not in trace(service)


@pytest.mark.parametrize("setting", ["diag_spc=all", "diag_password=all"])
def test_no_code_is_guessed(running, setting):
    """One with another code than the default keeps its secrets, and is asked once."""
    service, modem = running(setting, "spc=123456")
    job, result = run(service, modem, "Identify")
    facts = service.all(modem, MODEM)
    if setting == "diag_spc=all":
        assert result == "done" and facts["Imei"] == "" and facts["FirmwareVersion"] == VERSION
        assert trace(service).count("command=0x41") == 1
    else:
        assert facts["Imei"] == MASKED
