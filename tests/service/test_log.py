# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the service says to the journal, the catalog that explains it, and org.freedesktop.LogControl1."""

import re
import subprocess

import dbus
import pytest
from conftest import JOB, MODEM, NAME, PROPERTIES, TOP, Refused, wait_until

CONTROL = "/org/freedesktop/LogControl1"
INTERFACE = "org.freedesktop.LogControl1"
CATALOG = TOP / "systemd" / "qdld.catalog"


def ids_of_the_service():
    table = re.search(r"event_ids\[\] = \{(.*?)\};", (TOP / "daemon/service/log.c").read_text(), re.S).group(1)
    return re.findall(r'"([0-9a-f]{32})"', table)


def fields_of_the_service():
    return set(re.findall(r'#define LOG_FIELD_\w+\s+"(\w+)"', (TOP / "daemon/service/log.h").read_text()))


def test_the_catalog_explains_every_event_and_no_other():
    assert re.findall(r"^-- ([0-9a-f]+)$", CATALOG.read_text(), re.M) == ids_of_the_service()


def test_the_catalog_uses_fields_that_exist():
    used = set(re.findall(r"@(\w+)@", CATALOG.read_text()))
    assert used and used <= fields_of_the_service()


def test_the_manual_names_every_field():
    page = (TOP / "man" / "qdld.8").read_text()
    assert not [field for field in fields_of_the_service() if field not in page]


def test_every_field_is_given():
    names = re.findall(r"#define (LOG_FIELD_\w+)", (TOP / "daemon/service/log.h").read_text())
    sources = "".join(path.read_text() for path in (TOP / "daemon/service").glob("*.c"))
    assert not [name for name in names if not re.search(rf"\b{name}\b", sources)]


def test_the_catalog_is_understood(tmp_path):
    directory = tmp_path / "usr/lib/systemd/catalog"
    directory.mkdir(parents=True)
    (directory / "qdld.catalog").write_text(CATALOG.read_text())
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    out = subprocess.run(["journalctl", f"--root={tmp_path}", "--update-catalog"], capture_output=True, text=True)
    assert out.returncode == 0 and out.stderr == "", out.stderr
    listed = subprocess.run(["journalctl", f"--root={tmp_path}", "--list-catalog"], capture_output=True, text=True).stdout
    found = dict(re.findall(r"^([0-9a-f]{32}) (.*)$", listed, re.M))
    for event in ids_of_the_service():
        assert found[event].startswith("qdld: "), event


HONEST = """
order = begin()
say("READY=1")
say("RESULT=done")
"""


@pytest.fixture
def bench(new_service, forge):
    """A service whose workers do what they are told, saying so on stderr."""
    service = new_service()
    service.start(worker=forge(HONEST))
    service.control = dbus.Interface(service.bus.get_object(NAME, CONTROL), PROPERTIES)
    service.control.Set(INTERFACE, "LogTarget", "console")
    return service


def test_log_control(bench, plug):
    assert bench.control.Get(INTERFACE, "LogLevel") == "info" and bench.control.Get(INTERFACE, "LogTarget") == "console"
    assert bench.control.Get(INTERFACE, "SyslogIdentifier") == "qdld"
    plug(bench)
    bench.modem()
    wait_until(lambda: "<5>05c6:9008 appeared: " in bench.errors(), what="the line of the appearance")
    bench.control.Set(INTERFACE, "LogLevel", "err")
    assert bench.control.Get(INTERFACE, "LogLevel") == "err"
    plug(bench, port="virtual-usb-0:9", kernel="1-9")
    wait_until(lambda: len(bench.paths(MODEM)) == 2, what="the second modem")
    assert bench.errors().count(" appeared: ") == 1


def test_log_control_refuses_what_it_does_not_know(bench):
    for name, value in (("LogLevel", "loud"), ("LogLevel", ""), ("LogTarget", "printer")):
        with Refused("org.freedesktop.DBus.Error.InvalidArgs"):
            bench.control.Set(INTERFACE, name, value)
    assert bench.control.Get(INTERFACE, "LogLevel") == "info"


def test_a_job_s_life_is_told(bench, plug):
    """With its number, so that the line leads to the log."""
    plug(bench)
    job = bench.call(bench.modem(), MODEM, "Identify", bench.no_options())
    assert bench.wait_job(job) == "done"
    number = bench.get(job, JOB, "Id")
    wait_until(lambda: re.search(rf"<6>Job \w+ {number} finished: done", bench.errors()), what="the line of the end")
    assert re.search(rf"<6>Job \w+ {number} of user \d+ started on ", bench.errors())
