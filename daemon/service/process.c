/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/process.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "build-id.h"
#include "service/log.h"
#include "service/mouth.h"

enum {
    BINARY_FD_MIN = 10, /* above stdio and the link */
    CHILD_BINARY_FD = LINK_WORKER_FD + 1,
    EXEC_FAILED = 127,
};

/* What is known of a child until it is reaped; it outlives its process if that is freed before. */
struct child {
    struct process *process; /* NULL: a ghost */
    struct child *next;      /* of the ghosts */
    uid_t owner;
    pid_t pid;
    sd_event_source *source; /* borrowed by a ghost: the loop's then */
};

static struct child *ghosts;

struct process {
    sd_event *event;
    struct process_handler handler;
    struct child *child;
    struct mouth *mouth;
    int link;
    sd_event_source *link_source, *kill_source, *ghost_source;
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
static _Noreturn void run_child(int binary, int link, int mouth)
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
    bool ready = null >= 0 && dup2(mouth, STDERR_FILENO) >= 0 && dup2(mouth, STDOUT_FILENO) >= 0 &&
                 dup2(null, STDIN_FILENO) >= 0;
    if (ready && link == LINK_WORKER_FD)
        ready = fcntl(link, F_SETFD, 0) >= 0;
    else if (ready)
        ready = dup2(link, LINK_WORKER_FD) >= 0;
    /* Closed here and now: exec lets the parent go on before it closes what is marked for it. */
    if (ready && dup3(binary, CHILD_BINARY_FD, O_CLOEXEC) >= 0 &&
        close_range(CHILD_BINARY_FD + 1, ~0U, 0) == 0)
        fexecve(CHILD_BINARY_FD, arguments, environment);
    _exit(EXEC_FAILED);
}

/* ---- the end ---- */

static void on_destroy(void *userdata)
{
    struct child *c = userdata;
    for (struct child **i = &ghosts; *i; i = &(*i)->next)
        if (*i == c) {
            *i = c->next;
            break;
        }
    free(c);
}

/*
 * A child that still runs is killed and left to the loop, which reaps it: to free its source would wait for
 * its end. With the loop it is forgotten.
 */
static void leave(struct process *p)
{
    struct child *c = steal_ptr(p->child);
    if (!c)
        return;
    c->process = NULL;
    sd_event_source *source = c->source;
    bool running = source && sd_event_source_get_enabled(source, NULL) > 0;
    if (running && sd_event_source_set_floating(source, true) >= 0) {
        c->next = ghosts;
        ghosts = c;
        sd_event_source_set_child_process_own(source, false);
        sd_event_source_send_child_signal(source, SIGKILL, NULL, 0);
        sd_event_source_unref(source);
    } else if (source) {
        sd_event_source_disable_unref(source);
    } else {
        free(c);
    }
}

static void tell_end(struct process *p, const struct process_end *end)
{
    p->link_source = sd_event_source_disable_unref(p->link_source);
    p->kill_source = sd_event_source_disable_unref(p->kill_source);
    p->ghost_source = sd_event_source_disable_unref(p->ghost_source);
    mouth_finish(p->mouth);
    p->handler.gone(p->handler.userdata, end);
}

static int on_ghost_time(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata)
{
    struct process *p = userdata;
    struct process_end end = {.broken = p->broken, .left = true};
    log_message(LOG_WARNING,
                "Worker %d was killed and does not die; it is left behind. What it waits for (a file of "
                "FUSE or of a network, a dying device) has to end first.",
                (int)p->child->pid);
    leave(p);
    tell_end(p, &end);
    return 0;
}

static void kill_now(struct process *p)
{
    if (!p->child || p->ghost_source)
        return;
    sd_event_source_send_child_signal(p->child->source, SIGKILL, NULL, 0);
    int r = sd_event_add_time_relative(p->event, &p->ghost_source, CLOCK_MONOTONIC, PROCESS_KILL_USEC, 0,
                                       on_ghost_time, p);
    if (r < 0)
        log_message(LOG_WARNING, "The end of a killed worker is awaited without a limit: %s", strerror(-r));
}

static void break_link(struct process *p, const char *why)
{
    if (!p->broken)
        p->broken = why;
    p->link_source = sd_event_source_disable_unref(p->link_source);
    kill_now(p);
}

/* ---- what it says ---- */

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
    struct child *c = userdata;
    struct process *p = c->process;
    if (!p) {
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
    tell_end(p, &end);
    return 0;
}

static void on_words(void *userdata, const char *line)
{
    struct process *p = userdata;
    log_message(LOG_WARNING, "qdld-worker[%d]: %s", p->child ? (int)p->child->pid : 0, line);
}

/* ---- life ---- */

/*
 * As fork(), but we go on only when the child has become the worker: until then it holds copies of all our
 * descriptors, and whoever asks whether a file is still open for writing (second_reopen) would find that
 * child.
 */
static pid_t fork_until_exec(void)
{
    return (pid_t)syscall(SYS_clone, CLONE_VFORK | SIGCHLD, NULL, NULL, NULL, NULL);
}

static int spawn(struct process *p, int binary, int link, int mouth)
{
    struct child *c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    *c = (struct child){.process = p, .owner = (uid_t)-1};
    c->pid = fork_until_exec();
    if (c->pid == 0)
        run_child(binary, link, mouth);
    int r = c->pid < 0 ? -errno : 0;
    if (r == 0) {
        r = sd_event_add_child(p->event, &c->source, c->pid, WEXITED, on_child_exit, c);
        if (r < 0)
            kill(c->pid, SIGKILL);
    }
    if (r < 0) {
        free(c);
        return r;
    }
    sd_event_source_set_destroy_callback(c->source, on_destroy);
    sd_event_source_set_child_process_own(c->source, true);
    p->child = c;
    return 0;
}

int process_start(sd_event *event, int binary, const struct process_handler *handler, struct process **ret)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    _cleanup_close_ int ours = pair[0], theirs = pair[1], words = -1;
    /* Only our end: the flag belongs to the open file, and the worker's is a blocking one. */
    if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
        return -errno;

    struct process *p = calloc(1, sizeof(*p));
    if (!p)
        return -ENOMEM;
    p->event = sd_event_ref(event);
    p->handler = *handler;
    p->link = steal_fd(&ours);
    int r = mouth_new(event, on_words, p, &p->mouth, &words);
    if (r >= 0)
        r = spawn(p, binary, theirs, words);
    if (r >= 0)
        r = sd_event_add_io(event, &p->link_source, p->link, EPOLLIN, on_link, p);
    if (r < 0) {
        process_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

void process_set_owner(struct process *p, uid_t owner)
{
    p->child->owner = owner;
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
    kill_now(userdata);
    return 0;
}

void process_stop(struct process *p)
{
    if (p->kill_source || p->ghost_source)
        return;
    sd_event_source_send_child_signal(p->child->source, SIGTERM, NULL, 0);
    if (sd_event_add_time_relative(p->event, &p->kill_source, CLOCK_MONOTONIC, PROCESS_TERM_USEC, 0,
                                   on_kill_time, p) < 0)
        kill_now(p);
}

void process_kill(struct process *p, const char *why)
{
    break_link(p, why);
}

struct process *process_free(struct process *p)
{
    if (!p)
        return NULL;
    sd_event_source_disable_unref(p->link_source);
    sd_event_source_disable_unref(p->kill_source);
    sd_event_source_disable_unref(p->ghost_source);
    leave(p);
    mouth_free(p->mouth);
    close_fd(p->link);
    link_message_done(&p->in);
    sd_event_unref(p->event);
    free(p);
    return NULL;
}

unsigned process_count_ghosts(const uid_t *owner)
{
    unsigned n = 0;
    for (const struct child *c = ghosts; c; c = c->next)
        n += !owner || c->owner == *owner;
    return n;
}
