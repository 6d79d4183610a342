# SPDX-License-Identifier: LGPL-2.1-or-later
"""Flash rule 7: erase and program are printed from integers; no text of a package ever reaches the wire.

Bench.close() asserts the form of every erase and program of every test in this directory (assert_complete); here the
package tries to have its own words sent.
"""
import pytest

from conftest import PAGES, blocks_of


def words(trace):
    return [(c.tag, c.text) for c in trace.commands]


@pytest.fixture(scope="module")
def clean(packages):
    """What a package without tricks puts on the wire."""
    import tempfile
    from conftest import Bench
    with tempfile.TemporaryDirectory() as directory:
        b = Bench(directory, packages)
        b.start()
        trace = b.assert_done(b.flash())
        b.close()
        return words(trace)


# Attributes that a package adds to its lines; XML's own spelling.
TRICKS = {
    "last-sector-of-the-chip": ["erase:sec:last_sector=131071", "program:TZ:last_sector=131071"],
    "unknown-attributes": ["erase:sec:skip_bad_block=1", "program:TZ:get_spare=1", "program:TZ:ecc_disabled=1"],
    "label-with-quotes": ["erase:sec:label=&quot; start_sector=&quot;0&quot; num_partition_sectors=&quot;131072"],
    "label-with-a-tag": ["program:TZ:label=&lt;erase/&gt;&lt;/data&gt;"],
    "label-with-newlines": ["erase:sec:label=&#10;&#13;&#9;"],
    "long-label": ["erase:sec:label=" + "A" * 3000],
    "many": ["erase:sec:x%d=%d" % (i, i) for i in range(60)],
    "other-case": ["erase:sec:START_SECTOR=0", "erase:sec:Num_Partition_Sectors=131072"],
    "slot": ["program:TZ:slot=7", "erase:sec:slot=7"],
    "spoofed-vendor-words": ["erase:sec:c_project_name=RM502QGLAA", "erase:sec:a_rawdata_start_sector=0"],
    "expressions-elsewhere": ["program:TZ:start_byte_hex=0xffffffffffffffff", "program:TZ:size_in_KB=1e99"],
}


@pytest.mark.parametrize("trick", sorted(TRICKS))
def test_not_a_letter_gets_through(bench, clean, trick):
    """To the letter the same commands as without the trick."""
    arguments = [a for t in TRICKS[trick] for a in ("--attribute", t)]
    bench.start()
    trace = bench.assert_done(bench.flash(arguments))
    assert words(trace) == clean


HUGE = {
    "start": "erase:sec:start_sector=%s", "count": "erase:sec:num_partition_sectors=%s", "size": "erase:sec:SECTOR_SIZE_IN_BYTES=%s",
    "pages": "program:TZ:PAGES_PER_BLOCK=%s", "last": "erase:sec:last_sector=%s",
    "physical": "erase:sec:physical_partition_number=%s",
}


def test_a_last_sector_beyond_everything_is_not_ours(bench, clean):
    """The package's word for an end is compared and never used."""
    bench.start()
    assert words(bench.assert_done(bench.flash(("--attribute", "erase:sec:last_sector=4294967296")))) == clean


@pytest.mark.parametrize("value", ["18446744073709551615", "99999999999999999999999", "-1", "1" + "0" * 400])
@pytest.mark.parametrize("where", sorted(HUGE))
def test_numbers_that_wrap(bench, where, value):
    bench.start()
    job = bench.flash(("--attribute", HUGE[where] % value))
    bench.assert_error(job, "FirmwareInvalid")
    assert bench.assert_unchanged().bytes_out == []


@pytest.mark.parametrize("line", ["erase:sec:num_partition_sectors=0", "program:TZ:num_partition_sectors=0", "erase:sec:last_sector=5568",
                                  "erase:sec:num_partition_sectors=1", "erase:sec:start_sector=5569",
                                  "erase:sec:PAGES_PER_BLOCK=32", "erase:sec:SECTOR_SIZE_IN_BYTES=2048",
                                  "program:TZ:start_sector=5000"])
def test_numbers_that_do_not_fit(bench, line):
    bench.start()
    job = bench.flash(("--attribute", line))
    bench.assert_error(job, "FirmwareInvalid")
    assert bench.assert_unchanged().bytes_out == []


def test_sectors_of_no_bytes_are_left_out(bench):
    """As BG95 packages have them (reference/edl.md 8.24); passed on it would erase the whole chip."""
    bench.start()
    job = bench.flash(("--attribute", "erase:sec:SECTOR_SIZE_IN_BYTES=0"))
    assert job.result == "done", job.words
    trace = bench.trace()
    assert all(c.attributes["SECTOR_SIZE_IN_BYTES"] == "4096" for c in trace.changes)
    assert not trace.having("whole disk")


def test_every_command_is_whole(bench):
    """Also of a package that writes all partitions, most of them without physical_partition_number."""
    bench.start()
    trace = bench.assert_done(bench.flash(bench.packages("--size", "4M")))
    assert len(trace.programs) >= 8 and len(trace.erases) >= 8
    for c in trace.programs:
        assert c.last == blocks_of(c.partition)[-1] * PAGES + PAGES - 1, c
    for c in trace.erases:
        assert c.last == blocks_of(c.partition)[-1] * PAGES + PAGES - 1 and len(c.blocks) == len(blocks_of(c.partition)), c


def test_nothing_but_known_commands(bench):
    bench.start()
    trace = bench.assert_done(bench.flash(("--vendor-tag",)))
    assert {c.tag for c in trace.commands} <= {"nop", "configure", "getstorageinfo", "read", "erase", "program", "getsha256digest",
                                               "power"}
