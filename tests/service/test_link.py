# SPDX-License-Identifier: LGPL-2.1-or-later
"""A worker is not trusted: whatever a broken or captured one says or does costs its own job, with a named error in one clear
line, and nothing else."""

import os
import signal

import dbus
import pytest
from conftest import JOB, MANAGER, MODEM, ROOT, Refused, error, wait_until

# A flash as an honest worker tells it, message by message; {...} is filled by the tests below.
HONEST_FLASH = [
    'say("BUILD=" + BUILD)',
    'order = Order()',
    'say("PHASE=preparing", "DETAIL=", "LOG=hello")',
    'say("READY=1")',
    'say("PHASE=wait-device")',
    'say("WAIT_DEVICE=edl")',
    'hear_until("DEVICE")',
    'say("MODE=sahara")',
    'say("SERIAL=49cbd7ef")',
    'say("HWID=000e50e100040000", "CHIP=SDX55")',
    'say("PKHASH=" + "d9357db88795b5a8" * 4)',
    'say("STORAGE=nand 4096/256K x 2048")',
    'say("TABLE=1", fds=[memfd("NAME=sbl\\nFIRST=0\\nBLOCKS=10\\n")])',
    'say("UNSAFE=1", "CANCELABLE=0")',
    'say("DESTRUCTIVE=1")',
    'os.pwrite(order.fds["journal"], b"intent", 0)',
    'say("PHASE=program", "DETAIL=modem", "PROGRESS=500000", "BYTES_DONE=1000", "BYTES_TOTAL=2000")',
    'say("UNSAFE=0", "CANCELABLE=1")',
    'say("REPORT.verified=modem", "REPORT.backup=none")',
    'say("RESULT=done")',
]


@pytest.fixture
def library(new_service, forge, tmp_path):
    """A service with one firmware, and what starts it anew with another worker."""
    service = new_service().start(worker=forge("""
order = begin()
say("READY=1")
import_done(order)
"""))
    archive = tmp_path / "archive"
    archive.write_bytes(b"x")
    job = service.import_file(archive)
    assert service.wait_job(job) == "done"
    service.firmware = service.get(job, JOB, "Object")
    service.call(job, JOB, "Release", service.no_options())
    return service


def flash(service):
    return service.call(service.modem(), MODEM, "Flash", dbus.ObjectPath(service.firmware), service.no_options())


def assert_still_serving(service):
    wait_until(lambda: not service.get(ROOT, MANAGER, "Busy"))
    modem = service.modem()
    assert service.get(modem, MODEM, "Job") == "/"
    holders = 1 if service.get(modem, MODEM, "Held") else 0
    wait_until(lambda: len(service.workers()) == holders)
    for entry in os.listdir(f"/proc/{service.process.pid}/fd"):
        try:
            target = os.readlink(f"/proc/{service.process.pid}/fd/{entry}")
        except FileNotFoundError:
            continue
        assert not target.startswith(str(service.state)) or target.count("/state/") == 1 and os.path.isdir(target), target


# ---- the link's own rules, in and behind the pre-flight ----

BROKEN = {
    "raw control byte": r'raw(b"LOG=a\x07b\n")',
    "raw escape": r'raw(b"MESSAGE=\x1b[2J\n")',
    "not UTF-8": r'raw(b"LOG=\xff\xfe\n")',
    "no newline at the end": r'raw(b"LOG=x")',
    "no key": r'raw(b"=x\n")',
    "no equals sign": r'raw(b"LOG\n")',
    "empty line": r'raw(b"\n")',
    "NUL": r'raw(b"LOG=a\0b\n")',
    "bad escape": r'raw(b"LOG=\\q\n")',
    "escaped NUL": r'raw(b"LOG=\\x00\n")',
    "too long": r'raw(b"LOG=" + b"x" * 9000 + b"\n")',
    "too many fields": r'raw(b"LOG=x\n" * 200)',
    "unknown key": r'raw(b"SHELL=/bin/sh\n")',
    "a key of the service": r'raw(b"DEVICE=1\n")',
    "empty prefix": r'raw(b"REPORT.=x\n")',
    "key with a slash": r'raw(b"REPORT.a/b=x\n")',
    "descriptor for nothing": r'say("LOG=x", fds=[0])',
    "descriptors only": r'raw(b"LOG=x\n", [0, 0, 0, 0])',
    "table without descriptor": r'say("TABLE=1")',
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("when", ["pre-flight", "running"])
def test_broken_messages(new_service, forge, plug, how, when):
    ready = 'say("READY=1")\n' if when == "running" else ""
    service = new_service().start(worker=forge(f"order = begin()\n{ready}{BROKEN[how]}\ntime.sleep(60)\n"))
    plug(service)
    modem = service.modem()
    if when == "pre-flight":
        with Refused(error("Failed")) as e:
            service.call(modem, MODEM, "Identify", service.no_options())
        message = e.message
    else:
        job = service.call(modem, MODEM, "Identify", service.no_options())
        assert service.wait_job(job) == "failed"
        assert service.get(job, JOB, "ErrorName") == error("Failed")
        message = service.get(job, JOB, "ErrorMessage")
        assert "\x1b" not in service.log(job) and "\x07" not in service.log(job)
    assert "worker" in message and "killed" in message and message.isprintable()
    assert_still_serving(service)


# ---- keys that the job's state or kind does not expect ----

FORGED = [
    ("identify", "", "WAIT_DEVICE=edl"), ("identify", "", "SERIAL=49cbd7ef"), ("identify", "", "UNSAFE=1"),
    ("identify", "", "HOLDING=1"), ("identify", "", "DESTRUCTIVE=1"),
    ("identify", "READY=1", "READY=1"), ("identify", "READY=1", "BUILD=" + "0" * 16), ("identify", "READY=1", "PLAN=1"),
    ("identify", "READY=1", "FIRMWARE.id=" + "0" * 32), ("identify", "READY=1", "PROBLEM=x"),
    ("identify", "READY=1", "DESTRUCTIVE=1"), ("identify", "READY=1", "HOLDING=1"),
    ("identify", "READY=1", "PROGRESS=1000001"), ("identify", "READY=1", "PROGRESS=-1"), ("identify", "READY=1", "PROGRESS=abc"),
    ("identify", "READY=1", "BYTES_DONE=99999999999999999999999"), ("identify", "READY=1", "UNSAFE=2"),
    ("identify", "READY=1", "CANCELABLE=yes"), ("identify", "READY=1", "WAIT_DEVICE=moon"),
    ("identify", "READY=1", "SERIAL=49CBD7EF0"), ("identify", "READY=1", "SERIAL="), ("identify", "READY=1", "SERIAL=../../../"),
    ("identify", "READY=1", "HWID=xyz"), ("identify", "READY=1", "PKHASH=00"), ("identify", "READY=1", "MODE=normal"),
    ("identify", "READY=1", "CHIP=" + "x" * 1000), ("identify", "READY=1", "PHASE=" + "x" * 100),
    ("identify", "READY=1", "RESULT=perfect"), ("identify", "READY=1", "ERROR=NoSuchError"), ("identify", "READY=1", "HINT=pray"),
    ("identify", "READY=1", "REPORT." + "k" * 100 + "=x"),
    ("import", "READY=1", "WAIT_DEVICE=edl"), ("import", "READY=1", "SERIAL=49cbd7ef"), ("import", "READY=1", "HOLDING=1"),
    ("import", "READY=1", "PLAN=1"), ("import", "READY=1", "UNSAFE=1"), ("import", "READY=1", "TABLE=1"),
]


@pytest.mark.parametrize("kind, before, key", FORGED)
def test_forged_keys(new_service, forge, plug, tmp_path, kind, before, key):
    begin = f"say({before!r})\n" if before else ""
    service = new_service().start(worker=forge(f"order = begin()\n{begin}say({key!r})\ntime.sleep(60)\n"))
    plug(service)
    modem = service.modem()
    archive = tmp_path / "archive"
    archive.write_bytes(b"x")

    def start():
        return service.import_file(archive) if kind == "import" else service.call(modem, MODEM, "Identify", service.no_options())
    if before:
        job = start()
        assert service.wait_job(job) == "failed"
        assert service.get(job, JOB, "ErrorName") == error("Failed")
        message = service.get(job, JOB, "ErrorMessage")
    else:
        with Refused(error("Failed")) as e:
            start()
        message = e.message
    name = key.split("=")[0]
    assert name in message or "descriptors" in message, message
    assert_still_serving(service)


def test_too_many_reports(new_service, forge, plug):
    service = new_service().start(worker=forge("""
order = begin()
say("READY=1")
for i in range(100):
    say(f"REPORT.key{i}=" + "x" * 4000)
time.sleep(60)
"""))
    plug(service)
    job = service.call(service.modem(), MODEM, "Identify", service.no_options())
    assert service.wait_job(job) == "failed"
    assert len(service.get(job, JOB, "Report")) == 64


# ---- builds ----

@pytest.mark.parametrize("first", ['say("BUILD=0123456789abcdef")', 'say("READY=1")', 'say("LOG=hello", "BUILD=" + BUILD)',
                                   'say("BUILD=")', 'raw(b"garbage")'])
def test_another_build(new_service, forge, plug, first):
    service = new_service().start(worker=forge(f"{first}\nsay('READY=1')\nsay('RESULT=done')\n"))
    plug(service)
    modem = service.modem()
    with Refused(error("Failed")) as e:
        service.call(modem, MODEM, "Identify", service.no_options())
    assert "build" in e.message or "rules" in e.message
    assert service.paths(JOB) == []
    assert_still_serving(service)


# ---- results ----

@pytest.mark.parametrize("last, message", [
    ('say("RESULT=done")\nsys.exit(3)', "status 3"),
    ('say("RESULT=done")\nos.kill(os.getpid(), signal.SIGKILL)', "signal 9"),
    ('say("RESULT=done")\nos.kill(os.getpid(), signal.SIGSEGV)', "signal 11"),
    ('say("RESULT=done", "RESULT=done")', "RESULT"),
    ('say("RESULT=done")\nsay("RESULT=done")', "RESULT"),
    ('say("RESULT=failed", "ERROR=Timeout", "MESSAGE=x")\nsay("RESULT=done")', "RESULT"),
    ('say("RESULT=done")\nsay("PROGRESS=1")', "PROGRESS"),
    ('say("RESULT=done")\nsay("DESTRUCTIVE=1")', "DESTRUCTIVE"),
    ('say("RESULT=done", "HOLDING=1")', "HOLDING"),
    ('say("RESULT=done")\nsay("HOLDING=1")', "HOLDING"),
    ('sys.exit(0)', "without a result"),
    ('sys.exit(7)', "status 7"),
    ('link.close()\nsys.exit(0)', "without a result"),
    ('link.close()\ntime.sleep(60)', "closed its link"),
    ('raw(b"")\ntime.sleep(60)', "closed its link"),
    ('say("RESULT=done")\nlink.close()\ntime.sleep(60)', "closed its link"),
])
def test_results_that_do_not_count(new_service, forge, plug, last, message):
    service = new_service().start(worker=forge(f'order = begin()\nsay("READY=1")\n{last}\n'))
    plug(service)
    job = service.call(service.modem(), MODEM, "Identify", service.no_options())
    assert service.wait_job(job) == "failed"
    assert message in service.get(job, JOB, "ErrorMessage"), service.get(job, JOB, "ErrorMessage")
    assert not service.get(service.modem(), MODEM, "Held")
    assert_still_serving(service)


def test_a_failure_without_a_reason(new_service, forge, plug):
    service = new_service().start(worker=forge('order = begin()\nsay("READY=1")\nsay("RESULT=failed")\n'))
    plug(service)
    job = service.call(service.modem(), MODEM, "Identify", service.no_options())
    assert service.wait_job(job) == "failed"
    assert service.get(job, JOB, "ErrorName") == error("Failed") and "no reason" in service.get(job, JOB, "ErrorMessage")


def test_an_import_with_a_forged_id(new_service, forge, tmp_path):
    archive = tmp_path / "archive"
    archive.write_bytes(b"x")
    for facts in ('"FIRMWARE.id=../../../../etc/passwd"', '"FIRMWARE.id=" + "0" * 32', '"LOG=no id at all"',
                  '"FIRMWARE.id=" + "A" * 32, "FIRMWARE.sha256=" + "A" * 64',
                  '"FIRMWARE.id=" + "0" * 32, "FIRMWARE.sha256=" + "1" * 64'):
        service = new_service().start(worker=forge(f'order = begin()\nsay("READY=1")\nsay({facts})\nfinish()\n'))
        job = service.import_file(archive)
        assert service.wait_job(job) == "failed"
        assert os.listdir(service.state / "firmware") == [] and service.get(job, JOB, "Object") == "/"
        assert service.stop() == 0


BAD_PLANS = {
    "no plan": 'say("RESULT=done")',
    "no descriptor": 'say("PLAN=1")',
    "a plain file": 'say("PLAN=1", fds=[os.open("/proc/self/exe", os.O_RDONLY)])',
    "not sealed": 'fd = os.memfd_create("x"); os.write(fd, b"ACTION=erase\\n"); say("PLAN=1", fds=[fd])',
    "too large": 'say("PLAN=1", fds=[memfd("ACTION=" + "x" * (2 << 20))])',
    "two": 'say("PLAN=1", fds=[memfd("ACTION=a\\n")])\nsay("PLAN=1", fds=[memfd("ACTION=a\\n")])',
    "no number": 'say("PLAN=1", fds=[memfd("ACTION=erase\\nPAGES=-1\\n")])\nsay("RESULT=done")',
    "no boolean": 'say("PLAN=1", fds=[memfd("SBL_LAST=yes\\n")])\nsay("RESULT=done")',
    "raw bytes": 'say("PLAN=1", fds=[memfd("ACTION=\\x1b[2J\\n")])\nsay("RESULT=done")',
    "no key": 'say("PLAN=1", fds=[memfd("=x\\n")])\nsay("RESULT=done")',
    "a long key": 'say("PLAN=1", fds=[memfd("K" * 100 + "=x\\n")])\nsay("RESULT=done")',
    "too many steps": 'say("PLAN=1", fds=[memfd("ACTION=a\\n\\n" * 3000)])\nsay("RESULT=done")',
    "too many notes": 'say("PLAN=1", fds=[memfd("NOTE=a\\n" * 300)])\nsay("RESULT=done")',
}


@pytest.mark.parametrize("how", BAD_PLANS)
def test_bad_plans(library, forge, plug, how):
    library.restart(worker=forge('order = begin()\nsay("READY=1")\n' + BAD_PLANS[how]))
    plug(library)
    with Refused(error("Failed")) as e:
        library.call(library.modem(), MODEM, "Plan", dbus.ObjectPath(library.firmware), library.no_options())
    assert any(word in e.message for word in ("answer", "PLAN", "descriptors")), e.message
    assert library.paths(JOB) == []
    assert_still_serving(library)


# ---- death at any message ----

@pytest.mark.parametrize("messages", range(len(HONEST_FLASH) + 1))
@pytest.mark.parametrize("how", ["killed", "hung"])
def test_death_at_any_message(library, forge, plug, tmp_path, messages, how):
    """Every prefix of an honest flash, and then the end of the process (or, behind it, of the service)."""
    there = tmp_path / "there"
    end = "os.kill(os.getpid(), signal.SIGKILL)" if how == "killed" else f"open({str(there)!r}, 'w').close()\ntime.sleep(60)"
    library.restart(worker=forge("\n".join([*HONEST_FLASH[:messages], end])), config="[Limits]\nPreflightSec=1\n")
    plug(library)
    modem = library.modem()
    ready = HONEST_FLASH.index('say("READY=1")')
    if messages <= ready:
        with Refused("Timeout" if how == "hung" else "Failed"):
            flash(library)
        assert library.paths(JOB) == [] and library.get(modem, MODEM, "Interrupted") == "/"
    elif how == "killed":
        job = flash(library)
        assert library.wait_job(job) == "failed"
        destructive = messages > HONEST_FLASH.index('say("DESTRUCTIVE=1")')
        assert library.get(modem, MODEM, "Interrupted") == (job if destructive else "/")
        assert library.get(job, JOB, "RecoveryHint") == ("retry" if destructive else "")
        assert library.get(job, JOB, "SafeToUnplug")
        wait_until(lambda: library.get(modem, MODEM, "LastError") == library.get(job, JOB, "ErrorMessage"))
    else:
        job = flash(library)
        assert library.get(job, JOB, "State") == "running"
        wait_until(there.exists)
        library.stop(signal.SIGKILL)
        library.start(worker=forge("begin()"))
        assert library.get(job, JOB, "Result") == "interrupted"
        # What is known is on disk: a journal that was begun can be continued.
        begun = messages > HONEST_FLASH.index('os.pwrite(order.fds["journal"], b"intent", 0)')
        plug(library)
        library.modem()
        told = messages > HONEST_FLASH.index('say("DESTRUCTIVE=1")')
        if begun or not told:  # told and nothing begun: the service may have been killed before it heard it
            assert library.get(modem, MODEM, "Interrupted") == (job if begun else "/")
        return
    assert_still_serving(library)


# ---- devices, holders, continuation ----

def test_the_whole_story_of_a_flash(library, forge, plug):
    library.restart(worker=forge("\n".join(HONEST_FLASH)))
    plug(library)
    modem = library.modem()
    job = flash(library)
    assert library.wait_job(job) == "done"
    properties = library.all(job, JOB)
    assert properties["Progress"] == 1 and properties["Window"] == 1 and properties["Kind"] == "flash"
    assert properties["Report"] == {"verified": "modem", "backup": "none"} and properties["Modem"] == modem
    known = library.all(modem, MODEM)
    assert (known["ChipSerial"], known["HardwareId"], known["Chip"]) == ("49cbd7ef", "000e50e100040000", "SDX55")
    assert known["FirmwareVersion"].startswith("RM502Q") and known["Model"] == "RM502Q-GL" and known["Confirmed"]
    assert known["Mode"] == "sahara" and known["LastError"] == "" and known["Interrupted"] == "/"


def test_the_node_is_opened_anew_and_no_copy_is_kept(new_service, forge, plug):
    worker = forge("""
order = begin()
say("READY=1")
assert sorted(int(f) for f in os.listdir("/proc/self/fd"))[:4] == [0, 1, 2, 3]
for window in range(2):
    say("WAIT_DEVICE=edl")
    fields, fds = hear_until("DEVICE")
    assert fields["VID"] == "05c6" and fields["PID"] == "9008" and fields["PRODUCT"].startswith("QUSB") and len(fds) == 1
    assert 0 <= time.monotonic() - int(fields["SINCE"]) / 1e6 < 60
    say("LOG=got it")
    hear_until("DEVICE_GONE")
    os.close(fds[0])
    say("DEVICE_LOST=1")
finish()
""")
    service = new_service().start(worker=worker)
    device = plug(service)
    modem = service.modem()
    job = service.call(modem, MODEM, "Identify", service.no_options())
    for window in (1, 2):
        wait_until(lambda: service.log(job).count("got it") == window)
        sockets = [f for f in os.listdir(f"/proc/{service.process.pid}/fd")]
        device.unplug()
        wait_until(lambda: service.get(modem, MODEM, "Mode") == "absent")
        assert service.get(job, JOB, "Window") == window
        assert len(os.listdir(f"/proc/{service.process.pid}/fd")) < len(sockets)
        if window == 1:
            device = plug(service)
    assert service.wait_job(job) == "done"


def test_a_worker_starts_with_nothing_but_its_link(new_service, forge, plug):
    service = new_service().start(worker=forge("""
fds = {}
for f in os.listdir("/proc/self/fd"):
    try:
        fds[int(f)] = os.readlink("/proc/self/fd/" + f)
    except OSError:
        pass
order = begin()
say("READY=1")
say("LOG=" + repr(sorted(f for f, t in fds.items() if f != 4 or "/proc/" not in t)), "LOG=" + repr(sorted(os.environ.items())))
finish()
"""))
    plug(service)
    job = service.call(service.modem(), MODEM, "Identify", service.no_options())
    assert service.wait_job(job) == "done"
    log = service.log(job)
    assert "[0, 1, 2, 3]" in log
    assert "LANG" in log and "PATH" not in log and "DBUS" not in log and "HOME" not in log


HOLDER = """
order = begin()
say("READY=1")
say("WAIT_DEVICE=edl")
_, fds = hear_until("DEVICE")
say("LOG=device for " + order.kind + " " + str(os.path.exists({gate!r})))
if order.kind == "identify":
    say("SERIAL=49cbd7ef", "MODE=firehose")
    say("RESULT=done", "HOLDING=1")
    say("PHASE=hold", "LOG=holding")
    hear_until("RELEASE")
    open({gate!r}, "w").close()
    sys.exit(0)
finish()
"""


def test_a_holder_lets_go_before_the_next_job_gets_the_modem(new_service, forge, plug, tmp_path):
    service = new_service().start(worker=forge(HOLDER.format(gate=str(tmp_path / "released"))))
    device = plug(service)
    modem = service.modem()
    job = service.call(modem, MODEM, "Identify", service.no_options())
    assert service.wait_job(job) == "done"
    assert service.get(modem, MODEM, "Held") and service.get(modem, MODEM, "Job") == "/" and not service.get(ROOT, MANAGER, "Busy")
    assert service.get(modem, MODEM, "Mode") == "firehose" and len(service.workers()) == 1
    second = service.call(modem, MODEM, "Reset", service.no_options())
    assert service.wait_job(second) == "done"
    assert "device for reset True" in service.log(second)
    assert not service.get(modem, MODEM, "Held")
    assert_still_serving(service)
    device.unplug()


def test_a_holder_that_does_not_let_go_is_killed(new_service, forge, plug):
    service = new_service().start(worker=forge("""
order = begin()
say("READY=1", "WAIT_DEVICE=edl")
hear_until("DEVICE")
if order.kind == "identify":
    say("RESULT=done", "HOLDING=1")
    time.sleep(60)
finish()
"""))
    plug(service)
    modem = service.modem()
    assert service.wait_job(service.call(modem, MODEM, "Identify", service.no_options())) == "done"
    holder = service.workers()
    assert service.wait_job(service.call(modem, MODEM, "Reset", service.no_options())) == "done"
    assert not os.path.exists(f"/proc/{holder[0]}")


@pytest.mark.parametrize("word", ["RESULT=done", "SERIAL=00000001", "DESTRUCTIVE=1", "READY=1"])
def test_a_holder_that_speaks_out_of_turn_is_killed(new_service, forge, plug, word):
    service = new_service().start(worker=forge(f"""
order = begin()
say("READY=1", "WAIT_DEVICE=edl")
hear_until("DEVICE")
say("RESULT=done", "HOLDING=1")
say({word!r})
time.sleep(60)
"""))
    plug(service)
    modem = service.modem()
    job = service.call(modem, MODEM, "Identify", service.no_options())
    assert service.wait_job(job) == "done"
    wait_until(lambda: not service.get(modem, MODEM, "Held"))
    assert service.get(job, JOB, "Result") == "done" and service.get(modem, MODEM, "ChipSerial") != "00000001"
    assert_still_serving(service)


def test_a_holder_goes_with_its_modem_and_with_the_service(new_service, forge, plug, tmp_path):
    source = """
order = begin()
say("READY=1", "WAIT_DEVICE=edl")
hear_until("DEVICE")
say("RESULT=done", "HOLDING=1")
while True:
    fields, _ = hear()
    if fields[0][0] in ("DEVICE_GONE", "STOP"):
        sys.exit(0)
"""
    service = new_service().start(worker=forge(source))
    device = plug(service)
    modem = service.modem()
    service.wait_job(service.call(modem, MODEM, "Identify", service.no_options()))
    device.unplug()
    wait_until(lambda: not service.get(modem, MODEM, "Held"))
    assert service.workers() == []
    plug(service)
    service.modem()
    service.wait_job(service.call(modem, MODEM, "Identify", service.no_options()))
    holder = service.workers()
    assert service.stop() == 0
    assert not os.path.exists(f"/proc/{holder[0]}")


INTERRUPTED = """
order = begin()
journal = order.fds["journal"]
had = os.pread(journal, 100, 0)
say("READY=1", "LOG=journal " + repr(had), "WAIT_DEVICE=edl")
hear_until("DEVICE")
say("SERIAL=49cbd7ef", "DESTRUCTIVE=1")
os.pwrite(journal, b"piece 1", 0)
if had:
    finish()
say("RESULT=failed", "ERROR=ModemGone", "MESSAGE=the modem went away", "HINT=replug")
"""


def flash_with(service, **options):
    return service.call(service.modem(), MODEM, "Flash", dbus.ObjectPath(service.firmware),
                        dbus.Dictionary({k.replace("_", "-"): v for k, v in options.items()}, signature="sv"))


@pytest.mark.parametrize("restart", [False, True])
def test_the_same_call_continues(library, forge, plug, restart):
    library.restart(worker=forge(INTERRUPTED))
    plug(library)
    modem = library.modem()
    first = flash_with(library, modem_version="RM502Q")
    assert library.wait_job(first) == "failed"
    assert library.get(modem, MODEM, "Interrupted") == first
    if restart:
        library.restart(worker=forge(INTERRUPTED))
        assert library.get(modem, MODEM, "Interrupted") == first
        plug(library)
    second = flash_with(library, modem_version="RM502Q")
    assert library.wait_job(second) == "done"
    assert library.get(second, JOB, "Resumes") == first
    assert "journal b'piece 1'" in library.log(second)
    assert library.get(modem, MODEM, "Interrupted") == "/"


def test_another_call_begins_anew_and_voids_the_journal(library, forge, plug):
    library.restart(worker=forge(INTERRUPTED))
    plug(library)
    modem = library.modem()
    first = flash_with(library)
    assert library.wait_job(first) == "failed"
    second = flash_with(library, reset=False)
    assert library.wait_job(second) == "failed"
    assert "journal b''" in library.log(second) and library.get(second, JOB, "Resumes") == "/"
    assert library.get(modem, MODEM, "Interrupted") == second
    assert [f for f in os.listdir(library.state / "jobs") if f.endswith(".journal")] == ["3.journal"]


def test_a_refused_continuation_leaves_the_journal(library, forge, plug):
    library.restart(worker=forge(INTERRUPTED))
    plug(library)
    modem = library.modem()
    first = flash(library)
    assert library.wait_job(first) == "failed"
    library.restart(worker=forge('order = begin()\nsay("RESULT=failed", "ERROR=WrongFirmware", "MESSAGE=no")\n'))
    plug(library)
    library.modem()
    with Refused("WrongFirmware"):
        flash(library)
    assert library.get(modem, MODEM, "Interrupted") == first


def test_normal_mode_voids_the_journal(library, forge, plug):
    library.restart(worker=forge(INTERRUPTED))
    device = plug(library)
    modem = library.modem()
    assert library.wait_job(flash(library)) == "failed"
    device.unplug()
    wait_until(lambda: library.get(modem, MODEM, "Mode") == "absent")
    plug(library, vid="2c7c", pid="0800", interfaces=5, product="RM502Q-GL")
    wait_until(lambda: library.get(modem, MODEM, "Mode") == "normal")
    assert library.get(modem, MODEM, "Interrupted") == "/"


def test_release_forgets_the_continuation(library, forge, plug):
    library.restart(worker=forge(INTERRUPTED))
    plug(library)
    modem = library.modem()
    job = flash(library)
    assert library.wait_job(job) == "failed"
    library.call(job, JOB, "Release", library.no_options())
    assert library.get(modem, MODEM, "Interrupted") == "/"


# ---- what is remembered ----

def test_memory_of_a_unit(library, forge, plug):
    """Confirmed by serial; a swap of the card starts anew; the unit keeps its memory wherever it goes."""
    library.restart(worker=forge("\n".join(HONEST_FLASH)))
    device = plug(library)
    modem = library.modem()
    assert library.wait_job(flash(library)) == "done"
    device.unplug()

    library.restart(worker=forge("begin()"))
    remembered = library.all(modem, MODEM)
    assert remembered["Mode"] == "absent" and remembered["ChipSerial"] == "49cbd7ef" and remembered["Model"] == "RM502Q-GL"
    nameless = plug(library, product="QUSB__BULK")
    library.modem()
    assert not library.get(modem, MODEM, "Confirmed") and library.get(modem, MODEM, "Model") == "RM502Q-GL"
    nameless.unplug()
    wait_until(lambda: library.get(modem, MODEM, "Mode") == "absent")

    other = plug(library, product="QUSB_BULK_CID:0410_SN:5EED0001")
    library.modem()
    swapped = library.all(modem, MODEM)
    assert swapped["ChipSerial"] == "5eed0001" and swapped["Model"] == "" and swapped["FirmwareVersion"] == ""
    assert not swapped["Confirmed"] and swapped["HardwareId"] == ""
    other.unplug()
    wait_until(lambda: library.get(modem, MODEM, "Mode") == "absent")

    plug(library, port="virtual-usb-0:7", kernel="1-7")
    moved = library.modem()
    assert moved != modem
    properties = library.all(moved, MODEM)
    assert properties["Model"] == "RM502Q-GL" and properties["Confirmed"] and properties["HardwareId"] == "000e50e100040000"


def test_what_a_flash_is_told_of_the_unit(library, forge, plug):
    library.restart(worker=forge("\n".join(HONEST_FLASH)))
    plug(library)
    assert library.wait_job(flash(library)) == "done"
    library.restart(worker=forge("""
order = begin()
say("READY=1")
say("LOG=" + repr(order.options), "LOG=" + repr(sorted(order.fds)), "LOG=" + os.pread(order.fds["recorded"], 999, 0).decode().replace("\\n", " "))
finish()
"""))
    plug(library)
    library.modem()
    job = flash(library)
    assert library.wait_job(job) == "done"
    log = library.log(job)
    assert "'serial': '49cbd7ef'" in log and "'hwid': '000e50e100040000'" in log and "'known-confirmed': '1'" in log
    assert "'known-version': 'RM502Q" in log and "'reset': '1'" in log and "'came-from-normal': '0'" in log
    assert "['backup', 'journal', 'package', 'recorded']" in log and "NAME=sbl" in log


def test_serial_zero_is_never_confirmed(new_service, forge, plug):
    service = new_service().start(worker=forge("""
order = begin()
say("READY=1", "WAIT_DEVICE=edl")
hear_until("DEVICE")
say("SERIAL=00000000")
finish()
"""))
    plug(service, product="QUSB_BULK_CID:0410_SN:00000000")
    modem = service.modem()
    assert service.wait_job(service.call(modem, MODEM, "Identify", service.no_options())) == "done"
    assert service.get(modem, MODEM, "ChipSerial") == "" and not service.get(modem, MODEM, "Confirmed")


def test_waiting_for_normal_mode(new_service, forge, plug):
    service = new_service().start(worker=forge("""
order = begin()
say("READY=1", "WAIT_DEVICE=edl")
hear_until("DEVICE")
say("WAIT_DEVICE=normal", "PHASE=wait-normal")
fields, fds = hear_until("APPEARED")
assert not fds
say("LOG=" + fields["APPEARED"])
fields, fds = hear_until("APPEARED")
say("LOG=" + fields["APPEARED"] + " " + fields["VID"] + " " + fields["PRODUCT"])
finish()
"""))
    device = plug(service)
    modem = service.modem()
    job = service.call(modem, MODEM, "Reset", service.no_options())
    wait_until(lambda: service.get(job, JOB, "Phase") == "wait-normal")
    device.unplug()
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "absent")
    once_more = plug(service)  # one more reboot is allowed
    wait_until(lambda: "edl" in service.log(job))
    once_more.unplug()
    plug(service, vid="2c7c", pid="0800", interfaces=5, product="RM502Q-GL", port="virtual-usb-0:9", kernel="2-9")
    assert service.wait_job(job) == "done"
    assert "normal 2c7c RM502Q-GL" in service.log(job)


def test_a_flood_of_messages_leaves_the_service_responsive(new_service, forge, plug):
    service = new_service().start(worker=forge("""
order = begin()
say("READY=1")
while True:
    say("PHASE=program", "LOG=" + "x" * 4000, "PROGRESS=5")
"""))
    plug(service)
    job = service.call(service.modem(), MODEM, "Identify", service.no_options())
    for _ in range(50):
        service.call(ROOT, MANAGER, "ListModems", service.no_options(), timeout=20)
    assert len(service.log(job)) <= 4 << 20
    os.kill(service.workers()[0], signal.SIGKILL)
    assert service.wait_job(job) == "failed"


# ---- waiting for a modem ----

WAITS = """
order = begin()
say("READY=1", "WAIT_DEVICE=edl")
hear_until("DEVICE")
say("PHASE=away")
hear_until("DEVICE_GONE")
for want in %r:
    say("WAIT_DEVICE=" + want)
say("PHASE=again")
while True:
    fields, fds = hear()
    if fds or dict(fields).get("APPEARED", "edl") != "edl":  # that it came in 9008 is news, and no answer
        say("REPORT.came=" + dict(fields).get("APPEARED", "device"))
        finish()
"""

SHAPES = {"edl": {}, "normal": {"vid": "2c7c", "pid": "0800", "product": "RM502Q-GL", "interfaces": 5}}


@pytest.mark.parametrize("wants", [("edl", "normal"), ("normal", "edl")])
@pytest.mark.parametrize("shape, came", [("edl", "device"), ("normal", "normal")])
@pytest.mark.parametrize("early", [False, True])
def test_both_requests_stand_together(new_service, forge, plug, wants, shape, came, early):
    """Whichever appears first is the answer, whichever was asked for last; also one that is there already."""
    source = WAITS % (wants,)
    if early:
        source = source.replace("for want", "hear_until('CANCEL')\nfor want")
    service = new_service().start(worker=forge(source))
    first = plug(service)
    modem = service.modem()
    job = service.call(modem, MODEM, "Identify", service.no_options())
    wait_until(lambda: service.get(job, JOB, "Phase") == "away")
    first.unplug()
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "absent")
    if early:
        plug(service, **SHAPES[shape])
        wait_until(lambda: service.get(modem, MODEM, "Mode") != "absent")
        service.call(job, JOB, "Cancel", service.no_options())
    else:
        wait_until(lambda: service.get(job, JOB, "Phase") == "again")
        plug(service, **SHAPES[shape])
    assert service.wait_job(job) in ("done", "cancelled")
    assert service.get(job, JOB, "Report")["came"] == came


def test_who_waits_for_edl_hears_of_nothing_else(new_service, forge, plug):
    service = new_service().start(worker=forge(WAITS % (("edl",),)))
    first = plug(service)
    modem = service.modem()
    job = service.call(modem, MODEM, "Identify", service.no_options())
    wait_until(lambda: service.get(job, JOB, "Phase") == "away")
    first.unplug()
    wait_until(lambda: service.get(job, JOB, "Phase") == "again")
    normal = plug(service, **SHAPES["normal"])
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal")
    normal.unplug()
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "absent")
    plug(service)
    assert service.wait_job(job) == "done"
    assert service.get(job, JOB, "Report")["came"] == "device"
