# SPDX-License-Identifier: LGPL-2.1-or-later
"""A DIAG host by reference/diag.md for one appearance of the virtual modem in normal mode; shares nothing with the
daemon."""

import struct
import time

from modemhost import PATIENCE, Silent

END, ESCAPE = 0x7E, 0x7D
UNASKED = {0x10, 0x1F, 0x79, 0x7E, 0x92, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D}
REFUSALS = {0x13, 0x14, 0x15, 0x16, 0x18, 0x42, 0x47}
EFS = 0x13
ONLINE, OFFLINE, FTM, LPM = 5, 2, 1, 6


class Refused(Exception):
    """The modem answered with an error code."""
    def __init__(self, code):
        super().__init__(f"0x{code:02x}")
        self.code = code


class EfsError(Exception):
    def __init__(self, number):
        super().__init__(f"errno 0x{number:x}")
        self.number = number


def crc(data):
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ 0x8408 if value & 1 else value >> 1
    return value ^ 0xFFFF


def encode(payload):
    out = bytearray()
    for byte in payload + struct.pack("<H", crc(payload)):
        out += bytes([ESCAPE, byte ^ 0x20]) if byte in (END, ESCAPE) else bytes([byte])
    return bytes(out) + b"\x7e"


def decode(frame):
    """Without its end: the payload, or None if it is no frame."""
    out, escaped = bytearray(), False
    for byte in frame:
        if byte == ESCAPE and not escaped:
            escaped = True
            continue
        out.append(byte ^ 0x20 if escaped else byte)
        escaped = False
    if escaped or len(out) < 3 or crc(out[:-2]) != struct.unpack("<H", out[-2:])[0]:
        return None
    return bytes(out[:-2])


def imei_item(imei):
    digits = "A" + imei
    return b"\x08" + bytes(int(digits[i + 1] + digits[i], 16) for i in range(0, 16, 2))


def imei_of(data):
    return "".join(f"{b & 15:x}{b >> 4}" for b in data[1:9])[1:]


class Diag:
    def __init__(self, host):
        self.host = host
        self.rest = b""
        self.unasked = []
        self.bad_frames = 0
        host.poll()

    # ---- frames ----
    def send(self, payload):
        self.host.send(encode(payload), zlp=True)

    def frame(self, timeout=PATIENCE):
        """The next whole frame that is one."""
        deadline = time.monotonic() + timeout
        while True:
            while b"\x7e" not in self.rest:
                self.rest += self.host.receive(max(0.0, deadline - time.monotonic()))
            frame, self.rest = self.rest.split(b"\x7e", 1)
            payload = decode(frame)
            if payload:
                return payload
            if frame:
                self.bad_frames += 1

    def answer(self, request, timeout=PATIENCE):
        """What answers this request, whatever comes before it."""
        deadline = time.monotonic() + timeout
        head = 4 if request[0] == 0x4B else 3 if request[0] in (0x26, 0x27) else 1
        while True:
            payload = self.frame(max(0.0, deadline - time.monotonic()))
            if payload[0] in REFUSALS and payload[1:] == request:
                raise Refused(payload[0])
            if payload[:head] == request[:head]:
                return payload
            self.unasked.append(payload)

    def ask(self, request, timeout=PATIENCE):
        self.send(request)
        return self.answer(request, timeout)

    # ---- identity, modes ----
    def version(self):
        return self.ask(b"\x7c")[12:].split(b"\0")[0].decode()

    def mode(self):
        return struct.unpack_from("<I", self.ask(bytes.fromhex("4b0f0000")), 8)[0]

    def control(self, mode):
        return self.ask(struct.pack("<BH", 0x29, mode))

    def offline(self):
        self.control(1)
        return self

    def reset(self):
        self.control(2)
        self.host.wait_gone()

    # ---- numbered NV ----
    def nv_read(self, item, index=None):
        """status, data"""
        if index is None:
            answer = self.ask(struct.pack("<BH128xH", 0x26, item, 0))
            assert len(answer) == 133
            return struct.unpack_from("<H", answer, 131)[0], answer[3:131]
        answer = self.ask(struct.pack("<BBHHH128xH", 0x4B, 0x30, 1, item, index, 0))
        assert len(answer) == 138 and struct.unpack_from("<HH", answer, 4) == (item, index)
        return struct.unpack_from("<H", answer, 136)[0], answer[8:136]

    def nv_write(self, item, data, index=None):
        """status"""
        if index is None:
            return struct.unpack_from("<H", self.ask(struct.pack("<BH128sH", 0x27, item, data, 0)), 131)[0]
        request = struct.pack("<BBHHH128sH", 0x4B, 0x30, 2, item, index, data, 0)
        return struct.unpack_from("<H", self.ask(request), 136)[0]

    def imei(self, index=None):
        status, data = self.nv_read(550, index)
        return imei_of(data) if status == 0 else None

    # ---- files ----
    def efs(self, operation, body=b"", subsystem=EFS):
        """The answer behind its four bytes of head."""
        return self.ask(struct.pack("<BBH", 0x4B, subsystem, operation) + body)[4:]

    @staticmethod
    def check(number):
        if number:
            raise EfsError(number & 0xFFFFFFFF)

    def open(self, path, flags=0, mode=0):
        fd, error = struct.unpack("<iI", self.efs(2, struct.pack("<Ii", flags, mode) + path.encode() + b"\0"))
        self.check(error)
        return fd

    def close(self, fd):
        self.check(struct.unpack("<I", self.efs(3, struct.pack("<i", fd)))[0])

    def read(self, fd, count, offset):
        answer = self.efs(4, struct.pack("<iII", fd, count, offset))
        got_fd, got_offset, got, error = struct.unpack_from("<iIiI", answer)
        self.check(error)
        assert (got_fd, got_offset, got) == (fd, offset, len(answer) - 16)
        return answer[16:]

    def write(self, fd, offset, data):
        answer = self.efs(5, struct.pack("<iI", fd, offset) + data)
        *_, written, error = struct.unpack("<iIiI", answer)
        self.check(error)
        assert written == len(data)

    def read_file(self, path):
        fd, data = self.open(path), b""
        while True:
            piece = self.read(fd, 1024, len(data))
            data += piece
            if not piece:
                break
        self.close(fd)
        return data

    def write_file(self, path, data, flags=0o101 | 0o1000):
        fd = self.open(path, flags, 0o777)
        for i in range(0, len(data), 1024):
            self.write(fd, i, data[i:i + 1024])
        self.close(fd)

    def put(self, path, data, flags=0o101 | 0o1000000 | 0o2000000, sequence=0x1234):
        answer = self.efs(38, struct.pack("<HHIH", len(data), 0, flags, sequence) + data + path.encode() + b"\0")
        got, error, written = struct.unpack("<HHh", answer)
        self.check(error)
        assert (got, written) == (sequence, len(data))

    def path_operation(self, operation, *paths, head=b""):
        self.check(struct.unpack_from("<I", self.efs(operation, head + b"".join(p.encode() + b"\0" for p in paths)))[0])

    def unlink(self, path):
        self.path_operation(8, path)

    def mkdir(self, path):
        self.path_operation(9, path, head=struct.pack("<H", 0o755))

    def stat(self, path):
        """mode, size"""
        error, mode, size, *_ = struct.unpack("<IIIIIII", self.efs(15, path.encode() + b"\0"))
        self.check(error)
        return mode, size

    def list(self, path):
        """name -> (entry type, mode, size)"""
        dirp, error = struct.unpack("<II", self.efs(11, path.encode() + b"\0"))
        self.check(error)
        found, sequence = {}, 0
        while True:
            sequence += 1
            answer = self.efs(12, struct.pack("<II", dirp, sequence))
            got_dirp, got_sequence, error, kind, mode, size = struct.unpack_from("<IIIIII", answer)
            self.check(error)
            assert (got_dirp, got_sequence) == (dirp, sequence)
            name = answer[36:].split(b"\0")[0].decode()
            if not name:
                break
            found[name] = kind, mode, size
        self.check(struct.unpack("<I", self.efs(13, struct.pack("<I", dirp)))[0])
        return found

    def walk(self, path="/"):
        """All files that directories show: path -> size"""
        found = {}
        for name, (kind, _, size) in self.list(path).items():
            below = path.rstrip("/") + "/" + name
            if kind == 1:
                found.update(self.walk(below))
            elif kind != 2:
                found[below] = size
        return found

    def md5(self, path):
        sequence, error, digest = struct.unpack("<HI16s", self.efs(43, struct.pack("<H", 7) + path.encode() + b"\0"))
        self.check(error)
        assert sequence == 7
        return digest.hex()

    def sync(self):
        """How often it had to ask."""
        sequence, token, error = struct.unpack("<HII", self.efs(48, struct.pack("<H", 1) + b"/\0"))
        self.check(error)
        for asked in range(1, 10000):
            _, status, error = struct.unpack("<HBI", self.efs(49, struct.pack("<HI", 2, token) + b"/\0"))
            self.check(error)
            if status == 0:
                return asked
        raise Silent("sync has no end")


def rfnv_path(item):
    return f"/nv/item_files/rfnv/{item:08d}"


def is_silent(diag, request, timeout=0.3):
    try:
        diag.ask(request, timeout)
    except Silent:
        return True
    return False
