# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tables of README.md name tests that are there."""
import os
import re

from conftest import HERE


def test_every_test_that_a_case_names_is_there():
    with open(os.path.join(HERE, "README.md")) as f:
        named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", f.read())
    assert len(named) > 40
    for file, test in named:
        with open(os.path.join(HERE, file)) as f:
            assert re.search(r"^def %s\(" % test, f.read(), re.MULTILINE), "%s::%s" % (file, test)


def test_every_rule_has_a_file_with_cases():
    with open(os.path.join(HERE, "README.md")) as f:
        text = f.read()
    for n in range(1, 12):
        assert "test_rule_%02d.py::" % n in text, n
