/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* program and read: raw data between two ACKs, each quirk of reference/edl.md 2.1, 2.6, 2.10 and 8 a case. */

#include "../firehose-modem.h"

enum { PAGE = 4096, PAGES = 64, BYTES = PAGES * PAGE, PAYLOAD = 8192, SOURCE_FAILS = BYTES / 2 };

static const struct firehose_range block10 = {PAGE, 64, 640, PAGES, 703};

/* What an image or a flash holds at an offset. */
static uint8_t pattern(uint64_t offset)
{
    return (uint8_t)(offset * 31 + offset / PAGE * 7 + 1);
}

static void fill(uint8_t *buffer, uint64_t offset, size_t size)
{
    for (size_t i = 0; i < size; i++)
        buffer[i] = pattern(offset + i);
}

/* ---- program ---- */

struct taking {
    const char *open;   /* the answer to the tag */
    size_t until;       /* takes so many bytes, */
    const char *then;   /* says this, */
    bool go_on;         /* and takes the rest */
    const char *close;  /* what it says behind the data */
    size_t erased_from; /* from here on 0xFF is expected and not the image; 0: nowhere */
    bool no_zlp;        /* not configured: no ZLPs may come */
};

/* One payload and the ZLP behind it; the content is checked. 0 if the host went. */
static size_t take_payload(struct peer *p, const struct taking *a, uint64_t offset, size_t left)
{
    uint8_t data[VIRTUAL_DATA_MAX], expected[VIRTUAL_DATA_MAX];
    ssize_t n = peer_hear(p, data, sizeof(data));
    if (n < 0)
        return 0;
    size_t size = MIN_OF((size_t)PAYLOAD, left);
    fill(expected, offset, size);
    if (a->erased_from && offset >= a->erased_from)
        memset(expected, 0xff, size);
    if (p->type != VIRTUAL_DATA || (size_t)n != size)
        peer_complain(p, "at %zu: expected a payload of %zu bytes, got '%c' with %zd", (size_t)offset, size,
                      p->type, n);
    else if (memcmp(data, expected, size) != 0)
        peer_complain(p, "at %zu: wrong bytes", (size_t)offset);
    else if (!a->no_zlp && peer_hear(p, expected, sizeof(expected)) != 0)
        peer_complain(p, "at %zu: no ZLP behind a payload of whole packets", (size_t)offset);
    return p->over ? 0 : size;
}

static void modem_program(struct peer *p, const void *arg)
{
    const struct taking *a = arg;
    char text[4096];
    if (!a->no_zlp) {
        if (!hear_document(p, "ZlpAwareHost=\"1\"", text, sizeof(text)))
            return;
        peer_say_text(p, ANSWER("value='ACK' MaxPayloadSizeToTargetInBytes='8192'"));
    }
    if (!hear_document(
            p,
            "<program PAGES_PER_BLOCK=\"64\" SECTOR_SIZE_IN_BYTES=\"4096\" num_partition_sectors=\"64\" "
            "physical_partition_number=\"0\" start_sector=\"640\" last_sector=\"703\"",
            text, sizeof(text)))
        return;
    peer_say_text(p, a->open);
    size_t end = a->then && !a->go_on ? a->until : BYTES;
    for (size_t done = 0; done < end;) {
        size_t n = take_payload(p, a, done, BYTES - done);
        if (n == 0)
            return;
        done += n;
        if (a->then && done == a->until)
            peer_say_text(p, a->then);
    }
    if (!a->close && !a->then)
        return; /* the unplug */
    if (a->close)
        peer_say_text(p, a->close);
    peer_be_silent(p);
}

struct uploading {
    struct peer_case *c;
    uint64_t fail_at, last_progress;
};

static int source(void *userdata, uint64_t offset, void *buffer, size_t size, struct error *e)
{
    struct uploading *u = userdata;
    if (u->fail_at && offset >= u->fail_at)
        return error_set(e, ERROR_CANCELLED, "the test's source ended");
    fill(buffer, offset, size);
    return 0;
}

static void progress(void *userdata, uint64_t done, uint64_t total)
{
    struct uploading *u = userdata;
    if (total != BYTES || done <= u->last_progress)
        note(u->c, "progress %llu of %llu!", (unsigned long long)done, (unsigned long long)total);
    u->last_progress = done;
}

static void program(struct peer_case *c, struct transport *t, uint64_t fail_at, bool configure)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    struct uploading u = {.c = c, .fail_at = fail_at};
    if (configure && firehose_configure(f, 0, &c->e) < 0) {
        note(c, "configure failed");
        return;
    }
    c->r = firehose_program(f, &block10, source, progress, &u, &c->e);
    note(c, "%llu", (unsigned long long)u.last_progress);
}

static void host_program(struct peer_case *c, struct transport *t)
{
    program(c, t, 0, true);
}

static void host_program_unconfigured(struct peer_case *c, struct transport *t)
{
    program(c, t, 0, false);
}

static void host_program_source_fails(struct peer_case *c, struct transport *t)
{
    program(c, t, SOURCE_FAILS, true);
}

#define SDX55_OPEN                                                                                           \
    LOG("INFO: Calling handler for program")                                                                 \
    LOG("INFO: NAND was previously open, returning existing handle 0.") ACK_RAW

static void test_program(void **state)
{
    (void)state;
    struct taking args[] = {
        {SDX55_OPEN, 0, NULL, false, ACK},
        {ACK_RAW, 0, NULL, false, LOG("INFO: done") ACK, 0, true},
        {ACK_RAW, 4 * PAYLOAD, LOG("INFO: a") LOG("WARN: mark block 10 as bad"), true, ACK},
        {ACK_RAW, 4 * PAYLOAD, ACK_RAW, true, ACK},
        {ACK_RAW, 0, NULL, false, LOG("ERROR: out of good blocks") NAK},
        {LOG("ERROR: n: Line n: HANDLE_PROGRAM_FAILURE") NAK, 0, "", false, NULL},
        {ACK_RAW, 4 * PAYLOAD, LOG("ERROR: write before last_written_page not allowed") NAK, false, NULL},
        {ACK_RAW, 4 * PAYLOAD, ACK, false, NULL},
        {ACK_RAW LOG("ERROR: at once") NAK, PAYLOAD, "", false, NULL},
        {ACK_RAW, 0, NULL, false, NULL},
        {ACK ACK_RAW, 0, NULL, false, ACK},
        {ACK_RAW, 0, NULL, false, ACK, SOURCE_FAILS},
        {ACK_RAW, 0, NULL, false, NAK, SOURCE_FAILS},
    };
    struct peer_case cases[] = {
        {"SDX55", modem_program, &args[0], host_program},
        {"before configure: no ZLP", modem_program, &args[1], host_program_unconfigured},
        {"logs between data", modem_program, &args[2], host_program},
        {"an ACK that stays raw", modem_program, &args[3], host_program},
        {"NAK at the end", modem_program, &args[4], host_program},
        {"NAK at once", modem_program, &args[5], host_program},
        {"NAK in the middle", modem_program, &args[6], host_program},
        {"ACK in the middle", modem_program, &args[7], host_program},
        {"NAK glued to the ACK", modem_program, &args[8], host_program},
        {"gone behind the data", modem_program, &args[9], host_program},
        {"a late ACK opens nothing", modem_program, &args[10], host_program},
        {"source fails", modem_program, &args[11], host_program_source_fails},
        {"source fails, then NAK", modem_program, &args[12], host_program_source_fails},
    };
    const struct expected expected[] = {
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "out of good blocks", "262144"},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "HANDLE_PROGRAM_FAILURE", "0"},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "write before last_written_page", NULL},
        {-EPROTO, ERROR_FIREHOSE_FAILED, NULL, NULL},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "at once", "0"},
        {-ENODEV, ERROR_MODEM_GONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {-ECANCELED, ERROR_CANCELLED, NULL, "131072"},
        {-ECANCELED, ERROR_CANCELLED, NULL, "131072"},
    };
    _Static_assert(ARRAY_SIZE(cases) == ARRAY_SIZE(expected), "one expectation a case");
    play(cases, expected, ARRAY_SIZE(cases));
    assert_non_null(strstr(cases[12].e.message, "the test's source ended"));
    assert_non_null(strstr(cases[11].e.message, "the test's source ended"));
}

/* A programmer that takes no byte before its logs are read (8.4), and more logs than the sockets hold. */
static void modem_chatty(struct peer *p, const void *arg)
{
    const struct taking *a = arg;
    char text[4096];
    if (!hear_document(p, "<program", text, sizeof(text)))
        return;
    peer_say_text(p, ACK_RAW);
    for (size_t done = 0; done < BYTES;) {
        for (int i = 0; i < 250; i++)
            peer_say_text(p,
                          LOG("DEBUG: a programmer that cannot keep anything to itself, whatever the hour"));
        size_t n = take_payload(p, a, done, BYTES - done);
        if (n == 0)
            return;
        done += n;
    }
    peer_say_text(p, ACK);
    peer_be_silent(p);
}

static void test_chatty_program(void **state)
{
    (void)state;
    struct taking a = {.no_zlp = true};
    struct peer_case c = {"chatty", modem_chatty, &a, host_program_unconfigured};
    play(&c, &(struct expected){0, ERROR_NONE, NULL, "262144"}, 1);
}

static void host_small_payload(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    struct uploading u = {.c = c};
    c->r = firehose_configure(f, 0, &c->e);
    if (c->r == 0)
        c->r = firehose_program(f, &block10, source, NULL, &u, &c->e);
}

/* A payload that does not hold a page is refused before the tag is sent. */
static void test_small_payload(void **state)
{
    (void)state;
    struct peer_case c = {"small", modem_steps,
                          STEPS({"<configure", ANSWER("value='ACK' MaxPayloadSizeToTargetInBytes='2048'")}),
                          host_small_payload};
    play(&c, &(struct expected){-EPROTO, ERROR_FIREHOSE_FAILED, NULL, NULL}, 1);
}

/* A command given up in the middle of its data leaves the modem waiting: nothing may be sent that it would
 * take for data. */
static void modem_stops_taking(struct peer *p, const void *arg)
{
    (void)arg;
    char text[4096];
    uint8_t data[VIRTUAL_DATA_MAX];
    if (!hear_document(p, "<program", text, sizeof(text)))
        return;
    peer_say_text(p, ACK_RAW);
    size_t taken = 0;
    for (ssize_t n; (n = peer_hear(p, data, sizeof(data))) >= 0;) {
        if (strstr((const char *)data, "<nop") == (const char *)data)
            peer_complain(p, "a document in the place of data");
        taken += (size_t)n;
        if (taken == 4 * PAYLOAD)
            peer_say_text(p, XML_HEAD "<data><log value=\""); /* and this log never ends */
        if (taken >= 4 * PAYLOAD && taken < 24 * PAYLOAD)
            for (int i = 0; i < 2; i++)
                peer_say(p, memset(data, 'x', sizeof(data)), sizeof(data));
    }
}

static void host_given_up(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    struct uploading u = {.c = c};
    c->r = firehose_program(f, &block10, source, NULL, &u, &c->e);
    note(c, "%d|", c->r == -EPROTO);
    c->r = firehose_nop(f, &c->e);
}

static void test_given_up(void **state)
{
    (void)state;
    struct peer_case c = {"given up", modem_stops_taking, NULL, host_given_up};
    play(&c, &(struct expected){-EPROTO, ERROR_FIREHOSE_FAILED, NULL, "1|"}, 1);
    assert_non_null(strstr(c.e.message, "still waits for raw data"));
    assert_int_equal(c.e.hint, HINT_POWER_CYCLE);
}

/* ---- read ---- */

enum content { CONTENT_PATTERN, CONTENT_ZERO, CONTENT_XML };

struct giving {
    const char *open;
    size_t open_size; /* if it holds NULs */
    size_t glued;     /* so many bytes of data in the transfer of the answer */
    size_t transfer;  /* size of the other transfers; 0: a page each */
    enum content content;
    size_t short_by;   /* so many bytes are missing at the end */
    bool stammered;    /* the answer comes byte by byte */
    bool zlps;         /* ZLPs behind everything that is whole packets */
    const char *close; /* NULL: unplugged instead */
    bool close_glued;  /* in the transfer of the last data */
};

static void content(enum content kind, uint8_t *buffer, uint64_t offset, size_t size)
{
    static const char xml[] = ACK NAK "</data>";
    for (size_t i = 0; i < size; i++)
        buffer[i] = kind == CONTENT_ZERO  ? 0
                    : kind == CONTENT_XML ? (uint8_t)xml[(offset + i) % (sizeof(xml) - 1)]
                                          : pattern(offset + i);
}

static void modem_read(struct peer *p, const void *arg)
{
    const struct giving *g = arg;
    static _Thread_local uint8_t buffer[BYTES + 4096];
    char text[4096];
    if (!hear_document(p, "<read", text, sizeof(text)))
        return;
    size_t size = g->open_size ? g->open_size : strlen(g->open), total = BYTES - g->short_by;
    memcpy(buffer, g->open, size);
    content(g->content, buffer + size, 0, g->glued);
    if (g->stammered)
        peer_stammer(p, buffer, size);
    else
        peer_say(p, buffer, size + g->glued);
    size_t step = g->transfer ? g->transfer : PAGE;
    for (size_t done = g->glued; done < total;) {
        size_t n = MIN_OF(step, total - done);
        content(g->content, buffer, done, n);
        done += n;
        if (done == total && g->close_glued) {
            memcpy(buffer + n, g->close, strlen(g->close));
            n += strlen(g->close);
        }
        peer_say(p, buffer, n);
        if (g->zlps && n % 512 == 0)
            peer_say(p, NULL, 0);
    }
    if (!g->close)
        return;
    if (!g->close_glued)
        peer_say_text(p, g->close);
    peer_be_silent(p);
}

struct downloading {
    enum content content;
    uint64_t got, fail_at;
    bool wrong;
    struct peer_clock *stalls; /* at the first bytes, for minutes; NULL */
};

static int sink(void *userdata, uint64_t offset, const void *data, size_t size, struct error *e)
{
    struct downloading *d = userdata;
    uint8_t expected[FIREHOSE_INPUT_SIZE];
    if (offset != d->got || size > sizeof(expected)) {
        d->wrong = true;
        return 0;
    }
    if (d->fail_at && offset >= d->fail_at)
        return error_set(e, ERROR_NO_SPACE, "the test's sink is full");
    if (d->stalls && offset == 0)
        peer_clock_spend(d->stalls, 300 * USEC_PER_SEC);
    content(d->content, expected, offset, size);
    d->wrong |= memcmp(data, expected, size) != 0;
    d->got += size;
    return 0;
}

static void read_with(struct peer_case *c, struct transport *t, uint64_t fail_at, bool again, bool stalls)
{
    const struct giving *g = c->arg;
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    struct downloading d = {.content = g->content, .fail_at = fail_at};
    d.stalls = stalls ? &c->peer.clock : NULL;
    c->r = firehose_read(f, &block10, true, sink, &d, &c->e);
    note(c, "%llu%s", (unsigned long long)d.got, d.wrong ? " wrong" : "");
    if (again)
        note(c, " %u", firehose_error_count(f));
}

static void host_read(struct peer_case *c, struct transport *t)
{
    read_with(c, t, 0, false, false);
}

/* A disk that does not take them: the modem is in time all the same. */
static void host_read_sink_stalls(struct peer_case *c, struct transport *t)
{
    read_with(c, t, 0, false, true);
}

static void host_read_sink_fails(struct peer_case *c, struct transport *t)
{
    read_with(c, t, 3 * PAGE, true, false);
}

static void host_read_pages(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    _cleanup_free_ uint8_t *buffer = malloc(BYTES), *expected = malloc(BYTES);
    if (!f || !buffer || !expected)
        return;
    c->r = firehose_read_pages(f, &block10, true, buffer, &c->e);
    content(((const struct giving *)c->arg)->content, expected, 0, BYTES);
    note(c, "%s", memcmp(buffer, expected, BYTES) == 0 ? "same" : "different");
}

static const char open_nuls[] = ACK_RAW "\0\0\n";
#define NULS "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
static const char unlike_nuls[] = LOG("INFO: not padded alike") NULS NULS ACK_RAW;
static const char many_nuls[] = LOG("INFO: padded alike") NULS NULS ACK_RAW NULS NULS;

static void test_read(void **state)
{
    (void)state;
    struct giving args[] = {
        {.open = LOG("INFO: Calling handler for read") ACK_RAW, .close = ACK},
        {.open = ACK_RAW, .glued = 4096, .close = ACK},
        {.open = ACK_RAW "\r\n", .glued = 8192, .close = "\n" ACK},
        {.open = open_nuls,
         .open_size = sizeof(open_nuls) - 1,
         .glued = 512,
         .content = CONTENT_ZERO,
         .close = ACK},
        {.open = open_nuls, .open_size = sizeof(open_nuls) - 1, .close = ACK},
        {.open = LOG("INFO: padded alike") ACK_RAW, .glued = 100, .content = CONTENT_ZERO, .close = ACK},
        {.open = LOG("INFO: padded alike") ACK_RAW, .glued = BYTES, .close = ACK},
        {.open = ACK_RAW, .content = CONTENT_XML, .close = ACK},
        {.open = LOG("INFO: padded alike") ACK_RAW,
         .content = CONTENT_XML,
         .glued = 300,
         .transfer = 111,
         .close = ACK},
        {.open = ACK_RAW, .content = CONTENT_ZERO, .close = ACK},
        {.open = ACK_RAW, .transfer = 16384, .zlps = true, .close = ACK},
        {.open = ACK_RAW, .transfer = 100000, .zlps = true, .close = ACK},
        {.open = ACK_RAW, .transfer = 1000, .close = LOG("INFO: late") ACK, .close_glued = true},
        {.open = ACK_RAW, .content = CONTENT_ZERO, .close = LOG("ERROR: ECC") NAK},
        {.open = LOG("ERROR: no such option") NAK, .short_by = BYTES, .close = ""},
        {.open = ACK_RAW, .short_by = BYTES / 2, .close = NULL},
        {.open = ACK_RAW, .short_by = BYTES / 2, .close = LOG("ERROR: gave up") NAK},
        {.open = ACK_RAW "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n", .content = CONTENT_ZERO, .close = ACK},
        {.open = ACK_RAW, .close = "left over" ACK},
        {.open = LOG("INFO: not padded alike") ACK_RAW "\r\n\r\n", .content = CONTENT_ZERO, .close = ACK},
        {.open = unlike_nuls,
         .open_size = sizeof(unlike_nuls) - 1,
         .glued = 16384,
         .content = CONTENT_ZERO,
         .close = ACK},
        {.open = many_nuls,
         .open_size = sizeof(many_nuls) - 1,
         .glued = 8192,
         .content = CONTENT_ZERO,
         .close = ACK},
        {.open = LOG("INFO: padded alike") ACK_RAW, .stammered = true, .content = CONTENT_ZERO, .close = ACK},
    };
    struct peer_case cases[] = {
        {"SDX55", modem_read, &args[0], host_read},
        {"a page glued", modem_read, &args[1], host_read},
        {"line end, then pages glued", modem_read, &args[2], host_read},
        {"NULs, then zeros glued", modem_read, &args[3], host_read},
        {"NULs alone", modem_read, &args[4], host_read},
        {"a piece of a page glued", modem_read, &args[5], host_read},
        {"everything glued", modem_read, &args[6], host_read},
        {"data that are documents", modem_read, &args[7], host_read},
        {"documents in odd pieces", modem_read, &args[8], host_read},
        {"zeros", modem_read, &args[9], host_read},
        {"ZLPs", modem_read, &args[10], host_read},
        {"long transfers", modem_read, &args[11], host_read},
        {"answer glued to the data", modem_read, &args[12], host_read},
        {"NAK behind the data", modem_read, &args[13], host_read},
        {"NAK at once", modem_read, &args[14], host_read},
        {"gone in the middle", modem_read, &args[15], host_read},
        {"NAK in the middle", modem_read, &args[16], host_read},
        {"too much padding", modem_read, &args[17], host_read},
        {"more than announced", modem_read, &args[18], host_read},
        {"padded by another length", modem_read, &args[19], host_read},
        {"padded by another length, in a long transfer", modem_read, &args[20], host_read},
        {"many NULs, then zeros glued", modem_read, &args[21], host_read},
        {"padding behind the ACK in its own transfer", modem_read, &args[22], host_read},
        {"sink fails", modem_read, &args[0], host_read_sink_fails},
        {"sink fails, then NAK", modem_read, &args[13], host_read_sink_fails},
        {"into memory", modem_read, &args[0], host_read_pages},
        {"sink stalls", modem_read, &args[0], host_read_sink_stalls},
    };
    const struct expected expected[] = {
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "ERROR: ECC", NULL},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "no such option", "0"},
        {-ENODEV, ERROR_MODEM_GONE, NULL, NULL},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "gave up", NULL},
        {-EPROTO, ERROR_FIREHOSE_FAILED, NULL, NULL},
        {-EPROTO, ERROR_FIREHOSE_FAILED, NULL, NULL},
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {0, ERROR_NONE, NULL, "262144"},
        {-ENOSPC, ERROR_NO_SPACE, NULL, "12288 0"},
        {-ENOSPC, ERROR_NO_SPACE, NULL, "12288 1"},
        {0, ERROR_NONE, NULL, "same"},
        {0, ERROR_NONE, NULL, "262144"},
    };
    _Static_assert(ARRAY_SIZE(cases) == ARRAY_SIZE(expected), "one expectation a case");
    play(cases, expected, ARRAY_SIZE(cases));
    assert_non_null(strstr(cases[23].e.message, "the test's sink is full"));
    assert_non_null(strstr(cases[24].e.message, "the test's sink is full"));
    assert_in_range(cases[16].took, 0, 10 * USEC_PER_SEC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_program),       cmocka_unit_test(test_chatty_program),
        cmocka_unit_test(test_small_payload), cmocka_unit_test(test_given_up),
        cmocka_unit_test(test_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
