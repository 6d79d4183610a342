# SPDX-License-Identifier: LGPL-2.1-or-later
"""Restore: what lay there lies there again, in the same blocks where it must, and nothing is erased that should not be.

A few seeded round trips on a chip with all its partitions (RESTORE_CASES); a thousand on tiny ones: round-trips.py.
"""
import os
import random
import shutil

import pytest

import backupfile
from conftest import GIVE_UP, PAGE, PAGES, UNIT_DATA, VERSION, Bench, Trace, blocks_of, driver, file_job, flashfile

CASES = int(os.environ.get("RESTORE_CASES", "4"))
FIRST_CASE = int(os.environ.get("RESTORE_FIRST", "0"))
BLOCKS = 192
OTHER_VERSION = "RM502QGLAAR05A03M4G"


def is_physical(name):
    """What goes back to its own blocks or not at all."""
    return name in UNIT_DATA or name.startswith("blocks-")


def expected_difference(backup, flash, names):
    """None, or the first page that is not as the backup wants it in this flash."""
    for name in names:
        p = backup.parts[name]
        there = range(p.first, p.first + p.blocks)
        then = [b for b in there if b not in p.bad]
        now = [b for b in there if not flash.is_bad(b)]
        pairs = [(b, b) for b in then] if is_physical(name) else list(zip(then, now))
        covered = set()
        for source, block in pairs:
            pages = [p.page(source, i) for i in range(PAGES)]
            used = max((i + 1 for i, (state, _) in enumerate(pages) if state != flashfile.ERASED), default=0)
            if flash.is_bad(block):
                if used:
                    return "%s: block %d is bad" % (name, block)
                continue
            covered.add(block)
            for i, (state, data) in enumerate(pages):
                number = block * PAGES + i
                have = flash.state(number)
                if i >= used:
                    if have != flashfile.ERASED:
                        return "%s: page %d of block %d must be erased" % (name, i, block)
                elif state == flashfile.WRITTEN:
                    if have != flashfile.WRITTEN or flash.page(number) != data:
                        return "%s: page %d of block %d differs" % (name, i, block)
                elif have == flashfile.WRITTEN and set(flash.page(number)) != {0xFF}:
                    return "%s: page %d of block %d holds something" % (name, i, block)
        for block in set(now) - covered:
            if any(flash.states(block)):
                return "%s: block %d holds something stale" % (name, block)
    return None


def difference_outside(backup, flash, names, before):
    """None, or the first block that is none of the restored partitions' and not as it was."""
    inside = {b for n in names for b in range(backup.parts[n].first, backup.parts[n].first + backup.parts[n].blocks)}
    for b in range(flash.blocks):
        difference = None if b in inside else flashfile.unchanged_block(flash, before, b, before.partitions())
        if difference:
            return difference
    return None


def fill(bench, rng, blocks, density):
    """Random contents: erased pages in all positions, whole erased blocks, pages of fills."""
    with open(bench.flash_path, "r+b") as f, flashfile.Flash(bench.flash_path) as layout_of:
        for block in blocks:
            kind = rng.random()
            pages = []
            for i in range(PAGES):
                if kind < 0.25 or rng.random() > density:
                    pages.append(None)
                elif rng.random() < 0.1:
                    pages.append(bytes([rng.choice((0x00, 0xBD))]) * PAGE)
                else:
                    pages.append(rng.randbytes(64) * (PAGE // 64))
            if kind > 0.6:  # as a file system leaves it: written up to somewhere
                end = rng.randrange(PAGES + 1)
                pages = [p or (b"x" * PAGE if i < end else None) for i, p in enumerate(pages)]
                pages[end:] = [None] * (PAGES - end)
            last = max((i + 1 for i, p in enumerate(pages) if p), default=0)
            f.seek(layout_of.states_offset + block * PAGES)
            f.write(bytes(flashfile.WRITTEN if p else flashfile.ERASED for p in pages))
            for i, p in enumerate(pages):
                if p:
                    f.seek(layout_of.data_offset + (block * PAGES + i) * PAGE)
                    f.write(p)
            f.seek(layout_of.records_offset + block * flashfile.RECORD.size)
            flags, _, count = layout_of.record(block)
            f.write(flashfile.RECORD.pack(flags, last, 0, count))


def mark_bad(bench, blocks):
    with open(bench.flash_path, "r+b") as f, flashfile.Flash(bench.flash_path) as layout_of:
        for block in blocks:
            f.seek(layout_of.records_offset + block * flashfile.RECORD.size)
            flags, next_page, count = layout_of.record(block)
            f.write(flashfile.RECORD.pack(flags | flashfile.BAD, next_page, 0, count))


FREE = [b for b in range(BLOCKS) if not 10 <= b < 20]  # MIBIB stays: the modem goes by it


@pytest.mark.parametrize("case", range(FIRST_CASE, FIRST_CASE + CASES))
def test_round_trip(bench, case):
    rng = random.Random(case)
    kind, fills = rng.choice(("nand", "calibration")), ["fill=" + rng.choice(("ff", "ee")) for _ in range(2)]
    bench.make_flash("initial=blank" if rng.random() < 0.3 else "initial=working", blocks=BLOCKS)
    bench.poke_table([(p.name, p.first, p.blocks) for p in flashfile.default_layout(BLOCKS)])
    bench.unit_data_may_change = True
    bench.may_violate = ("program of erased",)
    fill(bench, rng, FREE, rng.choice((0.2, 0.6, 0.95)))
    mark_bad(bench, rng.sample(FREE, rng.randrange(8)))
    bench.start("force_edl=yes", fills[0])
    job = bench.backup(kind=kind)
    assert job.result == "done", job.words
    backup, path = backupfile.Backup(bench.saved), bench.saved
    with bench.flashed() as f:
        assert backup.difference(f) is None, backup.difference(f)
    bench.stop()

    fill(bench, rng, FREE, 0.5)
    precious = {b for n, p in backup.parts.items() if is_physical(n) for b in used_blocks(p)}
    may_be_bad = FREE if rng.random() < 0.25 else [b for b in FREE if b not in precious]
    mark_bad(bench, rng.sample(may_be_bad, rng.randrange(6)))
    names = [n for n in backup.parts if rng.random() < 0.7] if rng.random() < 0.6 else list(backup.parts)
    names = names or ["EFS2"]
    now = flashfile.Snapshot.load(bench.flash_path)
    bench.start("force_edl=yes", fills[1])
    job = bench.restore(path, partitions=",".join(names), allow="EraseCalibration")
    impossible = not fits(backup, now, names)
    if impossible:
        bench.assert_error(job, impossible_error(backup, now, names))
        bench.stop()
        with bench.flashed() as f:
            verdict = flashfile.compare_unchanged(f, now)
        assert verdict, "refused, and yet: %s" % verdict
        return
    assert job.result == "done", job.words
    bench.stop()
    with bench.flashed() as f:
        difference = expected_difference(backup, f, names)
        assert difference is None, difference
        assert difference_outside(backup, f, names, now) is None
    present = backupfile.Backup(bench.saved) if job.values.get("BACKUP") else None
    assert present is None or set(names) <= set(present.parts)


def used_blocks(part):
    return [b for b in range(part.first, part.first + part.blocks) if b not in part.bad and
            any(part.page(b, i)[0] != flashfile.ERASED for i in range(PAGES))]


def impossible_error(backup, now, names):
    for n in sorted(names, key=lambda n: backup.parts[n].first):
        p = backup.parts[n]
        if is_physical(n):
            if any(now.is_bad(b) for b in used_blocks(p)):
                return "Unsupported"
            continue
        then = [b for b in range(p.first, p.first + p.blocks) if b not in p.bad]
        needed = max((then.index(b) + 1 for b in used_blocks(p)), default=0)
        if needed > sum(not now.is_bad(b) for b in range(p.first, p.first + p.blocks)):
            return "GeometryDiffers"
    return None


def fits(backup, now, names):
    return impossible_error(backup, now, names) is None


# ---- one by one ----

@pytest.fixture
def taken(bench):
    """A working modem, its whole-chip backup, and afterwards another EFS2 in it."""
    bench.make_flash("initial=working", blocks=BLOCKS)
    bench.unit_data_may_change = True
    bench.start("force_edl=yes")
    job = bench.backup(kind="nand")
    assert job.result == "done", job.words
    path = bench.saved
    bench.stop()
    bench.poke(20 * PAGES + 1, b"another calibration" * 20)
    bench.before = flashfile.Snapshot.load(bench.flash_path)
    return path


def test_efs2_comes_back(bench, taken):
    bench.start("force_edl=yes")
    job = bench.restore(taken, partitions="EFS2")
    assert job.result == "done" and job.holding, job.words
    assert job.values["DESTRUCTIVE"] == "1" and job.backups == 1
    assert file_job("verify", bench.directory, bench.saved).result == "done"
    trace = bench.trace()
    assert {c.first for c in trace.changes} == {20}, "only the block that differs is written"
    with bench.flashed() as f:
        assert expected_difference(backupfile.Backup(taken), f, ["EFS2"]) is None
    saved = backupfile.Backup(bench.saved)
    assert saved.parts["EFS2"].page(20, 1)[1].startswith(b"another calibration")


def test_nothing_to_do(bench, taken):
    bench.start("force_edl=yes")
    assert bench.restore(taken, partitions="EFS2").result == "done"
    job = bench.restore(taken, partitions="EFS2")
    assert job.result == "done" and job.backups == 0 and "DESTRUCTIVE" not in job.values
    assert job.report["blocks-written"] == "0"


REFUSALS = {
    "another unit": (("serial=5eed0001",), {}, "WrongUnit", "WrongUnit"),
    "a unit that does not say": (("serial=0",), {}, "WrongUnit", "WrongUnit"),
    "another chip": (("hwid=0007b0e100040000",), {}, "WrongUnit", "WrongUnit,WrongFirmware"),
    "another firmware": ((), {"known": OTHER_VERSION}, "WrongFirmware", "WrongFirmware"),
    "an unknown firmware": ((), {"known": None}, "WrongFirmware", "WrongFirmware"),
    "another prefix": ((), {"known": "RM502QAEAAR05A03M4G"}, "WrongFirmware", "WrongFirmware"),
}


@pytest.mark.parametrize("case", sorted(REFUSALS))
def test_refused_and_lifted_by_its_name(bench, taken, case):
    settings, options, error, lifts = REFUSALS[case]
    bench.start("force_edl=yes", *settings)
    given = {"known": VERSION, **options}
    job = bench.restore(taken, partitions="EFS2", **given)
    bench.assert_refused(job, error, "--allow=" + error)
    bench.start("force_edl=yes", *settings)
    others = "BackupDamaged,CalibrationAtRisk,EraseCalibration,GeometryDiffers,NoBackup"
    bench.assert_refused(bench.restore(taken, partitions="EFS2", allow=others, **given), error)
    bench.start("force_edl=yes", *settings)
    job = bench.restore(taken, partitions="EFS2", allow=lifts, **given)
    assert job.result == "done", job.words


def test_firmware_does_not_matter_for_the_rest(bench, taken):
    bench.start("force_edl=yes")
    assert bench.restore(taken, partitions="misc,sec", known=OTHER_VERSION).result == "done"


def test_other_geometry(bench, taken):
    bench.stop()
    os.unlink(bench.flash_path)
    bench.made = False
    bench.make_flash("initial=working", blocks=BLOCKS + 8)
    bench.before = flashfile.Snapshot.load(bench.flash_path)
    bench.start("force_edl=yes")
    bench.assert_refused(bench.restore(taken, partitions="EFS2"), "GeometryDiffers", "--allow=GeometryDiffers")
    bench.start("force_edl=yes")
    job = bench.restore(taken, partitions="misc", allow="GeometryDiffers")
    assert job.result == "done", job.words


def test_bad_now(bench, taken):
    """EFS2 has data where the flash is bad now: before anything is erased."""
    bench.start("force_edl=yes", "bad=21")
    bench.before = flashfile.Snapshot.load(bench.flash_path)
    job = bench.restore(taken, partitions="EFS2", allow="BackupDamaged,GeometryDiffers,CalibrationAtRisk")
    bench.assert_refused(job, "Unsupported", "block 21", "XQCN", hint="contact-vendor")


def test_goes_bad_while_it_is_written(bench, taken):
    """EFS2 cannot go elsewhere; TZ can."""
    for page in (77, 78):
        bench.poke(page * PAGES, b"other")
    bench.may_violate = ("out of good blocks",)  # a command for one block ends with it
    bench.start("force_edl=yes", "fail_program=77")
    job = bench.restore(taken, partitions="TZ")
    assert job.result == "done", job.words
    bench.stop()
    with bench.flashed() as f:
        assert f.is_bad(77)
        assert expected_difference(backupfile.Backup(taken), f, ["TZ"]) is None
    bench.start("force_edl=yes", "fail_program=20")
    job = bench.restore(taken, partitions="EFS2")
    bench.assert_error(job, "Unsupported", "block 20")


def test_all_is_read_again_behind_a_block_that_went_bad(bench, taken):
    """A programmer may go on in the next good block (reference/edl.md 2.6), and that one was right before."""
    bench.poke(77 * PAGES, b"other")
    bench.may_violate = ("out of good blocks",)
    bench.start("force_edl=yes", "fail_program=77")
    job = bench.restore(taken, partitions="TZ,sec,boot")
    assert job.result == "done", job.words
    trace = bench.trace()
    last = trace.changes[-1].number
    again = {c.first for c in trace.of("read") if c.number > last and c.count == PAGES}
    assert {87, 88, 97, 98, 102} <= again, again


def test_dying_flash(bench, taken):
    for b in range(77, 84):
        bench.poke(b * PAGES, b"other")
    bench.start("force_edl=yes", "fail_erase=77,78,79,80,81")
    bench.assert_error(bench.restore(taken, partitions="TZ"), "FirehoseFailed", "dying", hint="contact-vendor")


def test_sbl_first_and_last(bench, taken):
    for b in (0, 1, 11, 97):
        bench.poke(b * PAGES, b"other")
    bench.start("force_edl=yes")
    job = bench.restore(taken)
    assert job.result == "done", job.words
    trace = bench.trace()
    changed = [c.partition for c in trace.changes]
    assert changed[0] == "SBL" and trace.changes[0].tag == "erase" and changed[-1] == "SBL"
    assert trace.changes[-1].first == 0, "what a loader looks for comes last"
    without = [c for c in trace.changes if c.partition != "SBL"]
    assert without[0].partition == "MIBIB"
    with bench.flashed() as f:
        b = backupfile.Backup(taken)
        assert expected_difference(b, f, b.parts) is None
    assert bench.boots() == "normal"


@pytest.mark.parametrize("index", [0, 1, 3, 5, -3, -2, -1])
def test_interrupted_and_called_again(bench, taken, index):
    for b in (0, 11, 78, 97, 110):
        bench.poke(b * PAGES, b"other")
    contents = open(bench.flash_path, "rb").read()
    bench.start("force_edl=yes")
    assert bench.restore(taken).result == "done"
    change = bench.trace().changes[index]
    bench.stop()
    open(bench.flash_path, "wb").write(contents)
    bench.start("force_edl=yes", "fault=unplug@done:%d" % change.number, "replug_ms=-1")
    job = bench.restore(taken, wait_device_usec=GIVE_UP)
    assert job.result == "interrupted" and job.hint, job.words
    # Behind the last command everything is there.
    assert bench.boots() == ("normal" if index == -1 else "edl"), "an interrupted restore comes back in 9008"
    bench.start("force_edl=yes")
    job = bench.restore(taken)
    assert job.result == "done", job.words
    bench.stop()
    with bench.flashed() as f:
        b = backupfile.Backup(taken)
        assert expected_difference(b, f, b.parts) is None
    assert bench.boots() == "normal"


def test_unplugged_in_the_middle(bench, taken):
    for b in (0, 97):
        bench.poke(b * PAGES, b"other")
    contents = open(bench.flash_path, "rb").read()
    bench.start("force_edl=yes")
    assert bench.restore(taken).result == "done"
    change = bench.trace().changes[3]
    bench.stop()
    open(bench.flash_path, "wb").write(contents)
    bench.start("force_edl=yes", "fault=unplug@command:%d" % change.number)
    job = bench.restore(taken)
    assert job.result == "done" and job.backups == 1, job.words
    bench.stop()
    with bench.flashed() as f:
        b = backupfile.Backup(taken)
        assert expected_difference(b, f, b.parts) is None


# ---- a unit without a serial ----

NAMELESS = ("force_edl=yes", "serial=0")


@pytest.fixture
def nameless(bench):
    """The backup of a unit without a serial, of which the service knows that it is this one, and another EFS2 and boot in it."""
    bench.make_flash("initial=working", blocks=BLOCKS)
    bench.unit_data_may_change = True
    bench.start(*NAMELESS)
    assert bench.backup(kind="nand").result == "done"
    path = bench.saved
    bench.stop()
    for block in (20, 21, 97, 98):
        bench.poke(block * PAGES + 1, b"another" * 20)
    bench.before = flashfile.Snapshot.load(bench.flash_path)
    return path


def change_of(bench, path, index):
    """The number of this change of a clean restore; the flash is as before."""
    contents = open(bench.flash_path, "rb").read()
    bench.start(*NAMELESS)
    assert bench.restore(path, bound=1).result == "done"
    number = bench.trace().changes[index].number
    bench.stop()
    open(bench.flash_path, "wb").write(contents)
    return number


@pytest.mark.parametrize("index", [0, 3, -1])
def test_nameless_unit_comes_back_in_the_middle(bench, nameless, index):
    """It is known again by what lies in its calibration, also where that is what is being put back."""
    number = change_of(bench, nameless, index)
    bench.start(*NAMELESS, "fault=unplug@done:%d" % number)
    job = bench.restore(nameless, bound=1)
    assert job.result == "done" and job.backups == 1 and job.log_has("the modem went away"), job.words
    bench.stop()
    with bench.flashed() as f:
        b = backupfile.Backup(nameless)
        assert expected_difference(b, f, b.parts) is None


@pytest.mark.parametrize("other, allow", [("another calibration", ""), ("no calibration", ""), ("another calibration", "WrongUnit")])
def test_another_nameless_unit_comes_back_in_the_middle(bench, nameless, other, allow, tmp_path):
    """All that two of one batch differ in. Whoever allows a backup of another unit does not allow a third one to be written to."""
    number = change_of(bench, nameless, 3)
    bench.start(*NAMELESS, "fault=unplug@done:%d" % number, "replug_ms=-1")
    strange = Bench(str(tmp_path), bench.packages)
    strange.make_flash("initial=working", "serial=12345678", *(["calibration=erased"] if other == "no calibration" else []), blocks=BLOCKS)
    if other == "no calibration":
        strange.wipe(*[b for name in UNIT_DATA for b in blocks_of(name) if b < BLOCKS])
    before = flashfile.Snapshot.load(strange.flash_path)

    def swap(job):
        if bench.modem.connection is None and job.values.get("DESTRUCTIVE") and not strange.modem:
            strange.start(*NAMELESS)
            bench.modem.close()
            bench.modem = job.modem = strange.modem
    job = bench.restore(nameless, bound=1, allow=allow, on_message=swap)
    assert strange.modem, job.words
    bench.assert_error(job, "WrongUnit", "nothing was written")
    bench.stop()
    assert Trace(strange.traces[-1]).changes == []
    with flashfile.Flash(strange.flash_path) as f:
        verdict = flashfile.compare_unchanged(f, before)
    assert verdict, str(verdict)


def test_nameless_unit_whose_calibration_is_erased_is_not_known_again(bench, nameless):
    """Two of them are alike: neither is taken for the other."""
    bench.wipe(*[b for name in UNIT_DATA for b in blocks_of(name)])
    number = change_of(bench, nameless, 0)
    bench.start(*NAMELESS, "fault=unplug@done:%d" % number)
    bench.assert_error(bench.restore(nameless, bound=1), "WrongUnit", "nothing was written")


@pytest.mark.parametrize("efs2", [(20, 180), (180, 20)])
def test_nameless_unit_without_a_table_is_known_again_by_any_that_it_had(bench, nameless, efs2):
    """Its calibration lies where one of those that were recorded has it; where the other has it nothing lies."""
    texts = {20: "NAME=EFS2\nFIRST=20\nBLOCKS=4\n\nNAME=boot\nFIRST=97\nBLOCKS=6\n",
             180: "NAME=boot\nFIRST=97\nBLOCKS=6\n\nNAME=EFS2\nFIRST=180\nBLOCKS=4\n"}
    recorded = "\n\n".join(texts[block] for block in efs2)
    bench.wipe(*blocks_of("MIBIB"))
    bench.wipe(*range(180, 184))
    contents = open(bench.flash_path, "rb").read()
    bench.start(*NAMELESS)
    assert bench.restore(nameless, partitions="boot", bound=1, recorded=recorded).result == "done"
    number = bench.trace().changes[0].number
    bench.stop()
    open(bench.flash_path, "wb").write(contents)
    bench.start(*NAMELESS, "fault=unplug@done:%d" % number)
    job = bench.restore(nameless, partitions="boot", bound=1, recorded=recorded)
    assert job.result == "done" and job.log_has("the modem went away") and job.log_has("at 8 places"), job.words


def test_another_unit_comes_back_in_the_middle(bench, taken):
    bench.poke(97 * PAGES, b"other")
    contents = open(bench.flash_path, "rb").read()
    bench.start("force_edl=yes")
    assert bench.restore(taken).result == "done"
    change = bench.trace().changes[1]
    bench.stop()
    open(bench.flash_path, "wb").write(contents)
    bench.start("force_edl=yes", "fault=unplug@done:%d" % change.number, "swap_at=2")
    bench.assert_error(bench.restore(taken), "WrongUnit")


def test_flipped_page(bench, taken):
    bench.start("force_edl=yes", "flip=%d" % (20 * PAGES))
    bench.assert_error(bench.restore(taken, partitions="EFS2"), "DigestMismatch", "block 20")
    job = bench.restore(taken, partitions="EFS2")
    assert job.result == "done", job.words


def test_present_state_cannot_be_stored(bench, taken):
    def refuse(job):
        job.send(["BACKUP_REFUSED=1", "MESSAGE=the disk is full"])
    bench.start("force_edl=yes")
    bench.assert_refused(bench.restore(taken, partitions="EFS2", answer=refuse), "NoBackup", "disk is full")


def test_damaged_backup(bench, taken):
    """One that says so is lifted by its name; one whose bytes are other ones by nothing."""
    bench.start("force_edl=yes", "unreadable=%d" % (22 * PAGES))
    assert bench.backup(kind="calibration").result == "done"
    damaged = bench.saved
    bench.stop()
    bench.before = flashfile.Snapshot.load(bench.flash_path)
    bench.start("force_edl=yes")
    bench.assert_refused(bench.restore(damaged, partitions="EFS2"), "BackupDamaged", "--allow=BackupDamaged")
    data = bytearray(open(taken, "rb").read())
    data[len(data) // 2] ^= 1
    open(taken, "wb").write(data)
    bench.start("force_edl=yes")
    bench.assert_refused(bench.restore(taken, partitions="EFS2", allow="BackupDamaged"), "BackupDamaged")


def test_blank_never_in_place_of_a_good_one(bench, taken):
    contents = open(bench.flash_path, "rb").read()
    bench.wipe(*blocks_of("EFS2"))
    bench.start("force_edl=yes")
    assert bench.backup(kind="calibration").result == "done"
    blank = bench.saved
    bench.stop()
    open(bench.flash_path, "wb").write(contents)
    bench.start("force_edl=yes")
    bench.assert_refused(bench.restore(blank, partitions="EFS2"), "EraseCalibration", "--allow=EraseCalibration")


def test_nor_one_of_factory_test_mode(bench, taken):
    """Its EFS2 is full, of what a firmware makes that finds none."""
    bench.start("force_edl=yes")
    assert bench.backup(kind="calibration", calibration_flaw="factory-test").result == "done"
    lost = bench.saved
    bench.start("force_edl=yes")
    bench.assert_refused(bench.restore(lost, partitions="EFS2"), "EraseCalibration", "factory test mode", "--allow=EraseCalibration")
    bench.start("force_edl=yes")
    assert bench.restore(lost, partitions="sys_rev").result == "done"
    bench.start("force_edl=yes")
    assert bench.restore(lost, partitions="EFS2", allow="EraseCalibration").result == "done"


def test_partition_that_is_not_there(bench, taken):
    bench.start("force_edl=yes")
    bench.assert_refused(bench.restore(taken, partitions="EFS2,nonsense"), "InvalidArgs", "nonsense")


def test_partition_that_moved(bench, taken):
    """A table that has it elsewhere, and the calibration in its place."""
    bench.wipe(10, 11)
    places = {"EFS2": (109, 24), "modem": (20, 44)}
    bench.poke_table([(p.name,) + places.get(p.name, (p.first, p.blocks))
                      for p in flashfile.default_layout(BLOCKS)])
    bench.before = flashfile.Snapshot.load(bench.flash_path)
    bench.start("force_edl=yes")
    bench.assert_refused(bench.restore(taken, partitions="modem"), "GeometryDiffers")
    bench.start("force_edl=yes")
    bench.assert_refused(bench.restore(taken, partitions="modem", allow="GeometryDiffers"), "EraseCalibration", "EFS2")


def moved_table(bench, **places):
    bench.wipe(10, 11)
    bench.poke_table([(p.name,) + places.get(p.name, (p.first, p.blocks))
                      for p in flashfile.default_layout(BLOCKS)])
    bench.before = flashfile.Snapshot.load(bench.flash_path)


def test_table_alone_would_take_the_calibration_from_its_place(bench, taken):
    moved_table(bench, EFS2=(109, 24), modem=(20, 44))
    bench.start("force_edl=yes")
    bench.assert_refused(bench.restore(taken, partitions="MIBIB"), "EraseCalibration", "EFS2 at other blocks")
    bench.start("force_edl=yes")
    bench.assert_refused(bench.restore(taken, partitions="MIBIB", allow="EraseCalibration"), "GeometryDiffers", "modem")


def test_table_alone_moves_another_partition(bench, taken):
    moved_table(bench, boot=(103, 6), recovery=(97, 6))
    bench.start("force_edl=yes")
    bench.assert_refused(bench.restore(taken, partitions="MIBIB"), "GeometryDiffers", "recovery at other blocks")
    bench.start("force_edl=yes")
    assert bench.restore(taken, partitions="MIBIB,boot,recovery").result == "done"


def test_same_table_alone(bench, taken):
    bench.poke(11 * PAGES, b"stale")
    bench.start("force_edl=yes")
    job = bench.restore(taken, partitions="MIBIB")
    assert job.result == "done", job.words


def test_present_state_is_saved_around_what_is_saved_always(bench, taken):
    """A partition of the backup lies around one that the modem's own table has now: none of it is lost."""
    bench.poke(100 * PAGES, b"what lies behind it")
    moved_table(bench, boot=(97, 2), sec=(99, 1), recovery=(100, 9))
    bench.start("force_edl=yes")
    job = bench.restore(taken, partitions="boot", allow="GeometryDiffers,EraseCalibration")
    assert job.result == "done", job.words
    saved = backupfile.Backup(bench.saved)
    part = next(p for p in saved.parts.values() if p.first <= 100 < p.first + p.blocks)
    assert part.page(100, 0)[1].startswith(b"what lies behind it")


def test_over_many_short_windows(bench, taken):
    """Each window goes on where the one before ended: in reading the map, saving, comparing and writing."""
    for b in range(97, 120):
        bench.poke(b * PAGES, b"other")
    bench.poke(0, b"other")
    bench.start("force_edl=yes", "loop=hard", "window_ms=600", "gap_ms=10", "read_us=60", "program_us=60",
                still_clock=True)
    job = bench.restore(taken)
    assert job.result == "done" and job.backups == 1, job.words
    windows = len(bench.trace().having("plug "))
    assert windows > 3, windows
    with bench.flashed() as f:
        b = backupfile.Backup(taken)
        assert expected_difference(b, f, b.parts) is None


def test_continued_restore_does_not_save_again(bench, taken):
    """Half of the old and half of the new is nothing to keep, least of all in place of what was there before."""
    for b in (0, 78, 97):
        bench.poke(b * PAGES, b"other")
    journal = os.path.join(bench.directory, "restore.journal")
    contents = open(bench.flash_path, "rb").read()
    bench.start("force_edl=yes")
    assert bench.restore(taken, journal=journal).result == "done"
    assert not os.path.getsize(journal) == 0
    change = bench.trace().changes[3]
    bench.stop()
    open(bench.flash_path, "wb").write(contents)
    os.unlink(journal)
    bench.start("force_edl=yes", "fault=unplug@done:%d" % change.number, "replug_ms=-1")
    job = bench.restore(taken, journal=journal, wait_device_usec=GIVE_UP)
    assert job.result == "interrupted" and job.backups == 1, job.words
    bench.start("force_edl=yes")
    job = bench.restore(taken, journal=journal, partitions="EFS2")
    assert job.result == "done" and not job.log_has("continuing"), "another call is another restore"
    bench.start("force_edl=yes")
    job = bench.restore(taken, journal=journal + ".none")
    assert job.backups == 1, "without a journal nothing is known to be saved"


def test_continued_restore(bench, taken):
    for b in (0, 78, 97):
        bench.poke(b * PAGES, b"other")
    journal = os.path.join(bench.directory, "restore.journal")
    contents = open(bench.flash_path, "rb").read()
    bench.start("force_edl=yes")
    assert bench.restore(taken, journal=journal).result == "done"
    change = bench.trace().changes[3]
    bench.stop()
    open(bench.flash_path, "wb").write(contents)
    bench.start("force_edl=yes", "fault=unplug@done:%d" % change.number, "replug_ms=-1")
    job = bench.restore(taken, journal=journal, wait_device_usec=GIVE_UP)
    assert job.result == "interrupted" and job.backups == 1, job.words
    bench.start("force_edl=yes")
    job = bench.restore(taken, journal=journal)
    assert job.result == "done" and job.backups == 0 and job.log_has("continuing"), job.words
    assert "continues" in job.report["backup"]
    bench.stop()
    with bench.flashed() as f:
        b = backupfile.Backup(taken)
        assert expected_difference(b, f, b.parts) is None
    bench.poke(97 * PAGES, b"other")
    bench.start("force_edl=yes")
    job = bench.restore(taken, journal=journal)
    assert job.result == "done" and job.backups == 1, "one that came to its end is not continued"


def test_programmer_that_hides_bad_blocks(bench, taken):
    bench.start("force_edl=yes")
    job = bench.restore(taken, package=("--literals", "last_sector,PAGES_PER_BLOCK"), partitions="EFS2")
    bench.assert_refused(job, "Unsupported", "bad blocks")


def test_cancelled_before_and_not_after(bench, taken):
    bench.start("force_edl=yes")
    job = bench.restore(taken, partitions="EFS2", answer=lambda j: j.send(["CANCEL=1"]))
    assert job.result == "cancelled", job.words
    bench.assert_unchanged()

    def cancel(job):
        if "DESTRUCTIVE" in job.values and not job.killed:
            job.killed = True
            job.send(["CANCEL=1"])
    bench.start("force_edl=yes")
    job = bench.restore(taken, partitions="EFS2", on_message=cancel)
    assert job.result == "done", job.words


def test_another_nameless_unit_of_its_batch_with_an_erased_efs2(bench, nameless, tmp_path):
    """RAWDATA, sys_rev and cust_info are alike in a batch: only what EFS2 holds tells two units apart."""
    efs2 = [b for b in blocks_of("EFS2") if b < BLOCKS]
    bench.wipe(*efs2)
    number = change_of(bench, nameless, 0)
    bench.start(*NAMELESS, "fault=unplug@done:%d" % number, "replug_ms=-1")
    strange = Bench(str(tmp_path), bench.packages)
    strange.make_flash("initial=working", "serial=12345678", blocks=BLOCKS)
    shutil.copy(bench.flash_path, strange.flash_path)
    strange.wipe(*efs2)

    def swap(job):
        if bench.modem.connection is None and job.values.get("DESTRUCTIVE") and not strange.modem:
            strange.start(*NAMELESS)
            bench.modem.close()
            bench.modem = job.modem = strange.modem
    job = bench.restore(nameless, bound=1, on_message=swap)
    assert strange.modem, job.words
    bench.assert_error(job, "WrongUnit", "nothing was written")
    assert Trace(strange.traces[-1]).changes == []
