# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happened to modems and jobs: told, bounded, kept over restarts, and not to everybody."""

import json
import os
import subprocess

import dbus
import pytest
from catching import OTHER, OTHER_PORT, OWN, arm, find_modem, import_package, jobs, options, turns, wait_held
from conftest import BUILD, INVALID_ARGS, JOB, MODEM, Refused, wait_until

ROWS_MAX = 1000


def history(service, **values):
    return [dict(row) for row in service.manager("GetHistory", options(**values))]


def events(service, **values):
    return [str(row["event"]) for row in history(service, **values)]


def wait_event(service, event, n=1):
    wait_until(lambda: events(service, all=True).count(event) >= n, what=event)


def mode(service, path, mode):
    wait_until(lambda: service.get(path, MODEM, "Mode") == mode, what=mode)


def test_a_rescue_from_the_first_sign_to_the_end(service, new_modem, make_package):
    firmware = import_package(service, make_package("--small"))
    arm(service, "rescue", firmware)
    new_modem(service, "loop=soft", "window_ms=14000", "gap_ms=300")
    path = find_modem(service)
    mode(service, path, "normal")
    wait_until(lambda: [j for j in jobs(service, "flash") if service.get(j, JOB, "State") == "finished"], what="the end of the flash")
    rows = history(service, modem=dbus.ObjectPath(path), all=True)
    assert [(str(r["event"]), str(r["kind"])) for r in rows if r["event"] != "held"] == [
        ("appeared", ""), ("started", "catch"), ("done", "catch"), ("started", "flash"), ("appeared", ""), ("done", "flash")], rows
    assert "held" in [r["event"] for r in rows]
    assert rows[1]["text"].startswith("of the service itself started on "), rows[1]
    flash = rows[-1]
    assert flash["uid"] == OWN and flash["job"] == service.get(jobs(service, "flash")[0], JOB, "Id") and flash["result"] == "done"
    assert flash["serial"] == "49cbd7ef" and flash["modem"] == path and flash["port"] == service.get(path, MODEM, "Port")
    times = [int(r["time"]) for r in rows]
    assert times == sorted(times) and "mode normal" in rows[-2]["text"]
    # It outlives the service, and the job.
    service.restart()
    assert history(service, modem=dbus.ObjectPath(path), all=True)[:len(rows)] == rows
    service.call(jobs(service, "flash")[0], JOB, "Release", options())
    assert history(service, modem=dbus.ObjectPath(path), all=True)[:len(rows)] == rows


def test_which_rows(service, plug):
    for port, kernel, serial in (("virtual-usb-0:1.2", "1-1.2", "49CBD7EF"), (OTHER_PORT, "1-1.3", "0BADCAFE")):
        plug(service, port=port, kernel=kernel, product=f"QUSB_BULK_CID:0410_SN:{serial}")
    paths = [find_modem(service), find_modem(service, OTHER_PORT)]
    wait_event(service, "appeared", 2)
    for path, serial in zip(paths, ("49cbd7ef", "0badcafe")):
        assert [str(r["serial"]) for r in history(service, modem=dbus.ObjectPath(path))] == [serial]
    rows = history(service)
    assert [str(r["serial"]) for r in history(service, limit=dbus.UInt32(1))] == ["0badcafe"]
    assert history(service, limit=dbus.UInt32(0)) == []
    assert history(service, since=dbus.UInt64(int(rows[1]["time"]))) == rows[1:]
    with Refused("NoSuchModem"):
        history(service, modem=dbus.ObjectPath("/org/qdld1/modem/none"))
    with Refused(INVALID_ARGS):
        history(service, limit=dbus.UInt64(1))


def test_a_loop_does_not_push_out_everything_else(service, new_modem):
    new_modem(service, "loop=hard", "window_ms=100", "gap_ms=50")
    path = find_modem(service)
    wait_event(service, "looping")
    before = events(service).count("appeared")
    turns(service, path, 4)
    assert events(service).count("appeared") == before <= 3


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_another_user_s_jobs_are_not_everybody_s(service, plug, make_package):
    import_package(service, make_package("--small"))
    plug(service)
    wait_event(service, "appeared")
    ask = ["busctl", f"--address={service.address}", "--json=short", "call", "org.qdld1", "/org/qdld1", "org.qdld1.Manager", "GetHistory"]
    own = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *ask, "a{sv}", "0"], capture_output=True, text=True)
    assert own.returncode == 0, own.stderr
    rows = json.loads(own.stdout)["data"][0]
    assert [r["event"]["data"] for r in rows] == ["appeared"], rows
    refused = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *ask, "a{sv}", "1", "all", "b", "true"],
                             capture_output=True, text=True)
    assert refused.returncode != 0, refused.stdout
    assert "done" in events(service, all=True)


def test_it_is_bounded(service, plug, tmp_path):
    """And what lies in the file may be anything."""
    service.stop()
    file = service.state / "jobs" / "history"
    line = "{}\tdone\tvirtual-usb-0:1.2\t49cbd7ef\t{}\tflash\t0\tdone\tfinished: done\n"
    with open(file, "w") as f:
        f.write("nonsense\n" + "\t" * 8 + "\n")
        f.writelines(line.format(n, n) for n in range(1, 2100))
        f.write("5\tdone\tvirtual-usb-0:1.2\t49cb")  # cut off
    with open(file, "ab") as f:
        f.write(b"\n5\tdone\t\t\t1\tflash\t0\tdone\t\xff\x01\n6\tdone\tvirt")
    service.start()
    rows = history(service, all=True)
    assert len(rows) == ROWS_MAX and [rows[0]["job"], rows[-1]["job"]] == [1100, 2099]
    plug(service)
    wait_event(service, "appeared")
    assert len(history(service, all=True)) == ROWS_MAX and file.read_text().count("\n") == ROWS_MAX
    service.restart()
    assert history(service, all=True)[-2]["event"] == "appeared" or "appeared" in events(service, all=True)[-3:]


def test_qdlctl_history(service, plug):
    environment = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=service.address)

    def run(*arguments):
        said = subprocess.run([BUILD / "qdlctl", "history", *arguments], capture_output=True, text=True, env=environment)
        assert said.returncode == 0, said.stderr
        return said.stdout
    assert "Nothing has happened" in run()
    plug(service)
    wait_event(service, "appeared")
    text = run("49cbd7ef")
    assert "appeared" in text and "virtual-usb-0:1.2" in text and "49cbd7ef" in text, text
    assert json.loads(run("--json=short"))[0]["event"] == "appeared"
