# SPDX-License-Identifier: LGPL-2.1-or-later
"""The disk is full from one write on, each of them in turn: NoSpace, nothing erased that is not saved, nothing half-done called
done, and with room the same call comes to its end."""
import os
import subprocess

import pytest

import backupfile
from conftest import PAGES, Job, Package, driver, file_job, flashfile
from test_restore import expected_difference

BASE = ("force_edl=yes", "family=devprg", "geometry=p2K_b128K")
BLOCKS = 16


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    from conftest import layout
    before = layout.BLOCKS, layout.PARTITIONS
    made = Package(str(tmp_path_factory.mktemp("package")), ["--small", "--tiny-chip"])
    layout.BLOCKS, layout.PARTITIONS = before
    return made


@pytest.fixture
def full(monkeypatch):
    """full(n): from the nth write of a worker on there is no room; full(0): there is."""
    def set_(n):
        monkeypatch.setattr(Job, "environment",
                            {"LD_PRELOAD": os.path.join(driver.BUILD, "full-disk.so"), "FULL_AT": str(n)} if n else {})
    return set_


@pytest.fixture
def tiny(bench):
    bench.make_flash("initial=working", "geometry=p2K_b128K", blocks=BLOCKS)
    bench.unit_data_may_change = True
    bench.always_true = lambda: None  # it knows the big chip's partitions
    return bench


def spoil(bench, *blocks):
    with flashfile.Flash(bench.flash_path) as f:
        at = [f.data_offset + b * PAGES * f.page_size for b in blocks]
    with open(bench.flash_path, "r+b") as f:
        for place in at:
            f.seek(place)
            f.write(b"spoilt")


def unchanged(bench, before):
    bench.stop()
    with bench.flashed() as f:
        verdict = flashfile.compare_unchanged(f, before)
    assert verdict, str(verdict)


def test_backup(tiny, package, full):
    before, whole = flashfile.Snapshot.load(tiny.flash_path), 0
    for n in range(1, 1000):
        full(n)
        tiny.start(*BASE)
        job = tiny.backup(package, kind="nand")
        if job.result == "done":
            break
        assert job.error == "NoSpace" and job.message, job.words
        assert "BACKUP.sha256" not in job.values
        unchanged(tiny, before)
        full(0)
        half = file_job("verify", tiny.directory, tiny.saved)
        whole += half.result == "done"
        assert half.result == "done" or half.error == "BackupDamaged", half.words
    assert n > 20 and file_job("verify", tiny.directory, tiny.saved).result == "done"
    assert whole == 1, "all was written, and the disk would not say that it has it"


def test_import(tiny, package, full):
    tiny.start(*BASE)
    assert tiny.backup(package, kind="nand").result == "done"
    for n in range(1, 1000):
        full(n)
        job = file_job("import", tiny.directory, tiny.saved)
        if job.result == "done":
            break
        assert job.error == "NoSpace", job.words
    assert n > 2


def test_restore(tiny, package, full):
    """What is saved first, and the journal."""
    tiny.start(*BASE)
    assert tiny.backup(package, kind="nand").result == "done"
    path, b = tiny.saved, backupfile.Backup(tiny.saved)
    tiny.stop()
    spoil(tiny, 0, 5, 8)
    spoilt = open(tiny.flash_path, "rb").read()
    before = flashfile.Snapshot.load(tiny.flash_path)
    journal = os.path.join(tiny.directory, "restore.journal")
    kinds = set()
    for n in range(1, 1000):
        with open(tiny.flash_path, "wb") as f:
            f.write(spoilt)
        if os.path.exists(journal):
            os.unlink(journal)
        full(n)
        tiny.start(*BASE)
        job = tiny.restore(path, package, journal=journal)
        if job.result == "done":
            break
        assert job.error in ("NoBackup", "NoSpace") and job.message and job.result == "failed", job.words
        kinds.add(job.error)
        assert "DESTRUCTIVE" not in job.values
        unchanged(tiny, before)
        full(0)
        if n % 5 == 0:
            tiny.start(*BASE)
            job = tiny.restore(path, package, journal=journal)
            assert job.result == "done", job.words
            tiny.stop()
            with tiny.flashed() as f:
                assert expected_difference(b, f, b.parts) is None
    assert kinds == {"NoBackup", "NoSpace"}, kinds
    # From the first erase on it is not stopped half-way because it cannot be noted.
    for more in range(n, n + 3):
        with open(tiny.flash_path, "wb") as f:
            f.write(spoilt)
        os.unlink(journal)
        full(more)
        tiny.start(*BASE)
        job = tiny.restore(path, package, journal=journal)
        assert job.result == "done" and job.log_has("not noted"), job.words
        tiny.stop()
        with tiny.flashed() as f:
            assert expected_difference(b, f, b.parts) is None


def test_flash(tiny, package, full):
    """Before the first erase nothing is lost; after it the flash can be continued."""
    tiny.make_flash("initial=working", blocks=BLOCKS)
    contents = open(tiny.flash_path, "rb").read()
    before = flashfile.Snapshot.load(tiny.flash_path)
    came_to = []
    for n in range(1, 1000):
        with open(tiny.flash_path, "wb") as f:
            f.write(contents)
        if os.path.exists(tiny.journal):
            os.unlink(tiny.journal)
        full(n)
        tiny.start("force_edl=yes")
        job = tiny.flash(package, reset=0)
        full(0)
        if job.result == "done":
            break
        began = "DESTRUCTIVE" in job.values
        came_to.append((job.error, began))
        if not began:
            assert job.error in ("NoBackup", "NoSpace") and job.message, job.words
            unchanged(tiny, before)
            continue
        assert job.error == "NoSpace" and job.message, job.words
        tiny.start("force_edl=yes")
        job = tiny.flash(package, reset=0)
        assert job.result == "done" and job.log_has("continuing"), job.words
    ways = [("NoBackup", False), ("NoSpace", False), ("NoSpace", True)]
    assert came_to == sorted(came_to, key=ways.index) and all(came_to.count(way) > 1 for way in ways), came_to


# ---- before anything is started ----

@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MiB, mounted for this test."""
    if os.getuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", tmp_path],
                                          capture_output=True).returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def on(disk, bench, monkeypatch):
    """What is saved lies on this disk."""
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *a, **k: real(
        os.path.join(disk, os.path.basename(path)) if "saved." in str(path) and a[0] & os.O_CREAT else path, *a, **k))


def test_flash_without_room(bench, small_disk, monkeypatch):
    bench.make_flash("initial=working")
    bench.start("start=sahara")
    bench.packages("--small")
    on(small_disk, bench, monkeypatch)
    job = bench.flash()
    bench.assert_refused(job, "NoSpace", "MiB", "--allow=NoBackup")
    assert "READY" not in job.values and bench.trace().bytes_out == []
    bench.start("start=sahara")
    assert bench.flash(allow="NoBackup", reset=0).result == "done"


def test_restore_without_room(tiny, package, small_disk, monkeypatch):
    bench = tiny
    bench.start(*BASE)
    assert bench.backup(package, kind="nand").result == "done"
    path = bench.saved
    bench.stop()
    with open(os.path.join(small_disk, "ballast"), "wb") as f:
        f.write(bytes(6 << 20))
    on(small_disk, bench, monkeypatch)
    bench.start(*BASE)
    job = bench.restore(path, package)
    assert job.error == "NoSpace" and "READY" not in job.values, job.words


def test_backup_without_room(bench, small_disk, monkeypatch):
    bench.start("initial=working", "start=sahara")
    bench.packages("--small")
    on(small_disk, bench, monkeypatch)
    job = bench.backup(kind="calibration")
    bench.assert_refused(job, "NoSpace", "MiB")
    assert "allow" not in job.message
