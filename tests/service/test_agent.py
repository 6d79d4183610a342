# SPDX-License-Identifier: LGPL-2.1-or-later
"""qdl-agent: what the desktop shows, judged by a mocked notification daemon on a session bus of its own."""

import collections
import os
import re
import signal
import subprocess

import dbus
import dbus.bus
import pytest
from catching import LOOP, arm, import_package, jobs
from conftest import BUILD, JOB, MODEM, PATIENCE, TOP, VERSION, go_on, wait_stopped, wait_until

NAME, PATH = "org.freedesktop.Notifications", "/org/freedesktop/Notifications"
MOCK = "org.freedesktop.DBus.Mock"
BRICK, LOOPS = "A device is in emergency download mode", "A device keeps falling into emergency download mode"
FLASHING, FLASHED = "A modem is being flashed", "A modem has new firmware"
FAILING = """
order = begin()
say("READY=1")
say("RESULT=failed", "ERROR=FirehoseFailed", "MESSAGE=erase was refused", "WORDS=<log value>", "HINT=power-cycle")
"""

Bubble = collections.namedtuple("Bubble", "replaces summary body actions urgent")


class Desktop:
    """A session bus, its notification daemon, and the agent."""

    def __init__(self, system_address):
        self.daemon = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address"], stdout=subprocess.PIPE, text=True)
        address = self.daemon.stdout.readline().strip()
        self.environment = dict(os.environ, DBUS_SESSION_BUS_ADDRESS=address, DBUS_SYSTEM_BUS_ADDRESS=system_address)
        self.mock = subprocess.Popen(["/usr/bin/python3", "-m", "dbusmock", "--session", "--template", "notification_daemon"], env=self.environment,
                                     stdout=subprocess.DEVNULL)
        self.bus = dbus.bus.BusConnection(address)
        wait_until(lambda: self.bus.name_has_owner(NAME), what="the notification daemon")
        self.agent = subprocess.Popen([BUILD / "qdl-agent"], env=self.environment, stderr=subprocess.PIPE, text=True)

    def call(self, method, *arguments):
        return self.bus.get_object(NAME, PATH, introspect=False).get_dbus_method(method, MOCK)(*arguments)

    def bubbles(self):
        calls = [arguments for _, arguments in self.call("GetMethodCalls", "Notify")]
        return [Bubble(int(a[1]), str(a[3]), str(a[4]), [str(x) for x in a[5]], int(a[6]["urgency"]) == 2) for a in calls]

    def summaries(self):
        return [b.summary for b in self.bubbles()]

    def wait_for(self, *summaries):
        """These, in this order, and nothing else; the last one."""
        wait_until(lambda: self.summaries()[:len(summaries)] == list(summaries), what=f"{summaries}, not {self.summaries()}")
        assert self.summaries() == list(summaries)
        return self.bubbles()[-1]

    def wait_for_one(self, summary):
        return wait_until(lambda: [b for b in self.bubbles() if b.summary == summary], what=summary)[0]

    def press(self, number, action):
        self.call("EmitSignal", NAME, "ActionInvoked", "us", dbus.Array([dbus.UInt32(number), action], signature="v"))

    def end(self):
        for p in (self.agent, self.mock, self.daemon):
            p.terminate()
            p.wait(PATIENCE)


@pytest.fixture
def desktop(bus_address):
    made = []

    def make():
        made.append(Desktop(bus_address))
        return made[-1]
    yield make
    for d in made:
        d.end()


def flash(service, modem, firmware):
    return service.call(modem, MODEM, "Flash", dbus.ObjectPath(firmware), dbus.Dictionary({"modem-version": VERSION}, signature="sv"))


def test_a_brick_and_its_flash_are_told(service, desktop, new_modem, make_package):
    firmware = import_package(service, make_package("--small", "--tiny-chip"))
    shown = desktop()
    modem = new_modem(service, "fault=stop@program:1", blocks=16)
    bubble = shown.wait_for(BRICK)
    assert "device at 1-1.2: It waits for firmware" in bubble.body and not bubble.urgent and bubble.actions == [] and bubble.replaces == 0
    job = flash(service, service.modem(), firmware)
    shown.wait_for(BRICK, FLASHING)
    wait_stopped(modem)
    go_on(modem)
    assert service.wait_job(job) == "done"
    _, begun, done = shown.wait_for(BRICK, FLASHING, FLASHED) and shown.bubbles()
    # One bubble a modem, which newer news replaces.
    assert begun.replaces == done.replaces == 1
    assert "leave it plugged in" in begun.body and "RM502QGL at 1-1.2: verified, and done." == done.body and not done.urgent


def test_a_failure_is_urgent_says_what_helps_and_is_no_markup(service, desktop, plug, forge, make_package):
    firmware = import_package(service, make_package("--small", "--tiny-chip"))
    service.restart(worker=forge(FAILING))
    plug(service)
    shown = desktop()
    shown.wait_for(BRICK)
    assert service.wait_job(flash(service, service.modem(), firmware)) == "failed"
    bubble = shown.wait_for_one("flash: failed")
    assert bubble.urgent and 'erase was refused: "&lt;log value&gt;" Take the modem\'s power away' in bubble.body


def test_a_long_message_is_cut_at_a_character(service, desktop, plug, forge, make_package):
    """Half a character is no text for the bus, and the news would be lost."""
    firmware = import_package(service, make_package("--small", "--tiny-chip"))
    service.restart(worker=forge(FAILING.replace("erase was refused", "x" + "\u00e9" * 400)))
    plug(service)
    shown = desktop()
    shown.wait_for(BRICK)
    assert service.wait_job(flash(service, service.modem(), firmware)) == "failed"
    assert "x" + "\u00e9" * 200 in shown.wait_for_one("flash: failed").body


def test_a_failure_that_was_over_before_it_looked_is_told(service, desktop, plug, forge, make_package):
    """A job that begins and ends while the agent does something else is not lost; one that is over before it starts is no news."""
    firmware = import_package(service, make_package("--small", "--tiny-chip"))
    service.restart(worker=forge(FAILING))
    plug(service)
    shown = desktop()
    shown.wait_for(BRICK)
    shown.agent.send_signal(signal.SIGSTOP)
    assert service.wait_job(flash(service, service.modem(), firmware)) == "failed"
    shown.agent.send_signal(signal.SIGCONT)
    assert shown.wait_for_one("flash: failed").urgent


def test_a_flash_that_ends_well_after_all_is_told(new_service, desktop, new_modem, make_package):
    """The service ended behind its last step; the next one sees the modem boot."""
    service = new_service().start()
    firmware = import_package(service, make_package("--small", "--tiny-chip"))
    new_modem(service, "reboot_ms=5000", blocks=16)
    shown = desktop()
    shown.wait_for(BRICK)
    job = flash(service, service.modem(), firmware)
    wait_until(lambda: service.get(job, JOB, "Phase") == "wait-normal", what="its reset")
    service.stop(signal.SIGKILL)
    service.start(config="[Identify]\nOnAppear=yes\nDelaySec=0\n[Backup]\nAutomatic=no\n")
    wait_until(lambda: service.get(job, JOB, "Result") == "done", what="its end")
    shown.wait_for_one(FLASHED)


def test_a_modem_that_comes_and_goes_is_told_once(service, desktop, plug):
    shown = desktop()
    for _ in range(4):
        modem = plug(service)
        path = service.modem()
        shown.wait_for_one(BRICK)
        modem.unplug()
        wait_until(lambda: service.get(path, MODEM, "Mode") == "absent", what="its leaving")
    plug(service, port="virtual-usb-0:1.3", kernel="1-1.3", product="QUSB_BULK_CID:0410_SN:0BADCAFE")
    wait_until(lambda: "1-1.3" in shown.bubbles()[-1].body, what="the other one")
    assert [x for x in shown.summaries() if x != LOOPS] == [BRICK, BRICK]
    assert "left alone" in shown.bubbles()[-1].body and shown.bubbles()[-1].replaces == 0


def test_a_loop_is_told(service, desktop, new_modem):
    shown = desktop()
    arm(service, "off")
    new_modem(service, *LOOP)
    bubble = shown.wait_for_one(LOOPS)
    assert re.search(r"device at .*1[.]2: every \d.*, window .*, \d+ seen", bubble.body), bubble


def test_what_was_before_the_agent(service, desktop, plug, forge):
    """A brick is news whenever one logs in, a job that is over is none."""
    service.restart(worker=forge(FAILING))
    plug(service)
    assert service.wait_job(service.call(service.modem(), MODEM, "Identify", service.no_options())) == "failed"
    shown = desktop()
    shown.wait_for(BRICK)
    # An identify that somebody asked for tells its own caller.
    assert service.wait_job(service.call(service.modem(), MODEM, "Identify", service.no_options())) == "failed"
    plug(service, port="virtual-usb-0:1.3", kernel="1-1.3", product="QUSB_BULK_CID:0410_SN:0BADCAFE")
    shown.wait_for(BRICK, BRICK)


def test_lost_calibration_is_urgent(service, desktop, new_modem):
    shown = desktop()
    new_modem(service, "initial=working", "calibration=erased", blocks=192)
    assert service.wait_job(service.call(service.modem(), MODEM, "Identify", service.no_options())) == "done"
    bubble = shown.wait_for("A modem has lost its calibration")
    assert bubble.urgent and "qdlctl status 1-1.2" in bubble.body


def test_a_modem_that_is_left_to_a_human_has_a_button(service, desktop, new_modem, make_package):
    """The policy's package is for another one: what the button asks for is refused for the same reason, and that is shown."""
    firmware = import_package(service, make_package("--small"))
    shown = desktop()
    arm(service, "rescue", firmware)
    new_modem(service, *LOOP, "project=RM500QGLAA")
    needed = shown.wait_for_one("A modem needs you")
    assert needed.urgent and needed.actions == ["rescue", "Rescue"] and "RM500QGLAA" in needed.body
    shown.wait_for_one("flash: failed")
    assert shown.bubbles()[-1] == needed, shown.summaries()
    number = needed.replaces
    assert len(jobs(service, "flash")) == 1
    shown.press(number, "default")
    shown.press(number + 1, "rescue")
    shown.press(number, "rescue")
    mine = wait_until(lambda: jobs(service, "flash")[1:], what="a rescue")
    assert len(mine) == 1 and service.get(mine[0], JOB, "OwnerUid") == os.getuid()


def test_a_rescue_that_is_refused_is_told(service, desktop, plug):
    shown = desktop()
    plug(service)
    shown.wait_for(BRICK)
    # No bubble offers it: no package is known.
    shown.press(1, "rescue")
    refused = shown.wait_for(BRICK, "The rescue did not begin")
    assert refused.urgent and "policy" in refused.body, refused


def test_without_the_service_it_waits_and_starts_nothing(new_service, desktop, plug):
    service = new_service()
    shown = desktop()
    service.start()
    plug(service)
    shown.wait_for(BRICK)
    assert service.stop() == 0
    service.start()
    assert shown.agent.poll() is None
    plug(service, port="virtual-usb-0:1.3", kernel="1-1.3", product="QUSB_BULK_CID:0410_SN:0BADCAFE")
    shown.wait_for(BRICK, BRICK)


def test_without_a_notification_daemon_it_goes_on(service, desktop, plug):
    shown = desktop()
    shown.mock.send_signal(signal.SIGKILL)
    shown.mock.wait()
    plug(service)
    assert BRICK in shown.agent.stderr.readline()
    assert shown.agent.poll() is None


def test_it_ends_with_the_session(service, desktop):
    shown = desktop()
    shown.daemon.terminate()
    shown.agent.wait(PATIENCE)


def test_its_command_line_and_its_start_with_the_session():
    said = subprocess.run([BUILD / "qdl-agent", "--help"], capture_output=True, text=True, check=True).stdout
    assert "Usage: qdl-agent" in said
    assert subprocess.run([BUILD / "qdl-agent", "now"], capture_output=True).returncode == 2
    entry = (TOP / "client" / "agent" / "org.qdld1.agent.desktop").read_text()
    assert "\nExec=qdl-agent\n" in entry and "\nType=Application\n" in entry
