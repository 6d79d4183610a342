/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What writer and reader share: both make the same bytes from the same facts. */

#include "backup/backup.h"

enum { TAR_BLOCK = 512, TAR_NAME_MAX = 100 };

static const char BACKUP_MANIFEST[] = "manifest.json";
static const char BACKUP_XML[] = "rawprogram.xml";
static const char BACKUP_SUMS[] = "SHA256SUMS";

/* ---- tar.c ---- */

/* The one header that a member of this name and size has. */
void tar_header(const char *name, uint64_t size, uint8_t ret[TAR_BLOCK]);
/* Name and size of a header that is exactly as tar_header() makes it. 1; 0: a block of zeros; -EBADMSG. */
int tar_parse(const uint8_t header[TAR_BLOCK], char name[TAR_NAME_MAX], uint64_t *ret_size);
static inline uint64_t tar_padding(uint64_t size)
{
    return (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
}

/* ---- manifest.c ---- */

/* malloc'ed; NULL without memory. */
char *manifest_print(const struct backup *b);
/* As strict as can be: what is printed from the result is what was parsed. BackupDamaged. */
int manifest_parse(const char *text, size_t size, struct backup **ret, struct error *e);

/* ---- facts.c ---- */

/* The image's file name. */
void backup_file_name(const struct backup_part *p, char ret[TAR_NAME_MAX]);
/* Size of the image by its map of pages. */
uint64_t backup_image_size(const struct backup *b, const struct backup_part *p);
enum backup_state backup_judge(const struct backup *b);
int backup_content(const struct backup *b, uint8_t ret[SHA256_SIZE]);
/* Ranges of pages (or of bad blocks, by their numbers on the chip) in one state: "0-3 7". malloc'ed. */
char *backup_ranges(const struct backup *b, const struct backup_part *p, enum nand_page_state state);

/* malloc'ed; NULL without memory. */
char *backup_xml(const struct backup *b);
/* Needs the digests of XML and manifest. */
char *backup_sums(const struct backup *b, const uint8_t xml[SHA256_SIZE],
                  const uint8_t manifest[SHA256_SIZE]);
