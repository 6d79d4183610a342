/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A programmer as the PBL sees it: an ELF of which it asks for the header, the program headers and then each
 * segment (reference/edl.md 1.1, samples.md), and whose content says for whom it is signed and what it can
 * do.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    IMAGE_ELF32_HEADER = 0x34,
    IMAGE_ELF64_HEADER = 0x40,
    IMAGE_CHUNK_MAX = 0x1000,
    IMAGE_SIZE_MAX = 8 << 20,
    IMAGE_SEGMENTS_MAX = 32,
};

struct image_segment {
    uint64_t offset, size;
};

struct image {
    uint8_t *data;
    size_t size, capacity;
    bool elf64;
    uint64_t table_offset;
    uint32_t table_size, entry_size, entries;
    struct image_segment segments[IMAGE_SEGMENTS_MAX];
    unsigned segment_count;
};

/* Empties it. */
void image_reset(struct image *i);

/* Room for length bytes at offset; NULL beyond IMAGE_SIZE_MAX. */
uint8_t *image_at(struct image *i, uint64_t offset, size_t length);

/* The header is there: where the program headers are. 0 or a Sahara status (reference/edl.md 1.3). Asks for
   more
   (*ret_more) when it is a 64-bit ELF of which only the first 0x34 bytes are there. */
uint32_t image_parse_header(struct image *i, bool *ret_more);

/* The program headers are there: which segments to ask for. 0 or a Sahara status. */
uint32_t image_parse_table(struct image *i);

/* The file contains the text. */
bool image_has(const struct image *i, const char *text);
