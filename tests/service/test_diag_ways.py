# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ways of a modem that runs: by a package that does not verify nowhere, by the policy's to a new version, and out of factory
test mode by whatever of it is in the store."""

import re
import signal
import sys
import tarfile

import dbus
import pytest
from conftest import BACKUP, INVALID_ARGS, JOB, MODEM, TOP, Refused, in_phase, wait_stopped, wait_until
from test_diag import IMEI, MASKED, VERSION, flash, run, running, trace, with_firmware  # noqa: F401 (fixtures)
from test_qdlctl_backup import qdlctl  # noqa: F401 (a fixture)
from test_xqcn import id_of, replug, requests, save  # noqa: F401 (fixtures)

sys.path.insert(0, str(TOP / "tests" / "modem"))
import flash as flashfile  # noqa: E402

NEXT = "RM502QGLAAR05A04M4G_01.001.01.001"


def stays(service, modem):
    return service.get(modem, MODEM, "Mode") == "normal" and "4b650100" not in trace(service) and "plug 05c6" not in trace(service)


# ---- never for a package that does not verify ----

def rot(service, member):
    """One byte of it in the library's copy is another one."""
    path, = (p for p in (service.state / "firmware").iterdir() if p.suffix == ".tar")
    with tarfile.open(path) as tar:
        found, = (m for m in tar.getmembers() if m.name.endswith(member))
    with open(path, "r+b") as f:
        f.seek(found.offset_data + found.size // 2)
        byte = f.read(1)
        f.seek(-1, 1)
        f.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("member", ["/tz.mbn", "/prog_firehose_sdx55.mbn"])
def test_a_package_that_rotted_in_the_library(with_firmware, member):
    """It was whole when it was imported; the modem is not taken to 9008 for what it is now."""
    service, modem, firmware = with_firmware()
    rot(service, member)
    with Refused("FirmwareInvalid") as e:
        flash(service, modem, firmware)
    assert member in e.message and stays(service, modem)


def test_a_package_that_was_never_whole(running, make_package, qdlctl):
    service, modem = running(blocks=2048)
    package = make_package("--small", "--break", "wrong-md5", "--version", NEXT, name=NEXT)
    printed = qdlctl("--yes", "flash", str(package), code=1).stderr
    assert "tz.mbn does not match md5.txt" in printed
    assert stays(service, modem) and [str(service.get(j, JOB, "Kind")) for j in service.paths(JOB)] == ["import"]


# ---- rescue ----

def test_rescue_of_a_running_modem(with_firmware):
    """Asked for, it needs nothing else: the policy's package, the calibration saved, 9008 and back."""
    service, modem, firmware = with_firmware()
    service.call(modem, MODEM, "SetPolicy", "rescue", firmware, service.no_options())
    job, result = run(service, modem, "Rescue")
    assert result == "done", (service.get(job, JOB, "ErrorMessage"), service.log(job)[-3000:])
    assert service.get(job, JOB, "Report")["version"] == NEXT and service.get(modem, MODEM, "Mode") == "normal"
    assert sorted(str(service.get(b, BACKUP, "Kind")) for b in service.paths(BACKUP)) == ["calibration", "xqcn"]
    assert "4b650100" in trace(service) or "plug 05c6:9008" in trace(service)


def test_a_policy_alone_leaves_a_running_modem_alone(with_firmware):
    service, modem, firmware = with_firmware()
    service.call(modem, MODEM, "SetPolicy", "rescue", firmware, service.no_options())
    assert run(service, modem, "Identify")[1] == "done"
    assert stays(service, modem) and service.get(modem, MODEM, "FirmwareVersion") == VERSION


# ---- read twice ----

def request_behind(service, mark):
    """The number of the request that follows the one with this mark in the trace."""
    return requests(service, mark)[0] + 1


@pytest.mark.parametrize("md5", ["yes", "no"])
@pytest.mark.parametrize("what", ["NV item", "RF file"])
def test_a_bit_that_was_read_wrong_is_not_saved(running, new_modem, tmp_path, what, md5):
    """In a frame whose CRC is right: only the second reading, or the modem's own MD5, tells."""
    service, modem = running("efs_md5=" + md5)
    _, backup = save(service, modem)
    # The first time that it is asked for is the one that is saved; the IMEI's item tells who it is before.
    at = requests(service, "diag nv read item=10 index=0 status=0")[0] if what == "NV item" else request_behind(
        service, "diag efs open /nv/item_files/rfnv/00020080")
    replug(service, new_modem, tmp_path, "efs_md5=" + md5, "fault=flip@answered:%d" % at)
    job, again = save(service, modem)
    assert "fault flip" in trace(service)
    assert again == backup and service.get(backup, BACKUP, "State") == "complete", service.log(job)[-2000:]


def test_a_directory_entry_that_was_lost_takes_nothing_with_it(running, new_modem, tmp_path):
    """The modem is behind it and refuses to say it again (bad sequence): all of / was missing, and the backup complete."""
    service, modem = running()
    _, backup = save(service, modem)
    at = requests(service, "diag efs opendir / ")[0] + 2
    replug(service, new_modem, tmp_path, "fault=crc@answered:%d" % at)
    assert save(service, modem)[1] == backup
    assert "fault crc" in trace(service) and trace(service).count("diag efs opendir / ") == 2


def test_what_changes_while_it_is_read_is_said(running):
    """Of a file that its firmware writes all the time nobody can say what it holds."""
    service, modem = running("efs_activity=3")
    job, backup = save(service, modem)
    assert "/data/counters changes while it is read" in service.log(job)
    assert int(service.get(job, JOB, "Report")["changing-items"]) == 1


# ---- how to leave factory test mode ----

def erase_efs2(path):
    """As an eraser outside of our sight would: every page of EFS2 erased."""
    with flashfile.Flash(path) as f, open(path, "r+b") as out:
        part = f.partition("EFS2")
        for block in range(part.first, part.first + part.blocks):
            flags, _, count = f.record(block)
            out.seek(f.states_offset + block * f.pages_per_block)
            out.write(bytes(f.pages_per_block))
            out.seek(f.records_offset + block * flashfile.RECORD.size)
            out.write(flashfile.RECORD.pack(flags, 0, 0, count))

def command_of(said):
    return re.search(r"To leave it: qdlctl (restore .*)", said).group(1).split()


def test_with_nothing_in_the_store(running, qdlctl):
    service, modem = running("calibration=erased")
    assert run(service, modem, "Identify")[1] == "done"
    said = qdlctl("status").stdout
    assert command_of(said) == ["restore", service.get(modem, MODEM, "KernelName"), "FILE.xqcn"]
    assert "nothing of this unit is in the store" in said and "+CFUN: 5" in said
    assert service.get(modem, MODEM, "CalibrationBackup") == "/"


def test_with_a_copy_of_its_flash_only(with_firmware, new_modem, qdlctl, tmp_path):
    """kind=calibration, taken in 9008 when it was healthy: the second way, and the command as printed takes it."""
    service, modem, _ = with_firmware("sahara_reset=reboot", version=VERSION + "_01.001.01.001", blocks=512)
    job, result = run(service, modem, "Backup", kind="calibration")
    assert result == "done", service.get(job, JOB, "ErrorMessage")
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal", what="normal mode")
    raw = service.get(job, JOB, "Object")
    for process in new_modem.started:
        process.terminate()
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "absent", what="the unplug")
    erase_efs2(tmp_path / "modem.flash")
    new_modem(service, "sahara_reset=reboot", "imei=" + IMEI)
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal", what="the modem again")
    assert run(service, modem, "Identify")[1] == "done" and service.get(modem, MODEM, "FactoryTestMode")
    said = qdlctl("status").stdout
    command = command_of(said)
    assert command[-1] == "--partitions=EFS2" and "a copy of this unit's EFS2" in said, said
    assert id_of(raw).startswith(command[2])
    # It ran its firmware, and does so again.
    done = qdlctl("--yes", *command).stdout
    assert "and then" not in said and re.search("Version: " + VERSION, done), (said, done)
    assert service.get(modem, MODEM, "Mode") == "normal"
    assert not service.get(modem, MODEM, "FactoryTestMode") and service.get(modem, MODEM, "Imei") == MASKED


def test_enter_edl_where_usb3_became_usb2(running):
    """It runs at SuperSpeed at another bus and comes back at the USB 2 side of the same connector (reference/edl.md 3.3)."""
    service, modem = running("kernel_normal=2-1")
    job, result = run(service, modem, "EnterEdl")
    assert result == "done", service.get(job, JOB, "ErrorMessage")
    facts = service.all(modem, MODEM)
    assert facts["Mode"] == "sahara" and facts["Held"] and facts["KernelName"] == "1-1.2" and facts["Confirmed"]
    assert facts["FirmwareVersion"] == VERSION and len(service.paths(MODEM)) == 1


# ---- a restore of its flash ----

@pytest.fixture
def changed(new_modem, tmp_path):
    """changed(service, modem, settings...): it is unplugged, a block of it becomes another one, and it runs again."""
    def make(service, modem, *settings):
        for process in new_modem.started:
            process.terminate()
        wait_until(lambda: service.get(modem, MODEM, "Mode") == "absent", what="the unplug")
        with flashfile.Flash(tmp_path / "modem.flash") as f:
            at = f.data_offset + f.partition("cust_info").first * f.pages_per_block * f.page_size
        with open(tmp_path / "modem.flash", "r+b") as f:
            f.seek(at)
            f.write(b"something else" * 20)
        new_modem(service, "sahara_reset=reboot", "imei=" + IMEI, *settings)
        wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal", what="the modem again")
    return make


@pytest.fixture
def saved(with_firmware, changed):
    """saved(settings...) -> service, modem, backup of its flash: one that runs, some of whose blocks are others since then."""
    def make(*settings, **options):
        service, modem, _ = with_firmware("sahara_reset=reboot", version=VERSION + "_01.001.01.001", blocks=512, **options)
        job, result = run(service, modem, "Backup", kind="calibration")
        assert result == "done", service.get(job, JOB, "ErrorMessage")
        wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal", what="normal mode")
        changed(service, modem, *settings)
        return service, modem, dbus.ObjectPath(service.get(job, JOB, "Object"))
    return make


def restored(service, modem, backup, **options):
    job = service.call(modem, MODEM, "Restore", backup, dbus.Dictionary(options, signature="sv"))
    return job, service.wait_job(job)


def test_a_restore_of_a_running_modem_ends_as_it_began(saved):
    service, modem, backup = saved()
    job, result = restored(service, modem, backup)
    assert result == "done", (service.get(job, JOB, "ErrorMessage"), service.log(job)[-2000:])
    report = service.get(job, JOB, "Report")
    assert int(report["blocks-written"]) > 0 and report["version"] == VERSION
    assert service.get(modem, MODEM, "Mode") == "normal" and not service.get(modem, MODEM, "Held")
    # Nothing left to write: back to normal mode without a wait.
    job, result = restored(service, modem, backup)
    assert result == "done" and service.get(job, JOB, "Report")["blocks-written"] == "0"
    wait_until(lambda: service.get(modem, MODEM, "Mode") == "normal", what="normal mode")


def test_a_restore_without_reset_stays_in_edl(saved, qdlctl):
    service, modem, backup = saved()
    qdlctl("--yes", "restore", id_of(backup), "--no-reset")
    assert service.get(modem, MODEM, "Mode") == "firehose" and service.get(modem, MODEM, "Held")
    # Also with nothing left to write; and one that was there is not sent away.
    assert restored(service, modem, backup)[1] == "done"
    assert service.get(modem, MODEM, "Held") and service.get(modem, MODEM, "Mode") == "firehose"


def test_a_restore_after_which_it_does_not_come_back(saved):
    service, modem, backup = saved("boots=no", "start=normal", config="[Flash]\nBootTimeoutSec=2\n")
    job, result = restored(service, modem, backup)
    assert result == "not-returned", (result, service.get(job, JOB, "ErrorMessage"), service.log(job)[-2000:])
    message = service.get(job, JOB, "ErrorMessage")
    assert message.startswith("the backup is written and verified") and "last seen in mode" in message, message


def test_a_restore_that_was_cut_off_still_ends_in_normal_mode(saved, new_modem):
    """The same call finds the modem in 9008, where the first one left it."""
    service, modem, backup = saved("fault=stop@program:1")
    job = service.call(modem, MODEM, "Restore", backup, service.no_options())
    process = new_modem.started[-1]
    wait_stopped(process)
    in_phase(service, job, "program")
    service.stop(signal.SIGKILL, modem=process)
    service.start()
    modem = service.modem()
    assert service.get(job, JOB, "Result") == "interrupted" and service.get(modem, MODEM, "Mode") != "normal"
    again, result = restored(service, modem, backup)
    assert result == "done", (service.get(again, JOB, "ErrorMessage"), service.log(again)[-2000:])
    assert service.get(again, JOB, "Resumes") == job and service.get(modem, MODEM, "Mode") == "normal"


@pytest.mark.parametrize("known", [True, False], ids=["its IMEI is known", "it is not"])
def test_another_one_that_boots_elsewhere_is_not_the_one_that_was_restored(saved, new_modem, tmp_path, known):
    """From 9008 nobody has asked it, and there is no version that it has to run."""
    service, modem, backup = saved("program_us=20000", "reboot_ms=9000")
    job = service.call(modem, MODEM, "Restore", backup, service.no_options())
    wait_until(lambda: service.get(job, JOB, "Phase") == "program", timeout=120, what="the first write")
    service.stop(signal.SIGKILL)
    for record in [] if known else (tmp_path / "state/modems").glob("*.rec"):
        record.write_text("".join(line for line in record.read_text().splitlines(True) if not line.startswith("IMEI")))
    service.start()
    again = service.call(service.modem(), MODEM, "Restore", backup, service.no_options())
    wait_until(lambda: service.get(again, JOB, "Phase") == "wait-normal", timeout=120, what="its reset")
    new_modem(service, "initial=working", "serial=0badcafe", "port=virtual-usb-0:9", "kernel=1-9", name="other")
    assert service.wait_job(again) == "done", service.log(again)[-2000:]
    log = service.log(again)
    assert "booted at another connector" in log and ("another IMEI" if known else "cannot be told") in log, log[-2000:]
    # Its own came behind it.
    assert service.get(again, JOB, "Report")["version"] == VERSION and service.get(modem, MODEM, "Mode") == "normal"


def test_a_restore_that_failed_behind_its_last_write_too(saved, changed):
    """It has nothing left to write, and the modem is in 9008 for no other reason than this call."""
    service, modem, backup = saved()
    assert restored(service, modem, backup)[1] == "done"
    changed(service, modem, "fault=nak@power:1")
    job, result = restored(service, modem, backup)
    assert result == "failed" and service.get(modem, MODEM, "Held"), service.log(job)[-2000:]
    again, result = restored(service, modem, backup)
    report = service.get(again, JOB, "Report")
    assert result == "done", (service.get(again, JOB, "ErrorMessage"), service.log(again)[-2000:])
    assert report["blocks-written"] == "0" and report["version"] == VERSION and service.get(modem, MODEM, "Mode") == "normal"


def test_no_reset_is_not_for_a_calibration(running):
    service, modem = running()
    _, backup = save(service, modem)
    with Refused(INVALID_ARGS) as e:
        restored(service, modem, backup, reset=False)
    assert "restart" in e.message
