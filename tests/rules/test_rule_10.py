# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flash rule 10: reset only after success; then the modem must come back by itself."""
import pytest

from conftest import GIVE_UP, VERSION, driver

WAIT = 2000000  # microseconds that a modem gets to boot here


def test_comes_back(bench):
    bench.start()
    job = bench.flash()
    bench.assert_done(job)
    assert "wait-normal" in job.phases and job.phases[-1] == "identify"
    assert job.report["version"].split("_")[0] == VERSION, job.report


def test_other_version(bench):
    """It came back and says that it runs something else: no success, whatever was verified."""
    bench.start("boots=other-version")
    job = bench.flash()
    assert job.result == "wrong-version", job.words
    bench.assert_error(job, "WrongFirmware", "complete and verified", VERSION, "R99A99", hint="wrong-firmware")


def test_no_calibration(bench):
    """It came back with the right version, in factory test mode."""
    bench.start("calibration=erased")
    job = bench.flash(imei_key="00" * 32)
    assert job.result == "no-calibration", job.words
    bench.assert_error(job, "CalibrationAtRisk", "complete and verified", "factory test mode", hint="restore-backup")
    assert job.report["version"].split("_")[0] == VERSION


def test_does_not_tell(bench):
    """A modem whose DIAG says nothing is no failure; that nobody asked it is said."""
    bench.start("fault=hang@diag:1", still_clock=True)
    job = bench.flash()
    bench.assert_done(job)
    assert "not confirmed" in job.report["version"] and VERSION in job.report["version"], job.report


def test_nobody_may_ask_it(bench, monkeypatch):
    """It stays in normal mode, and its node cannot be opened: it is not said to have left."""
    monkeypatch.setattr(driver.Job, "withholds_diag", True)
    bench.start(still_clock=True)
    job = bench.flash()
    bench.assert_done(job)
    assert "not confirmed" in job.report["version"], job.report


def test_leaves_before_it_tells(bench):
    """Its first boot took it away again, for longer than a reset does: it is waited for, and asked then."""
    bench.start("fault=unplug@diag:1", "replug_ms=45000", still_clock=True)
    job = bench.flash()
    bench.assert_done(job)
    assert "not confirmed" not in job.report["version"] and VERSION in job.report["version"], job.report
    assert job.log_has("left normal mode before it told"), job.log


@pytest.mark.parametrize("replug_ms", [-1, 200000])
def test_leaves_before_it_tells_and_stays_away(bench, replug_ms):
    """That it was there for a moment is no success."""
    bench.start("fault=unplug@diag:1", "replug_ms=%d" % replug_ms, still_clock=True)
    job = bench.flash()
    assert job.result == "not-returned", job.words
    bench.assert_error(job, "Timeout", "complete and verified", "normal", hint="power-cycle")


@pytest.mark.parametrize("settings", [("port_normal=virtual-usb-1:4.1", "kernel_normal=2-4.1"), ("product=Qualcomm HS-USB",),
                                      ("reboot_ms=300",), ("boots=once-more",), ("max_packet_normal=1024",)])
def test_comes_back_in_another_way(bench, settings):
    """At another port, with another name, late, or after one more reboot."""
    bench.start(*settings)
    job = bench.flash()
    assert job.result == "done", job.words
    assert len(bench.trace().resets) == 1


def test_does_not_come_back(bench):
    """It came back in 9008: complete and verified, and yet no success."""
    bench.start("boots=no")
    job = bench.flash(boot_usec=WAIT)
    assert job.result == "not-returned", job.words
    bench.assert_error(job, "Timeout", "complete and verified", "normal", hint="power-cycle")


def test_comes_back_in_9008_again_and_again(bench):
    bench.start("boots=no", "loop=hard", "window_ms=3000", "gap_ms=10")
    job = bench.flash(boot_usec=20000000)
    assert job.result == "not-returned", job.words
    assert job.error in ("WrongMode", "Timeout") and "edl" in job.message and job.hint == "power-cycle", job.words


def test_never_comes_back(bench):
    bench.start("reboot_ms=30000")
    job = bench.flash(boot_usec=WAIT)
    assert job.result == "not-returned" and job.hint == "power-cycle", job.words
    assert "complete and verified" in job.message


def test_resets_late(bench):
    """The ACK of a reset is no reset: it is waited for."""
    bench.start("power_delay=honour")
    bench.assert_done(bench.flash())


def test_without_reset(bench):
    """reset=0: verified, and left in 9008 with its programmer up."""
    bench.start()
    job = bench.flash(reset=0)
    assert job.result == "done" and job.holding, job.words
    trace = bench.trace()
    assert trace.resets == [] and not trace.having("boot normal")
    assert bench.boots() == "normal"


def test_reset_is_the_last_command(bench):
    bench.start()
    trace = bench.assert_done(bench.flash())
    assert trace.commands[-1].tag == "power" and trace.commands[-1].attributes["value"] == "reset"
    assert len(trace.resets) == 1


@pytest.mark.parametrize("settings,known", [(("vendor=refuse",), VERSION), (("project=RM502QAEAA",), None), (("flip=1",), VERSION),
                                            (("fail_erase=1,2,77,78",), VERSION)])
def test_no_reset_without_success(bench, settings, known):
    bench.start(*settings)
    job = bench.flash(("--vendor-tag",), known=known)
    assert job.result == "failed", job.words
    assert bench.trace().resets == []


def test_done_twice(bench):
    """A flash that is complete is not continued by the next call: it is done again from its start."""
    bench.start()
    bench.assert_done(bench.flash())
    bench.start("start=sahara")
    job = bench.flash()
    trace = bench.assert_done(job)
    assert job.log_has("starting from the beginning"), job.log
    assert [c.partition for c in trace.programs][-1] == "SBL" and len(trace.programs) == 3


def test_result_names(bench, rehearsal):
    """not-returned, failed and interrupted are three different things."""
    bench.start("fault=unplug@command:%d" % rehearsal().programs[0].number, "replug_ms=-1")
    job = bench.flash(wait_device_usec=GIVE_UP)
    assert job.result == "interrupted" and job.error == "ModemGone" and job.hint, job.words
