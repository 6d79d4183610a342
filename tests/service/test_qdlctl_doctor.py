# SPDX-License-Identifier: LGPL-2.1-or-later
"""qdlctl inhibit and qdlctl doctor, as people and scripts see them."""

import json
import os
import re
import subprocess

import pytest
from conftest import BUILD, MODEM, wait_until
from test_qdlctl import qdlctl, settings  # noqa: F401

LASTING = """
order = begin()
say("READY=1")
hear()
finish()
"""


@pytest.fixture
def bench(new_service, forge, plug):
    service = new_service()
    service.start(worker=forge(LASTING))
    plug(service)
    service.modem()
    return service


# ---- inhibit ----

def test_inhibit_runs_a_command_in_peace(bench, qdlctl, tmp_path):  # noqa: F811
    script = tmp_path / "tool"
    script.write_text(f"#!/bin/sh\n{BUILD}/qdlctl --json=short list > {tmp_path}/meanwhile\n"
                      f"{BUILD}/qdlctl identify 1-1.2; echo $? > {tmp_path}/code\nprintf '%s\\n' \"$@\"\nexit 42\n")
    script.chmod(0o755)
    result = qdlctl("inhibit", "1-1.2", "--", script, "-x", "two words", code=42)
    assert result.out.endswith("-x\ntwo words\n")
    modem = json.loads((tmp_path / "meanwhile").read_text())[0]
    assert modem["Inhibited"] is True and modem["InhibitedBy"].startswith("qdlctl inhibit: ") and modem["InhibitedUid"] == os.getuid()
    assert (tmp_path / "code").read_text() == "5\n" and "inhibited by user" in result.err
    wait_until(lambda: not bench.get(bench.modem(), MODEM, "Inhibited"), what="the end of the inhibition")


def test_inhibit_by_a_long_command_is_cut_at_a_character(bench, qdlctl, tmp_path):  # noqa: F811
    """Half a character is no text for the bus: nobody could be kept off by such a name."""
    for begin in ("x", "xx"):
        tool = tmp_path / begin / ("\u00e9" * 80)
        tool.parent.mkdir()
        tool.write_text(f"#!/bin/sh\n{BUILD}/qdlctl --json=short list > {tmp_path}/meanwhile\n")
        tool.chmod(0o755)
        qdlctl("inhibit", "1-1.2", "--", tool)
        reason = json.loads((tmp_path / "meanwhile").read_text())[0]["InhibitedBy"]
        assert reason.startswith(f"qdlctl inhibit: {tmp_path}/{begin}/\u00e9") and not reason.endswith("x")


def test_inhibit_says_what_cannot_be_run(bench, qdlctl):  # noqa: F811
    assert "nonesuch cannot be started: No such file" in qdlctl("inhibit", "1-1.2", "--", "nonesuch", code=127).err
    assert qdlctl("inhibit", "1-1.2", "--", "sh", "-c", "kill -TERM $$", code=128 + 15)
    assert "takes MODEM -- COMMAND..." in qdlctl("inhibit", "1-1.2", code=2).err
    assert "nobody" in qdlctl("inhibit", "nobody", "--", "true", code=3).err


def test_the_command_keeps_the_modem_although_qdlctl_is_killed(bench, bus_address, tmp_path):
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    qdlctl_process = subprocess.Popen([BUILD / "qdlctl", "inhibit", "1-1.2", "--", "cat", fifo], env=settings(bus_address))
    end = open(fifo, "w")  # the command runs
    qdlctl_process.kill()
    qdlctl_process.wait()
    assert bench.get(bench.modem(), MODEM, "Inhibited")
    end.close()
    wait_until(lambda: not bench.get(bench.modem(), MODEM, "Inhibited"), what="the end of the inhibition")


# ---- doctor ----

DEVICE = """P: {path}
N: bus/usb/001/005
E: DEVTYPE=usb_device
E: DEVNAME=/dev/bus/usb/001/005
E: SUBSYSTEM=usb
A: idVendor={vid}
A: idProduct={pid}
A: busnum=1
A: devnum=5
A: power/control={control}

P: {path}/{kernel}:1.0
E: DEVTYPE=usb_interface
E: SUBSYSTEM=usb
L: driver=../../../../../../bus/usb/drivers/{driver}
"""


@pytest.fixture
def doctor(bus_address, tmp_path):
    """doctor(kernel=..., driver=...): its findings on a machine with this USB device, and its exit status."""
    def run(*arguments, kernel="1-1.2", vid="05c6", pid="9008", control="on", driver="qcserial"):
        description = tmp_path / "device.umockdev"
        description.write_text(DEVICE.format(path=f"/devices/pci0000:00/usb1/{kernel}", kernel=kernel, vid=vid, pid=pid, control=control, driver=driver))
        out = subprocess.run(["umockdev-run", "-d", description, "--", BUILD / "qdlctl", *arguments, "doctor"], env=settings(bus_address),
                             capture_output=True, text=True, timeout=120)
        return out.returncode, out.stdout
    return run


def findings(result):
    return [(f["state"], f["text"], f.get("cure", "")) for f in json.loads(result[1])]


def about(found, words):
    hits = [f for f in found if words in f[1]]
    assert len(hits) == 1, (words, found)
    return hits[0]


def test_doctor_without_a_service(doctor):
    code, out = doctor()
    assert code == 1 and re.search(r"^problem  The service does not answer: .*\n +-> sudo systemctl start qdld", out, re.M)


def test_doctor_looks_at_each_modem(bench, doctor):
    found = findings(doctor("--json=short"))
    assert about(found, "The service runs: qdld ")[0] == "ok"
    # The node here belongs to root's group: what the rule is for has not happened.
    state, text, cure = about(found, "The service cannot open 05c6:9008 at 1-1.2")
    assert state == "problem" and "udevadm trigger" in cure
    assert about(found, "qcserial has 05c6:9008 at 1-1.2; the service takes it from there by itself")[0] == "ok"
    assert not [f for f in found if "does not see" in f[1]]


def test_doctor_sees_a_modem_that_the_service_does_not_see(bench, doctor):
    assert about(findings(doctor("--json=short", kernel="1-7")), "The service does not see 05c6:9008 at 1-7.")[0] == "problem"
    assert about(findings(doctor("--json=short", kernel="1-7", vid="2c7c", pid="0800")), "does not see 2c7c:0800 at 1-7.")[0] == "problem"


def test_doctor_sees_who_else_has_it(bench, doctor):
    state, _, cure = about(findings(doctor("--json=short", driver="usbfs")), "Another program has 05c6:9008 at 1-1.2 in its hands")
    assert state == "problem" and "fuser" in cure
    fd = bench.call(bench.modem(), MODEM, "Inhibit", "qdl", bench.no_options()).take()
    assert about(findings(doctor("--json=short")), "1-1.2 is left to another program of user")[0] == "note"
    os.close(fd)
    bench.call(bench.modem(), MODEM, "Identify", bench.no_options())
    assert about(findings(doctor("--json=short", driver="usbfs")), "is in the service's hands")[0] == "ok"


def test_doctor_sees_autosuspend(bench, doctor):
    assert about(findings(doctor("--json=short", control="auto")), "may be suspended by the kernel")[0] == "note"


def test_doctor_leaves_other_devices_alone(bench, doctor):
    assert not [f for f in findings(doctor("--json=short", kernel="1-7", vid="046d", pid="c52b")) if "1-7" in f[1]]


def test_every_problem_has_a_cure(bench, doctor):
    for state, text, cure in findings(doctor("--json=short", kernel="1-7", driver="usbfs", control="auto")):
        assert cure or state != "problem", text
