# SPDX-License-Identifier: LGPL-2.1-or-later
"""qdlctl reset of a modem in 9008, with the real worker: what came of it is what was seen, not what was hoped or feared."""

import re

import pytest
from conftest import MODEM, wait_until
from test_qdlctl import OTHER, RECOVERY, qdlctl

WORKING = ("initial=working", "start=sahara", "force_edl=no")


@pytest.fixture
def bench(service, new_modem):
    """bench(settings...): the path of a modem in 9008."""
    def make(*settings):
        new_modem(service, *settings)
        return service.modem()
    return make


def test_a_rom_that_restarts(service, bench, qdlctl):
    modem = bench(*WORKING, "sahara_reset=reboot")
    said = qdlctl("reset").out
    assert re.search(r"Job 1 \(reset\) is done", said) and "Came back in: normal" in said
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal", what="normal mode")


def test_a_rom_that_restarts_without_a_firmware(service, bench, qdlctl):
    bench("initial=blank", "sahara_reset=reboot")
    last = qdlctl("reset", "-j", code=RECOVERY).last()
    assert last["result"] == "not-returned" and "no firmware that boots" in last["ErrorMessage"]
    assert last["RecoveryHint"] == "import-firmware"


def test_a_rom_that_only_says_hello_again(service, bench, qdlctl):
    """The modem is well; it was not even tried to boot it."""
    modem = bench(*WORKING, "sahara_reset=hello")
    result = qdlctl("reset", code=RECOVERY)
    assert "was not started anew" in result.err and "Take the modem's power away" in result.err
    assert "firmware" not in result.err and "Came back" not in result.err
    assert service.get(modem, MODEM, "Held")


@pytest.mark.parametrize("mode, then", [("normal", "normal"), ("edl", "sahara"), ("off", "absent")])
def test_of_a_programmer(service, bench, qdlctl, mode, then):
    modem = bench("initial=working", "start=firehose", "force_edl=no")
    assert "(reset) is done" in qdlctl("reset", "--mode=" + mode).out
    wait_until(lambda: service.get(modem, MODEM, "Mode") == then, what=then)


def test_what_only_a_programmer_can_do(service, bench, qdlctl):
    bench(*WORKING)
    assert "can only be reset to normal" in qdlctl("reset", "--mode=off", code=OTHER).err
    assert "(reset) is done" in qdlctl("reset", "--mode=edl").out  # it is there
