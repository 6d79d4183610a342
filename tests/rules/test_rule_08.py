# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flash rule 8: every command is ACKed, and an ACK proves nothing; the map of bad blocks comes from reads alone."""
import pytest

from conftest import GIVE_UP, PAGES, blocks_of, flashfile

TZ = blocks_of("TZ")  # 10 blocks, its image needs one
SBL = blocks_of("SBL")
SEC = blocks_of("sec")
MIBIB = blocks_of("MIBIB")  # looked at, and not written: the tables are equal
KINDS = ["physical", "good-ack", "good-nak", "spill"]
BAD = {
    "first": [TZ[0]], "last": [TZ[-1]], "middle": [TZ[4]], "consecutive": [TZ[0], TZ[1], TZ[2]], "alternating": list(TZ[::2]),
    "all-but-the-first": list(TZ[1:]), "all-but-the-last": list(TZ[:-1]), "sbl-first": [SBL[0]], "sbl-all-but-one": list(SBL[:-1]),
    "three-partitions": [TZ[0], SBL[3], SEC[1]], "before-unit-data": [MIBIB[-1], SEC[-1]],
}


def listed(blocks):
    return "bad=" + ",".join(map(str, blocks))


def assert_erased_one_by_one(trace, bad):
    """Partition without bad block: one erase; otherwise one a good block; known-bad blocks never."""
    bad = set(bad)
    for c in trace.erases:
        own = set(blocks_of(c.partition))
        assert not set(c.blocks) & bad, c
        assert len(c.blocks) == (1 if own & bad else len(own)), c
    for name in ("SBL", "TZ", "sec"):
        got = [b for c in trace.erases for b in c.blocks if b in blocks_of(name)]
        assert sorted(got) == [b for b in blocks_of(name) if b not in bad], name


@pytest.mark.parametrize("where", sorted(BAD))
def test_bad_blocks(bench, where):
    bench.start(listed(BAD[where]))
    job = bench.flash()
    trace = bench.assert_done(job)
    assert_erased_one_by_one(trace, BAD[where])
    expected = len([b for b in BAD[where] if b in TZ or b in SBL or b in SEC or b in MIBIB])
    assert job.report["bad-blocks"].startswith("%d, 0 of them new" % expected), job.report


@pytest.mark.parametrize("where", ["first", "last", "consecutive", "sbl-first", "before-unit-data"])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_bad_blocks_with_every_kind_of_erase(bench, kind, where):
    """Whatever an erase counts, it means the same to all block by block."""
    bench.start("erase_kind=" + kind, listed(BAD[where]))
    trace = bench.assert_done(bench.flash())
    assert_erased_one_by_one(trace, BAD[where])


@pytest.mark.parametrize("kind", KINDS)
def test_no_bad_block_is_one_erase(bench, kind):
    bench.start("erase_kind=" + kind)
    assert_erased_one_by_one(bench.assert_done(bench.flash()), [])


@pytest.mark.parametrize("kind", KINDS)
def test_programmer_that_hides_bad_blocks(bench, kind):
    """It is never asked for a map, and the report does not claim one."""
    bench.start("erase_kind=" + kind)
    job = bench.flash(("--literals", "last_sector,getsha256digest,c_project_name,PAGES_PER_BLOCK"))
    trace = bench.assert_done(job)
    assert all("skip_bad_block" not in c.attributes for c in trace.commands)
    assert job.report["bad-blocks"].startswith("not known"), job.report


# ---- blocks that go bad in the job ----

@pytest.mark.parametrize("block", [TZ[0], TZ[1], TZ[-1], SEC[0], SBL[0], SBL[5]])
def test_goes_bad_when_erased(bench, block):
    bench.start("fail_erase=%d" % block)
    job = bench.flash()
    bench.assert_done(job)
    assert "1 of them new" in job.report["bad-blocks"] and str(block) in job.report["bad-blocks"], job.report


@pytest.mark.parametrize("block", [TZ[0], SEC[0], SBL[0]])
def test_goes_bad_when_programmed(bench, block):
    bench.start("fail_program=%d" % block)
    job = bench.flash()
    bench.assert_done(job)
    assert "1 of them new" in job.report["bad-blocks"], job.report


def test_error_logs_of_an_acked_erase_are_reported(bench):
    """The erase of a block that goes bad is ACKed; its ERROR log is kept and shown."""
    bench.start("fail_erase=%d" % TZ[3])
    job = bench.flash()
    trace = bench.assert_done(job)
    erase = next(c for c in trace.erases if c.partition == "TZ")
    assert erase.answer == "ACK" and trace.having("log ERROR: Erase of block %d failed" % TZ[3])
    assert int(job.report["error-logs"]) >= 1
    assert any(line.startswith("ERROR: ") and "Erase of block %d failed" % TZ[3] in line for line in job.log), job.log
    assert any(line.startswith("WARN: ") and "what is in the flash decides" in line for line in job.log)


@pytest.mark.parametrize("fails", ["fail_erase", "fail_program"])
def test_three_may_go_bad(bench, fails):
    bench.start("%s=%s" % (fails, ",".join(map(str, TZ[:3]))))
    job = bench.flash()
    bench.assert_done(job)
    assert "3 of them new" in job.report["bad-blocks"], job.report


@pytest.mark.parametrize("settings", [("fail_erase=78,79,80,81",), ("fail_program=77,78,79,80",), ("fail_erase=1,2,78,87",),
                                      ("fail_erase=1,2", "fail_program=77,87")])
def test_more_than_three_is_the_end(bench, settings):
    """The flash is dying: stop, and leave SBL erased."""
    bench.start(*settings)
    job = bench.flash()
    bench.assert_error(job, "FirehoseFailed", "4 blocks", hint="contact-vendor")
    trace = bench.trace()
    assert trace.resets == [] and all(c.partition != "SBL" for c in trace.programs)
    assert bench.sbl_is_erased() and bench.boots() == "edl"


def test_the_limit_holds_over_calls(bench, rehearsal):
    """Three in the first call, one in the second: the flash is dying as if it had been one."""
    dying = "fail_erase=78,79,80"
    bench.start(dying, "fault=unplug@command:%d" % rehearsal(settings=(dying,)).programs[0].number, "replug_ms=-1")
    job = bench.flash(wait_device_usec=GIVE_UP)
    assert job.result == "interrupted", job.words
    bench.stop()
    bench.start("fail_program=77")
    job = bench.flash()
    assert job.log_has("continuing an interrupted flash")
    bench.assert_error(job, "FirehoseFailed", "4 blocks", hint="contact-vendor")
    # Nor does it begin anew with a third call, which changes nothing any more.
    bench.stop()
    bench.start()
    bench.assert_error(bench.flash(), "FirehoseFailed", "4 blocks", hint="contact-vendor")
    assert bench.trace().changes == []


def test_bad_before_are_no_new_ones(bench):
    bench.start(listed([TZ[1], TZ[2], TZ[3], TZ[4]]), "fail_erase=%d,%d" % (TZ[5], TZ[6]))
    job = bench.flash()
    bench.assert_done(job)
    assert job.report["bad-blocks"].startswith("6, 2 of them new"), job.report


def test_partition_that_runs_out_of_good_blocks(bench):
    """All but one are bad, and that one goes bad now."""
    bench.start(listed(SEC[:-1]), "fail_program=%d" % SEC[-1])
    bench.may_violate = ("runs out of good blocks",)
    job = bench.flash()
    assert job.result == "failed" and job.error == "FirehoseFailed", job.words
    assert bench.trace().resets == [] and bench.boots() == "edl"


# ---- an ACK proves nothing ----

@pytest.mark.parametrize("block", [TZ[1], TZ[2]])
def test_stale_data_behind_an_image(bench, block):
    """An erase that was ACKed and not done: found by reading, and the block is erased for itself."""
    bench.start("erase_skips=%d" % block)
    job = bench.flash()
    trace = bench.assert_done(job)
    assert trace.having("nand erase skips block=%d" % block)
    assert any(list(c.blocks) == [block] for c in trace.erases), trace.erases
    assert job.log_has("block %d" % block)


@pytest.mark.parametrize("block", [TZ[1], TZ[2]])
def test_stale_data_that_stay(bench, block):
    bench.start("erase_skips=%d" % block, "erase_skips_always=yes")
    job = bench.flash()
    bench.assert_error(job, "FirehoseFailed", "block %d" % block, hint="contact-vendor")
    assert bench.trace().resets == [] and bench.boots() == "edl"


def test_sbl_that_stays(bench):
    """The erase of SBL is looked at before anything else is touched."""
    bench.start("initial=working", "start=sahara", "erase_skips=0", "erase_skips_always=yes")
    job = bench.flash()
    bench.assert_error(job, "FirehoseFailed", "block 0")
    assert {c.partition for c in bench.trace().changes} == {"SBL"}


@pytest.mark.parametrize("fill", ["ff", "ee"])
@pytest.mark.parametrize("byte", [0xEE, 0xFA, 0x00, 0xBD])
def test_stale_data_that_look_like_a_fill(bench, fill, byte):
    """Uniform pages left behind the image; only what this programmer's own fill looks like cannot be told apart."""
    bench.make_flash()
    for i in range(PAGES):
        bench.poke(TZ[5] * PAGES + i, bytes([byte]) * 4096)
    bench.start("erase_skips=%d" % TZ[5], "fill=" + fill)
    job = bench.flash()
    trace = bench.trace()
    assert job.result == "done" or job.error, job.words
    if (fill, byte) == ("ee", 0xEE):
        return
    with bench.flashed() as f:
        left = any(f.states(TZ[5]))
    # Also 0xBD, which is what a bad block looks like: a logical read tells that it is good.
    assert job.result == "done" and not left, (job.words, job.log[-10:])
    assert any(TZ[5] in c.blocks for c in trace.erases)


def test_sbl_erase_of_a_chip_that_shows_ee(bench):
    bench.start("fill=ee")
    bench.assert_done(bench.flash())


@pytest.mark.parametrize("tag", ["erase", "program"])
def test_every_nak_stops(bench, rehearsal, tag):
    """No command is optional, and nothing but the erase of an SBL that is not known to be right follows a refused one."""
    for c in [x for x in rehearsal().changes if x.tag == tag]:
        bench.made, bench.before = False, None
        if bench.modem:
            bench.stop()
        if flashfile.os.path.exists(bench.journal):
            flashfile.os.unlink(bench.journal)
        bench.start("fault=nak@command:%d" % c.number)
        job = bench.flash()
        bench.assert_error(job, "FirehoseFailed")
        trace = bench.trace()
        behind = [x for x in trace.changes if x.number > c.number]
        assert c.number in [x.number for x in trace.changes], trace.changes
        if c.tag == "program" and c.partition == "SBL":
            assert behind and all(x.tag == "erase" and x.partition == "SBL" for x in behind), behind
        else:
            assert behind == [], behind
        assert trace.resets == []
