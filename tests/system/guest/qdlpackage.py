# SPDX-License-Identifier: LGPL-2.1-or-later
"""A package of ours as a peer takes it."""

import shutil
from xml.etree import ElementTree

from ring import WORK, firmware


def package_for_qdl(name):
    """Quectel's XML as Debian's qdl wants it: a label, a last_sector, a partition number, and no path of another system. (programmer, XML)"""
    place = WORK / "qdl"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    firehose = firmware(name, "") / "update" / "firehose"
    for path in [*firehose.iterdir(), *firehose.parent.iterdir()]:
        if path.is_file():
            shutil.copy(path, place)
    xml, = place.glob("rawprogram*.xml")
    tree = ElementTree.parse(xml)
    for e in tree.getroot():
        e.set("physical_partition_number", e.get("physical_partition_number", "0"))
        e.set("last_sector", str(int(e.get("start_sector")) + int(e.get("num_partition_sectors")) - 1))
        if e.get("filename"):
            e.set("label", e.get("filename").split("\\")[-1])
            e.set("filename", e.get("filename").split("\\")[-1])
    tree.write(xml)
    programmer, = place.glob("prog_*")
    return programmer, xml
