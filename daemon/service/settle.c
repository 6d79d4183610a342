/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/settle.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

struct settle {
    sd_event_source *source;
    settle_handler handler;
    void *userdata;
    bool ended;
};

/* Between fork and exit: system calls only. */
static _Noreturn void run_child(const int *fds, size_t n_fds)
{
    for (size_t i = 0; i < n_fds; i++)
        if (fsync(fds[i]) < 0)
            _exit(errno > 0 && errno < 256 ? errno : EIO);
    _exit(EXIT_SUCCESS);
}

static int on_child_exit(sd_event_source *source, const siginfo_t *si, void *userdata)
{
    struct settle *s = userdata;
    if (!s) { /* nobody's any more, see settle_free() */
        sd_event_source_set_floating(source, false);
        return 0;
    }
    sd_event_source_set_enabled(source, SD_EVENT_OFF);
    s->ended = true;
    int error = si->si_code == CLD_EXITED ? -si->si_status : -ECANCELED; /* a killed one tells nothing */
    s->handler(s->userdata, error);
    settle_free(s);
    return 0;
}

int settle_start(sd_event *event, const int *fds, size_t n_fds, settle_handler handler, void *userdata,
                 struct settle **ret)
{
    struct settle *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    *s = (struct settle){.handler = handler, .userdata = userdata};
    pid_t pid = fork();
    if (pid == 0)
        run_child(fds, n_fds);
    int r = pid < 0 ? -errno : sd_event_add_child(event, &s->source, pid, WEXITED, on_child_exit, s);
    if (r < 0) {
        if (pid > 0)
            kill(pid, SIGKILL);
        free(s);
        return r;
    }
    *ret = s;
    return 0;
}

/* A child that still syncs is left to the loop, which reaps it: to wait for it would be to wait for the disk.
 */
struct settle *settle_free(struct settle *s)
{
    if (!s)
        return NULL;
    if (!s->ended && sd_event_source_set_floating(s->source, true) >= 0) {
        sd_event_source_set_userdata(s->source, NULL);
        sd_event_source_unref(s->source);
    } else {
        sd_event_source_disable_unref(s->source);
    }
    free(s);
    return NULL;
}
