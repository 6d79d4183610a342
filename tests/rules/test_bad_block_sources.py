# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flash rule 8 where bad blocks are told and not shown."""
import re

import pytest

import conftest
from conftest import PAGES, blocks_of

SEC = blocks_of("sec")
OLD = ("--chip", "MDM9x07", "--literals", "PAGES_PER_BLOCK", "--version", "EG25GGBR07A07M2G_01.001.01.001")
MODEM = ("geometry=p2K_b128K", "hwid=000480e100000000", "version=EG25GGBR07A07M2G", "project=EG25GGB")
BLOCK = 2048 * PAGES


def package(tmp_path, monkeypatch, images, *arguments):
    """A small package with other images."""
    monkeypatch.setattr(conftest.MAKER, "SMALL_IMAGES", images)
    p = conftest.Package(str(tmp_path), ["--small", *arguments])
    assert p.directory  # while the images are these
    return p


def sized(sec):
    return [("sbl1.mbn", ["SBL"], 12288), ("tz.mbn", ["TZ"], 20480), ("sec.dat", ["sec"], sec)]


def flash(bench, p, **options):
    return bench.flash(p, known="EG25GGBR07A07M2G", **options)


@pytest.mark.parametrize("kind", ["physical", "good-ack", "good-nak"])
def test_told_block_leaves_no_room(bench, tmp_path, monkeypatch, kind):
    p = package(tmp_path, monkeypatch, sized(len(SEC) * BLOCK), *OLD)
    bench.start(*MODEM, "bad=%d" % SEC[1], "erase_kind=" + kind)
    bench.assert_refused(flash(bench, p), "FirmwareInvalid", "sec", "1 are bad")


@pytest.mark.parametrize("kind", ["physical", "good-ack", "good-nak"])
def test_told_block_is_never_in_an_erase(bench, tmp_path, monkeypatch, kind):
    """Without last_sector an erase that counts good blocks would run into the next partition."""
    p = package(tmp_path, monkeypatch, sized(BLOCK), *OLD)
    bench.start(*MODEM, "bad=%d" % SEC[1], "erase_kind=" + kind)
    trace = bench.assert_done(flash(bench, p))
    assert all(SEC[1] not in c.blocks for c in trace.erases), trace.erases
    assert [b for c in trace.erases for b in c.blocks if b in SEC] == [b for b in SEC if b != SEC[1]]


def test_told_none_fills_a_partition(bench, tmp_path, monkeypatch):
    p = package(tmp_path, monkeypatch, sized(len(SEC) * BLOCK), *OLD)
    bench.start(*MODEM)
    bench.assert_done(flash(bench, p))


def test_nobody_tells_and_unit_data_follow(bench, tmp_path, monkeypatch):
    """sec fills its partition; behind it lies cust_info. A single bad block that nobody knows would be enough."""
    p = package(tmp_path, monkeypatch, sized(len(SEC) * 2 * BLOCK), "--literals", "PAGES_PER_BLOCK")
    bench.start()
    bench.assert_refused(bench.flash(p), "EraseCalibration", "sec", "cust_info", "--allow=EraseCalibration",
                         hint="contact-vendor")


BLIND = ("--literals", "PAGES_PER_BLOCK")


@pytest.mark.parametrize("kind", ["physical", "good-ack", "good-nak"])
@pytest.mark.parametrize("bad", [[SEC[-1]], [SEC[-2], SEC[-1]], [SEC[0]], [SEC[1], SEC[-1]], []], ids=str)
def test_nobody_tells_and_an_erase_may_run_on(bench, tmp_path, monkeypatch, kind, bad):
    """Counted in good blocks and without an end, the erase of sec would take as many of cust_info as sec has bad ones."""
    p = package(tmp_path, monkeypatch, sized(BLOCK), *BLIND)
    bench.start(*(["bad=" + ",".join(map(str, bad))] if bad else []), "erase_kind=" + kind)
    # From a bad block of its own to the next one, which is erased anyway; never out of the partition.
    bench.may_violate = ["erase spills into block=%d," % b for b in SEC]
    job = bench.flash(p)
    trace = bench.assert_done(job)
    assert all(len(c.blocks) == 1 for c in trace.erases), trace.erases
    spoiled = {b for b in bad if all(x in bad for x in range(b, SEC[-1] + 1))}
    assert not [c for c in trace.erases if c.blocks[0] in spoiled], trace.erases
    assert {b for c in trace.erases for b in c.blocks if b in SEC} == set(SEC) - spoiled
    # What was found out is told, by its number.
    told = [re.search(r"block (\d+) of sec reads as block (\d+), which is not its own: it is bad", line) for line in job.log]
    assert [(int(t[1]), int(t[2])) for t in told if t] == [(b, SEC[-1] + 1) for b in sorted(spoiled)], job.log
