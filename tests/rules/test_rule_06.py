# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flash rule 6: SBL goes first and comes last, MIBIB directly behind the first, and in between the modem comes back in 9008."""
import pytest

from conftest import blocks_of


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
    trace = bench.assert_done(bench.flash(("--break", "other-table", "--vendor-tag")))
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
    trace = bench.assert_done(bench.flash())
    assert all(c.partition != "MIBIB" for c in trace.changes)
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
