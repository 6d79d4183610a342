# SPDX-License-Identifier: LGPL-2.1-or-later
"""The modem's USB/IP port: the test plays vhci_hcd."""

import re
import socket
import struct
import subprocess
import time

import pytest
from diaghost import decode, encode
from modemhost import HELLO, MODEM

SUBMIT, UNLINK = 1, 2
ZERO_PACKET = 0x40
ECONNRESET, EPIPE = 104, 32
DEVICE, CONFIGURATION, STRING, INTERFACE, ENDPOINT = 1, 2, 3, 4, 5


class Hub:
    """Waits for the modem, and submits transfers to what it has plugged."""

    def __init__(self, directory, *settings):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(directory / "hub"))
        self.listener.listen(1)
        self.listener.settimeout(60)
        self.trace = directory / "trace"
        options = [x for s in settings for x in ("--set", s)]
        self.process = subprocess.Popen([MODEM, "--flash", directory / "flash", "--new", "--blocks", "24", "--trace", self.trace, "--usbip",
                                         directory / "hub", *options])
        self.seqnum = 0
        self.accept()

    def accept(self):
        self.wire = self.listener.accept()[0]
        self.wire.settimeout(60)

    def end(self):
        if self.process.returncode is None:
            self.process.terminate()
            assert self.process.wait(60) == 0

    def submit(self, endpoint, data=b"", length=None, setup=bytes(8), flags=0):
        """IN if length is given. Its number."""
        self.seqnum += 1
        into = length is not None
        self.wire.sendall(struct.pack(">IIIII", SUBMIT, self.seqnum, 1, into, endpoint)
                          + struct.pack(">IIIII8s", flags, length if into else len(data), 0, 0, 0, setup) + data)
        return self.seqnum

    def read(self, n):
        data = b""
        while len(data) < n:
            more = self.wire.recv(n - len(data))
            assert more, "the modem left"
            data += more
        return data

    def get_back(self, into):
        """command, number, status, data or length of what comes back next."""
        command, seqnum, _, _, _, status, length = struct.unpack(">IIIIIii20x", self.read(48))
        return command, seqnum, status, self.read(length) if into and command == 3 and length else length

    def control(self, kind, request, value=0, index=0, length=0):
        number = self.submit(0, length=length if kind & 0x80 else None, setup=struct.pack("<BBHHH", kind, request, value, index, length))
        command, seqnum, status, data = self.get_back(kind & 0x80)
        assert (command, seqnum) == (3, number)
        return status, data

    def descriptor(self, kind, index=0):
        status, data = self.control(0x80, 6, kind << 8 | index, length=512)
        return data if status == 0 else status

    def configure(self):
        assert self.control(0, 9, 1) == (0, 0)

    def ask(self, out, into, data, length=4096):
        number = self.submit(out, data)
        assert self.get_back(False) == (3, number, 0, len(data))
        number = self.submit(into, length=length)
        command, seqnum, status, answer = self.get_back(True)
        assert (command, seqnum, status) == (3, number, 0)
        return answer


@pytest.fixture
def hub(tmp_path):
    made = []

    def make(*settings):
        made.append(Hub(tmp_path, *settings))
        return made[-1]
    yield make
    for h in made:
        h.end()


def parts(configuration):
    """(interface, class triple, endpoint addresses)"""
    found, at = [], 0
    while at < len(configuration):
        if configuration[at + 1] == INTERFACE:
            found.append((configuration[at + 2], configuration[at + 5:at + 8].hex(), []))
        elif configuration[at + 1] == ENDPOINT:
            found[-1][2].append(configuration[at + 2])
        at += configuration[at]
    return found


def test_9008_says_hello(hub):
    h = hub("serial=cafe0001")
    device = h.descriptor(DEVICE)
    assert struct.unpack_from("<HH", device, 8) == (0x05C6, 0x9008) and device[7] == 64
    assert h.descriptor(STRING, 2)[2:].decode("utf-16-le").endswith("SN:CAFE0001")
    assert parts(h.descriptor(CONFIGURATION)) == [(0, "ffffff", [0x81, 0x01])]
    assert h.descriptor(7) == -EPIPE
    h.configure()
    h.submit(1, length=512)
    _, _, status, hello = h.get_back(True)
    assert status == 0 and len(hello) == 48 and hello[0] == HELLO
    assert "poll" in h.trace.read_text()


def test_normal_mode_at_both_speeds(hub):
    h = hub("initial=working", "max_packet_normal=1024")
    device = h.descriptor(DEVICE)
    assert struct.unpack_from("<HH", device, 8) == (0x2C7C, 0x0800) and device[7] == 9 and device[2:4] == b"\0\3"
    assert parts(h.descriptor(CONFIGURATION)) == [
        (0, "ffff30", [0x81, 0x01]), (1, "ff0000", [0x82, 0x02, 0x83]), (2, "ff0000", [0x84, 0x03, 0x85]),
        (3, "ff0000", [0x86, 0x04, 0x87]), (4, "ffffff", [0x88, 0x05, 0x89])]
    h.configure()
    assert decode(h.ask(1, 1, encode(b"\x7c"))[:-1])[:1] == b"\x7c"
    # To 9008: off this bus, and on again at high speed.
    h.ask(1, 1, encode(b"\x4b\x65\x01\x00"))
    assert h.wire.recv(1) == b""
    h.accept()
    assert struct.unpack_from("<HH", h.descriptor(DEVICE), 8) == (0x05C6, 0x9008)


def test_at_ports_answer_beside_diag(hub):
    h = hub("initial=working")
    h.configure()
    assert h.ask(3, 4, b"ATE0\r") == b"\r\nOK\r\n"
    assert b"+GCAP: +CGSM" in h.ask(4, 6, b"AT+GCAP\r\n")
    assert b"RM502QGLAAR05A03M4G" in h.ask(3, 4, b"AT+CGMR\r")
    assert h.ask(3, 4, b"AT+QSOMETHING\r") == b"\r\nERROR\r\n"


def test_what_is_taken_back_is_not_answered(hub):
    h = hub("initial=working")
    h.configure()
    pending = h.submit(1, length=512)
    h.seqnum += 1
    h.wire.sendall(struct.pack(">IIIIII24x", UNLINK, h.seqnum, 1, 0, 0, pending))
    assert h.get_back(False)[:3] == (4, h.seqnum, -ECONNRESET)
    # What the modem says goes to the next one.
    assert decode(h.ask(1, 1, encode(b"\x7c"))[:-1])[:1] == b"\x7c"


def test_an_answer_longer_than_the_transfer_goes_on_in_the_next(hub):
    h = hub("initial=working")
    h.configure()
    whole = h.ask(1, 1, encode(b"\x7c"))
    h.submit(1, encode(b"\x7c"))
    h.get_back(False)
    numbers = [h.submit(1, length=16) for _ in range(2)]
    got = [h.get_back(True) for _ in range(2)]
    assert [g[1] for g in got] == numbers and b"".join(g[3] for g in got) == whole[:32]


def test_out_transfers_end_as_on_the_wire(hub):
    """Whole packets go on, a ZLP ends them: Sahara takes one behind data as an error."""
    h = hub("start=firehose")
    h.configure()
    h.submit(1, bytes(512), flags=ZERO_PACKET)
    h.get_back(False)
    h.submit(1, bytes(100))
    h.get_back(False)
    deadline = time.monotonic() + 60
    while len(lengths := re.findall(r" out transfer=\d+ length=(\d+)", h.trace.read_text())) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lengths == ["512", "0", "100"], lengths


def test_a_hub_that_is_not_there(tmp_path):
    r = subprocess.run([MODEM, "--flash", tmp_path / "flash", "--new", "--blocks", "24", "--usbip", tmp_path / "nobody"], capture_output=True,
                       text=True, timeout=20)
    assert r.returncode == 1 and "usbip on " in r.stderr
