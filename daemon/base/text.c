/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum { IMEI_DIGITS_MIN = 14, IMEI_DIGITS_MAX = 16, IMEI_DIGITS_SHOWN = 2, DIGEST_DIGITS_MIN = 32 };

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Marks that turn the order of what is shown around them: a line would read as another one. */
static bool is_direction(uint32_t c)
{
    return c == 0x061c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

/* Length of the printable UTF-8 character at p (1 to 4), 0 if the byte must be escaped. */
static size_t clean_char(const char *text, size_t left)
{
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80)
        return p[0] >= 0x20 && p[0] != 0x7f;

    size_t n;
    uint32_t c, least;
    if ((p[0] & 0xe0) == 0xc0) {
        n = 2, c = p[0] & 0x1f, least = 0x80;
    } else if ((p[0] & 0xf0) == 0xe0) {
        n = 3, c = p[0] & 0x0f, least = 0x800;
    } else if ((p[0] & 0xf8) == 0xf0) {
        n = 4, c = p[0] & 0x07, least = 0x10000;
    } else {
        return 0;
    }
    if (left < n)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    /* C1 controls, line and paragraph separators, surrogates and non-characters do not belong in one line. */
    if (c < least || c > 0x10ffff || (c >= 0x80 && c < 0xa0) || c == 0x2028 || c == 0x2029 ||
        is_direction(c) || (c >= 0xd800 && c < 0xe000) || (c >= 0xfdd0 && c <= 0xfdef) ||
        (c & 0xfffe) == 0xfffe)
        return 0;
    return n;
}

static bool is_hex_digit(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/*
 * True if these decimal digits are of an IMEI's length and stand alone. One digest of 64 hex digits in fifty
 * has such a run by chance, and is no use with stars in it.
 */
static bool is_imei(const char *text, size_t size, size_t start, size_t end)
{
    if (end - start < IMEI_DIGITS_MIN || end - start > IMEI_DIGITS_MAX)
        return false;
    while (start > 0 && is_hex_digit(text[start - 1]))
        start--;
    while (end < size && is_hex_digit(text[end]))
        end++;
    return end - start < DIGEST_DIGITS_MIN;
}

size_t text_clean(const char *text, size_t size, char *out, size_t out_size)
{
    size_t o = 0, run_end = 0, run_start = 0;
    bool masked = false;
    for (size_t i = 0; i < size;) {
        if (is_digit(text[i]) && i >= run_end) {
            run_start = run_end = i;
            while (run_end < size && is_digit(text[run_end]))
                run_end++;
            masked = is_imei(text, size, run_start, run_end);
        }
        size_t n = clean_char(text + i, size - i);
        char piece[5] = "";
        if (n == 0) {
            snprintf(piece, sizeof(piece), "\\x%02x", (unsigned char)text[i]);
            n = 1;
        } else {
            memcpy(piece, text + i, n);
            if (i < run_end && masked && i >= run_start + IMEI_DIGITS_SHOWN &&
                i < run_end - IMEI_DIGITS_SHOWN)
                piece[0] = '*';
        }
        size_t length = strlen(piece);
        if (o + length + 1 > out_size)
            break;
        memcpy(out + o, piece, length);
        o += length;
        i += n;
    }
    out[o] = '\0';
    return o;
}

bool text_is_clean(const char *text, size_t size)
{
    for (size_t i = 0; i < size;) {
        size_t n = clean_char(text + i, size - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

int text_fit(const char *text, int max)
{
    int n = (int)strnlen(text, (size_t)max + 1);
    if (n <= max)
        return n;
    for (n = max; n > 0 && (text[n] & 0xc0) == 0x80;)
        n--;
    return n;
}

char *text_escape(const char *text, size_t size)
{
    char *out = malloc(size * 4 + 1);
    if (!out)
        return NULL;
    size_t o = 0;
    for (size_t i = 0; i < size;) {
        size_t n = clean_char(text + i, size - i);
        if (n == 0) {
            o += (size_t)sprintf(out + o, "\\x%02x", (unsigned char)text[i++]);
        } else if (text[i] == '\\') {
            out[o++] = '\\';
            out[o++] = text[i++];
        } else {
            memcpy(out + o, text + i, n);
            o += n;
            i += n;
        }
    }
    out[o] = '\0';
    return out;
}

int text_put(FILE *out, const char *key, const char *value)
{
    _cleanup_free_ char *escaped = text_escape(value, strlen(value));
    if (!escaped)
        return -ENOMEM;
    fprintf(out, "%s=%s\n", key, escaped);
    return 0;
}

int text_unescape(const char *text, char **ret)
{
    size_t size = strlen(text), o = 0;
    _cleanup_free_ char *out = malloc(size + 1);
    if (!out)
        return -ENOMEM;
    for (size_t i = 0; i < size;) {
        if (text[i] != '\\') {
            out[o++] = text[i++];
        } else if (text[i + 1] == '\\') {
            out[o++] = '\\';
            i += 2;
        } else if (text[i + 1] == 'x' && i + 4 <= size) {
            char digits[3] = {text[i + 2], text[i + 3], 0};
            unsigned char byte;
            if (text_unhex(digits, &byte, 1) < 0 || byte == 0)
                return -EINVAL;
            out[o++] = (char)byte;
            i += 4;
        } else {
            return -EINVAL;
        }
    }
    out[o] = '\0';
    *ret = steal_ptr(out);
    return 0;
}

int text_parse_u64(const char *text, int base, uint64_t max, uint64_t *ret)
{
    if (base == 0 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        base = 16;
        text += 2;
    } else if (base == 0) {
        base = 10;
    }
    if (!text[0])
        return -EINVAL;

    uint64_t value = 0;
    bool over = false;
    for (; *text; text++) {
        unsigned digit;
        if (is_digit(*text))
            digit = (unsigned)(*text - '0');
        else if (*text >= 'a' && *text <= 'f')
            digit = (unsigned)(*text - 'a') + 10;
        else if (*text >= 'A' && *text <= 'F')
            digit = (unsigned)(*text - 'A') + 10;
        else
            return -EINVAL;
        if (digit >= (unsigned)base)
            return -EINVAL;
        if (__builtin_mul_overflow(value, (uint64_t)base, &value) ||
            __builtin_add_overflow(value, digit, &value))
            over = true;
    }
    if (over || value > max)
        return -ERANGE;
    *ret = value;
    return 0;
}

void text_hex(const void *data, size_t size, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *p = data;
    for (size_t i = 0; i < size; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * size] = '\0';
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int text_unhex(const char *text, void *ret, size_t size)
{
    if (strlen(text) != 2 * size)
        return -EINVAL;
    for (size_t i = 0; i < 2 * size; i++)
        if (hex_digit(text[i]) < 0)
            return -EINVAL;
    for (size_t i = 0; i < size; i++)
        ((unsigned char *)ret)[i] = (unsigned char)(hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]));
    return 0;
}

bool text_starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool text_ends_with(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    return n >= m && memcmp(text + n - m, suffix, m) == 0;
}

static char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool text_equal_version(const char *a, const char *b)
{
    size_t n = strcspn(a, "_");
    return n > 0 && n == strcspn(b, "_") && memcmp(a, b, n) == 0;
}

bool text_equal_nocase(const char *a, const char *b)
{
    while (*a && ascii_lower(*a) == ascii_lower(*b))
        a++, b++;
    return *a == *b;
}

char *text_printf(const char *format, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, format);
    int n = vasprintf(&text, format, ap);
    va_end(ap);
    return n < 0 ? NULL : text;
}

const char *text_known(const char *text)
{
    return text ? text : "";
}

void text_replace(char **field, const char *value)
{
    char *copy = strdup(value);
    if (!copy)
        return;
    free(*field);
    *field = copy;
}
