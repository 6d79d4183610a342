/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of the archive share: archive-source.c reads what a client gave, archive.c turns it into a
   store entry, archive-index.c is the index behind it. */

#include "firmware/package.h"

enum archive_format { ARCHIVE_IS_STREAM, ARCHIVE_IS_ZIP, ARCHIVE_IS_7Z };

enum { ARCHIVE_CHUNK = 64 * 1024, ARCHIVE_MAGIC_SIZE = 6 };

/* The bytes that a client gave: a regular file, or a pipe. One sequential reader with a digest, and random
 * access once it seeks. */
struct archive_source {
    const struct archive_options *options;
    int (*on_progress)(void *userdata, uint64_t done, uint64_t total);
    void *userdata;
    struct error *e; /* where a failed read tells why */
    int fd;          /* the client's, or the store file for a spooled one */
    bool regular, spooled;
    uint64_t base;         /* where the archive begins in fd (spooled) */
    uint64_t size;         /* of a regular or spooled one */
    uint64_t position;     /* of the reader, from base */
    uint64_t read;         /* bytes taken in so far */
    struct digest *digest; /* of the bytes as given; NULL once it is final */
    uint8_t sha256[SHA256_SIZE];
    int failure;   /* negative errno of the first failed read; *e says why */
    size_t n_head; /* bytes that were looked at but not consumed yet (pipe) */
    uint8_t buffer[ARCHIVE_CHUNK];
};

/* Checks the descriptor and looks at the first bytes. InvalidArgs, Timeout, Failed. */
int archive_source_open(struct archive_source *s, int fd, const struct archive_options *options,
                        int (*on_progress)(void *, uint64_t, uint64_t), void *userdata,
                        enum archive_format *ret_format, struct error *e);
void archive_source_close(struct archive_source *s);
/*
 * Makes random access possible: hashes a regular file; spools a pipe behind ARCHIVE_SPOOL_OFFSET of store_fd,
 * and likewise a file whose digest counts, for its owner could write another one between the two readings.
 */
int archive_source_make_seekable(struct archive_source *s, int store_fd);
/* The next bytes into s->buffer: their number, 0 at the end, negative (s->failure, *e). */
ssize_t archive_source_next(struct archive_source *s);
/* Reads on to the end, so that the digest covers everything and the writer of a pipe is not cut off. */
int archive_source_drain(struct archive_source *s);

/* A seekable zip whose directory claims more members than are allowed: TooLarge (archive-zip.c). */
int archive_check_zip(const struct archive_source *s, uint64_t max_entries, struct error *e);

/* Writes index and trailer at `offset` of the store file. */
int archive_write_index(int store_fd, uint64_t offset, const char *top, const char *name,
                        const struct package_file *files, size_t n_files, struct error *e);
/* The common top directory of the paths, cut from them; "" if there is none. */
void archive_cut_top(struct package_file *files, size_t n_files, char *ret_top, size_t size);
