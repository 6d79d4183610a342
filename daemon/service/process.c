/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <syslog.h>

#include "build-id.h"

enum {
    BINARY_FD_MIN = 10, /* above stdio and the link */
    EXEC_FAILED = 127,
};

struct process {
    sd_event *event;
    struct process_handler handler;
    pid_t pid;
    int link;
    sd_event_source *link_source, *exit_source, *kill_source;
    bool build_checked;
    const char *broken;
    struct link_message in;
};

int process_open_binary(const char *path)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, BINARY_FD_MIN);
    return high < 0 ? -errno : high;
}

/* Between fork and exec: async-signal-safe calls only. */
static _Noreturn void run_child(int binary, int link)
{
    static char *const arguments[] = {(char *)"qdld-worker", NULL};
    static char *const environment[] = {(char *)"LANG=C.UTF-8", NULL};
    sigset_t none;

    sigemptyset(&none);
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();

    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    bool ready = null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(STDERR_FILENO, STDOUT_FILENO) >= 0;
    if (ready && link == LINK_WORKER_FD)
        ready = fcntl(link, F_SETFD, 0) >= 0;
    else if (ready)
        ready = dup2(link, LINK_WORKER_FD) >= 0;
    if (ready && close_range(LINK_WORKER_FD + 1, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
        fexecve(binary, arguments, environment);
    _exit(EXEC_FAILED);
}

static void break_link(struct process *p, const char *why)
{
    if (!p->broken)
        p->broken = why;
    p->link_source = sd_event_source_disable_unref(p->link_source);
    if (p->exit_source)
        sd_event_source_send_child_signal(p->exit_source, SIGKILL, NULL, 0);
}

/* The first line of all is the build id. True if there is something behind it for the handler. */
static bool check_build(struct process *p)
{
    if (p->in.n_fields == 0 || strcmp(p->in.fields[0].key, KEY_BUILD) != 0) {
        break_link(p, "it did not say its build first");
        return false;
    }
    if (strcmp(p->in.fields[0].value, QDLD_BUILD_ID) != 0) {
        break_link(p, "it is of another build than the service; restart qdld");
        return false;
    }
    p->build_checked = true;
    free(p->in.fields[0].value);
    memmove(p->in.fields, p->in.fields + 1, --p->in.n_fields * sizeof(p->in.fields[0]));
    return p->in.n_fields > 0;
}

/* A worker whose link has ended ends by itself; one that does not could do anything unheard. */
static int on_silence(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct process *p = userdata;
    break_link(p, "it closed its link and went on");
    return 0;
}

static void link_ended(struct process *p)
{
    p->link_source = sd_event_source_disable_unref(p->link_source);
    if (!p->kill_source && sd_event_add_time_relative(p->event, &p->kill_source, CLOCK_MONOTONIC,
                                                      PROCESS_TERM_USEC, 0, on_silence, p) < 0)
        break_link(p, "it closed its link");
}

/* Takes one datagram in; false when there is none (now, or any more). */
static bool receive(struct process *p)
{
    int r = link_receive(p->link, MSG_DONTWAIT, link_keys_from_worker, &p->in);
    if (r == -EAGAIN)
        return false;
    if (r == 0) {
        link_ended(p);
        return false;
    }
    if (r < 0) {
        break_link(p, r == -EBADMSG ? "it broke the rules of the link" : "its link failed");
        return false;
    }
    if (p->build_checked || check_build(p))
        p->handler.message(p->handler.userdata, &p->in);
    link_message_reset(&p->in);
    return !p->broken;
}

static int on_link(sd_event_source *source _unused_, int fd _unused_, uint32_t events _unused_,
                   void *userdata)
{
    receive(userdata);
    return 0;
}

static int on_child_exit(sd_event_source *source, const siginfo_t *si, void *userdata)
{
    struct process *p = userdata;
    if (!p) { /* nobody's any more, see process_free() */
        sd_event_source_set_floating(source, false);
        return 0;
    }
    /* Its last words come before its death. */
    while (p->link_source && receive(p))
        ;
    struct process_end end = {
        .clean = !p->broken && si->si_code == CLD_EXITED && si->si_status == 0,
        .broken = p->broken,
        .code = si->si_code,
        .status = si->si_status,
    };
    p->link_source = sd_event_source_disable_unref(p->link_source);
    p->kill_source = sd_event_source_disable_unref(p->kill_source);
    p->handler.gone(p->handler.userdata, &end);
    return 0;
}

int process_start(sd_event *event, int binary, const struct process_handler *handler, struct process **ret)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    _cleanup_close_ int ours = pair[0], theirs = pair[1];
    /* Only our end: the flag belongs to the open file, and the worker's is a blocking one. */
    if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
        return -errno;

    struct process *p = calloc(1, sizeof(*p));
    if (!p)
        return -ENOMEM;
    p->event = sd_event_ref(event);
    p->handler = *handler;
    p->link = steal_fd(&ours);
    p->pid = fork();
    if (p->pid == 0)
        run_child(binary, theirs);
    int r = p->pid < 0 ? -errno : 0;
    if (r == 0) {
        r = sd_event_add_child(event, &p->exit_source, p->pid, WEXITED, on_child_exit, p);
        if (r < 0)
            kill(p->pid, SIGKILL);
        else
            sd_event_source_set_child_process_own(p->exit_source, true);
    }
    if (r >= 0)
        r = sd_event_add_io(event, &p->link_source, p->link, EPOLLIN, on_link, p);
    if (r < 0) {
        process_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

void process_set_handler(struct process *p, const struct process_handler *handler)
{
    p->handler = *handler;
}

void process_send(struct process *p, struct link_message *m)
{
    int r = link_send(p->link, m);
    /* A worker that reads nothing for a whole socket buffer of messages will not do so any more. */
    if (r == -EAGAIN)
        break_link(p, "it does not read what it is told");
}

void process_tell(struct process *p, const char *key)
{
    struct link_message m = {.size = 0};
    if (link_add(&m, key, "1") == 0)
        process_send(p, &m);
}

static int on_kill_time(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct process *p = userdata;
    sd_event_source_send_child_signal(p->exit_source, SIGKILL, NULL, 0);
    return 0;
}

void process_stop(struct process *p)
{
    if (p->kill_source)
        return;
    sd_event_source_send_child_signal(p->exit_source, SIGTERM, NULL, 0);
    if (sd_event_add_time_relative(p->event, &p->kill_source, CLOCK_MONOTONIC, PROCESS_TERM_USEC, 0,
                                   on_kill_time, p) < 0)
        sd_event_source_send_child_signal(p->exit_source, SIGKILL, NULL, 0);
}

void process_kill(struct process *p, const char *why)
{
    break_link(p, why);
}

/*
 * A process that still runs is killed and left to the loop, which reaps it: to free its source would wait for
 * its end, and one that sits in a system call on a dying USB device takes its time.
 */
static void abandon(sd_event_source *source)
{
    if (!source)
        return;
    pid_t pid;
    bool running =
        sd_event_source_get_child_pid(source, &pid) >= 0 && sd_event_source_get_enabled(source, NULL) > 0;
    if (running && sd_event_source_set_floating(source, true) >= 0) {
        sd_event_source_set_userdata(source, NULL);
        sd_event_source_set_child_process_own(source, false);
        sd_event_source_send_child_signal(source, SIGKILL, NULL, 0);
        sd_event_source_unref(source);
    } else {
        sd_event_source_disable_unref(source);
    }
}

struct process *process_free(struct process *p)
{
    if (!p)
        return NULL;
    sd_event_source_disable_unref(p->link_source);
    sd_event_source_disable_unref(p->kill_source);
    abandon(p->exit_source);
    close_fd(p->link);
    link_message_done(&p->in);
    sd_event_unref(p->event);
    free(p);
    return NULL;
}
