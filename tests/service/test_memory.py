# SPDX-License-Identifier: LGPL-2.1-or-later
"""A modem is a port with a memory: what was learned in any mode is joined by connector and chip serial, and survives."""

import dbus
import pytest
from catching import OTHER, OTHER_PORT, PORT, Later, find_modem, import_package, options
from conftest import JOB, MODEM, VERSION, wait_until

RUNNING = {"vid": "2c7c", "pid": "0800", "product": "RM502Q-GL", "interfaces": 5}
SERIAL = "QUSB_BULK_CID:0410_SN:49CBD7EF"
NAMELESS = "QUSB_BULK"
UNFUSED = "QUSB_BULK_CID:0410_SN:00000000"
SHORT = VERSION[:19]


def gone(service, path):
    wait_until(lambda: service.get(path, MODEM, "Mode") == "absent", what="its end")


def is_there(service, path, mode):
    wait_until(lambda: service.get(path, MODEM, "Mode") == mode, what=mode)


def shown(service, path):
    f = service.all(path, MODEM)
    return f["Model"], f["FirmwareVersion"][:19], bool(f["Confirmed"])


@pytest.fixture
def known(service, new_modem):
    """The path of a modem that said in normal mode what it is, and has gone."""
    modem = new_modem(service, "initial=working")
    path = find_modem(service)
    is_there(service, path, "normal")
    job = service.call(path, MODEM, "Identify", options())
    assert service.wait_job(job) == "done"
    modem.terminate()
    gone(service, path)
    return path


def test_a_nameless_one_is_the_modem_that_fell_just_now(service, known, plug):
    """Normal mode, and seconds later 9008 at the same port: this very device."""
    p = plug(service, **RUNNING)
    is_there(service, known, "normal")
    p.unplug()
    gone(service, known)
    plug(service, product=NAMELESS)
    is_there(service, known, "sahara")
    model, version, _ = shown(service, known)
    assert model == "RM502QGL" and version == SHORT


@pytest.mark.parametrize("product", [NAMELESS, UNFUSED])
def test_a_nameless_one_after_a_restart_is_a_hint(service, known, plug, product):
    service.restart()
    assert shown(service, known)[:2] == ("RM502QGL", SHORT)
    for _ in range(2):  # the second time it has nothing to recognize it by that the first time told
        p = plug(service, product=product)
        is_there(service, known, "sahara")
        assert shown(service, known) == ("RM502QGL", SHORT, False) and service.get(known, MODEM, "ChipSerial") == ""
        p.unplug()
        gone(service, known)
        service.restart()


def test_what_was_watched_is_confirmed_and_nothing_behind_it(service, new_modem, plug):
    """It went from normal mode to 9008 before our eyes; what comes when that has gone may be any module."""
    modem = new_modem(service, "initial=working", f"product_edl={NAMELESS}")
    path = find_modem(service)
    is_there(service, path, "normal")
    identified(service, path)
    assert service.wait_job(service.call(path, MODEM, "EnterEdl", options())) == "done"
    assert shown(service, path) == ("RM502QGL", SHORT, True)
    modem.terminate()
    gone(service, path)
    plug(service, product=NAMELESS)
    is_there(service, path, "sahara")
    assert shown(service, path) == ("RM502QGL", SHORT, False)


def test_the_serial_joins_over_ports_and_restarts(service, known, plug):
    """What was learned at one port is shown at another one, because the chip serial is the same."""
    plug(service, product=SERIAL).unplug()
    gone(service, known)
    service.restart()
    plug(service, product=SERIAL, port=OTHER_PORT, kernel="1-1.3")
    there = find_modem(service, OTHER_PORT)
    assert shown(service, there)[:2] == ("RM502QGL", SHORT)
    # One unit is one object: the port where it was knows nothing any more.
    assert shown(service, known) == ("", "", False)


def test_another_serial_at_the_port_is_another_modem(service, known, plug):
    plug(service, product=SERIAL).unplug()
    gone(service, known)
    plug(service, product="QUSB_BULK_CID:0410_SN:0BADCAFE")
    wait_until(lambda: service.get(known, MODEM, "ChipSerial") == "0badcafe", what="the other one")
    assert shown(service, known) == ("", "", False)


def test_the_superspeed_side_is_the_same_modem(service, new_modem):
    """Another bus and another kernel name in normal mode; the connector is one."""
    new_modem(service, "initial=working", "kernel_normal=2-1")
    path = find_modem(service)
    is_there(service, path, "normal")
    assert service.get(path, MODEM, "KernelName") == "2-1"
    job = service.call(path, MODEM, "EnterEdl", options())
    assert service.wait_job(job) == "done", service.log(job)
    assert service.get(path, MODEM, "KernelName") == "1-1.2" and service.paths(MODEM) == [path]
    assert shown(service, path) == ("RM502QGL", SHORT, True)


def known_by_both(new_service, new_modem):
    """A modem, in EDL by now, whose IMEI and chip serial were told; the service, its process and its path."""
    service = new_service().start(config="[Identify]\nOnAppear=yes\nDelaySec=0\n[Backup]\nAutomatic=no\n")
    modem = new_modem(service, "initial=working")
    path = find_modem(service)
    wait_until(lambda: service.get(path, MODEM, "Imei"), what="its IMEI")
    assert service.wait_job(service.call(path, MODEM, "EnterEdl", options())) == "done"
    assert service.wait_job(service.call(path, MODEM, "Identify", options())) == "done"
    return service, modem, path


def test_the_same_unit_at_another_connector(new_service, new_modem):
    """In normal mode it tells no serial: its IMEI says who it is, and what is known of it, its policy too, is where it is."""
    service, modem, path = known_by_both(new_service, new_modem)
    assert service.get(path, MODEM, "ChipSerial") == "49cbd7ef" and service.get(path, MODEM, "HardwareId")
    service.call(path, MODEM, "SetPolicy", "off", dbus.ObjectPath("/"), options())
    before = service.all(path, MODEM)
    modem.terminate()
    wait_until(lambda: service.get(path, MODEM, "Mode") == "absent", what="its end")
    new_modem(service, f"port={OTHER_PORT}", "kernel=1-1.3")
    there = find_modem(service, OTHER_PORT)
    wait_until(lambda: service.get(there, MODEM, "ChipSerial") == "49cbd7ef", what="who it is")
    now = service.all(there, MODEM)
    assert now["Confirmed"] and now["Mode"] == "normal" and now["Policy"] == "off"
    for name in ("Imei", "Model", "FirmwareVersion", "HardwareId", "PkHash"):
        assert now[name] == before[name], name
    assert service.get(path, MODEM, "ChipSerial") == "" and service.get(path, MODEM, "Policy") == "hold"
    # And it stays so, also for whoever asks after a restart.
    service.restart(config="")
    assert service.get(there, MODEM, "ChipSerial") == "49cbd7ef" and path not in service.paths(MODEM)


def test_another_imei_is_another_unit_there(new_service, new_modem):
    service, modem, path = known_by_both(new_service, new_modem)
    modem.terminate()
    wait_until(lambda: service.get(path, MODEM, "Mode") == "absent", what="its end")
    new_modem(service, *OTHER, "initial=working", name="other")
    there = find_modem(service, OTHER_PORT)
    wait_until(lambda: service.get(there, MODEM, "Imei"), what="its IMEI")
    assert service.get(there, MODEM, "ChipSerial") == "" and service.get(path, MODEM, "ChipSerial") == "49cbd7ef"


# ---- another module in the same slot ----

ASKS = "[Identify]\nOnAppear=yes\nDelaySec=0\n[Backup]\nAutomatic=no\n"


def away(service, modem):
    """Unplugged, and for so long that it may be any module that comes next."""
    modem.terminate()
    wait_until(lambda: service.get(find_modem(service), MODEM, "Mode") == "absent", what="its end")
    service.restart(config=ASKS)


def identified(service, path):
    job = service.call(path, MODEM, "Identify", options())
    assert service.wait_job(job) == "done", service.log(job)


@pytest.mark.parametrize("ran", [True, False], ids=["its IMEI was known", "a brick"])
def test_a_module_in_its_place_tells_nothing_of_it(new_service, new_modem, ran):
    """The only slot: A goes out, B runs its firmware there for a while, A comes back in 9008. What B told is not true of A."""
    service = new_service().start(config=ASKS)
    a = new_modem(service, *(("initial=working",) if ran else ()))
    path = find_modem(service)
    if ran:
        wait_until(lambda: service.get(path, MODEM, "Imei"), what="its IMEI")
        assert service.wait_job(service.call(path, MODEM, "EnterEdl", options())) == "done"
    identified(service, path)
    was, imei = service.get(path, MODEM, "FirmwareVersion"), service.get(path, MODEM, "Imei")
    away(service, a)
    b = new_modem(service, "initial=working", "boots=other-version", "serial=0badcafe", name="other")
    wait_until(lambda: "R99A99" in service.get(path, MODEM, "FirmwareVersion"), what="the other one's word")
    away(service, b)
    new_modem(service, "force_edl=yes")
    is_there(service, path, "sahara")
    identified(service, path)
    f = service.all(path, MODEM)
    assert f["ChipSerial"] == "49cbd7ef" and f["Imei"] == imei
    if ran:
        assert f["FirmwareVersion"] == was and f["Confirmed"]
    else:
        assert not f["Confirmed"]


def test_a_module_in_the_place_of_a_brick_can_be_flashed(new_service, new_modem, make_package):
    """It runs its firmware, and nobody has heard its serial: it is not expected to be the brick's."""
    service = new_service().start(config=ASKS)
    firmware = import_package(service, make_package("--small"))
    a = new_modem(service)
    path = find_modem(service)
    identified(service, path)
    away(service, a)
    new_modem(service, "initial=working", "serial=0badcafe", name="other")
    wait_until(lambda: service.get(path, MODEM, "Imei"), what="its IMEI")
    job = service.call(path, MODEM, "Flash", dbus.ObjectPath(firmware), options())
    assert service.wait_job(job) == "done", service.log(job)
    assert service.get(path, MODEM, "ChipSerial") == "0badcafe"


def test_the_imei_of_one_is_not_another_ones_that_comes_twice(new_service, new_modem):
    """One that runs its firmware tells no serial; a brick in its place does, and not only once."""
    service = new_service().start(config=ASKS)
    a = new_modem(service, "initial=working")
    path = find_modem(service)
    wait_until(lambda: service.get(path, MODEM, "Imei"), what="its IMEI")
    away(service, a)
    b = new_modem(service, "serial=0badcafe", name="other")
    is_there(service, path, "sahara")
    identified(service, path)
    away(service, b)
    new_modem(service, "serial=0badcafe", name="other")
    is_there(service, path, "sahara")
    identified(service, path)
    f = service.all(path, MODEM)
    assert f["ChipSerial"] == "0badcafe" and f["Imei"] == "" and not f["Confirmed"]


# ---- partition tables of a unit without a serial ----

TELLS_A_TABLE = """
order = begin()
if order.kind in ("import", "verify"):
    say("READY=1")
    import_done(order, name="RM502QGLAAR05A03M4G_01.001.01.001", model="RM502QGL", chip="SDX55", programmer="prog.elf") if order.kind == "import" else finish()
say("READY=1", "WAIT_DEVICE=edl")
product = hear_until("DEVICE")[0]["PRODUCT"]
if "_SN:" in product:
    say("SERIAL=" + product.partition("_SN:")[2].lower())
table = os.pread(order.fds["recorded"], 4096, 0).decode() if "recorded" in order.fds else "nothing"
say("REPORT.recorded=" + " ".join(table.split()))
say("TABLE=1", fds=[memfd("NAME=" + order.options["partitions"] + "\\nFIRST=20\\nBLOCKS=44\\n")])
say("RESULT=failed", "ERROR=FirehoseFailed", "MESSAGE=that is all")
"""


@pytest.fixture
def tables(new_service, forge, plug, make_package, tmp_path):
    """tables.recorded(name): what a worker is given as recorded of the modem that is there, which has this table."""
    later = Later(tmp_path)
    service = new_service().start(worker=forge(TELLS_A_TABLE), environment=later.environment)
    import_package(service, make_package("--small"))

    class Tables:
        def __init__(self):
            self.service, self.later, self.there = service, later, None

        def plug(self, product):
            if self.there:
                self.there.unplug()
                gone(service, find_modem(service))
            self.there = plug(service, product=product)
            wait_until(lambda: service.get(find_modem(service), MODEM, "Mode") != "absent", what="the modem")

        def recorded(self, name):
            job = service.call(find_modem(service), MODEM, "Backup", options(partitions=dbus.Array([name], signature="s")))
            service.wait_job(job)
            return str(service.get(job, JOB, "Report")["recorded"])
    return Tables()


def test_a_table_of_a_nameless_unit_is_its_own_while_it_is_watched(tables):
    tables.plug(NAMELESS)
    assert tables.recorded("one") == "nothing" and tables.recorded("two") == "NAME=one FIRST=20 BLOCKS=44"
    tables.plug(NAMELESS)  # it went for a moment
    assert tables.recorded("two") == "NAME=one FIRST=20 BLOCKS=44 NAME=two FIRST=20 BLOCKS=44"


def test_the_next_unit_does_not_get_it(tables):
    tables.plug(NAMELESS)
    assert tables.recorded("one") == "nothing"
    tables.there.unplug()
    gone(tables.service, find_modem(tables.service))
    tables.later.go(60 * 1000000)
    tables.there = None
    tables.plug(NAMELESS)
    assert tables.recorded("two") == "nothing"
    assert tables.recorded("three") == "NAME=two FIRST=20 BLOCKS=44"


def test_nor_one_that_has_a_serial(tables):
    """It is not put down as the table of that unit, either."""
    tables.plug(NAMELESS)
    assert tables.recorded("one") == "nothing"
    tables.service.restart(worker=tables.service.directory / "forged")
    tables.there = None
    tables.plug(SERIAL)
    assert tables.recorded("two") == "nothing" and tables.recorded("three") == "NAME=two FIRST=20 BLOCKS=44"


def test_tables_outlive_the_record_of_their_unit(tables):
    """The power failed before its data were written: of what is protected in a unit nothing is forgotten."""
    tables.plug(SERIAL)
    assert tables.recorded("one") == "nothing"
    tables.plug("QUSB_BULK_CID:0410_SN:0BADCAFE")
    assert tables.recorded("two") == "nothing"
    record, = (tables.service.state / "modems").glob("unit-49cbd7ef.rec")
    record.write_text("")
    tables.plug(SERIAL)
    assert tables.recorded("three") == "NAME=one FIRST=20 BLOCKS=44"
    assert record.with_suffix(".rec.bad").exists()
    tables.plug("QUSB_BULK_CID:0410_SN:0BADCAFE")
    tables.plug(SERIAL)
    assert tables.recorded("four").startswith("NAME=one FIRST=20 BLOCKS=44 NAME=three")


def test_so_many_tables_of_a_unit_are_recorded(tables):
    """Each once, and the first ones stay: they are those that its calibration was made with."""
    tables.plug(NAMELESS)
    names = ["table%d" % i for i in range(18)]
    for name in names:
        tables.recorded(name)
        tables.recorded(name)
    assert tables.recorded("more") == " ".join(f"NAME={n} FIRST=20 BLOCKS=44" for n in names[:16])
    assert "more partition tables" in tables.service.errors()


def test_a_table_is_known_by_whole_lines(tables):
    """Not by what lies in the name of another one's partition."""
    tables.plug(NAMELESS)
    tables.recorded("other")
    file, = (tables.service.state / "modems").glob("*.tables")
    file.write_text("NAME=xNAME=one\nFIRST=20\nBLOCKS=44\n")
    tables.recorded("one")
    assert file.read_text() == "NAME=xNAME=one\nFIRST=20\nBLOCKS=44\n\n\nNAME=one\nFIRST=20\nBLOCKS=44\n"
