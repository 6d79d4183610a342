/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The other yardstick of "make bench": a host that does nothing but read numbered NV items over DIAG. It
 * listens on a socket, lets one modem in normal mode plug itself in, and asks for 0, 1, 2, …, each as soon as
 * the answer to the one before has come, without looking into it.
 *
 *     bare-diag SOCKET ITEMS
 *
 * The rate is read from the modem's trace, not from here.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    PACKET = 133,
    FRAME = 2 * (PACKET + 2) + 1,
    DATAGRAM = 16385,
    READ = 0x26,
    FLAG = 0x7e,
    ESCAPE = 0x7d
};

enum { UNANSWERED = 3252 /* by some modems (reference/diag.md 2.4) */ };

static void fail(const char *what)
{
    fprintf(stderr, "bare-diag: %s: %s\n", what, strerror(errno));
    exit(1);
}

static size_t escape(uint8_t *out, size_t n, uint8_t byte)
{
    if (byte == FLAG || byte == ESCAPE) {
        out[n++] = ESCAPE;
        byte ^= 0x20;
    }
    out[n++] = byte;
    return n;
}

/* "D" and one frame. */
static size_t question(uint16_t item, uint8_t *out)
{
    uint8_t packet[PACKET] = {READ, (uint8_t)item, (uint8_t)(item >> 8)};
    uint16_t crc = 0xffff;
    size_t n = 0;
    out[n++] = 'D';
    for (size_t i = 0; i < PACKET; i++) {
        crc ^= packet[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 1 ? crc >> 1 ^ 0x8408 : crc >> 1);
        n = escape(out, n, packet[i]);
    }
    crc = (uint16_t)~crc;
    n = escape(out, n, (uint8_t)crc);
    n = escape(out, n, (uint8_t)(crc >> 8));
    out[n++] = FLAG;
    return n;
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uint8_t frame[FRAME + 1], answer[DATAGRAM];
    if (argc != 3) {
        fprintf(stderr, "usage: bare-diag SOCKET ITEMS\n");
        return 2;
    }
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", argv[1]);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, 1) < 0)
        fail(argv[1]);
    int modem = accept(listener, NULL, NULL);
    if (modem < 0 || recv(modem, answer, sizeof(answer), 0) <= 0 || send(modem, "P", 1, 0) < 0)
        fail("no modem");
    for (long item = 0, items = atol(argv[2]); item < items; item++) {
        size_t size = question((uint16_t)item, frame);
        ssize_t n = 0;
        if (item == UNANSWERED)
            continue;
        if (send(modem, frame, size, MSG_NOSIGNAL) < 0)
            fail("send");
        do
            n = recv(modem, answer, sizeof(answer), 0);
        while (n == 1 || (n > 1 && answer[n - 1] != FLAG));
        if (n <= 0)
            fail("the modem went");
    }
    return 0;
}
