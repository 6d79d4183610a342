/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The yardstick of "make bench" and "make bench-system": a host that does nothing but fill a modem. It
 * listens on a socket and lets one virtual modem plug itself in, or takes the one at a usbfs node, uploads a
 * programmer as fast as it is asked for, and writes pages with 8 KiB payloads, as many in flight as the
 * socket's own buffer holds, a ZLP behind each as qdld sends it, without any check.
 *
 *     bare-writer SOCKET|NODE PROGRAMMER FIRST_PAGE+PAGES[,...] MODE
 *
 * Each of the ranges takes one command. MODE: nothing: writes them, the same bytes again and again; "write
 * FILE": writes them from a file, which begins anew when it is over; "read": reads them with one command, and
 * drops what comes; "read FILE": and writes what comes to a file, each 16 KiB before it asks for the next.
 * "read-as-qdl FILE": the same in the manner of linux-msm/qdl (firehose_issue_read() and usb_read() of its
 * lib/firehose.c and lib/usb.c, which Debian 12's does not have): one payload as configure has agreed on it,
 * the ZLP behind it by a transfer of its own, a write to the file, and only then the next payload. To be had
 * of a modem that sends that ZLP behind each (in_zlp=each).
 *
 * The rate is read from the modem's trace, not from here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bare-link.h"

enum { PAGE = 4096, PIECE = 8 * LINK_PAYLOAD, SAHARA_READ = 3, SAHARA_END = 4, SAHARA_DONE_RESP = 6 };

static void sahara(const char *image, size_t size)
{
    uint32_t p[128] = {0}; /* whole packets of USB */
    if (link_get((char *)p, sizeof(p)) < 48 || p[0] != 1)
        link_fail("no hello");
    uint32_t hello[12] = {2, 48, 2, 1, 0, 0};
    link_put(hello, sizeof(hello));
    for (;;) {
        link_get((char *)p, sizeof(p));
        if (p[0] == SAHARA_READ && p[3] < size && p[4] <= size - p[3]) {
            link_put(image + p[3], p[4]);
        } else if (p[0] == SAHARA_END && p[3] == 0) {
            uint32_t done[2] = {5, 8};
            link_put(done, sizeof(done));
        } else if (p[0] == SAHARA_DONE_RESP) {
            return;
        } else {
            errno = EPROTO;
            link_fail("Sahara");
        }
    }
}

/* Reads documents until one has the text. */
static void wait_text(const char *text)
{
    static char seen[2 * LINK_TRANSFER_MAX];
    size_t have = 0;
    for (;;) {
        have += link_get(seen + have, sizeof(seen) - 1 - have);
        seen[have] = '\0';
        for (size_t i = 0; i < have; i++)
            if (!seen[i])
                seen[i] = ' ';
        if (strstr(seen, "value=\"NAK\"")) {
            errno = EPROTO;
            link_fail(seen);
        }
        if (strstr(seen, text))
            return;
        if (have > LINK_TRANSFER_MAX) {
            memmove(seen, seen + have - LINK_TRANSFER_MAX / 2, LINK_TRANSFER_MAX / 2);
            have = LINK_TRANSFER_MAX / 2;
        }
    }
}

static void command(const char *tag)
{
    char document[2048];
    int n = snprintf(document, sizeof(document),
                     "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<data>\n%s\n</data>\n", tag);
    link_put(document, (size_t)n);
}

static void read_pages(unsigned long first, unsigned long pages, bool as_qdl, int target)
{
    char tag[512], data[LINK_TRANSFER_MAX];
    size_t have = 0, piece = as_qdl ? LINK_PAYLOAD : sizeof(data);
    snprintf(
        tag, sizeof(tag),
        "<read PAGES_PER_BLOCK=\"64\" SECTOR_SIZE_IN_BYTES=\"4096\" num_partition_sectors=\"%lu\" "
        "physical_partition_number=\"0\" start_sector=\"%lu\" last_sector=\"%lu\" skip_bad_block=\"1\"/>",
        pages, first, first + pages - 1);
    command(tag);
    wait_text("rawmode=\"true\"");
    for (unsigned long left = pages * PAGE; left > 0;) {
        size_t n = link_get(data + have, piece - have);
        n = n < left ? n : left;
        left -= n;
        have += n;
        if (have < piece && left > 0)
            continue;
        if (as_qdl)
            link_get_zlp();
        if (target >= 0 && write(target, data, have) != (ssize_t)have)
            link_fail("the file");
        have = 0;
    }
    wait_text("rawmode=\"false\"");
}

/* Where writing has come to in a file, whose last part that is no whole piece is left out. */
struct source {
    int file;
    off_t at, end;
};

static void write_pages(unsigned long first, unsigned long pages, struct source *from)
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
    for (unsigned long done = 0, total = pages * PAGE; done < total; done += LINK_PAYLOAD) {
        if (from->file >= 0 && done % PIECE == 0) {
            if (pread(from->file, piece, PIECE, from->at) != PIECE)
                link_fail("the file");
            from->at = from->at + PIECE < from->end ? from->at + PIECE : 0;
        }
        link_put(piece + done % PIECE, total - done < LINK_PAYLOAD ? total - done : LINK_PAYLOAD);
        link_put(piece, 0);
    }
    wait_text("rawmode=\"false\"");
}

int main(int argc, char **argv)
{
    struct stat st;
    bool as_qdl = argc == 6 && strcmp(argv[4], "read-as-qdl") == 0,
         reads = as_qdl || (argc >= 5 && strcmp(argv[4], "read") == 0);
    bool from_file = argc == 6 && strcmp(argv[4], "write") == 0;
    if (argc < 4 || argc > 6 || (argc > 4 && !reads && !from_file)) {
        fprintf(stderr, "usage: bare-writer SOCKET|NODE PROGRAMMER FIRST_PAGE+PAGES[,...] [read [FILE] | "
                        "read-as-qdl FILE | write FILE]\n");
        return 2;
    }
    int file = open(argv[2], O_RDONLY), data = -1;
    if (argc == 6)
        data = open(argv[5], reads ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY, 0600);
    struct source from = {.file = data};
    if (argc == 6 && (data < 0 || fstat(data, &st) < 0 || (from_file && st.st_size < PIECE)))
        link_fail(argv[5]);
    from.end = argc == 6 ? st.st_size - st.st_size % PIECE : 0;
    if (file < 0 || fstat(file, &st) < 0)
        link_fail(argv[2]);
    char *image = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (image == MAP_FAILED)
        link_fail(argv[2]);

    link_open(argv[1]);
    sahara(image, (size_t)st.st_size);
    wait_text("End of supported functions");
    command("<configure MemoryName=\"nand\" Verbose=\"0\" AlwaysValidate=\"0\" "
            "MaxDigestTableSizeInBytes=\"2048\" "
            "MaxPayloadSizeToTargetInBytes=\"8192\" ZlpAwareHost=\"1\" SkipStorageInit=\"0\"/>");
    wait_text("value=\"ACK\"");

    char *end = argv[3];
    do {
        unsigned long first = strtoul(end, &end, 10), pages = *end == '+' ? strtoul(end, &end, 10) : 0;
        errno = EINVAL;
        if (pages == 0 || (*end && *end != ','))
            link_fail(argv[3]);
        if (reads)
            read_pages(first, pages, as_qdl, data);
        else
            write_pages(first, pages, &from);
    } while (*end++ == ',');
    if (reads && data >= 0 && fdatasync(data) < 0) /* behind the last answer: not part of the rate */
        link_fail(argv[5]);
    return 0;
}
