/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A Quectel package as it lies in the library: one uncompressed tar with an index behind it (firmware/store-format in archive.c), read through a
 * descriptor by offset. Everything in here is hostile; runs in a worker behind the sandbox only.
 *
 * Layout of a package (reference/edl.md 3.4): [VERSION/]md5.txt, contents.xml, update/…, update/firehose/{prog_*, rawprogram_*_update.xml,
 * patch_*.xml, partition_complete_*.mbn}.
 */

#include <stdint.h>
#include "base/digest.h"
#include "firmware/version.h"
#include "storage/mibib.h"

enum {
    PACKAGE_FILES_MAX = 4096,
    PACKAGE_PATH_MAX = 512,
    PACKAGE_PROBLEMS_MAX = 64,
    PACKAGE_STEPS_MAX = 512,
    PROGRAMMER_SIZE_MAX = 8 * 1024 * 1024,
};
#define PACKAGE_SIZE_MAX (UINT64_C(4) << 30)

struct package_file {
    char *path; /* relative, '/' separated, no ".", "..", no control characters; a label, never opened */
    uint64_t offset, size; /* in the stored tar */
    uint8_t sha256[SHA256_SIZE];
    uint8_t md5[MD5_SIZE];
};

/* One <program> or <erase> of the rawprogram XML, checked but not yet judged. */
struct package_command {
    enum { COMMAND_PROGRAM, COMMAND_ERASE, COMMAND_VENDOR } kind;
    const struct package_file *file; /* of a program */
    uint32_t sector_size, pages_per_block;
    uint64_t start, count;           /* pages; the partition's, not the file's (2.5) */
    uint64_t last;                   /* last_sector, UINT64_MAX if the package gives none */
    struct firehose_vendor_check vendor;
    unsigned line;                   /* in the XML */
};

struct package {
    int fd; /* borrowed */
    struct package_file *files;
    size_t n_files;
    uint8_t content_sha256[SHA256_SIZE];
    char id[33]; /* first 32 hex digits of it */
    uint64_t size; /* sum of the files */

    bool version_known;
    struct version version;
    char edition_note[64];
    char chip[16];     /* from contents.xml or the programmer's name; "" */
    char product[64];  /* product_name of contents.xml; "" */
    struct nand_geometry geometry; /* blocks 0 */
    const struct package_file *programmer, *rawprogram, *partition_image;
    bool factory_only; /* only *_factory.xml is there; it was used */
    struct nand_capabilities capabilities; /* literals of the programmer file */
    bool table_known;
    struct mibib_table table; /* of partition_image; chip_blocks unknown: a growing partition has n_blocks 0 */
    struct package_command *commands;
    size_t n_commands;

    /* Everything wrong with it (gate 1), each one clear line; a package with one is refused. Notes are not problems. */
    char *problems[PACKAGE_PROBLEMS_MAX];
    size_t n_problems;
    size_t problems_dropped;
    char *notes[PACKAGE_PROBLEMS_MAX];
    size_t n_notes;
};

/*
 * Opens a stored package and runs gate 1 (rule 1): index, digests of every referenced file, md5 list, XML, programmer, geometry,
 * version. 0 with ret->n_problems possibly > 0 (the caller refuses); negative with *e only if nothing could be read at all.
 * name_hint: the archive's own name for a package without a version directory, may be NULL. fd stays the caller's.
 */
int package_open(int fd, const char *name_hint, struct package **ret, struct error *e);
struct package *package_free(struct package *p);
DEFINE_CLEANUP(struct package *, package_free)

const struct package_file *package_find(const struct package *p, const char *path);
/* `size` bytes of a file from `offset`; past its end 0xFF. */
int package_read(const struct package *p, const struct package_file *file, uint64_t offset, void *buffer, size_t size);
/* A whole file, malloc'ed, NUL behind it; -EFBIG above max. */
int package_load(const struct package *p, const struct package_file *file, size_t max, char **ret, size_t *ret_size);
/* Adds a problem (or note) line; the list is bounded and counts what it drops. */
void package_problem(struct package *p, const char *format, ...) _printf_(2, 3);
void package_note(struct package *p, const char *format, ...) _printf_(2, 3);
/* FirmwareInvalid or FirmwareIncomplete from the list: the first problem and how many more. 0 if there is none. */
int package_check(const struct package *p, struct error *e);

/* ---- archive.c: from what a client gave to a store entry ---- */

struct archive_limits {
    uint64_t max_bytes;         /* of all members together, unpacked */
    uint64_t max_entries;
    usec_t input_timeout;       /* no input for this long: Timeout */
};

struct archive_result {
    char name[256];      /* the top directory or "" */
    uint64_t bytes, entries;
    uint8_t archive_sha256[SHA256_SIZE]; /* of the bytes as given */
};

/*
 * Reads an archive (zip, 7z, tar, tar.gz, tar.xz, tar.zst; regular file or pipe) and writes the store entry: names checked, hashed while writing.
 * on_progress may return negative to stop. All limits: TooLarge; no input: Timeout; bad names, links, devices, truncated: FirmwareInvalid
 * with every bad member listed through on_problem (at most PACKAGE_PROBLEMS_MAX).
 */
int archive_import(int archive_fd, int store_fd, const struct archive_limits *limits,
                   int (*on_progress)(void *userdata, uint64_t bytes), void (*on_problem)(void *userdata, const char *text),
                   void *userdata, struct archive_result *ret, struct error *e);
/* Reads and checks the index of a store entry; fills files, content_sha256, id, size of p. */
int archive_read_index(int fd, struct package *p, struct error *e);
