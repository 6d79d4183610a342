/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The yardstick of "make bench": a host that does nothing but fill a virtual modem. It listens on a socket,
 * lets one modem plug itself in, uploads a programmer as fast as it is asked for, and writes pages with 8 KiB
 * payloads, as many in flight as the socket's own buffer holds, a ZLP behind each as qdld sends it, without
 * any check.
 *
 *     bare-writer SOCKET PROGRAMMER FIRST_PAGE PAGES              writes them, the same bytes again and again
 *     bare-writer SOCKET PROGRAMMER FIRST_PAGE PAGES write FILE   writes them from the start of a file
 *     bare-writer SOCKET PROGRAMMER FIRST_PAGE PAGES read         reads them with one command, and drops what
 *                                                                 comes
 *
 * The rate is read from the modem's trace, not from here.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    PAYLOAD = 8192,
    PIECE = 8 * PAYLOAD,
    DATAGRAM = 16384,
    SAHARA_READ = 3,
    SAHARA_END = 4,
    SAHARA_DONE_RESP = 6
};

static int modem = -1;

static void fail(const char *what)
{
    fprintf(stderr, "bare-writer: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void put(const void *data, size_t size)
{
    static char packet[DATAGRAM + 1];
    const char *p = data;
    do {
        size_t n = size < DATAGRAM ? size : DATAGRAM;
        packet[0] = 'D';
        memcpy(packet + 1, p, n);
        if (send(modem, packet, n + 1, MSG_NOSIGNAL) < 0)
            fail("send");
        p += n;
        size -= n;
    } while (size > 0);
}

/* The next datagram with data; its size. */
static size_t get(char *data, size_t size)
{
    char packet[DATAGRAM + 1];
    for (;;) {
        ssize_t n = recv(modem, packet, sizeof(packet), 0);
        if (n <= 0)
            fail("the modem went");
        if (packet[0] != 'D' || n == 1)
            continue;
        size_t length = (size_t)n - 1 < size ? (size_t)n - 1 : size;
        memcpy(data, packet + 1, length);
        return length;
    }
}

static void sahara(const char *image, size_t size)
{
    uint32_t p[16] = {0};
    if (get((char *)p, sizeof(p)) < 48 || p[0] != 1)
        fail("no hello");
    uint32_t hello[12] = {2, 48, 2, 1, 0, 0};
    put(hello, sizeof(hello));
    for (;;) {
        get((char *)p, sizeof(p));
        if (p[0] == SAHARA_READ && p[3] < size && p[4] <= size - p[3]) {
            put(image + p[3], p[4]);
        } else if (p[0] == SAHARA_END && p[3] == 0) {
            uint32_t done[2] = {5, 8};
            put(done, sizeof(done));
        } else if (p[0] == SAHARA_DONE_RESP) {
            return;
        } else {
            errno = EPROTO;
            fail("Sahara");
        }
    }
}

/* Reads documents until one has the text. */
static void wait_text(const char *text)
{
    static char seen[2 * DATAGRAM];
    size_t have = 0;
    for (;;) {
        have += get(seen + have, sizeof(seen) - 1 - have);
        seen[have] = '\0';
        for (size_t i = 0; i < have; i++)
            if (!seen[i])
                seen[i] = ' ';
        if (strstr(seen, "value=\"NAK\"")) {
            errno = EPROTO;
            fail(seen);
        }
        if (strstr(seen, text))
            return;
        if (have > DATAGRAM) {
            memmove(seen, seen + have - DATAGRAM / 2, DATAGRAM / 2);
            have = DATAGRAM / 2;
        }
    }
}

static void command(const char *tag)
{
    char document[2048];
    int n = snprintf(document, sizeof(document),
                     "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<data>\n%s\n</data>\n", tag);
    put(document, (size_t)n);
}

static void read_pages(unsigned long first, unsigned long pages)
{
    char tag[512], data[DATAGRAM];
    snprintf(
        tag, sizeof(tag),
        "<read PAGES_PER_BLOCK=\"64\" SECTOR_SIZE_IN_BYTES=\"4096\" num_partition_sectors=\"%lu\" "
        "physical_partition_number=\"0\" start_sector=\"%lu\" last_sector=\"%lu\" skip_bad_block=\"1\"/>",
        pages, first, first + pages - 1);
    command(tag);
    wait_text("rawmode=\"true\"");
    for (unsigned long left = pages * PAGE; left > 0;) {
        size_t n = get(data, sizeof(data));
        left -= n < left ? n : left;
    }
    wait_text("rawmode=\"false\"");
}

static void write_pages(unsigned long first, unsigned long pages, int source)
{
    static char piece[PIECE];
    char tag[512];
    snprintf(tag, sizeof(tag),
             "<program PAGES_PER_BLOCK=\"64\" SECTOR_SIZE_IN_BYTES=\"4096\" num_partition_sectors=\"%lu\" "
             "physical_partition_number=\"0\" start_sector=\"%lu\" last_sector=\"%lu\"/>",
             pages, first, first + pages - 1);
    command(tag);
    wait_text("rawmode=\"true\"");
    memset(piece, 0x5a, sizeof(piece));
    for (unsigned long done = 0; done < pages * PAGE; done += PAYLOAD) {
        if (source >= 0 && done % PIECE == 0 && pread(source, piece, PIECE, (off_t)done) < PAYLOAD)
            fail("the file");
        put(piece + done % PIECE, PAYLOAD);
        put(piece, 0);
    }
    wait_text("rawmode=\"false\"");
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    bool reads = argc == 6 && strcmp(argv[5], "read") == 0;
    bool from_file = argc == 7 && strcmp(argv[5], "write") == 0;
    if ((argc != 5 && !reads && !from_file) || strlen(argv[1]) >= sizeof(address.sun_path)) {
        fprintf(stderr, "usage: bare-writer SOCKET PROGRAMMER FIRST_PAGE PAGES [read | write FILE]\n");
        return 2;
    }
    int file = open(argv[2], O_RDONLY), source = from_file ? open(argv[6], O_RDONLY) : -1;
    if (from_file && source < 0)
        fail(argv[6]);
    if (file < 0 || fstat(file, &st) < 0)
        fail(argv[2]);
    char *image = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (image == MAP_FAILED)
        fail(argv[2]);

    memcpy(address.sun_path, argv[1], strlen(argv[1]) + 1);
    unlink(argv[1]);
    int listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, 1) < 0)
        fail(argv[1]);
    modem = accept(listener, NULL, NULL);
    char plug[2048];
    if (modem < 0 || recv(modem, plug, sizeof(plug), 0) <= 0 || send(modem, "P", 1, 0) < 0)
        fail("plug");

    sahara(image, (size_t)st.st_size);
    wait_text("End of supported functions");
    command("<configure MemoryName=\"nand\" Verbose=\"0\" AlwaysValidate=\"0\" "
            "MaxDigestTableSizeInBytes=\"2048\" "
            "MaxPayloadSizeToTargetInBytes=\"8192\" ZlpAwareHost=\"1\" SkipStorageInit=\"0\"/>");
    wait_text("value=\"ACK\"");

    unsigned long first = strtoul(argv[3], NULL, 10), pages = strtoul(argv[4], NULL, 10);
    if (reads)
        read_pages(first, pages);
    else
        write_pages(first, pages, source);
    return 0;
}
