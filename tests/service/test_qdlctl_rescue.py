# SPDX-License-Identifier: LGPL-2.1-or-later
"""qdlctl catch, rescue, policy, monitor, forget: what the person with the brick sees."""

import json
import os
import select
import signal
import subprocess
import time

import pytest
from catching import LOOP, PORT, arm, find_modem, import_package, jobs, wait_held
from conftest import BUILD, FIRMWARE, MODEM, PATIENCE, VERSION, go_on, wait_stopped, wait_until


class Client:
    """A qdlctl that runs; what it says is read as it comes."""

    def __init__(self, service, *arguments):
        self.process = subprocess.Popen([BUILD / "qdlctl", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=service.address, NO_COLOR="1"))
        self.text = ""

    def expect(self, what, timeout=2 * PATIENCE):
        end = time.monotonic() + timeout
        while what not in self.text:
            assert time.monotonic() < end, self.text
            if select.select([self.process.stdout], [], [], 0.2)[0]:
                data = os.read(self.process.stdout.fileno(), 65536)
                assert data, f"it ended without {what!r}: {self.text}"
                self.text += data.decode()
        return self.text

    def end(self, timeout=2 * PATIENCE):
        rest, _ = self.process.communicate(timeout=timeout)
        self.text += rest.decode()
        return self.process.returncode


@pytest.fixture
def client():
    started = []

    def make(*arguments):
        started.append(Client(*arguments))
        return started[-1]
    yield make
    for c in started:
        if c.process.poll() is None:
            c.process.kill()
        c.process.wait()


def run(service, *arguments, code=0):
    result = subprocess.run([BUILD / "qdlctl", *map(str, arguments)], capture_output=True, text=True,
                            env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=service.address))
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    return result.stdout + result.stderr


def test_rescue_wait_from_nothing_to_a_modem_that_runs(service, client, new_modem, make_package):
    """The person at the bench: one command, before anything is plugged in."""
    c = client(service, "rescue", "--wait", "--modem-version", VERSION, make_package("--small"))
    text = c.expect('hold the wire until this says "seen"')
    for words in ("ROM loader", "not dead", "USB 2 port", "VDD_EXT", "never 3.3 V", "do not solder", "never", "pin 65".capitalize()):
        assert words in text, words
    new_modem(service, *LOOP)
    text = c.expect("Seen:")
    assert PORT in text and "Release the bridge" in text
    assert c.end() == 0, c.text
    assert "is done" in c.text and "CFUN: 5" in c.text
    assert service.get(find_modem(service), MODEM, "Mode") == "normal"


def test_rescue_wait_says_what_helps_and_begins_again(service, client, new_modem, make_package):
    """Its windows are too short: it asks for the bridge, and goes on when the modem stays."""
    package = make_package("--small")
    import_package(service, package)
    c = client(service, "catch", "--wait")
    c.expect("until this says")
    short = new_modem(service, "loop=hard", "window_ms=150", "gap_ms=100", "read_data_us=50000")
    text = c.expect("windows are too short. Take the power away")
    assert "bridge USB_BOOT" in text and "1.8 V" in text
    short.terminate()
    short.wait(PATIENCE)
    new_modem(service, "force_edl=yes")
    assert c.end() == 0, c.text
    assert "It is held" in c.text and service.get(find_modem(service), MODEM, "Held")
    # The loop was that of the modem before it was bridged.
    before, _, after = c.text.partition("windows are too short")
    assert "It loops" not in after and "Seen: " in after, c.text


def test_rescue_by_the_policy_and_one_that_runs_already(service, client, new_modem, make_package):
    firmware = import_package(service, make_package("--small"))
    modem = new_modem(service, *LOOP, "fault=stop@program:2")
    path = find_modem(service)
    run(service, "policy", PORT, "rescue", service.get(firmware, FIRMWARE, "Sha256")[:32], "--modem-version", VERSION)
    wait_stopped(modem)
    c = client(service, "rescue", PORT)
    c.expect(" %  ")
    go_on(modem)
    assert c.end() == 0, c.text
    assert len(jobs(service, "flash")) == 1 and service.get(path, MODEM, "Mode") == "normal"


def test_catch_and_status(service, new_modem, make_package):
    import_package(service, make_package("--small"))
    run(service, "catch", "nothing-there", code=3)
    new_modem(service, *LOOP)
    path = find_modem(service)
    text = run(service, "status")
    assert "left alone" in text
    assert "is done" in run(service, "catch")
    text = run(service, "status")
    assert "Held" in text and "hold" in text


def test_policies_from_the_command_line(service, plug, make_package):
    package = make_package("--small")
    firmware = import_package(service, package)
    plug(service).unplug()
    path = find_modem(service)
    for words, code in ((["policy", PORT], 2), (["policy", PORT, "always"], 2), (["policy", PORT, "rescue"], 2), (["policy", PORT, "hold", package], 2),
                        (["policy", "nowhere", "hold"], 3), (["rescue", "--port", PORT], 2), (["catch", "--port", PORT, PORT], 2)):
        run(service, *words, code=code)
    run(service, "policy", PORT, "off")
    assert service.get(path, MODEM, "Policy") == "off" and "off" in run(service, "status")
    assert "held and saved, but not flashed: add --modem-version=" in run(service, "policy", PORT, "rescue", package)
    assert service.get(path, MODEM, "RescueFirmware") == firmware
    assert "not flashed" not in run(service, "policy", PORT, "rescue", package, "--modem-version", VERSION)
    run(service, "policy", "--port", "virtual-usb-0:7", "hold")
    assert service.get(find_modem(service, "virtual-usb-0:7"), MODEM, "Policy") == "hold"
    assert "not flashed" in run(service, "rescue", "--port", "virtual-usb-0:8", package)
    assert service.get(find_modem(service, "virtual-usb-0:8"), MODEM, "RescueFirmware") == firmware
    assert "forgotten" in run(service, "forget", PORT)
    wait_until(lambda: path not in service.paths(MODEM), what="nothing of it")


def test_monitor_tells_what_happens(service, client, new_modem, make_package):
    import_package(service, make_package("--small"))
    arm(service)
    c = client(service, "monitor")
    c.expect("not there")
    new_modem(service, *LOOP)
    c.expect("(catch)")
    c.expect("held")
    c.process.send_signal(signal.SIGINT)
    c.end()
    j = client(service, "monitor", "--json=short")
    line = j.expect("\n").splitlines()[0]
    assert json.loads(line)["Port"] == PORT
    service.stop()
    assert j.end() == 8


def test_a_wait_ends_in_time(service, client):
    c = client(service, "catch", "--wait", "--timeout", "1")
    assert c.end() == 130 and "Waiting for a modem" in c.text
