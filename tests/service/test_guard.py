# SPDX-License-Identifier: LGPL-2.1-or-later
"""Modem.Inhibit: a modem is left to another tool for as long as the caller keeps a descriptor, also over a restart of the service."""

import array
import os
import signal
import socket
import subprocess

import pytest
from conftest import BUILD, JOB, MODEM, Refused, wait_until

LASTING = """
order = begin()
say("READY=1")
message, _ = hear()
say("RESULT=" + ("cancelled" if message[0][0] == "CANCEL" else "interrupted"), "ERROR=Cancelled", "MESSAGE=as asked")
"""

# Does its job, keeps the modem, and lets go when told, saying so in a file.
HOLDER = """
order = begin()
say("READY=1", "WAIT_DEVICE=edl")
hear()
say("RESULT=done", "HOLDING=1")
hear_until("RELEASE")
open({file!r}, "w").close()
"""


def inhibit(service, reason="another tool", modem=None):
    return service.call(modem or service.modem(), MODEM, "Inhibit", reason, service.no_options()).take()


@pytest.fixture
def bench(new_service, forge, plug):
    service = new_service()
    service.start(worker=forge(LASTING))
    plug(service)
    service.modem()
    return service


def inhibited(service):
    return service.get(service.modem(), MODEM, "Inhibited")


def test_nothing_starts_until_the_descriptor_is_closed(bench):
    modem = bench.modem()
    fd = inhibit(bench, "flashing with qdl")
    assert inhibited(bench) and bench.get(modem, MODEM, "InhibitedBy") == "flashing with qdl"
    assert bench.get(modem, MODEM, "InhibitedUid") == os.getuid()
    with Refused("ModemInhibited") as e:
        bench.call(modem, MODEM, "Identify", bench.no_options())
    assert "flashing with qdl" in e.message
    with Refused("ModemInhibited"):
        inhibit(bench)
    copy = os.dup(fd)
    os.close(fd)
    with Refused("ModemInhibited"):
        bench.call(modem, MODEM, "Identify", bench.no_options())
    os.close(copy)
    wait_until(lambda: not inhibited(bench), what="the end of the inhibition")
    assert bench.get(modem, MODEM, "InhibitedBy") == ""
    job = bench.call(modem, MODEM, "Identify", bench.no_options())
    bench.call(job, JOB, "Cancel", bench.no_options())


def test_not_while_a_job_has_it(bench):
    job = bench.call(bench.modem(), MODEM, "Identify", bench.no_options())
    with Refused("ModemBusy"):
        inhibit(bench)
    bench.call(job, JOB, "Cancel", bench.no_options())
    assert bench.wait_job(job) == "cancelled"
    os.close(inhibit(bench))


@pytest.mark.parametrize("reason", ["", "x" * 257, "two\nlines"])
def test_the_reason_is_a_line(bench, reason):
    with Refused("org.freedesktop.DBus.Error.InvalidArgs"):
        inhibit(bench, reason)
    assert not inhibited(bench)


def test_what_the_caller_writes_is_nobody_s_concern(bench):
    fd = inhibit(bench)
    os.set_blocking(fd, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(fd, b"x" * 65536)
    assert inhibited(bench)
    os.close(fd)
    wait_until(lambda: not inhibited(bench), what="the end of the inhibition")


def test_the_holder_has_let_go_before_the_answer(new_service, forge, plug, tmp_path):
    file = tmp_path / "released"
    service = new_service()
    service.start(worker=forge(HOLDER.format(file=str(file))))
    plug(service)
    assert service.wait_job(service.call(service.modem(), MODEM, "Identify", service.no_options())) == "done"
    wait_until(lambda: service.get(service.modem(), MODEM, "Held"), what="Held")
    fd = inhibit(service)
    assert file.exists() and not service.get(service.modem(), MODEM, "Held")
    os.close(fd)


def test_sixteen_a_user(new_service, forge, plug):
    service = new_service()
    service.start(worker=forge(LASTING))
    for i in range(17):
        plug(service, port=f"virtual-usb-0:{i + 1}", kernel=f"1-{i + 1}")
    wait_until(lambda: len(service.paths(MODEM)) == 17, what="the modems")
    fds = [inhibit(service, modem=path) for path in sorted(service.paths(MODEM))[:16]]
    with Refused("LimitExceeded"):
        inhibit(service, modem=sorted(service.paths(MODEM))[16])
    os.close(fds.pop())
    wait_until(lambda: sum(m["Inhibited"] for m in service.properties(MODEM).values()) == 15, what="the end of one")
    fds.append(inhibit(service, modem=sorted(service.paths(MODEM))[16]))
    for fd in fds:
        os.close(fd)


# ---- over a restart ----

class FdStore:
    """systemd's side: keeps what is sent with FDSTORE=1 and gives it to the next start as LISTEN_FDS."""

    def __init__(self, directory):
        self.path = directory / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(60)
        self.kept = {}

    def hear(self, word):
        while True:
            data, control, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(4))
            lines = dict(line.split("=", 1) for line in data.decode().splitlines())
            for level, kind, payload in control:
                fds = array.array("i")
                fds.frombytes(payload)
                self.kept[lines["FDNAME"]] = fds[0]
            if "FDSTOREREMOVE" in lines:
                os.close(self.kept.pop(lines["FDNAME"]))
            if word in lines:
                return lines


STARTER = """
import os, sys
fds = [int(fd) for fd in sys.argv[1].split(",") if fd]
for i, fd in enumerate(fds):
    os.dup2(fd, 100 + i)
for i in range(len(fds)):
    os.dup2(100 + i, 3 + i)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


def start_with(service, store, runtime):
    """As Service.start(), with the kept descriptors."""
    names = list(store.kept)
    environment = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=service.address, RUNTIME_DIRECTORY=str(runtime), NOTIFY_SOCKET=str(store.path))
    if names:
        environment.update(LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=":".join(names))
    service.stderr = open(service.directory / "qdld.stderr", "ab")
    service.process = subprocess.Popen(
        ["/usr/bin/python3", "-c", STARTER, ",".join(str(store.kept[n]) for n in names), BUILD / "qdld", f"--virtual={service.socket}",
         f"--config={service.directory / 'qdld.conf'}", f"--state={service.state}", f"--worker={service.directory / 'forged'}"],
        env=environment, stderr=service.stderr, pass_fds=store.kept.values())
    service.connect()


def test_over_a_restart(new_service, forge, plug, tmp_path):
    runtime, store = tmp_path / "run", FdStore(tmp_path)
    runtime.mkdir()
    service = new_service()
    service.start(worker=forge(LASTING), environment={"RUNTIME_DIRECTORY": str(runtime), "NOTIFY_SOCKET": str(store.path)})
    plug(service)
    fd = inhibit(service, "a long flash")
    store.hear("FDSTORE")
    assert len(store.kept) == 1 and len(list(runtime.glob("*.guard"))) == 1
    # The harshest end there is.
    service.stop(signal.SIGKILL)
    start_with(service, store, runtime)
    modem = service.paths(MODEM)[0]
    # Nothing is plugged in any more: it is there before the first modem is.
    assert service.get(modem, MODEM, "Inhibited") and service.get(modem, MODEM, "InhibitedBy") == "a long flash"
    assert service.get(modem, MODEM, "InhibitedUid") == os.getuid()
    plug(service)
    wait_until(lambda: service.get(modem, MODEM, "Mode") != "absent", what="the modem")
    with Refused("ModemInhibited"):
        service.call(modem, MODEM, "Identify", service.no_options())
    os.close(fd)
    wait_until(lambda: not service.get(modem, MODEM, "Inhibited"), what="the end of the inhibition")
    store.hear("FDSTOREREMOVE")
    assert store.kept == {} and list(runtime.iterdir()) == []


def test_what_nobody_holds_any_more_is_cleaned_up(new_service, forge, tmp_path):
    """The caller died while the service was away: systemd dropped the descriptor, the record is left. And one that has no record."""
    runtime, store = tmp_path / "run", FdStore(tmp_path)
    runtime.mkdir()
    (runtime / "guard-1.guard").write_text("PORT=virtual-usb-0:1.2\nREASON=gone\nUID=0\n")
    read_end, write_end = os.pipe()
    store.kept["guard-2"] = read_end
    service = new_service()
    forge(LASTING)
    (service.directory / "qdld.conf").write_text("[Backup]\nReserveFree=0\n")
    start_with(service, store, runtime)
    assert service.paths(MODEM) == [] and list(runtime.iterdir()) == []
    os.close(write_end)


def test_a_reload_waits_for_it(bench):
    fd = inhibit(bench)
    bench.process.send_signal(signal.SIGHUP)
    with Refused("ModemInhibited"):
        bench.call(bench.modem(), MODEM, "Identify", bench.no_options())
    os.close(fd)
    assert bench.process.wait(60) == 75
    bench.process = None
