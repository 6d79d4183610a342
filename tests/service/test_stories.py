# SPDX-License-Identifier: LGPL-2.1-or-later
"""The two stories of README.md about calibration, told to a virtual modem: each command as it stands there, in its order."""

import re

import xqcn
from conftest import BACKUP, MODEM, TOP, wait_until
from test_diag import IMEI, MASKED, VERSION, running  # noqa: F401 (fixtures)
from test_qdlctl_backup import qdlctl  # noqa: F401 (a fixture)
from test_xqcn import id_of, replug

AT_ONCE = "[Identify]\nOnAppear=yes\nDelaySec=0\n"


def commands(title):
    """Of the section with this title, without what is optional or an example of another case."""
    section = (TOP / "README.md").read_text().split("\n### " + title + "\n")[1].split("\n#")[0]
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
