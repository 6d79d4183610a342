/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "sahara.h"

void image_reset(struct image *i)
{
    free(i->data);
    *i = (struct image){0};
}

uint8_t *image_at(struct image *i, uint64_t offset, size_t length)
{
    if (offset > IMAGE_SIZE_MAX || length > IMAGE_SIZE_MAX - offset)
        return NULL;
    if (offset + length > i->capacity) {
        size_t capacity = (size_t)(offset + length) * 2;
        uint8_t *data = realloc(i->data, capacity);
        if (!data)
            return NULL;
        memset(data + i->capacity, 0, capacity - i->capacity);
        i->data = data;
        i->capacity = capacity;
    }
    if (offset + length > i->size)
        i->size = (size_t)(offset + length);
    return i->data + offset;
}

uint32_t image_parse_header(struct image *i, bool *ret_more)
{
    Elf32_Ehdr h32;
    Elf64_Ehdr h64;

    *ret_more = false;
    if (i->size < IMAGE_ELF32_HEADER || memcmp(i->data, ELFMAG, SELFMAG))
        return SAHARA_INVALID_ELF_HEADER;
    i->elf64 = i->data[EI_CLASS] == ELFCLASS64;
    if (i->elf64 && i->size < IMAGE_ELF64_HEADER) {
        *ret_more = true;
        return 0;
    }
    if (i->elf64) {
        memcpy(&h64, i->data, sizeof(h64));
        i->table_offset = h64.e_phoff;
        i->entries = h64.e_phnum;
        i->entry_size = h64.e_phentsize;
    } else {
        memcpy(&h32, i->data, sizeof(h32));
        i->table_offset = h32.e_phoff;
        i->entries = h32.e_phnum;
        i->entry_size = h32.e_phentsize;
    }
    if (i->entries == 0 || i->entries > IMAGE_SEGMENTS_MAX)
        return SAHARA_TOO_MANY_PROGRAM_HEADERS;
    if (i->entry_size != (i->elf64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
        return SAHARA_INVALID_PROGRAM_HEADER_SIZE;
    i->table_size = i->entries * i->entry_size;
    return 0;
}

uint32_t image_parse_table(struct image *i)
{
    uint64_t known = i->table_offset + i->table_size;

    i->segment_count = 0;
    for (uint32_t n = 0; n < i->entries; n++) {
        const uint8_t *entry = i->data + i->table_offset + n * i->entry_size;
        struct image_segment *s = &i->segments[i->segment_count];
        Elf32_Phdr p32;
        Elf64_Phdr p64;

        if (i->elf64) {
            memcpy(&p64, entry, sizeof(p64));
            *s = (struct image_segment){p64.p_offset, p64.p_filesz};
        } else {
            memcpy(&p32, entry, sizeof(p32));
            *s = (struct image_segment){p32.p_offset, p32.p_filesz};
        }
        if (s->size > IMAGE_SIZE_MAX || s->offset > IMAGE_SIZE_MAX - s->size)
            return SAHARA_INVALID_IMAGE_DATA_SIZE;
        /* The first segment of such files is the headers themselves. */
        if (s->size && s->offset + s->size > known)
            i->segment_count++;
    }
    return i->segment_count ? 0 : SAHARA_INVALID_IMAGE_HEADER_SIZE;
}

bool image_has(const struct image *i, const char *text)
{
    return i->data && memmem(i->data, i->size, text, strlen(text));
}
