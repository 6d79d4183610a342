# SPDX-License-Identifier: LGPL-2.1-or-later
"""qdlctl as people and scripts use it: every verb, every exit code, terminals, Ctrl-C."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time

import dbus
import pytest
from conftest import BUILD, FIRMWARE, JOB, MODEM, PATIENCE, ROOT, TOP, VERSION, WELL_BEFORE, go_on, wait_stopped, wait_until

OK, OTHER, USAGE, NO_SUCH, DENIED, BUSY, RETRY, RECOVERY, NO_SERVICE, DETACHED = 0, 1, 2, 3, 4, 5, 6, 7, 8, 130
LABEL_SAYS = "--modem-version=" + VERSION
ESCAPE = "\033"
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root to act as a second user")

# Imports; other jobs stay, or say what comes THEN, each when there is a file for it.
STEERED = """
order = begin()
say("READY=1")
if order.kind == "import":
    import_done(order, os.pread(order.fds["archive"], 100, 0), name=NAME)
if order.kind == "plan":
    say("PLAN=1", fds=[memfd("KIND=summary\\nFIRMWARE=x\\nBACKUP=none\\nBYTES=12\\nSBL_LAST=1\\nNOTE=no backup taken\\nNOTE=another\\n\\n"
                             "ACTION=erase\\nPARTITION=sbl\\nFIRST_BLOCK=0\\nBLOCKS=8\\n")])
    finish()
say(*FIRST)
for i, lines in enumerate([*THEN, None] if THEN else []):
    while not os.path.exists(f"{GO}{i}"):
        time.sleep(0.01)
    say(*lines) if lines else finish()
message, _ = hear()
say("RESULT=" + ("cancelled" if message[0][0] == "CANCEL" else "interrupted"), "ERROR=Cancelled", "MESSAGE=as asked")
"""


def steered(first=("PHASE=program", "DETAIL=modem", "UNSAFE=1"), then=(), name=VERSION, go=""):
    return f"NAME = {name!r}\nFIRST = {list(first)!r}\nTHEN = {[list(t) for t in then]!r}\nGO = {str(go)!r}\n" + STEERED


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def json(self):
        return json.loads(self.out)

    def last(self):
        """The last of the JSON lines; all of them are JSON."""
        return [json.loads(line) for line in self.out.splitlines()][-1]


def settings(address, **variables):
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "PAGER", "LESS")}
    environment.update(DBUS_SYSTEM_BUS_ADDRESS=address, LC_ALL="C.UTF-8", TERM="xterm")
    environment.update(variables)
    return environment


@pytest.fixture
def qdlctl(bus_address):
    """qdlctl("list", "--json=short", code=0): runs it to its end without a terminal."""
    def run(*arguments, code=OK, user=None, cwd=None, **variables):
        command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        result = subprocess.run([*command, BUILD / "qdlctl", *map(str, arguments)], env=settings(bus_address, **variables), cwd=cwd,
                                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * PATIENCE)
        assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
        assert ESCAPE not in result.stdout + result.stderr
        return Result(result.returncode, result.stdout, result.stderr)
    return run


class Terminal:
    """qdlctl on a terminal of its own, as its controlling one."""

    def __init__(self, address, *arguments, columns=100, rows=40, **variables):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen([BUILD / "qdlctl", *map(str, arguments)], env=settings(address, **variables), stdin=slave,
                                        stdout=slave, stderr=slave, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.text = ""

    def read(self, timeout):
        if not select.select([self.master], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other end is closed
            return False
        self.text += data.decode(errors="replace")
        return bool(data)

    def until(self, words, timeout=PATIENCE):
        end = time.monotonic() + timeout
        while words not in self.text:
            assert self.read(max(0, end - time.monotonic())), f"{words!r} was not said: {self.text!r}"

    def type(self, text):
        os.write(self.master, text.encode())

    def end(self, timeout=PATIENCE):
        """Its exit status, once everything is read."""
        limit = time.monotonic() + timeout
        while self.process.poll() is None and time.monotonic() < limit:
            self.read(0.05)
        code = self.process.wait(1)
        while self.read(0):
            pass
        os.close(self.master)
        return code


@pytest.fixture
def terminal(bus_address):
    made = []

    def make(*arguments, **options):
        made.append(Terminal(bus_address, *arguments, **options))
        return made[-1]
    yield make
    for t in made:
        if t.process.poll() is None:
            t.process.kill()
            t.process.wait()


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "archive.tar"
    path.write_bytes(b"content")
    return path


@pytest.fixture
def lasting(new_service, forge, plug, archive):
    """A service whose jobs on a modem last, with that modem and a package in the library."""
    service = new_service().start(worker=forge(steered()))
    plug(service)
    service.modem()
    assert service.wait_job(service.import_file(archive)) == "done"
    return service


def unfinished(service):
    return [p for p, j in service.properties(JOB).items() if j["State"] != "finished"]


def running(service):
    """The number of the one job that runs."""
    path = wait_until(lambda: [p for p in unfinished(service) if service.get(p, JOB, "State") == "running"], what="a running job")[0]
    return int(service.get(path, JOB, "Id"))


def job_path(number):
    return f"{ROOT}/job/_{ord(str(number)[0]):x}{str(number)[1:]}"


# ---- the whole way, with the real worker ----

@pytest.mark.parametrize("form", ["zip", "directory"])
def test_a_shelf_of_modems_is_flashed_from_a_path(service, new_modem, make_package, bus_address, tmp_path, form):
    """One command for each, all at once: more than a user may import at a time."""
    path = make_package("--small", ending=".zip" if form == "zip" else ".tar")
    if form == "directory":
        subprocess.run(["tar", "-xf", path, "-C", tmp_path], check=True)
        path = tmp_path / VERSION
    for i in range(8):
        new_modem(service, f"port=virtual-usb-0:{i}", f"kernel=1-{i}", f"serial=0000000{i + 1}", name=f"modem{i}")
    wait_until(lambda: len(service.paths(MODEM)) == 8)
    commands = [subprocess.Popen([BUILD / "qdlctl", "flash", f"1-{i}", path, LABEL_SAYS], env=settings(bus_address), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for i in range(8)]
    said = [c.communicate(timeout=4 * PATIENCE)[0] for c in commands]
    assert [c.returncode for c in commands] == [OK] * 8, [s for c, s in zip(commands, said) if c.returncode]
    assert len(service.paths(FIRMWARE)) == 1 and all("(flash) is done" in s for s in said)


def lines_until(process, true_of):
    """What a qdlctl says, up to the first line of which something is true."""
    lines = []
    while not lines or not true_of(lines[-1]):
        assert select.select([process.stdout], [], [], PATIENCE)[0], lines
        lines.append(process.stdout.readline().decode())
        assert lines[-1], lines
    return "".join(lines)


def test_a_package_and_a_modem_from_list_to_flash(service, new_modem, make_package, qdlctl, bus_address):
    package = make_package("--size", "4M", ending=".zip")
    assert "library is empty" in qdlctl("firmware").out and "No job" in qdlctl("jobs").out
    assert "No modem is there" in qdlctl().out
    assert qdlctl("list", "--json=short").json() == [] and qdlctl("jobs", "-j").json() == []
    virtual = new_modem(service, "serial=49cbd7ef", "version=RM502QGLAAR05A03M4G", "fault=stop@power:1", blocks=2048)
    service.modem()

    said = qdlctl("identify").out
    assert re.search(r"^ +Mode: sahara$", said, re.M) and re.search(r"^ +Chip serial: 49cbd7ef$", said, re.M)
    assert "Hardware id: 000e50e100040000" in said and "Job 1 (identify) is done" in said
    table = qdlctl("list").out.splitlines()
    assert table[0].split() == ["PORT", "USB", "MODE", "MODEL", "SERIAL", "FIRMWARE", "STATE"]
    assert table[1].split()[:5] == ["virtual-usb-0:1.2", "1-1.2", "sahara", "-", "49cbd7ef"]
    assert [line.split() for line in qdlctl("list", "--no-legend").out.splitlines()] == [table[1].split()]
    [modem] = qdlctl("list", "--json=pretty").json()
    assert modem["path"] == service.modem() and modem["ChipSerial"] == "49cbd7ef" and modem["VendorId"] == 0x05c6
    for selector in ("virtual-usb-0:1.2", "1-1.2", "49CBD7EF"):
        assert qdlctl("status", selector, "-j").json() == modem
    assert "emergency download, boot ROM" in qdlctl("status").out

    said = qdlctl("firmware", "import", package).out
    firmware = service.paths(FIRMWARE)[0]
    ident = str(service.get(firmware, FIRMWARE, "Sha256"))[:32]
    assert "reading the archive" in said and f"Id: {ident}" in said and f"Firmware: {VERSION}" in said
    table = qdlctl("firmware").out.splitlines()
    assert table[0].startswith("ID ") and table[1].split()[:2] == [ident[:12], VERSION] and table[1].endswith(package.name)
    shown = qdlctl("firmware", "show", ident[:6]).out
    assert f"Id: {ident}" in shown and "Geometry: p4K_b256K" in shown
    assert qdlctl("firmware", "show", VERSION, "-j").json()["Name"] == VERSION
    assert "(verify) is done" in qdlctl("firmware", "verify", VERSION).out

    plan = qdlctl("plan", VERSION, LABEL_SAYS).out
    assert plan.lower().count("backup") == 1 and "Backup: first of all what no package brings back, at most " in plan
    # One row a partition, in the order of the flash.
    assert re.search(r"^EFS2 +20-63 +11.0 MiB +keep .*only this unit has it$", plan, re.M), plan
    assert re.search(r"^SBL +0-9 +2.5 MiB +erase, write, check +[0-9.]+ KiB +update/sbl1.mbn +-$", plan, re.M), plan
    assert re.search(r"^sec .* erase, write, check .* may blow fuses, cannot be undone$", plan, re.M), plan
    assert len(re.findall(r"^MIBIB .* left as it is if the modem has the same$", plan, re.M)) == 1, plan
    rows = [int(line.split()[1].partition("-")[0]) for line in plan.splitlines() if re.match(r"^\w+ +\d+-\d+ ", line)]
    assert rows == sorted(set(rows)) and len(rows) == 15, plan
    assert re.search(r"^ +At the end: the modem is started", plan, re.M), plan
    assert re.search(r"^ +At the end: the modem stays in 9008", qdlctl("plan", VERSION, LABEL_SAYS, "--no-reset").out, re.M)
    steps = qdlctl("plan", VERSION, LABEL_SAYS, "-j").json()
    assert steps[0]["kind"] == "summary" and any(s.get("action") == "erase" for s in steps)
    jobs = service.paths(JOB)
    assert qdlctl("flash", VERSION, LABEL_SAYS, "--dry-run").out == plan
    assert service.paths(JOB) == jobs and service.get(service.modem(), MODEM, "Mode") == "sahara"

    # The modem stops at its reset: how far it has come by then is heard before it is done.
    command = subprocess.Popen([BUILD / "qdlctl", "flash", VERSION, LABEL_SAYS], env=settings(bus_address), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
    said = lines_until(command, lambda line: " %  " in line and int(line.split()[0]) >= 80)
    wait_stopped(virtual)
    go_on(virtual)
    said += command.communicate(timeout=2 * PATIENCE)[0].decode()
    assert command.returncode == OK, said
    phases = [re.match(r"^ *(\d+) %  (.*)$", line).groups() for line in said.splitlines() if " %  " in line]
    percents = [int(p) for p, _ in phases]
    assert percents == sorted(percents) and percents[0] == 0
    # The upload of the programmer may be over before the client looks for the first time.
    for words in ("erasing", "writing", "verifying", "restarting the modem"):
        assert any(text.startswith(words) for _, text in phases), (words, said)
    for (before, words), (after, again) in zip(phases, phases[1:]):
        assert words != again or int(after) // 5 > int(before) // 5, said
    assert re.search(r"Job \d+ \(flash\) is done", said) and re.search(r"^ +Verified: .*SBL$", said, re.M)
    assert re.search(r"^ +Bytes: [0-9.]+ MiB$", said, re.M) and re.search(r"^ +Backup: [0-9a-f]{32} [(]calibration, complete[)]$", said, re.M)
    assert "sbl-last" not in said and "error-logs" not in said

    table = qdlctl("jobs").out
    assert table.splitlines()[0].split()[0] == "JOB" and re.search(r"flash +virtual-usb-0:1.2 +done +100 %", table)
    number = [j["Id"] for j in qdlctl("jobs", "-j").json() if j["Kind"] == "flash"][0]
    followed = qdlctl("follow", number, "-j")
    assert followed.last()["result"] == followed.last()["Result"] == "done" and followed.last()["Report"]["written"]
    assert "is done" in qdlctl("follow").out
    log = qdlctl("log", number).out
    assert len(log.splitlines()) > 10 and qdlctl("log", number, "-j").json()["log"] == log
    # It runs now, and says what: a second flash takes it to 9008 by itself and needs no label.
    said = qdlctl("flash", VERSION).out
    followed, done, report = said.partition("is done")
    assert re.search(r"Job \d+ \(flash\) $", followed) and done and "MIBIB" not in report and "window" not in said, said
    assert "Partition table: left as it was: the modem had the package's" in report
    assert qdlctl("firmware", "remove", ident[:8]).out.startswith("Removed ")
    assert service.paths(FIRMWARE) == []


def test_a_directory_goes_as_tar_and_is_flashed_on_the_way(service, new_modem, make_package, qdlctl):
    package = make_package("--small", ending="")
    new_modem(service, "version=RM502QGLAAR05A03M4G", "initial=blank")
    service.modem()
    said = qdlctl("firmware", "import", str(package) + "/").out
    assert service.get(service.paths(FIRMWARE)[0], FIRMWARE, "Label") == package.name
    assert "is done" in said
    # After an import on the way the connection still serves the next call.
    assert qdlctl("plan", package, LABEL_SAYS).out.count("write, check") >= 3
    assert len(service.paths(FIRMWARE)) == 1


# ---- packages that are none ----

def test_a_failed_import_lists_every_problem(service, make_package, tmp_path, qdlctl):
    tree = tmp_path / VERSION
    shutil.copytree(make_package("--small", ending=""), tree)
    (tree / "update" / "tz.mbn").unlink()
    (tree / "update" / "sec.dat").write_bytes(b"other")
    result = qdlctl("firmware", "import", tree, code=OTHER)
    problems = re.findall(r"^ +Problem: (.*)$", result.err, re.M)
    assert len(problems) >= 2 and any("tz.mbn" in p for p in problems) and any("sec.dat" in p for p in problems)
    assert "(import) failed: Firmware" in result.err and "What helps:" in result.err
    broken = qdlctl("firmware", "import", tree, "-j", code=OTHER).last()
    assert broken["Result"] == "failed" and len(broken["Report"]["problems"]) >= 2
    assert service.paths(FIRMWARE) == []


def test_a_directory_that_is_no_package_starts_no_job(lasting, tmp_path, qdlctl):
    jobs = lasting.paths(JOB)
    empty, linked, many = tmp_path / "empty", tmp_path / "linked", tmp_path / "many"
    (empty / "inside").mkdir(parents=True)
    linked.mkdir()
    (linked / "link").symlink_to("/etc/passwd")
    many.mkdir()
    for i in range(4097):
        (many / str(i)).touch()
    assert "has no files" in qdlctl("firmware", "import", empty, code=OTHER).err
    assert "link: a symbolic link" in qdlctl("firmware", "import", linked, code=OTHER).err
    assert "more than 4096" in qdlctl("firmware", "import", many, code=OTHER).err
    assert "No such file" in qdlctl("firmware", "import", tmp_path / "none", code=NO_SUCH).err
    assert "neither a regular file nor a pipe" in qdlctl("firmware", "import", "/dev/null", code=USAGE).err
    assert "sha256" in qdlctl("firmware", "import", empty.parent / "archive.tar", "--sha256=12", code=USAGE).err
    assert lasting.paths(JOB) == jobs


@needs_root
def test_a_file_that_cannot_be_read(lasting, bus_address, qdlctl, tmp_path_factory):
    tree = tmp_path_factory.mktemp("tree")
    for directory in (tree, *list(tree.parents)[:3]):
        if str(directory).count("/") > 1:
            directory.chmod(0o755)
    (tree / "secret").write_text("x")
    (tree / "secret").chmod(0)
    jobs = lasting.paths(JOB)
    assert "secret: Permission denied" in qdlctl("firmware", "import", tree, code=OTHER, user=65534).err
    assert lasting.paths(JOB) == jobs


# ---- selectors ----

def test_two_modems_are_never_guessed_between(lasting, plug, qdlctl):
    plug(lasting, port="virtual-usb-0:1.3", kernel="1-1.3", product="QUSB_BULK_CID:0410_SN:00000002")
    wait_until(lambda: len(lasting.paths(MODEM)) == 2)
    jobs = lasting.paths(JOB)
    for verb in (["flash", VERSION], ["identify"], ["reset"], ["plan", VERSION]):
        said = qdlctl(*verb, code=USAGE).err
        assert "2 modems fit" in said and "virtual-usb-0:1.2" in said and "virtual-usb-0:1.3" in said
    assert lasting.paths(JOB) == jobs
    assert len(qdlctl("status", "-j").json()) == 2
    number = qdlctl("identify", "1-1.3", "--no-wait").out.strip()
    assert str(lasting.get(job_path(number), JOB, "Modem")) == qdlctl("status", "1-1.3", "-j").json()["path"]


def test_one_that_is_away_in_the_middle_counts(lasting, new_service, plug, qdlctl):
    """What a job waits for and what is there are two modems: without a name, neither is taken."""
    first = plug(lasting, port="virtual-usb-0:1.3", kernel="1-1.3", product="QUSB_BULK_CID:0410_SN:00000002")
    wait_until(lambda: len(lasting.paths(MODEM)) == 2)
    qdlctl("identify", "1-1.3", "--no-wait")
    first.unplug()
    wait_until(lambda: "absent" in [lasting.get(p, MODEM, "Mode") for p in lasting.paths(MODEM)])
    assert "2 modems fit" in qdlctl("flash", VERSION, code=USAGE).err


def test_one_that_is_gone_is_taken_by_its_name_only(lasting, plug, qdlctl):
    second = plug(lasting, port="virtual-usb-0:1.3", kernel="1-1.3", product="QUSB_BULK_CID:0410_SN:00000002")
    wait_until(lambda: len(lasting.paths(MODEM)) == 2)
    second.unplug()
    lasting.modem()
    # Remembered or forgotten, it is not what a verb without MODEM means.
    number = qdlctl("identify", "--no-wait").out.strip()
    assert str(lasting.get(job_path(number), JOB, "Modem")) == lasting.modem()


def test_no_such_thing(lasting, qdlctl):
    for arguments in (["status", "nowhere"], ["identify", "nowhere"], ["firmware", "show", "R11"], ["firmware", "remove", "abc"],
                      ["firmware", "show", "archive.tar"], ["flash", "./nowhere"], ["flash", "nowhere"], ["follow", "99"],
                      ["cancel", "99"], ["log", "x"]):
        said = qdlctl(*arguments, code=NO_SUCH).err
        assert said.startswith("qdlctl: ") and said.count("\n") == 1, said
    assert unfinished(lasting) == []


def test_a_file_named_as_a_package_is_refused(lasting, tmp_path, qdlctl):
    (tmp_path / VERSION).write_bytes(b"other content")
    said = qdlctl("flash", VERSION, code=USAGE, cwd=tmp_path).err
    assert f"./{VERSION}" in said and unfinished(lasting) == []
    assert len(lasting.paths(FIRMWARE)) == 1


def test_two_packages_of_one_name(lasting, tmp_path, qdlctl):
    (tmp_path / "second").write_bytes(b"second")
    qdlctl("firmware", "import", tmp_path / "second")
    said = qdlctl("flash", VERSION, code=USAGE).err
    idents = [str(lasting.get(p, FIRMWARE, "Sha256"))[:32] for p in lasting.paths(FIRMWARE)]
    assert len(idents) == 2 and all(i in said for i in idents)
    assert qdlctl("firmware", "show", idents[0], "-j").json()["Sha256"].startswith(idents[0])


# ---- the command line ----

@pytest.mark.parametrize("arguments", [
    ["bogus"], ["list", "x"], ["cancel"], ["log"], ["flash"], ["flash", "a", "b", "c"], ["firmware", "bogus"], ["firmware", "import"],
    ["firmware", "list", "x"], ["--json"], ["--json=yaml"], ["--timeout=0"], ["--timeout=1x"], ["--timeout=-1"], ["--bogus"],
    ["reset", "--dry-run"], ["identify", "--allow=NoBackup"], ["list", "--no-wait"], ["flash", "x", "--sha256=00"],
    ["firmware", "remove", "x", "--dry-run"], ["flash", "x", b"--modem-version=\xff"], ["flash", "x", "--mode=edl"]],
    ids=lambda a: " ".join(map(str, a)))
def test_usage_needs_no_bus(arguments):
    result = subprocess.run([BUILD / "qdlctl", *arguments], capture_output=True,
                            env=settings("unix:path=/nonexistent/bus"))
    assert result.returncode == USAGE and re.search(rb"see qdlctl [a-z -]*--help", result.stderr) and not result.stdout


def test_help_and_version():
    said = subprocess.run([BUILD / "qdlctl", "--help"], capture_output=True, text=True, check=True).stdout
    for word in ("list", "status", "plan", "flash", "identify", "reset", "firmware import", "jobs", "follow", "cancel", "log",
                 "--modem-version", "Exit status"):
        assert word in said
    assert max(map(len, said.splitlines())) <= 110
    assert subprocess.run([BUILD / "qdlctl", "--version"], capture_output=True, text=True, check=True).stdout.startswith("qdlctl 0.")


def verbs_of_the_help():
    said = subprocess.run([BUILD / "qdlctl", "--help"], capture_output=True, text=True, check=True).stdout
    return [line.split("[")[0].strip() for line in re.findall(r"^  ([a-z-]+(?: (?:\[list\]|[a-z]+\b)|))", said.split("\nMODEM is")[0], re.M)]


def test_help_of_a_verb_names_the_options_that_it_takes():
    """Each of them, and none that it refuses; before and behind the verb."""
    def run(*words):
        return subprocess.run([BUILD / "qdlctl", *words], capture_output=True, text=True, env=settings("unix:path=/nonexistent/bus"))
    said = run("--help").stdout
    every = dict(re.findall(r"^  (?:-\w,|   ) (--[a-z0-9-]+)(=?)", said, re.M))
    verbs = verbs_of_the_help()
    assert len(every) > 20 and len(verbs) > 30
    for verb in verbs:
        mine = run(*verb.split(), "--help")
        assert mine.returncode == 0 and mine.stdout.startswith(f"qdlctl [OPTIONS] {verb}"), verb
        assert run("--help", *verb.split()).stdout == mine.stdout
        needed = re.findall(r"(?<!\[)\b[A-Z]{3,}", mine.stdout.splitlines()[0].removeprefix("qdlctl [OPTIONS]"))
        offered = set(re.findall(r"^  (?:-\w,|   ) (--[a-z0-9-]+)", mine.stdout, re.M))
        for option, value in every.items():
            text = {"--json": "=short", "--timeout": "=5"}.get(option, "=x") if value else ""
            refused = f"does not take {option}" in run(*verb.split(), *needed, option + text).stderr
            assert refused == (option not in offered) or option == "--yes", (verb, option)
    assert "nonsense is not a verb" in run("nonsense", "--help").stderr
    assert "qdlctl [OPTIONS] inhibit" in run("inhibit", "--help").stdout
    assert re.search(r"^  firmware import PATH +put ", run("firmware", "--help").stdout, re.M)
    assert "qdlctl [OPTIONS] inhibit" not in run("inhibit", "x", "--", "ls", "--help").stdout


def test_what_the_service_does_not_know_is_usage(lasting, qdlctl):
    assert "Nonsense" in qdlctl("flash", VERSION, "--allow=NoBackup,Nonsense", code=USAGE).err
    assert "sideways" in qdlctl("reset", "--mode=sideways", code=USAGE).err


# ---- exit codes ----

def test_no_bus_and_no_service(bus_address, qdlctl):
    assert "not reachable" in qdlctl("list", code=NO_SERVICE).err
    assert "bus cannot be reached" in qdlctl("list", code=NO_SERVICE, DBUS_SYSTEM_BUS_ADDRESS="unix:path=/nonexistent").err


def test_a_full_disk_is_not_silent(lasting, bus_address):
    with open("/dev/full", "w") as full:
        result = subprocess.run([BUILD / "qdlctl", "list"], stdout=full, stderr=subprocess.PIPE, env=settings(bus_address), text=True)
    assert result.returncode == OTHER and "No space left" in result.stderr


def test_busy(lasting, qdlctl):
    assert qdlctl("flash", VERSION, "--no-wait").out == "2\n"
    assert qdlctl("identify", "--no-wait", "--queue", "--quiet").out == ""
    assert "ModemBusy" in qdlctl("identify", code=BUSY).err
    assert "FirmwareInUse" in qdlctl("firmware", "remove", VERSION, code=BUSY).err
    assert re.search(r"3 +identify .* queued", qdlctl("jobs").out)
    assert re.search(r"Job: 2 [(]flash, [a-z]+[a-z A-Z]*[a-zA-Z], \d+ %[)], do not unplug$", qdlctl("status").out, re.M), qdlctl("status").out
    assert "busy" in qdlctl("list").out


@needs_root
def test_denied(lasting, bus_address, qdlctl):
    """polkit is there and says no; what is free stays free."""
    mock = subprocess.Popen(["/usr/bin/python3", "-m", "dbusmock", "--system", "--template", "polkitd"],
                            env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=bus_address), stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: lasting.bus.name_has_owner("org.freedesktop.PolicyKit1"))
        number = qdlctl("flash", VERSION, "--no-wait").out.strip()
        for verb in (["identify"], ["reset"], ["flash", VERSION], ["firmware", "remove", VERSION], ["cancel", number], ["log", number],
                     ["firmware", "import", "/etc/passwd"]):
            said = qdlctl(*verb, code=DENIED, user=65534).err
            assert re.match(r"qdlctl: Not authorised: org\.qdld1\.[a-z-]+ is needed", said), (verb, said)
        for verb in (["list"], ["jobs"], ["status"], ["firmware", "show", VERSION], ["plan", VERSION, LABEL_SAYS]):
            qdlctl(*verb, user=65534)
        assert lasting.get(job_path(number), JOB, "State") == "running"
    finally:
        mock.terminate()
        mock.wait(10)


@pytest.mark.parametrize("end, code, words", [
    ("ERROR=WrongFirmware HINT=wrong-firmware", OTHER, "begins like the version on the modem's label"),
    ("ERROR=FirehoseFailed", RETRY, "FirehoseFailed"),
    ("ERROR=ModemGone HINT=replug", RETRY, "plug it in again"),
    *((f"ERROR={name}", RETRY, name) for name in ("ModemGone", "SaharaFailed", "DiagFailed", "Timeout")),
    ("ERROR=FirehoseFailed HINT=contact-vendor", RECOVERY, "contact the vendor"),
    ("ERROR=Timeout HINT=power-cycle", RECOVERY, "power away"),
], ids=lambda v: str(v))
def test_how_a_job_failed(new_service, forge, plug, qdlctl, end, code, words):
    lines = ["RESULT=failed", "MESSAGE=what went wrong", "REPORT.bad-blocks=2, 1 of them new: 7 9", "REPORT.unheard=of"] + end.split()
    service = new_service().start(worker=forge(f"order = begin()\nsay('READY=1')\nsay(*{lines!r})\n"))
    plug(service)
    service.modem()
    said = qdlctl("identify", code=code)
    assert "qdlctl: job 1 (identify) failed: " in said.err and "what went wrong" in said.err and words in said.err
    assert "Bad blocks: 2, 1 of them new: 7 9" in said.err and "unheard: of" in said.err
    # The same again from what is over: as text, as JSON, and quietly.
    assert qdlctl("follow", 1, code=code).err == said.err
    finished = qdlctl("follow", 1, "-j", code=code)
    assert finished.last()["Result"] == "failed" and finished.err == ""
    assert qdlctl("follow", 1, "-q", code=code).err == said.err


@pytest.mark.parametrize("result", ["not-returned", "wrong-version", "no-calibration"])
def test_done_but_not_well_needs_recovery(new_service, forge, plug, archive, qdlctl, result):
    source = ("order = begin()\nsay('READY=1')\nif order.kind == 'import':\n    import_done(order)\n"
              f"say('RESULT={result}', 'ERROR=Timeout', 'MESSAGE=so it is')\n")
    service = new_service().start(worker=forge(source))
    plug(service)
    service.modem()
    qdlctl("firmware", "import", archive, "-q")
    assert "so it is" in qdlctl("flash", VERSION, code=RECOVERY).err
    assert qdlctl("follow", "-j", code=RECOVERY).last()["Result"] == result


@pytest.mark.parametrize("name,label", [
    ("RM502Q \u202egpj\u0085\u2067\u061c.zip", "RM502Q ???gpj???????.zip"),
    ("x" + "\u00e4" * 127, "x" + "\u00e4" * 127),
    ("\u00e9\ttab", "\u00e9?tab"),
])
def test_a_file_is_imported_whatever_its_name(new_service, forge, archive, qdlctl, name, label):
    """What the service takes for no text is left out of the label."""
    service = new_service().start(worker=forge(steered()))
    archive.rename(archive.with_name(name))
    qdlctl("firmware", "import", archive.with_name(name), "-q")
    assert service.get(service.paths(FIRMWARE)[0], FIRMWARE, "Label") == label


def test_wrong_firmware_for_the_modem(service, new_modem, make_package, qdlctl):
    qdlctl("firmware", "import", make_package("--small"), "-q")
    new_modem(service, "version=RM502QGLAAR11A02M4G")
    service.modem()
    said = qdlctl("plan", VERSION, "--modem-version=RM502QGLAAR11A02M4G_01.001.01.001", code=OTHER).err
    assert said.startswith("qdlctl: WrongFirmware: ") and "R11" in said and "R05" in said


def test_a_modem_that_is_lost_on_the_way(service, new_modem, make_package, bus_address, qdlctl):
    """Unplugged for good: the job waits, and what is said tells so."""
    qdlctl("firmware", "import", make_package("--small"), "-q")
    new_modem(service, "fault=unplug@command:3", "replug_ms=-1", blocks=2048)
    service.modem()
    process = subprocess.Popen([BUILD / "qdlctl", "flash", VERSION, LABEL_SAYS], env=settings(bus_address), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert "starting the programmer" in "".join(iter_until(process.stdout, "starting the programmer"))
    "".join(iter_until(process.stdout, "waiting for the modem"))
    assert re.search(r"absent .* busy", qdlctl("list").out)
    number = running(service)
    qdlctl("cancel", number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == OTHER and "was cancelled" in err
    assert re.search(r"flash .* cancelled", qdlctl("jobs").out)


# ---- following ----

PERCENT = (12, 13, 48)
STEPS = [[f"PROGRESS={p}0000", "PHASE=program", "DETAIL=modem", f"BYTES_DONE={p}0000", "BYTES_TOTAL=1000000"] for p in PERCENT]


@pytest.fixture
def stepping(new_service, forge, plug, archive, tmp_path):
    """stepping(until): lets the flash go from step to step, each once until(" 12 %") has seen the one before on the screen."""
    service = new_service().start(worker=forge(steered(["PHASE=erase", "DETAIL=sbl", "UNSAFE=1"], STEPS, go=tmp_path / "go")))
    plug(service)
    service.modem()
    assert service.wait_job(service.import_file(archive)) == "done"

    def steps(until):
        for i, percent in enumerate((0, *PERCENT)):
            if percent != 13:  # which plain lines do not show
                until(f"{percent:3d} %  ")
            (tmp_path / f"go{i}").touch()
            if percent == 12:
                time.sleep(0.5)  # well more than the service lets pass between two signals of the numbers: 13 % is one of its own
    return steps


def test_plain_lines_at_each_phase_and_each_five_percent(stepping, bus_address):
    process = subprocess.Popen([BUILD / "qdlctl", "flash", VERSION], env=settings(bus_address), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = []

    def until(words):
        # The first thing that is said may be that it starts.
        lines.extend(iter_until(process.stdout, words if words != "  0 %  " else "erasing"))
    stepping(until)
    rest, err = process.communicate(timeout=PATIENCE)
    lines += rest.splitlines(True)
    assert process.returncode == OK and err == ""
    assert [line.rstrip("\n") for line in lines if "%" in line and "starting" not in line] == \
        ["  0 %  erasing sbl", " 12 %  writing modem", " 48 %  writing modem"]
    assert lines[-1].startswith("Job 2 (flash) is done") or "Job 2 (flash) is done" in rest, lines


def test_the_bar(stepping, terminal):
    t = terminal("flash", VERSION, "--yes")
    stepping(lambda words: t.until(words if words != "  0 %  " else "erasing sbl"))
    assert t.end() == OK
    assert re.search(r"\r\[\.{24}\] +0 %  erasing sbl", t.text) and re.search(r"\r\[##\.{22}\] +12 %  writing modem", t.text)
    assert re.search(r"\[#{11}\.{13}\] +48 %  writing modem.*\033\[1mdo not unplug\033\[0m", t.text)
    # Taken off the screen before anything else is said.
    assert re.search(r"do not unplug\S* *\r +\rJob 2 \(flash\) is done", t.text), t.text[-300:]


@pytest.mark.parametrize("variables, bar", [({"NO_COLOR": "1"}, True), ({"TERM": "dumb"}, False), ({"TERM": ""}, False)])
def test_no_escape_codes(stepping, terminal, variables, bar):
    t = terminal("flash", VERSION, "--yes", **variables)
    stepping(t.until)
    assert t.end() == OK and ESCAPE not in t.text
    assert ("[####" in t.text or "[##" in t.text) == bar and "writing modem" in t.text


@pytest.mark.parametrize("columns", [60, 40, 24])
def test_the_bar_fits_and_keeps_its_warning(stepping, terminal, columns):
    t = terminal("flash", VERSION, "--yes", columns=columns, NO_COLOR="1")
    stepping(t.until)
    assert t.end() == OK
    bars = [line for line in re.split(r"[\r\n]+", t.text) if re.search(r"\d %  ", line)]
    assert bars and max(len(line) for line in bars) < columns
    assert any("do not unplug" in line for line in bars)


def test_quiet_json_and_timeout(lasting, qdlctl):
    quiet = qdlctl("flash", VERSION, "--quiet", "--timeout=1", code=DETACHED)
    assert quiet.out == ""
    assert quiet.err == "Detached; job 2 goes on. To follow it: qdlctl follow 2. To cancel it: qdlctl cancel 2.\n"
    followed = qdlctl("follow", "-j", "--timeout=5", code=DETACHED)  # time enough for its first line on a busy machine
    assert followed.last()["State"] == "running" and followed.last()["Phase"] == "program"
    stopped = qdlctl("cancel", 2, "--json=pretty").json()
    assert stopped["Id"] == 2 and stopped["State"] in ("cancelling", "finished")
    assert qdlctl("follow", 2, "--json=short", code=OTHER).last()["Result"] == "cancelled"
    assert "job 2 (flash) was cancelled" in qdlctl("follow", 2, code=OTHER).err
    assert "NotCancelable" in qdlctl("cancel", 2, code=OTHER).err


def test_json_ends_with_the_finished_job(lasting, bus_address):
    process = subprocess.Popen([BUILD / "qdlctl", "flash", VERSION, "-j"], env=settings(bus_address), stdout=subprocess.PIPE, text=True)
    number = running(lasting)
    lasting.call(job_path(number), JOB, "Cancel", lasting.no_options())
    out = process.communicate(timeout=PATIENCE)[0].splitlines()
    assert process.returncode == OTHER
    assert [json.loads(line)["State"] == "finished" for line in out] == [False] * (len(out) - 1) + [True]
    assert json.loads(out[-1])["Result"] == "cancelled"


def test_the_service_dies(lasting, bus_address, qdlctl):
    process = subprocess.Popen([BUILD / "qdlctl", "flash", VERSION], env=settings(bus_address), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert "writing modem" in "".join(iter_until(process.stdout, "writing modem"))
    lasting.stop(signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == NO_SERVICE and "the service left the bus; job 2" in err


def iter_until(stream, words):
    for line in stream:
        yield line
        if words in line:
            return


# ---- Ctrl-C ----

def test_ctrl_c_detaches(lasting, terminal):
    t = terminal("flash", VERSION, "--yes")
    t.until("writing modem")
    begin = time.monotonic()
    t.type("\x03")
    assert t.end() == DETACHED and 1.9 < time.monotonic() - begin < WELL_BEFORE
    assert "To follow it: qdlctl follow 2. To cancel it: qdlctl cancel 2." in t.text
    assert lasting.get(job_path(2), JOB, "State") == "running"


def test_ctrl_c_twice_cancels(lasting, terminal):
    t = terminal("flash", VERSION, "--yes")
    t.until("writing modem")
    t.type("\x03")
    t.until("again within 2 s")
    t.type("\x03")
    assert t.end() == OTHER
    assert "Asked job 2 to cancel" in t.text and "job 2 (flash) was cancelled" in t.text
    assert lasting.get(job_path(2), JOB, "Result") == "cancelled"


def test_ctrl_c_in_json_still_ends_with_the_job(lasting, terminal):
    t = terminal("flash", VERSION, "-j")
    t.until('"Phase":"program"')
    t.type("\x03")
    t.until("again within 2 s")
    t.type("\x03")
    assert t.end() == OTHER
    assert json.loads([line for line in t.text.splitlines() if line.startswith("{")][-1])["Result"] == "cancelled"


def test_ctrl_c_twice_where_cancel_is_refused(new_service, forge, plug, terminal):
    service = new_service().start(worker=forge(steered(["PHASE=erase", "CANCELABLE=0", "UNSAFE=1"])))
    plug(service)
    service.modem()
    t = terminal("identify")
    t.until("erasing")
    t.type("\x03")
    t.until("again within 2 s")
    t.type("\x03")
    assert t.end() == DETACHED and "NotCancelable" in t.text
    assert service.get(job_path(1), JOB, "State") == "running"


def test_ctrl_c_leaves_the_sending_of_a_directory_alone(new_service, forge, tmp_path, terminal):
    """The worker reads nothing until it is told to: by then qdlctl is gone, and the archive must still come whole."""
    go = tmp_path / "go"
    service = new_service().start(worker=forge(
        "order = begin()\nsay('READY=1', 'PHASE=spool')\n"
        f"while not os.path.exists({str(go)!r}):\n    time.sleep(0.05)\n"
        "content, part = b'', True\n"
        "while part:\n    part = os.read(order.fds['archive'], 65536)\n    content += part\n"
        "import_done(order, str(len(content)).encode())"))
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "big").write_bytes(bytes(1 << 20))
    t = terminal("firmware", "import", tree)
    t.until("reading the archive")
    t.type("\x03")
    assert t.end() == DETACHED
    go.touch()
    assert service.wait_job(job_path(1)) == "done"
    assert service.get(service.paths(FIRMWARE)[0], FIRMWARE, "Size") == len(str(1 << 20)) \
        and int(service.get(job_path(1), JOB, "OwnerUid")) == os.getuid()


# ---- the question ----

@pytest.mark.parametrize("answer, go", [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("yikes\n", False), ("\x04", False)])
def test_the_question_before_a_flash(lasting, terminal, answer, go):
    t = terminal("flash", VERSION, "--timeout=1")
    t.until("Flash it? [y/N] ")
    assert "Port: virtual-usb-0:1.2" in t.text and "Backup: none is taken" in t.text and "no backup" not in t.text
    assert unfinished(lasting) == []
    t.type(answer)
    assert t.end() == (DETACHED if go else OTHER)
    assert (len(unfinished(lasting)) == 1) == go and ("nothing was done" in t.text) != go


def test_a_script_is_not_asked(lasting, qdlctl):
    assert qdlctl("flash", VERSION, "--no-wait", "--json=short").json()["Kind"] == "flash"


# ---- long output ----

def test_the_pager(lasting, terminal):
    t = terminal("firmware", rows=2, PAGER="sed s/^/PAGED:/")
    assert t.end() == OK and "PAGED:" in t.text and VERSION in t.text
    for options, variables in ((["--no-pager"], {}), ([], {"PAGER": ""}), ([], {"PAGER": "cat"})):
        t = terminal("firmware", *options, rows=2, **{"PAGER": "sed s/^/PAGED:/", **variables})
        assert t.end() == OK and "PAGED:" not in t.text and VERSION in t.text


def test_a_long_message_stays_on_its_line(new_service, forge, plug, terminal, qdlctl):
    service = new_service().start(worker=forge("order = begin()\nsay('READY=1')\nsay('RESULT=failed', 'ERROR=FirehoseFailed', "
                                               "'MESSAGE=' + 'very ' * 100 + 'long')"))
    plug(service)
    service.modem()
    qdlctl("identify", code=RETRY)
    t = terminal("jobs", columns=100)
    assert t.end() == OK
    assert max(len(re.sub(r"\033\[\d*m", "", line)) for line in t.text.splitlines()) <= 100 and "..." in t.text
    assert "very long" in qdlctl("jobs").out


def test_everything_that_is_reported_has_a_name():
    """What a worker says at the end is shown to people, not in the words of the link."""
    told = set()
    for path in (TOP / "daemon" / "worker").glob("*.c"):
        told |= set(re.findall(r'worker_report\([^,]+, "([a-z0-9-]+)"', path.read_text()))
    named = set(re.findall(r'^    \{"([a-z0-9-]+)", "[A-Z]', (TOP / "client" / "report.c").read_text(), re.M))
    assert len(told) > 30 and not told - named, told - named
