# SPDX-License-Identifier: LGPL-2.1-or-later
"""Backups as the service keeps them: believed only after a second worker has read them, on the disk, never the last one lost."""

import json
import os
import shutil
import socket
import subprocess

import dbus
import pytest
from conftest import BACKUP, BUILD, FIRMWARE, INVALID_ARGS, JOB, MODEM, ROOT, VERSION, Refused, id_of, wait_until

SERIAL = "49cbd7ef"
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root: mounts, or acts as a second user")

# Does what the file `wish` beside it says (a dictionary); reads again honestly unless that says otherwise.
WORKER = """
import json
order = begin()
wish = json.loads(beside("wish"))
say("READY=1")

def fill(fd, keep=False):
    data = json.dumps(wish["content"]).encode() if isinstance(wish["content"], dict) else wish["content"].encode()
    os.pwrite(fd, data, 0)
    if not keep:
        os.close(fd)

def told():
    return wish.get("told", wish["content"] if isinstance(wish["content"], dict) else {})

def describe():
    options = dict(order.options)
    options["source"] = options.pop("backup", "")
    options["fds"] = ",".join(order.fds)
    return [f"REPORT.{k}={v}" for k, v in options.items()]

if order.kind == "import" and order.options.get("type") == "backup":
    backup_import(order)
elif order.kind == "import":
    import_done(order, os.pread(order.fds["archive"], 100, 0), chip="SDX55", geometry="p4K_b256K", programmer="prog.mbn", prefix="RM502QGLAA")
elif order.kind == "verify":
    second = wish.get("second")
    if second == "die":
        os.abort()
    if second == "lie":
        tell_backup(wish["lie"])
        finish()
    backup_verify(order)
elif order.kind == "backup":
    say("WAIT_DEVICE=edl")
    hear_until("DEVICE")
    say("SERIAL=" + wish.get("serial", "49cbd7ef"), "STORAGE=nand 4096/256K x 2048", "CHIP=SDX55")
    fill(order.fds["store"], wish.get("keep"))
    tell_backup(told())
    if wish.get("hold"):
        say("RESULT=done", *describe())
        say("HOLDING=1")
        hear_until("RELEASE")
        sys.exit(0)
    finish(*describe())
elif order.kind in ("flash", "restore"):
    say("WAIT_DEVICE=edl")
    hear_until("DEVICE")
    say("SERIAL=49cbd7ef")
    fill(order.fds["backup"], wish.get("keep"))
    tell_backup(told())
    for _ in range(wish.get("offers", 1)):
        say("BACKUP=1")
    message, _ = hear()
    answer = dict(message)
    if "BACKUP_STORED" in answer:
        say("DESTRUCTIVE=1")
        finish("REPORT.heard=" + answer["ID"], *describe())
    fail_job("NoBackup", answer.get("MESSAGE", "no word"))
else:
    say("WAIT_DEVICE=edl")
    hear_until("DEVICE")
    finish()
"""


def content(number=1, **facts):
    """What a backup says of itself; the same number is the same content."""
    return {"kind": "calibration", "state": "complete", "serial": SERIAL, "sha256": f"{number:064x}", "model": "RM502QGL",
            "version": VERSION, "created": 1700000000000000 + number, "partitions": "efs2,rawdata", **facts}


class Bench:
    """A service with that worker, a package, and a modem in 9008."""

    def __init__(self, service, plug, tmp_path):
        self.service, self.tmp_path, self.tick = service, tmp_path, 0
        (tmp_path / "package").write_bytes(b"package")
        self.plug = plug(service)
        self.modem = service.modem()

    def wish(self, content_=None, **values):
        (self.tmp_path / "wish.new").write_text(json.dumps({"content": content_ or content(), **values}))
        (self.tmp_path / "wish.new").rename(self.tmp_path / "wish")

    def firmware(self):
        if not self.service.paths(FIRMWARE):
            self.done(self.service.import_file(self.tmp_path / "package"))
        return self.service.paths(FIRMWARE)[0]

    def start(self, method, *arguments, **options):
        self.firmware()
        options = {k.replace("_", "-"): v for k, v in options.items()}
        return str(self.service.call(self.modem, MODEM, method, *arguments, dbus.Dictionary(options, signature="sv")))

    def done(self, job):
        assert self.service.wait_job(job) == "done", self.service.all(job, JOB)
        return str(self.service.get(job, JOB, "Object"))

    def failed(self, job, name):
        assert self.service.wait_job(job) == "failed"
        assert self.service.get(job, JOB, "ErrorName") == "org.qdld1.Error." + name, self.service.all(job, JOB)
        return str(self.service.get(job, JOB, "ErrorMessage"))

    def take(self, content_, **options):
        """A backup taken of the modem; its object. Each has its own time, as real ones do."""
        self.tick += 1
        self.wish(dict(content_, tick=self.tick))
        return self.done(self.start("Backup", **options))

    def file(self, content_):
        path = self.tmp_path / "backup.tar"
        path.write_text(content_ if isinstance(content_, str) else json.dumps(content_))
        return path

    def bring(self, content_):
        return self.done(self.service.import_backup(self.file(content_)))

    def backups(self):
        return self.service.paths(BACKUP)

    def stored(self, pattern="*"):
        return sorted(p.name for p in (self.service.state / "backups").glob(pattern))

    def get(self, backup, name):
        return self.service.get(backup, BACKUP, name)


@pytest.fixture
def start_bench(new_service, forge, plug, tmp_path):
    def start(config="", **options):
        (tmp_path / "wish").write_text(json.dumps({"content": content()}))
        return Bench(new_service().start(worker=forge(WORKER), config=config, **options), plug, tmp_path)
    return start


@pytest.fixture
def bench(start_bench):
    return start_bench()


def allow(*names):
    return dbus.Array(names, signature="s")


# ---- the object and its file ----

def test_an_imported_backup(bench):
    backup = bench.bring(content(kind="nand", serial="0badcafe"))
    shown = {k: v for k, v in bench.service.all(backup, BACKUP).items() if k not in ("Size", "Job")}
    assert shown == {"Kind": "nand", "State": "complete", "Model": "RM502QGL", "FirmwareVersion": VERSION, "ChipSerial": "0badcafe",
                     "CreatedTime": 1700000000000001, "Sha256": f"{1:064x}", "Partitions": ["efs2", "rawdata"], "OwnerUid": os.getuid()}
    file = bench.file(content(kind="nand", serial="0badcafe"))
    assert bench.get(backup, "Size") == file.stat().st_size
    assert bench.get(backup, "Job") == bench.service.paths(JOB)[-1]
    tar, = (bench.service.state / "backups").glob("*.tar")
    assert tar.stat().st_mode & 0o7777 == 0o600 and tar.parent.stat().st_mode & 0o7777 == 0o700
    assert tar.read_bytes() == file.read_bytes()
    listed, = bench.service.manager("ListBackups", bench.service.no_options())
    assert listed[0] == backup and listed[1]["Kind"] == "nand"


def test_open_gives_a_file_that_only_reads(bench):
    backup = bench.bring(content())
    fd = bench.service.call(backup, BACKUP, "Open", bench.service.no_options()).take()
    try:
        assert os.pread(fd, 65536, 0) == bench.file(content()).read_bytes()
        with pytest.raises(OSError):
            os.pwrite(fd, b"x", 0)
    finally:
        os.close(fd)
    with Refused("Unsupported"):
        bench.service.call(backup, BACKUP, "Open", dbus.Dictionary({"format": "xqcn"}, signature="sv"))
    with Refused(INVALID_ARGS) as e:
        bench.service.call(backup, BACKUP, "Open", dbus.Dictionary({"format": "gif"}, signature="sv"))
    assert '"format"' in e.message


def test_backups_outlive_the_service(bench):
    backup = bench.bring(content())
    before = bench.service.all(backup, BACKUP)
    bench.service.restart(worker=bench.tmp_path / "forged")
    assert bench.service.all(backup, BACKUP) == before
    assert bench.done(bench.service.call(backup, BACKUP, "Verify", bench.service.no_options())) == "/"


def test_the_same_file_again_is_the_same_object(bench):
    assert bench.bring(content()) == bench.bring(content())
    assert len(bench.stored()) == 2  # the file and its record


@pytest.mark.parametrize("state", ["complete", "damaged"])
def test_verify_finds_a_rotten_file_and_another_import_mends_it(bench, state):
    backup = bench.bring(content(state=state))
    tar, = (bench.service.state / "backups").glob("*.tar")
    tar.write_text("rot")
    assert "no backup" in bench.failed(bench.service.call(backup, BACKUP, "Verify", bench.service.no_options()), "BackupDamaged")
    assert bench.get(backup, "State") == "damaged"
    bench.service.restart(worker=bench.tmp_path / "forged")
    assert bench.get(backup, "State") == "damaged"
    assert bench.bring(content(state=state)) == backup
    assert bench.get(backup, "State") == state
    bench.done(bench.service.call(backup, BACKUP, "Verify", bench.service.no_options()))


# ---- the second look ----

def test_a_file_that_the_second_worker_refuses_is_not_kept(bench):
    job = bench.service.import_backup(bench.file("no backup at all"))
    assert bench.failed(job, "BackupDamaged") == "it is no backup"
    assert bench.stored() == [] and bench.service.get(job, JOB, "Object") == "/"


def test_a_second_worker_that_dies(bench):
    bench.wish(second="die")
    assert "again" in bench.failed(bench.service.import_backup(bench.file(content())), "Failed")
    assert bench.stored() == []


@pytest.mark.parametrize("lie", [{"id": "../../etc/passwd"}, {"id": "0" * 31}, {"serial": "../../x"}, {"sha256": "short"}, {"kind": "photo"},
                                 {"imei-hash": "short"}, {"xqcn-size": "-1"},
                                 {"state": "good"}, {"partitions": "a b"}, {"model": "x" * 200}, {"partitions": ",".join(["p"] * 300)}])
def test_facts_that_cannot_be(bench, lie):
    bench.wish(second="lie", lie={"id": "1" * 32, **content(), **lie})
    bench.failed(bench.service.import_backup(bench.file(content())), "Failed")
    assert bench.stored() == []


@pytest.mark.parametrize("told", [{"sha256": "f" * 64}, {"serial": "00000001"}, {"state": "blank"}])
def test_what_was_told_at_the_modem_must_be_in_the_file(bench, told):
    bench.wish(told=content(**told))
    assert list(told)[0] in bench.failed(bench.start("Backup"), "Failed")
    assert bench.stored() == []


@pytest.mark.parametrize("hold", [True, False])
def test_a_worker_that_keeps_the_file_open(bench, hold):
    """A holder lives on: what it could still write to is not what was read."""
    bench.wish(hold=hold, keep=True)
    job = bench.start("Backup")
    if hold:
        assert "did not close" in bench.failed(job, "Failed")
        assert bench.stored() == []
    else:
        bench.done(job)


def test_a_held_modem_and_its_backup(bench):
    bench.wish(hold=True)
    bench.done(bench.start("Backup"))
    assert bench.service.get(bench.modem, MODEM, "Held")
    assert bench.service.get(bench.modem, MODEM, "Job") == "/"


# ---- taking ----

def test_what_a_backup_s_worker_is_told(bench):
    bench.wish(content(kind="nand"))
    job = bench.start("Backup", partitions=dbus.Array(["modem", "usrfs_1"], signature="s"))
    backup = bench.done(job)
    report = bench.service.get(job, JOB, "Report")
    assert report["kind"] == "nand" and report["partitions"] == "modem,usrfs_1"
    assert len(report["created"]) == 16  # starred between, as an IMEI would be
    assert report["fds"] == "package,store,journal" and len(report["firmware"]) == 32
    assert bench.get(backup, "Job") == job and bench.service.get(job, JOB, "Kind") == "backup"
    assert bench.service.get(bench.modem, MODEM, "LastBackupTime") > 1700000000000000
    bench.wish(content(2))
    job = bench.start("Backup", kind="calibration")
    assert bench.service.get(job, JOB, "Kind") == "backup"
    bench.done(job)  # a forged worker does not stop for a service that ends


@pytest.mark.parametrize("name, options", [
    ("WrongMode", {"kind": "xqcn"}), (INVALID_ARGS, {"kind": "photo"}),
    (INVALID_ARGS, {"kind": "calibration", "partitions": dbus.Array(["efs2"], signature="s")}),
    (INVALID_ARGS, {"partitions": dbus.Array(["efs2,modem"], signature="s")}),
    (INVALID_ARGS, {"partitions": dbus.Array(["../x"], signature="s")}), (INVALID_ARGS, {"partitions": dbus.Array([""], signature="s")}),
    (INVALID_ARGS, {"partitions": dbus.Array(["p"] * 65, signature="s")}),
])
def test_options_that_make_no_backup(bench, name, options):
    jobs = bench.service.paths(JOB)
    with Refused(name):
        bench.service.call(bench.modem, MODEM, "Backup", dbus.Dictionary(options, signature="sv"))
    assert bench.service.paths(JOB) == jobs


def test_without_a_programmer(bench):
    with Refused("NoSuchFirmware") as e:
        bench.service.call(bench.modem, MODEM, "Backup", bench.service.no_options())
    assert "import" in e.message


def test_the_same_content_is_stored_once(bench):
    first = bench.take(content())
    assert bench.take(content()) == first and bench.backups() == [first]
    assert bench.take(content(2)) != first
    # What another unit has is another one.
    others = bench.take(content(4, serial="0badcafe"))
    assert bench.take(content(4)) != others and bench.get(others, "ChipSerial").lower() == "0badcafe"
    # Of a unit that says no serial nothing is the same.
    nameless = bench.take(content(3, serial="00000000"))
    assert nameless != bench.take(content(3, serial="00000000")) and bench.get(nameless, "ChipSerial") == ""


def test_an_imported_one_never_stands_in_for_one_that_is_taken(bench):
    brought = bench.bring(content())
    taken = bench.take(content())
    assert taken != brought and len(bench.backups()) == 2


def test_last_backup_time_counts_what_was_taken_whole(bench):
    def last():
        return bench.service.get(bench.modem, MODEM, "LastBackupTime")
    bench.bring(content())
    bench.take(content(2, state="blank"))
    bench.take(content(3, state="damaged"))
    assert last() == 0
    good = bench.take(content(4))
    assert last() > 0
    bench.service.call(good, BACKUP, "Remove", dbus.Dictionary({"allow": allow("LastBackup")}, signature="sv"))
    assert last() == 0


def rot(bench, backup):
    path = bench.service.state / "backups" / (id_of(backup) + ".tar")
    path.write_bytes(path.read_bytes().replace(b"RM502QGL", b"RM502QXX"))
    return path


@pytest.mark.parametrize("state", ["complete", "damaged"])  # of what was read; the file rots in either case
def test_a_rotten_one_never_stands_in_for_a_new_one(bench, state):
    """What was stored before is read again before anybody relies on it: disks forget, too."""
    first = bench.take(content(state=state))
    rot(bench, first)
    second = bench.take(content(state=state))
    assert second != first and len(bench.stored("*.tar")) == 2
    assert bench.get(first, "State") == "damaged" and bench.get(second, "State") == state
    assert bench.take(content(state=state)) == second
    if state == "complete":
        with Refused("LastBackup"):
            bench.service.call(second, BACKUP, "Remove", bench.service.no_options())


def test_a_rotten_one_leaves_its_place_to_none_that_nobody_has_read(bench):
    first = bench.take(content())
    path = rot(bench, first)
    second = bench.take(content())
    path.write_bytes(path.read_bytes().replace(b"RM502QXX", b"RM502QGL"))
    bench.done(bench.service.call(first, BACKUP, "Verify", bench.service.no_options()))
    assert bench.get(first, "State") == bench.get(second, "State") == "complete"
    rot(bench, first), rot(bench, second)
    assert bench.take(content()) not in (first, second)


def test_what_an_earlier_version_found_rotten(bench):
    """It kept what it showed."""
    backup = bench.take(content())
    record, = (bench.service.state / "backups").glob("*.rec")
    assert bench.service.stop() == 0
    record.write_text(record.read_text().replace("rotten=0\n", "shown-state=damaged\n"))
    bench.service.start(worker=bench.tmp_path / "forged")
    assert bench.get(backup, "State") == "damaged"


def test_a_file_that_is_gone_never_stands_in_for_a_new_one(bench):
    first = bench.take(content())
    path, = (bench.service.state / "backups").glob("*.tar")
    path.unlink()
    assert bench.take(content()) != first and bench.get(first, "State") == "damaged"


def test_some_partitions_are_no_backup_of_the_unit(bench):
    """They are kept and shown, but what only the unit has is not in them."""
    whole = bench.take(content(1))
    time = bench.service.get(bench.modem, MODEM, "LastBackupTime")
    bench.take(content(2, kind="nand", partitions="misc,boot"))
    assert bench.service.get(bench.modem, MODEM, "LastBackupTime") == time
    with Refused("LastBackup"):
        bench.service.call(whole, BACKUP, "Remove", bench.service.no_options())
    bench.take(content(3, kind="nand", partitions="blocks-0-15,blocks-16-31"))
    bench.service.call(whole, BACKUP, "Remove", bench.service.no_options())


# ---- what may go ----

def test_one_that_holds_less_pushes_none_out_that_holds_more(start_bench):
    bench = start_bench("Keep=1\n")
    whole = bench.take(content(1, kind="nand", partitions="efs2,boot,system"))
    some = [bench.take(content(n, kind="nand", partitions="efs2")) for n in range(2, 5)]
    assert bench.backups() == sorted([whole, some[-1]])


def test_units_without_a_serial_with_the_same_calibration(start_bench):
    """A nameless brick that is flashed again and again does not fill the disk."""
    bench = start_bench("Keep=2\n")
    taken = [bench.take(content(n, serial="", **{"unit-data": "ab" * 32})) for n in range(6)]
    other = bench.take(content(7, serial="", **{"unit-data": "cd" * 32}))
    assert bench.backups() == sorted([taken[0], taken[-1], other])


def test_a_file_that_cannot_be_opened_keeps_its_record(bench):
    """Only one that is not there is gone."""
    backup = bench.take(content())
    tar, = (bench.service.state / "backups").glob("*.tar")
    tar.rename(tar.with_suffix(".kept"))
    tar.symlink_to(tar.with_suffix(".kept"))
    bench.service.restart()
    assert bench.backups() == [backup] and len(bench.stored("*.rec")) == 1

def test_keep_leaves_the_first_and_the_newest(start_bench):
    bench = start_bench("Keep=3\n")
    taken = [bench.take(content(n)) for n in range(6)]
    assert bench.backups() == sorted([taken[0], taken[4], taken[5]])
    assert len(bench.stored("*.tar")) == len(bench.stored("*.rec")) == 3


def test_keep_counts_kinds_units_and_what_is_not_good_apart(start_bench):
    bench = start_bench("Keep=1\n")
    good = bench.take(content(1))
    nand = bench.take(content(2, kind="nand"))
    other = bench.bring(content(3, serial="0badcafe"))
    for n in range(4, 8):
        bad = bench.take(content(n, state="damaged" if n % 2 else "blank"))
    assert bench.backups() == sorted([good, nand, other, bad])
    assert bench.take(content(9)) in bench.backups() and good not in bench.backups()


def test_imported_ones_push_nothing_out_and_are_not_pushed_out(start_bench):
    bench = start_bench("Keep=1\n")
    brought = [bench.bring(content(n)) for n in range(3)]
    taken = bench.take(content(5))
    brought += [bench.bring(content(n)) for n in range(6, 9)]
    assert bench.backups() == sorted([taken, *brought])


def test_units_without_a_serial_are_all_different(start_bench):
    bench = start_bench("Keep=1\n")
    assert bench.backups() == [] and len({bench.take(content(n, serial="")) for n in range(3)}) == 3
    assert len(bench.backups()) == 3


def test_of_units_that_nothing_tells_apart_some_are_kept_at_a_port(start_bench):
    """A nameless modem that is flashed again and again, with another EFS2 each time: the first good one and the newest stay, and
    whatever somebody asked for or brought."""
    bench = start_bench("Keep=1\n")

    def flash(number, **facts):
        bench.tick += 1
        bench.wish(dict(content(number, serial="", **{"unit-data": f"{number:064x}", **facts}), tick=bench.tick))
        return bench.done(bench.start("Flash", dbus.ObjectPath(bench.firmware()), modem_version=VERSION))
    asked = [bench.take(content(n, serial="", **{"unit-data": f"{n:064x}"})) for n in range(2)]
    brought = bench.bring(content(2, serial=""))
    taken = [flash(n) for n in range(10, 17)]
    blank = [flash(n, state="blank", **{"unit-data": ""}) for n in range(20, 26)]
    other = flash(30, model="EC25")
    assert bench.backups() == sorted([*asked, brought, taken[0], *taken[-3:], *blank[-4:], other])
    # The next service tells them apart from those that were asked for, too.
    records = [(bench.service.state / "backups" / r).read_text().splitlines() for r in bench.stored("*.rec")]
    assert sum("automatic=1" in r for r in records) == len(bench.backups()) - 3, records


def test_the_last_good_one_is_removed_only_by_name(bench):
    def remove(backup, **options):
        bench.service.call(backup, BACKUP, "Remove", dbus.Dictionary(options, signature="sv"))
    first, blank, brought = bench.take(content(1)), bench.take(content(2, state="blank")), bench.bring(content(3))
    with Refused("LastBackup") as e:
        remove(first)  # the imported one is a claim, the blank one is empty
    assert "allow=LastBackup" in e.message
    with Refused(INVALID_ARGS):
        remove(first, allow=allow("WrongUnit"))
    remove(brought)
    remove(blank)
    second = bench.take(content(4))
    remove(first)
    with Refused("LastBackup"):
        remove(second)
    remove(second, allow=allow("LastBackup"))
    assert bench.backups() == [] and bench.stored() == []


# ---- a file without its record ----

@pytest.mark.parametrize("text", ["no record\n", "", "kind=calibration\nstate=complete\n"])
def test_a_lost_record_is_made_anew(bench, text):
    backup = bench.take(content())
    record, = (bench.service.state / "backups").glob("*.rec")
    assert bench.service.stop() == 0
    record.write_text(text)
    bench.service.start(worker=bench.tmp_path / "forged")
    wait_until(lambda: bench.backups() == [backup])
    assert len(bench.stored("*.rec.bad")) == 1
    assert bench.get(backup, "ChipSerial") == SERIAL and bench.get(backup, "OwnerUid") == 0
    assert bench.stored("*.lost") == []
    with Refused("LastBackup"):
        bench.service.call(backup, BACKUP, "Remove", bench.service.no_options())


def test_the_service_dies_while_a_file_is_taken_in_again(bench):
    """Both names are of one file then, and it has no record."""
    backup = bench.take(content())
    tar, = (bench.service.state / "backups").glob("*.tar")
    assert bench.service.stop() == 0
    tar.with_suffix(".rec").unlink()
    tar.with_suffix(".lost").hardlink_to(tar)
    bench.service.start(worker=bench.tmp_path / "forged")
    wait_until(lambda: bench.backups() == [backup] and not bench.stored("*.lost"))
    assert bench.get(backup, "ChipSerial") == SERIAL


def test_strays_that_are_no_backups_are_left_for_a_person(bench):
    good = bench.take(content())
    assert bench.service.stop() == 0
    store = bench.service.state / "backups"
    for name in ("0" * 32, "f" * 32):
        (store / (name + ".tar")).write_text("torn")
    (store / "README").write_text("mine")
    (store / ("7" * 32 + ".tar")).symlink_to("/etc/passwd")
    bench.service.start(worker=bench.tmp_path / "forged")
    wait_until(lambda: "f" * 32 + ".lost has no record and is no backup" in bench.service.errors() or len(bench.stored("*.lost")) == 2)
    assert bench.backups() == [good] and (store / "README").exists()
    assert bench.stored("*.lost") == ["0" * 32 + ".lost", "f" * 32 + ".lost"]


# ---- flash rule 5: before the first erase ----

def test_a_flash_waits_until_its_backup_is_stored(bench):
    job = bench.start("Flash", dbus.ObjectPath(bench.firmware()), modem_version=VERSION)
    backup = bench.done(job)
    report = bench.service.get(job, JOB, "Report")
    assert backup in bench.backups() and report["heard"] in bench.stored("*.tar")[0]
    assert "backup" in report["fds"].split(",") and len(report["created"]) == 16
    assert bench.get(backup, "Job") == job
    assert bench.service.get(bench.modem, MODEM, "LastBackupTime") > 0
    # Again: nothing new to store, and the flash hears of the one that is there.
    bench.wish(content(created=1800000000000000))
    again = bench.start("Flash", dbus.ObjectPath(bench.firmware()), modem_version=VERSION)
    assert bench.done(again) == backup and bench.service.get(again, JOB, "Report")["heard"] == report["heard"]
    assert report["backup"].startswith(report["heard"]) and "(calibration, complete, " in report["backup"]
    assert "stored before" in bench.service.get(again, JOB, "Report")["backup"]


@pytest.mark.parametrize("wish", [{"content_": "rubbish"}, {"second": "die"}, {"keep": True}, {"told": {"sha256": "e" * 64}}])
def test_a_flash_whose_backup_is_not_believed(bench, wish):
    bench.wish(**wish)
    job = bench.start("Flash", dbus.ObjectPath(bench.firmware()), modem_version=VERSION)
    assert bench.failed(job, "NoBackup") not in ("", "no word")
    assert bench.stored() == [] and bench.service.get(job, JOB, "Object") == "/"


def test_a_backup_is_offered_once(bench):
    bench.wish(offers=2)
    job = bench.start("Flash", dbus.ObjectPath(bench.firmware()), modem_version=VERSION)
    assert "BACKUP=1" in bench.failed(job, "Failed")


def test_a_restore_saves_the_present_state_first(bench):
    source = bench.take(content(1))
    bench.wish(content(2))
    job = bench.start("Restore", dbus.ObjectPath(source), partitions=dbus.Array(["efs2"], signature="s"))
    saved = bench.done(job)
    report = bench.service.get(job, JOB, "Report")
    assert saved != source and bench.get(saved, "Sha256") == f"{2:064x}"
    assert set(report["fds"].split(",")) == {"package", "source", "journal", "backup"} and report["partitions"] == "efs2"
    assert report["backup"].split()[0] == report["heard"] != report["source"]
    assert {report["source"] + ".tar", report["heard"] + ".tar"} == set(bench.stored("*.tar"))


def test_what_a_restore_refuses_at_once(bench):
    damaged, other = bench.take(content(1, state="damaged")), bench.bring(content(2, serial="0badcafe"))
    for backup, name in ((damaged, "BackupDamaged"), (other, "WrongUnit")):
        with Refused(name) as e:
            bench.start("Restore", dbus.ObjectPath(backup))
        assert "allow=" + name in e.message
        bench.wish(content(9))
        bench.done(bench.start("Restore", dbus.ObjectPath(backup), allow=allow(name)))
    with Refused("NoSuchBackup"):
        bench.start("Restore", dbus.ObjectPath("/org/qdld1/backup/none"))


# ---- descriptors, callers, room ----

def test_descriptors_that_are_refused(bench, tmp_path):
    left, right = socket.socketpair()
    writer = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    fds = [os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_PATH), os.open("/dev/null", os.O_RDONLY), writer, left.fileno()]
    for fd in fds:
        with Refused(INVALID_ARGS):
            bench.service.import_backup(fd)
    for fd in fds[:-1]:
        os.close(fd)
    left.close(), right.close()
    assert bench.service.paths(JOB) == []


def test_a_pipe_that_ends_early(bench):
    reader, writer = os.pipe()
    os.write(writer, json.dumps(content()).encode()[:20])
    job = bench.service.import_backup(reader)
    os.close(reader)
    os.close(writer)
    bench.failed(job, "BackupDamaged")
    assert bench.stored() == []


def test_imports_count_for_the_limits(start_bench, tmp_path):
    bench = start_bench("[Limits]\nImportsPerUser=1\n")
    reader, writer = os.pipe()
    job = bench.service.import_backup(reader)
    with Refused("LimitExceeded"):
        bench.service.import_backup(bench.file(content()))
    os.write(writer, json.dumps(content()).encode())
    os.close(writer)
    os.close(reader)
    bench.done(job)
    bench.service.restart(worker=tmp_path / "forged", config="[Limits]\nPackageSizeMax=1M\n")
    with open(tmp_path / "large", "wb") as f:
        f.truncate(2 << 20)
    with Refused("TooLarge"):
        bench.service.import_backup(tmp_path / "large")


def as_nobody(address, *arguments):
    return subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "busctl", "--system", *map(str, arguments)],
                          env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=address), capture_output=True, text=True)


@needs_root
def test_another_user_s_backup(bench, bus_address):
    backup = bench.take(content())
    assert as_nobody(bus_address, "call", "org.qdld1", ROOT, "org.qdld1.Manager", "ListBackups", "a{sv}", "0").returncode == 0
    for path, interface, method, arguments in ((backup, BACKUP, "Open", ["a{sv}", "0"]), (backup, BACKUP, "Verify", ["a{sv}", "0"]),
                                               (backup, BACKUP, "Remove", ["a{sv}", "0"]), (bench.modem, MODEM, "Backup", ["a{sv}", "0"]),
                                               (bench.modem, MODEM, "Restore", ["oa{sv}", backup, "0"])):
        result = as_nobody(bus_address, "call", "org.qdld1", path, interface, method, *arguments)
        assert result.returncode != 0 and "Access denied" in result.stderr, (method, result.stderr)
    assert bench.backups() == [backup]


@pytest.fixture
def small_disk(tmp_path):
    """A state directory on a file system of 64 MiB."""
    state = tmp_path / "state"
    state.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", state], capture_output=True).returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    yield state
    subprocess.run(["umount", "-l", state], check=True)


@needs_root
def test_no_room_is_said_before_anything_starts(small_disk, start_bench):
    bench = start_bench()
    jobs = [bench.firmware()] and bench.service.paths(JOB)
    backup = bench.bring(content())
    jobs = bench.service.paths(JOB)
    for method, arguments in (("Backup", ()), ("Flash", (dbus.ObjectPath(bench.firmware()),)), ("Restore", (dbus.ObjectPath(backup),))):
        with Refused("NoSpace") as e:
            bench.start(method, *arguments)
        assert "nothing was started" in e.message
    assert bench.service.paths(JOB) == jobs


@needs_root
def test_an_import_leaves_what_is_reserved(small_disk, start_bench):
    bench = start_bench("ReserveFree=60M\n")
    with Refused("NoSpace"):
        bench.service.import_backup(bench.file(content()))
    assert bench.stored() == []


@pytest.mark.parametrize("method", ["Backup", "Flash"])
def test_disk_full_at_every_write_of_the_service(start_bench, plug, tmp_path, forge, method):
    """Log, records of job and modem, the link into the store, its record, the syncing of both: each of them in turn, and all
    that follow. What is not on the disk is no backup, and what is one can be read after a restart."""
    bench = start_bench()
    firmware = bench.firmware()
    bench.wish(content(1))
    outcomes = set()
    for n in range(1, 200):
        environment = {"LD_PRELOAD": str(BUILD / "full-disk.so"), "FULL_AT": str(n), "FULL_COMM": "qdld"}
        assert bench.service.stop() == 0
        bench.service.start(worker=forge(WORKER), environment=environment)
        bench.plug = plug(bench.service)
        bench.modem = bench.service.modem()
        before = bench.backups()
        bench.wish(content(n))
        try:
            job = bench.start(method, *([dbus.ObjectPath(firmware)] if method == "Flash" else []))
            result = bench.service.wait_job(job)
            name = str(bench.service.get(job, JOB, "ErrorName")).rsplit(".", 1)[-1]
            assert result == "done" or name in ("NoSpace", "NoBackup", "Failed"), bench.service.all(job, JOB)
            if result == "done" and method == "Flash":
                heard = bench.service.get(job, JOB, "Report")["heard"]
                assert heard + ".tar" in bench.stored("*.tar"), "it was told that it is stored"
        except dbus.DBusException as e:
            result, name = "refused", e.get_dbus_name().rsplit(".", 1)[-1]
            assert name == "NoSpace", e
        outcomes.add(result)
        assert bench.service.stop() == 0
        bench.service.start(worker=forge(WORKER))
        now = bench.backups()
        assert set(before) <= set(now) and not (result == "refused" and now != before)
        assert result != "done" or len(now) == len(before) + 1
        assert len(bench.stored("*.tar")) == len(bench.stored("*.rec")) == len(now) and not bench.stored("*.lost")
        for b in now:
            assert bench.service.wait_job(bench.service.call(b, BACKUP, "Verify", bench.service.no_options())) == "done"
            bench.service.call(b, BACKUP, "Remove", dbus.Dictionary({"allow": allow("LastBackup")}, signature="sv"))
        if result == "done" and n > 12:
            break
    assert {"refused", "failed", "done"} <= outcomes, outcomes
