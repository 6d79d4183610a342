# SPDX-License-Identifier: LGPL-2.1-or-later
"""What README.md tells of backups, told to a virtual modem: each command as it stands there, in its order."""

import re

import xqcn
from conftest import BACKUP, JOB, MODEM, TOP, wait_until
from test_backup_modem import backupfile, spoil
from test_diag import IMEI, MASKED, VERSION, running  # noqa: F401 (fixtures)
from test_qdlctl_backup import qdlctl  # noqa: F401 (a fixture)
from test_xqcn import id_of, replug

SPOILT = (77, 91, 98)  # of TZ, cust_info and boot
AT_ONCE = "[Identify]\nOnAppear=yes\nDelaySec=0\n"


def commands(title):
    """Of the section with this title, without what is optional or an example of another case."""
    section = re.split(r"\n##+ " + title + "\n", (TOP / "README.md").read_text())[1].split("\n#")[0]
    return section, re.findall(r"^    (?:To leave it: )?(qdlctl .*?)(?:  +#.*)?$", section, re.M)


def test_before_anything_goes_wrong_and_when_it_has(running, new_modem, qdlctl, tmp_path):
    service, modem = running("sahara_reset=reboot", config=AT_ONCE)
    # "Plug it in and wait a minute".
    wait_until(lambda: service.paths(BACKUP), what="the backup that nobody asked for")
    wait_until(lambda: service.get(modem, MODEM, "Job") == "/", what="the end of its job")
    _, told = commands("Before anything goes wrong")
    assert told == ["qdlctl status", "qdlctl backup --kind=xqcn", "qdlctl backups export ID --format=xqcn"]
    said = qdlctl("status").stdout
    assert VERSION in said and MASKED in said and re.search(r"Last backup: 20\d\d-", said) and "missing" not in said, said
    assert "State: complete" in qdlctl("backup", "--kind=xqcn").stdout
    backup, = service.paths(BACKUP)  # the same content is the same one
    ours = id_of(backup)
    printed = qdlctl("backups", "export", ours, "--format=xqcn").stdout
    file, = tmp_path.glob("*.xqcn")
    assert str(file.name) in printed and len(xqcn.Calibration(file.read_bytes()).nv) > 200

    # An eraser came.
    replug(service, new_modem, tmp_path, "calibration=erased", "sahara_reset=reboot")
    wait_until(lambda: service.get(modem, MODEM, "FactoryTestMode"), what="factory test mode")
    wait_until(lambda: not service.workers(), what="the end of the worker")
    section, told = commands("My modem is in factory test mode")
    said = qdlctl("status").stdout
    # As the README shows it, but for port and id.
    missing, = re.findall(r"^    (Calibration: .*)$", section, re.M)
    assert missing in said and told == ["qdlctl restore 1-2 9f2c41d07e55"]
    command = re.search(r"To leave it: qdlctl (.*)", said).group(1).split()
    assert [len(word) for word in command] == [len("restore"), len(service.get(modem, MODEM, "KernelName")), 12] and ours.startswith(command[2])
    done = qdlctl("--yes", *command).stdout
    assert "Verified: every item and file" in done and "Operating mode: 5 (online)" in done, done
    # "Your own XQCN of this very module does as well": there is nothing left for it to do.
    assert "`qdlctl restore 1-2 mine.xqcn`" in section
    file.rename(tmp_path / "mine.xqcn")
    done = qdlctl("--yes", "restore", command[1], "mine.xqcn").stdout
    assert "Written: 0" in done and "Reset: not needed" in done, done
    said = qdlctl("status").stdout
    assert MASKED in said and "factory test" not in said and IMEI not in said


def test_what_is_saved_where_it_lies_and_how_to_get_it_back(running, make_package, qdlctl, tmp_path):
    """On one screen, and true."""
    service, modem = running("sahara_reset=reboot", config=AT_ONCE + "[Backup]\nAutomatic=no\n")
    assert service.wait_job(service.import_file(make_package("--small"))) == "done"
    wait_until(lambda: service.get(modem, MODEM, "Imei") == MASKED, what="who it is")
    section, told = commands("What is saved, where it lies, how to get it back")
    assert section.count("\n") <= 32 and max(map(len, section.splitlines())) <= 160
    assert told == ["qdlctl backups", "qdlctl backups export ID FILE", "qdlctl backups import FILE", "qdlctl backups verify ID",
                    "qdlctl restore ID", "qdlctl backups remove ID"]
    assert "`qdlctl backup`" in section and "State: complete" in qdlctl("backup").stdout
    backup, = service.paths(BACKUP)
    words = {"ID": id_of(backup)[:12], "FILE": "mine.tar"}

    def run(command, *more, code=0):
        assert command in told
        return qdlctl("--yes", *[words.get(word, word) for word in command.split()[1:]], *more, code=code)

    # "one file each", in the state directory, which the shipped unit has in /var/lib.
    assert "`/var/lib/qdld/backups`" in section and len(list((service.state / "backups").glob("*.tar"))) == 1
    assert words["ID"] in run("qdlctl backups").stdout
    run("qdlctl backups export ID FILE")
    # "the last good one of a unit only with --allow=LastBackup"; then the copy is all that there is.
    assert "--allow=LastBackup" in run("qdlctl backups remove ID", code=1).stderr
    run("qdlctl backups remove ID", "--allow=LastBackup")
    assert service.paths(BACKUP) == []
    run("qdlctl backups import FILE")
    run("qdlctl backups verify ID")
    flash = tmp_path / "modem.flash"
    spoil(flash, *(block * 64 for block in SPOILT))
    saved = backupfile.Backup(tmp_path / "mine.tar")
    assert saved.difference(backupfile.flashfile.Flash(flash)) is not None
    printed = run("qdlctl restore ID").stdout
    assert "Verified: every page" in printed and int(re.search(r"Blocks written: (\d+)", printed)[1]) >= len(SPOILT), printed
    with open(flash, "rb") as f:
        assert b"something else" not in f.read()
    assert service.get(modem, MODEM, "Mode") == "normal"
    # "what is there now is saved first"
    assert len(service.paths(BACKUP)) == 2
    job = service.paths(JOB)[-1]
    assert service.get(job, JOB, "Kind") == "restore"
