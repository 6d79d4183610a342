# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flash rule 5: before the first erase what must not be lost is read, judged and stored, or nothing is erased."""
import pytest

import backupfile
from conftest import GIVE_UP, PAGE, PAGES, VERSION, Trace, blocks_of, driver, file_job, flashfile, layout
from test_backup import ALWAYS, scatter

EFS2 = blocks_of("EFS2")[0] * PAGES


def last_read(trace):
    """The number of the last read before anything is changed: the backup is nearly whole."""
    return [c.number for c in trace.of("read") if c.number < trace.changes[0].number][-1]


def kept(bench):
    """What was saved is what lay there before the flash."""
    check = file_job("verify", bench.directory, bench.saved)
    assert check.result == "done", check.words
    b = backupfile.Backup(bench.saved)
    return b


def holds(bench, flash_before):
    b = kept(bench)
    difference = b.difference(flash_before)
    assert difference is None, difference
    return b


@pytest.fixture
def before(bench, tmp_path):
    """A copy of the flash as it was."""
    made = []

    def get():
        path = tmp_path / "before"
        path.write_bytes(open(bench.flash_path, "rb").read())
        made.append(flashfile.Flash(str(path)))
        return made[-1]
    yield get
    for f in made:
        f.close()


@pytest.mark.parametrize("fill", ["ff", "ee"])
def test_saved_before_the_first_erase(bench, before, fill):
    seen = []

    def answer(job):
        """Up to here nothing was changed."""
        seen.append(Trace(bench.traces[-1]).changes)
        driver.Job.answer_backup(job)
    bench.make_flash("initial=working")
    scatter(bench, "EFS2", "misc")
    old = before()
    bench.start("start=sahara", "fill=" + fill)
    job = bench.flash(answer=answer)
    bench.assert_done(job, "no-calibration")
    assert seen == [[]]
    b = holds(bench, old)
    assert set(b.parts) == ALWAYS and b.state == "complete" and b.manifest["kind"] == "calibration"
    assert job.report["backup"].startswith("5a" * 16), job.report
    assert job.values["BACKUP.sha256"] == b.manifest["content_sha256"]


def test_bad_blocks_in_between(bench, before):
    bench.make_flash("initial=working", "bad=20,41,63,72,91")
    old = before()
    bench.start("start=sahara")
    bench.assert_done(bench.flash())
    assert holds(bench, old).parts["EFS2"].bad == {20, 41, 63}


@pytest.mark.parametrize("what", ["refused", "no file"])
def test_not_stored(bench, what):
    def refuse(job):
        job.send(["BACKUP_REFUSED=1", "MESSAGE=the disk is full"])
    bench.start("initial=working", "start=sahara")
    options = {"refused": {"answer": refuse}, "no file": {"backup": False}}[what]
    job = bench.flash(**options)
    bench.assert_refused(job, "NoBackup", "--allow=NoBackup", "nothing was erased")


@pytest.mark.parametrize("what", ["refused", "no file"])
def test_not_stored_and_allowed(bench, what):
    def refuse(job):
        job.send(["BACKUP_REFUSED=1", "MESSAGE=the disk is full"])
    bench.start()
    options = {"refused": {"answer": refuse}, "no file": {"backup": False}}[what]
    job = bench.flash(allow="NoBackup", **options)
    bench.assert_done(job)
    assert job.report["backup"].startswith("no backup taken"), job.report


def test_cancelled_while_it_is_stored(bench):
    bench.start("initial=working", "start=sahara")
    job = bench.flash(answer=lambda j: j.send(["CANCEL=1"]))
    assert job.result == "cancelled", job.words
    bench.assert_unchanged()


def test_stopped_while_it_is_stored(bench):
    bench.start("initial=working", "start=sahara")
    job = bench.flash(answer=lambda j: j.send(["STOP=1"]))
    assert job.result == "interrupted", job.words
    bench.assert_unchanged()


@pytest.mark.parametrize("name", ["EFS2", "RAWDATA", "cust_info"])
def test_unreadable_unit_data(bench, name):
    """It stops and asks; what was asked is what lifts it."""
    page = blocks_of(name)[0] * PAGES
    bench.start("initial=working", "start=sahara", "unreadable=%d" % page)
    job = bench.flash()
    bench.assert_refused(job, "CalibrationAtRisk", name, "--allow=CalibrationAtRisk")
    assert job.backups == 0
    bench.start("start=sahara")
    job = bench.flash(allow="WrongFirmware,NoBackup")
    bench.assert_error(job, "CalibrationAtRisk")
    bench.start("start=sahara")
    job = bench.flash(allow="CalibrationAtRisk", reset=0)
    assert job.result == "done", job.words  # whether it boots is another matter
    assert kept(bench).state == "damaged"


def test_what_is_written_anew_may_be_unreadable(bench):
    """A brick's half-written SBL is why it is flashed."""
    sbl = blocks_of("SBL")[0] * PAGES
    bench.make_flash("initial=working")
    bench.start("start=sahara", "unreadable=" + ",".join(str(sbl + i) for i in range(60)))
    bench.assert_done(bench.flash())


def test_dying_flash(bench):
    """More than one page in a hundred: nothing lifts that."""
    pages = [p for block in blocks_of("misc") for p in range(block * PAGES, block * PAGES + 40)]
    bench.make_flash("initial=working")
    for p in pages:
        bench.poke(p, b"x")
    bench.start("start=sahara", "unreadable=" + ",".join(map(str, pages)))
    job = bench.flash(allow="CalibrationAtRisk,NoBackup,BackupDamaged")
    bench.assert_refused(job, "FirehoseFailed", "losing its data", hint="contact-vendor")


def test_dead_storage(bench):
    bench.start("storage=dead")
    bench.assert_refused(bench.flash(), "FirehoseFailed", hint="contact-vendor")


def test_blank_calibration(bench):
    bench.make_flash("initial=working")
    bench.wipe(*blocks_of("EFS2"))
    bench.start("start=sahara")
    job = bench.flash()
    bench.assert_done(job, "no-calibration")
    assert kept(bench).state == "blank" and "(calibration, blank)" in job.report["backup"]


@pytest.mark.parametrize("flaw,of,state", [
    ("factory-test", "49cbd7ef", "blank"), ("half-written", "", "damaged"), ("factory-test", "00000001", "complete"),
])
def test_what_is_remembered_against_its_calibration(bench, flaw, of, state):
    """Of this unit, or of whoever is here; of another one it says nothing."""
    bench.start("initial=working", "start=sahara")
    job = bench.flash(calibration_flaw=flaw, calibration_flaw_of=of)
    bench.assert_done(job)
    assert kept(bench).state == state and "(calibration, %s)" % state in job.report["backup"]


@pytest.mark.parametrize("why", ["no table", "version unknown", "foreign table"])
def test_whole_chip(bench, before, why):
    bench.make_flash("initial=working")
    options = {}
    if why == "no table":
        bench.wipe(*blocks_of("MIBIB"))
    elif why == "version unknown":
        bench.wipe(*blocks_of("RAWDATA"))
        options = {"known": None, "modem_version": VERSION}
    else:
        bench.wipe(11)
        places = {"EFS2": layout.blocks_of("usrdata"), "usrdata": layout.blocks_of("EFS2")}
        bench.poke_table([(n,) + places.get(n, (f, c)) for n, f, c in layout.PARTITIONS])
        options = {"allow": "EraseCalibration"}
        bench.unit_data_may_change = True
    old = before()
    bench.start("start=sahara")
    job = bench.flash(**options)
    assert job.result == "done", job.words
    b = holds(bench, old)
    assert b.manifest["kind"] == "nand" and sum(p.blocks for p in b.parts.values()) == 2048


def test_over_several_appearances(bench, before, rehearsal):
    """What was read stays; nothing is erased before all of it is stored."""
    bench.make_flash()
    old = before()
    bench.start("fault=unplug@done:%d" % last_read(rehearsal()))
    job = bench.flash()
    bench.assert_done(job)
    assert job.backups == 1
    holds(bench, old)


def test_gone_while_it_is_stored(bench, before):
    """It goes and comes back; the answer comes then."""
    late = []

    def answer(job):
        late.append(job)

    def on_message(job):
        if late and job.phases.count("gate") > 1:
            late.clear()
            driver.Job.answer_backup(job)
    bench.make_flash()
    old = before()
    bench.start("loop=hard", "window_ms=900", "gap_ms=30")
    job = bench.flash(answer=answer, on_message=on_message, boot_usec=100000)
    assert job.backups == 1 and job.values.get("DESTRUCTIVE") == "1", job.words
    holds(bench, old)


def test_continued_flash_does_not_save_again(bench, rehearsal):
    change = rehearsal().changes[2]
    bench.start("fault=unplug@done:%d" % change.number, "replug_ms=-1")
    job = bench.flash(wait_device_usec=GIVE_UP)
    assert job.result == "interrupted" and job.backups == 1, job.words
    bench.start()
    job = bench.flash()
    bench.assert_done(job)
    assert job.log_has("continuing an interrupted flash") and job.backups == 0
    assert "continues" in job.report["backup"]


def test_swapped_while_it_is_read(bench, rehearsal):
    bench.start("fault=unplug@done:%d" % last_read(rehearsal()), "swap_at=2")
    bench.assert_refused(bench.flash(), "WrongUnit")


def test_users_data_that_are_erased(bench, before):
    """A package that erases or replaces usrdata: what its owner has there is saved, too."""
    bench.make_flash("initial=working")
    scatter_block = blocks_of("usrdata")[3] * PAGES
    bench.poke(scatter_block, b"the owner's own" * 7)
    old = before()
    bench.start("start=sahara")
    job = bench.flash(bench.packages("--size", "3M"))
    bench.assert_done(job)
    b = holds(bench, old)
    assert set(b.parts) == ALWAYS | {"usrdata"}


def test_what_a_new_table_leaves_behind(bench, before):
    """usrdata begins elsewhere and the package has no image of it: nothing of it is erased, and nobody would find it any more.
    recoveryfs only grows, and stays what it is."""
    bench.make_flash("initial=working")
    bench.poke(blocks_of("usrdata")[3] * PAGES, b"the owner's own" * 7)
    old = before()
    bench.start("start=sahara")
    job = bench.flash(("--break", "other-table"))
    bench.assert_done(job)
    b = holds(bench, old)
    assert set(b.parts) == ALWAYS | {"usrdata"}


# ---- found by a second reading ----

def test_saved_before_the_vendor_tag(bench):
    """To a programmer that takes the tag for what it looks like it is an erase."""
    seen = []

    def answer(job):
        seen.append(Trace(bench.traces[-1]).vendors)
        driver.Job.answer_backup(job)
    bench.start("initial=working", "start=sahara")
    job = bench.flash(("--vendor-tag",), answer=answer)
    trace = bench.assert_done(job)
    assert seen == [[]] and len(trace.vendors) == 1


def test_refused_by_the_vendor_tag_after_all_is_saved(bench):
    bench.start("initial=working", "start=sahara", "vendor=refuse")
    job = bench.flash(("--vendor-tag",))
    assert job.backups == 1
    bench.assert_refused(job, "WrongFirmware")


def test_of_a_unit_without_a_name(bench, rehearsal):
    """What was stored of one is nothing to the next one that does not say who it is."""
    settings = ("serial=0",)
    trace = rehearsal("--vendor-tag", settings=settings)
    bench.start(*settings, "fault=unplug@command:%d" % trace.vendors[0].number)
    job = bench.flash(("--vendor-tag",))
    assert job.backups == 1
    bench.assert_refused(job, "Failed", "does not tell whether it is the same", hint="retry")


def test_where_another_table_of_the_unit_has_it(bench, before):
    """The modem's table is the package's, but the unit's own data lie where its recorded one says."""
    table = "".join("NAME=%s\nFIRST=%d\nBLOCKS=%d\n\n" % p for p in
                    [("SBL", 0, 10), ("MIBIB", 10, 10), ("EFS2", 154, 20), ("RAWDATA", 72, 5)])
    bench.make_flash("initial=working")
    bench.poke(154 * PAGES, b"the real calibration" * 9)
    old = before()
    bench.start("start=sahara")
    job = bench.flash(recorded=table, allow="EraseCalibration", reset=0)
    assert job.result == "done", job.words
    b = holds(bench, old)
    part = next(p for p in b.parts.values() if p.first <= 154 < p.first + p.blocks)
    assert part.page(154, 0)[1].startswith(b"the real calibration")
