# SPDX-License-Identifier: LGPL-2.1-or-later
"""Options that no honest client sends, to every method: each is taken or refused by a named error in one line."""

import dbus
import dbus.exceptions
import pytest
from conftest import INVALID_ARGS, JOB, MODEM, NAME, wait_until
from test_api import archive, backed_up, every_method, honest, imported, options

LONG = "x" * 100000
VALUES = {
    "s": [dbus.String(v) for v in ("", LONG, "a\nb", "a\x1b[2Jb", "../../etc/passwd", "%s%n", "490154203237518")],
    "o": [dbus.ObjectPath(v) for v in ("/", "/org/qdld1", "/" + LONG, "/org/qdld1/firmware/_")],
    "t": [dbus.UInt64(v) for v in (0, 1, 2**63, 2**64 - 1)],
    "u": [dbus.UInt32(v) for v in (0, 2**32 - 1)],
    "b": [dbus.Boolean(v) for v in (False, True)],
    "i": [dbus.Int32(-1)], "d": [dbus.Double(v) for v in (float("nan"), float("inf"), -0.0)], "y": [dbus.Byte(0)],
    "as": [dbus.Array(v, signature="s") for v in ([], [""], ["a\nb"], [LONG], ["x"] * 10000, ["EFS2"] * 2)],
    "ai": [dbus.Array([1], signature="i")], "a{sv}": [dbus.Dictionary({"a": "b"}, signature="sv")],
    "(s)": [dbus.Struct(["a"], signature="s")], "v": [dbus.String("x", variant_level=3)],
}
# A label and a reason are texts for people: these are lines like any other.
TEXTS = ("../../etc/passwd", "%s%n", "490154203237518")
TAKEN = [("ImportFirmware", t) for t in ("", *TEXTS)] + [("Inhibit", t) for t in TEXTS] + [("ArmPort", TEXTS[2])]
ENDS = ("Forget", "Remove", "Release")  # of what the others are called on
# Longer than sd-bus lets a path be: it refuses the whole message.
TOO_LONG = "org.freedesktop.DBus.Error.InconsistentMessage"


@pytest.fixture
def bench(honest, archive, plug, tmp_path):
    """A service, and its methods with arguments that are right."""
    plug(honest)
    firmware, backup = imported(honest, archive), backed_up(honest, tmp_path)
    with open(archive) as f:
        methods = every_method(honest, f.fileno(), honest.modem(), firmware, backup, honest.paths(JOB)[0])
        yield honest, [m for m in methods if m[2] not in ENDS]


def assert_named(e, kind, what):
    refused = e.get_dbus_name()
    assert refused == INVALID_ARGS or refused.startswith(NAME + ".Error.") or (refused == TOO_LONG and kind == "o"), what
    assert e.get_dbus_message().isprintable() and len(e.get_dbus_message()) < 1000, what


def tidy(service):
    """One job of many is kept: the methods of jobs are called on it."""
    for path in service.paths(JOB)[1:]:
        service.wait_job(path)
        service.call(path, JOB, "Release", options())


@pytest.mark.parametrize("name", ["queue", "timeout", "allow", "modem-version", "reset", "kind", "partitions", "mode", "format", "since",
                                  "modem", "limit", "sha256", ""])
def test_every_type_and_size_of_an_option(bench, name):
    service, methods = bench
    for path, interface, method, arguments in methods:
        for kind, values in VALUES.items():
            for value in values:
                try:
                    service.call(path, interface, method, *arguments, dbus.Dictionary({name: value}, signature="sv"))
                except dbus.exceptions.DBusException as e:
                    assert_named(e, kind, (method, name, kind, repr(value)[:60], str(e)[:300]))
                    continue
                assert name, method  # an option without a name is none
                if interface != JOB:
                    tidy(service)
    assert service.paths(MODEM)


def test_a_plan_does_not_queue(bench):
    """It is accepted, and means nothing: the answer is the plan."""
    service, methods = bench
    path, interface, _, arguments = next(m for m in methods if m[2] == "Plan")
    jobs = service.paths(JOB)
    assert service.call(path, interface, "Plan", *arguments, options(queue=True))[0]["kind"] == "summary"
    assert service.paths(JOB) == jobs


def test_every_size_of_an_argument(bench):
    service, methods = bench
    for path, interface, method, arguments in methods:
        for i, honest_one in enumerate(arguments):
            kind = {dbus.ObjectPath: "o", str: "s"}.get(type(honest_one))
            for value in (v for v in VALUES.get(kind, ()) if v != honest_one):
                changed = [*arguments[:i], value, *arguments[i + 1:]]
                try:
                    taken = service.call(path, interface, method, *changed, options())
                except dbus.exceptions.DBusException as e:
                    assert_named(e, kind, (method, i, repr(value)[:60], str(e)[:300]))
                    continue
                assert (method, str(value)) in TAKEN, (method, i, repr(value)[:60])
                tidy(service)
                if method == "Inhibit":
                    assert "490154203237518" not in service.get(path, MODEM, "InhibitedBy")
                    del taken  # the descriptor
                    wait_until(lambda: not service.get(path, MODEM, "Inhibited"), what="the end of the inhibition")
