# SPDX-License-Identifier: LGPL-2.1-or-later
"""Authorisations that are never given: polkit asks a person, and nobody is there."""

import os
import struct
import subprocess

import pytest
from conftest import JOB, MODEM, NAME, PATIENCE, wait_until
from test_api import LASTING
from test_hostile import RawClient

LIMIT = 16
POLKIT = "org.freedesktop.PolicyKit1"

# It has the name, and that is all that it does: nothing is ever read from its connection.
SILENT_POLKIT = """
import dbus.bus, sys, time
bus = dbus.bus.BusConnection(sys.argv[1])
bus.request_name("org.freedesktop.PolicyKit1")
print("here", flush=True)
time.sleep(3600)
"""


@pytest.fixture
def silent_polkit(bus_address):
    if os.getuid() != 0:
        pytest.skip("needs root to act as other users")
    process = subprocess.Popen(["/usr/bin/python3", "-c", SILENT_POLKIT, bus_address], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    yield process
    process.kill()
    process.wait(PATIENCE)


class User:
    """A process of another user that makes n calls at once, reports the first answer and stays until leave()."""

    def __init__(self, address, uid, path, n):
        report, told = os.pipe()
        stay, self.stay = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.stay)
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                client = RawClient(address)
                client.hear(1)
                for _ in range(n):
                    client.call(path, NAME, MODEM, "Identify", struct.pack("<II", 0, 0), "a{sv}")
                serial = client.hear(2)[1]
                os.write(told, f"{serial} {b'LimitExceeded' in client.heard}".encode())
                os.read(stay, 1)
            finally:
                os._exit(0)
        os.close(told)
        os.close(stay)
        self.report = report

    def first_answer(self):
        """(number of the call that was answered first, negative for an error; whether that was LimitExceeded)"""
        serial, limit = os.read(self.report, 100).decode().split()
        return int(serial) + (1 if int(serial) < 0 else -1), limit == "True"  # Hello was number 1

    def leave(self):
        os.write(self.stay, b"x")  # other users' processes have a copy of this end
        os.close(self.stay)
        os.close(self.report)
        os.waitpid(self.pid, 0)


def test_pending_authorisations_of_a_user(new_service, forge, plug, bus_address, silent_polkit):
    service = new_service().start(worker=forge(LASTING))
    plug(service)
    modem = service.modem()
    one, other = (User(bus_address, uid, modem, LIMIT + 1) for uid in (65534, 1))  # nobody, daemon
    # Each user has a limit of its own, and it is the call beyond it that is refused, at once.
    assert one.first_answer() == (-(LIMIT + 1), True)
    assert other.first_answer() == (-(LIMIT + 1), True)
    # Who may without being asked does not wait behind them.
    job = service.call(modem, MODEM, "Identify", service.no_options())
    assert service.get(job, JOB, "State") == "running"
    # Whoever leaves the bus waits for nothing any more.
    one.leave()
    again = User(bus_address, 65534, modem, LIMIT + 1)
    assert again.first_answer() == (-(LIMIT + 1), True)
    again.leave()
    other.leave()
    assert service.workers() != [] and len(service.paths(JOB)) == 1


def test_polkit_leaves_while_it_is_asked(new_service, forge, plug, bus_address, silent_polkit):
    """Nobody may say yes any more: every call is answered with no."""
    service = new_service().start(worker=forge(LASTING))
    plug(service)
    user = User(bus_address, 65534, service.modem(), 1)
    wait_until(lambda: service.bus.name_has_owner(POLKIT))
    silent_polkit.kill()
    assert user.first_answer() == (-1, False)
    user.leave()
