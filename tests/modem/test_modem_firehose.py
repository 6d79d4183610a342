# SPDX-License-Identifier: LGPL-2.1-or-later
"""The programmer's manners: reference/edl.md 2 and the quirks of 8. Its storage: test_modem_nand.py."""

import time

import pytest

from modemhost import Silent, make_programmer


def started(modem, *settings, **options):
    m = modem(*settings)
    return m, m.appear().start_programmer(**options)


def test_configure(modem):
    _, host = started(modem)
    r = host.configure()
    assert (r["MaxPayloadSizeToTargetInBytes"], r["MaxPayloadSizeToTargetInBytesSupported"]) == ("8192", "8192")
    assert "INFO: Storage type set to value nand" in host.logs


def test_configure_with_too_much(modem):
    _, host = started(modem)
    r = host.configure(1 << 20)
    assert (r["value"], r["MaxPayloadSizeToTargetInBytes"]) == ("NAK", "8192")
    assert host.configure(8192)["value"] == "ACK"


def test_configure_nak_once(modem):
    host = modem("configure=nak-once").appear()
    host.upload(make_programmer())
    host.banner()
    assert host.configure()["value"] == "NAK"
    assert host.configure()["value"] == "ACK"


def test_configure_larger(modem):
    _, host = started(modem, "configure=larger")
    assert host.configure(8192)["MaxPayloadSizeToTargetInBytesSupported"] == "16384"
    assert host.configure(16384)["value"] == "ACK"


def test_second_configure_refused(modem):
    _, host = started(modem, "configure=second-nak")
    assert host.configure()["value"] == "NAK"


def test_wrong_memory_fails_at_the_first_storage_command(modem):
    host = modem().appear()
    host.upload(make_programmer())
    host.banner()
    assert host.configure(memory="emmc")["value"] == "ACK"
    assert host.erase(0, 64)["value"] == "NAK"
    assert "ERROR: Failed to open device, type:emmc, slot:0, lun:0 error:4" in host.logs


def test_dead_storage(modem):
    _, host = started(modem, "storage=dead")
    assert host.read(0, 1)[1]["value"] == "NAK"
    assert host.logs[-2:] == ["WARN: [205]NAND Error -2 (4)",
                              "ERROR: Failed to open device, type:nand, slot:0, lun:0 error:4"]


def test_already_running_has_no_banner(modem):
    host = modem("start=firehose").appear()
    host.poll()
    with pytest.raises(Silent):
        host.receive(0.1)
    assert host.command("nop")["value"] == "ACK"


def test_banner_of_9x07(modem):
    host = modem("geometry=p2K_b128K").appear()
    host.upload(make_programmer())
    host.banner()
    assert len(host.logs) == 1 and host.logs[0].startswith("Supported Functions: program read erase")
    host.configure()
    assert host.command("patch", filename="DISK")["value"] == "NAK"
    assert host.command("power", value="reset_to_edl")["value"] == "NAK"
    assert host.command("erase", SECTOR_SIZE_IN_BYTES=2048, num_partition_sectors=64, start_sector=0)["value"] == "NAK"
    assert host.erase(0, 64, page=4096)["value"] == "NAK"
    assert "Attribute 'SECTOR_SIZE_IN_BYTES'=4096 must be equal to disk sector size 2048" in host.logs[-1]


@pytest.mark.parametrize("text", [
    "garbage", "<?xml ?><data></data>", "<data><nop></nop></data>", "<data><nop /><nop /></data>",
    "<data><nop value=1 /></data>", "<data><nop /></data>trailing", "<data><unknown /></data>", "<data><peek /></data>",
])
def test_documents_that_it_refuses(modem, text):
    _, host = started(modem)
    host.send(text.encode())
    assert host.response()["value"] == "NAK"
    assert host.command("nop")["value"] == "ACK"


def test_a_document_that_is_too_long(modem):
    _, host = started(modem)
    host.send(b"<data><nop value=\"" + b"x" * 5000 + b"\" /></data>")
    assert host.response()["value"] == "NAK"


def test_a_document_of_512_bytes_waits_for_its_zlp(modem):
    _, host = started(modem)
    text = b"<data><nop /></data>"
    host.send(b" " * (512 - len(text)) + text)
    with pytest.raises(Silent):
        host.response(0.1)
    host.send(b"")
    assert host.response()["value"] == "ACK"


def test_storage_before_configure(modem):
    host = modem().appear()
    host.upload(make_programmer())
    host.banner()
    assert host.erase(0, 64)["value"] == "NAK"


def test_storage_info(modem):
    _, host = started(modem)
    assert host.command("getstorageinfo", physical_partition_number=0)["value"] == "ACK"
    assert '"total_blocks":192, "block_size":262144, "page_size":4096' in host.logs[-1]


def test_storage_info_that_is_wrong_or_not_there(modem):
    _, host = started(modem, "storage_info=wrong")
    assert host.command("getstorageinfo")["value"] == "ACK"
    assert '"page_size":2048' in host.logs[-1]


def test_storage_info_that_says_nothing(modem):
    _, host = started(modem, "storage_info=none")
    assert host.command("getstorageinfo")["value"] == "ACK"
    assert not any("page_size" in log for log in host.logs)


def test_storage_info_of_9x07_lists_bad_blocks(modem):
    host = modem("geometry=p2K_b128K", "bad=30,40").appear().start_programmer()
    assert host.command("getstorageinfo")["value"] == "ACK"
    assert host.logs[-4:] == ["[BAD_BLOCK_LIST]", "BAD_BLOCK=30", "BAD_BLOCK=40", "TOTAL_BAD_BLOCK=2"]
    assert host.erase(0, 0, page=2048)["value"] == "NAK"
    assert "num_blocks to erase are ZERO" in host.logs[-1]


@pytest.mark.parametrize("settings", [
    ["split=7"], ["glue=1"], ["trailing_nuls=5"], ["garbage_text=1"], ["chatty=20"], ["logs_after_response=1"],
    ["raw_glued=1"], ["in_zlp=no"], ["in_zlp=each"], ["glue=1", "raw_glued=1", "split=100", "trailing_nuls=3"],
])
def test_the_same_answers_in_another_dress(modem, settings):
    m, host = started(modem, *settings)
    data = bytes(range(256)) * 200
    assert host.program(100 * 64, data)["value"] == "ACK"
    pages = -(-len(data) // 4096)
    read, r = host.read(100 * 64, pages)
    assert r["value"] == "ACK" and read[:len(data)] == data
    assert host.command("nop")["value"] == "ACK"
    assert not m.violations()


def test_late_logs_come_late(modem):
    _, host = started(modem, "logs_after_response=1")
    for _ in range(2):
        host.document()  # those of configure
    host.logs.clear()
    assert host.command("nop")["value"] == "ACK"
    assert host.logs == []
    host.document()
    assert host.logs == ["INFO: Calling handler for nop"]


def test_glued_documents_are_one_transfer(modem):
    _, host = started(modem, "glue=1")
    host.send(b"<data><nop /></data>")
    assert host.receive().count(b"</data>") == 2


def test_big_log(modem):
    _, host = started(modem, "big_log=2")
    assert host.command("nop")["value"] == "ACK"
    assert max(map(len, host.logs)) == 1 << 20


def test_endless_logs(modem):
    _, host = started(modem, "log_flood=2")
    host.send(b"<data><nop /></data>")
    for _ in range(500):
        assert b"<log" in host.receive()


def test_logs_that_nobody_reads_block_everything(modem):
    m, host = started(modem)
    for _ in range(5):
        host.send(b"<data><nop /></data>")
    def commands():
        return sum(" command " in line for line in m.trace())
    while commands() < 2:
        time.sleep(0.01)
    time.sleep(0.1)
    m.stop()
    assert commands() == 2  # configure, and the one whose answer is not collected


def test_posted_transfers_take_in_what_the_host_does_not_read(modem):
    m, host = started(modem, "in_posted=65536")
    host.send(b"<data><nop /></data>")
    host.send(b"<data><nop /></data>")
    end = time.monotonic() + 30
    while sum(" command " in line for line in m.trace()) < 3:  # the second one is heard, with the first one's answer not collected
        assert time.monotonic() < end
        time.sleep(0.01)


def test_hang_after_nak(modem):
    _, host = started(modem, "after_nak=hang")
    assert host.command("unknown")["value"] == "NAK"
    with pytest.raises(Silent):
        host.command("nop", timeout=0.2)


@pytest.mark.parametrize("value,boots", [("reset", "9008"), ("reset_to_edl", "9008")])
def test_power(modem, value, boots):
    m, host = started(modem)
    assert host.command("power", value=value, DelayInSeconds=10)["value"] == "ACK"
    host.wait_gone()
    assert "bsp_target_reset() 1" in "\n".join(m.trace())
    assert m.appear().plug["PID"] == boots


def test_it_does_not_reset_while_its_last_logs_are_not_read(modem):
    m, host = started(modem)
    host.send(b"<data><power value=\"reset\"/></data>")
    with pytest.raises(Silent):
        m.appear(0.2)
    host.wait_gone()
    m.appear()


def test_power_off_and_unknown(modem):
    m, host = started(modem)
    assert host.command("power", value="explode")["value"] == "NAK"
    assert host.command("power", value="off")["value"] == "ACK"
    host.wait_gone()
    with pytest.raises(Silent):
        m.appear(0.2)


def test_zlp_aware_host_owes_a_zlp_after_each_payload(modem):
    m, host = started(modem, zlp=1)
    assert host.program(0, bytes(30000))["value"] == "ACK"
    assert host.command("program", **host.address(0, 2))["value"] == "ACK"
    host.send(bytes(8192))
    with pytest.raises(Silent):
        host.response(0.3)  # it waits for the ZLP
    host.send(b"")
    assert host.response()["value"] == "ACK"
    assert not m.violations()


def test_data_in_place_of_a_zlp(modem):
    m, host = started(modem, zlp=1)
    host.zlp = False
    assert host.program(0, bytes(4 * 8192))["value"] == "NAK"
    assert "no ZLP" in m.violations()[0] if m.stop() == 0 else False


def test_zlps_that_nobody_asked_for(modem):
    m, host = started(modem)
    host.zlp = True
    assert host.program(0, bytes(30000))["value"] == "ACK"
    assert host.command("nop")["value"] == "ACK"


def test_a_short_transfer_in_raw_data(modem):
    m, host = started(modem)
    assert host.command("program", **host.address(0, 4))["value"] == "ACK"
    host.send(bytes(1000))
    assert host.response()["value"] == "NAK"
    assert m.stop() == 0 and "short transfer" in m.violations()[0]
