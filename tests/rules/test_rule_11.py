# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flash rule 11: before the first erase a modem goes back to where it was; after it, it stays where it can be helped."""
import tempfile

import pytest

from conftest import GIVE_UP, VERSION, Bench, blocks_of, PAGES

TAKEN = ("initial=working", "start=sahara")  # a healthy modem that was switched to 9008 for this

# settings, options of the flash, arguments of the package, the error
EARLY = {
    "vendor refuses": (("vendor=refuse",), {}, ("--vendor-tag",), "WrongFirmware"),
    "other project": (("project=RM502QAEAA",), {"known": None}, (), "WrongFirmware"),
    "other geometry": (("storage_info=wrong",), {}, (), "GeometryDiffers"),
        "image does not fit": (("bad=87,88,89,90",), {}, (), "FirmwareInvalid"),
    "calibration": ((), {}, ("--break", "renamed-efs2"), "EraseCalibration"),
    "other chip": (("hwid=000960e100040000",), {}, (), "WrongFirmware"),
    "programmer refused": (("pkhash=" + "11" * 32,), {}, (), "ProgrammerRejected"),
}


@pytest.mark.parametrize("case", sorted(EARLY))
def test_taken_from_normal_goes_back(bench, case):
    settings, options, arguments, error = EARLY[case]
    bench.start(*TAKEN, "sahara_reset=reboot", *settings)
    job = bench.flash(arguments, came_from_normal=1, **options)
    bench.assert_error(job, error)
    assert job.log_has("reset to normal mode") and not job.holding, job.log[-5:]
    modem = bench.modem
    for _ in range(3):
        if not modem.normal:
            modem.accept()
    assert modem.normal
    bench.assert_unchanged()


def test_storage_that_does_not_open_is_reset_too(bench):
    """It would boot into 9008 again; that it was told to reset is what we can do."""
    bench.start(*TAKEN, "storage=dead")
    job = bench.flash(came_from_normal=1)
    bench.assert_error(job, "FirehoseFailed")
    assert len(bench.assert_unchanged().resets) == 1


@pytest.mark.parametrize("case", sorted(EARLY))
def test_found_in_9008_stays_there(bench, case):
    settings, options, arguments, error = EARLY[case]
    bench.start(*TAKEN, *settings)
    job = bench.flash(arguments, **options)
    bench.assert_error(job, error)
    trace = bench.assert_unchanged()
    assert trace.resets == [] and not trace.having("sahara in RESET"), trace.lines[-5:]


def test_cancelled_before_the_first_erase(bench, rehearsal):
    """While the modem holds the last command in front of it."""
    def cancel(job):
        job.send(["CANCEL=1"])
        bench.modem.go_on()
    bench.start(*TAKEN, "fault=stop@command:%d" % (rehearsal(settings=TAKEN).erases[0].number - 1))
    job = bench.flash(came_from_normal=1, on_stop=cancel)
    assert job.result == "cancelled", job.words
    assert job.log_has("reset to normal mode")
    bench.assert_unchanged()


def test_cancelled_after_the_first_erase_goes_on(bench):
    """Half a flash helps nobody: Cancel is refused by what the worker says of itself."""
    def cancel(job):
        if "DESTRUCTIVE" in job.values and not job.killed:
            job.killed = True
            assert job.values["CANCELABLE"] == "0" and job.values["UNSAFE"] == "1"
            job.send(["CANCEL=1"])
    bench.start(*TAKEN)
    job = bench.flash(came_from_normal=1, on_message=cancel)
    bench.assert_done(job)


LATE = {
    "flipped page": ("flip=%d" % (blocks_of("TZ")[0] * PAGES), "DigestMismatch"),
    "flash dying": ("fail_erase=1,2,3,4", "FirehoseFailed"),
}


@pytest.mark.parametrize("case", ["flipped page", "flash dying"])
def test_after_the_first_erase_it_is_held(bench, case):
    setting, error = LATE[case]
    bench.start(*TAKEN, setting)
    job = bench.flash(came_from_normal=1)
    bench.assert_error(job, error)
    assert job.holding and job.hint, job.words
    assert job.log_has("same call made again continues"), job.log[-5:]
    trace = bench.trace()
    assert trace.resets == [] and not trace.having("sahara in RESET")


def test_the_held_modem_is_taken_over(bench):
    """The same call on the holder's modem: the programmer still runs, no second upload, and it ends well."""
    bench.start(*TAKEN, "flip=%d" % (blocks_of("TZ")[0] * PAGES))
    job = bench.flash(came_from_normal=1)
    assert job.holding
    job = bench.flash(came_from_normal=1)
    trace = bench.assert_done(job)
    assert job.log_has("continuing an interrupted flash"), job.log[:10]
    erased = [c.partition for c in trace.erases]
    assert erased.count("SBL") == 1 and erased.count("sec") == 1 and erased.count("TZ") == 2, erased
    assert int(job.report["resumed"]) > 0


@pytest.mark.parametrize("index", range(6))
def test_interrupted_and_continued(bench, rehearsal, index):
    """At each change: the same call continues, what is right stays, and the end is the same."""
    change = rehearsal("--break", "other-table", settings=TAKEN).changes[1:][index]
    bench.start(*TAKEN, "fault=unplug@done:%d" % change.number, "replug_ms=-1")
    job = bench.flash(("--break", "other-table"), wait_device_usec=GIVE_UP)
    assert job.result == "interrupted" and job.hint, job.words
    bench.start()
    job = bench.flash(("--break", "other-table"))
    trace = bench.assert_done(job)
    assert job.log_has("continuing an interrupted flash")
    assert not [c for c in trace.erases if c.partition == "SBL"], "SBL was erased already"


STOPPED = (*TAKEN, "bad=%d" % (blocks_of("TZ")[0] + 1))  # so that TZ is erased block by block


@pytest.mark.parametrize("part", range(4))
def test_a_stop_ends_with_the_command_in_hand(packages, rehearsal, part):
    """The service stops while the modem holds a command: whichever it is, none comes behind it, and the same call continues.
    Those of SBL are the exception: it is known to be right or to be erased before anybody leaves."""
    arguments = ("--break", "other-table")
    whole = rehearsal(*arguments, settings=STOPPED)
    after = [c for c in whole.commands if whole.changes[0].number <= c.number < whole.resets[0].number]
    assert len(after) > 30 and {"erase", "program", "read", "getsha256digest"} <= {c.tag for c in after}
    for c in after[part::4]:
        with tempfile.TemporaryDirectory(prefix="qdld-rules.") as directory:
            bench = Bench(directory, packages)

            def stop(job):
                job.send(["STOP=1"])
                bench.modem.go_on()
            bench.start(*STOPPED, "fault=stop@command:%d" % c.number)
            job = bench.flash(arguments, on_stop=stop)
            assert job.result == "interrupted" or c.partition == "SBL", (c, job.words)
            late = [d for d in bench.trace().commands if d.number > c.number]
            if c.partition != "SBL":
                assert late == [], (c, late)
            elif job.result == "interrupted":
                assert all(d.tag == "power" or d.partition == "SBL" for d in late), (c, late)
            if job.result != "done" and c.tag in ("erase", "program"):
                bench.start(*STOPPED)
                trace = bench.assert_done(bench.flash(arguments))
                # An image that is there is looked behind, and not written again.
                assert c.tag == "erase" or c.partition == "SBL" or c.partition not in {d.partition for d in trace.programs}, c
            bench.close()


@pytest.mark.parametrize("what", ["package", "option", "unit"])
def test_another_call_does_not_continue(bench, rehearsal, what):
    """The journal belongs to this package, these options and this unit."""
    bench.start(*TAKEN, "fault=unplug@command:%d" % rehearsal(settings=TAKEN).programs[0].number, "replug_ms=-1")
    assert bench.flash(wait_device_usec=GIVE_UP).result == "interrupted"
    bench.stop()
    bench.start(*(["serial=5eed0001"] if what == "unit" else []))
    arguments = ("--seed", "9") if what == "package" else ()
    job = bench.flash(arguments, **({"modem_version": VERSION} if what == "option" else {}))
    bench.assert_done(job)
    assert job.log_has("starting from the beginning") and not job.log_has("continuing"), job.log[:5]


@pytest.mark.parametrize("damage", ["garbage", "flip", "cut"])
def test_broken_journal_is_not_believed(bench, rehearsal, damage):
    bench.start(*TAKEN, "fault=unplug@command:%d" % rehearsal(settings=TAKEN).programs[-1].number, "replug_ms=-1")
    assert bench.flash(wait_device_usec=GIVE_UP).result == "interrupted"
    data = bytearray(open(bench.journal, "rb").read())
    if damage == "garbage":
        data = bytearray(b"\xa5" * 5000)
    elif damage == "flip":
        data[20] ^= 1
    else:
        data = data[:len(data) - 7]
    open(bench.journal, "wb").write(data)
    bench.start()
    bench.assert_done(bench.flash())
