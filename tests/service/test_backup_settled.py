# SPDX-License-Identifier: LGPL-2.1-or-later
"""A backup is called stored when its file, its record and the names of both are on the disk, and not before: power cuts, a disk that
fails, a service that dies in between."""

import signal
import subprocess

import dbus
import pytest
from conftest import BACKUP, HERE, JOB, MODEM, PATIENCE, VERSION, Refused, id_of
from test_backup import content, rot, start_bench  # noqa: F401 (a fixture)


class Disk:
    """The bench, and what of its store came to the disk (sync.c)."""

    def __init__(self, start_bench, plug, tmp_path):  # noqa: F811
        library = tmp_path / "sync.so"
        subprocess.run(["cc", "-D_GNU_SOURCE", "-O2", "-fPIC", "-shared", "-o", library, HERE / "sync.c"], check=True)
        self.synced, self.wish, self.plug = tmp_path / "synced", tmp_path / "sync-wish", plug
        self.environment = {"LD_PRELOAD": str(library), "SYNCED": str(self.synced), "SYNC_WISH": str(self.wish)}
        self.bench = start_bench(environment=self.environment)
        self.store = self.bench.service.state / "backups"
        self.bench.firmware()

    def start(self):
        self.bench.service.start(worker=self.bench.tmp_path / "forged", environment=self.environment)
        self.bench.plug = self.plug(self.bench.service)
        self.bench.modem = self.bench.service.modem()

    def has(self, path):
        return str(path.stat().st_ino) in self.synced.read_text().split()

    def flash(self, number=1, **facts):
        """The job, whose backup has this content."""
        self.bench.wish(content(number, **facts))
        return self.bench.start("Flash", dbus.ObjectPath(self.bench.firmware()), modem_version=VERSION)

    def heard(self, job):
        """The id that was called stored, which is on the disk then."""
        self.bench.done(job)
        heard = str(self.bench.service.get(job, JOB, "Report")["heard"])
        assert self.has(self.store / (heard + ".tar")) and self.has(self.store / (heard + ".rec")) and self.has(self.store)
        return heard

    def backup(self, heard):
        return next(b for b in self.bench.backups() if id_of(b) == heard)

    def state(self, heard):
        return str(self.bench.get(self.backup(heard), "State"))


@pytest.fixture
def disk(start_bench, plug, tmp_path):  # noqa: F811
    return Disk(start_bench, plug, tmp_path)


def test_the_power_fails_behind_the_word(disk):
    """Only what was synced has its content then."""
    heard = disk.heard(disk.flash())
    disk.bench.service.stop(signal.SIGKILL)
    for path in disk.store.iterdir():
        if not disk.has(path):
            path.write_bytes(b"")
    disk.start()
    assert disk.state(heard) == "complete" and disk.bench.service.get(disk.bench.modem, MODEM, "LastBackupTime") > 0
    with Refused("LastBackup"):
        disk.bench.service.call(disk.backup(heard), BACKUP, "Remove", disk.bench.service.no_options())


@pytest.mark.parametrize("tick", [0, 1])  # the same file, or another one of the same content
@pytest.mark.parametrize("wish", [".tar", ".rec", "/backups", "no-fork", "die"])
def test_what_never_came_to_the_disk_is_brought_there_before_it_is_called_stored(disk, wish, tick):
    disk.wish.write_text(wish)
    job = disk.flash(tick=0)
    if wish == "die":
        assert disk.bench.service.process.wait(PATIENCE) == -signal.SIGKILL
        disk.start()
        assert disk.bench.service.get(job, JOB, "Result") == "interrupted"
    else:
        assert "disk" in disk.bench.failed(job, "NoBackup")
    first, = disk.store.glob("*.tar")
    inode = first.stat().st_ino
    heard = disk.heard(disk.flash(tick=tick))
    if wish in ("no-fork", "die"):
        assert heard == first.stem and disk.state(heard) == "complete"
    elif tick:  # nobody knows what of it is on the disk
        assert heard != first.stem and disk.state(first.stem) == "damaged"
    else:
        assert heard == first.stem and disk.state(heard) == "complete" and first.stat().st_ino != inode


@pytest.mark.parametrize("wish", [".tar", ".rec", "/backups"])
def test_one_that_stood_before_is_settled_anew(disk, wish):
    first = disk.heard(disk.flash(tick=0))
    disk.wish.write_text(wish)
    assert "disk" in disk.bench.failed(disk.flash(tick=1), "NoBackup")
    assert disk.state(first) == "damaged" and len(disk.bench.backups()) == 1
    assert disk.heard(disk.flash(tick=1)) != first


@pytest.mark.parametrize("state", ["complete", "damaged"])
def test_a_flash_rests_on_none_that_has_rotted(disk, state):
    """A page that cannot be read stops no flash by itself: that its backup is "damaged" says nothing of the file."""
    first = disk.heard(disk.flash(tick=0, state=state))
    rot(disk.bench, disk.backup(first))
    assert disk.heard(disk.flash(tick=1, state=state)) != first
