# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calibration over DIAG: saved as XQCN, put back into its own unit and no other. The real service, real workers, a virtual
modem whose calibration lies in its flash."""

import os
import re

import dbus
import pytest
import xqcn
from conftest import BACKUP, JOB, MODEM, Refused, id_of, wait_until
from test_qdlctl_backup import qdlctl  # noqa: F401 (a fixture)
from test_diag import ASKED, IMEI, WORKING, percent_of, run, running, trace  # noqa: F401 (fixtures)

ITEM = re.compile(r"<Stream Length='(\d+)' Name='([^']*)' Value='([^']*)'/>")


def save(service, modem):
    job, result = run(service, modem, "Backup", kind="xqcn")
    assert result == "done", (service.get(job, JOB, "ErrorMessage"), service.log(job))
    return job, dbus.ObjectPath(service.get(job, JOB, "Object"))


def open_backup(service, backup, **options):
    fd = service.call(backup, BACKUP, "Open", dbus.Dictionary(options, signature="sv")).take()
    with os.fdopen(fd, "rb") as f:
        return f.read()


def records(text):
    """(array, item) -> record"""
    found = {}
    for _, name, value in ITEM.findall(text.decode()):
        data = bytes.fromhex(value.replace(" ", ""))
        if name.startswith("NV_ITEM_ARRAY"):
            for at in range(0, len(data), 136):
                found[name, int.from_bytes(data[at + 4:at + 6], "little")] = data[at:at + 136].hex()
    return found


# What is told to a modem whose calibration comes back, and how its trace says so.
TOLD = {
    "offline": r"diag mode 2$", "items": r"diag nv write ", "files": r"diag efs (?:put |open \S+ flags=0[1-9])", "sync": r"diag efs sync$",
    "read": r"diag (?:nv read|efs open) ", "reset": r"mode ended 2$",
}


def order_of_restore(text):
    """From offline to reset, what repeats itself once."""
    found = []
    for line in text[text.index("diag mode 2\n"):].splitlines():
        what = next((what for what, form in TOLD.items() if re.search(form, line)), None)
        if what and found[-1:] != [what]:
            found.append(what)
        if what == "reset":
            break
    return found


def restore(service, modem, backup, **options):
    job = service.call(modem, MODEM, "Restore", backup, dbus.Dictionary(options, signature="sv"))
    return job, service.wait_job(job)


def test_backup_as_xqcn(running):
    service, modem = running()
    job, backup = save(service, modem)
    facts = service.all(backup, BACKUP)
    assert facts["Kind"] == "xqcn" and facts["State"] == "complete" and facts["Model"] == "RM502QGL"
    assert facts["FirmwareVersion"] == "RM502QGLAAR05A03M4G"
    assert service.get(modem, MODEM, "LastBackupTime") > 0
    text = open_backup(service, backup, format="xqcn").decode("ascii")
    assert text.startswith("<?xml") and text.rstrip().endswith("</Storage>")
    items = {name: (int(length), value) for length, name, value in ITEM.findall(text)}
    # The IMEI is in there, as the modem has it: this is what the file is for.
    assert "26 02 00 00 08 4A 09 51 24 30 32 57 81" in items["NV_ITEM_ARRAY"][1]
    for length, value in items.values():
        assert len(value.split()) == length
    # The files that no directory shows are among them.
    rfnv = text.encode().count(b"2F 72 66 6E 76 2F")
    assert rfnv >= 150, rfnv
    assert text.encode() in open_backup(service, backup)
    # Nothing was written, and nobody had to leave normal mode.
    assert "plug 05c6" not in trace(service)
    # Again: the same content is the same backup.
    assert save(service, modem)[1] == backup
    assert service.wait_job(service.call(backup, BACKUP, "Verify", service.no_options())) == "done"


def test_not_of_one_that_does_not_run(service, new_modem):
    new_modem(service, blocks=192)
    with Refused("WrongMode") as e:
        service.call(service.modem(), MODEM, "Backup", dbus.Dictionary({"kind": "xqcn"}, signature="sv"))
    assert "firmware" in e.message


def test_of_a_blank_modem_is_blank(running):
    service, modem = running("calibration=erased")
    _, backup = save(service, modem)
    assert service.get(backup, BACKUP, "State") == "blank" and service.get(modem, MODEM, "LastBackupTime") == 0


@pytest.fixture
def lost(running, new_modem, tmp_path):
    """A modem whose calibration was saved, and that came back without it: service, modem, backup."""
    def make(*settings, **options):
        service, modem = running(**options)
        assert run(service, modem, "Identify")[1] == "done"
        _, backup = save(service, modem)
        replug(service, new_modem, tmp_path, "calibration=erased", *settings)
        assert run(service, modem, "Identify")[1] == "done"
        return service, modem, backup
    return make


def replug(service, new_modem, tmp_path, *settings):
    """Another flash behind the same plug."""
    for process in new_modem.started:
        process.terminate()
    wait_until(lambda: all(service.get(p, MODEM, "Mode") == "absent" for p in service.paths(MODEM)), what="the unplug")
    (tmp_path / "modem.flash").unlink()
    new_modem(service, WORKING, "imei=" + IMEI, *settings, blocks=192)
    return service.modem()


def test_lost_and_restored(lost):
    service, modem, backup = lost()
    assert service.get(modem, MODEM, "FactoryTestMode")
    job, result = restore(service, modem, backup)
    assert result == "done", (service.get(job, JOB, "ErrorMessage"), service.log(job)[-3000:])
    assert not service.get(modem, MODEM, "FactoryTestMode")
    assert run(service, modem, "Identify")[1] == "done"
    assert service.get(modem, MODEM, "Imei") != ""
    report = service.get(job, JOB, "Report")
    assert report["verified"] == "every item and file" and int(report["written"]) > 300, report
    assert order_of_restore(trace(service)) == ["offline", "items", "sync", "files", "sync", "read", "reset"]
    # The state that it was in was saved first, as blank, and the good one is still there.
    states = sorted(str(service.get(b, BACKUP, "State")) for b in service.paths(BACKUP))
    assert states == ["blank", "complete"]
    # What it has now is what was saved.
    again, second = save(service, modem)
    first_text, second_text = (open_backup(service, b, format="xqcn") for b in (backup, second))
    assert records(first_text) == records(second_text), service.log(job)[:3000]
    assert first_text == second_text
    # Made again there is nothing left to do, and a modem that works is left alone.
    before = trace(service)
    job, result = restore(service, modem, backup)
    report = service.get(job, JOB, "Report")
    assert result == "done" and report["written"] == "0" and int(report["already-right"]) > 300
    assert report["verified"] == "every item and file" and report["reset"] == "not needed"
    assert trace(service).startswith(before) and "command=0x29" not in trace(service)[len(before):]
    assert trace(service).count("plug ") == before.count("plug ") and service.get(modem, MODEM, "Mode") == "normal"


@pytest.mark.parametrize("setting,result", [("oper_mode=offline", "no-calibration"), ("oper_mode=untold", "done")])
def test_one_that_has_all_of_it_and_may_not_work_is_restarted(running, new_modem, tmp_path, setting, result):
    """What stopped between the last write and the reset left it offline (+CFUN: 7): nothing is to be written, and it is to be
    brought back all the same. One that does not tell its mode may be such a one."""
    service, modem = running()
    assert run(service, modem, "Identify")[1] == "done"
    _, backup = save(service, modem)
    replug(service, new_modem, tmp_path, setting)
    job, came_to = restore(service, modem, backup)
    report = service.get(job, JOB, "Report")
    assert came_to == result and report["written"] == "0" and "reset" not in report, service.log(job)[-2000:]
    assert "command=0x29" in trace(service)


def test_files_that_only_the_firmwares_own_lists_name(running, new_modem, tmp_path):
    """/nv/item_files/conf/NAME.conf, as QPST goes by them: no directory shows an item file, and few of them are in our table."""
    service, modem = running("efs_hidden=none")
    _, backup = save(service, modem)
    everything = xqcn.Calibration(open_backup(service, backup, format="xqcn")).files
    replug(service, new_modem, tmp_path, "efs_hidden=item-files", "efs_chunk=100")
    _, hidden = save(service, modem)
    found = xqcn.Calibration(open_backup(service, hidden, format="xqcn")).files
    listed = [p for p in everything if p.startswith(("/nv/item_files/modem/mmode/", "/nv/item_files/data/", "/nv/item_files/mcs/"))]
    assert len(listed) >= 5 and not set(listed) - set(found)
    assert all(everything[p] == content for p, content in found.items())
    # A list of the crystal's items is asked for too, whether this modem has one or not.
    assert "/nv/item_files/conf/mcs_tcxomgr.conf" in trace(service)
    # Of a list whose own name nobody knows the items stay hidden; they are its carrier's settings and no calibration.
    assert {p.split("/")[3] for p in set(everything) - set(found)} == {"conf", "ims", "mcfg", "modem", "wcdma"}


def through_9008(service, modem):
    """Where it tells its serial, and back."""
    for method, mode in (("EnterEdl", "sahara"), ("Reset", "normal")):
        assert run(service, modem, method)[1] == "done"
        wait_until(lambda: service.get(modem, MODEM, "Mode") == mode, what=mode)
    assert service.get(modem, MODEM, "ChipSerial") != ""


@pytest.mark.parametrize("told", [True, False], ids=["its serial was told with its IMEI", "its serial was never told"])
def test_a_blank_card_is_not_given_what_its_port_remembers(running, new_modem, tmp_path, told):
    """Nobody watched since the IMEI was told: the chip serial has to say who it is, and it says so in 9008 only. A serial that
    was first heard of the blank card says nothing of the one that told the IMEI."""
    service, modem = running("sahara_reset=reboot")
    assert run(service, modem, "Identify")[1] == "done"
    if told:
        through_9008(service, modem)
        assert run(service, modem, "Identify")[1] == "done"
    _, backup = save(service, modem)
    modem = replug(service, new_modem, tmp_path, "calibration=erased", "sahara_reset=reboot")
    service.restart()
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal", what="the modem")
    job, result = restore(service, modem, backup)
    assert result == "failed" and str(service.get(job, JOB, "ErrorName")).endswith("WrongUnit")
    assert "qdlctl enter-edl" in service.get(job, JOB, "ErrorMessage")
    through_9008(service, modem)
    job, result = restore(service, modem, backup)
    if told:
        assert result == "done", service.get(job, JOB, "ErrorMessage")
        assert not service.get(modem, MODEM, "FactoryTestMode")
        return
    assert result == "failed" and str(service.get(job, JOB, "ErrorName")).endswith("WrongUnit")
    assert "command=0x29" not in trace(service) and "command=0x27" not in trace(service)


def test_another_units_calibration_is_refused(running, new_modem, tmp_path):
    service, modem = running()
    _, backup = save(service, modem)
    replug(service, new_modem, tmp_path, "imei=356938035643809", "serial=11112222")
    for options in ({}, {"allow": dbus.Array(["WrongUnit"], signature="s")}):
        job, result = restore(service, modem, backup, **options)
        assert result == "failed" and str(service.get(job, JOB, "ErrorName")).endswith("WrongUnit"), options
        assert "IMEI" in service.get(job, JOB, "ErrorMessage")
    assert "command=0x29" not in trace(service) and "command=0x27" not in trace(service)


def test_another_units_file_is_no_way_out_of_factory_test_mode(lost, tmp_path):
    """The modem has no IMEI left to compare with; what it told before is remembered, and nobody can lift that."""
    service, modem, backup = lost()
    text = open_backup(service, backup, format="xqcn")
    foreign = text.replace(b"08 4A 09 51 24 30 32 57 81", b"08 3A 65 39 08 53 46 83 90")
    assert foreign != text
    (tmp_path / "foreign.xqcn").write_bytes(foreign)
    job = service.import_backup(tmp_path / "foreign.xqcn")
    assert service.wait_job(job) == "done", service.get(job, JOB, "ErrorMessage")
    imported = dbus.ObjectPath(service.get(job, JOB, "Object"))
    for options in ({}, {"allow": dbus.Array(["WrongUnit"], signature="s")}):
        job, result = restore(service, modem, imported, **options)
        assert result == "failed" and str(service.get(job, JOB, "ErrorName")).endswith("WrongUnit"), options
        assert "another unit" in service.get(job, JOB, "ErrorMessage") and "enter-edl" not in service.get(job, JOB, "ErrorMessage")
    assert "command=0x29" not in trace(service) and "command=0x27" not in trace(service)


def test_import_and_roundtrip(running, tmp_path):
    service, modem = running()
    _, backup = save(service, modem)
    text = open_backup(service, backup, format="xqcn")
    (tmp_path / "mine.xqcn").write_bytes(text)
    job = service.import_backup(tmp_path / "mine.xqcn")
    assert service.wait_job(job) == "done", service.get(job, JOB, "ErrorMessage")
    imported = dbus.ObjectPath(service.get(job, JOB, "Object"))
    assert service.get(imported, BACKUP, "Kind") == "xqcn"
    assert open_backup(service, imported, format="xqcn") == text
    job, result = restore(service, modem, imported)
    assert result == "done" and service.get(job, JOB, "Report")["written"] == "0", service.log(job)
    # The store's own file goes round as well.
    (tmp_path / "mine.tar").write_bytes(open_backup(service, imported))
    job = service.import_backup(tmp_path / "mine.tar")
    assert service.wait_job(job) == "done" and service.get(job, JOB, "Object") == imported


@pytest.mark.parametrize("spoil,words", [
    (lambda t: t[:len(t) // 2], ("no XQCN", "line")),
    (lambda t: t.replace(b"Length='6' Name='File_Version'", b"Length='7' Name='File_Version'"), ("Length", "File_Version")),
    (lambda t: t.replace(b"<Storage Name='default'>", b"<Storage Name='default'><!-- x -->"), ("comments",)),
    (lambda t: b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + t, ("DTD",)),
    (lambda t: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000), ("QCN", "OLE2")),
    (lambda t: b"", ("empty",)),
    (lambda t: b"A" * 100000000, ("no XQCN",)),
    (lambda t: t.replace(b"Value='88 00", b"Value='87 00", 1), ("record 0",)),
], ids=["truncated", "wrong-length", "comment", "dtd", "ole2", "empty", "100MB", "record"])
def test_hostile_files_are_refused_with_reasons(running, tmp_path, spoil, words):
    service, modem = running()
    _, backup = save(service, modem)
    (tmp_path / "bad.xqcn").write_bytes(spoil(open_backup(service, backup, format="xqcn")))
    job = service.import_backup(tmp_path / "bad.xqcn")
    assert service.wait_job(job) == "failed"
    message = str(service.get(job, JOB, "ErrorMessage"))
    for word in words:
        assert word in message, message
    assert len(service.paths(BACKUP)) == 1


# ---- unasked ----

def test_a_healthy_modem_is_saved_when_it_is_first_seen(running, new_modem, tmp_path):
    service, modem = running(config=ASKED)
    wait_until(lambda: service.paths(BACKUP), what="the backup")
    backup = service.paths(BACKUP)[0]
    assert service.get(backup, BACKUP, "Kind") == "xqcn" and service.get(backup, BACKUP, "State") == "complete"
    wait_until(lambda: service.get(modem, MODEM, "Job") == "/", what="the end of the job")
    job = service.paths(JOB)[0]
    assert service.get(job, JOB, "OwnerUid") == 4294967295 and service.get(job, JOB, "Result") == "done"
    # Not again while there is one; and never from a modem that has lost it.
    replug(service, new_modem, tmp_path, "calibration=erased")
    wait_until(lambda: service.get(modem, MODEM, "FactoryTestMode"), what="factory test mode")
    wait_until(lambda: not service.workers(), what="the end of the worker")
    assert service.paths(BACKUP) == [backup] and service.paths(JOB) == [job]


def test_what_is_saved_unasked_makes_way(running):
    """It takes minutes, and whoever asks for something is not told that the modem is busy. It is saved when it comes back."""
    service, modem = running("diag_us=3000", "sahara_reset=reboot", config=ASKED)
    wait_until(lambda: trace(service).count("diag request") > 200, what="the backup under way")
    assert run(service, modem, "EnterEdl")[1] == "done"
    own = service.paths(JOB)[0]
    assert service.get(own, JOB, "OwnerUid") == 4294967295 and service.get(own, JOB, "Result") == "cancelled"
    assert service.paths(BACKUP) == []
    before = trace(service).count("diag request")
    assert run(service, modem, "Reset")[1] == "done"
    wait_until(lambda: trace(service).count("diag request") > before + 200, what="the next one")


def test_not_if_it_is_switched_off(running):
    service, modem = running(config=ASKED + "[Backup]\nAutomatic=no\n")
    wait_until(lambda: service.get(modem, MODEM, "Imei"), what="the IMEI")
    wait_until(lambda: not service.workers(), what="the end of the worker")
    assert service.paths(BACKUP) == [] and service.paths(JOB) == []


# ---- qdlctl ----

def test_status_says_how_to_leave_factory_test_mode(lost, qdlctl, tmp_path):
    service, modem, backup = lost()
    said = qdlctl("status").stdout
    assert "factory test mode" in said and "+CFUN: 5" in said
    command = re.search(r"To leave it: qdlctl (restore \S+ \S+)", said).group(1)
    assert command.split()[-1] == id_of(backup)[:12]
    assert IMEI not in said
    # The command as it is printed does it.
    done = qdlctl("--yes", *command.split()).stdout
    # The bar is of all of it: saving what is there now is not its end.
    assert percent_of(done, "storing")[1] <= 70, done
    # In words, and of the restore: what was saved first is one line of it.
    assert re.search(r"Backup: \w{32} \(xqcn, blank\)", done) and "Operating mode: 5 (online)" in done, done
    assert not re.search(r"^ *[a-z-]+: ", done, re.M) and "Files" not in done, done
    said = qdlctl("status").stdout
    assert "factory test mode" not in said and "49***********18" in said


def test_qdlctl_saves_and_exports(running, qdlctl, tmp_path):
    service, modem = running()
    assert qdlctl("backup", "--kind=xqcn").returncode == 0
    backup = id_of(service.paths(BACKUP)[0])
    out = tmp_path / "mine.xqcn"
    assert qdlctl("backups", "export", "--format=xqcn", backup, str(out)).returncode == 0
    assert out.read_bytes().startswith(b"<?xml")
    # From a file, imported on the way.
    assert qdlctl("--yes", "restore", str(out)).returncode == 0
    assert "xqcn" in qdlctl("backups").stdout
    job = service.paths(JOB)[-1]
    assert service.get(job, JOB, "Report")["written"] == "0"


# ---- the plug pulled ----

def requests(service, mark):
    """Numbers of the requests behind which the trace has this mark."""
    numbers, last = [], 0
    for line in trace(service).splitlines():
        found = re.search(r"diag request=(\d+)", line)
        if found:
            last = int(found.group(1))
        elif mark in line:
            numbers.append(last)
    return numbers


def test_unplugged_while_it_is_saved(running, new_modem, tmp_path):
    """At points all over it: the job says so, nothing is stored, and the next one is whole."""
    service, modem = running()
    _, backup = save(service, modem)
    total = max(int(n) for n in re.findall(r"diag request=(\d+)", trace(service)))
    for at in (1, 3, 6, total // 3, total * 3 // 4, total - 1):
        replug(service, new_modem, tmp_path, "fault=unplug@diag:%d" % at)
        job, result = run(service, modem, "Backup", kind="xqcn")
        assert result == "failed", (at, total, result)
        assert str(service.get(job, JOB, "ErrorName")).endswith("ModemGone"), (at, service.get(job, JOB, "ErrorMessage"))
        assert service.paths(BACKUP) == [backup]
        wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal", what="the modem again")
        assert save(service, modem)[1] == backup


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_unplugged_while_it_is_put_back(lost, new_modem, tmp_path, share):
    """Between two writes, whichever: the same call makes it whole."""
    service, modem, backup = lost()
    job, result = restore(service, modem, backup)
    assert result == "done"
    writes = requests(service, "diag nv write") + requests(service, "diag efs put")
    at = sorted(writes)[int(share * (len(writes) - 1))]
    replug(service, new_modem, tmp_path, "calibration=erased", "fault=unplug@diag:%d" % at)
    assert run(service, modem, "Identify")[1] == "done"
    job, result = restore(service, modem, backup)
    assert result == "interrupted", (result, service.get(job, JOB, "ErrorMessage"))
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal", what="the modem again")
    job, result = restore(service, modem, backup)
    assert result == "done", (service.get(job, JOB, "ErrorMessage"), service.log(job)[-2000:])
    assert not service.get(modem, MODEM, "FactoryTestMode")


def test_large_files_go_round(running, new_modem, tmp_path):
    """Values of megabytes, and beyond what one PUT takes."""
    service, modem = running("efs_large_kib=2500")
    assert run(service, modem, "Identify")[1] == "done"
    _, backup = save(service, modem)
    assert service.get(backup, BACKUP, "State") == "complete" and service.get(backup, BACKUP, "Size") > 3 * 2500 * 1024
    replug(service, new_modem, tmp_path, "calibration=erased")
    assert run(service, modem, "Identify")[1] == "done"
    job, result = restore(service, modem, backup)
    assert result == "done", (service.get(job, JOB, "ErrorMessage"), service.log(job)[-2000:])
    assert service.get(job, JOB, "Report")["verified"] == "every item and file"
    assert not service.get(modem, MODEM, "FactoryTestMode")
