# SPDX-License-Identifier: LGPL-2.1-or-later
"""Backups that leave the house."""

import tarfile

from ring import WORK, Modem, firmware, flashfile, library, run, scenario


def pages_of(path):
    """Block by block what lies there: state and bytes of each page."""
    with flashfile.Flash(path) as f:
        return {b: [(f.state(p), bytes(f.page(p)) if f.state(p) == flashfile.WRITTEN else None)
                    for p in range(b * f.pages_per_block, (b + 1) * f.pages_per_block)] for b in range(f.blocks)}


def same_but_for_ones(now, before):
    """Erased pages in front of written ones may have become 0xFF: other tools write whole images."""
    for block, pages in before.items():
        for i, ((state, data), (state_now, data_now)) in enumerate(zip(pages, now[block])):
            ones = state == flashfile.ERASED and state_now == flashfile.WRITTEN and set(data_now) == {0xFF}
            assert ones or (state, data) == (state_now, data_now), f"page {i} of block {block}"


@scenario
def export_is_restored_by_qdl_of_debian():
    """a backup exported from the store, written onto the spoilt modem by a tool that shares nothing with us"""
    modem = Modem("initial=working", "force_edl=yes", "sahara_zlp=ignore")
    before = pages_of(modem.file)
    library()
    out = WORK / "export"
    out.mkdir(exist_ok=True)
    run("qdlctl", "backup", modem.kernel, "--kind=nand", "-o", out / "backup.tar", timeout=300)
    with tarfile.open(out / "backup.tar") as tar:
        tar.extractall(out)
    run("sha256sum", "--check", "--quiet", "SHA256SUMS", cwd=out)
    run("systemctl", "stop", "qdld")
    modem.unplug()
    with flashfile.Flash(modem.file) as f:
        places = [f.data_offset + b * f.pages_per_block * f.page_size for b in (0, 5, 8, 9)]
    with open(modem.file, "r+b") as f:
        for at in places:
            f.seek(at)
            f.write(b"spoilt")
    modem.plug()
    programmer, = (firmware(ending="") / "update" / "firehose").glob("prog_*")
    run("qdl", "--storage", "nand", "--include", out, programmer, out / "rawprogram.xml", timeout=300)
    modem.unplug()
    same_but_for_ones(pages_of(modem.file), before)
    modem.expect_no_violation()
