# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flash rule 6: SBL goes first and comes last, MIBIB directly behind the first, and in between the modem comes back in 9008."""
import tempfile

import pytest

from conftest import GIVE_UP, PAGES, Bench, blocks_of


def story(trace):
    """(what, partition) of every command that changes or proves something, in the order of the wire."""
    out = []
    for c in trace.commands:
        if c.vendor:
            out.append(("vendor", None))
        elif c.tag in ("erase", "program"):
            out.append((c.tag, c.partition))
        elif c.tag == "getsha256digest":
            out.append(("verify", c.partition))
        elif c.tag == "power":
            out.append((c.attributes["value"], None))
    return out


def test_order(bench):
    bench.start()
    job = bench.flash(("--break", "other-table", "--vendor-tag"))
    trace = bench.assert_done(job)
    assert "usrdata from blocks" in job.report["partition-table"] and "MIBIB" in job.report["written"]
    assert story(trace) == [
        ("vendor", None),
        ("erase", "SBL"),
        ("erase", "MIBIB"), ("program", "MIBIB"), ("verify", "MIBIB"),
        ("erase", "sec"), ("erase", "TZ"),
        ("program", "TZ"), ("program", "sec"),
        ("verify", "TZ"), ("verify", "sec"),
        ("program", "SBL"), ("verify", "SBL"),
        ("reset", None)]


def test_equal_table_is_not_written(bench):
    bench.start()
    job = bench.flash()
    trace = bench.assert_done(job)
    assert all(c.partition != "MIBIB" for c in trace.changes)
    assert job.report["partition-table"].startswith("left as it was") and "MIBIB" not in job.report["written"]
    assert story(trace)[0] == ("erase", "SBL") and story(trace)[-3:] == [("program", "SBL"), ("verify", "SBL"), ("reset", None)]


@pytest.mark.parametrize("kind", ["no-sbl", "sbl-erase-only"])
def test_without_an_image_sbl_stays(bench, kind):
    """No image for sector 0: SBL is never erased, and everybody is told that the guarantee is absent."""
    bench.start("initial=working", "start=sahara")
    job = bench.flash(("--no-sbl",) if kind == "no-sbl" else ("--break", kind))
    assert job.result == "done", job.words
    assert job.log_has("no guarantee") and "no image for sector 0" in job.report["sbl-last"], job.report
    trace = bench.trace()
    assert all(not set(c.blocks) & set(blocks_of("SBL")) for c in trace.changes), trace.changes
    assert bench.boots() == "normal"


def test_part_of_sbl_is_not_erased_either(bench):
    """An erase of SBL from its second block on, without an image: SBL is more than sector 0."""
    bench.start("initial=working", "start=sahara")
    job = bench.flash(("--break", "sbl-tail-erase"))
    assert all(not set(c.blocks) & set(blocks_of("SBL")) for c in bench.trace().changes), job.words
    assert bench.boots() == "normal"


def test_part_of_sbl_is_not_written_either(bench):
    bench.start("initial=working", "start=sahara")
    bench.assert_error(bench.flash(("--break", "sbl-tail-write")), "FirmwareInvalid", "sector 0")
    assert bench.assert_unchanged().bytes_out == []


def test_part_of_sbl_by_the_modems_own_table(bench):
    bench.start("initial=working", "start=sahara")
    bench.assert_refused(bench.flash(("--break", "sbl-in-the-middle")), "FirmwareInvalid", "SBL")


def test_table_is_never_left_erased(bench):
    """A package that erases MIBIB and has no image for it; it has no table of its own either: the modem's own tells."""
    bench.start()
    bench.assert_refused(bench.flash(("--break", "mibib-erase-only")), "FirmwareInvalid", "MIBIB")


def test_package_without_a_table(bench):
    """One that leaves MIBIB alone is fine."""
    bench.start()
    trace = bench.assert_done(bench.flash(("--break", "no-table")))
    assert all(c.partition != "MIBIB" for c in trace.changes)


# ---- power loss ----

def run_with_power_loss(packages, arguments, fault, settings=()):
    """A working modem that loses its power for good at this point of the flash; in which mode does it come up, and
    does the same call finish what was begun?"""
    with tempfile.TemporaryDirectory(prefix="qdld-rules.") as directory:
        b = Bench(directory, packages)
        b.start(*WORKING, "fault=" + fault, "replug_ms=-1", *settings)
        job = b.flash(arguments, wait_device_usec=GIVE_UP)
        assert job.result != "done", (fault, job.words)
        mode = b.boots()
        if mode == "edl":
            b.start(*settings)
            b.assert_done(b.flash(arguments))
        b.close()
        return mode


WORKING = ("initial=working", "start=sahara")
WITH_TABLE = ("--break", "other-table")


CHANGES = 8  # of a flash with a table: SBL, MIBIB, sec and TZ, each erased and written
WRITES = 8  # transfers of its images


def test_power_loss_before_the_first_change(packages, rehearsal):
    trace = rehearsal(*WITH_TABLE, settings=WORKING)
    first, last = trace.changes[0], trace.changes[-1]
    assert (first.tag, first.partition, last.tag, last.partition) == ("erase", "SBL", "program", "SBL")
    assert len(trace.changes) == CHANGES
    assert run_with_power_loss(packages, WITH_TABLE, "unplug@command:%d" % first.number) == "normal", "nothing was changed yet"


@pytest.mark.parametrize("n", range(1, CHANGES))
def test_power_loss_before_a_change_leaves_9008(packages, rehearsal, n):
    c = rehearsal(*WITH_TABLE, settings=WORKING).changes[n]
    assert run_with_power_loss(packages, WITH_TABLE, "unplug@command:%d" % c.number) == "edl", c


@pytest.mark.parametrize("n", range(CHANGES - 1))
def test_power_loss_behind_a_change_leaves_9008(packages, rehearsal, n):
    c = rehearsal(*WITH_TABLE, settings=WORKING).changes[n]
    assert run_with_power_loss(packages, WITH_TABLE, "unplug@done:%d" % c.number) == "edl", c


def writes(trace):
    """The transfers of the images, SBL's own included."""
    found, tag = [], ""
    for line in trace.lines:
        if line.startswith("command "):
            tag = line.split()[2]
        elif line.startswith("out transfer=") and tag == "program" and int(line.split("length=")[1].split()[0]) >= 4096:
            found.append(int(line.split("transfer=")[1].split()[0]))
    return found


@pytest.mark.parametrize("n", range(WRITES))
def test_power_loss_while_writing_leaves_9008(packages, rehearsal, n):
    """In the middle of each transfer of an image."""
    points = writes(rehearsal(*WITH_TABLE, settings=WORKING))
    assert len(points) == WRITES
    assert run_with_power_loss(packages, WITH_TABLE, "unplug@out:%d+100" % points[n]) == "edl", points[n]


def test_no_reset_before_the_last_proof(bench):
    """One flipped bit in any image, and the modem is not reset."""
    for page in (blocks_of("TZ")[0] * PAGES + 3, 1):
        bench.made = False
        bench.start("flip=%d" % page)
        job = bench.flash()
        bench.assert_error(job, "DigestMismatch")
        assert bench.trace().resets == []


def test_image_changed_in_the_middle_is_found_before_sbl(bench, rehearsal):
    """Away for a while in front of the SBL write: all is verified again first (rule 9), SBL last."""
    sbl = rehearsal().programs[-1]
    bench.start("fault=unplug@command:%d" % sbl.number)
    trace = bench.assert_done(bench.flash())
    tags = story(trace)
    again = len(tags) - 1 - tags[::-1].index(("program", "SBL"))
    at = trace.lines.index(next(line for line in trace.lines if "fault unplug" in line))
    assert [t for t in tags[:again] if t[0] == "verify"].count(("verify", "TZ")) == 2, tags
    assert at < len(trace.lines)
