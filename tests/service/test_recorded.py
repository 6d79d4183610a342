# SPDX-License-Identifier: LGPL-2.1-or-later
"""The partition tables that a unit had: recorded from call to call, and each of them counts. The real service, real workers, a virtual
modem."""

import sys

import dbus
import pytest
from catching import import_package, options
from conftest import BACKUP, MODEM, TOP, VERSION, pull

sys.path.insert(0, str(TOP / "tests" / "modem"))
sys.path.insert(0, str(TOP / "tests" / "package"))
import flash as flashfile  # noqa: E402
import layout  # noqa: E402

OTHER = [("SBL", 0, 10), ("MIBIB", 10, 10), ("RAWDATA", 72, 5), ("EFS2", 77, 10)]  # in what the package writes as TZ


class Unit:
    """A modem whose table others lay out anew, and what the service records of it."""

    def __init__(self, service, new_modem, directory, package):
        self.service, self.new_modem, self.path = service, new_modem, directory / "modem.flash"
        self.age, self.package = 10, dbus.ObjectPath(package)
        self.there = new_modem(service)
        self.path_of_modem = service.modem()

    def lay_out(self, partitions):
        pull(self.there)
        self.age += 1
        with flashfile.Flash(self.path) as f:
            at, size, pages = f.data_offset, f.page_size, f.pages_per_block
        with open(self.path, "r+b") as f:
            f.seek(at + 10 * pages * size)
            f.write(layout.mibib(size, partitions=partitions, age=self.age))
        self.there = self.new_modem(self.service)
        self.path_of_modem = self.service.modem()

    def backup(self):
        job = self.service.call(self.path_of_modem, MODEM, "Backup", options(kind="calibration"))
        assert self.service.wait_job(job) == "done", self.service.log(job)

    def refused(self, method="Flash"):
        """What a call says that is refused before the modem is touched."""
        with pytest.raises(dbus.exceptions.DBusException) as e:
            self.service.call(self.path_of_modem, MODEM, method, self.package, options(modem_version=VERSION))
        assert e.value.get_dbus_name().endswith(".EraseCalibration"), e.value
        return e.value.get_dbus_message()

    def tables(self):
        file, = (self.service.state / "modems").glob("*.tables")
        return file

    def content(self):
        return flashfile.Snapshot.load(self.path)


@pytest.fixture
def unit(service, new_modem, make_package, tmp_path):
    package = import_package(service, make_package("--small"))
    return Unit(service, new_modem, tmp_path, package)


def test_a_second_table_takes_nothing_from_the_first(unit):
    """Another tool moved EFS2 to where the package has it: what lies where it was is refused in every call, not in the first only."""
    unit.lay_out(OTHER)
    unit.backup()
    unit.lay_out(layout.PARTITIONS)
    before = unit.content()
    for _ in range(2):
        assert "blocks 77 to 86" in unit.refused()
        unit.backup()  # it tells the table that it has now
    assert unit.tables().read_text().count("NAME=SBL\n") == 2 and unit.tables().read_text().count("\n\n\n") == 1
    assert "blocks 77 to 86" in unit.refused("Plan")
    pull(unit.there)
    with flashfile.Flash(unit.path) as f:
        assert flashfile.compare_unchanged(f, before)


def test_a_file_of_an_earlier_version(unit):
    """One blank line between two tables: it is read, and goes on."""
    unit.lay_out(OTHER)
    unit.backup()
    unit.lay_out(layout.PARTITIONS)
    unit.backup()
    old = unit.tables().read_text()
    unit.tables().write_text(old.replace("\n\n\n", "\n\n"))
    assert "blocks 77 to 86" in unit.refused()
    unit.backup()
    assert unit.tables().read_text() == old.replace("\n\n\n", "\n\n")
    unit.lay_out([(n, f, c - 1 if n == "misc" else c) for n, f, c in layout.PARTITIONS])
    unit.backup()
    assert unit.tables().read_text().count("NAME=SBL\n") == 3
    assert "blocks 77 to 86" in unit.refused()


def test_a_file_that_the_power_emptied(unit):
    """It stops a flash, until a backup has saved all of the chip and recorded the table anew."""
    unit.backup()
    unit.tables().write_text("")
    for method in "Flash", "Plan":
        assert "a backup saves all of it and records them anew" in unit.refused(method)
    unit.backup()
    assert [b for b in unit.service.properties(BACKUP).values() if "system" in b["Partitions"]]
    assert unit.tables().read_text().count("NAME=SBL\n") == 1
    assert unit.service.call(unit.path_of_modem, MODEM, "Plan", unit.package, options(modem_version=VERSION))


@pytest.mark.parametrize("what", ["garbage\n", "NAME=SBL\nFIRST=0\nBLOCKS=10\n" * 3000], ids=["garbage", "huge"])
def test_a_file_that_cannot_be_read(unit, what):
    """Nothing is gone without, a further table does not make it a good one, and its way out has a name."""
    unit.backup()
    unit.tables().write_text(what)
    unit.lay_out([(n, f, c - 1 if n == "misc" else c) for n, f, c in layout.PARTITIONS])
    unit.backup()  # it goes on, and saves all of it
    assert [b for b in unit.service.properties(BACKUP).values() if "system" in b["Partitions"]]
    for method in "Flash", "Plan":
        message = unit.refused(method)
        assert "recorded for this unit cannot be read" in message and "--allow=EraseCalibration" in message, message
    allowed = options(modem_version=VERSION, allow=dbus.Array(["EraseCalibration"], signature="s"))
    plan = unit.service.call(unit.path_of_modem, MODEM, "Plan", unit.package, allowed)
    assert plan
