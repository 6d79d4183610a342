# SPDX-License-Identifier: LGPL-2.1-or-later
"""How much one user may ask for, and what belongs to another: real users, real polkit, real pipes."""

import array
import contextlib
import fcntl
import json
import os
import pathlib
import termios
import zipfile

from ring import VERSION, WORK, Background, Modem, Terminal, as_user, firmware, jobs, library, name_of, run, scenario, settings, wait

BUSY, RETRY = 5, 6
WHOLE = firmware("whole")


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


@contextlib.contextmanager
def second_member():
    """boss is of group qdl, too."""
    run("usermod", "--append", "--groups", "qdl", "boss")
    try:
        yield "boss"
    finally:
        run("gpasswd", "--delete", "boss", "qdl")


def flash_call(modem, package):
    row, = modem.rows()
    return ["busctl", "--system", "call", "org.qdld1", row["path"], "org.qdld1.Modem", "Flash", "oa{sv}", package, "2",
            "modem-version", "s", VERSION, "queue", "b", "true"]


@scenario
def too_many_jobs_are_refused():
    """eight unfinished jobs a user, queued ones included, and (set to) twelve in all: one more is LimitExceeded, root's, too; a user outside cancels none"""
    package = library()
    # However long all this takes: the modem is gone meanwhile, and the first job waits for it.
    with second_member(), settings("[Flash]\nWaitDeviceSec=3600\n[Limits]\nJobsMax=12\n"):
        modem = Modem("fault=unplug@erase:1", "replug_ms=-1")
        call = flash_call(modem, package)
        first = Background("member", *modem.flash_command())
        modem.wait_trace("fault unplug@erase:1")
        modem.unplug()
        queued = [name_of(as_user("member", *call).out.split('"')[1]) for _ in range(7)]
        refused = as_user("member", *call, code=1)
        assert "has 8 unfinished jobs; at most 8 are allowed" in refused.err, refused
        others = [name_of(as_user("boss", *call).out.split('"')[1]) for _ in range(4)]
        for user in ("boss", "root"):
            refused = as_user(user, *call, code=1)
            assert "There are 12 unfinished jobs; at most 12 are allowed" in refused.err, refused
        as_user("outsider", "qdlctl", "cancel", queued[0], code=4)
        for user, owned in (("member", queued), ("boss", others)):
            as_user(user, "sh", "-ec", 'for job; do qdlctl cancel "$job"; done', "sh", *owned)
        assert not [j for j in jobs() if j["State"] == "queued"], jobs()
        modem.heal()
        modem.plug()
        first.end(timeout=300)
        modem.expect_flashed()


@scenario
def imports_wait_for_their_turn():
    """two imports of a user at once: the third waits, while another user's begin; four in all: root's waits, too; a silent pipe is Timeout, not for ever"""
    def states():
        return "".join(sorted(j["State"][0] for j in jobs() if j["Kind"] == "import" and j["State"] != "finished"))
    with second_member(), settings("[Limits]\nInputTimeoutSec=20\n"):
        pipes, commands = [], []
        for user, expected in (("member", "r"), ("member", "rr"), ("member", "qrr"), ("boss", "qrrr"), ("boss", "qrrrr")):
            pipes.append(Pipe(f"pipe-{len(pipes)}", user))
            commands.append(Background(user, "qdlctl", "firmware", "import", pipes[-1].path))
            wait(lambda: states() == expected, f"{expected}: q for each that waits, r for each that runs")
        roots = Background("root", "qdlctl", "firmware", "import", WHOLE)
        wait(lambda: states() == "qqrrrr", "root's, which waits")
        roots.end(timeout=300)
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


@scenario
def sixtyfifth_armed_port_is_refused():
    """sixty-four connectors with a policy of members', empty ones; one more is LimitExceeded until one of them is forgotten"""
    ports = [f"pci-0000:00:14.0-usb-0:{n}" for n in range(1, 66)]
    arm = 'for port; do qdlctl policy --port="$port" hold; done'
    as_user("member", "sh", "-ec", arm, "sh", *ports[:64])
    refused = as_user("member", "sh", "-ec", arm, "sh", ports[64], code=BUSY)
    assert "64 ports are armed" in refused.err, refused
    as_user("member", "qdlctl", "forget", ports[0])
    as_user("member", "sh", "-ec", arm, "sh", ports[64])


@scenario
def packages_are_bounded():
    """a package that is too large, of too many files, for which the library is full or the disk is kept for backups: a member is told so each time"""
    def refused(package):
        said = as_user("member", "qdlctl", "firmware", "import", package, code=None, timeout=300)
        assert said.code not in (0, 4), said
        return said.err + said.out
    before = run("qdlctl", "firmware", "--json=short").out
    large, many = WORK / "large.zip", WORK / "many.zip"
    with zipfile.ZipFile(large, "w", zipfile.ZIP_STORED) as z:
        z.writestr("update/large", bytes(33 << 20))
    with zipfile.ZipFile(many, "w") as z:
        for i in range(60):
            z.writestr(f"update/{i}", b"x")
    with settings("[Limits]\nPackageSizeMax=32M\nPackageEntriesMax=50\n"):
        for package, text in ((large, "The archive has 33 MiB; at most 32 MiB are allowed"), (many, "50")):
            said = refused(package)
            assert text in said, (package, said)
            package.unlink()
    # On its own: a library that other scenarios have filled is said to be full first.
    with settings("[Limits]\nLibrarySizeMax=8M\n"):
        said = refused(WHOLE)
        assert "of at most 8 MiB" in said, said
    with settings("[Backup]\nReserveFree=1T\n"):
        said = refused(WHOLE)
        assert "1048576 MiB are kept for backups" in said, said
    assert run("qdlctl", "firmware", "--json=short").out == before


@scenario
def seventeenth_guard_of_a_user_is_refused():
    """sixteen modems that a user keeps the service away from, here connectors that are empty; the next is LimitExceeded"""
    ports = [f"pci-0000:00:14.0-usb-0:{n}" for n in range(1, 18)]
    as_user("member", "sh", "-ec", 'for port; do qdlctl policy --port="$port" hold; done', "sh", *ports)
    # The guard is the command's as much as qdlctl's: it ends with both.
    end = Pipe("end", "member")
    guards = [Background("member", "qdlctl", "inhibit", port, "--", "sh", "-c", f"echo here; exec cat {end.path}") for port in ports[:16]]
    wait(lambda: all("here" in g.text() for g in guards), "sixteen guards")
    refused = as_user("member", "qdlctl", "inhibit", ports[16], "--", "true", code=BUSY)
    assert "inhibits 16 modems already" in refused.err, refused
    run("qdlctl", "inhibit", ports[16], "--", "true")
    end.end()
    for guard in guards:
        guard.end()


@scenario
def what_is_roots_is_not_members():
    """a backup of root's may not be exported or removed by a member without an administrator's password, nor a package be removed"""
    modem = Modem("initial=working", "force_edl=yes")
    wait(modem.rows, "the modem in the list")
    library()
    run("qdlctl", "backup", modem.kernel, "--kind=calibration", timeout=300)
    run("qdlctl", "firmware", "import", WHOLE, timeout=300)
    stolen = pathlib.Path("/home/member/stolen")
    backups = json.loads(run("qdlctl", "backups", "--json=short").out)
    mine = max(backups, key=lambda b: b["CreatedTime"])["path"]
    for command in (["backups", "export", name_of(mine), stolen], ["backups", "remove", name_of(mine), "--yes"]):
        refused = as_user("member", "qdlctl", "--no-ask-password", *command, code=4)
        assert "authori" in refused.err.lower(), refused
    owner = {f["path"]: f["OwnerUid"] for f in json.loads(run("qdlctl", "firmware", "--json=short").out)}
    roots = [path for path, uid in owner.items() if uid == 0]
    assert roots, owner
    as_user("member", "qdlctl", "--no-ask-password", "firmware", "remove", name_of(roots[0]), "--yes", code=4)
    as_user("member", "qdlctl", "backups", "verify", name_of(mine))
    assert not stolen.exists()
    assert [b for b in json.loads(run("qdlctl", "backups", "--json=short").out) if b["path"] == mine]


@scenario
def log_of_a_job_is_bounded():
    """the log of a flash (here at most 4 KiB) ends where it is full, and says so; its owner may read it, another user not, root may"""
    with settings("[Limits]\nJobLogMax=4K\n[Backup]\nAutomatic=no\n"):
        modem = Modem()
        as_user("member", *modem.flash_command(), timeout=300)
        job = max((j for j in jobs() if j["Kind"] == "flash"), key=lambda j: j["CreatedTime"])["Id"]
        text = as_user("member", "qdlctl", "log", job).out
        assert 3500 < len(text) <= 4096 and "full" in text.splitlines()[-1], (len(text), text[-300:])
        assert run("qdlctl", "log", job).out == text
        as_user("outsider", "qdlctl", "--no-ask-password", "log", job, code=4)
        modem.expect_flashed()


@scenario
def history_is_bounded_and_each_users_own():
    """a thousand rows, the oldest go; root sees all, a member those of his jobs and what the service did, a user outside only that; all of it is root's"""
    def rows(user):
        return json.loads(as_user(user, "qdlctl", "history", "--json=short").out)
    uid = int(run("id", "-u", "member").out)
    run("systemctl", "stop", "qdld")
    file = pathlib.Path("/var/lib/qdld/jobs/history")
    with open(file, "a") as f:  # more than it ever has, alternately of member's and root's jobs
        f.writelines(f"{n}\tdone\tsomewhere\t49cbffff\t{n}\tflash\t{(0, uid)[n % 2]}\tdone\tfinished: done\n" for n in range(1, 2501))
    run("systemctl", "start", "qdld")
    modem = Modem()
    wait(lambda: [r for r in rows("outsider") if r["event"] == "appeared" and r.get("serial") == modem.serial], "that it appeared")
    everything, own, outside = rows("root"), rows("member"), rows("outsider")
    assert len(everything) == 1000 and file.read_text().count("\n") < 2000, len(everything)
    assert {r["uid"] for r in everything if r["serial"] == "49cbffff"} == {0, uid}
    assert {r["uid"] for r in own if r["serial"] == "49cbffff"} == {uid} and len(own) > 400
    assert not [r for r in outside if r["serial"] == "49cbffff"], outside
    call = ["busctl", "--system", "call", "org.qdld1", "/org/qdld1", "org.qdld1.Manager", "GetHistory"]
    asked = as_user("outsider", *call, "a{sv}", "1", "all", "b", "true", code=1)
    assert "authori" in asked.err.lower(), asked
