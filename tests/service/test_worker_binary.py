# SPDX-License-Identifier: LGPL-2.1-or-later
"""The worker binary as the service starts it: alone with its link, this test at the other end."""

import array
import os
import re
import signal
import socket
import subprocess

import pytest

BUILD = os.environ.get("BUILD", "build")
BINARY = os.path.join(BUILD, "qdld-worker")
TIMEOUT = 20


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


def test_not_by_hand():
    r = subprocess.run([BINARY], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, close_fds=True)
    assert r.returncode == 1
    assert b"not its link" in r.stderr
