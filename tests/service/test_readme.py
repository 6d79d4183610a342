# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every qdlctl command that README.md shows is one: it talks of nothing that is not there."""

import re
import subprocess

import pytest
from conftest import BUILD, TOP

OK, OTHER, NO_SERVICE = 0, 1, 8
FILES = ("PACKAGE.zip", "PACKAGE", "mine.xqcn")
SHOWN = re.compile(r"(?:^ +(?:\$ )?(?:sudo )?|`(?:sudo )?)(qdlctl(?: [^`#\n]*?)?)(?:`|  |\s*#|\s*$)", re.M)


def commands():
    """As written, each once."""
    return sorted(set(SHOWN.findall((TOP / "README.md").read_text())))


def test_there_are_some():
    assert len(commands()) > 20 and "qdlctl rescue --wait PACKAGE.zip" in commands()


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_is_understood(command, tmp_path):
    """Nobody answers: what is no usage error gets as far as the bus."""
    for name in FILES:
        (tmp_path / name).write_bytes(b"x")
    words = command.split()[1:]
    result = subprocess.run([BUILD / "qdlctl", *words], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            env={"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={tmp_path}/nobody", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
    expected = {"--help": (OK,), "doctor": (OK, OTHER, NO_SERVICE)}.get(words[0] if words else "", (NO_SERVICE,))
    named_only = len(words) == 1 and f"{words[0]} takes " in result.stderr
    assert result.returncode in expected or named_only, (command, result.stderr)
