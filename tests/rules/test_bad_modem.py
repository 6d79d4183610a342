# SPDX-License-Identifier: LGPL-2.1-or-later
"""A modem that is broken, strange or hostile: each ends in a named error in one clear line, the modem as safe as before."""
import struct

import pytest

from conftest import GIVE_UP, PAGE, PAGES, blocks_of, layout

OTHER_KEY = "pkhash=" + "11" * 32
TABLE = layout.PARTITIONS


def sbl_is_written(trace):
    """The last write is over, everything else was verified before it: from here on the modem may boot by itself."""
    last = trace.programs[-1] if trace.programs else None
    return last is not None and last.partition == "SBL" and bool(trace.having("nand program first=0 "))


def assert_ends_well(job):
    """The worker neither crashed nor hung, and what it says is one line."""
    assert job.process.returncode in (0, None), job.process.returncode
    assert job.result in ("done", "failed", "interrupted"), job.words
    if job.result != "done":
        assert job.error and job.message and job.error != "Failed", job.words
    for line in list(job.report.values()) + job.log + [job.message]:
        assert "\n" not in line and len(line) < 5000


# ---- Sahara ----

def test_programmer_that_is_refused(bench):
    bench.start(OTHER_KEY)
    bench.assert_refused(bench.flash(), "ProgrammerRejected", "0x21", hint="wrong-firmware")


def test_programmer_that_is_refused_in_silence(bench):
    bench.start(OTHER_KEY, "programmer_check=silent")
    bench.assert_refused(bench.flash(), "ProgrammerRejected", "not signed", hint="wrong-firmware")


@pytest.mark.parametrize("what,words", [("zero", "0 bytes"), ("huge", "4294967295"), ("wrap", "4294963200"),
                                        ("wrap64", "18446744073709547520"), ("far", "1073741824"), ("endless", "for ever")])
def test_requests_beyond_the_programmer(bench, what, words):
    """Nothing of our memory goes out: not one byte answers such a request."""
    bench.start("read_data=" + what)
    bench.assert_refused(bench.flash(), "SaharaFailed", words)
    if what != "endless":
        sent = [line for line in bench.trace().having("out transfer=") if int(line.split("length=")[1].split()[0]) > 64]
        assert sent == [], sent


@pytest.mark.parametrize("hello", ["flood", "short", "strange-mode", "garbage"])
def test_greetings(bench, hello):
    bench.start("hello=" + hello)
    job = bench.flash()
    assert_ends_well(job)
    assert job.error in ("SaharaFailed", "Timeout", "WrongMode") and job.hint, job.words
    bench.assert_unchanged()


def test_version_from_the_future(bench):
    bench.start("sahara_version=4294967295")
    bench.assert_refused(bench.flash(), "SaharaFailed", "version")


@pytest.mark.parametrize("settings", [("sahara_version=1",), ("sahara_version=3",), ("hello=twice",),
                                      ("hello=lost",), ("start=reset-resp",), ("start=mid-transfer",), ("read64=yes",),
                                      ("overread=4096",), ("done=pending",), ("command_mode=no",), ("unsupported_command=zero",),
                                      ("pkhash_command=no",), ("execute=huge",), ("execute=other",), ("execute=cut",),
                                      ("stuck=swallow", "start=mid-transfer")])
def test_manners_that_are_no_fault(bench, settings):
    bench.start(*settings)
    bench.assert_done(bench.flash())


@pytest.fixture
def leaves_with_the_programmer(rehearsal):
    """The fault of a modem that goes away when it has all of the programmer and has said nothing of it."""
    lines = rehearsal().lines
    end = next(i for i, line in enumerate(lines) if line.startswith("sahara in END_IMAGE"))
    return "fault=unplug@in:%d" % (sum(line.startswith("in transfer=") for line in lines[:end]) + 1)


def test_window_that_ends_with_the_upload(bench, leaves_with_the_programmer):
    """Once is no refusal: the next window may be the one."""
    bench.start(leaves_with_the_programmer)
    trace = bench.assert_done(bench.flash())
    assert trace.having("fault unplug@in")


def test_programmer_that_is_refused_by_leaving(bench, leaves_with_the_programmer):
    """Each time is one, where no loop explains it."""
    bench.start(leaves_with_the_programmer, "fault_always=yes")
    job = bench.flash()
    bench.assert_refused(job, "ProgrammerRejected", "went away", "not signed", hint="wrong-firmware")
    assert len(bench.trace().having("fault unplug@in")) == 3


def test_window_that_always_ends_with_the_upload(bench, leaves_with_the_programmer):
    """Where its window ends it says nothing of the programmer: too short, and not the wrong package."""
    bench.start(leaves_with_the_programmer, "fault_always=yes")
    bench.assert_refused(bench.flash(window_usec=300000), "ModemGone", "too short", hint="bridge-usb-boot")


# ---- Firehose ----

@pytest.mark.parametrize("at", ["first", "read", "erase", "program", "digest"])
def test_a_line_of_a_mebibyte(bench, rehearsal, at):
    trace = rehearsal()
    number = {"first": 1, "read": trace.of("read")[3].number, "erase": trace.erases[1].number, "program": trace.programs[0].number,
              "digest": trace.of("getsha256digest")[0].number}[at]
    bench.start("big_log=%d" % number)
    job = bench.flash()
    assert_ends_well(job)
    bench.assert_error(job, "FirehoseFailed", "64 KiB")
    if at in ("first", "read"):
        bench.assert_unchanged()
    assert bench.trace().resets == [] and bench.boots() == "edl"


@pytest.mark.parametrize("at", ["banner", "first", "read", "erase", "program"])
def test_endless_logs(bench, rehearsal, at):
    trace = rehearsal()
    number = {"banner": 0, "first": 1, "read": trace.of("read")[3].number, "erase": trace.erases[1].number,
              "program": trace.programs[0].number}[at]
    bench.start("log_flood=%d" % number)
    job = bench.flash()
    assert_ends_well(job)
    bench.assert_error(job, "FirehoseFailed", "does not stop")
    assert bench.trace().resets == [] and bench.boots() == "edl"


@pytest.mark.parametrize("nth", range(0, 60, 6))
def test_garbage_in_place_of_an_answer(bench, rehearsal, nth):
    """63 bytes 0xA5 in place of a transfer; logs may be lost, answers not guessed."""
    n = [int(line.split("transfer=")[1].split()[0]) for line in rehearsal().having("in transfer=")]
    bench.start("fault=garbage@in:%d" % n[min(len(n) - 1, nth * len(n) // 60)])
    bench.may_violate = ("short raw",)
    job = bench.flash()
    assert_ends_well(job)
    if job.result == "done":
        bench.assert_done(job)
    else:
        assert bench.trace().resets == [] and (bench.boots() == "edl" or sbl_is_written(bench.trace()))


def test_hang_at_configure(bench):
    bench.start("fault=hang@command:1")
    bench.assert_refused(bench.flash(), "Timeout", "configure", hint="power-cycle")


def test_hang_in_a_read(bench, rehearsal):
    bench.start("fault=hang@command:%d" % rehearsal().of("read")[2].number)
    bench.assert_refused(bench.flash(), "Timeout", hint="power-cycle")


@pytest.mark.parametrize("nth", range(10))
def test_nak_anywhere(bench, rehearsal, nth):
    """A sample over all commands: a named error or a flash that is right, and the same call then ends well."""
    commands = rehearsal().commands
    c = commands[nth * (len(commands) - 1) // 10]
    bench.start("initial=working", "start=sahara", "fault=nak@command:%d" % c.number)
    job = bench.flash()
    assert_ends_well(job)
    if job.result == "done":
        bench.assert_done(job)
        return
    assert job.error in ("FirehoseFailed", "GeometryDiffers"), job.words
    trace = bench.trace()
    assert trace.resets == []
    if trace.changes and trace.changes[0].answer == "ACK" and not sbl_is_written(trace):
        assert bench.boots() == "edl"
    bench.start()
    if not bench.modem.in_edl:
        return
    bench.assert_done(bench.flash())


@pytest.mark.parametrize("nth", range(8))
def test_unplugged_anywhere(bench, rehearsal, nth):
    trace = rehearsal()
    c = trace.commands[nth * (len(trace.commands) - 1) // 8]
    bench.start("fault=unplug@command:%d" % c.number)
    job = bench.flash()
    if sbl_is_written(bench.trace()) and job.result != "done":
        # It boots before it could be verified: no success, and the same call does all of it again.
        bench.assert_error(job, "ModemGone", "runs its firmware", hint="retry")
        return
    bench.assert_done(job)


@pytest.mark.parametrize("byte", [1, 30, 100, 3000, 20000])
def test_unplugged_in_the_upload(bench, byte):
    bench.start("fault=unplug@byte:%d" % byte)
    bench.assert_done(bench.flash())


def test_unplugged_for_ever(bench):
    bench.start("fault=unplug@byte:5000", "replug_ms=-1")
    job = bench.flash(wait_device_usec=GIVE_UP)
    bench.assert_error(job, "ModemGone", hint="replug")
    bench.assert_unchanged()


def test_unplugged_again_and_again(bench):
    """No step is ever finished: that is said, and what helps."""
    bench.start("fault=unplug@command:8", "fault_always=yes", "replug_ms=5")
    job = bench.flash()
    bench.assert_error(job, "ModemGone", "goes away by itself", "not one piece was finished in 4 windows", hint="bridge-usb-boot")
    bench.assert_unchanged()


def test_nobody_there(bench):
    bench.start("fault=unplug@in:1", "replug_ms=-1")
    job = bench.flash(wait_device_usec=GIVE_UP)
    assert_ends_well(job)
    assert job.error == "ModemGone" and job.hint, job.words


@pytest.mark.parametrize("told", ["zero", "huge", "negative", "garbage", "none"])
def test_numbers_of_the_storage(bench, told):
    bench.start("storage_info=" + told)
    job = bench.flash()
    assert_ends_well(job)
    bench.assert_refused(job, "GeometryDiffers")


@pytest.mark.parametrize("settings", [("split=1",), ("glue=yes",), ("trailing_nuls=500",), ("raw_glued=yes",), ("garbage_text=yes",),
                                      ("in_zlp=each",), ("in_zlp=no",), ("configure=nak-once",), ("configure=second-nak",),
                                      ("configure=larger",), ("payload_max=4096",), ("payload_max=1048576",), ("chatty=40",),
                                      ("logs_after_response=yes",)])
def test_ways_of_speaking_that_are_no_fault(bench, settings):
    bench.start(*settings)
    bench.assert_done(bench.flash())


# ---- a partition table that was made to harm ----

def put(offset, form, *values):
    def bend(pages):
        struct.pack_into(form, pages, PAGE + offset, *values)
        struct.pack_into("<I", pages, 3 * PAGE + 12, layout.mibib_crc(pages[:2 * PAGE]))
    return bend


def entry(n, first=None, count=None, name=None):
    def bend(pages):
        at = PAGE + 16 + 28 * n
        if name is not None:
            pages[at:at + 16] = name.ljust(16, b"\0")
        if first is not None:
            struct.pack_into("<I", pages, at + 16, first)
        if count is not None:
            struct.pack_into("<I", pages, at + 20, count)
        struct.pack_into("<I", pages, 3 * PAGE + 12, layout.mibib_crc(pages[:2 * PAGE]))
    return bend


HOSTILE = {
    "count 2^32-1": put(12, "<I", 0xFFFFFFFF),
    "count 129": put(12, "<I", 129),
    "count 0": put(12, "<I", 0),
    "count beyond the page": put(12, "<I", 147),
    "version 2^32-1": put(8, "<I", 0xFFFFFFFF),
    "overlap": entry(5, first=70),
    "beyond the chip": entry(7, first=5000),
    "ends beyond the chip": entry(7, count=5000),
    "first wraps": entry(7, first=0xFFFFFFFE, count=8),
    "length wraps": entry(5, count=0xFFFFFFF0),
    "length 0": entry(5, count=0),
    "grows in the middle": entry(5, count=0xFFFFFFFF),
    "no name": entry(5, name=b""),
    "name without an end": entry(5, name=b"0:" + b"T" * 14),
    "name of control bytes": entry(5, name=b"\x1b[2J\n"),
    "name twice": entry(5, name=b"0:sec"),
    "name of format": entry(5, name=b"%s%n%n%n"),
    "all ones": lambda pages: pages.__setitem__(slice(PAGE + 16, 2 * PAGE), b"\xff" * (PAGE - 16)),
}


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_hostile_table(bench, kind):
    """Taken for no table at all or refused by name; the package's own table still protects the unit's data."""
    bench.make_flash()
    bench.wipe(10, 11)
    bench.poke_table(TABLE, spoil=HOSTILE[kind])
    bench.start()
    job = bench.flash()
    assert_ends_well(job)
    if job.result != "done":
        assert job.error in ("EraseCalibration", "FirmwareInvalid", "GeometryDiffers"), job.words
        bench.assert_unchanged()
    for line in job.log:
        assert all(ord(c) >= 32 for c in line), line


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_hostile_table_with_the_newest_age_hides_nothing(bench, kind):
    """Beside a good copy: what the good one protects stays protected."""
    bench.make_flash()
    bench.poke_table(TABLE, block=12, age=0xFFFFFFFF, spoil=HOSTILE[kind])
    bench.start()
    job = bench.flash(("--break", "renamed-efs2"))
    assert_ends_well(job)
    bench.assert_refused(job, job.error)


def test_table_with_pages_that_cannot_be_read(bench):
    bench.start("unreadable=%d,%d" % (10 * PAGES, 11 * PAGES + 1))
    job = bench.flash()
    assert_ends_well(job)
    assert blocks_of("EFS2")[0] == 20
