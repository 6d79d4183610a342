# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whatever comes back in the middle of a flash must be the modem that went, also where no serial number says so."""
import os
import subprocess

import pytest

from conftest import PAGES, blocks_of, driver, flashfile

NAMELESS = {
    "serial of zeros": ("serial=00000000",),
    "no command mode": ("command_mode=no", "product_edl=QHSUSB__BULK"),
}
BLOCK = blocks_of("TZ")[1]
SLOW = "program_us=20000"  # so that a write is still under way when the test hears of it


@pytest.fixture(params=NAMELESS)
def nameless(request):
    return NAMELESS[request.param]


class Swap:
    """Takes the modem away in the middle of a write, and has another one come."""

    def __init__(self, bench, *settings):
        self.place = os.path.join(bench.directory, "other")
        os.mkdir(self.place)
        self.flash = os.path.join(self.place, "flash")
        argv = [os.path.join(driver.BUILD, "virtual-modem"), "--flash", self.flash, "--new", "--make-flash"]
        for s in settings:
            argv += ["--set", s]
        subprocess.run(argv, check=True)
        self.settings = [s for s in settings if not s.startswith("bad=") and s != OTHER_DATA]
        self.before = flashfile.Snapshot.load(self.flash)
        self.bench = bench
        self.modem = None

    def __call__(self, job):
        if self.modem or "program" not in job.phases:
            return
        self.modem = driver.Modem(self.place, self.flash, self.settings, new=False)
        self.bench.modem.close()
        self.bench.modem = job.modem = self.modem
        self.bench.traces.append(self.modem.trace)
        job.send(["DEVICE_GONE=1"])

    def assert_untouched(self):
        assert self.modem, "the modem was never taken away"
        trace = self.bench.trace()
        assert trace.commands, "the other modem was not even looked at"
        assert trace.changes == [], trace.changes
        with flashfile.Flash(self.flash) as f:
            verdict = flashfile.compare_unchanged(f, self.before)
        assert verdict, str(verdict)


OTHER_DATA = "serial=12345678"  # what is made with it, and comes without telling it

OTHERS = {
    "one more bad block": ((), ("bad=%d" % BLOCK,), "block %d is bad" % BLOCK),
    "one bad block less": (("bad=%d" % BLOCK,), (), "block %d is good" % BLOCK),
    "another project": ((), ("project=RM500QGLAA",), "RM500QGLAA"),
    # All that two of one batch differ in: neither tells its serial or has a bad block.
    "another calibration": ((), (OTHER_DATA,), "holds something else"),
    "no table": ((), ("initial=blank",), "partition table"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_one_comes_back(bench, nameless, other):
    first, second, words = OTHERS[other]
    bench.start(SLOW, *nameless, *first)
    swap = Swap(bench, *nameless, *second)
    job = bench.flash(on_message=swap)
    bench.assert_error(job, "WrongUnit", words, "nothing was written", hint="replug")
    swap.assert_untouched()


def test_the_same_one_comes_back(bench, nameless, rehearsal):
    settings = (*nameless, "bad=%d" % BLOCK)
    bench.start(*settings, "fault=unplug@command:%d" % rehearsal(settings=settings).programs[0].number)
    job = bench.flash(confirmed=False)
    trace = bench.assert_done(job)
    assert job.log_has("the modem went away") and job.phases.count("gate") == 2, (job.phases, job.log)
    assert trace.programs
    # RAWDATA is asked once in each appearance; what is saved is read in larger pieces.
    assert sum(c.count == PAGES and c.blocks[0] == blocks_of("RAWDATA")[0] for c in trace.of("read")) == 2


def test_the_same_one_comes_back_without_its_new_table(bench):
    """Lost with MIBIB erased, or half written: what this flash did itself is no proof of another unit."""
    def lose(job):
        if job.phases and job.phases[-1] == "program" and job.values.get("DETAIL") == "MIBIB" and not lost:
            lost.append(True)
            modem = job.modem
            bench.modem = job.modem = driver.Modem(bench.directory, bench.flash_path, NAMELESS["serial of zeros"], new=False,
                                                   trace=bench.traces[0] + ".again")
            modem.process.terminate()
            modem.drop()
            modem.process.wait()
            bench.traces.append(bench.modem.trace)
            job.send(["DEVICE_GONE=1"])
    lost = []
    bench.start(SLOW, *NAMELESS["serial of zeros"])
    job = bench.flash(("--break", "other-table"), on_message=lose)
    assert lost and job.phases.count("gate") == 2, job.phases
    bench.assert_done(job)


def test_a_serial_is_enough(bench, rehearsal):
    bench.start("fault=unplug@command:%d" % rehearsal().programs[0].number)
    job = bench.flash()
    bench.assert_done(job)
    assert job.log_has("the modem went away") and job.phases.count("gate") == 1, job.phases
