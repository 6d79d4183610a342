# SPDX-License-Identifier: LGPL-2.1-or-later
"""What every forged worker starts with: the link, spoken by hand. The test's own source follows behind this."""

import array
import os
import signal
import socket
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
    """What an honest worker does first."""
    say("BUILD=" + BUILD)
    return Order()


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
