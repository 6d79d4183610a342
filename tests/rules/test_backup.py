# SPDX-License-Identifier: LGPL-2.1-or-later
"""Backups: what lies in the file is what lies in the flash, page by page, or the file says that it does not."""
import os
import random
from xml.etree import ElementTree

import pytest

import backupfile
from conftest import GIVE_UP, PAGE, PAGES, blocks_of, driver, file_job, flashfile, layout

EFS2 = blocks_of("EFS2")[0] * PAGES
ALWAYS = {"SBL", "MIBIB", "EFS2", "sys_rev", "RAWDATA", "sec", "cust_info", "misc"}


def saved(bench, job):
    assert job.result == "done", job.words
    b = backupfile.Backup(bench.saved)
    with bench.flashed() as f:
        assert b.difference(f) is None, b.difference(f)
    bench.assert_unchanged()
    check = file_job("verify", bench.directory, bench.saved)
    assert check.result == "done", check.words
    for key in ("sha256", "state", "kind", "serial", "size", "partitions", "id"):
        assert check.values["BACKUP." + key] == job.values["BACKUP." + key], key
    assert check.values["BACKUP.id"] == b.id and check.values["BACKUP.state"] == b.state
    assert check.values["BACKUP.sha256"] == b.manifest["content_sha256"]
    return b


def scatter(bench, *names, seed=1):
    """Pages in all positions, some of them full of what elsewhere is a fill."""
    rng = random.Random(seed)
    for name in names:
        for block in blocks_of(name):
            for i in range(PAGES):
                kind = rng.randrange(8)
                if kind < 3:
                    bench.poke(block * PAGES + i, rng.randbytes(PAGE))
                elif kind == 3:
                    bench.poke(block * PAGES + i, bytes([rng.choice((0xBD, 0x00))]) * PAGE)
                else:
                    bench.poke(block * PAGES + i, b"", flashfile.ERASED)


@pytest.mark.parametrize("fill", ["ff", "ee"])
def test_calibration(bench, fill):
    bench.make_flash("initial=working")
    scatter(bench, "EFS2", "misc", "cust_info")
    bench.start("start=sahara", "fill=" + fill, "bad=22,30,63,93,658")
    b = saved(bench, bench.backup(kind="calibration"))
    assert set(b.parts) == ALWAYS and b.state == "complete" and b.manifest["kind"] == "calibration"
    assert b.parts["EFS2"].bad == {22, 30, 63}
    assert b.manifest["serial"] == "49cbd7ef" and b.manifest["model"] == "RM502QGL"


def test_whole_block_of_the_bad_fill(bench):
    """Data may be anything, also what a bad block reads as."""
    bench.make_flash("initial=working")
    for i in range(PAGES):
        bench.poke(25 * PAGES + i, b"\xbd" * PAGE)
    bench.start("start=sahara", "bad=26")
    b = saved(bench, bench.backup(kind="calibration"))
    assert b.parts["EFS2"].bad == {26}


def test_whole_chip(bench):
    bench.make_flash("initial=working")
    scatter(bench, "misc")
    bench.start("start=sahara", "bad=0,500,2047")
    b = saved(bench, bench.backup(kind="nand"))
    assert set(b.parts) == {n for n, _, _ in layout.PARTITIONS}
    assert sum(p.blocks for p in b.parts.values()) == 2048


@pytest.mark.parametrize("table", ["none", "gaps"])
def test_whole_chip_where_no_table_names_it(bench, table):
    bench.make_flash("initial=working")
    if table == "none":
        bench.wipe(*blocks_of("MIBIB"))
    else:
        bench.wipe(11)
        bench.poke_table([("SBL", 0, 10), ("EFS2", 20, 44), ("system", 1222, None)])
    bench.start("start=sahara")
    b = saved(bench, bench.backup(kind="calibration" if table == "none" else "nand"))
    assert b.manifest["kind"] == "nand" and sum(p.blocks for p in b.parts.values()) == 2048
    assert any(n.startswith("blocks-") for n in b.parts)


def test_chosen_partitions(bench):
    bench.start("initial=working", "start=sahara")
    b = saved(bench, bench.backup(kind="nand", partitions="efs2,0:TZ"))
    assert set(b.parts) == {"EFS2", "TZ"}


def test_partition_that_is_not_there(bench):
    bench.start("initial=working", "start=sahara")
    job = bench.backup(kind="nand", partitions="EFS2,nonsense")
    bench.assert_refused(job, "InvalidArgs", "nonsense")


def test_other_kind(bench):
    bench.start("initial=working", "start=sahara")
    bench.assert_refused(bench.backup(kind="everything"), "Unsupported", "everything")


def test_unreadable_pages(bench):
    first = blocks_of("EFS2")[0] * PAGES
    bench.start("initial=working", "start=sahara", "unreadable=%d,%d" % (first, first + 3))
    b = saved(bench, bench.backup(kind="calibration"))
    assert b.state == "damaged" and b.parts["EFS2"].unreadable == {0, 3}


def test_blank(bench):
    bench.make_flash("initial=working")
    bench.wipe(*blocks_of("EFS2"))
    bench.start("start=sahara")
    b = saved(bench, bench.backup(kind="calibration"))
    assert b.state == "blank"


def first_data(bench):
    """The number of the first command whose data go into the backup."""
    bench.start("initial=working", "start=sahara")
    assert bench.backup(kind="calibration").result == "done"
    return next(c.number for c in bench.trace().commands if c.tag == "read" and c.count >= PAGES)


def test_final_nak_is_no_backup(bench):
    """The data of a read that ends in a NAK may be anything."""
    n = first_data(bench)
    bench.start("start=sahara", "fault=nak@done:%d" % n, "fault=nak@done:%d" % (n + 1), "after_nak=hang")
    job = bench.backup(kind="calibration", wait_device_usec=GIVE_UP)
    assert job.result not in (None, "done"), job.words
    bench.assert_unchanged()


def test_what_a_final_nak_ends_is_read_again(bench):
    n = first_data(bench)
    bench.start("start=sahara", "fault=nak@done:%d" % n)
    assert bench.backup(kind="calibration").result == "done"
    nak, again, after = (c.text for c in bench.trace().commands if n <= c.number <= n + 2)
    assert nak == again != after


@pytest.mark.parametrize("point", [30, 60, 90])
def test_over_several_appearances(bench, point):
    """What was read stays; what was in hand is read again."""
    bench.start("initial=working", "force_edl=yes", "fault=unplug@done:%d" % point,
                "fault=unplug@in:%d" % (400 + point))
    job = bench.backup(kind="calibration")
    b = saved(bench, job)
    assert set(b.parts) == ALWAYS
    trace = bench.trace()
    assert len(trace.having("plug ")) >= 2
    big = [(c.first, c.count) for c in trace.of("read") if c.count > PAGES]
    assert len(set(big)) >= len(big) - 2, "what was read is not read again"


def test_in_windows(bench):
    bench.start("initial=working", "force_edl=yes", "loop=hard", "window_ms=400", "gap_ms=20", "read_us=40")
    b = saved(bench, bench.backup(kind="calibration"))
    assert set(b.parts) == ALWAYS


def runs_its_firmware_once(bench):
    """on_message: the modem comes back in normal mode, writes to EFS2 as firmware does, and is switched to 9008."""
    state = {"job": None, "page": EFS2 + 1}

    def on_message(job):
        state["job"] = job
        if bench.modem.normal and not state.get("switched"):
            state["switched"] = True
            bench.poke(state["page"], b"written by the firmware" * 8)
            bench.modem.connection.send(b"P")
            bench.modem.connection.send(b"D" + bytes.fromhex("4b650100540f7e"))
    return on_message


def test_firmware_runs_in_the_middle(bench):
    """What was read before it ran is of another time: half of each would be no calibration at all."""
    bench.start("initial=working", "start=sahara", "fault=unplug@done:%d" % late_read(bench), "replug_ms=20")
    bench.before = None
    job = bench.backup(kind="calibration", on_message=runs_its_firmware_once(bench))
    assert job.result == "done" and job.log_has("runs its firmware"), job.words
    b = backupfile.Backup(bench.saved)
    with bench.flashed() as f:
        assert b.difference(f) is None, b.difference(f)
    bench.unit_data_may_change = True


def late_read(bench):
    """The number of the last but one read of a calibration backup of a fresh flash."""
    bench.start("initial=working", "start=sahara")
    assert bench.backup(kind="calibration").result == "done"
    return [c.number for c in bench.trace().of("read")][-2]


def test_another_unit_comes_back(bench):
    bench.start("initial=working", "force_edl=yes", "fault=unplug@done:60", "swap_at=2")
    job = bench.backup(kind="calibration")
    bench.assert_refused(job, "WrongUnit")


@pytest.mark.parametrize("first, second", [("p2K_b128K", "p4K_b256K"), ("p4K_b256K", "p2K_b128K")])
def test_another_geometry_comes_back(bench, first, second):
    """With the same serial: what is in hand was made for other blocks, and all of it is read anew."""
    place = os.path.join(bench.directory, "other")
    os.mkdir(place)
    swapped = []

    def swap(job):
        if swapped or int(job.values.get("PROGRESS", "0")) == 0:
            return
        swapped.append(driver.Modem(place, os.path.join(place, "flash"), ("initial=working", "force_edl=yes", "geometry=" + second)))
        bench.modem.close()
        bench.modem = job.modem = swapped[0]
        job.send(["DEVICE_GONE=1"])
    bench.start("initial=working", "force_edl=yes", "geometry=" + first, "read_us=200")
    job = bench.backup(kind="calibration", on_message=swap, wait_device_usec=GIVE_UP)
    assert swapped and job.result == "done", job.words
    b = backupfile.Backup(bench.saved)
    assert job.values["BACKUP.geometry"] == second
    with flashfile.Flash(os.path.join(place, "flash")) as f:
        assert b.difference(f) is None, b.difference(f)
    assert job.log_has("the modem went away")


@pytest.mark.parametrize("literals", ["last_sector,getsha256digest,PAGES_PER_BLOCK", "PAGES_PER_BLOCK"])
def test_programmer_that_hides_bad_blocks(bench, literals):
    """devprg without skip_bad_block: what is refused counts as bad, and the manifest says how much that is worth."""
    bench.make_flash("initial=working")
    bench.start("start=sahara")
    job = bench.backup(("--literals", literals), kind="calibration")
    b = saved(bench, job)
    assert b.manifest["bad_blocks_by"] == "none"


def test_programmer_that_hides_a_bad_block(bench):
    bench.start("initial=working", "start=sahara", "bad=30,58")
    b = saved(bench, bench.backup(("--literals", "last_sector,PAGES_PER_BLOCK"), kind="calibration"))
    assert b.parts["EFS2"].bad == {30, 58}


def test_programmer_that_tells_bad_blocks(bench):
    bench.start("initial=working", "start=sahara", "bad=30,58", "family=9x07")
    b = saved(bench, bench.backup(("--literals", "PAGES_PER_BLOCK"), kind="calibration"))
    assert b.manifest["bad_blocks_by"] == "told" and b.parts["EFS2"].bad == {30, 58}


def test_taken_from_normal_goes_back(bench):
    bench.start("initial=working", "start=sahara")
    job = bench.backup(kind="calibration", came_from_normal=1)
    assert job.result == "done" and not job.holding, job.words
    for _ in range(3):
        if not bench.modem.normal:
            bench.modem.accept()
    assert bench.modem.normal
    bench.assert_unchanged()


def test_found_in_9008_is_held(bench):
    bench.start("initial=working", "start=sahara")
    job = bench.backup(kind="calibration")
    assert job.holding
    again = bench.backup(kind="calibration")
    assert again.values["BACKUP.sha256"] == job.values["BACKUP.sha256"]
    saved(bench, again)


def test_without_a_package(bench):
    """With the programmer that runs; there must be one."""
    bench.start("initial=working", "start=sahara")
    job = bench.backup(package=None, kind="calibration")
    bench.assert_refused(job, "NoSuchFirmware")
    bench.start("start=firehose")
    saved(bench, bench.backup(package=None, kind="calibration"))


def test_cancelled(bench):
    def cancel(job):
        if "backup" in job.phases and not job.killed:
            job.killed = True
            job.send(["CANCEL=1"])
    bench.start("initial=working", "start=sahara", "read_us=100")
    job = bench.backup(kind="nand", on_message=cancel)
    assert job.result == "cancelled" and job.holding, job.words
    assert file_job("verify", bench.directory, bench.saved).error == "BackupDamaged"
    again = bench.backup(kind="calibration")
    saved(bench, again)


# ---- for other tools ----

QDL_ERASE = {"PAGES_PER_BLOCK", "SECTOR_SIZE_IN_BYTES", "num_partition_sectors", "physical_partition_number", "start_sector",
             "last_sector"}


def test_rawprogram_for_other_tools(bench):
    """What Debian's qdl asks for in NAND (tests/system flashes with it): every good block is erased, and no bad one; an image
    ends inside its partition; SBL comes last."""
    bench.start("initial=working", "start=sahara", "bad=22,30,63,93")
    b = saved(bench, bench.backup(kind="calibration"))
    root = ElementTree.fromstring(b.members["rawprogram.xml"])
    tags = [e.tag for e in root]
    assert tags == sorted(tags), "all erases come first"
    erased = set()
    for e in root.iter("erase"):
        assert set(e.attrib) == QDL_ERASE
        first, n, last = (int(e.get(k)) for k in ("start_sector", "num_partition_sectors", "last_sector"))
        assert last == first + n - 1 and first % PAGES == n % PAGES == 0
        erased |= set(range(first // PAGES, (first + n) // PAGES))
    assert erased == {x for p in b.parts.values() for x in range(p.first, p.first + p.blocks) if x not in p.bad}
    programs = list(root.iter("program"))
    for e in programs:
        assert set(e.attrib) == QDL_ERASE | {"filename", "label"}
        part = b.parts[e.get("label")]
        assert len(b.members[e.get("filename")]) == len(part.image) > 0
        assert int(e.get("start_sector")) == part.first * PAGES
        assert int(e.get("last_sector")) == (part.first + part.blocks) * PAGES - 1
    assert {e.get("label") for e in programs} == {n for n, p in b.parts.items() if p.image}
    assert programs[-1].get("label") == "SBL"


# ---- files from outside ----

@pytest.fixture
def good(bench):
    bench.start("initial=working", "start=sahara")
    saved(bench, bench.backup(kind="calibration"))
    return bench.saved


def test_import(bench, good):
    job = file_job("import", bench.directory, good)
    assert job.result == "done", job.words
    assert open(good, "rb").read() == open(good + ".imported", "rb").read()
    assert job.values["BACKUP.id"] == backupfile.Backup(good).id


@pytest.mark.parametrize("what", ["cut", "longer", "image", "manifest", "header", "empty", "package"])
def test_import_of_what_is_none(bench, good, what):
    data = bytearray(open(good, "rb").read())
    at = {"image": data.index(b"calibration") if b"calibration" in data[:PAGE * 900] else 5000,
          "manifest": data.index(b"content_sha256"), "header": 124}.get(what)
    if what == "cut":
        data = data[:-512]
    elif what == "longer":
        data += bytes(512)
    elif what == "empty":
        data = bytearray()
    elif what == "package":
        data = bytearray(open(bench.packages("--small").store, "rb").read())
    else:
        data[at] ^= 1
    open(good, "wb").write(data)
    job = file_job("import", bench.directory, good)
    assert job.result == "failed" and job.error == "BackupDamaged", job.words
    assert "BACKUP.sha256" not in job.values
    assert file_job("verify", bench.directory, good).error == "BackupDamaged"


def test_import_too_large(bench, good):
    assert file_job("import", bench.directory, good, **{"max-bytes": 1000}).error == "TooLarge"


def test_verify_of_another(bench, good):
    assert file_job("verify", bench.directory, good, id="0" * 32).error == "BackupDamaged"
