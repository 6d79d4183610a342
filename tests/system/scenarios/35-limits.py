# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much one user may ask for: real users, real polkit, real pipes."""

import array
import fcntl
import os
import termios

from ring import FIRMWARE, VERSION, WORK, Background, Modem, Terminal, as_user, jobs, run, scenario, settings, wait

BUSY, RETRY = 5, 6
WHOLE = FIRMWARE / "whole" / (VERSION + ".zip")


class Pipe:
    """A package that comes through a pipe, as slowly as the scenario likes."""

    def __init__(self, name, reader):
        self.path = WORK / name
        os.mkfifo(self.path)
        run("chown", reader, self.path)
        self.fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)

    def unread(self):
        size = array.array("i", [0])
        fcntl.ioctl(self.fd, termios.FIONREAD, size)
        return size[0]

    def end(self):
        os.close(self.fd)
        self.path.unlink()


@scenario
def third_import_of_a_user_waits():
    """two imports of a user at once: the third waits for its turn, while another user's begins; a silent pipe is Timeout, not for ever"""
    def states():
        return sorted(j["State"] for j in jobs() if j["Kind"] == "import" and j["State"] != "finished")
    with settings("[Limits]\nInputTimeoutSec=20\n"):
        pipes = [Pipe(f"pipe-{i}", "member") for i in range(3)]
        commands = []
        for i, pipe in enumerate(pipes):
            commands.append(Background("member", "qdlctl", "firmware", "import", pipe.path))
            wait(lambda: len(states()) == i + 1, "one more import")
        assert states() == ["queued", "running", "running"], states()
        run("qdlctl", "firmware", "import", WHOLE, timeout=300)
        texts = [c.end(code=RETRY) for c in commands]
        assert all("20 s" in t for t in texts), texts
        for pipe in pipes:
            pipe.end()


@scenario
def outsiders_package_is_not_read():
    """authorised before a byte is taken: what a user without rights sends through a pipe stays in it"""
    pipe = Pipe("pipe", "outsider")
    os.write(pipe.fd, b"PK" + bytes(4000))
    as_user("outsider", "qdlctl", "--no-ask-password", "firmware", "import", pipe.path, code=4)
    assert pipe.unread() == 4002, pipe.unread()
    pipe.end()


@scenario
def unanswered_questions_of_a_user_are_counted():
    """as many questions of polkit as a user may leave open, and no more; another user's are not among them"""
    modem = Modem()
    wait(modem.rows, "the modem in the list")
    with settings("[Limits]\nPendingAuthorizationsPerUser=2\n"):
        asked = [Terminal("outsider", "qdlctl", "identify", modem.kernel) for _ in range(2)]
        for terminal in asked:
            terminal.expect(r"Password: ")
        refused = Terminal("outsider", "qdlctl", "identify", modem.kernel)
        assert "has 2 authorisations pending" in refused.end(code=BUSY)
        as_user("member", "qdlctl", "identify", modem.kernel)
        for terminal in asked:
            terminal.say_secret("wrong")
            terminal.end(code=4)
