# SPDX-License-Identifier: LGPL-2.1-or-later
"""The memory that unpacking a package may take: enough for what 7-Zip makes, and an end above that."""

import os
import subprocess
import sys

import pytest
from conftest import FIRMWARE, JOB, TOP, VERSION, error

sys.path.insert(0, str(TOP / "tests" / "package"))
import dictionary  # noqa: E402

MIB = 1 << 20


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    out = tmp_path_factory.mktemp("tree") / VERSION
    subprocess.run([sys.executable, TOP / "tests" / "package" / "make-package.py", "--small", "--version", VERSION, "--out", out],
                   check=True)
    return out


@pytest.mark.parametrize("ending", [".7z", ".tar.xz"])
@pytest.mark.parametrize("size, fits", [(64 * MIB, True), (128 * MIB, True), (256 * MIB, False), (1536 * MIB, False)])
def test_a_large_dictionary(service, tree, tmp_path, ending, size, fits):
    archive = tmp_path / (VERSION + ending)
    dictionary.pack(tree, archive, size)
    job = service.import_file(archive)
    if fits:
        assert service.wait_job(job) == "done", service.get(job, JOB, "ErrorMessage")
        assert service.get(service.get(job, JOB, "Object"), FIRMWARE, "Name") == VERSION
    else:
        assert service.wait_job(job) == "failed"
        assert service.get(job, JOB, "ErrorName") == error("TooLarge"), service.get(job, JOB, "ErrorMessage")
        assert service.paths(FIRMWARE) == [] and os.listdir(service.state / "firmware") == []
