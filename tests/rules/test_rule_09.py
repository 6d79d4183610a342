# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flash rule 9: verified is what is there."""
import pytest

from conftest import GIVE_UP, PAGES, blocks_of

TZ, SEC, SBL, MIBIB = (blocks_of(n)[0] * PAGES for n in ("TZ", "sec", "SBL", "MIBIB"))
WITHOUT_DIGEST = ("--literals", "skip_bad_block,last_sector,c_project_name,PAGES_PER_BLOCK")
# First, a middle and the last page of each image (12, 20, 4 KiB; the table's pages that a reader needs).
PAGES_OF = {"TZ": [TZ, TZ + 2, TZ + 4], "sec": [SEC], "SBL": [SBL, SBL + 1, SBL + 2], "MIBIB": [MIBIB, MIBIB + 1, MIBIB + 3]}
FLIPS = [(name, page) for name in sorted(PAGES_OF) for page in PAGES_OF[name]]


def package_for(name):
    return ("--break", "other-table") if name == "MIBIB" else ()


@pytest.mark.parametrize("digest", ["digest", "read-back", "wrong-digest"])
@pytest.mark.parametrize("name,page", FLIPS)
def test_one_flipped_bit(bench, name, page, digest):
    """Found in every image; the modem is not reset, it does not boot, and the same call repairs it."""
    if name == "MIBIB" and digest == "read-back":
        pytest.skip("two breaks at once")
    arguments = package_for(name) + (WITHOUT_DIGEST if digest == "read-back" else ())
    bench.start("flip=%d" % page, "initial=working", "start=sahara", *(["digest=wrong"] if digest == "wrong-digest" else []))
    job = bench.flash(arguments)
    bench.assert_error(job, "DigestMismatch", name, "page %d" % (page - blocks_of(name)[0] * PAGES))
    trace = bench.trace()
    assert trace.having("nand flip page=%d" % page)
    assert trace.resets == []
    assert bench.sbl_is_erased(), "an SBL that is not right, or one in front of something that is not, must not be there"
    assert bench.boots() == "edl"
    bench.start()
    bench.assert_done(bench.flash(arguments))


def test_wrong_sbl_is_erased_again(bench):
    bench.start("flip=%d" % SBL)
    job = bench.flash()
    bench.assert_error(job, "DigestMismatch", "SBL")
    last = bench.trace().changes[-1]
    assert (last.tag, last.partition) == ("erase", "SBL")
    assert job.log_has("erased again")
    assert job.holding


def test_flip_that_repeats_never_passes(bench):
    bench.start("flip=%d" % (TZ + 1), "flip_always=yes")
    for _ in range(3):
        bench.assert_error(bench.flash(), "DigestMismatch", "TZ")
    assert bench.trace().resets == [] and bench.boots() == "edl"


@pytest.mark.parametrize("fill", ["ff", "ee"])
@pytest.mark.parametrize("setting", ["digest=wrong", "digest=off", "digest_form=bare", "digest_form=attribute", "digest_form=short",
                                     "digest_form=long", "digest_form=no-hex"])
def test_read_back_decides(bench, setting, fill):
    """A digest that is wrong, unreadable or not there is no failure and no proof: the pages are."""
    bench.start(setting, "fill=" + fill)
    trace = bench.assert_done(bench.flash())
    whole = {(c.first, c.count) for c in trace.of("read") if "skip_bad_block" not in c.attributes}
    images = {(c.first, c.count) for c in trace.programs}
    if setting in ("digest_form=bare", "digest_form=attribute"):
        assert len(trace.of("getsha256digest")) == len(images)
    else:
        assert images <= whole, (images, whole)


@pytest.mark.parametrize("setting", ["digest_form=short", "digest_form=long", "digest_form=no-hex"])
def test_unreadable_digest_hides_nothing(bench, setting):
    bench.start(setting, "flip=%d" % TZ)
    bench.assert_error(bench.flash(), "DigestMismatch", "TZ")


def test_digest_covers_exactly_what_was_sent(bench):
    bench.start()
    trace = bench.assert_done(bench.flash())
    sent = [(c.first, c.count, c.last) for c in trace.programs]
    proven = [(c.first, c.count, c.last) for c in trace.of("getsha256digest")]
    assert sorted(sent) == sorted(proven)


def test_programmer_without_digest_is_never_asked(bench):
    bench.start()
    trace = bench.assert_done(bench.flash(WITHOUT_DIGEST))
    assert trace.of("getsha256digest") == []


@pytest.mark.parametrize("fill", ["ff", "ee"])
@pytest.mark.parametrize("program_ff", ["yes", "no"])
@pytest.mark.parametrize("digest", ["auto", "off"])
def test_page_of_ones(bench, fill, program_ff, digest):
    """Nobody can tell a page programmed with nothing but ones from one that was passed over."""
    bench.start("fill=" + fill, "program_ff=" + program_ff, "digest=" + digest)
    job = bench.flash(("--page", "tz.mbn:2=ff"))
    if program_ff == "yes":
        bench.assert_done(job)
        return
    assert job.result == "done", job.words
    with bench.flashed() as f:
        for i in (0, 1, 3, 4):
            assert f.state(TZ + i) == 1
    assert bench.trace().having("boot normal")


@pytest.mark.parametrize("fill", ["ff", "ee"])
@pytest.mark.parametrize("byte", ["ee", "fa", "bd", "00"])
@pytest.mark.parametrize("digest", ["auto", "off"])
def test_page_of_real_data_that_look_like_a_fill(bench, fill, byte, digest):
    bench.start("fill=" + fill, "digest=" + digest)
    bench.assert_done(bench.flash(("--page", "tz.mbn:2=" + byte)))


@pytest.mark.parametrize("fill", ["ff", "ee"])
@pytest.mark.parametrize("byte", ["ee", "00", "ff"])
def test_flip_in_such_a_page_is_found(bench, fill, byte):
    bench.start("fill=" + fill, "flip=%d" % (TZ + 2))
    bench.assert_error(bench.flash(("--page", "tz.mbn:2=" + byte)), "DigestMismatch", "TZ", "page 2")


def test_whole_image_of_one_byte(bench):
    """Five pages of 0xEE are data to a programmer that fills with 0xFF."""
    arguments = tuple(x for n in (1, 2, 3) for x in ("--page", "tz.mbn:%d=ee" % n))
    bench.start()
    bench.assert_done(bench.flash(arguments))


def test_everything_is_verified_again_after_an_absence(bench, rehearsal):
    """Out of our control for a moment behind the verification: each image is proven again before SBL is written."""
    sbl = rehearsal().programs[-1]
    bench.start("fault=unplug@command:%d" % sbl.number)
    trace = bench.assert_done(bench.flash())
    written = next(i for i, c in enumerate(trace.commands) if c.tag == "program" and c.partition == "SBL")
    proven = [c.partition for c in trace.commands[:written] if c.tag == "getsha256digest"]
    assert proven.count("TZ") == 2 and proven.count("sec") == 2, proven


def test_what_rotted_meanwhile_is_written_again(bench, rehearsal):
    """The power goes behind the verification of TZ, and then one of its pages cannot be read any more."""
    sbl = rehearsal().programs[-1]
    bench.start("fault=unplug@command:%d" % sbl.number, "replug_ms=-1")
    job = bench.flash(wait_device_usec=GIVE_UP)
    assert job.result == "interrupted", job.words
    bench.stop()
    bench.start("unreadable=%d" % (TZ + 1))
    job = bench.flash()
    bench.assert_done(job)
    assert job.log_has("TZ was written and is not there any more")


def test_normal_mode_voids_the_journal(bench, rehearsal):
    """A modem that has run its firmware in the middle of a flash: nothing of what was proven before counts."""
    sbl = rehearsal("--no-sbl", settings=("initial=working", "start=sahara")).changes[-1]
    bench.start("initial=working", "start=sahara", "fault=unplug@done:%d" % sbl.number)
    job = bench.flash(("--no-sbl",))
    assert job.result != "done", job.words
    assert job.error == "ModemGone" and "runs its firmware" in job.message, job.words
    bench.stop()
    bench.start("start=sahara")
    job = bench.flash(("--no-sbl",))
    assert job.result == "done", job.words
    assert job.log_has("starting from the beginning") and not job.log_has("continuing"), job.log
    assert len(bench.trace().programs) == 2


def test_seen_in_9008_and_then_running(bench, rehearsal):
    """It comes back in 9008, is gone before anybody has it, and boots: the job does not wait for it in 9008 until its time is over."""
    program = [c for c in rehearsal().programs if c.first in blocks_of("SBL")][-1]
    bench.start("fault=unplug@command:%d" % (program.number + 1))
    said = []

    def on_message(job):
        if said or "DEVICE_LOST" not in job.values:
            return

        def offer():
            ids = ["VID=05c6", "PID=9008", "PRODUCT="] if not said else ["VID=2c7c", "PID=0800", "PRODUCT="]
            word = "normal" if said else "edl"
            if len(said) < 2 and {word, "normal"} <= job.waits:
                said.append(word)
                job.waits.clear()
                job.send(["APPEARED=" + word] + ids)
        job.offer = offer

    job = bench.flash(on_message=on_message)
    assert said == ["edl", "normal"], said
    assert job.error == "ModemGone" and "runs its firmware now" in job.message, job.words
