# SPDX-License-Identifier: LGPL-2.1-or-later
"""The boot ROM: reference/edl.md 1, samples.md."""

import struct

import pytest

from modemhost import (CMD_READY, END_IMAGE, EXECUTE, HELLO, HELLO_RESP, MEMORY_DEBUG64, MEMORY_READ64, PATIENCE, READ_DATA,
                    READ_DATA64, RESET, RESET_RESP, RESET_STATE_MACHINE, SWITCH_MODE, Silent, UploadFailed, make_programmer)

INVALID_COMMAND, INVALID_PACKET_SIZE, INVALID_RX_LENGTH, INVALID_ELF, INVALID_MODE = 1, 5, 0x0B, 0x14, 0x18
MEMORY_DEBUG_UNSUPPORTED, EXECUTE_UNSUPPORTED, AUTH_FAILURE = 0x1B, 0x1F, 0x21


def silent(host, timeout=0.1):
    with pytest.raises(Silent):
        host.receive(timeout)


def recover(host):
    """RESET brings a ROM that has said END_IMAGE back to HELLO."""
    host.send_packet(RESET)
    assert host.packet() == (RESET_RESP, ())
    assert host.packet()[0] == HELLO


def test_plug(modem):
    host = modem("serial=abcd1234", "port=virtual-7").appear()
    assert host.plug == {"PORT": "virtual-7", "KERNEL": "1-1.2", "VID": "05c6", "PID": "9008",
                         "PRODUCT": "QUSB_BULK_CID:0410_SN:ABCD1234", "INTERFACES": "1", "MAX_PACKET": "512"}


def test_hello_only_after_the_first_poll_and_only_once(modem):
    host = modem().appear()
    silent(host)
    host.poll()
    command, words = host.packet()
    assert (command, words[:4]) == (HELLO, (2, 1, 0x400, 0))
    host.poll()
    silent(host)


def test_upload_asks_as_an_sdx55_does(modem):
    host = modem().appear()
    assert host.upload(make_programmer()) == 1
    assert host.requests[:6] == [(0, 0x34), (0x34, 0x60), (0x1000, 0x1000), (0x2000, 0x9d0), (0x3000, 0x1000),
                                 (0x4000, 0x1000)]
    host.banner()
    assert host.logs[-1] == "INFO: End of supported functions 15"
    assert host.command("nop")["value"] == "ACK"


def test_read_data_64_and_a_64_bit_programmer(modem):
    host = modem("read64=1").appear()
    host.upload(make_programmer(elf64=True))
    assert host.requests[:3] == [(0, 0x34), (0, 0x40), (0x40, 3 * 56)]
    host.banner()


def test_a_request_past_the_end(modem):
    host = modem("overread=4096").appear()
    image = make_programmer()
    host.upload(image)
    assert host.requests[-1] == (len(image), 4096)


def test_done_pending(modem):
    host = modem("done=pending").appear()
    assert host.upload(make_programmer()) == 0
    host.banner()


def test_lost_hello_is_not_repeated_but_an_answer_to_it_is_taken(modem):
    host = modem("hello=lost").appear()
    host.poll()
    silent(host)
    host.upload(make_programmer(), hello=False)
    host.banner()


@pytest.mark.parametrize("command", [RESET, RESET_STATE_MACHINE])
def test_lost_hello_comes_again_after_a_reset(modem, command):
    host = modem("hello=lost").appear()
    host.poll()
    host.send_packet(command)
    if command == RESET:
        assert host.packet()[0] == RESET_RESP
    assert host.packet()[0] == HELLO
    host.upload(make_programmer(), hello=False)


def test_hello_twice_wants_two_answers(modem):
    host = modem("hello=twice").appear()
    host.poll()
    assert host.packet()[0] == HELLO
    host.hello_response()
    assert host.packet()[0] == HELLO
    silent(host)
    host.upload(make_programmer(), hello=False)


def test_leftover_reset_response_comes_first(modem):
    host = modem("start=reset-resp").appear()
    host.poll()
    assert host.packet() == (RESET_RESP, ())
    assert host.packet()[0] == HELLO


@pytest.mark.parametrize("junk", [b"x", b"<?xml version=\"1.0\" ?><data><nop /></data>", struct.pack("<II", HELLO_RESP, 9)])
def test_junk_gives_an_error_and_then_only_reset_helps(modem, junk):
    host = modem().appear()
    host.poll()
    host.packet()
    host.send(junk)
    assert host.packet() == (END_IMAGE, (0, INVALID_PACKET_SIZE))
    host.hello_response()
    assert host.packet() == (END_IMAGE, (0, INVALID_COMMAND))
    recover(host)
    host.upload(make_programmer(), hello=False)


def test_stuck_in_the_middle_of_a_transfer(modem):
    host = modem("start=mid-transfer").appear()
    host.poll()
    silent(host)
    host.send_packet(RESET)
    assert host.packet() == (END_IMAGE, (13, INVALID_RX_LENGTH))
    recover(host)
    host.upload(make_programmer(), hello=False)


def test_stuck_and_it_swallows_what_comes(modem):
    host = modem("start=mid-transfer", "stuck=swallow").appear()
    host.poll()
    for _ in range(7):  # 56 bytes: 52 are the rest of what it waits for
        host.send_packet(RESET)
    command, words = host.packet()
    assert command == END_IMAGE and words[1] == INVALID_ELF


def test_stuck_and_dead(modem):
    host = modem("start=mid-transfer", "stuck=dead").appear()
    host.poll()
    host.send_packet(RESET)
    host.send_packet(RESET)
    silent(host)


def test_a_zlp_after_raw_data_is_an_error(modem):
    host = modem().appear()
    host.poll()
    host.packet()
    host.hello_response()
    image = make_programmer()
    while True:
        command, words = host.packet()
        if command != READ_DATA:
            break
        host.send(image[words[1]:words[1] + words[2]], zlp=True)
    assert (command, words) == (END_IMAGE, (13, INVALID_RX_LENGTH))


def test_programmer_of_another_key_is_refused(modem):
    host = modem().appear()
    with pytest.raises(UploadFailed) as e:
        host.upload(make_programmer(signed_for="0123456789abcdef"))
    assert e.value.status == AUTH_FAILURE
    recover(host)


def test_programmer_of_another_key_and_not_a_word(modem):
    host = modem("programmer_check=silent").appear()
    with pytest.raises(Silent):
        host.receive = lambda timeout=PATIENCE, receive=host.receive: receive(0.5)
        host.upload(make_programmer(signed_for=None))


def test_unfused_unit_takes_anything(modem):
    host = modem("programmer_check=accept").appear()
    host.upload(make_programmer(signed_for=None))


def test_not_an_elf(modem):
    host = modem().appear()
    with pytest.raises(UploadFailed) as e:
        host.upload(bytes(0x4000))
    assert e.value.status == INVALID_ELF


@pytest.mark.parametrize("mode,status", [(2, MEMORY_DEBUG_UNSUPPORTED), (9, INVALID_MODE)])
def test_a_mode_that_it_does_not_have(modem, mode, status):
    host = modem().appear()
    host.poll()
    host.packet()
    host.hello_response(mode)
    assert host.packet() == (END_IMAGE, (0, status))


def enter_command_mode(host):
    host.poll()
    host.packet()
    host.hello_response(3)
    return host.packet()


def test_command_mode(modem):
    host = modem().appear()
    assert enter_command_mode(host)[0] == CMD_READY
    assert host.execute(1) == struct.pack("<I", 0x49CBD7EF)
    assert host.execute(2) == struct.pack("<Q", 0x000E50E100040000)
    digest = host.execute(3)
    assert len(digest) == 96 and digest[:8].hex() == "d9357db88795b5a8" and digest[:32] * 3 == digest
    host.send_packet(SWITCH_MODE, 0)
    assert host.packet()[0] == HELLO
    host.upload(make_programmer(), hello=False)


def test_command_mode_refused(modem):
    assert enter_command_mode(modem("command_mode=no").appear()) == (END_IMAGE, (0, INVALID_COMMAND))


def test_version_3_has_a_chip_id_instead_of_the_hwid(modem):
    host = modem("sahara_version=3", "unsupported_command=zero").appear()
    enter_command_mode(host)
    assert host.execute(2) == b""
    chip = host.execute(10)
    assert len(chip) == 48 and struct.unpack_from("<IHH", chip, 36) == (0x000E50E1, 4, 0)


def test_a_client_command_that_it_lacks(modem):
    host = modem("pkhash_command=no").appear()
    enter_command_mode(host)
    host.send_packet(EXECUTE, 3)
    assert host.packet() == (END_IMAGE, (0, EXECUTE_UNSUPPORTED))
    recover(host)


def test_reset_may_reboot(modem):
    m = modem("sahara_reset=reboot")
    host = m.appear()
    host.poll()
    host.packet()
    host.send_packet(RESET)
    host.wait_gone()
    again = m.appear()
    again.upload(make_programmer())


def test_crash_dump(modem):
    m = modem("start=crash-dump")
    host = m.appear()
    assert (host.plug["VID"], host.plug["PID"], host.plug["INTERFACES"]) == ("2c7c", "0800", "1")
    host.poll()
    command, words = host.packet()
    assert (command, words[3]) == (HELLO, 2)
    host.hello_response(0)
    assert host.packet() == (END_IMAGE, (0, INVALID_MODE))
    host.hello_response(2)
    command, words = host.packet()
    assert command == MEMORY_DEBUG64
    host.send_packet(MEMORY_READ64, words[0], words[1], words[2], words[3])
    table = host.receive_exactly(words[2])
    _, base, length = struct.unpack_from("<QQQ", table)
    host.send_packet(MEMORY_READ64, base & 0xFFFFFFFF, base >> 32, length, 0)
    assert len(host.receive_exactly(length)) == length
    host.pending = b""
    host.send_packet(RESET)
    assert host.receive(1) in (b"", struct.pack("<II", RESET_RESP, 8))
    host.wait_gone()
    assert m.appear().plug["PID"] == "9008"


def test_read_data_words_of_64_bits(modem):
    host = modem("read64=1").appear()
    host.poll()
    host.packet()
    host.hello_response()
    assert host.packet() == (READ_DATA64, (13, 0, 0, 0, 0x34, 0))
