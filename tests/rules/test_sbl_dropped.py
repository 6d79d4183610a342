# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flash rules 6 and 9: an SBL that is not known to be right does not stay, whatever it was that failed; so the modem comes back
in 9008, where the same call made again finds it."""
import pytest

from conftest import blocks_of


def of_sbl(trace, tag):
    return [c for c in trace.of(tag) if c.first in blocks_of("SBL")][-1].number


def assert_dropped(bench, job, error):
    bench.assert_error(job, error)
    assert bench.sbl_is_erased(), job.words
    assert job.log_has("was erased again"), job.log
    bench.start()
    bench.assert_done(bench.flash())


@pytest.mark.parametrize("fault", ["nak@command", "nak@done"])
def test_program(bench, rehearsal, fault):
    bench.start("fault=%s:%d" % (fault, of_sbl(rehearsal(), "program")))
    assert_dropped(bench, bench.flash(), "FirehoseFailed")


def test_map_behind_it(bench, rehearsal):
    bench.start("fault=nak@command:%d" % (of_sbl(rehearsal(), "program") + 2))
    assert_dropped(bench, bench.flash(), "FirehoseFailed")


def test_digest_and_reading_back(bench, rehearsal):
    n = of_sbl(rehearsal(), "getsha256digest")
    bench.start("fault=nak@command:%d" % n, "fault=nak@command:%d" % (n + 1))
    assert_dropped(bench, bench.flash(), "FirehoseFailed")


def test_cannot_be_erased(bench, rehearsal):
    """If even that fails, nobody is told that the modem waits."""
    n = of_sbl(rehearsal(), "getsha256digest")
    bench.start(*["fault=nak@command:%d" % (n + i) for i in range(3)])
    job = bench.flash()
    bench.assert_error(job, "FirehoseFailed", "could not be erased again", hint="bridge-usb-boot")
    assert not bench.sbl_is_erased()
