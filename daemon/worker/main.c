/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * qdld-worker: one job, then the end, or the life of a holder. Started by the service with the link at
 * LINK_WORKER_FD and nothing else; it says which build it is, loads what needs files, locks itself in, and
 * only then takes a job.
 */

#include <errno.h>
#include <iconv.h>
#include <linux/close_range.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "base/digest.h"
#include "build-id.h"
#include "firmware/package.h"
#include "worker/sandbox.h"
#include "worker/session.h"

enum { MEMORY_MAX = 192 * 1024 * 1024 /* what a 7z import may take; everything else needs far less */ };

static const struct {
    const char *name;
    worker_job run;
} jobs[] = {
    {"import", job_import},     {"verify", job_verify},     {"plan", job_plan},
    {"flash", job_flash},       {"identify", job_identify}, {"reset", job_reset},
    {"backup", job_backup},     {"restore", job_restore},   {"enter-edl", job_enter_edl},
    {"identity", job_identity}, {"catch", job_catch},
};

/* SIGTERM is a STOP: every wait in the process listens to the link, and hears that it ended (worker.c goes on
 * from there). */
static void on_sigterm(int signal_number _unused_)
{
    int saved = errno;
    shutdown(LINK_WORKER_FD, SHUT_RD);
    errno = saved;
}

static int set_signals(void)
{
    struct sigaction term = {.sa_handler = on_sigterm, .sa_flags = SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    /* A file that grows beyond its limit is an error of the write (EFBIG), not the end of the process. */
    const int ignored[] = {SIGPIPE, SIGXFSZ, SIGINT, SIGHUP};
    for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
        if (sigaction(ignored[i], &ignore, NULL) < 0)
            return -errno;
    return sigaction(SIGTERM, &term, NULL) < 0 ? -errno : 0;
}

/* Everything that would look for a file once none can be opened. */
static int load_what_needs_files(void)
{
    /* libarchive turns the names of members into the locale's encoding; 7z keeps them in UTF-16. A
       converter's module stays loaded; a system without it still reads everything else. */
    static const char *const encodings[] = {"UTF-16LE", "UTF-16BE"};
    for (size_t i = 0; i < ARRAY_SIZE(encodings); i++)
        (void)iconv_open("UTF-8", encodings[i]);
    if (!setlocale(LC_ALL, "C.UTF-8"))
        return -ENOENT;
    /* The times in an archive mean nothing to us; with a zone from the environment none is looked for in
     * /etc. */
    if (setenv("TZ", "UTC0", 1) < 0)
        return -errno;
    return digest_init();
}

static int lock_in(const char **ret_missing)
{
    const struct sandbox_limits limits = {.memory = MEMORY_MAX, .file_size = ARCHIVE_FILE_SIZE_MAX};
    int r = sandbox_enter(&limits, ret_missing);
    if (*ret_missing)
        fprintf(stderr, "qdld-worker: the sandbox lacks a layer on this system: %s\n", *ret_missing);
    return r;
}

static worker_job find_job(const char *kind)
{
    for (size_t i = 0; i < ARRAY_SIZE(jobs); i++)
        if (strcmp(jobs[i].name, kind) == 0)
            return jobs[i].run;
    return NULL;
}

static int run_job(struct worker *w, worker_job job, int locked, const char *missing)
{
    struct job_outcome o = {.result = "done"};
    int r;
    if (locked < 0)
        r = error_set(
            &o.error, ERROR_UNSUPPORTED,
            "this system does not let the worker lock itself in (%s: %s); nothing was read or touched",
            missing ? missing : "sandbox", strerror(-locked));
    else
        r = job(w, &o);
    bool hold = o.hold && !w->stop;
    worker_result(w, r, &o, hold);
    if (hold)
        session_hold(o.hold);
    o.hold = session_free(o.hold);
    return EXIT_SUCCESS;
}

int main(void)
{
    static struct worker w; /* two datagrams in it: too large for a stack's taste */

    int type;
    socklen_t size = sizeof(type);
    if (getsockopt(LINK_WORKER_FD, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_SEQPACKET) {
        fprintf(stderr, "qdld-worker is started by qdld, not by hand: descriptor %d is not its link\n",
                LINK_WORKER_FD);
        return EXIT_FAILURE;
    }
    close_range(LINK_WORKER_FD + 1, ~0U, 0);
    int r = set_signals(); /* before the first word: whoever hears it may send SIGTERM */
    worker_init(&w, LINK_WORKER_FD);
    worker_tell(&w, KEY_BUILD, QDLD_BUILD_ID);
    if (r == 0)
        r = load_what_needs_files();
    if (r < 0) {
        fprintf(stderr, "qdld-worker cannot start: %s\n", strerror(-r));
        return EXIT_FAILURE;
    }
    const char *missing = NULL;
    int locked = lock_in(&missing);

    int status = EXIT_SUCCESS;
    if (worker_receive_job(&w)) {
        worker_job job = find_job(w.kind);
        if (job) {
            status = run_job(&w, job, locked, missing);
        } else {
            fprintf(stderr, "qdld-worker: there is no job \"%s\"\n", w.kind);
            status = EXIT_FAILURE;
        }
    }
    worker_done(&w);
    fflush(NULL);
    /* No handlers of libraries behind the lock: they would look for files, and all that is ours is free. */
    _exit(status);
}
