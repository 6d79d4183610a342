/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The embedded file system over DIAG: protocol/diag-efs.c and diag-efs-write.c. */

#include "../diag-modem.h"

#include "protocol/diag.h"

enum {
    FILE_SIZE = 2500,
};

/* A modem with one directory and one file; what it does wrong is in `trouble`. */
enum trouble {
    NONE,
    LIES_ABOUT_LENGTH,
    LIES_ABOUT_LENGTH_BEYOND,
    ENDLESS_FILE,
    ENDLESS_DIRECTORY,
    WRONG_OFFSET,
    SLASH_IN_NAME,
    FULL_ONCE,
    NEGATIVE_ERRNO,
    SHORT_WRITE,
    NEGATIVE_WRITE,
    NEGATIVE_MKDIR,
    NO_MD5,
    LATE_OPEN, /* the answer to the first OPEN comes after the second was asked */
};

struct efs {
    enum trouble trouble;
    int (*host)(struct peer_case *c, struct diag *d);
    /* what the modem saw */
    unsigned opens, closes, reads, puts, syncs, mkdirs, writes;
    uint32_t flags;
    char path[64];
    uint8_t content[16384];
    size_t size;
};

static void le32(uint8_t *to, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t from32(const uint8_t *b)
{
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static bool on_read(struct peer *p, struct efs *m, const uint8_t *q)
{
    static uint8_t answer[20 + 4096];
    uint32_t offset = from32(q + 12), n = from32(q + 8);
    m->reads++;
    memset(answer, 0, 20);
    memcpy(answer, q, 8);
    if (m->trouble != ENDLESS_FILE)
        n = offset >= FILE_SIZE ? 0 : MIN_OF(n, FILE_SIZE - offset);
    le32(answer + 8, offset);
    le32(answer + 12, n);
    for (size_t i = 0; i < n; i++)
        answer[20 + i] = (uint8_t)((offset + i) * 7);
    if (m->trouble == WRONG_OFFSET) {
        /* Somebody else's answer first: to be passed over, not taken. */
        uint8_t other[24];
        memcpy(other, answer, sizeof(other));
        le32(other + 8, offset + 1);
        if (!modem_say(p, other, sizeof(other)))
            return false;
    }
    if (m->trouble == LIES_ABOUT_LENGTH)
        le32(answer + 12, n + 1);
    if (m->trouble == LIES_ABOUT_LENGTH_BEYOND)
        le32(answer + 12, UINT32_MAX);
    return modem_say(p, answer, 20 + n);
}

static bool on_readdir(struct peer *p, const struct efs *m, const uint8_t *q)
{
    static const char *const names[] = {".", "..", "a", "rfnv"};
    uint8_t answer[80] = {0};
    uint32_t sequence = from32(q + 8);
    memcpy(answer, q, 12);
    const char *name = sequence >= 1 && sequence <= 4 ? names[sequence - 1] : "";
    if (m->trouble == ENDLESS_DIRECTORY)
        name = sequence % 2 ? "." : "x";
    if (m->trouble == SLASH_IN_NAME && *name)
        name = "../../etc";
    le32(answer + 16, sequence == 4 ? 1 : 15);
    le32(answer + 24, FILE_SIZE);
    memcpy(answer + 40, name, strlen(name));
    return modem_say(p, answer, 41 + strlen(name));
}

static bool on_put(struct peer *p, struct efs *m, const uint8_t *q, size_t n)
{
    uint8_t answer[10] = {0x4b, 0x13, 38, 0};
    bool full = m->trouble == FULL_ONCE && m->puts == 0;
    m->puts++;
    m->size = q[4] | (size_t)q[5] << 8;
    m->flags = from32(q + 8);
    if (n < 14 + m->size + 2 || q[6] || q[7]) {
        peer_complain(p, "PUT of %zu bytes in a packet of %zu", m->size, n);
        return false;
    }
    memcpy(m->content, q + 14, m->size);
    snprintf(m->path, sizeof(m->path), "%.*s", (int)(n - 14 - m->size), (const char *)q + 14 + m->size);
    answer[4] = q[12];
    answer[5] = q[13];
    answer[6] = full ? 28 : 0;
    return modem_say(p, answer, sizeof(answer));
}

static bool on_write(struct peer *p, struct efs *m, const uint8_t *q, size_t n)
{
    uint8_t answer[20] = {0};
    uint32_t offset = from32(q + 8);
    size_t length = n - 12;
    m->writes++;
    if (offset != m->size || length > 1024) {
        peer_complain(p, "WRITE of %zu at %u, have %zu", length, offset, m->size);
        return false;
    }
    memcpy(m->content + offset, q + 12, length);
    m->size += length;
    memcpy(answer, q, 12);
    le32(answer + 12, (uint32_t)length - (m->trouble == SHORT_WRITE));
    le32(answer + 16, m->trouble == NEGATIVE_WRITE ? (uint32_t)-ENODEV : 0);
    return modem_say(p, answer, sizeof(answer));
}

static bool on_request(struct peer *p, struct efs *m, const uint8_t *q, size_t n)
{
    uint8_t answer[64] = {0};
    memcpy(answer, q, 4);
    if (q[0] == 0x1c)
        return modem_say(p, q, 1);
    if (q[0] != 0x4b || (q[1] != 0x13 && q[1] != 0x3e) || n < 4)
        return modem_refuse(p, 0x13, q, n);
    if (q[1] == 0x3e)
        return modem_refuse(p, 0x13, q, n);
    switch (q[2]) {
    case 0:
        return modem_say(p, q, n);
    case 1:
        return modem_say(p, answer, 28);
    case 2:
        m->opens++;
        m->flags = from32(q + 4);
        m->size = 0;
        snprintf(m->path, sizeof(m->path), "%.60s", (const char *)q + 12);
        le32(answer + 4, 3);
        le32(answer + 8, strstr(m->path, "denied") ? 13 : 0);
        if (m->trouble == NEGATIVE_ERRNO)
            le32(answer + 8, UINT32_MAX);
        if (m->trouble == LATE_OPEN && m->opens == 1)
            peer_sleep(p, 6 * USEC_PER_SEC);
        return modem_say(p, answer, 12);
    case 3:
    case 13:
        m->closes++;
        return modem_say(p, answer, 8);
    case 4:
        return on_read(p, m, q);
    case 5:
        return on_write(p, m, q, n);
    case 9:
        m->mkdirs++;
        le32(answer + 4, m->trouble == NEGATIVE_MKDIR ? (uint32_t)-ECANCELED : 17);
        return modem_say(p, answer, 8);
    case 11:
        m->opens++;
        le32(answer + 4, 1);
        return modem_say(p, answer, 12);
    case 12:
        return on_readdir(p, m, q);
    case 38:
        return on_put(p, m, q, n);
    case 43:
        if (m->trouble == NO_MD5)
            return modem_refuse(p, 0x13, q, n);
        memcpy(answer + 4, q + 4, 2);
        memset(answer + 10, 0x5a, 16);
        return modem_say(p, answer, 26);
    case 48:
        m->syncs++;
        memcpy(answer + 4, q + 4, 2);
        le32(answer + 6, 77);
        return modem_say(p, answer, 14);
    case 49:
        memcpy(answer + 4, q + 4, 2);
        answer[6] = m->syncs % 2 == 1 && from32(q + 6) == 77 ? 0 : 1;
        return modem_say(p, answer, 11);
    default:
        peer_complain(p, "an EFS command that is never sent: %u", q[2]);
        return false;
    }
}

static void play_modem(struct peer *p, const void *arg)
{
    struct efs *m = (struct efs *)(uintptr_t)arg;
    uint8_t request[DIAG_FRAME_MAX / 2];
    ssize_t n;
    if (!modem_answer_opening(p))
        return;
    while ((n = modem_hear(p, request, sizeof(request))) > 0)
        if (!on_request(p, m, request, (size_t)n))
            return;
}

static void play_host(struct peer_case *c, struct transport *t)
{
    const struct efs *m = c->arg;
    _cleanup_(diag_freep) struct diag *d = NULL;
    c->r = diag_open(t, &d, &c->e);
    if (c->r == 0)
        c->r = diag_efs_hello(d, &c->e);
    if (c->r == 0)
        c->r = m->host(c, d);
}

static struct peer_case play(struct efs *m, const char *name)
{
    struct peer_case c = {.name = name, .modem = play_modem, .arg = m, .host = play_host};
    peer_play(&c, 1);
    return c;
}

/* ---- reading ---- */

typedef int (*reader)(struct diag *d, const char *path, size_t max, uint8_t **ret, size_t *ret_size,
                      struct error *e);

static int read_with(reader read, struct peer_case *c, struct diag *d)
{
    _cleanup_free_ uint8_t *data = NULL;
    size_t size = 0;
    int r = read(d, "/nv/item_files/a", 65536, &data, &size, &c->e);
    c->numbers[0] = size;
    for (size_t i = 0; i < size; i++)
        if (data[i] != (uint8_t)(i * 7))
            return -EBADMSG;
    return r;
}

static int host_read(struct peer_case *c, struct diag *d)
{
    return read_with(diag_efs_read, c, d);
}

static int host_read_short(struct peer_case *c, struct diag *d)
{
    return read_with(diag_efs_read_short, c, d);
}

static int host_read_denied(struct peer_case *c, struct diag *d)
{
    uint8_t *data = NULL;
    size_t size;
    return diag_efs_read(d, "/denied", 65536, &data, &size, &c->e);
}

static void test_read(void **state)
{
    (void)state;
    static const struct {
        enum trouble trouble;
        int r;
    } table[] = {{NONE, 0},
                 {WRONG_OFFSET, 0},
                 {LIES_ABOUT_LENGTH, -EPROTO},
                 {LIES_ABOUT_LENGTH_BEYOND, -EPROTO},
                 {ENDLESS_FILE, -EFBIG},
                 {NEGATIVE_ERRNO, -EPROTO}};
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        struct efs m = {.trouble = table[i].trouble, .host = host_read};
        struct peer_case c = play(&m, "read");
        if (c.r != table[i].r)
            fail_msg("%zu: %d %s", i, c.r, c.e.message);
        assert_int_equal(c.numbers[0], c.r == 0 ? FILE_SIZE : 0);
        assert_int_equal(m.flags, 0); /* read-only, and no ITEMFILE: that crashes some modems */
        if (table[i].trouble != NEGATIVE_ERRNO)
            assert_int_equal(m.closes, m.opens);
    }
    struct efs m = {.host = host_read_denied};
    struct peer_case c = play(&m, "denied");
    assert_int_equal(c.r, DIAG_EFS_NO_ACCESS);
    assert_int_equal(c.e.kind, ERROR_NONE);
}

/* One question less where the last piece tells that it is the last, as many where it does not. */
static void test_read_short(void **state)
{
    (void)state;
    struct efs m = {.host = host_read}, quick = {.host = host_read_short};
    struct peer_case c = play(&m, "read");
    assert_int_equal(c.r, 0);
    c = play(&quick, "read short");
    assert_int_equal(c.r, 0);
    assert_int_equal(c.numbers[0], FILE_SIZE);
    assert_int_equal(m.reads, 4);
    assert_int_equal(quick.reads, 3);
    assert_int_equal(quick.closes, 1);
}

static int host_read_both(struct peer_case *c, struct diag *d)
{
    uint8_t *data = NULL;
    size_t size;
    int r = diag_efs_read(d, "/denied", 65536, &data, &size, &c->e);
    c->numbers[1] = (uint64_t)host_read(c, d);
    return r;
}

/* Nothing in the answer to an OPEN says which path it is about. */
static void test_a_late_answer(void **state)
{
    (void)state;
    static const enum trouble troubles[] = {NONE, LATE_OPEN};
    for (size_t i = 0; i < ARRAY_SIZE(troubles); i++) {
        struct efs m = {.trouble = troubles[i], .host = host_read_both};
        struct peer_case c = play(&m, "late");
        assert_int_equal(c.r, DIAG_EFS_NO_ACCESS);
        assert_int_equal(c.numbers[1], 0);
        assert_int_equal(c.numbers[0], FILE_SIZE);
    }
}

static int on_entry(void *userdata, const struct diag_efs_entry *entry)
{
    struct peer_case *c = userdata;
    c->numbers[0]++;
    c->numbers[1] = c->numbers[1] * 256 + (uint64_t)entry->name[0];
    c->numbers[2] = c->numbers[2] * 16 + entry->type;
    return 0;
}

static int host_list(struct peer_case *c, struct diag *d)
{
    return diag_efs_list(d, "/nv/item_files", 100, on_entry, c, &c->e);
}

static void test_list(void **state)
{
    (void)state;
    struct efs m = {.host = host_list};
    struct peer_case c = play(&m, "list");
    assert_int_equal(c.r, 0);
    assert_int_equal(c.numbers[0], 2);
    assert_int_equal(c.numbers[1], 'a' * 256 + 'r');
    assert_int_equal(c.numbers[2], 15 * 16 + 1);
    assert_int_equal(m.closes, 1);

    m = (struct efs){.trouble = ENDLESS_DIRECTORY, .host = host_list};
    c = play(&m, "endless");
    assert_int_equal(c.r, -EFBIG);
    assert_int_equal(c.numbers[0], 0);
    assert_int_equal(m.closes, 1);

    m = (struct efs){.trouble = SLASH_IN_NAME, .host = host_list};
    c = play(&m, "slash");
    assert_true(c.r < 0);
    assert_int_equal(c.numbers[0], 0);
}

static int host_md5(struct peer_case *c, struct diag *d)
{
    return diag_efs_md5(d, "/nv/item_files/a", c->bytes, &c->e);
}

static void test_md5(void **state)
{
    (void)state;
    struct efs m = {.host = host_md5};
    struct peer_case c = play(&m, "md5");
    assert_int_equal(c.r, 0);
    assert_int_equal(c.bytes[0], 0x5a);
    assert_int_equal(c.bytes[15], 0x5a);
    m = (struct efs){.trouble = NO_MD5, .host = host_md5};
    assert_int_equal(play(&m, "no md5").r, -EOPNOTSUPP);
}

/* ---- writing ---- */

static uint8_t pattern[10000];

static int host_write_small(struct peer_case *c, struct diag *d)
{
    return diag_efs_write(d, "/nv/item_files/rfnv/00020000", pattern, 300, &c->e);
}

static int host_write_large(struct peer_case *c, struct diag *d)
{
    return diag_efs_write(d, "/policyman/big.xml", pattern, sizeof(pattern), &c->e);
}

static int host_write_nowhere(struct peer_case *c, struct diag *d)
{
    return diag_efs_write(d, "nv/relative", pattern, 10, &c->e);
}

static void test_write(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (uint8_t)(i * 13 ^ i >> 8);
    struct efs m = {.host = host_write_small};
    assert_int_equal(play(&m, "small").r, 0);
    assert_int_equal(m.puts, 1);
    assert_int_equal(m.flags, 0x40000 | 0x80000 | 01000 | 0100 | 01); /* an item file, its directories made */
    assert_string_equal(m.path, "/nv/item_files/rfnv/00020000");
    assert_int_equal(m.size, 300);
    assert_memory_equal(m.content, pattern, 300);

    m = (struct efs){.host = host_write_large};
    assert_int_equal(play(&m, "large").r, 0);
    assert_int_equal(m.puts, 0);
    assert_int_equal(m.mkdirs, 1);
    assert_int_equal(m.writes, 10);
    assert_int_equal(m.flags, 01000 | 0100 | 01);
    assert_int_equal(m.closes, 1);
    assert_int_equal(m.size, sizeof(pattern));
    assert_memory_equal(m.content, pattern, sizeof(pattern));

    m = (struct efs){.trouble = FULL_ONCE, .host = host_write_small};
    assert_int_equal(play(&m, "full").r, 0);
    assert_int_equal(m.puts, 2);
    assert_int_equal(m.syncs, 1);

    m = (struct efs){.trouble = SHORT_WRITE, .host = host_write_large};
    assert_int_equal(play(&m, "short").r, -EPROTO);
    assert_int_equal(m.closes, 1);

    m = (struct efs){.host = host_write_nowhere};
    struct peer_case c = play(&m, "nowhere");
    assert_int_equal(c.r, -EINVAL);

    /* An error number of the modem that would be one of ours, "it went away" or "cancelled". */
    m = (struct efs){.trouble = NEGATIVE_WRITE, .host = host_write_large};
    c = play(&m, "negative write");
    assert_int_equal(c.r, -EPROTO);
    assert_int_equal(c.e.kind, ERROR_DIAG_FAILED);
    assert_int_equal(m.closes, 1);
    m = (struct efs){.trouble = NEGATIVE_MKDIR, .host = host_write_large};
    c = play(&m, "negative mkdir");
    assert_int_equal(c.r, -EPROTO);
    assert_int_equal(c.e.kind, ERROR_DIAG_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read), cmocka_unit_test(test_read_short), cmocka_unit_test(test_a_late_answer),
        cmocka_unit_test(test_list), cmocka_unit_test(test_md5),        cmocka_unit_test(test_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
