/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The flash plan: flash rules 2, 3, 4, 6 and 7, each with what it refuses. */

#include "link/link.h"
#include "firmware/plan-inner.h"
#include "support.h"

static const struct nand_geometry chip = {.page_size = 4096, .pages_per_block = 64, .blocks = 2048};

static struct plan_options plain_options(void)
{
    return (struct plan_options){.reset = true};
}

static struct plan *make_plan(const struct package *p, const struct plan_options *o)
{
    struct error e = {0};
    struct plan *plan = NULL;
    if (plan_new(p, o, &plan, &e) < 0)
        fail_msg("plan: %s", e.message);
    return plan;
}

/* The refusal of a plan; fails if there is none. */
static struct error refused(const struct package *p, const struct plan_options *o)
{
    struct error e = {0};
    struct plan *plan = NULL;
    int r = plan_new(p, o, &plan, &e);
    if (r >= 0)
        fail_msg("a plan was made that should have been refused");
    assert_int_equal(r, error_errno(e.kind));
    assert_null(plan);
    return e;
}

/* The executed steps in one line: "check erase:SBL …". */
static const char *order_of(const struct plan *plan)
{
    static char text[4096];
    text[0] = '\0';
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct plan_step *s = &plan->steps[i];
        size_t n = strlen(text);
        if (s->action == PLAN_KEEP)
            continue;
        snprintf(text + n, sizeof(text) - n, "%s%s%s%s", n ? " " : "", plan_action_name(s->action),
                 *s->partition ? ":" : "", s->partition);
    }
    return text;
}

static const struct plan_step *find_step(const struct plan *plan, enum plan_action action,
                                         const char *partition)
{
    for (size_t i = 0; i < plan->n_steps; i++)
        if (plan->steps[i].action == action && strcmp(plan->steps[i].partition, partition) == 0)
            return &plan->steps[i];
    return NULL;
}

/* ---- rules 6 and 7 ---- */

static const char FULL_ORDER[] =
    "check erase:SBL erase:MIBIB write:MIBIB verify:MIBIB "
    "erase:sec erase:boot erase:recovery erase:modem erase:recoveryfs erase:usrdata erase:system erase:TZ "
    "write:TZ write:sec write:boot write:recovery write:modem write:recoveryfs write:usrdata write:system "
    "verify:TZ verify:sec verify:boot verify:recovery verify:modem verify:recoveryfs verify:usrdata "
    "verify:system "
    "write:SBL verify:SBL reset";

static void test_order(void **state)
{
    (void)state;
    struct plan_options o = plain_options();
    struct package *p = support_open(support_make("order.zip", "--size", "4M", "--vendor-tag", NULL));
    struct plan *plan = make_plan(p, &o);

    assert_string_equal(order_of(plan), FULL_ORDER);
    assert_true(plan->sbl_last);
    uint64_t bytes = 0;
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct plan_step *s = &plan->steps[i];
        if (s->action == PLAN_WRITE)
            bytes += s->pages * 4096;
        if (s->action == PLAN_WRITE || s->action == PLAN_VERIFY) {
            assert_int_equal(s->pages, (s->file->size + 4095) / 4096);
            assert_true(s->pages <= s->n_blocks * 64);
        }
        /* Every range ends with its own partition. */
        if (s->n_blocks > 0 && s->action != PLAN_KEEP) {
            const struct mibib_partition *own = mibib_find(&p->table, s->partition);
            assert_non_null(own);
            assert_int_equal(s->first_block, own->first_block);
            assert_int_equal(s->n_blocks, own->n_blocks);
        }
    }
    assert_int_equal(plan->bytes_to_write, bytes);

    /* What stays: unit data in front, misc behind. */
    static const char *const kept[] = {"EFS2", "sys_rev", "RAWDATA", "cust_info", "misc"};
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
        assert_int_equal(plan->steps[i].action, PLAN_KEEP);
        assert_string_equal(plan->steps[i].partition, kept[i]);
        assert_int_equal(plan->steps[i].unit_data, i < 4);
    }
    assert_string_equal(find_step(plan, PLAN_WRITE, "sec")->risk, "may blow fuses, cannot be undone");
    assert_string_equal(find_step(plan, PLAN_WRITE, "TZ")->risk, "");
    assert_true(*find_step(plan, PLAN_ERASE, "usrdata")->risk);
    plan_free(plan);

    o.reset = false;
    plan = make_plan(p, &o);
    assert_null(find_step(plan, PLAN_RESET, ""));
    plan_free(plan);
    support_close(p);
}

static void test_no_sbl(void **state)
{
    (void)state;
    struct plan_options o = plain_options();
    struct package *p = support_open(support_make("nosbl.zip", "--small", "--no-sbl", NULL));
    struct plan *plan = make_plan(p, &o);
    assert_false(plan->sbl_last);
    assert_true(*plan->sbl_note);
    assert_null(find_step(plan, PLAN_ERASE, "SBL"));
    plan_free(plan);
    support_close(p);

    /* An erase of sector 0 without an image for it is never sent. */
    p = support_open(support_make("nosbl2.zip", "--small", NULL));
    for (size_t i = 0; i < p->n_commands; i++)
        if (p->commands[i].kind == COMMAND_PROGRAM && p->commands[i].start == 0)
            p->commands[i] = p->commands[--p->n_commands];
    plan = make_plan(p, &o);
    assert_null(find_step(plan, PLAN_ERASE, "SBL"));
    assert_null(find_step(plan, PLAN_WRITE, "SBL"));
    assert_false(plan->sbl_last);
    plan_free(plan);
    support_close(p);
}

static struct package_command *command_at(struct package *p, int kind, uint64_t block)
{
    for (size_t i = 0; i < p->n_commands; i++)
        if ((int)p->commands[i].kind == kind && p->commands[i].start == block * 64 &&
            p->commands[i].kind != COMMAND_VENDOR)
            return &p->commands[i];
    return NULL;
}

static void remove_command(struct package *p, int kind, uint64_t block)
{
    struct package_command *c = command_at(p, kind, block);
    assert_non_null(c);
    memmove(c, c + 1, (size_t)(p->commands + p->n_commands - c - 1) * sizeof(*c));
    p->n_commands--;
}

static void test_missing_and_double_erase(void **state)
{
    (void)state;
    struct plan_options o = plain_options();
    struct package *p = support_open(support_make("erases.zip", "--small", NULL));

    /* TZ (block 77) is programmed and no longer erased: the plan erases it. */
    remove_command(p, COMMAND_ERASE, 77);
    struct plan *plan = make_plan(p, &o);
    const struct plan_step *s = find_step(plan, PLAN_ERASE, "TZ");
    assert_non_null(s);
    assert_int_equal(s->first_block, 77);
    assert_int_equal(s->n_blocks, 10);
    plan_free(plan);

    /* Two equal erases are one. */
    struct package_command *sec;
    p->commands = realloc(p->commands, (p->n_commands + 1) * sizeof(*p->commands));
    assert_non_null(p->commands);
    sec = command_at(p, COMMAND_ERASE, 87);
    p->commands[p->n_commands++] = *sec;
    plan = make_plan(p, &o);
    size_t erases = 0;
    for (size_t i = 0; i < plan->n_steps; i++)
        erases += plan->steps[i].action == PLAN_ERASE && plan->steps[i].first_block == 87;
    assert_int_equal(erases, 1);
    plan_free(plan);

    /* MIBIB erased and not written would leave a modem that never boots. */
    remove_command(p, COMMAND_PROGRAM, 10);
    struct error e = refused(p, &o);
    assert_int_equal(e.kind, ERROR_FIRMWARE_INVALID);
    assert_non_null(strstr(e.message, "MIBIB"));
    support_close(p);
}

static void test_bad_ranges(void **state)
{
    (void)state;
    struct plan_options o = plain_options();
    static const struct {
        int kind;
        uint64_t block, start, count;
        const char *text;
    } bad[] = {
        {COMMAND_ERASE, 87, 87 * 64 + 1, 256, "block borders"},
        {COMMAND_ERASE, 87, 87 * 64, 255, "block borders"},
        {COMMAND_ERASE, 87, 87 * 64, 0, "no length"},
        {COMMAND_ERASE, 87, 87 * 64, UINT64_MAX - 63, "beyond any chip"},
        {COMMAND_ERASE, 87, UINT64_MAX - 63, 256, "beyond any chip"},
        {COMMAND_ERASE, 87, 3000 * 64, 256, "beyond the chip"},
        {COMMAND_ERASE, 87, 87 * 64, 5 * 64, "over the end of sec"},
        {COMMAND_ERASE, 87, 86 * 64, 5 * 64, "over the end of TZ"},
        {COMMAND_PROGRAM, 87, 87 * 64, 5 * 64, "over the end of sec"},
        {COMMAND_ERASE, 87, 88 * 64, 3 * 64, "overlap"},
        {COMMAND_ERASE, 87, 80 * 64, 2 * 64, "overlap"},
        {COMMAND_PROGRAM, 87, 80 * 64, 2 * 64, "overlap"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct package *p = support_open(support_make("ranges.zip", "--small", NULL));
        struct package_command *c = command_at(p, bad[i].kind, bad[i].block);
        c->start = bad[i].start;
        c->count = bad[i].count;
        struct error e = refused(p, &o);
        assert_int_equal(e.kind, ERROR_FIRMWARE_INVALID);
        if (!strstr(e.message, bad[i].text))
            fail_msg("case %zu: \"%s\" instead of \"%s\"", i, e.message, bad[i].text);
        support_close(p);
    }
}

static void test_broken_package(void **state)
{
    (void)state;
    struct plan_options o = plain_options();
    struct package *p =
        support_open(support_make("noimage.zip", "--small", "--break", "missing-image", NULL));
    o.allow = ~0U;
    struct error e = refused(p, &o);
    assert_int_equal(e.kind, ERROR_FIRMWARE_INCOMPLETE);
    support_close(p);
}

/* ---- rule 2 ---- */

static void test_versions(void **state)
{
    (void)state;
    struct package *p = support_open(support_make("versions.zip", "--small", NULL));
    struct plan_options o = plain_options();
    struct plan *plan = make_plan(p, &o);
    assert_false(plan->version_proven);
    assert_string_equal(plan->matched_version, "");
    plan_free(plan);

    /* A confirmed version decides. */
    o.known_confirmed = true;
    o.known_version = "RM502QGLAAR11A01M4G_01.000.01.000";
    plan = make_plan(p, &o);
    assert_true(plan->version_proven);
    assert_string_equal(plan->matched_version, o.known_version);
    plan_free(plan);
    o.known_version = "RM502QGLAAR05A05M4G";
    struct error e = refused(p, &o);
    assert_int_equal(e.kind, ERROR_WRONG_FIRMWARE);
    assert_non_null(strstr(e.message, "baseline R11 instead of R05"));

    /* The user's word does not lift it, allow does. */
    o.modem_version = VERSION;
    assert_int_equal(refused(p, &o).kind, ERROR_WRONG_FIRMWARE);
    o.allow = ALLOW_WRONG_FIRMWARE;
    plan = make_plan(p, &o);
    assert_false(plan->version_proven);
    plan_free(plan);

    /* What a port remembers is a hint. */
    o = plain_options();
    o.known_version = "RM520NGLAAR01A08M4G";
    plan = make_plan(p, &o);
    assert_false(plan->version_proven);
    assert_int_equal(plan->n_notes, 1);
    plan_free(plan);

    /* The user's word has to agree with the package, and proves nothing. */
    o = plain_options();
    o.modem_version = "RM502QAEAAR11A02M4G";
    assert_int_equal(refused(p, &o).kind, ERROR_WRONG_FIRMWARE);
    o.modem_version = "RM502QGLAAR11A02M4G";
    plan = make_plan(p, &o);
    assert_false(plan->version_proven);
    assert_string_equal(plan->matched_version, o.modem_version);
    plan_free(plan);
    o.modem_version = "my modem";
    assert_int_equal(refused(p, &o).kind, ERROR_INVALID_ARGS);
    support_close(p);

    p = support_open(support_make("noname.zip", "--small", "--flat", NULL));
    o = plain_options();
    e = refused(p, &o);
    assert_int_equal(e.kind, ERROR_WRONG_FIRMWARE);
    assert_non_null(strstr(e.message, "--allow=WrongFirmware"));
    o.allow = ALLOW_WRONG_FIRMWARE;
    plan_free(make_plan(p, &o));
    support_close(p);
}

/* ---- rule 3 ---- */

static void test_vendor_check(void **state)
{
    (void)state;
    struct plan_options o = plain_options();
    struct package *p = support_open(support_make("vendor.zip", "--small", "--vendor-tag", NULL));
    struct plan *plan = make_plan(p, &o);
    const struct plan_step *s = NULL;
    for (size_t i = 0; i < plan->n_steps && !s; i++)
        if (plan->steps[i].action != PLAN_KEEP)
            s = &plan->steps[i];
    assert_int_equal(s->action, PLAN_CHECK_VENDOR);
    assert_string_equal(s->vendor.project_name, "RM502QGLAA");
    assert_int_equal(s->vendor.rawdata_start_sector, 72 * 64);
    assert_int_equal(s->vendor.rawdata_sectors, 5 * 64);
    assert_int_equal(s->vendor.sector_size, 4096);
    assert_int_equal(s->vendor.pages_per_block, 64);
    plan_free(plan);

    /* To a programmer that does not know it the tag is a whole-chip erase: never sent. */
    p->capabilities.vendor_check = false;
    plan = make_plan(p, &o);
    assert_null(find_step(plan, PLAN_CHECK_VENDOR, ""));
    assert_int_equal(plan->n_notes, 1);
    plan_free(plan);

    /* Neither is one that names no project. */
    p->capabilities.vendor_check = true;
    for (size_t i = 0; i < p->n_commands; i++)
        p->commands[i].vendor.project_name[0] = '\0';
    plan = make_plan(p, &o);
    assert_null(find_step(plan, PLAN_CHECK_VENDOR, ""));
    plan_free(plan);
    support_close(p);
}

/* ---- rule 4 ---- */

static void test_unit_data(void **state)
{
    (void)state;
    static const char *const kinds[] = {"efs2", "factory"};
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct plan_options o = plain_options();
        struct package *p = support_open(support_make("unit.zip", "--small", "--break", kinds[i], NULL));
        assert_int_equal(p->n_problems, 0);
        assert_int_equal(p->factory_only, i == 1);
        struct error e = refused(p, &o);
        assert_int_equal(e.kind, ERROR_ERASE_CALIBRATION);
        assert_non_null(strstr(e.message, "EFS2"));
        assert_non_null(strstr(e.message, "--allow=EraseCalibration"));
        o.allow = ~(unsigned)ALLOW_ERASE_CALIBRATION;
        assert_int_equal(refused(p, &o).kind, ERROR_ERASE_CALIBRATION);
        o.allow = ALLOW_ERASE_CALIBRATION;
        struct plan *plan = make_plan(p, &o);
        const struct plan_step *s = find_step(plan, PLAN_ERASE, "EFS2");
        assert_true(s->unit_data && *s->risk);
        assert_null(find_step(plan, PLAN_KEEP, "EFS2"));
        plan_free(plan);
        support_close(p);
    }

    /* Each of the four, and by any table: here one that was recorded, while the package's knows nothing of
     * it. */
    static const struct {
        uint64_t block;
        const char *name;
    } unit[] = {{20, "EFS2"}, {64, "sys_rev"}, {72, "RAWDATA"}, {91, "cust_info"}};
    for (size_t i = 0; i < ARRAY_SIZE(unit); i++) {
        struct plan_options o = plain_options();
        struct package *p = support_open(support_make("unit.zip", "--small", NULL));
        struct mibib_table recorded = p->table;
        struct package_command *c = command_at(p, COMMAND_ERASE, 87);
        c->start = unit[i].block * 64;
        c->count = 64;
        struct error e = refused(p, &o);
        assert_int_equal(e.kind, ERROR_ERASE_CALIBRATION);
        assert_non_null(strstr(e.message, unit[i].name));

        for (size_t k = 0; k < p->table.n_partitions; k++)
            snprintf(p->table.partitions[k].name, MIBIB_NAME_SIZE, "P%hu", (unsigned short)k);
        remove_command(p, COMMAND_ERASE, 10);
        remove_command(p, COMMAND_PROGRAM, 10);
        struct mibib_table several[] = {p->table, recorded, p->table};
        for (size_t at = 0; at < 3; at++) {
            const struct mibib_tables any = {several + at, at < 2 ? 2 : 1};
            o.recorded = &any;
            if (at == 2) {
                plan_free(make_plan(p, &o));
                continue;
            }
            e = refused(p, &o);
            assert_int_equal(e.kind, ERROR_ERASE_CALIBRATION);
            assert_non_null(strstr(e.message, "recorded for this unit"));
        }
        support_close(p);
    }
}

/* ---- gate 2 ---- */

struct judged {
    struct package *p;
    struct plan *plan;
    struct plan_options options;
    struct mibib_table modem;
    struct nand_geometry geometry;
};

static struct judged judge_begin(const char *break_kind)
{
    struct judged j = {.options = plain_options(), .geometry = chip};
    struct package *whole = support_open(support_make("modem.zip", "--small", NULL));
    j.modem = whole->table;
    support_close(whole);
    j.p = support_open(break_kind ? support_make("judge.zip", "--small", "--break", break_kind, NULL)
                                  : support_make("judge.zip", "--small", NULL));
    j.plan = make_plan(j.p, &j.options);
    return j;
}

static int judge(struct judged *j, const struct nand_map *map, struct error *e)
{
    *e = (struct error){0};
    return plan_judge(j->plan, j->p, &j->options, &j->geometry, &j->modem, map, e);
}

static void judge_end(struct judged *j)
{
    plan_free(j->plan);
    support_close(j->p);
}

static void test_judge_equal_table(void **state)
{
    (void)state;
    struct error e;
    struct judged j = judge_begin(NULL);
    uint8_t digest[SHA256_SIZE];
    uint64_t bytes = j.plan->bytes_to_write;

    memcpy(digest, j.plan->digest, sizeof(digest));
    assert_int_equal(judge(&j, NULL, &e), 0);
    assert_string_equal(order_of(j.plan),
                        "erase:SBL erase:sec erase:TZ write:TZ write:sec verify:TZ verify:sec write:SBL "
                        "verify:SBL reset");
    assert_int_equal(j.plan->bytes_to_write, bytes - 4 * 4096);
    assert_non_null(find_step(j.plan, PLAN_KEEP, "MIBIB"));
    /* A journal of the same plan stays valid although MIBIB is written now. */
    assert_memory_equal(j.plan->digest, digest, sizeof(digest));
    judge_end(&j);

    /* Another table, and none at all: MIBIB is written. */
    j = judge_begin(NULL);
    snprintf(j.modem.partitions[11].name, MIBIB_NAME_SIZE, "other");
    assert_int_equal(judge(&j, NULL, &e), 0);
    assert_non_null(find_step(j.plan, PLAN_WRITE, "MIBIB"));
    judge_end(&j);
    j = judge_begin(NULL);
    assert_int_equal(plan_judge(j.plan, j.p, &j.options, &chip, NULL, NULL, &e), 0);
    assert_non_null(find_step(j.plan, PLAN_WRITE, "MIBIB"));
    judge_end(&j);

    /* A table that grows to the end is the one that ends there. */
    j = judge_begin(NULL);
    j.modem.partitions[14].grows = true;
    j.modem.partitions[14].n_blocks = 0;
    assert_int_equal(judge(&j, NULL, &e), 0);
    assert_null(find_step(j.plan, PLAN_WRITE, "MIBIB"));
    judge_end(&j);
}

/* A table that may have been cut by power stays in the plan, whatever it says. */
static void test_judge_doubtful_table(void **state)
{
    (void)state;
    struct error e;
    for (unsigned i = 0; i < 3; i++) {
        struct judged j = judge_begin(NULL);
        uint64_t bytes = j.plan->bytes_to_write;
        if (i == 0) /* page 3 is not there */
            j.modem.crc_present = j.modem.crc_valid = false;
        else if (i == 1)
            j.modem.crc_valid = false;
        else
            j.options.mibib_begun = true;
        assert_int_equal(judge(&j, NULL, &e), 0);
        assert_non_null(find_step(j.plan, PLAN_ERASE, "MIBIB"));
        assert_non_null(find_step(j.plan, PLAN_WRITE, "MIBIB"));
        assert_non_null(find_step(j.plan, PLAN_VERIFY, "MIBIB"));
        assert_int_equal(j.plan->bytes_to_write, bytes);
        judge_end(&j);
    }
}

/* One modem's table takes MIBIB out of the plan; for the next modem it is there again. */
static void test_judge_again(void **state)
{
    (void)state;
    struct error e;
    struct judged j = judge_begin(NULL);
    size_t steps = j.plan->n_steps;
    uint64_t bytes = j.plan->bytes_to_write;
    struct mibib_table equal = j.modem;

    assert_int_equal(judge(&j, NULL, &e), 0);
    assert_null(find_step(j.plan, PLAN_WRITE, "MIBIB"));
    assert_true(j.plan->mibib_kept);
    snprintf(j.modem.partitions[11].name, MIBIB_NAME_SIZE, "other");
    assert_int_equal(judge(&j, NULL, &e), 0);
    assert_string_equal(
        order_of(j.plan),
        "erase:SBL erase:MIBIB write:MIBIB verify:MIBIB erase:sec erase:TZ write:TZ write:sec "
        "verify:TZ verify:sec write:SBL verify:SBL reset");
    assert_int_equal(j.plan->bytes_to_write, bytes);
    assert_false(j.plan->mibib_kept);
    assert_int_equal(j.plan->n_notes - j.plan->made.n_notes, 2); /* one partition goes, one is new */
    j.modem = equal;
    assert_int_equal(judge(&j, NULL, &e), 0);
    assert_null(find_step(j.plan, PLAN_WRITE, "MIBIB"));
    assert_int_equal(plan_unjudge(j.plan), 0);
    assert_int_equal(j.plan->n_steps, steps);
    assert_false(j.plan->mibib_kept);
    judge_end(&j);
}

/* What is written as MIBIB is a partition image, known by what is in it, and it goes nowhere else. */
static void test_table_image(void **state)
{
    (void)state;
    struct error e;
    struct plan_options o = plain_options();
    struct judged j = judge_begin("nameless-table");
    assert_true(j.p->table_known);
    assert_string_equal(j.p->partition_image->path, "update/firehose/table.mbn");
    assert_int_equal(judge(&j, NULL, &e), 0);
    assert_null(find_step(j.plan, PLAN_WRITE, "MIBIB"));
    /* Without what it says nobody knows where it puts EFS2. */
    j.p->table_known = false;
    j.p->partition_image = NULL;
    assert_int_equal(judge(&j, NULL, &e), -EPERM);
    assert_int_equal(e.kind, ERROR_ERASE_CALIBRATION);
    assert_non_null(strstr(e.message, "cannot be read"));
    j.options.allow = ALLOW_ERASE_CALIBRATION;
    assert_int_equal(judge(&j, NULL, &e), -EBADMSG);
    assert_non_null(strstr(e.message, "where the partition table lies, and it is none"));
    judge_end(&j);

    j = judge_begin("nameless-table");
    j.p->table.crc_valid = false;
    assert_int_equal(judge(&j, NULL, &e), -EBADMSG);
    assert_int_equal(e.kind, ERROR_FIRMWARE_INVALID);
    assert_non_null(strstr(e.message, "no whole partition table"));
    judge_end(&j);

    j = judge_begin("nameless-moved-efs2");
    assert_int_equal(judge(&j, NULL, &e), -EPERM);
    assert_int_equal(e.kind, ERROR_ERASE_CALIBRATION);
    assert_non_null(strstr(e.message, "moves EFS2"));
    judge_end(&j);

    j = judge_begin("not-a-table");
    assert_null(j.p->partition_image);
    assert_int_equal(judge(&j, NULL, &e), -EBADMSG);
    assert_int_equal(e.kind, ERROR_FIRMWARE_INVALID);
    judge_end(&j);

    struct package *p =
        support_open(support_make("elsewhere.zip", "--small", "--break", "table-elsewhere", NULL));
    assert_int_equal(p->n_problems, 0);
    e = refused(p, &o);
    assert_int_equal(e.kind, ERROR_FIRMWARE_INVALID);
    assert_non_null(strstr(e.message, "belongs into MIBIB"));
    support_close(p);
}

static void test_judge_tables(void **state)
{
    (void)state;
    struct error e;

    /* The modem's own table protects what the package's does not know. */
    struct judged j = judge_begin(NULL);
    snprintf(j.modem.partitions[6].name, MIBIB_NAME_SIZE, "cust_info");
    snprintf(j.modem.partitions[7].name, MIBIB_NAME_SIZE, "gap");
    size_t steps = j.plan->n_steps;
    assert_int_equal(judge(&j, NULL, &e), -EPERM);
    assert_int_equal(e.kind, ERROR_ERASE_CALIBRATION);
    assert_int_equal(j.plan->n_steps, steps);
    judge_end(&j);

    /* A range that straddles a partition of the modem. */
    j = judge_begin(NULL);
    j.modem.partitions[5].n_blocks = 5; /* TZ 77 to 81, a gap behind it */
    assert_int_equal(judge(&j, NULL, &e), -EPERM);
    assert_int_equal(e.kind, ERROR_ERASE_CALIBRATION);
    assert_non_null(strstr(e.message, "straddle TZ"));
    j.options.allow = ALLOW_ERASE_CALIBRATION;
    assert_int_equal(judge(&j, NULL, &e), 0);
    judge_end(&j);

    /* One of a layout that it had once is cut by every other one; what only the unit has counts there, too.
     */
    j = judge_begin(NULL);
    struct mibib_table once = j.modem;
    once.partitions[5].n_blocks = 5;
    once.partitions[0].n_blocks += 2; /* SBL */
    const struct mibib_tables recorded = {&once, 1};
    j.options.recorded = &recorded;
    assert_int_equal(judge(&j, NULL, &e), 0);
    judge_end(&j);
    j = judge_begin(NULL);
    snprintf(once.partitions[5].name, MIBIB_NAME_SIZE, "EFS2");
    j.options.recorded = &recorded;
    assert_int_equal(judge(&j, NULL, &e), -EPERM);
    assert_int_equal(e.kind, ERROR_ERASE_CALIBRATION);
    judge_end(&j);

    /* A new table that puts EFS2 elsewhere loses it without erasing it. */
    j = judge_begin("moved-efs2");
    assert_int_equal(judge(&j, NULL, &e), -EPERM);
    assert_int_equal(e.kind, ERROR_ERASE_CALIBRATION);
    assert_non_null(strstr(e.message, "moves EFS2"));
    judge_end(&j);

    /* No table anywhere: nobody knows. */
    j = judge_begin(NULL);
    j.p->table_known = false;
    assert_int_equal(plan_judge(j.plan, j.p, &j.options, &chip, NULL, NULL, &e), -EPERM);
    assert_int_equal(e.kind, ERROR_ERASE_CALIBRATION);
    judge_end(&j);
}

static bool has_note(const struct plan *plan, const char *text)
{
    for (size_t i = 0; i < plan->n_notes; i++)
        if (strstr(plan->notes[i], text))
            return true;
    return false;
}

/* What the package's table moves: offline by what was recorded of the unit, and once only if the modem says
 * the same. */
static void test_moves(void **state)
{
    (void)state;
    static const char *const move = "usrdata from blocks 822-1221 to 832-1221";
    struct error e;
    struct judged j = judge_begin("other-table");
    struct plan *offline = NULL;
    assert_string_equal(j.plan->moves, "");
    /* What was recorded last is what the unit has now. */
    struct mibib_table recorded[] = {j.p->table, j.modem};
    const struct mibib_tables both = {recorded, 2};
    j.options.recorded = &both;
    assert_int_equal(plan_new(j.p, &j.options, &offline, &e), 0);
    assert_true(has_note(offline, move));
    assert_non_null(strstr(offline->moves, move));
    assert_string_equal(find_step(offline, PLAN_KEEP, "usrdata")->risk,
                        "moves from blocks 822-1221 to 832-1221, its data do not");
    size_t n = offline->n_notes;
    assert_int_equal(plan_judge(offline, j.p, &j.options, &j.geometry, &j.modem, NULL, &e), 0);
    assert_int_equal(offline->n_notes, n);
    plan_free(offline);

    assert_int_equal(judge(&j, NULL, &e), 0);
    assert_true(has_note(j.plan, move));

    /* One that goes, one that is new, and more than fit. */
    char text[96];
    snprintf(j.modem.partitions[13].name, sizeof(j.modem.partitions[13].name), "oemdata");
    plan_list_moves(&j.modem, &j.p->table, 2048, text, sizeof(text));
    assert_string_equal(text, "recoveryfs from blocks 662-821 to 662-831, and 2 more");
    assert_int_equal(judge(&j, NULL, &e), 0);
    assert_true(has_note(j.plan, "oemdata (blocks 822-1221) is not there any more"));
    assert_true(has_note(j.plan, "usrdata is new (blocks 832-1221)"));
    /* What is kept, and not found any more. */
    assert_string_equal(find_step(j.plan, PLAN_KEEP, "oemdata")->risk,
                        "is not there any more: the new partition table does not have it");
    assert_string_equal(find_step(j.plan, PLAN_KEEP, "recoveryfs")->risk, ""); /* it only grows */
    assert_string_equal(find_step(j.plan, PLAN_KEEP, "EFS2")->risk, "");
    judge_end(&j);

    /* Equal, and not written: nothing moves. */
    j = judge_begin(NULL);
    assert_int_equal(judge(&j, NULL, &e), 0);
    assert_string_equal(j.plan->moves, "");
    judge_end(&j);
}

static void test_judge_geometry(void **state)
{
    (void)state;
    static const struct {
        struct nand_geometry geometry;
        bool lifted; /* by allow */
    } wrong[] = {
        {{2048, 64, 2048}, false}, {{4096, 128, 2048}, false}, {{4096, 64, 80}, false},
        {{4096, 64, 4096}, true},  {{4096, 64, 1024}, true},
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        struct error e;
        struct judged j = judge_begin(NULL);
        j.geometry = wrong[i].geometry;
        assert_int_equal(judge(&j, NULL, &e), -EPERM);
        assert_int_equal(e.kind, ERROR_GEOMETRY_DIFFERS);
        assert_int_equal(strstr(e.message, "--allow=GeometryDiffers") != NULL, wrong[i].lifted);
        j.options.allow = ALLOW_GEOMETRY_DIFFERS;
        assert_int_equal(judge(&j, NULL, &e), wrong[i].lifted ? 0 : -EPERM);
        judge_end(&j);
    }
}

static void test_judge_bad_blocks(void **state)
{
    (void)state;
    struct error e;
    struct judged j = judge_begin(NULL);
    struct nand_map map;
    assert_int_equal(nand_map_init(&map, chip.blocks), 0);
    /* tz.mbn needs one of the ten blocks of TZ. */
    for (uint64_t block = 77; block < 86; block++)
        nand_map_set(&map, block, true);
    assert_int_equal(judge(&j, &map, &e), 0);
    judge_end(&j);

    j = judge_begin(NULL);
    nand_map_set(&map, 86, true);
    assert_int_equal(judge(&j, &map, &e), -EBADMSG);
    assert_int_equal(e.kind, ERROR_FIRMWARE_INVALID);
    assert_non_null(strstr(e.message, "update/tz.mbn needs 1 blocks, TZ has 10 of which 10 are bad"));
    nand_map_done(&map);
    judge_end(&j);
}

/* ---- the rest ---- */

static void test_digest(void **state)
{
    (void)state;
    struct plan_options o = plain_options();
    struct package *p = support_open(support_make("digest.zip", "--small", NULL));
    struct plan *a = make_plan(p, &o), *b = make_plan(p, &o);
    assert_memory_equal(a->digest, b->digest, SHA256_SIZE);
    plan_free(b);
    p->files[(size_t)(package_find(p, "update/tz.mbn") - p->files)].sha256[0] ^= 1;
    b = make_plan(p, &o);
    assert_memory_not_equal(a->digest, b->digest, SHA256_SIZE);
    plan_free(b);
    plan_free(a);
    support_close(p);
}

static void test_allow(void **state)
{
    (void)state;
    unsigned allow = 77;
    struct error e = {0};
    assert_int_equal(plan_parse_allow("", &allow, &e), 0);
    assert_int_equal(allow, 0);
    assert_int_equal(plan_parse_allow(NULL, &allow, &e), 0);
    assert_int_equal(plan_parse_allow("WrongFirmware,EraseCalibration", &allow, &e), 0);
    assert_int_equal(allow, ALLOW_WRONG_FIRMWARE | ALLOW_ERASE_CALIBRATION);
    static const char *const bad[] = {
        "Everything",    "WrongFirmware,", ",",        "WrongFirmware, WrongUnit",
        "wrongfirmware", "ModemBusy",      "WrongFirm"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        allow = 77;
        assert_int_equal(plan_parse_allow(bad[i], &allow, &e), -EINVAL);
        assert_int_equal(e.kind, ERROR_INVALID_ARGS);
        assert_int_equal(allow, 77);
    }
}

struct printed {
    size_t records, steps;
    bool summary, saved;
    char firmware[64], bytes[32], last_action[16], sbl_last[4];
};

static int on_field(void *userdata, const char *key, const char *value)
{
    struct printed *x = userdata;
    if (strcmp(key, "KIND") == 0)
        x->summary = x->records == 0 && strcmp(value, "summary") == 0;
    else if (strcmp(key, "FIRMWARE") == 0)
        snprintf(x->firmware, sizeof(x->firmware), "%s", value);
    else if (strcmp(key, "BYTES") == 0 && x->records == 0)
        snprintf(x->bytes, sizeof(x->bytes), "%s", value);
    else if (strcmp(key, "SBL_LAST") == 0)
        snprintf(x->sbl_last, sizeof(x->sbl_last), "%s", value);
    else if (strcmp(key, "BACKUP") == 0)
        x->saved = strcmp(value, "partitions") == 0;
    else if (strcmp(key, "ACTION") == 0)
        snprintf(x->last_action, sizeof(x->last_action), "%s", value);
    return 0;
}

static int on_record(void *userdata)
{
    ((struct printed *)userdata)->records++;
    return 0;
}

static void test_print(void **state)
{
    (void)state;
    struct plan_options o = plain_options();
    struct package *p = support_open(support_make("print.zip", "--small", NULL));
    struct plan *plan = make_plan(p, &o);
    struct printed x = {0};
    char bytes[32];
    char *text = plan_print(plan, p, "partitions", "ACTION=save\nPARTITION=EFS2\n\n");

    assert_non_null(text);
    assert_int_equal(link_parse_text(text, strlen(text), on_field, on_record, &x, NULL), 0);
    assert_int_equal(x.records, 2 + plan->n_steps);
    assert_true(x.summary && x.saved);
    assert_string_equal(x.firmware, p->id);
    snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)plan->bytes_to_write);
    assert_string_equal(x.bytes, bytes);
    assert_string_equal(x.sbl_last, "1");
    assert_string_equal(x.last_action, "reset");
    free(text);
    plan_free(plan);
    support_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_no_sbl),
        cmocka_unit_test(test_missing_and_double_erase),
        cmocka_unit_test(test_bad_ranges),
        cmocka_unit_test(test_broken_package),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_vendor_check),
        cmocka_unit_test(test_unit_data),
        cmocka_unit_test(test_judge_equal_table),
        cmocka_unit_test(test_judge_doubtful_table),
        cmocka_unit_test(test_judge_again),
        cmocka_unit_test(test_table_image),
        cmocka_unit_test(test_judge_tables),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_judge_geometry),
        cmocka_unit_test(test_judge_bad_blocks),
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_allow),
        cmocka_unit_test(test_print),
    };
    return cmocka_run_group_tests(tests, support_setup, support_teardown);
}
