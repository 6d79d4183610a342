# SPDX-License-Identifier: LGPL-2.1-or-later
"""A host for the virtual modem that shares nothing with the daemon: raw datagrams, Sahara and Firehose by the
reference. Tests use it to drive the modem, rightly and wrongly."""

import hashlib
import os
import pathlib
import re
import select
import socket
import struct
import subprocess
import time

PK_HASH = "d9357db88795b5a8"
LITERALS = ("skip_bad_block", "last_sector", "getsha256digest", "c_project_name", "PAGES_PER_BLOCK")
MODEM = os.environ.get("VIRTUAL_MODEM") or str(
    pathlib.Path(__file__).resolve().parents[2] / os.environ.get("BUILD", "build") / "virtual-modem")

HELLO, HELLO_RESP, READ_DATA, END_IMAGE, DONE, DONE_RESP, RESET, RESET_RESP = range(1, 9)
CMD_READY, SWITCH_MODE, EXECUTE, EXECUTE_RESP, EXECUTE_DATA = range(0x0B, 0x10)
MEMORY_DEBUG64, MEMORY_READ64, READ_DATA64, RESET_STATE_MACHINE = range(0x10, 0x14)


WORKING = "initial=working"  # a modem that runs its firmware

# Longer than anything takes on a machine that is busy with other things; what takes longer has hung.
PATIENCE = 60.0


class Gone(Exception):
    """The modem left the bus."""


class Silent(Exception):
    """No answer in time."""


def make_programmer(signed_for=PK_HASH, literals=LITERALS, size=0x9000, elf64=False):
    """An ELF with the shape of a signed programmer: headers, hash segment at 0x1000, code at 0x3000."""
    segments = [(0x1000, 0x19d0), (0x3000, size)]
    if elf64:
        header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, 0, 0x40, 0, 0, 0x40, 56, 3,
                                                              0, 0, 0)
        table = struct.pack("<IIQQQQQQ", 0, 0x7000000, 0, 0, 0, 0x40 + 3 * 56, 0, 0)
        for offset, length in segments:
            table += struct.pack("<IIQQQQQQ", 1, 7, offset, offset, offset, length, length, 0x1000)
    else:
        header = b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", 2, 40, 1, 0, 0x34, 0, 0, 0x34, 32, 3,
                                                               0, 0, 0)
        table = struct.pack("<IIIIIIII", 0, 0, 0, 0, 0x34 + 3 * 32, 0, 0x7000000, 0)
        for offset, length in segments:
            table += struct.pack("<IIIIIIII", 1, offset, offset, offset, length, length, 7, 0x1000)
    image = bytearray(0x3000 + size)
    image[:len(header) + len(table)] = header + table
    text = b"\0".join(x.encode() for x in literals)
    if signed_for:
        text += b"\0SIGNED-FOR=" + signed_for.encode() + b"\0"
    image[0x3100:0x3100 + len(text)] = text
    return bytes(image)


class Modem:
    """Starts a virtual modem on a flash of its own and listens for its appearances."""

    def __init__(self, directory, *settings, new=True, blocks=192, start=True):
        self.directory = pathlib.Path(directory)
        self.flash = self.directory / "flash"
        self.trace_path = self.directory / "trace"
        self.socket_path = self.directory / "bus"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if self.socket_path.exists():
            self.socket_path.unlink()
        self.listener.bind(str(self.socket_path))
        self.listener.listen(4)
        self.arguments = [MODEM, "--socket", str(self.socket_path), "--flash", str(self.flash), "--trace",
                          str(self.trace_path)]
        if new:
            self.arguments += ["--new", "--blocks", str(blocks)]
        for s in settings:
            self.arguments += ["--set", s]
        self.process = subprocess.Popen(self.arguments) if start else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        self.listener.close()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(PATIENCE)

    def appear(self, timeout=PATIENCE):
        """Waits for the next appearance."""
        if not select.select([self.listener], [], [], timeout)[0]:
            raise Silent("no appearance")
        connection, _ = self.listener.accept()
        return Host(connection)

    def start_in_a_window(self):
        """For one that loops: the next appearance that lasts long enough to start a programmer and configure it."""
        for _ in range(100):
            try:
                return self.appear().start_programmer()
            except Gone:
                pass
        raise Gone()

    def trace(self):
        return self.trace_path.read_text(errors="replace").splitlines()

    def violations(self):
        return [line.split(" ", 2)[2] for line in self.trace() if line.split(" ", 2)[1] == "VIOLATION"]


class Host:
    """One appearance."""

    def __init__(self, connection):
        self.socket = connection
        self.plug = dict(line.split("=", 1) for line in self._datagram(PATIENCE).decode().splitlines())
        self.max_packet = int(self.plug["MAX_PACKET"])
        self.logs = []
        self.pending = b""
        self.zlp = False
        self.payload = 8192
        self.sent = 0

    def close(self):
        self.socket.close()

    def _datagram(self, timeout):
        if not select.select([self.socket], [], [], timeout)[0]:
            raise Silent("no datagram")
        try:
            data = self.socket.recv(20000)
        except ConnectionError as e:
            raise Gone() from e
        if not data:
            raise Gone()
        return data

    # ---- transfers ----
    def send(self, data, zlp=False, timeout=PATIENCE):
        pieces = [data[i:i + 16384] for i in range(0, len(data), 16384)] or [b""]
        if zlp and data and len(data) % self.max_packet == 0:
            pieces.append(b"")
        for piece in pieces:
            if not select.select([], [self.socket], [], timeout)[1]:
                raise Silent("OUT is not accepted")
            try:
                self.socket.send(b"D" + piece)
                self.sent += 1
            except OSError as e:
                raise Gone() from e

    def control(self, letter):
        self.socket.send(letter)

    def poll(self):
        self.control(b"P")

    def receive(self, timeout=PATIENCE):
        """One datagram of data (maybe less than a transfer)."""
        data = self._datagram(timeout)
        assert data[:1] == b"D"
        return data[1:]

    def receive_exactly(self, length, timeout=PATIENCE):
        while len(self.pending) < length:
            self.pending += self.receive(timeout)
        data, self.pending = self.pending[:length], self.pending[length:]
        return data

    def wait_gone(self, timeout=PATIENCE):
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._datagram(max(0.0, deadline - time.monotonic()))
            except Gone:
                return

    # ---- Sahara ----
    def packet(self, timeout=PATIENCE):
        data = self.receive(timeout)
        command, length = struct.unpack_from("<II", data)
        assert length == len(data), data
        return command, struct.unpack(f"<{(length - 8) // 4}I", data[8:])

    def send_packet(self, command, *words):
        self.send(struct.pack(f"<{2 + len(words)}I", command, 8 + 4 * len(words), *words))

    def hello_response(self, mode=0):
        self.send_packet(HELLO_RESP, 2, 1, 0, mode, 1, 2, 3, 4, 5, 6)

    def upload(self, programmer, hello=True):
        """From HELLO to DONE_RESP: its status; the requests stay in self.requests. A failure: the END_IMAGE status."""
        self.requests = []
        if hello:
            self.poll()
            assert self.packet()[0] == HELLO
        self.hello_response()
        while True:
            command, words = self.packet()
            if command == READ_DATA:
                image, offset, length = words
            elif command == READ_DATA64:
                image, offset, length = words[0], words[2] | words[3] << 32, words[4] | words[5] << 32
            else:
                break
            self.requests.append((offset, length))
            self.send(programmer[offset:offset + length].ljust(length, b"\xff"))
        assert command == END_IMAGE, command
        if words[1]:
            raise UploadFailed(words[1])
        self.send_packet(DONE)
        command, words = self.packet()
        assert command == DONE_RESP
        return words[0]

    def execute(self, client_command):
        self.send_packet(EXECUTE, client_command)
        command, words = self.packet()
        if command != EXECUTE_RESP:
            return command, words
        if words[1] == 0:
            return b""
        self.send_packet(EXECUTE_DATA, client_command)
        return self.receive_exactly(words[1])

    # ---- Firehose ----
    def document(self, timeout=PATIENCE):
        """The next document as text; logs are kept in self.logs."""
        while b"</data>" not in self.pending:
            self.pending += self.receive(timeout)
        end = self.pending.index(b"</data>") + len(b"</data>")
        text, self.pending = self.pending[:end], self.pending[end:]
        if not self.pending.strip(b"\0\n"):
            self.pending = b""
        log = re.search(rb'<log value="([^"]*)"', text)
        if log:
            self.logs.append(log.group(1).decode(errors="replace").replace("&quot;", '"'))
        return text.decode(errors="replace")

    def response(self, timeout=PATIENCE):
        while True:
            text = self.document(timeout)
            found = re.search(r"<response ([^>]*?)/>", text)
            if found:
                return dict(re.findall(r'(\w+)="([^"]*)"', found.group(1)))

    def banner(self, timeout=PATIENCE):
        while not self.logs or "End of supported" not in self.logs[-1] and "Supported Functions:" not in self.logs[-1]:
            self.document(timeout)

    def command(self, tag, timeout=PATIENCE, **attributes):
        text = " ".join(f'{k}="{v}"' for k, v in attributes.items())
        self.send(f'<?xml version="1.0" encoding="UTF-8" ?>\n<data>\n<{tag} {text}/>\n</data>'.encode())
        return self.response(timeout)

    def configure(self, payload=8192, zlp=0, memory="nand"):
        self.zlp = bool(zlp)
        r = self.command("configure", MemoryName=memory, Verbose=0, AlwaysValidate=0, MaxDigestTableSizeInBytes=2048,
                         MaxPayloadSizeToTargetInBytes=payload, ZlpAwareHost=zlp, SkipStorageInit=0)
        if r["value"] == "ACK":
            self.payload = payload
        return r

    @staticmethod
    def address(start, count, page=4096, **more):
        return dict(PAGES_PER_BLOCK=64, SECTOR_SIZE_IN_BYTES=page, num_partition_sectors=count,
                    physical_partition_number=0, start_sector=start, **more)

    def erase(self, start, count, page=4096, **more):
        return self.command("erase", **self.address(start, count, page, **more))

    def program(self, start, data, page=4096, **more):
        data = data.ljust((len(data) + page - 1) // page * page, b"\0")
        r = self.command("program", **self.address(start, len(data) // page, page, **more))
        if r["value"] != "ACK":
            return r
        for i in range(0, len(data), self.payload):
            self.send(data[i:i + self.payload], zlp=self.zlp)
        return self.response()

    def read(self, start, count, page=4096, **more):
        """The data and the final response."""
        r = self.command("read", **self.address(start, count, page, **more))
        if r["value"] != "ACK":
            return b"", r
        data = self.receive_exactly(count * page)
        return data, self.response()

    def digest(self, start, count, page=4096, **more):
        r = self.command("getsha256digest", **self.address(start, count, page, **more))
        found = [log for log in self.logs if "Digest " in log]
        return r, found[-1].split("Digest ")[1].lower() if found else r.get("Digest", "").lower()

    def start_programmer(self, programmer=None, payload=8192, zlp=0):
        """From plug to configured."""
        self.upload(programmer or make_programmer())
        self.banner()
        r = self.configure(payload, zlp)
        assert r["value"] == "ACK", r
        return self


class UploadFailed(Exception):
    def __init__(self, status):
        super().__init__(f"END_IMAGE status 0x{status:02x}")
        self.status = status


def sha256(data):
    return hashlib.sha256(data).hexdigest()
