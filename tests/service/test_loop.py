# SPDX-License-Identifier: LGPL-2.1-or-later
"""A modem that loops in 9008: seen, measured, published."""

import json
import os
import re
import subprocess
import time

import dbus
import pytest
from conftest import BUILD, MODEM, wait_until

WINDOW, GAP = 0.8, 0.6 # the windows of a real one are 3 to 14 s: the ratio is what counts


def the_modem(service):
    return wait_until(lambda: service.paths(MODEM), what="a modem")[0]


def facts(service, path):
    return service.all(path, MODEM)


def qdlctl(service, *arguments):
    result = subprocess.run([BUILD / "qdlctl", *arguments], capture_output=True, text=True,
                            env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=service.address))
    assert result.returncode == 0, result.stderr
    return result.stdout


class Turns:
    """A device that comes and goes as it is told."""

    def __init__(self, service, plug, **device):
        self.service, self.plug, self.device = service, plug, device

    def one(self, window=0.05, gap=0.05, **device):
        before = len(self.service.paths(MODEM))
        p = self.plug(self.service, **{**self.device, **device})
        if not before:
            the_modem(self.service)
        time.sleep(window) # the time that it stays is what this is about
        p.unplug()
        path = the_modem(self.service)
        wait_until(lambda: self.service.get(path, MODEM, "Mode") == "absent", what="its end")
        time.sleep(gap)
        return path


def test_a_loop_is_measured_and_published(service, new_modem):
    new_modem(service, "loop=hard", f"window_ms={WINDOW * 1000:.0f}", f"gap_ms={GAP * 1000:.0f}")
    path = the_modem(service)
    wait_until(lambda: service.get(path, MODEM, "LoopCount") >= 4, what="four turns")
    f = facts(service, path)
    assert f["Looping"]
    assert WINDOW * 0.9 < f["WindowUSec"] / 1e6 < WINDOW + GAP, f["WindowUSec"]
    assert (WINDOW + GAP) * 0.9 < f["LoopPeriodUSec"] / 1e6 < 3 * (WINDOW + GAP), f["LoopPeriodUSec"]


def test_the_next_window_is_told_in_wall_clock_time(service, new_modem):
    new_modem(service, "loop=hard", "window_ms=300", "gap_ms=2000")
    path = the_modem(service)

    def waits():
        f = facts(service, path)
        return f if f["LoopCount"] >= 3 and f["Mode"] == "absent" else None
    f = wait_until(waits, what="a gap of the loop")
    assert 0 < f["NextWindowTime"] / 1e6 - time.time() < 5
    text = qdlctl(service, "status")
    assert "every 2." in text and "window 0." in text and "seen" in text and "next" in text, text
    assert "looping" in qdlctl(service, "list")
    assert json.loads(qdlctl(service, "status", "--json=short", f["Port"]))["Looping"] is True


def test_one_appearance_is_no_loop(service, plug):
    turns = Turns(service, plug)
    path = turns.one()
    assert not facts(service, path)["Looping"] and facts(service, path)["LoopCount"] == 0
    turns.one()
    f = facts(service, path)
    assert f["Looping"] and f["LoopCount"] == 2
    assert "Looping" in qdlctl(service, "status")
    assert "loops: 2 short appearances" in service.errors()


def test_a_modem_that_boots_and_falls_back_each_time_loops(service, plug):
    turns = Turns(service, plug)
    for expected in (0, 2):
        path = turns.one(vid="2c7c", pid="0800", product="RM502Q-GL", interfaces=5)
        p = plug(service) # it falls back, and this alone is the turn
        wait_until(lambda: service.get(path, MODEM, "Mode") != "absent", what="9008")
        assert service.get(path, MODEM, "LoopCount") == expected
        p.unplug()
        wait_until(lambda: service.get(path, MODEM, "Mode") == "absent", what="its end")
    assert service.get(path, MODEM, "LoopCount") == 2


def test_a_reset_of_ours_is_no_turn(service, new_modem, make_package):
    """A programmer that runs and may be another package's is replaced: the modem is sent back to Sahara each time."""
    assert service.wait_job(service.import_file(make_package("--small"))) == "done"
    modem = new_modem(service)
    path = service.modem()
    for _ in range(4):
        assert service.wait_job(service.call(path, MODEM, "Backup", dbus.Dictionary({"kind": "calibration"}, signature="sv"))) == "done"
    assert not service.get(path, MODEM, "Looping") and modem.poll() is None


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_loop_is_seen_through_a_job(service, new_modem, make_package, kind):
    """Identify takes the modem in one window; what the loop is stays known."""
    new_modem(service, f"loop={kind}", "window_ms=500", "gap_ms=200")
    path = the_modem(service)
    wait_until(lambda: service.get(path, MODEM, "LoopCount") >= 2, what="a loop")
    job = service.call(path, MODEM, "Identify", service.no_options())
    assert service.wait_job(job) == "done"
    assert service.get(path, MODEM, "ChipSerial") == "49cbd7ef"
    count = service.get(path, MODEM, "LoopCount")
    wait_until(lambda: service.get(path, MODEM, "LoopCount") > count, what="another turn")


def test_a_job_is_told_how_much_time_the_loop_gives(new_service, plug, forge, make_package):
    service = new_service().start(worker=forge("""
order = begin()
if order.kind in ("import", "verify"):
    say("READY=1")
    import_done(order, chip="SDX55", programmer="prog.elf") if order.kind == "import" else finish()
fail_job("Failed", "window %s, period %s" % (order.options.get("window-usec"), order.options.get("loop-period-usec")))
"""))
    turns = Turns(service, plug)
    path = turns.one(window=0.2, gap=0.1)

    def told():
        with pytest.raises(dbus.exceptions.DBusException) as e:
            service.call(path, MODEM, "Backup", service.no_options())
        return re.search(r"window (\w+), period (\w+)", e.value.get_dbus_message()).groups()
    archive = service.directory / "package"
    archive.write_bytes(b"package")
    assert service.wait_job(service.import_file(archive)) == "done"
    assert told() == ("None", "None")
    turns.one(window=0.2, gap=0.1)
    f = facts(service, path)
    assert told() == (str(f["WindowUSec"]), str(f["LoopPeriodUSec"])) and f["WindowUSec"] > 0 and f["LoopPeriodUSec"] > 0
