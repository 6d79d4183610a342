/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A Quectel package as it lies in the library: one uncompressed tar with an index behind it
 * (archive-index.c), read through a descriptor by offset. Everything in here is hostile; runs in a worker
 * behind the sandbox only.
 *
 * Layout of a package (reference/edl.md 3.4): [VERSION/]md5.txt, contents.xml, update/…,
 * update/firehose/{prog_*, rawprogram_*_update.xml, patch_*.xml, partition_complete_*.mbn}.
 */

#include <stdint.h>
#include "base/clock.h"
#include "base/digest.h"
#include "firmware/version.h"
#include "storage/mibib.h"

enum {
    PACKAGE_FILES_MAX = 4096,
    PACKAGE_PATH_MAX = 512,
    PACKAGE_PROBLEMS_MAX = 64,
    PACKAGE_STEPS_MAX = 512,
    PROGRAMMER_SIZE_MAX = 8 * 1024 * 1024,
    XML_SIZE_MAX = 4 * 1024 * 1024,
    CHECKSUMS_SIZE_MAX = 2 * 1024 * 1024,
};
#define PACKAGE_SIZE_MAX  (UINT64_C(4) << 30)
#define PACKAGE_PAGES_MAX (UINT64_C(1) << 31) /* far above any chip, far below what could overflow */

struct package_file {
    char *path; /* relative, '/' separated, no ".", "..", no control characters; a label, never opened */
    uint64_t offset, size; /* in the stored tar */
    uint8_t sha256[SHA256_SIZE];
    uint8_t md5[MD5_SIZE];
    /* Of its whole pages, 0xFF behind its end, as package_read() gives them: what is sent, and what the
     * modem's digest of them must be. Of referenced files of a package with a geometry. */
    uint8_t pages_sha256[SHA256_SIZE];
    bool referenced; /* a command, a patch or a choice of package_open() needs it */
};

/* One <program> or <erase> of the rawprogram XML, checked but not yet judged. */
struct package_command {
    enum { COMMAND_PROGRAM, COMMAND_ERASE, COMMAND_VENDOR } kind;
    const struct package_file *file;       /* of a program */
    uint32_t sector_size, pages_per_block; /* pages_per_block 0: the XML does not say */
    uint64_t start, count; /* pages; the partition's, not the file's (2.5); each at most PACKAGE_PAGES_MAX */
    uint64_t last; /* last_sector, UINT64_MAX if the package gives none; only looked at, never forwarded */
    struct firehose_vendor_check vendor;
    unsigned line; /* in the XML */
};

struct package {
    int fd; /* borrowed */
    struct package_file *files;
    size_t n_files;
    uint8_t content_sha256[SHA256_SIZE]; /* over the sorted (path, size, sha256): the same for zip, 7z, tar,
                                            directory */
    char id[33];                         /* first 32 hex digits of it */
    uint64_t size;                       /* sum of the files */
    char top[256];                       /* the common top directory that was cut from the paths, "" */
    char name[256];                      /* the archive's own name as it was given at import, "" */

    bool version_known;
    struct version version;
    char chip[16];                 /* from contents.xml or the programmer's name; "" */
    char product[64];              /* product_name of contents.xml; "" */
    struct nand_geometry geometry; /* blocks 0 */
    const struct package_file *programmer, *rawprogram, *partition_image;
    bool factory_only;                     /* only *_factory.xml is there; it was used */
    struct nand_capabilities capabilities; /* literals of the programmer file */
    bool table_known;
    struct mibib_table
        table; /* of partition_image; chip_blocks unknown: a growing partition has n_blocks 0 */
    uint64_t
        chip_blocks; /* what NUM_DISK_BLOCKS was when the package's patches were applied; 0: no patch tells */
    struct package_command *commands;
    size_t n_commands;

    /* Everything wrong with it (gate 1), each one clear line; a package with one is refused. Notes are not
     * problems. */
    char *problems[PACKAGE_PROBLEMS_MAX];
    enum error_kind problem_kinds[PACKAGE_PROBLEMS_MAX]; /* FirmwareInvalid or FirmwareIncomplete */
    size_t n_problems;
    size_t problems_dropped;
    char *notes[PACKAGE_PROBLEMS_MAX];
    size_t n_notes;
};

/*
 * Opens a stored package and runs gate 1 (rule 1): index, digests of every referenced file, md5 list, XML,
 * programmer, geometry, version. 0 with ret->n_problems possibly > 0 (the caller refuses); negative with *e
 * only if nothing could be read at all. name_hint: the archive's own name for a package without a version
 * directory, may be NULL. fd stays the caller's.
 */
int package_open(int fd, const char *name_hint, struct package **ret, struct error *e);
/*
 * The programmer of a stored package alone, malloc'ed, checked against the digest of its import: for a catch,
 * which has to be ready in a moment and writes nothing. Nothing else of the package is read or judged.
 */
int package_load_programmer(int fd, char **ret, size_t *ret_size, struct error *e);
struct package *package_free(struct package *p);
DEFINE_CLEANUP(struct package *, package_free)

/* By path, case ignored (the lists were written on Windows; no two files of a package differ only by case).
 */
const struct package_file *package_find(const struct package *p, const char *path);
/*
 * The path of a file that the XML in directory `base` calls `name`: "..\\sbl1.mbn" in "update/firehose" is
 * "update/sbl1.mbn". -EINVAL if it is absolute, leaves the package, is too long or holds control characters.
 */
int package_resolve(const char *base, const char *name, char *ret, size_t size);
/* `size` bytes of a file from `offset`; past its end 0xFF. */
int package_read(const struct package *p, const struct package_file *file, uint64_t offset, void *buffer,
                 size_t size);
/* A whole file, malloc'ed, NUL behind it; -EFBIG above max. */
int package_load(const struct package *p, const struct package_file *file, size_t max, char **ret,
                 size_t *ret_size);
/* Adds a problem (or note) line; the list is bounded and counts what it drops. package_missing: what makes it
 * incomplete. */
void package_problem(struct package *p, const char *format, ...) _printf_(2, 3);
void package_missing(struct package *p, const char *format, ...) _printf_(2, 3);
void package_note(struct package *p, const char *format, ...) _printf_(2, 3);
/* FirmwareInvalid or FirmwareIncomplete from the list: the first problem and how many more. 0 if there is
 * none. */
int package_check(const struct package *p, struct error *e);

/* ---- archive.c: from what a client gave to a store entry ---- */

struct archive_options {
    uint64_t max_bytes; /* of all members together, unpacked */
    uint64_t max_entries;
    usec_t input_timeout; /* no input for this long: Timeout */
    int wake_fd;          /* -1, or one that makes on_progress be called while a pipe is awaited (the link) */
    const char *name;     /* the archive's own name, kept in the index; NULL */
    bool exact; /* its digest will be compared: what is unpacked must be the bytes that were hashed */
};

struct archive_result {
    char top[256]; /* the common top directory or "" */
    uint64_t bytes, entries;
    uint8_t archive_sha256[SHA256_SIZE]; /* of the bytes as given */
};

/*
 * Reads an archive (zip, 7z, tar, tar.gz, tar.xz, tar.zst; regular file or pipe) and writes the store entry:
 * names checked, hashed while writing. store_fd is an empty file open for reading and writing.
 * on_progress(input bytes so far, of how many; 0: not known) may return a negative errno to stop, which is
 * returned with *e untouched. Limits: TooLarge; no input: Timeout; no space: NoSpace; neither file nor pipe:
 * InvalidArgs; bad names, links, devices, truncated: FirmwareInvalid with every bad member listed through
 * on_problem (at most PACKAGE_PROBLEMS_MAX). NULL callbacks are allowed.
 *
 * A zip or 7z from a pipe needs seeking: it is spooled into store_fd itself, behind ARCHIVE_SPOOL_OFFSET (a
 * sandboxed worker has no other file), which is cut off at the end. So RLIMIT_FSIZE must allow
 * ARCHIVE_FILE_SIZE_MAX.
 */
#define ARCHIVE_SPOOL_OFFSET  (UINT64_C(5) << 30)
#define ARCHIVE_FILE_SIZE_MAX (ARCHIVE_SPOOL_OFFSET + PACKAGE_SIZE_MAX)
int archive_import(int archive_fd, int store_fd, const struct archive_options *options,
                   int (*on_progress)(void *userdata, uint64_t done, uint64_t total),
                   void (*on_problem)(void *userdata, const char *text), void *userdata,
                   struct archive_result *ret, struct error *e);

/*
 * The name of a member as a package path: backslashes become slashes, "." and empty components go. -EINVAL
 * with a reason in *ret_why (static text): absolute, drive letter, "..", control characters or not UTF-8, a
 * component above 255 or a path of PACKAGE_PATH_MAX bytes.
 */
int archive_clean_name(const char *name, char *ret, size_t size, const char **ret_why);

/* Reads and checks the index of a store entry; fills files, content_sha256, id, size, top and name of p. */
int archive_read_index(int fd, struct package *p, struct error *e);
/* The content digest of files in any order (they are sorted by path). -ENOMEM. */
int archive_content_sha256(struct package_file *files, size_t n_files, uint8_t ret[SHA256_SIZE]);
