# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flash rule 3: the vendor tag is a whole-chip erase to a programmer that does not know it."""
import pytest

from conftest import GIVE_UP, PAGES, VERSION, blocks_of

EVERYTHING_BUT = "skip_bad_block,last_sector,getsha256digest,PAGES_PER_BLOCK"


def forget_rawdata(bench):
    bench.make_flash()
    bench.wipe(blocks_of("RAWDATA")[0])
    return bench


def assert_harmless(c):
    """The four attributes that make it an erase of one block even to a programmer that takes it for one."""
    a = c.attributes
    assert a["SECTOR_SIZE_IN_BYTES"] == "4096" and a["start_sector"] == "0", c
    assert a["num_partition_sectors"] == str(PAGES) and a["last_sector"] == str(PAGES - 1), c
    assert a["c_project_name"], c
    assert len(c.pairs) == len(a), c


def test_sent_once_and_before_any_erase(bench):
    bench.start()
    job = bench.flash(("--vendor-tag",))
    trace = bench.assert_done(job)
    assert len(trace.vendors) == 1
    assert_harmless(trace.vendors[0])
    assert trace.vendors[0].attributes["c_project_name"] == "RM502QGLAA"
    assert trace.vendors[0].number < trace.changes[0].number
    assert job.report["vendor-check"] == "the modem agreed"


def test_never_without_the_literal(bench):
    """To the virtual modem with such a programmer the tag is what it is to a real one."""
    bench.start()
    job = bench.flash(("--vendor-tag", "--literals", EVERYTHING_BUT))
    trace = bench.assert_done(job)
    assert trace.vendors == [] and not trace.having("whole")
    assert "not sent" in job.report["vendor-check"], job.report


def test_never_without_a_value(bench):
    bench.start()
    job = bench.flash(("--break", "empty-project"))
    trace = bench.assert_done(job)
    assert trace.vendors == []


def test_programmer_that_lies(bench):
    """The literal is there, the code is not: what is left of the tag is an erase of the first block."""
    bench.start("vendor=unknown")
    job = bench.flash(("--vendor-tag",))
    trace = bench.assert_done(job)
    assert job.report["vendor-check"] != "the modem agreed"
    assert_harmless(trace.vendors[0])
    assert trace.having("nand erase first=0 blocks=1 last=0")


def test_never_to_a_programmer_that_was_running(bench):
    """Whose literals nobody has read."""
    bench.start("start=firehose", "family=9x07")
    job = bench.flash(("--vendor-tag",))
    assert bench.trace().vendors == [], job.words


def test_uploaded_anew_it_may_be_asked(bench):
    bench.start("start=firehose")
    job = bench.flash(("--vendor-tag",))
    trace = bench.assert_done(job)
    assert any(c.attributes.get("value") == "reset_to_edl" for c in trace.commands)
    assert len(trace.vendors) == 1


@pytest.mark.parametrize("project,vendor", [("RM502QAEAA", "check"), ("RM502QGLAA", "refuse")])
def test_nak_stops_with_nothing_erased(bench, project, vendor):
    bench.start("project=" + project, "vendor=" + vendor)
    job = bench.flash(("--vendor-tag",))
    bench.assert_refused(job, "WrongFirmware")
    assert "error!" in job.values["WORDS"], job.values


def test_nak_of_another_type(bench):
    bench.start("project_type=OEM")
    bench.assert_refused(bench.flash(("--vendor-tag",)), "WrongFirmware")


@pytest.mark.parametrize("after_nak", ["continue", "hang"])
def test_nak_is_not_lifted_by_anything(bench, after_nak):
    """--allow=WrongFirmware is our own refusal's name; the programmer's is final."""
    bench.start("vendor=refuse", "after_nak=" + after_nak)
    job = bench.flash(("--vendor-tag",), allow="WrongFirmware", modem_version=VERSION)
    assert job.result == "failed", job.words
    bench.assert_unchanged()


def test_ok_counts_as_agreement(bench):
    forget_rawdata(bench).start("vendor=agree")
    bench.assert_done(bench.flash(("--vendor-tag",), known=None))


@pytest.mark.parametrize("vendor", ["check", "notfound"])
def test_not_find_is_no_agreement(bench, vendor):
    """ACKed, and yet nobody has compared anything."""
    forget_rawdata(bench).start("vendor=" + vendor)
    job = bench.flash(("--vendor-tag",), known=None)
    bench.assert_refused(job, "VersionUnknown")
    assert len(bench.trace().vendors) == 1


@pytest.mark.parametrize("settings", [("logs_after_response=yes",), ("glue=yes",), ("split=7",), ("chatty=20",), ("garbage_text=yes",)])
def test_agreement_in_every_manner_of_speaking(bench, settings):
    forget_rawdata(bench).start("vendor=agree", *settings)
    job = bench.flash(("--vendor-tag",), known=None)
    bench.assert_done(job)


@pytest.mark.parametrize("settings", [("logs_after_response=yes",), ("glue=yes",), ("split=7",), ("chatty=20",)])
def test_disagreement_in_every_manner_of_speaking(bench, settings):
    bench.start("project=RM502QAEAA", *settings)
    bench.assert_refused(bench.flash(("--vendor-tag",)), "WrongFirmware")


def test_hostile_name_never_gets_there(bench):
    bench.start()
    job = bench.flash(("--break", "hostile-project"))
    bench.assert_error(job, "FirmwareInvalid", "c_project_name")
    assert bench.assert_unchanged().bytes_out == []


def test_asked_again_as_long_as_nothing_was_erased(bench, rehearsal):
    """Unplugged before the answer: the same call asks again."""
    bench.start("fault=unplug@done:%d" % rehearsal("--vendor-tag").vendors[0].number, "replug_ms=-1")
    job = bench.flash(("--vendor-tag",), wait_device_usec=GIVE_UP)
    assert job.result != "done"
    first = bench.trace()
    bench.start()
    job = bench.flash(("--vendor-tag",))
    trace = bench.assert_done(job)
    assert first.changes == [] and len(trace.vendors) == 1
