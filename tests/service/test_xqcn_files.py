# SPDX-License-Identifier: LGPL-2.1-or-later
"""XQCN files of others, through the real service: QPST's and qfenix's layout come back as the same items, and what is not this
unit's, or is made to do harm, is refused with its reason before the modem is told anything but who it is."""

import time

import dbus
import pytest
import xqcn
from conftest import BACKUP, JOB, MODEM, wait_until
from test_diag import run, running, trace  # noqa: F401 (fixtures)
from test_qdlctl_backup import qdlctl  # noqa: F401 (a fixture)
from test_xqcn import lost, open_backup, replug, restore, save  # noqa: F401 (fixtures)

LAYOUTS = [xqcn.Qpst(), xqcn.Qfenix(), xqcn.Plain()]


def exported(service, backup):
    return open_backup(service, backup, format="xqcn")


def names_of(layouts):
    return [type(x).__name__ for x in layouts]


@pytest.mark.parametrize("layout", LAYOUTS, ids=names_of(LAYOUTS))
def test_the_layouts_of_others_end_factory_test_mode(lost, qdlctl, tmp_path, layout):
    """`restore FILE.xqcn`."""
    service, modem, backup = lost()
    ours = xqcn.Calibration(exported(service, backup))
    assert len(ours.nv) > 200 and len(ours.files) > 150 and ours.version.startswith("RM502QGLAAR05")
    text = layout.write(ours)
    assert xqcn.Calibration(text) == ours and text != exported(service, backup)
    (tmp_path / "theirs.xqcn").write_bytes(text)
    printed = qdlctl("--yes", "restore", str(tmp_path / "theirs.xqcn"))
    job = service.paths(JOB)[-1]
    assert service.get(job, JOB, "Result") == "done", (printed.stderr, service.log(job)[-2000:])
    assert service.get(job, JOB, "Report")["verified"] == "every item and file"
    assert not service.get(modem, MODEM, "FactoryTestMode")
    # The modem holds what the file held, and the container gives it back: nothing is lost on either way.
    assert xqcn.Calibration(exported(service, save(service, modem)[1])) == ours
    imported = [b for b in service.paths(BACKUP) if exported(service, b) == text]
    assert len(imported) == 1, "the file itself comes out again, byte for byte"


# ---- refused ----

def change_imei(c):
    data = bytearray(c.nv[0, xqcn.IMEI_ITEM])
    data[4] ^= 0x11
    c.nv[0, xqcn.IMEI_ITEM] = bytes(data)


def valid_other_imei(c):
    # 356938035643809
    c.nv[0, xqcn.IMEI_ITEM] = bytes.fromhex("083A65390853468390").ljust(128, b"\0")


REFUSED = {
    "another unit": (valid_other_imei, "WrongUnit", "another unit"),
    "an IMEI that is none": (change_imei, "WrongUnit", "no IMEI"),
    "no IMEI": (lambda c: c.nv.pop((0, xqcn.IMEI_ITEM)), "WrongUnit", "no IMEI"),
    "IMEI of zeros": (lambda c: c.nv.update({(0, xqcn.IMEI_ITEM): bytes(128)}), "WrongUnit", "no IMEI"),
    "another model": (lambda c: setattr(c, "version", "RM520NGLAAR05A03M4G"), "WrongFirmware", "another model"),
    "another variant": (lambda c: setattr(c, "version", "RM502QGLABR05A03M4G"), "WrongFirmware", "another model"),
    "another baseline": (lambda c: setattr(c, "version", "RM502QGLAAR11A03M4G"), "WrongFirmware", "baseline R11"),
    "no version": (lambda c: setattr(c, "version", ""), "WrongFirmware", "cannot be told"),
}


@pytest.fixture
def sample(running):
    """A healthy modem, and its calibration as a file has it."""
    service, modem = running()
    assert run(service, modem, "Identify")[1] == "done"
    _, backup = save(service, modem)
    return service, modem, xqcn.Calibration(exported(service, backup))


def test_what_is_not_this_units_is_refused(sample, qdlctl, tmp_path):
    service, modem, ours = sample
    for what, (spoil, error, word) in REFUSED.items():
        c = xqcn.Calibration(xqcn.Qpst().write(ours))
        spoil(c)
        (tmp_path / "theirs.xqcn").write_bytes(xqcn.Qpst().write(c))
        printed = qdlctl("--yes", "restore", str(tmp_path / "theirs.xqcn"), code=1).stderr
        job = max(service.paths(JOB), key=lambda path: service.get(path, JOB, "Id"))
        assert service.get(job, JOB, "Kind") == "restore", (what, printed)
        assert str(service.get(job, JOB, "ErrorName")).endswith(error), (what, printed)
        assert word in printed, (what, printed)
        # Not even told to go offline.
        assert "command=0x29" not in trace(service) and "command=0x27" not in trace(service), what


def problems(service, job):
    return [str(p) for p in service.get(job, JOB, "Report").get("problems", [])]


def left_alone(item, sim):
    return "not restored: NV item %d of SIM %d: qdld does not write it" % (item, sim)


def put_back(service, modem, tmp_path, calibration, **options):
    (tmp_path / "theirs.xqcn").write_bytes(xqcn.Qpst().write(calibration))
    job = service.import_backup(tmp_path / "theirs.xqcn")
    assert service.wait_job(job) == "done", service.get(job, JOB, "ErrorMessage")
    return restore(service, modem, dbus.ObjectPath(service.get(job, JOB, "Object")), **options)


def test_what_is_never_written(sample, tmp_path):
    """Of its own file: the IMEI of another SIM, and how often the unlock code may still be tried (reference/diag.md 4.5)."""
    service, modem, ours = sample
    other, now = bytes.fromhex("083A65390853468390").ljust(128, b"\0"), ours.nv[1, xqcn.IMEI_ITEM]
    assert other != now
    ours.nv[1, xqcn.IMEI_ITEM], ours.nv[0, 3252], ours.nv[0, 10] = other, bytes(128), bytes([77] * 128)
    job, result = put_back(service, modem, tmp_path, ours)
    assert result == "done", service.log(job)[-2000:]
    assert sorted(problems(service, job)) == sorted([left_alone(550, 2), left_alone(3252, 1)])
    assert service.get(job, JOB, "Report")["written"] == "1" and service.get(job, JOB, "Report")["refused"].startswith("2,")
    said = trace(service)
    assert "diag nv write item=10 " in said and "diag nv write item=550 " not in said and "diag nv write item=3252 " not in said
    assert xqcn.Calibration(exported(service, save(service, modem)[1])).nv[1, xqcn.IMEI_ITEM] == now


@pytest.mark.parametrize("path", ["/nvm/num/550", "/nvm/context1/550", "/nvm/num/3252"])
def test_an_item_is_not_written_by_its_file(sample, tmp_path, path):
    """Firmware keeps NV item 550 in /nvm/num/550: who could write that could change an IMEI."""
    service, modem, ours = sample
    ours.files[path], ours.files["/nv/item_files/modem/lte/theirs"] = b"\x08\x3a" + bytes(126), b"new"
    job, result = put_back(service, modem, tmp_path, ours)
    assert result == "done", service.log(job)[-2000:]
    assert [p for p in problems(service, job) if "1 file below /nvm" in p] and service.get(job, JOB, "Report")["written"] == "1"
    assert "/nv/item_files/modem/lte/theirs" in trace(service) and path not in trace(service)
    now = xqcn.Calibration(exported(service, save(service, modem)[1]))
    assert path not in now.files and now.files["/nv/item_files/modem/lte/theirs"] == b"new"


@pytest.mark.parametrize("path", ["/./nvm/num/550", "/nv/./item_files/x", "/nvm/num/.", "/nv/../nvm/num/550"])
def test_a_path_has_one_name(sample, tmp_path, path):
    """Else a rule about a path would be none."""
    service, modem, ours = sample
    ours.files[path] = b"x"
    (tmp_path / "theirs.xqcn").write_bytes(xqcn.Qpst().write(ours))
    job = service.import_backup(tmp_path / "theirs.xqcn")
    assert service.wait_job(job) == "failed" and "no path that a modem could have" in service.get(job, JOB, "ErrorMessage")


def test_an_imei_is_given_to_nobody_who_did_not_have_it(sample, new_modem, tmp_path):
    """A blank modem of which nobody knows whose it is: by WrongUnit it takes the calibration, and by nothing the IMEI."""
    service, modem, ours = sample
    service.restart()  # nobody watched the port meanwhile
    modem = replug(service, new_modem, tmp_path, "calibration=erased")
    assert run(service, modem, "Identify")[1] == "done"
    job, result = put_back(service, modem, tmp_path, ours)
    assert result == "failed" and str(service.get(job, JOB, "ErrorName")).endswith("WrongUnit"), service.log(job)
    assert "--allow=WrongUnit" in service.get(job, JOB, "ErrorMessage") and "diag nv write" not in trace(service)
    job, result = put_back(service, modem, tmp_path, ours, allow=dbus.Array(["WrongUnit"], signature="s"))
    assert int(service.get(job, JOB, "Report")["written"]) > 300, service.log(job)[-2000:]
    assert left_alone(550, 1) in problems(service, job) and left_alone(550, 1) in service.log(job)
    assert "diag nv write item=550 " not in trace(service)
    now = xqcn.Calibration(exported(service, save(service, modem)[1]))
    assert (0, xqcn.IMEI_ITEM) not in now.nv or not any(now.nv[0, xqcn.IMEI_ITEM])
    assert result == "no-calibration"  # without an IMEI it is no working modem, and that is said


HUGE = 100_000_000


def one_large_value(text):
    at = text.index(b"<Stream Length='6' Name='File_Version'")
    size = HUGE // 3
    return text[:at] + b"<Stream Length='%d' Name='Roaming' Value='" % size + b"00 " * (size - 1) + b"00'/>" + text[at:]


HOSTILE = {
    # As long as it says and closed nowhere: told after as much as a value may have, or at its end.
    "100 MB without an end": (lambda t: t[:t.index(b"'88 00") + 1] + b"00 " * (HUGE // 3), ("line",)),
    "100 MB of storages": (lambda t: t[:t.index(b"<Storage")] + b"<Storage Name='00000000'>" * (HUGE // 25), ("more than 8 Storages", "line")),
    "100 MB of spaces": (lambda t: t + b" " * HUGE + b"x", ("line",)),
    "length too small": (lambda t: t.replace(b"Length='6' Name='File_Version'", b"Length='5' Name='File_Version'"), ("Length", "line")),
    "length of 20 digits": (lambda t: t.replace(b"Length='6' Name='File_Version'", b"Length='99999999999999999999' Name='File_Version'"),
                            ("longer than 15", "line")),
    "no hex": (lambda t: t.replace(b"Value='88 00", b"Value='8G 00", 1), ("line",)),
    "entity": (lambda t: t.replace(b"Name='default'", b"Name='&lol;'"), ("entities", "line")),
    "external": (lambda t: b"<?xml version='1.0'?><!DOCTYPE a SYSTEM 'file:///etc/passwd'>" + t, ("DTD", "line")),
    "another element": (lambda t: t.replace(b"<Storage Name='default'>", b"<Storage Name='default'><script/>"), ("script", "line")),
    "twice": (lambda t: t.replace(b"<Storage Name='NV_NUMBERED_ITEMS'>", b"<Storage Name='NV_NUMBERED_ITEMS'>" + b"<Stream Length='0' Name="
                                  b"'NV_ITEM_ARRAY' Value=''/>"), ("twice",)),
    "version 1": (lambda t: t.replace(b"Value='02 00 00 00 00 00'", b"Value='01 00 00 00 00 00'"), ("version 1",)),
    "a path that climbs": (lambda t: t.replace(b"/nv/item_files/ims/IMS_enable".hex(" ").upper().encode(),
                                               b"/nv/../../../ims/IMS_enable".ljust(29, b"a").hex(" ").upper().encode()), ("path",)),
    "an entry without a content": (lambda t: t.replace(b"<Storage Name='EFS_Data'>", b"<Storage Name='EFS_Nothing'>", 1), ("one content",)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused_in_time(sample, tmp_path, what):
    service, modem, ours = sample
    spoil, words = HOSTILE[what]
    good = xqcn.Qpst().write(ours)
    bad = spoil(good)
    assert bad != good
    (tmp_path / "bad.xqcn").write_bytes(bad)
    begun = time.monotonic()
    job = service.import_backup(tmp_path / "bad.xqcn")
    assert service.wait_job(job) == "failed", what
    message = str(service.get(job, JOB, "ErrorMessage"))
    assert all(word in message for word in words), message
    assert len(service.paths(BACKUP)) == 1 and time.monotonic() - begun < 30
    wait_until(lambda: not service.workers(), what="the end of the worker")


def test_a_large_one_that_is_honest(sample, tmp_path):
    """100 MB with a value of 33 MB, in a worker that has not so much memory: read as a stream, and not for nothing."""
    service, modem, ours = sample
    (tmp_path / "large.xqcn").write_bytes(one_large_value(xqcn.Qpst().write(ours)))
    job = service.import_backup(tmp_path / "large.xqcn")
    assert service.wait_job(job) == "done", service.get(job, JOB, "ErrorMessage")
    backup = dbus.ObjectPath(service.get(job, JOB, "Object"))
    assert xqcn.Calibration(exported(service, backup)) == ours
    assert service.wait_job(service.call(modem, MODEM, "Restore", backup, service.no_options())) == "done"
