/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* import, verify and plan as the service sees them: what goes over the link, and what a job comes back with.
 */

#include <sys/socket.h>

#include "../firmware/support.h"
#include "worker/worker.h"

enum { TEXT_SIZE = 32768 };

struct service {
    struct worker w;
    struct job_outcome outcome;
    int ends[2];
    char heard[TEXT_SIZE]; /* KEY=value lines */
    char *plan;
};

static void begin(struct service *s, struct worker_option *options, size_t n)
{
    memset(s, 0, sizeof(*s));
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s->ends), 0);
    worker_init(&s->w, s->ends[1]);
    s->outcome.result = "done";
    s->w.options = calloc(n + 1, sizeof(*s->w.options));
    for (size_t i = 0; i < n; i++)
        s->w.options[s->w.n_options++] =
            (struct worker_option){.name = strdup(options[i].name), .value = strdup(options[i].value)};
}

/* Everything that the job said. */
static void listen_to(struct service *s)
{
    static struct link_message m;
    while (link_receive(s->ends[0], MSG_DONTWAIT, link_keys_from_worker, &m) > 0)
        for (size_t i = 0; i < m.n_fields; i++) {
            size_t n = strlen(s->heard), size;
            snprintf(s->heard + n, sizeof(s->heard) - n, "%s=%s\n", m.fields[i].key, m.fields[i].value);
            if (strcmp(m.fields[i].key, KEY_PLAN) == 0) {
                int fd = link_steal_fd(&m);
                assert_int_equal(io_memfd_check(fd, 1024 * 1024), 0);
                assert_int_equal(io_read_file(fd, 1024 * 1024, &s->plan, &size), 0);
                close(fd);
            }
        }
    link_message_done(&m);
}

static void expect(const struct service *s, const char *line)
{
    if (!strstr(s->heard, line))
        fail_msg("\"%s\" was not told, but:\n%s", line, s->heard);
}

static void end(struct service *s)
{
    worker_done(&s->w);
    close(s->ends[0]);
    close(s->ends[1]);
    free(s->plan);
}

static int import(struct service *s, int archive, int store)
{
    s->w.fd_archive = archive;
    s->w.fd_store = dup(store);
    int r = job_import(&s->w, &s->outcome);
    listen_to(s);
    return r;
}

static void test_import(void **state)
{
    (void)state;
    struct service s;
    int store = support_store();
    begin(&s, NULL, 0);
    assert_int_equal(import(&s, support_make("import.zip", "--small", NULL), store), 0);
    expect(&s, "READY=1\n");
    expect(&s, "PHASE=spool\n");
    expect(&s, "PHASE=check\n");
    expect(&s, "FIRMWARE.name=" VERSION "\n");
    expect(
        &s,
        "FIRMWARE.model=RM502QGL\nFIRMWARE.prefix=RM502QGLAA\nFIRMWARE.baseline=R11\nFIRMWARE.release=A02\n"
        "FIRMWARE.memory=M4G\nFIRMWARE.edition=01.001.01.001\nFIRMWARE.chip=SDX55\nFIRMWARE.geometry=p4K_"
        "b256K\n"
        "FIRMWARE.programmer=prog_firehose_sdx55.mbn\nFIRMWARE.factory=0\n");
    expect(&s, "LOG=md5.txt lists upgrade/targetfiles.zip");
    assert_null(strstr(s.heard, "PROBLEM="));
    end(&s);

    /* What came into the library can be verified and planned. */
    struct package *p;
    struct error e = {0};
    assert_int_equal(package_open(store, NULL, &p, &e), 0);
    struct worker_option id = {(char *)(uintptr_t) "id", p->id};
    begin(&s, &id, 1);
    s.w.fd_store = dup(store);
    assert_int_equal(job_verify(&s.w, &s.outcome), 0);
    listen_to(&s);
    expect(&s, "FIRMWARE.chip=SDX55\n");
    end(&s);

    /* What is in it is told by its bytes alone: no word of what its XML says. */
    struct worker_option content = {(char *)(uintptr_t) "type", (char *)(uintptr_t) "content"};
    char line[64];
    begin(&s, &content, 1);
    s.w.fd_store = dup(store);
    assert_int_equal(job_verify(&s.w, &s.outcome), 0);
    listen_to(&s);
    snprintf(line, sizeof(line), "FIRMWARE.id=%s\n", p->id);
    expect(&s, line);
    assert_null(strstr(s.heard, "FIRMWARE.name"));
    assert_null(strstr(s.heard, "FIRMWARE.chip"));
    end(&s);

    /* Not under another id, and not with a byte turned, even in a file that no command refers to. */
    struct worker_option wrong = {(char *)(uintptr_t) "id",
                                  (char *)(uintptr_t) "00000000000000000000000000000000"};
    begin(&s, &wrong, 1);
    s.w.fd_store = dup(store);
    assert_int_equal(job_verify(&s.w, &s.outcome), -EBADMSG);
    assert_int_equal(s.outcome.error.kind, ERROR_DIGEST_MISMATCH);
    end(&s);
    const struct package_file *table = package_find(p, "update/partition_nand.xml");
    assert_int_equal(io_pwrite_full(store, "X", 1, table->offset + 50), 0);
    begin(&s, &id, 1);
    s.w.fd_store = dup(store);
    assert_int_equal(job_verify(&s.w, &s.outcome), -EBADMSG);
    assert_int_equal(s.outcome.error.kind, ERROR_DIGEST_MISMATCH);
    assert_non_null(strstr(s.outcome.error.message, "update/partition_nand.xml"));
    end(&s);
    begin(&s, &content, 1);
    s.w.fd_store = dup(store);
    assert_int_equal(job_verify(&s.w, &s.outcome), -EBADMSG);
    assert_int_equal(s.outcome.error.kind, ERROR_DIGEST_MISMATCH);
    end(&s);
    support_close(p);
}

static void test_import_refused(void **state)
{
    (void)state;
    static const struct {
        const char *kind;
        enum error_kind error;
        const char *problem;
    } broken[] = {
        {"missing-image", ERROR_FIRMWARE_INCOMPLETE, "PROBLEM=update/tz.mbn is missing"},
        {"wrong-md5", ERROR_FIRMWARE_INVALID, "PROBLEM=update/tz.mbn does not match md5.txt"},
        {"symlink", ERROR_FIRMWARE_INVALID, "PROBLEM=link is a symbolic link"},
        {"many-entries", ERROR_TOO_LARGE, NULL},
        {"truncated", ERROR_FIRMWARE_INVALID, NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
        struct service s;
        int store = support_store();
        begin(&s, NULL, 0);
        assert_true(
            import(&s, support_make("broken.zip", "--small", "--break", broken[i].kind, NULL), store) < 0);
        assert_int_equal(s.outcome.error.kind, broken[i].error);
        if (broken[i].problem)
            expect(&s, broken[i].problem);
        end(&s);
        close(store);
    }

    struct worker_option digest = {
        (char *)(uintptr_t) "sha256",
        (char *)(uintptr_t) "0000000000000000000000000000000000000000000000000000000000000000"};
    struct service s;
    int store = support_store();
    begin(&s, &digest, 1);
    assert_int_equal(import(&s, support_make("import.tar", "--small", NULL), store), -EBADMSG);
    assert_int_equal(s.outcome.error.kind, ERROR_DIGEST_MISMATCH);
    end(&s);

    /* A cancel that came before: nothing is told as done. */
    begin(&s, NULL, 0);
    s.w.cancel = true;
    assert_int_equal(import(&s, support_make("import.tar", "--small", NULL), store), -ECANCELED);
    assert_int_equal(s.outcome.error.kind, ERROR_CANCELLED);
    assert_null(strstr(s.heard, "FIRMWARE."));
    end(&s);
    close(store);
}

static int plan(struct service *s, int store, int recorded)
{
    s->w.fd_package = dup(store);
    s->w.fd_recorded = recorded;
    int r = job_plan(&s->w, &s->outcome);
    listen_to(s);
    return r;
}

static void test_plan(void **state)
{
    (void)state;
    struct service s;
    int store = support_import(support_make("plan.zip", "--small", NULL), NULL, NULL, NULL);
    begin(&s, NULL, 0);
    assert_int_equal(plan(&s, store, -1), 0);
    expect(&s, "READY=1\nPLAN=1\n");
    assert_non_null(strstr(s.plan, "KIND=summary\n"));
    assert_non_null(strstr(s.plan, "ACTION=erase\nPARTITION=SBL\nFIRST_BLOCK=0\nBLOCKS=10\n"));
    /* What is saved first stands before everything else, by name. */
    const char *efs2 =
        strstr(s.plan, "ACTION=save\nPARTITION=EFS2\nFIRST_BLOCK=20\nBLOCKS=44\nBYTES=11534336\n"
                       "RISK=only this unit has it\n");
    assert_non_null(efs2);
    assert_true(efs2 < strstr(s.plan, "ACTION=erase"));
    assert_non_null(strstr(s.plan, "ACTION=save\nPARTITION=SBL\n"));
    assert_non_null(strstr(s.plan, "BACKUP=partitions-or-chip\n"));
    end(&s);

    struct worker_option known[] = {
        {(char *)(uintptr_t) "known-version", (char *)(uintptr_t) "RM520NGLAAR01A08M4G"},
        {(char *)(uintptr_t) "known-confirmed", (char *)(uintptr_t) "1"},
        {(char *)(uintptr_t) "allow", (char *)(uintptr_t) "WrongFirmware"},
    };
    begin(&s, known, 2);
    assert_int_equal(plan(&s, store, -1), -EPERM);
    assert_int_equal(s.outcome.error.kind, ERROR_WRONG_FIRMWARE);
    assert_null(strstr(s.heard, "READY=1"));
    end(&s);
    begin(&s, known, 3);
    assert_int_equal(plan(&s, store, -1), 0);
    end(&s);

    /* A table recorded for this unit protects; one that cannot be read is no reason to go on. */
    static const char table[] = "NAME=SBL\nFIRST=0\nBLOCKS=10\n\nNAME=EFS2\nFIRST=77\nBLOCKS=4\n";
    begin(&s, NULL, 0);
    assert_int_equal(plan(&s, store, io_memfd_sealed("recorded", table, strlen(table))), -EPERM);
    assert_int_equal(s.outcome.error.kind, ERROR_ERASE_CALIBRATION);
    end(&s);
    begin(&s, NULL, 0);
    assert_int_equal(plan(&s, store, io_memfd_sealed("recorded", "garbage\n", 8)), -EPERM);
    assert_int_equal(s.outcome.error.kind, ERROR_ERASE_CALIBRATION);
    end(&s);
    struct worker_option allowed = {(char *)(uintptr_t) "allow", (char *)(uintptr_t) "EraseCalibration"};
    begin(&s, &allowed, 1);
    assert_int_equal(plan(&s, store, io_memfd_sealed("recorded", "garbage\n", 8)), 0);
    assert_non_null(strstr(s.plan, "BACKUP=chip\n"));
    assert_null(strstr(s.plan, "ACTION=save\n"));
    end(&s);

    /* Of several each one counts, and where it has the unit's data is saved. */
    static const char *const several[] = {
        "NAME=SBL\nFIRST=0\nBLOCKS=10\n\nNAME=EFS2\nFIRST=77\nBLOCKS=4\n\n\n"
        "NAME=SBL\nFIRST=0\nBLOCKS=10\n\nNAME=EFS2\nFIRST=20\nBLOCKS=44\n",
        "NAME=SBL\nFIRST=0\nBLOCKS=10\n\nNAME=EFS2\nFIRST=20\nBLOCKS=44\n\n\n"
        "NAME=SBL\nFIRST=0\nBLOCKS=10\n\nNAME=EFS2\nFIRST=77\nBLOCKS=4\n",
    };
    for (size_t i = 0; i < ARRAY_SIZE(several); i++) {
        begin(&s, NULL, 0);
        assert_int_equal(plan(&s, store, io_memfd_sealed("recorded", several[i], strlen(several[i]))),
                         -EPERM);
        assert_int_equal(s.outcome.error.kind, ERROR_ERASE_CALIBRATION);
        end(&s);
        begin(&s, &allowed, 1);
        assert_int_equal(plan(&s, store, io_memfd_sealed("recorded", several[i], strlen(several[i]))), 0);
        assert_non_null(strstr(s.plan, "FIRST_BLOCK=20\nBLOCKS=44\n"));
        assert_non_null(strstr(s.plan, "FIRST_BLOCK=77\nBLOCKS=4\n"));
        end(&s);
    }
    close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_import),
        cmocka_unit_test(test_import_refused),
        cmocka_unit_test(test_plan),
    };
    return cmocka_run_group_tests(tests, support_setup, support_teardown);
}
