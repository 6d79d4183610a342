# SPDX-License-Identifier: LGPL-2.1-or-later
"""The worker binary as the service starts it: alone with its link, this test at the other end."""

import array
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "modem"))
import modemhost  # noqa: E402

BUILD = os.environ.get("BUILD", "build")
BINARY = os.path.join(BUILD, "qdld-worker")
TIMEOUT = 60


class Worker:
    def __init__(self):
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link.settimeout(TIMEOUT)
        fd = theirs.fileno()
        self.process = subprocess.Popen(
            [BINARY], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, close_fds=False, env={"LANG": "C.UTF-8"},
            preexec_fn=lambda: os.dup2(fd, 3) if fd != 3 else os.set_inheritable(3, True))
        theirs.close()

    def say(self, *lines, fds=()):
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.link.sendmsg(["".join(line + "\n" for line in lines).encode()], control)

    def hear(self):
        """The lines of the next datagram; [] when the worker has closed its end."""
        return self.link.recv(65536).decode().splitlines()

    def hear_until(self, start):
        """Everything up to and with the first line that starts so."""
        heard = []
        while True:
            lines = self.hear()
            assert lines, f"the worker ended without {start}: {heard} {self.process.stderr.read()}"
            heard += lines
            if any(line.startswith(start) for line in lines):
                return heard

    def end(self):
        """Its exit status and what it said on stderr."""
        _, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, err.decode()


    def start(self, job, modem, *options):
        """A job on the next appearance of a virtual modem; the descriptor is the worker's alone from then on."""
        self.hear()
        self.say(f"JOB={job}", *options)
        self.hear_until("WAIT_DEVICE=edl")
        self.give(modem)

    def give(self, modem):
        host = modem.appear()
        plug = host.plug
        self.say("DEVICE=1", f"VID={plug['VID']}", f"PID={plug['PID']}", f"PRODUCT={plug['PRODUCT']}",
                 fds=[host.socket.fileno()])
        host.close()
        return plug


@pytest.fixture
def modem(tmp_path):
    """Starts virtual modems with settings."""
    started = []

    def start(*settings):
        started.append(modemhost.Modem(tmp_path, *settings))
        return started[-1]
    yield start
    for m in started:
        m.stop()
        m.listener.close()


@pytest.fixture
def worker():
    w = Worker()
    yield w
    w.link.close()
    if w.process.poll() is None:
        w.process.kill()
    w.process.communicate()


def locked(w):
    with open(f"/proc/{w.process.pid}/status") as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    return status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2"


def test_build_is_the_first_line(worker):
    with open(os.path.join(BUILD, "build-id.h")) as f:
        build_id = re.search(r'"([0-9a-f]+)"', f.read()).group(1)
    assert worker.hear() == [f"BUILD={build_id}"]


def test_locked_before_the_first_job(worker):
    worker.hear()
    worker.say("JOB=identify")
    heard = worker.hear_until("WAIT_DEVICE=")
    assert "READY=1" in heard and heard[-1] == "WAIT_DEVICE=edl"
    assert locked(worker)


@pytest.mark.parametrize("lines", [["garbage"], ["JOB=dance"], ["JOB=identify", "READY=1"], ["JOB=identify", "OPTION.a=\x01"],
                                   ["OPTION.a=1"], ["JOB=flash", "FD=package"]])
def test_what_is_no_job_ends_it(worker, lines):
    worker.hear()
    worker.say(*lines)
    status, err = worker.end()
    assert status == 1
    assert err.startswith("qdld-worker") and err.count("\n") == 1
    assert worker.hear() == []


def test_garbage_in_the_middle_of_a_job_ends_it(worker):
    worker.hear()
    worker.say("JOB=identify")
    worker.hear_until("WAIT_DEVICE=")
    worker.say("DEVICE=1", "VID=05c6", "PID=9008")
    assert worker.end()[0] == 1


def test_no_job_is_no_failure(worker):
    worker.hear()
    worker.link.close()
    assert worker.end() == (0, "")


def test_stop_before_a_job(worker):
    worker.hear()
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == (0, "")


@pytest.mark.parametrize("how", ["CANCEL=1", "STOP=1", "SIGTERM"])
def test_the_end_of_a_job_that_waits(worker, how):
    worker.hear()
    worker.say("JOB=identify")
    worker.hear_until("WAIT_DEVICE=")
    if how == "SIGTERM":
        worker.process.send_signal(signal.SIGTERM)
    else:
        worker.say(how)
    heard = worker.hear_until("RESULT=")
    if how == "CANCEL=1":
        assert "RESULT=cancelled" in heard and "ERROR=Cancelled" in heard
    else:
        assert "RESULT=interrupted" in heard and "ERROR=Interrupted" in heard
    assert worker.end() == (0, "")


def test_the_end_of_the_service(worker):
    worker.hear()
    worker.say("JOB=identify")
    worker.hear_until("WAIT_DEVICE=")
    worker.link.close()
    assert worker.end()[0] == 0


def test_a_device_that_is_none(worker):
    """Neither a usbfs node nor a virtual modem: an error of the job, in one line, and not the end of the process."""
    worker.hear()
    with open("/dev/null", "r+b", buffering=0) as null:
        worker.say("JOB=identify")
        worker.hear_until("WAIT_DEVICE=")
        worker.say("DEVICE=1", "VID=05c6", "PID=9008", "PRODUCT=x", fds=[null.fileno()])
        heard = worker.hear_until("RESULT=")
    assert "RESULT=failed" in heard
    assert any(line.startswith("MESSAGE=") for line in heard)
    assert worker.end() == (0, "")


def test_reset_refuses_before_ready(worker):
    worker.hear()
    worker.say("JOB=reset", "OPTION.mode=gently")
    heard = worker.hear_until("RESULT=")
    assert "READY=1" not in heard and "ERROR=InvalidArgs" in heard
    assert worker.end() == (0, "")


# ---- with the virtual modem ----

def test_identify_and_hold(worker, modem):
    m = modem()
    worker.start("identify", m)
    heard = worker.hear_until("RESULT=")
    assert "SERIAL=49cbd7ef" in heard and "MODE=sahara" in heard
    assert "HWID=000e50e100040000" in heard and "CHIP=SDX55" in heard
    assert "REPORT.pkhash=d9357db88795b5a8c2d1f07e6b4a39185f0c2e7d9b8a61534403f2e1d0cfbead" in heard
    assert heard[-2:] == ["RESULT=done", "HOLDING=1"]
    # The holder lives until it is told to let go; the modem is still there.
    with pytest.raises(subprocess.TimeoutExpired):
        worker.process.wait(0.2)
    worker.say("RELEASE=1")
    assert worker.end() == (0, "")
    assert m.process.poll() is None


@pytest.mark.parametrize("how", ["unplug", "SIGTERM", "link"])
def test_the_end_of_a_holder(worker, modem, how):
    m = modem()
    worker.start("identify", m)
    worker.hear_until("HOLDING=1")
    if how == "unplug":
        m.stop()
    elif how == "SIGTERM":
        worker.process.send_signal(signal.SIGTERM)
    else:
        worker.link.close()
    assert worker.end() == (0, "")


@pytest.mark.parametrize("settings", [["hello=lost"], ["hello=twice"], ["start=mid-transfer"], ["start=reset-resp"],
                                      ["sahara_version=3"], ["command_mode=no"]])
def test_identify_in_any_state(worker, modem, settings):
    worker.start("identify", modem(*settings))
    heard = worker.hear_until("RESULT=")
    assert "RESULT=done" in heard, heard
    assert "REPORT.serial=49cbd7ef" in heard


def test_identify_a_running_programmer(worker, modem):
    worker.start("identify", modem("start=firehose"))
    heard = worker.hear_until("RESULT=")
    assert "MODE=firehose" in heard and "SERIAL=49cbd7ef" in heard
    assert any(line.startswith("STORAGE=nand 4096/256K x ") for line in heard)
    assert "HOLDING=1" in heard


def test_identify_a_crash_dump(worker, modem):
    worker.start("identify", modem("start=crash-dump"))
    heard = worker.hear_until("RESULT=")
    assert "MODE=crash-dump" in heard and "RESULT=done" in heard and "HOLDING=1" not in heard
    assert worker.end() == (0, "")


def test_identify_in_the_next_window(worker, modem):
    """The first window closes in the middle; the job waits for the next one by itself."""
    m = modem("fault=unplug@byte:100")
    worker.start("identify", m)
    assert "DEVICE_LOST=1" in worker.hear_until("WAIT_DEVICE=edl")
    worker.give(m)
    heard = worker.hear_until("RESULT=")
    assert "RESULT=done" in heard and "SERIAL=49cbd7ef" in heard


def test_another_unit_in_the_next_window(worker, modem):
    m = modem("start=firehose", "swap_at=2")
    worker.start("reset", m, "OPTION.mode=edl")
    worker.hear_until("WAIT_DEVICE=edl")
    worker.give(m)
    heard = worker.hear_until("RESULT=")
    assert "RESULT=failed" in heard and "ERROR=WrongUnit" in heard and "HOLDING=1" not in heard
    assert any("5eed0001" in line and "49cbd7ef" in line for line in heard if line.startswith("MESSAGE="))


def test_reset_boots(worker, modem):
    m = modem("initial=working", "force_edl=no", "start=sahara", "sahara_reset=reboot")
    worker.start("reset", m, "OPTION.mode=normal")
    worker.hear_until("WAIT_DEVICE=normal")
    plug = m.appear().plug
    assert plug["VID"] == "2c7c"
    worker.say("APPEARED=normal", f"VID={plug['VID']}", f"PID={plug['PID']}")
    heard = worker.hear_until("RESULT=")
    assert "REPORT.came-back=normal" in heard and "RESULT=done" in heard


def test_reset_of_a_programmer(worker, modem):
    m = modem("initial=working", "start=firehose")
    worker.start("reset", m, "OPTION.mode=edl")
    assert "DEVICE_LOST=1" in worker.hear_until("WAIT_DEVICE=edl")
    worker.give(m)
    heard = worker.hear_until("RESULT=")
    assert "MODE=sahara" in heard and "RESULT=done" in heard and "HOLDING=1" in heard


@pytest.mark.parametrize("start", ["sahara", "firehose"])
def test_a_killed_worker_leaves_the_modem_to_the_next(modem, start):
    """SIGKILL with transfers posted; the next worker works on the same appearance."""
    m = modem(f"start={start}")
    host = m.appear()
    plug = [f"VID={host.plug['VID']}", f"PID={host.plug['PID']}", f"PRODUCT={host.plug['PRODUCT']}"]
    for last in (False, True):
        w = Worker()
        w.hear()
        w.say("JOB=identify")
        w.hear_until("WAIT_DEVICE=edl")
        w.say("DEVICE=1", *plug, fds=[host.socket.fileno()])
        heard = w.hear_until("RESULT=")
        assert "RESULT=done" in heard and "SERIAL=49cbd7ef" in heard
        w.process.kill()
        w.process.communicate()
        w.link.close()
    assert last
    host.close()


def test_not_by_hand():
    r = subprocess.run([BINARY], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, close_fds=True)
    assert r.returncode == 1
    assert b"not its link" in r.stderr
