# SPDX-License-Identifier: LGPL-2.1-or-later
"""ModemManager, logind and fwupd are asked to stand aside, by their own names on the bus; nobody's absence or refusal stops a job."""

import os
import re
import subprocess

import dbus
import dbus.bus
import pytest
from conftest import JOB, MODEM, wait_until

# Says its steps one by one as the test writes them into the fifo; ends as asked.
STEPS = """
order = begin()
say("READY=1")
with open({fifo!r}) as f:
    for line in f:
        say(*line.split())
say("RESULT=done")
"""

NEIGHBOUR = """
import os, sys
import dbus, dbus.bus, dbus.mainloop.glib, dbus.service
from gi.repository import GLib
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.bus.BusConnection(sys.argv[1])
log = open(sys.argv[3], "a", buffering=1)
answer = sys.argv[4]

def refuse(name):
    if answer.startswith("refuse:"):
        raise dbus.DBusException("not here", name=answer[len("refuse:"):])

class ModemManager(dbus.service.Object):
    @dbus.service.method("org.freedesktop.ModemManager1", in_signature="sb", out_signature="", async_callbacks=("ok", "failed"))
    def InhibitDevice(self, uid, inhibit, ok, failed):
        print("InhibitDevice", uid, bool(inhibit), file=log)
        if answer == "hold" and inhibit:
            self.ok = ok
            return
        if answer == "probing" and not hasattr(self, "exported"):
            return failed(dbus.DBusException("Modem not exported in the bus", name="org.freedesktop.ModemManager1.Error.Core.WrongState"))
        try:
            refuse("org.freedesktop.ModemManager1.Error.Core.Unauthorized")
        except dbus.DBusException as e:
            return failed(e)
        ok()

    @dbus.service.method("org.test", in_signature="", out_signature="")
    def Answer(self):
        self.ok()

    @dbus.service.method("org.test", in_signature="", out_signature="")
    def Export(self):
        self.exported = True
        self.InterfacesAdded("/org/freedesktop/ModemManager1/Modem/0", {"org.freedesktop.ModemManager1.Modem": {"Model": "RM502Q"}})

    @dbus.service.signal("org.freedesktop.DBus.ObjectManager", signature="oa{sa{sv}}")
    def InterfacesAdded(self, path, interfaces):
        pass

class Login(dbus.service.Object):
    @dbus.service.method("org.freedesktop.login1.Manager", in_signature="ssss", out_signature="h")
    def Inhibit(self, what, who, why, mode):
        print("Inhibit", what, who, mode, why, file=log)
        refuse("org.freedesktop.DBus.Error.AccessDenied")
        self.r, w = os.pipe()
        GLib.io_add_watch(self.r, GLib.IO_HUP, lambda *_: print("released", file=log) and False)
        fd = dbus.types.UnixFd(w)
        os.close(w)
        return fd

class Fwupd(dbus.service.Object):
    count = 0

    @dbus.service.method("org.freedesktop.fwupd", in_signature="s", out_signature="s", async_callbacks=("ok", "failed"))
    def Inhibit(self, reason, ok, failed):
        print("Inhibit", reason, file=log)
        self.count += 1
        self.ok = lambda: ok("dbus-%d" % self.count)
        if answer == "hold":
            return
        try:
            refuse("org.freedesktop.fwupd.PermissionDenied")
        except dbus.DBusException as e:
            return failed(e)
        self.ok()

    @dbus.service.method("org.freedesktop.fwupd", in_signature="s", out_signature="")
    def Uninhibit(self, name):
        print("Uninhibit", name, file=log)

    @dbus.service.method("org.test", in_signature="", out_signature="")
    def Answer(self):
        self.ok()

name = dbus.service.BusName(sys.argv[2], bus)
made = {"org.freedesktop.ModemManager1": lambda: ModemManager(bus, "/org/freedesktop/ModemManager1"),
        "org.freedesktop.login1": lambda: Login(bus, "/org/freedesktop/login1"),
        "org.freedesktop.fwupd": lambda: Fwupd(bus, "/")}[sys.argv[2]]()
print("ready", flush=True)
GLib.MainLoop().run()
"""

MODEMMANAGER, LOGIND, FWUPD = "org.freedesktop.ModemManager1", "org.freedesktop.login1", "org.freedesktop.fwupd"
STILL = "Inhibit a modem is being rescued"


class Neighbour:
    def __init__(self, address, name, log, answer):
        self.log = log
        self.process = subprocess.Popen(["/usr/bin/python3", "-c", NEIGHBOUR, address, name, str(log), answer], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def said(self):
        return self.log.read_text().splitlines() if self.log.exists() else []

    def wait_for(self, *lines):
        wait_until(lambda: self.said() == list(lines) or len(self.said()) > len(lines), what=str(lines))
        assert self.said() == list(lines)

    def end(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def neighbour(bus_address, tmp_path):
    made = []

    def make(name, answer="yes"):
        made.append(Neighbour(bus_address, name, tmp_path / (name + ".log"), answer))
        return made[-1]
    yield make
    for n in made:
        n.end()


class Bench:
    def __init__(self, service, fifo):
        self.service, self.fifo = service, fifo
        self.control = dbus.Interface(service.bus.get_object("org.qdld1", "/org/freedesktop/LogControl1"), "org.freedesktop.DBus.Properties")
        self.control.Set("org.freedesktop.LogControl1", "LogTarget", "console")

    def begin(self):
        self.job = self.service.call(self.service.modem(), MODEM, "Identify", self.service.no_options())
        self.steps = open(self.fifo, "w", buffering=1)

    def say(self, text):
        self.steps.write(text + "\n")

    def end(self):
        self.steps.close()
        assert self.service.wait_job(self.job) == "done"


@pytest.fixture
def bench(new_service, forge, plug, tmp_path):
    fifo = tmp_path / "steps"
    os.mkfifo(fifo)
    service = new_service()
    service.start(worker=forge(STEPS.format(fifo=str(fifo))))
    plug(service)
    service.modem()
    return Bench(service, fifo)


def test_modemmanager_leaves_the_modem_to_a_job(bench, neighbour):
    manager = neighbour(MODEMMANAGER)
    bench.begin()
    manager.wait_for("InhibitDevice virtual:1-1.2 True")
    bench.end()
    manager.wait_for("InhibitDevice virtual:1-1.2 True", "InhibitDevice virtual:1-1.2 False")


def test_and_both_sides_of_its_connector_until_the_end(bench, neighbour, plug):
    """From SuperSpeed to 9008 at USB 2, and back: what comes back is not to be probed while the job asks it."""
    manager = neighbour(MODEMMANAGER)
    asked = ["InhibitDevice virtual:1-1.2 True", "InhibitDevice virtual:2-1.2 True"]
    bench.begin()
    manager.wait_for(asked[0])
    plug(bench.service, kernel="2-1.2")
    manager.wait_for(*asked)
    bench.end()
    wait_until(lambda: len(manager.said()) == 4, what="both given back")
    assert sorted(manager.said()[2:]) == [line.replace("True", "False") for line in asked]


def test_and_to_a_guard(bench, neighbour):
    manager = neighbour(MODEMMANAGER)
    fd = bench.service.call(bench.service.modem(), MODEM, "Inhibit", "qdl", bench.service.no_options()).take()
    manager.wait_for("InhibitDevice virtual:1-1.2 True")
    os.close(fd)
    manager.wait_for("InhibitDevice virtual:1-1.2 True", "InhibitDevice virtual:1-1.2 False")


def test_one_that_was_restarted_is_asked_anew(bench, neighbour):
    first = neighbour(MODEMMANAGER)
    bench.begin()
    first.wait_for("InhibitDevice virtual:1-1.2 True")
    first.end()
    second = neighbour(MODEMMANAGER)
    second.wait_for("InhibitDevice virtual:1-1.2 True", "InhibitDevice virtual:1-1.2 True")
    bench.end()


def test_the_machine_stays_awake_while_the_modem_may_not_be_unplugged(bench, neighbour):
    logind = neighbour(LOGIND)
    bench.begin()
    bench.say("UNSAFE=1")
    wait_until(lambda: logind.said(), what="the lock")
    number = bench.service.get(bench.job, JOB, "Id")
    assert re.fullmatch(rf"Inhibit shutdown:sleep:idle:handle-power-key:handle-suspend-key:handle-hibernate-key:handle-lid-switch qdld block "
                        rf"identify {number} writes to the modem at 1-1.2", logind.said()[0])
    bench.say("UNSAFE=0")
    wait_until(lambda: "released" in logind.said(), what="its release")
    bench.say("UNSAFE=1")
    wait_until(lambda: len(logind.said()) == 3, what="the second lock")
    bench.end()
    wait_until(lambda: logind.said().count("released") == 2, what="its release at the end")


@pytest.mark.parametrize("name, line", [(MODEMMANAGER, "ModemManager does not leave the modem at 1-1.2 alone: not here"),
                                        (LOGIND, "runs although logind may suspend the machine meanwhile: not here"),
                                        (FWUPD, "fwupd may update a modem that has a job: not here")])
def test_a_refusal_is_said_and_stops_nothing(bench, neighbour, name, line):
    neighbour(name, "refuse:org.freedesktop.DBus.Error.AccessDenied")
    bench.begin()
    bench.say("UNSAFE=1")
    wait_until(lambda: line in bench.service.errors(), what="the line in the journal")
    bench.end()


def test_a_device_that_modemmanager_does_not_know_is_nothing_to_tell(bench, neighbour):
    manager = neighbour(MODEMMANAGER, "refuse:org.freedesktop.ModemManager1.Error.Core.NotFound")
    bench.begin()
    manager.wait_for("InhibitDevice virtual:1-1.2 True")
    bench.say("UNSAFE=0")
    bench.end()
    assert "ModemManager" not in bench.service.errors()


def test_a_modem_that_modemmanager_still_probes_is_asked_for_again_when_it_is_there(bench, neighbour):
    """It answers WrongState until it has made a modem of the device; from then on it could disturb."""
    manager = neighbour(MODEMMANAGER, "probing")
    bench.begin()
    manager.wait_for("InhibitDevice virtual:1-1.2 True")
    dbus.Interface(bench.service.bus.get_object(MODEMMANAGER, "/org/freedesktop/ModemManager1"), "org.test").Export()
    manager.wait_for("InhibitDevice virtual:1-1.2 True", "InhibitDevice virtual:1-1.2 True")
    bench.end()
    manager.wait_for(*["InhibitDevice virtual:1-1.2 True"] * 2, "InhibitDevice virtual:1-1.2 False")
    assert "ModemManager" not in bench.service.errors()


def test_fwupd_updates_nothing_meanwhile(bench, neighbour):
    fwupd = neighbour(FWUPD)
    bench.begin()
    fwupd.wait_for(STILL)
    bench.end()
    fwupd.wait_for(STILL, "Uninhibit dbus-1")


def test_what_fwupd_grants_too_late_is_given_back(bench, neighbour):
    fwupd = neighbour(FWUPD, "hold")
    bench.begin()
    fwupd.wait_for(STILL)
    bench.end()
    fwupd.wait_for(STILL)
    bench.service.bus.get_object(FWUPD, "/").Answer(dbus_interface="org.test")
    fwupd.wait_for(STILL, "Uninhibit dbus-1")


def test_a_fwupd_that_starts_in_the_middle_is_asked_and_a_new_one_anew(bench, neighbour):
    bench.begin()
    first = neighbour(FWUPD)
    first.wait_for(STILL)
    first.end()
    second = neighbour(FWUPD)
    second.wait_for(STILL, STILL)
    bench.end()
    second.wait_for(STILL, STILL, "Uninhibit dbus-1")


def test_a_fwupd_that_cannot_be_asked_is_nothing_to_tell(bench, neighbour):
    """As one before 1.8.10, which has no such method."""
    fwupd = neighbour(FWUPD, "refuse:org.freedesktop.DBus.Error.UnknownMethod")
    bench.begin()
    fwupd.wait_for(STILL)
    bench.say("UNSAFE=0")
    bench.end()
    assert "fwupd" not in bench.service.errors()


def test_nobody_there_and_nobody_is_started(bench):
    bench.begin()
    bench.say("UNSAFE=1")
    bench.end()
    assert not any(word in bench.service.errors() for word in ("may suspend", "ModemManager", "fwupd"))


def test_nobody_is_disturbed_unasked(new_service, new_modem, neighbour):
    """Who a running modem is and what its calibration: both are read aside of a connection that ModemManager may keep."""
    manager, fwupd = neighbour(MODEMMANAGER), neighbour(FWUPD)
    service = new_service().start(config="[Identify]\nOnAppear=yes\nDelaySec=0\n")
    new_modem(service, "initial=working", "imei=490154203237518", blocks=192)
    modem = service.modem()
    wait_until(lambda: service.paths("org.qdld1.Backup") and service.get(modem, MODEM, "Job") == "/", what="the backup")
    assert manager.said() == fwupd.said() == []
    # What somebody asked for has the modem to itself.
    assert service.wait_job(service.call(modem, MODEM, "Identify", service.no_options())) == "done"
    manager.wait_for("InhibitDevice virtual:1-1.2 True", "InhibitDevice virtual:1-1.2 False")
