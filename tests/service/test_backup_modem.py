# SPDX-License-Identifier: LGPL-2.1-or-later
"""Backup and restore as a whole: the real service, real workers, a virtual modem, and files that lie."""

import contextlib
import hashlib
import io
import os
import signal
import sys
import tarfile

import dbus
import pytest
from conftest import BACKUP, JOB, MODEM, PATIENCE, TOP, dies_at_rename, go_on, wait_stopped
from test_qdlctl_backup import qdlctl  # noqa: F401 (a fixture)

sys.path.insert(0, str(TOP / "tests" / "rules"))
sys.path.insert(0, str(TOP / "tests" / "modem"))
import backupfile  # noqa: E402


@pytest.fixture
def modem(service, new_modem, make_package):
    """A held modem of 512 blocks, and a package for it in the library."""
    new_modem(service, blocks=512)
    job = service.import_file(make_package())
    assert service.wait_job(job) == "done"
    return service.modem()


def backup(service, modem, **options):
    job = service.call(modem, MODEM, "Backup", dbus.Dictionary(options, signature="sv"))
    assert service.wait_job(job) == "done", str(service.get(job, JOB, "ErrorMessage"))
    return job, str(service.get(job, JOB, "Object"))


def content(service, backup_):
    fd = service.call(backup_, BACKUP, "Open", service.no_options()).take()
    with os.fdopen(fd, "rb") as f:
        return f.read()


def test_what_was_saved_is_what_lies_in_the_flash(service, modem, tmp_path):
    job, first = backup(service, modem, kind="calibration")
    assert service.get(modem, MODEM, "Held") and service.get(first, BACKUP, "State") == "complete"
    assert service.get(first, BACKUP, "ChipSerial") == service.get(modem, MODEM, "ChipSerial") != ""
    assert {"SBL", "MIBIB", "EFS2", "RAWDATA"} <= set(service.get(first, BACKUP, "Partitions"))
    (tmp_path / "exported").write_bytes(content(service, first))
    exported = backupfile.Backup(tmp_path / "exported")
    assert exported.difference(backupfile.flashfile.Flash(tmp_path / "modem.flash")) is None
    assert first.endswith(exported.id[1:])
    # The same again is the same, whenever it was read.
    again, second = backup(service, modem, kind="calibration")
    assert second == first and "stored before" in service.get(again, JOB, "Report")["backup"]
    assert service.get(modem, MODEM, "LastBackupTime") > 0


def test_the_whole_flash_and_some_of_it(service, modem):
    # A chip of 512 blocks: 128 MiB, most of it erased.
    made, whole = backup(service, modem)
    # What is stored is no partition any more.
    assert (service.get(made, JOB, "Phase"), service.get(made, JOB, "Detail")) == ("store-backup", "")
    names = [str(p) for p in service.get(whole, BACKUP, "Partitions")]
    assert service.get(whole, BACKUP, "Kind") == "nand" and "modem" in names and "system" in names
    _, some = backup(service, modem, partitions=dbus.Array(["efs2", "modem"], signature="s"))
    assert {p.lower() for p in service.get(some, BACKUP, "Partitions")} == {"efs2", "modem"}
    job = service.call(modem, MODEM, "Backup", dbus.Dictionary({"partitions": dbus.Array(["nosuch"], signature="s")}, signature="sv"))
    assert service.wait_job(job) == "failed" and "nosuch" in service.get(job, JOB, "ErrorMessage")
    assert len(service.paths(BACKUP)) == 2


def test_export_and_import(service, modem, qdlctl, tmp_path):
    qdlctl("backup", "--kind=calibration", "-o", "copy.tar")
    first, = service.paths(BACKUP)
    assert "LastBackup" in qdlctl("backups", "remove", first, code=1).stderr
    qdlctl("backups", "remove", first, "--allow=LastBackup")
    result = qdlctl("backups", "import", "copy.tar")
    assert service.paths(BACKUP) == [first] and "Id" in result.stdout
    assert content(service, first) == (tmp_path / "copy.tar").read_bytes()
    qdlctl("backups", "verify", first)


# ---- files that are no backups ----

@pytest.fixture
def exported(service, modem, tmp_path):
    """The bytes of a real backup, which is in the store."""
    _, path = backup(service, modem, kind="calibration")
    return content(service, path)


def refuse(service, data, tmp_path):
    path = tmp_path / "forged"
    path.write_bytes(data)
    before = sorted((service.state / "backups").iterdir())
    job = service.import_backup(path)
    assert service.wait_job(job) == "failed", "it was taken"
    assert str(service.get(job, JOB, "ErrorName")).endswith((".BackupDamaged", ".TooLarge")), service.get(job, JOB, "ErrorMessage")
    assert sorted((service.state / "backups").iterdir()) == before and service.get(job, JOB, "Object") == "/"
    return str(service.get(job, JOB, "ErrorMessage"))


def members(data):
    """[(name, offset of the header, offset of the content, size)]"""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(m.name, m.offset, m.offset_data, m.size) for m in tar.getmembers()]


def test_every_class_of_byte_is_checked(service, exported, tmp_path):
    """One bit in a header's name, size, checksum and padding, in each sort of member, between them and behind."""
    places = []
    listed = members(exported)
    kinds = {}
    for name, header, start, size in listed:
        kinds.setdefault(name.rsplit(".")[-1], (name, header, start, size))
    for name, header, start, size in kinds.values():
        places += [header, header + 124, header + 148, header + 156, header + 300]
        places += [start + size // 2, start + size - 1] if size else []
        if size % 512:
            places.append(start + size)  # the padding
    places.append(len(exported) - 1)
    for at in places:
        data = bytearray(exported)
        data[at] ^= 1
        refuse(service, bytes(data), tmp_path)


def test_a_file_that_ends_early(service, exported, tmp_path):
    refuse(service, b"", tmp_path)
    for cut in (1, 511, 512, 1024, -512, -1024):
        refuse(service, exported[:cut], tmp_path)


def test_a_pipe_that_ends_early(service, exported):
    reader, writer = os.pipe()
    job = service.import_backup(reader)
    os.close(reader)
    os.write(writer, exported[:20000])
    os.close(writer)
    assert service.wait_job(job) == "failed" and service.get(job, JOB, "ErrorName").endswith(".BackupDamaged")
    assert len(service.paths(BACKUP)) == 1


def forge(exported, change):
    """The backup with other members: change(name, content) gives the content, or None to leave it out; headers and digests are
    right again."""
    listed = members(exported)
    contents = {name: change(name, exported[start:start + size]) for name, _, start, size in listed if name != "SHA256SUMS"}
    contents = {name: data for name, data in contents.items() if data is not None}
    sums = exported[[start for name, _, start, _ in listed if name == "SHA256SUMS"][0]:]
    order = [line.split(b"  ")[1].decode() for line in sums.split(b"\0")[0].splitlines()]
    contents["SHA256SUMS"] = b"".join(f"{hashlib.sha256(contents[n]).hexdigest()}  {n}\n".encode() for n in order if n in contents)
    out = b""
    for name, header, _, _ in listed:
        if name in contents:
            data = contents[name]
            head = bytearray(exported[header:header + 512])
            head[124:136] = b"%011o\0" % len(data)
            head[148:156] = b" " * 8
            head[148:156] = b"%06o\0 " % sum(head)
            out += bytes(head) + data + b"\0" * (-len(data) % 512)
    return out + b"\0" * 1024


FORGERIES = {
    "state": lambda name, data: data.replace(b'"complete"', b'"blank"') if name == "manifest.json" else data,
    "empty": lambda name, data: b"{}" if name == "manifest.json" else data,
    "deep": lambda name, data: b"[" * 100000 if name == "manifest.json" else data,
    "no image": lambda name, data: None if name.lower().startswith("efs2") else data,
    "no manifest": lambda name, data: None if name == "manifest.json" else data,
    "longer": lambda name, data: data + b"\0" * 4096 if name.lower().startswith("efs2") else data,
    "path": lambda name, data: data.replace(b'"EFS2', b'"../X') if name == "manifest.json" else data,
}


def test_a_forger_who_knows_the_format(service, exported, tmp_path):
    (tmp_path / "honest").write_bytes(forge(exported, lambda name, data: data))
    job = service.import_backup(tmp_path / "honest")
    assert service.wait_job(job) == "done", service.get(job, JOB, "ErrorMessage")  # so it is the change that is refused
    for what, change in FORGERIES.items():
        forged = forge(exported, change)
        assert forged != exported, what
        refuse(service, forged, tmp_path)


def test_other_archives(service, modem, make_package, tmp_path):
    for data in (make_package().read_bytes()[:1 << 20], b"\0" * 10240, os.urandom(4096), b"PK\3\4" + b"\0" * 100):
        refuse(service, data, tmp_path)


# ---- a restore that does not come to its end ----

def spoil(path, *pages):
    """Other bytes in pages that are written: there is something to put back."""
    with backupfile.flashfile.Flash(path) as f:
        places = [f.data_offset + p * f.page_size for p in pages]
    with open(path, "r+b") as f:
        for at in places:
            f.seek(at)
            f.write(b"something else" * 20)


@pytest.mark.parametrize("victim", ["worker", "service"])
def test_a_restore_that_was_interrupted_goes_on(service, new_modem, make_package, tmp_path, victim):
    """The same call continues it, and what it saved first is not pushed aside by a state that is half of each."""
    process = new_modem(service, "fault=stop@program:3", "force_edl=yes", "initial=working", blocks=192)
    assert service.wait_job(service.import_file(make_package())) == "done"
    modem = service.modem()
    job = service.call(modem, MODEM, "Backup", service.no_options())
    assert service.wait_job(job) == "done"
    saved = dbus.ObjectPath(str(service.get(job, JOB, "Object")))
    flash = tmp_path / "modem.flash"
    spoil(flash, *(b * 64 for b in (21, 77, 78, 97, 98, 110)))
    options = dbus.Dictionary({"partitions": dbus.Array(["TZ", "EFS2", "boot", "modem"], signature="s"),
                               "allow": dbus.Array(["WrongFirmware"], signature="s")}, signature="sv")
    job = service.call(modem, MODEM, "Restore", saved, options)
    wait_stopped(process)
    if victim == "worker":
        for pid in service.workers():  # one of them may only wait for a window
            os.kill(pid, signal.SIGKILL)
        go_on(process)
        assert service.wait_job(job) == "failed"
    else:
        service.stop(signal.SIGKILL, modem=process)
        service.start()
        assert service.get(job, JOB, "Result") == "interrupted"
        service.modem()
    assert service.get(modem, MODEM, "Interrupted") == job
    stored = service.paths(BACKUP)
    assert len(stored) == 2
    again = service.call(modem, MODEM, "Restore", saved, options)
    assert service.wait_job(again) == "done", service.log(again)
    assert service.get(again, JOB, "Resumes") == job and service.get(modem, MODEM, "Interrupted") == "/"
    assert "continues" in service.get(again, JOB, "Report")["backup"] and service.paths(BACKUP) == stored
    (tmp_path / "exported").write_bytes(content(service, saved))
    assert backupfile.Backup(tmp_path / "exported").difference(backupfile.flashfile.Flash(flash)) is None


# A backup of 384 blocks has come past its middle.
HALFWAY = "fault=stop@command:210"


def halfway(service, new_modem, make_package):
    process = new_modem(service, HALFWAY, "force_edl=yes", "initial=working", blocks=384)
    assert service.wait_job(service.import_file(make_package())) == "done"
    modem = service.modem()
    job = service.call(modem, MODEM, "Backup", service.no_options())
    wait_stopped(process)
    return process, modem, job


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_backup_goes_on_over_a_restart_of_the_service(service, new_modem, make_package, tmp_path, how):
    """What was read stays, but for what only the unit has: that is read anew, nobody watched it meanwhile."""
    process, modem, job = halfway(service, new_modem, make_package)
    service.stop(signal.SIGKILL if how == "killed" else signal.SIGTERM, modem=process)
    assert len(list((service.state / "jobs").glob("*.part"))) == 1
    spoil(tmp_path / "modem.flash", 21 * 64, 91 * 64)  # nobody watched: it may have run its firmware
    service.start()
    assert service.get(job, JOB, "Result") == "interrupted" and service.paths(BACKUP) == []
    service.modem()
    # Another call is another backup, and the only one that can be continued.
    again = service.call(modem, MODEM, "Backup", service.no_options())
    assert service.wait_job(again) == "done", service.log(again)
    assert service.get(again, JOB, "Resumes") == job
    report = service.get(again, JOB, "Report")
    assert int(report["continued"].split()[0]) > 50, report
    assert not list((service.state / "jobs").glob("*.part")) and not list((service.state / "jobs").glob("*.journal"))
    (tmp_path / "exported").write_bytes(content(service, service.get(again, JOB, "Object")))
    exported = backupfile.Backup(tmp_path / "exported")
    assert exported.difference(backupfile.flashfile.Flash(tmp_path / "modem.flash")) is None


@pytest.mark.parametrize("when, of", [("before", ".journal"), ("behind", ".journal"), ("behind", ".part")])
def test_a_service_that_dies_while_a_backup_changes_hands(service, new_modem, make_package, tmp_path, when, of):
    """The next one goes on with what was read, whichever of the two it is called by."""
    process, modem, job = halfway(service, new_modem, make_package)
    service.stop(modem=process)
    service.start(environment=dies_at_rename(tmp_path, when, of))
    service.modem()
    with contextlib.suppress(dbus.exceptions.DBusException):
        service.call(modem, MODEM, "Backup", service.no_options())
    assert service.process.wait(PATIENCE) == -signal.SIGKILL
    service.start()
    service.modem()
    again = service.call(modem, MODEM, "Backup", service.no_options())
    assert service.wait_job(again) == "done", service.log(again)
    assert (service.get(again, JOB, "Resumes") == job) == (when == "before")
    report = service.get(again, JOB, "Report")
    assert int(report["continued"].split()[0]) > 50, report
    assert not list((service.state / "jobs").glob("*.part")) and not list((service.state / "jobs").glob("*.journal"))


def test_an_unfinished_backup_whose_file_is_gone_begins_anew(service, new_modem, make_package):
    process, modem, _ = halfway(service, new_modem, make_package)
    service.stop(modem=process)
    part, = (service.state / "jobs").glob("*.part")
    part.unlink()
    service.start()
    service.modem()
    again, _ = backup(service, modem)
    assert service.get(again, JOB, "Resumes") == "/" and "continued" not in service.get(again, JOB, "Report")


def test_another_backup_does_not_go_on(service, new_modem, make_package, tmp_path):
    process, modem, job = halfway(service, new_modem, make_package)
    service.stop(modem=process)
    service.start()
    service.modem()
    other, _ = backup(service, modem, kind="calibration")
    assert service.get(other, JOB, "Resumes") == "/" and "continued" not in service.get(other, JOB, "Report")
    assert not list((service.state / "jobs").glob("*.part")), "one backup of a modem is continued, the last one"
    again, _ = backup(service, modem)
    assert service.get(again, JOB, "Resumes") == "/"


def test_what_rotted_of_an_unfinished_backup_is_read_again(service, new_modem, make_package, tmp_path):
    process, modem, job = halfway(service, new_modem, make_package)
    service.stop(modem=process)
    part, = (service.state / "jobs").glob("*.part")
    with open(part, "r+b") as f:
        size = f.seek(0, 2)
        for at in range(512, size, 300000):
            f.seek(at)
            f.write(b"rotten")
    journal, = (service.state / "jobs").glob("*.journal")
    with open(journal, "r+b") as f:
        f.truncate(f.seek(0, 2) - 17)
    service.start()
    service.modem()
    again, saved = backup(service, modem)
    assert service.get(again, JOB, "Resumes") == job
    (tmp_path / "exported").write_bytes(content(service, saved))
    assert backupfile.Backup(tmp_path / "exported").difference(backupfile.flashfile.Flash(tmp_path / "modem.flash")) is None
