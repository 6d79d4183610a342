/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The socket of a virtual modem (qdld --virtual=PATH; tests, demo, rehearsals): unix SOCK_SEQPACKET, one
 * connection is one appearance on the bus, its end is the unplug. SEQPACKET and not a stream, so that a
 * worker that is killed in the middle of a packet leaves nothing torn for the next one.
 *
 * First datagram, modem -> qdld, plain text, KEY=VALUE lines: it plugs itself in.
 *     PORT=virtual-usb-0:1.2      the connector (stands for udev's ID_PATH)
 *     KERNEL=1-1.2                kernel name
 *     VID=05c6                    four hex digits
 *     PID=9008
 *     PRODUCT=QUSB_BULK_CID:0410_SN:49CBD7EF
 *     INTERFACES=1                how many (2c7c:0800 with one is a crash dump)
 *     MAX_PACKET=512              wMaxPacketSize of both endpoints
 *
 * Then datagrams of one type byte and at most VIRTUAL_DATA_MAX bytes:
 */
enum virtual_type {
    /* Both directions: data of one transfer. A datagram that is full (VIRTUAL_DATA_MAX, a multiple of
       MAX_PACKET) and every other whole multiple of MAX_PACKET is not the end of a transfer, exactly as on
       the wire; a shorter one or an empty one (ZLP) is. */
    VIRTUAL_DATA = 'D',
    /* host -> modem: somebody opened the modem and posted its first IN transfer (the PBL's cue for HELLO). */
    VIRTUAL_POLL = 'P',
    /* host -> modem: CLEAR_FEATURE(HALT) on both endpoints / a port reset. */
    VIRTUAL_CLEAR_HALT = 'H',
    VIRTUAL_RESET = 'R',
};

enum {
    VIRTUAL_DATA_MAX = 16384,
    VIRTUAL_PLUG_MAX = 1024,
    /* What a worker assumes for MAX_PACKET, which it does not get to see: EDL is always USB 2 at high speed,
       also on modems that run at SuperSpeed otherwise (reference/edl.md 3.3). */
    VIRTUAL_MAX_PACKET = 512,
};
