/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A small flash for tests of the flash job's parts: a NAND in memory (fake-firehose.h), a plan made by hand
 * in the order that firmware/plan.c makes it, images in memory, a journal in a memfd, and the worker's voice
 * and the session's probe replaced by recorders.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sys/mman.h>
#include "../fake-firehose.h"
#include "worker/erase.h"
#include "worker/flash.h"
#include "worker/image.h"
#include "worker/steps.h"
#include "worker/verify.h"

enum { FIX_PAGE = 512, FIX_PAGES_PER_BLOCK = 4, FIX_BLOCKS = 48, FIX_LOG_SIZE = 64 * 1024 };

/* ---- the worker's voice ---- */

static char fix_log[FIX_LOG_SIZE];
static char fix_phases[FIX_LOG_SIZE];
static int fix_check_result; /* what worker_check() says */
static bool fix_unsafe, fix_cancelable, fix_told_destructive;

static inline void fix_append(char *to, const char *text)
{
    size_t used = strlen(to);
    snprintf(to + used, FIX_LOG_SIZE - used, "%s\n", text);
}

int worker_check(struct worker *w, struct error *e)
{
    (void)w;
    return fix_check_result == -EINTR ? error_set(e, ERROR_INTERRUPTED, "stop") : fix_check_result;
}

int worker_check_as(struct worker *w, bool critical, struct error *e)
{
    (void)critical;
    return worker_check(w, e);
}

void worker_log(struct worker *w, const char *format, ...)
{
    char line[1024];
    va_list ap;
    (void)w;
    va_start(ap, format);
    vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    fix_append(fix_log, line);
}

void worker_phase(struct worker *w, const char *phase, const char *detail)
{
    char line[256];
    (void)w;
    snprintf(line, sizeof(line), "%s %s", phase, detail ? detail : "");
    fix_append(fix_phases, line);
}

void worker_progress(struct worker *w, uint64_t ppm, uint64_t bytes_done, uint64_t bytes_total)
{
    (void)w;
    assert_true(ppm <= 1000000);
    assert_true(bytes_done <= bytes_total);
}

void worker_state(struct worker *w, bool unsafe, bool cancelable)
{
    w->critical = !cancelable;
    fix_unsafe = unsafe;
    fix_cancelable = cancelable;
}

void worker_tell(struct worker *w, const char *key, const char *value)
{
    (void)w;
    fix_told_destructive |= strcmp(key, KEY_DESTRUCTIVE) == 0 && strcmp(value, "1") == 0;
}

/* As in session.c. */
int session_probe_fill(struct session *s, uint64_t page, struct error *e)
{
    uint8_t data[FIX_PAGE];
    int r = nand_read_page(s->firehose, &s->geometry, page / FIX_PAGES_PER_BLOCK, page % FIX_PAGES_PER_BLOCK,
                           false, data, e);
    if (r == 0 && memcmp(data, data + 1, sizeof(data) - 1) == 0 && (data[0] == 0xff || data[0] == 0xee))
        s->erased_fill = data[0];
    return r;
}

static bool (*fix_stays)(void); /* until its window is overdue; NULL: it goes */

/* The rest of the window goes by, and the modem with it. */
int session_let_pass(struct session *s, struct error *e)
{
    if (fix_stays && fix_stays()) {
        window_outlived(&s->window);
        return 0;
    }
    return error_set(e, ERROR_MODEM_GONE, "its window ended as expected");
}

/* ---- images: the file's offset is its seed ---- */

static inline uint8_t fix_byte(const struct package_file *file, uint64_t at)
{
    uint64_t x = (at + 1) * 0x9e3779b97f4a7c15u + file->offset * 0x632be59bd9b4e019u;
    /* Page 2 of every image holds nothing but ones, as real ones do. */
    if (at / FIX_PAGE == 2)
        return 0xff;
    return (uint8_t)(x >> 56);
}

int package_read(const struct package *p, const struct package_file *file, uint64_t offset, void *buffer,
                 size_t size)
{
    (void)p;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)buffer)[i] = offset + i < file->size ? fix_byte(file, offset + i) : 0xff;
    return 0;
}

/* ---- the flash ---- */

/* Blocks of the partitions. */
enum { SBL = 0, MIBIB = 4, EFS2 = 8, BOOT = 14, MISC = 22, SYSTEM = 26, FIX_END = 40 };

struct fixture {
    struct worker worker;
    struct session session;
    struct plan plan;
    struct plan_step plan_steps[16];
    struct package_file files[5];
    struct firehose *nand;
    int fd_journal;
    struct flash flash;
};

static inline void fix_step(struct fixture *x, enum plan_action action, const char *name, uint64_t first,
                            uint64_t n, const struct package_file *file)
{
    struct plan_step *s = &x->plan.steps[x->plan.n_steps++];
    *s = (struct plan_step){.action = action, .first_block = first, .n_blocks = n, .file = file};
    snprintf(s->partition, sizeof(s->partition), "%s", name);
    s->sbl = first == SBL;
    s->mibib = first == MIBIB;
    if (file)
        s->pages = DIV_ROUND_UP(file->size, FIX_PAGE);
    if (action == PLAN_WRITE)
        x->plan.bytes_to_write += s->pages * FIX_PAGE;
}

static inline struct package_file fix_file(uint64_t seed, uint64_t size)
{
    struct package_file file = {.path = (char *)"image", .offset = seed, .size = size};
    uint8_t pages[16 * FIX_PAGE];
    size_t n = (size_t)DIV_ROUND_UP(size, FIX_PAGE) * FIX_PAGE;
    assert_true(n <= sizeof(pages));
    package_read(NULL, &file, 0, pages, n);
    assert_int_equal(digest_sha256(pages, n, file.pages_sha256), 0);
    return file;
}

static inline void fix_plan(struct fixture *x)
{
    static const uint64_t sizes[] = {7 * FIX_PAGE - 100, 4 * FIX_PAGE, 13 * FIX_PAGE, 9 * FIX_PAGE + 1,
                                     5 * FIX_PAGE};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
        x->files[i] = fix_file(i + 1, sizes[i]);
    const struct package_file *f = x->files;
    fix_step(x, PLAN_ERASE, "SBL", SBL, 4, NULL);
    fix_step(x, PLAN_ERASE, "MIBIB", MIBIB, 4, NULL);
    fix_step(x, PLAN_WRITE, "MIBIB", MIBIB, 4, &f[1]);
    fix_step(x, PLAN_VERIFY, "MIBIB", MIBIB, 4, &f[1]);
    fix_step(x, PLAN_ERASE, "boot", BOOT, 8, NULL);
    fix_step(x, PLAN_ERASE, "misc", MISC, 4, NULL);
    fix_step(x, PLAN_ERASE, "system", SYSTEM, 14, NULL);
    fix_step(x, PLAN_WRITE, "boot", BOOT, 8, &f[2]);
    fix_step(x, PLAN_WRITE, "system", SYSTEM, 7, &f[3]); /* two images in one erased range */
    fix_step(x, PLAN_WRITE, "system", SYSTEM + 7, 7, &f[4]);
    fix_step(x, PLAN_VERIFY, "boot", BOOT, 8, &f[2]);
    fix_step(x, PLAN_VERIFY, "system", SYSTEM, 7, &f[3]);
    fix_step(x, PLAN_VERIFY, "system", SYSTEM + 7, 7, &f[4]);
    fix_step(x, PLAN_WRITE, "SBL", SBL, 4, &f[0]);
    fix_step(x, PLAN_VERIFY, "SBL", SBL, 4, &f[0]);
    fix_step(x, PLAN_RESET, "", 0, 0, NULL);
}

/* What gate 2 leaves behind: the map, and empty steps. */
static inline void fix_gate(struct fixture *x)
{
    struct flash *f = &x->flash;
    nand_map_done(&f->map);
    nand_map_done(&f->at_gate);
    assert_int_equal(nand_map_init(&f->map, FIX_BLOCKS), 0);
    assert_int_equal(nand_map_init(&f->at_gate, FIX_BLOCKS), 0);
    for (uint64_t b = 0; x->session.capabilities.skip_bad_block && b < FIX_BLOCKS; b++) {
        nand_map_set(&f->map, b, x->nand->bad[b]);
        nand_map_set(&f->at_gate, b, x->nand->bad[b]);
    }
    f->steps = calloc(x->plan.n_steps + 1, sizeof(*f->steps));
    assert_non_null(f->steps);
}

/* A new process with the same journal, or the first one. Returns whether there is something to continue. */
static inline bool fix_start(struct fixture *x)
{
    struct flash *f = &x->flash;
    const char *why = NULL;
    *f = (struct flash){.worker = &x->worker, .session = &x->session, .plan = &x->plan};
    f->key = (struct journal_key){.unit = {.have_serial = true, .serial = 1}, .firmware = "f"};
    x->session.erased_fill = 0xff;
    assert_int_equal(journal_load(&f->journal, x->fd_journal, &f->key, &why, NULL), 0);
    fix_gate(x);
    if (why)
        return false;
    steps_from_journal(f);
    f->destructive = true;
    return true;
}

static inline void fix_stop(struct fixture *x)
{
    journal_done(&x->flash.journal);
    nand_map_done(&x->flash.map);
    nand_map_done(&x->flash.at_gate);
    free(x->flash.steps);
    x->flash.steps = NULL;
}

/* A modem that ran something else until now: every page holds old data. */
static inline struct fixture *fix_new(void)
{
    struct fixture *x = calloc(1, sizeof(*x));
    assert_non_null(x);
    x->nand = fake_new(FIX_PAGE, FIX_PAGES_PER_BLOCK, FIX_BLOCKS);
    for (uint64_t page = 0; page < FIX_BLOCKS * FIX_PAGES_PER_BLOCK; page++) {
        uint8_t old[FIX_PAGE];
        memset(old, (int)(page % 200) + 1, sizeof(old));
        old[0] = 0x55;
        fake_put(x->nand, page, old, sizeof(old));
    }
    x->session = (struct session){.worker = &x->worker, .firehose = x->nand, .geometry = x->nand->g};
    x->session.capabilities =
        (struct nand_capabilities){.skip_bad_block = true, .last_sector = true, .digest = true};
    x->plan.steps = x->plan_steps;
    x->plan.geometry = x->nand->g;
    fix_plan(x);
    x->fd_journal = memfd_create("journal", MFD_CLOEXEC);
    assert_true(x->fd_journal >= 0);
    fix_log[0] = fix_phases[0] = '\0';
    fix_check_result = 0;
    fix_told_destructive = false;
    return x;
}

static inline void fix_free(struct fixture *x)
{
    fix_stop(x);
    fake_free(x->nand);
    close(x->fd_journal);
    free(x);
}

/* ---- what has to be there ---- */

/* Does the flash hold this image, by the walk over good blocks, with nothing behind it? */
static inline bool fix_holds(const struct fixture *x, const struct package_file *file, uint64_t first,
                             uint64_t n)
{
    struct firehose_range range = nand_range(&x->nand->g, first, n);
    uint64_t pages = DIV_ROUND_UP(file->size, FIX_PAGE);
    uint8_t want[FIX_PAGE];
    for (uint64_t i = 0; i < n * FIX_PAGES_PER_BLOCK; i++) {
        uint64_t page = fake_map(x->nand, &range, i, false);
        if (page == UINT64_MAX)
            return i >= pages;
        package_read(NULL, file, i * FIX_PAGE, want, FIX_PAGE);
        if (i < pages ? memcmp(fake_at(x->nand, page), want, FIX_PAGE) != 0
                      : x->nand->pages[page] != FAKE_ERASED)
            return false;
    }
    return true;
}

static inline bool fix_is_erased(const struct fixture *x, uint64_t first, uint64_t n)
{
    for (uint64_t b = first; b < first + n; b++)
        for (uint64_t i = 0; !x->nand->bad[b] && i < FIX_PAGES_PER_BLOCK; i++)
            if (x->nand->pages[b * FIX_PAGES_PER_BLOCK + i] != FAKE_ERASED)
                return false;
    return true;
}

static inline bool fix_is_untouched(const struct fixture *x, uint64_t first, uint64_t n)
{
    for (uint64_t page = first * FIX_PAGES_PER_BLOCK; page < (first + n) * FIX_PAGES_PER_BLOCK; page++) {
        const uint8_t *data = fake_at(x->nand, page);
        if (x->nand->pages[page] != FAKE_WRITTEN || data[0] != 0x55 || data[1] != (uint8_t)(page % 200 + 1))
            return false;
    }
    return true;
}

static inline void fix_assert_complete(const struct fixture *x)
{
    assert_true(fix_holds(x, &x->files[0], SBL, 4));
    assert_true(fix_holds(x, &x->files[1], MIBIB, 4));
    assert_true(fix_holds(x, &x->files[2], BOOT, 8));
    assert_true(fix_holds(x, &x->files[3], SYSTEM, 7));
    assert_true(fix_holds(x, &x->files[4], SYSTEM + 7, 7));
    assert_true(fix_is_erased(x, MISC, 4));
    assert_true(fix_is_untouched(x, EFS2, BOOT - EFS2));
    assert_true(fix_is_untouched(x, FIX_END, FIX_BLOCKS - FIX_END));
}

/* Flash rule 6: an SBL is there only with everything else behind it. */
static inline void fix_assert_safe(const struct fixture *x)
{
    assert_true(fix_is_untouched(x, EFS2, BOOT - EFS2));
    assert_true(fix_is_untouched(x, FIX_END, FIX_BLOCKS - FIX_END));
    if (fix_is_untouched(x, SBL, 1)) {
        assert_true(fix_is_untouched(x, MIBIB, 4) && fix_is_untouched(x, BOOT, FIX_END - BOOT));
        return;
    }
    if (x->nand->pages[0] == FAKE_ERASED)
        return;
    assert_true(fix_holds(x, &x->files[1], MIBIB, 4) && fix_holds(x, &x->files[2], BOOT, 8) &&
                fix_holds(x, &x->files[3], SYSTEM, 7) && fix_holds(x, &x->files[4], SYSTEM + 7, 7) &&
                fix_is_erased(x, MISC, 4));
}
