# SPDX-License-Identifier: LGPL-2.1-or-later
"""Policies of units and connectors: who may have which, what outlives what."""

import dbus
import pytest
from catching import (LOOP, OTHER_PORT, PORT, arm, count, find_modem, import_package, jobs, options, set_policy, trace, turns, wait_held)
from conftest import FIRMWARE, INVALID_ARGS, JOB, MODEM, PATIENCE, Refused, wait_until

MODULE = {"vid": "2c7c", "pid": "0800", "product": "RM502Q-GL", "interfaces": 5}


@pytest.fixture
def firmware(service, make_package):
    return import_package(service, make_package("--small"))


def away(service, path):
    wait_until(lambda: service.get(path, MODEM, "Mode") == "absent", what="its end")


@pytest.fixture
def unit(service, plug):
    """The path of a modem that said its serial, and is away again."""
    plug(service).unplug()
    path = find_modem(service)
    away(service, path)
    return path


def policy_of(service, path):
    f = service.all(path, MODEM)
    return f["Policy"], f["RescueFirmware"]


def test_what_makes_no_sense_is_refused(service, unit, firmware):
    for policy, path, values in (("always", "/", {}), ("rescue", "/", {}), ("hold", firmware, {}), ("off", firmware, {}),
                                 ("hold", "/", {"modem_version": "RM502QGLAAR05A03M4G"}), ("rescue", firmware, {"modem_version": "a\nb"})):
        with Refused(INVALID_ARGS):
            set_policy(service, unit, policy, path, **values)
        with Refused(INVALID_ARGS):
            arm(service, policy, path, **values)
    with Refused("NoSuchFirmware"):
        set_policy(service, unit, "rescue", "/org/qdld1/firmware/none")
    for port in ("", "../../etc/passwd", "x" * 200, "a b"):
        with Refused(INVALID_ARGS):
            arm(service, port=port)
    assert policy_of(service, unit) == ("hold", "/") and len(service.paths(MODEM)) == 1


def test_a_unit_takes_its_policy_along(service, plug, unit, firmware):
    set_policy(service, unit, "rescue", firmware)
    assert policy_of(service, unit) == ("rescue", firmware)
    service.restart()
    assert policy_of(service, unit) == ("rescue", firmware)
    plug(service, port=OTHER_PORT, kernel="1-1.3")
    there = find_modem(service, OTHER_PORT)
    assert policy_of(service, there) == ("rescue", firmware) and policy_of(service, unit) == ("hold", "/")


def test_another_unit_does_not_inherit_it(service, plug, unit, firmware):
    """Somebody swapped the card: what was said of the old one is not said of the new one."""
    set_policy(service, unit, "rescue", firmware)
    p = plug(service, product="QUSB_BULK_CID:0410_SN:0BADCAFE")
    wait_until(lambda: service.get(unit, MODEM, "ChipSerial") == "0badcafe", what="the other one")
    assert policy_of(service, unit) == ("hold", "/")
    p.unplug()
    plug(service)
    wait_until(lambda: service.get(unit, MODEM, "ChipSerial") == "49cbd7ef", what="the old one")
    assert policy_of(service, unit) == ("rescue", firmware)


def test_a_connector_may_be_armed_before_anything_is_there(service, firmware):
    arm(service, "rescue", firmware, modem_version="RM502QGLAAR05A03M4G")
    path = find_modem(service)
    assert service.get(path, MODEM, "Mode") == "absent" and policy_of(service, path) == ("rescue", firmware)
    service.restart()
    assert policy_of(service, find_modem(service)) == ("rescue", firmware)
    arm(service, "off")
    assert policy_of(service, path) == ("off", "/")


def test_the_unit_s_own_goes_before_the_connector_s(service, unit):
    arm(service, "off")
    assert policy_of(service, unit) == ("off", "/")
    set_policy(service, unit, "hold")
    assert policy_of(service, unit) == ("hold", "/")
    arm(service, "off")
    assert policy_of(service, unit) == ("hold", "/")


def serial_is(service, path, serial):
    wait_until(lambda: service.get(path, MODEM, "ChipSerial") == serial, what=serial)


def test_it_goes_to_the_unit_once_that_has_a_name(service, plug, firmware):
    """Said of a modem in normal mode, where nothing tells a serial; the word for what its label says is not another module's."""
    p = plug(service, **MODULE)
    path = find_modem(service)
    set_policy(service, path, "rescue", firmware, modem_version="RM502QGLAAR05A03M4G")
    p.unplug()
    away(service, path)
    plug(service).unplug()
    serial_is(service, path, "49cbd7ef")
    away(service, path)
    assert policy_of(service, path) == ("rescue", firmware)
    wait_until(lambda: not list((service.state / "modems").glob("*.arm")), what="the connector's file to go")
    plug(service, product="QUSB_BULK_CID:0410_SN:0BADCAFE").unplug()
    serial_is(service, path, "0badcafe")
    assert policy_of(service, path) == ("hold", "/")
    service.restart()
    assert policy_of(service, path) == ("hold", "/")
    plug(service, port=OTHER_PORT, kernel="1-1.3")
    assert policy_of(service, find_modem(service, OTHER_PORT)) == ("rescue", firmware)
    records = [f.read_text() for f in (service.state / "modems").glob("*.rec")]
    assert [r for r in records if "SERIAL=49cbd7ef" in r and "POLICY_VERSION=RM502QGLAAR05A03M4G" in r]


def test_a_stranger_to_it_keeps_his_own(service, plug, unit, firmware):
    """What was said of a nameless one is not said of one that comes later with a policy of its own."""
    set_policy(service, unit, "off")
    plug(service, port=OTHER_PORT, kernel="1-1.3", **MODULE).unplug()
    there = find_modem(service, OTHER_PORT)
    away(service, there)
    set_policy(service, there, "rescue", firmware)
    plug(service, port=OTHER_PORT, kernel="1-1.3")
    serial_is(service, there, "49cbd7ef")
    assert policy_of(service, there) == ("off", "/")


def test_a_connector_that_was_armed_stays_armed(service, plug, firmware):
    """ArmPort is of the connector, whoever comes."""
    arm(service, "rescue", firmware)
    for serial in ("49cbd7ef", "0badcafe"):
        plug(service, product=f"QUSB_BULK_CID:0410_SN:{serial.upper()}").unplug()
        serial_is(service, find_modem(service), serial)
        assert policy_of(service, find_modem(service)) == ("rescue", firmware)


def test_a_port_has_a_name_that_a_file_can_have(service, firmware):
    """Each of ':' takes three bytes in it: what was cut was lost at the next start, and two of them were one."""
    for port in ("a" + ":" * 70, "pci-" + "0:" * 62):
        with Refused(INVALID_ARGS):
            arm(service, "hold", port=port)
    longest = "a" + ":" * 65
    arm(service, "hold", port=longest)
    service.restart()
    path = find_modem(service, longest)
    assert service.get(path, MODEM, "Policy") == "hold"


def test_without_a_serial_it_is_the_connector_s(service, plug):
    plug(service, **MODULE).unplug()
    path = find_modem(service)
    away(service, path)
    set_policy(service, path, "off")
    plug(service) # whoever comes there
    wait_until(lambda: service.get(path, MODEM, "ChipSerial"), what="9008")
    assert policy_of(service, path) == ("off", "/")


def test_where_nothing_is_remembered_nothing_is_promised(service, plug):
    plug(service, port="")
    path = wait_until(lambda: service.paths(MODEM), what="a modem")[0]
    with Refused("Unsupported") as e:
        set_policy(service, path, "hold")
    assert "ID_PATH" in e.message


def test_ports_are_counted(service):
    for i in range(64):
        arm(service, port=f"virtual-usb-0:{i + 1}")
    with Refused("LimitExceeded"):
        arm(service, port="virtual-usb-0:65")
    arm(service, "off", port="virtual-usb-0:64")
    assert len(service.paths(MODEM)) == 64


def test_the_package_of_a_policy_stays(service, plug, unit, firmware):
    def remove():
        service.call(firmware, FIRMWARE, "Remove", options())
    set_policy(service, unit, "rescue", firmware)
    with Refused("FirmwareInUse") as e:
        remove()
    assert "policy" in e.message
    # Of a unit that is nowhere, too.
    plug(service, product="QUSB_BULK_CID:0410_SN:0BADCAFE").unplug()
    wait_until(lambda: service.get(unit, MODEM, "ChipSerial") == "0badcafe", what="the other one")
    with Refused("FirmwareInUse") as e:
        remove()
    assert "49cbd7ef" in e.message
    plug(service).unplug()
    wait_until(lambda: service.get(unit, MODEM, "ChipSerial") == "49cbd7ef", what="the old one")
    away(service, unit)
    set_policy(service, unit, "hold")
    arm(service, "rescue", firmware, port=OTHER_PORT)
    with Refused("FirmwareInUse"):
        remove()
    arm(service, "off", port=OTHER_PORT)
    remove()
    assert not service.paths(FIRMWARE)


def test_a_package_for_another_modem_is_refused_at_once(service, new_modem, make_package):
    """It is known what the unit runs: such a policy would only fail, each time."""
    own = import_package(service, make_package("--small"))
    other = import_package(service, make_package("--small", "--version", "RM500QGLAAR11A02M4G_01.001.01.001", name="RM500QGLAAR11A02M4G_01.001.01.001"))
    new_modem(service)
    path = find_modem(service)
    job = service.call(path, MODEM, "Flash", dbus.ObjectPath(own), options(reset=False, modem_version="RM502QGLAAR05A03M4G"))
    assert service.wait_job(job) == "done", service.log(job)
    with Refused("WrongFirmware") as e:
        set_policy(service, path, "rescue", other)
    assert "RM500QGLAA" in e.message and "RM502QGLAAR05" in e.message
    with Refused("WrongFirmware"):
        arm(service, "rescue", other)
    set_policy(service, path, "rescue", own)
    # Of an unknown one the user's word counts.
    with Refused("WrongFirmware"):
        arm(service, "rescue", other, port=OTHER_PORT, modem_version="RM502QGLAAR05A03M4G")
    assert len(service.paths(MODEM)) == 1


def test_forgotten(service, new_modem, make_package):
    import_package(service, make_package("--small"))
    arm(service)
    modem = new_modem(service, *LOOP)
    path = find_modem(service)
    wait_held(service, path)
    modem.terminate()
    away(service, path)
    wait_until(lambda: not service.get(path, MODEM, "Held"), what="its end")
    service.call(path, MODEM, "Forget", options())
    wait_until(lambda: not service.paths(MODEM), what="nothing of it")
    assert [f.name for f in (service.state / "modems").iterdir()] in ([], ["imei.key"])
    service.restart()
    assert not service.paths(MODEM)
    # A stranger again.
    new_modem(service, *LOOP)
    turns(service, find_modem(service), 2)
    assert "hold" == service.get(path, MODEM, "Policy") and not service.get(path, MODEM, "Held")


def test_one_that_works_is_not_forgotten(service, plug, make_package):
    import_package(service, make_package("--small"))
    plug(service).unplug()
    path = find_modem(service)
    away(service, path)
    job = service.call(path, MODEM, "Catch", options())
    with Refused("ModemBusy"):
        service.call(path, MODEM, "Forget", options())
    service.call(job, JOB, "Cancel", options())
    assert service.wait_job(job) == "cancelled"
    service.call(path, MODEM, "Forget", options())


@pytest.fixture
def caught_in_vain(service, new_modem, make_package, tmp_path):
    """The path of a modem that is away, and its policy's catch, which had it for a moment and waits for its next window."""
    import_package(service, make_package("--small"))
    arm(service)
    modem = new_modem(service, "programmer_start_ms=60000")
    path = find_modem(service)
    job = wait_until(lambda: jobs(service, "catch"), what="the catch")[0]
    wait_until(lambda: count(tmp_path, " sahara out DONE") == 1, what="an upload")
    modem.terminate()
    modem.wait(PATIENCE)
    away(service, path)
    wait_until(lambda: service.get(job, JOB, "Phase") == "wait-device", what="a catch that waits")
    assert service.get(path, MODEM, "Job") == job
    return path, job


def test_off_ends_a_catch_that_waits_for_the_next_window(service, caught_in_vain, new_modem, tmp_path):
    path, job = caught_in_vain
    set_policy(service, path, "off")
    assert service.wait_job(job) == "cancelled"
    new_modem(service, name="again")
    wait_until(lambda: service.get(path, MODEM, "Note").startswith("is left alone: its policy is off"), what="that it is left alone")
    assert "out transfer" not in trace(tmp_path, "again") and len(jobs(service, "catch")) == 1


def test_a_catch_of_the_service_s_own_is_no_reason_not_to_forget(service, caught_in_vain):
    path, job = caught_in_vain
    service.call(path, MODEM, "Forget", options())
    assert service.wait_job(job) == "cancelled"
    wait_until(lambda: not service.paths(MODEM), what="nothing of it")
    assert [f.name for f in (service.state / "modems").iterdir()] in ([], ["imei.key"])
