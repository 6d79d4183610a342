# SPDX-License-Identifier: LGPL-2.1-or-later
"""qdlctl's verbs about backups, as people and scripts use them."""

import json
import os
import subprocess

import pytest
from conftest import BACKUP, BUILD, JOB, PATIENCE, wait_until
from test_backup import bench, content, start_bench  # noqa: F401 (fixtures)

OK, OTHER, USAGE, NO_SUCH, DENIED, BUSY, RETRY, RECOVERY = range(8)


@pytest.fixture
def qdlctl(bus_address, tmp_path):
    def run(*arguments, code=OK, text=True, cwd=tmp_path):
        environment = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=bus_address, LC_ALL="C.UTF-8", TZ="UTC0")
        result = subprocess.run([BUILD / "qdlctl", *map(str, arguments)], env=environment, stdin=subprocess.DEVNULL, cwd=cwd,
                                capture_output=True, text=text, timeout=2 * PATIENCE)
        assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
        return result
    return run


def id_of(qdlctl):
    """The id of the one backup."""
    backup, = json.loads(qdlctl("-j", "backups").stdout)
    return backup["path"].split("/")[-1].removeprefix("_3")[-12:], backup["path"]


def test_an_empty_store(bench, qdlctl):
    assert "qdlctl backup" in qdlctl("backups").stdout
    assert json.loads(qdlctl("-j", "backups", "list").stdout) == []
    assert "qdlctl backups" in qdlctl("backups", "show", "1234", code=NO_SUCH).stderr


def test_list_and_show(bench, qdlctl):
    path = bench.bring(content(kind="nand"))
    name = bench.stored("*.tar")[0][:32]
    head, row = qdlctl("backups").stdout.splitlines()
    assert head.split() == ["ID", "TAKEN", "KIND", "STATE", "MODEL", "SERIAL", "SIZE", "VERSION"]
    assert row.split()[0] == name[:12] and "2023-11-14 22:13:20" in row and " nand " in row and " 49cbd7ef " in row
    for selector in (name, name[:4], name[:12].upper(), path):
        shown = qdlctl("backups", "show", selector).stdout
        assert name in shown and "efs2, rawdata" in shown and "nand (the flash)" in shown
    assert json.loads(qdlctl("-j", "backups", "show", name).stdout)["Partitions"] == ["efs2", "rawdata"]
    qdlctl("backups", "show", name[:3], code=NO_SUCH)
    assert "list, show, export" in qdlctl("backups", "burn", code=USAGE).stderr


def test_backup_and_its_copy(bench, qdlctl, tmp_path):
    bench.firmware()
    result = qdlctl("backup", "--kind=calibration", "-o", "mine.tar")
    copy = tmp_path / "mine.tar"
    assert copy.read_text() == json.dumps(content()) and copy.stat().st_mode & 0o777 == 0o600
    assert "mine.tar" in result.stdout
    assert "File exists" in qdlctl("backup", "-o", "mine.tar", code=OTHER).stderr
    assert bench.service.get(bench.service.paths(JOB)[-1], JOB, "Kind") == "backup"
    jobs = len(bench.service.paths(JOB))
    assert jobs == 2  # the package's import and one backup: the second was refused before it began
    bench.wish(content(2, kind="nand"))
    last = [json.loads(line) for line in qdlctl("-j", "backup", "--partitions=modem,system").stdout.splitlines()][-1]
    assert last["Result"] == "done" and last["Report"]["partitions"] == "modem,system" and "backup" in last["Object"]
    number = qdlctl("backup", "--no-wait").stdout.strip()
    [job] = [j for j in bench.service.paths(JOB) if str(bench.service.get(j, JOB, "Id")) == number]
    assert bench.service.wait_job(job) == "done"  # its forged worker would not hear a STOP


def test_a_copy_that_fails_leaves_the_backup(bench, qdlctl):
    bench.firmware()
    result = qdlctl("backup", "-o", "no/such/directory", code=OTHER)
    assert "qdlctl backups export" in result.stderr and len(bench.backups()) == 1


@pytest.mark.parametrize("arguments", [("backup", "-o", "-"), ("backup", "-o", "x", "--no-wait"), ("backup", "--allow=NoBackup"),
                                       ("restore",), ("backups", "export"), ("backups", "export", "a", "b", "-o", "c"),
                                       ("backups", "show", ""), ("flash", "--kind=nand", "x"), ("status", "--partitions=a")])
def test_command_lines_that_are_refused(bench, qdlctl, arguments):
    qdlctl(*arguments, code=USAGE)
    assert bench.service.paths(JOB) == []


def test_export(bench, qdlctl, tmp_path):
    bench.bring(content())
    name = bench.stored("*.tar")[0][:32]
    data = json.dumps(content()).encode()
    assert qdlctl("backups", "export", name, "-", text=False).stdout == data
    assert f"qdld-backup-{name[:12]}.tar" in qdlctl("backups", "export", name).stdout
    assert (tmp_path / f"qdld-backup-{name[:12]}.tar").read_bytes() == data
    assert json.loads(qdlctl("-j", "backups", "export", name, "named").stdout)["file"] == "named"
    qdlctl("backups", "export", name, "named", code=OTHER)
    qdlctl("-j", "backups", "export", name, "-", code=USAGE)


def test_import_verify_remove(bench, qdlctl, tmp_path):
    result = qdlctl("backups", "import", bench.file(content()))
    name = bench.stored("*.tar")[0][:32]
    assert name in result.stdout and "RM502QGL" in result.stdout
    assert "directory" in qdlctl("backups", "import", tmp_path, code=USAGE).stderr
    qdlctl("backups", "import", "nowhere", code=NO_SUCH)
    qdlctl("backups", "verify", name)
    assert "LastBackup" in qdlctl("backups", "remove", name, code=OTHER).stderr
    assert name[:12] in qdlctl("backups", "remove", name, "--allow=LastBackup").stdout
    assert bench.backups() == []


def test_restore_of_a_stored_one_and_of_a_file(bench, qdlctl, tmp_path):
    bench.firmware()
    bench.take(content(1))
    name = bench.stored("*.tar")[0][:32]
    bench.wish(content(2))
    assert "Backup" in qdlctl("restore", name[:8], "--partitions=efs2").stdout
    (tmp_path / "file.tar").write_text(json.dumps(content(3)))
    bench.wish(content(4))
    qdlctl("restore", "./file.tar")
    assert len(bench.backups()) == 4  # taken, saved before the first, brought, saved before the second
    (tmp_path / name).write_text("ambiguous")
    assert "is a file here and a backup in the store" in qdlctl("restore", name, code=USAGE).stderr
    (tmp_path / "other.tar").write_text(json.dumps(content(5, serial="0badcafe")))
    refused = qdlctl("restore", "other.tar", code=OTHER)
    assert "allow=WrongUnit" in refused.stderr
    qdlctl("restore", "other.tar", "--allow=WrongUnit")


def test_status_says_when_it_was_saved(bench, qdlctl):
    assert "Last backup" not in qdlctl("status").stdout
    bench.take(content())
    assert "Last backup" in qdlctl("status").stdout
