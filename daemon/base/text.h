/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Text from outside made safe, numbers parsed strictly, hex. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/*
 * Copies `size` bytes of foreign text into out (always NUL-terminated, out_size >= 1): printable UTF-8 stays,
 * control characters, marks of direction and invalid bytes become \xNN, a backslash stays one, runs of 14 to
 * 16 digits (an IMEI) keep their first two and last two digits and are starred between, but not inside of 32
 * or more hex digits (a digest). Cuts at a character. Returns the bytes written without the NUL.
 */
size_t text_clean(const char *text, size_t size, char *out, size_t out_size);

/* True if the bytes are valid UTF-8 without control characters and marks of direction (what a link value or a
 * bus string may hold).
 */
bool text_is_clean(const char *text, size_t size);

/* For "%.*s": the bytes of the first characters of a clean text, `max` at most. Half a character at the end
 * is no text for the bus. */
int text_fit(const char *text, int max);

/*
 * C-escaping for link values and records: what is not clean as \xNN, a backslash as \\.
 * Returns a malloc'ed string, NULL without memory.
 */
char *text_escape(const char *text, size_t size);
/* The reverse, strict: -EINVAL for an unknown or cut escape or a NUL inside, -ENOMEM. */
int text_unescape(const char *text, char **ret);
/* A line KEY=value of a record, escaped; -ENOMEM. */
int text_put(FILE *out, const char *key, const char *value);

/*
 * A whole string as an unsigned number: decimal, or hexadecimal with 0x if base is 0. No sign, no blanks, no
 * rest. -EINVAL if malformed, -ERANGE above max.
 */
int text_parse_u64(const char *text, int base, uint64_t max, uint64_t *ret);

/* Lower-case hex; out holds 2 * size + 1 bytes. */
void text_hex(const void *data, size_t size, char *out);
/* Exactly `size` bytes from 2 * size hex digits of either case, nothing behind. -EINVAL. */
int text_unhex(const char *text, void *ret, size_t size);

bool text_starts_with(const char *text, const char *prefix);
bool text_ends_with(const char *text, const char *suffix);
/* ASCII only, independent of the locale. */
bool text_equal_nocase(const char *a, const char *b);
/* Names of versions up to the first '_': behind it stands the sub-edition, which a firmware need not tell
 * (flash rule 10). Two that say nothing are not equal. */
bool text_equal_version(const char *a, const char *b);

/* printf into a malloc'ed string; NULL without memory. */
char *text_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "" for NULL: what is not known is told as an empty text. */
const char *text_known(const char *text);
/* A copy of value in place of what *field has; without memory the old one stays. */
void text_replace(char **field, const char *value);
