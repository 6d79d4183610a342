# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every forged worker starts with: the link, spoken by hand. The test's own source follows behind this."""

import _signal as signal  # without the enumerations that the ones above them make first, which take three times as long as all else here
import _socket as socket
import array
import os
import sys
import time

BUILD = "@BUILD_ID@"
link = socket.socket(fileno=3)
signal.signal(signal.SIGTERM, signal.SIG_DFL)


def raw(data, fds=()):
    control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    link.sendmsg([data], control)


def say(*lines, fds=()):
    raw("".join(line + "\n" for line in lines).encode(), fds)


def hear():
    """One message: a list of (key, value), and its descriptors. The end of the link ends the worker."""
    data, control, _, _ = link.recvmsg(8192, socket.CMSG_SPACE(8 * 4))
    if not data:
        sys.exit(0)
    fds = []
    for _, _, content in control:
        fds += array.array("i", content[:len(content) - len(content) % 4]).tolist()
    return [line.split("=", 1) for line in data.decode().splitlines()], fds


def hear_until(key):
    """Messages until one has the key: that one as a dictionary, and its descriptors."""
    while True:
        fields, fds = hear()
        if key in dict(fields):
            return dict(fields), fds


class Order:
    """The JOB message."""

    def __init__(self):
        fields, fds = hear_until_list("JOB")
        self.kind = dict(fields)["JOB"]
        self.options = {k[len("OPTION."):]: v for k, v in fields if k.startswith("OPTION.")}
        self.fds = dict(zip([v for k, v in fields if k == "FD"], fds))


def hear_until_list(key):
    while True:
        fields, fds = hear()
        if any(k == key for k, _ in fields):
            return fields, fds


def begin():
    """What an honest worker does first; what it imported is read by another one that is honest, too."""
    say("BUILD=" + BUILD)
    order = Order()
    if order.options.get("type") == "content":
        content_verify(order)
    return order


def content_verify(order):
    """What is in a stored package: a test may put something else in its place."""
    import hashlib
    sha256 = hashlib.sha256(read_all(order.fds["store"])).hexdigest()
    say("FIRMWARE.id=" + sha256[:32], "FIRMWARE.sha256=" + sha256)
    finish()


def memfd(text):
    fd = os.memfd_create("forged", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, text.encode())
    import fcntl
    fcntl.fcntl(fd, 1033, 15)  # F_ADD_SEALS: all
    return fd


def finish(*lines):
    say("RESULT=done", *lines)
    sys.exit(0)


def import_done(order, content=b"package", name="RM502QGLAAR05A03M4G_01.001.01.001", **facts):
    """An honest end of an import: the store file is filled and described."""
    import hashlib
    sha256 = hashlib.sha256(content).hexdigest()
    os.pwrite(order.fds["store"], content, 0)
    say("FIRMWARE.id=" + sha256[:32], "FIRMWARE.sha256=" + sha256, "FIRMWARE.name=" + name, "FIRMWARE.model=RM502Q-GL",
        f"FIRMWARE.size={len(content)}", *[f"FIRMWARE.{k}={v}" for k, v in facts.items()])
    finish()


# ---- backups: here a file of one line of JSON, what it says of itself ----

def tell_backup(facts):
    if facts:
        say(*[f"BACKUP.{key}={value}" for key, value in facts.items()])


def fail_job(name, message):
    say("RESULT=failed", "ERROR=" + name, "MESSAGE=" + message)
    sys.exit(0)


def read_all(fd):
    data = b""
    while piece := os.read(fd, 65536):
        data += piece
    return data


def backup_import(order):
    """An honest end of an import of a backup."""
    os.pwrite(order.fds["store"], read_all(order.fds["archive"]), 0)
    finish()


def backup_verify(order):
    """What the second worker does: it looks for itself."""
    import hashlib
    import json
    data = os.pread(order.fds["store"], 65536, 0)
    identity = hashlib.sha256(data).hexdigest()[:32]
    try:
        facts = json.loads(data)
    except ValueError:
        fail_job("BackupDamaged", "it is no backup")
    if order.options.get("id", identity) != identity:
        fail_job("BackupDamaged", "it is not what was stored")
    tell_backup({"id": identity, **facts})
    finish()


def beside(name):
    """The text of a file beside this worker: what the test wants of it now."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name)) as f:
        return f.read()
