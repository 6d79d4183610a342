/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* qdld: the process on the bus. It never touches a wire, a package or XML; workers do. */

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "paths.h"
#include "service/log.h"
#include "service/manager.h"

#define WORKER_PATH QDLD_LIBEXECDIR "/qdld-worker"

static void print_help(void)
{
    printf("qdld [OPTIONS]\n\n"
           "Rescues Quectel modems: flashes, checks and identifies them in emergency download mode, as jobs "
           "on the\n"
           "system bus (org.qdld1). Started by systemd; see qdlctl(1) for use.\n\n"
           "     --virtual=PATH  serve the virtual modems that connect to this socket, and no real ones\n"
           "     --config=FILE   instead of /etc/qdld/qdld.conf\n"
           "     --state=DIR     instead of $STATE_DIRECTORY or /var/lib/qdld\n"
           "     --worker=PATH   instead of " WORKER_PATH "\n"
           "     --version       show the version\n"
           "  -h --help          show this text\n");
}

enum outcome { GO_ON, STOP_OK, STOP_USAGE };

static enum outcome parse_arguments(int argc, char **argv, struct manager_options *o)
{
    enum { OPTION_VIRTUAL = 256, OPTION_CONFIG, OPTION_STATE, OPTION_WORKER, OPTION_VERSION };
    static const struct option options[] = {
        {"virtual", required_argument, NULL, OPTION_VIRTUAL},
        {"config", required_argument, NULL, OPTION_CONFIG},
        {"state", required_argument, NULL, OPTION_STATE},
        {"worker", required_argument, NULL, OPTION_WORKER},
        {"version", no_argument, NULL, OPTION_VERSION},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
        switch (c) {
        case OPTION_VIRTUAL:
            o->virtual_path = optarg;
            break;
        case OPTION_CONFIG:
            o->config_path = optarg;
            break;
        case OPTION_STATE:
            o->state_path = optarg;
            break;
        case OPTION_WORKER:
            o->worker_path = optarg;
            break;
        case OPTION_VERSION:
            printf("qdld %s\n", QDLD_VERSION);
            return STOP_OK;
        case 'h':
            print_help();
            return STOP_OK;
        default:
            return STOP_USAGE;
        }
    if (optind < argc) {
        fprintf(stderr, "qdld: unexpected argument \"%s\"; see --help\n", argv[optind]);
        return STOP_USAGE;
    }
    return GO_ON;
}

static int on_stop_signal(sd_event_source *source _unused_, const struct signalfd_siginfo *si _unused_,
                          void *userdata)
{
    manager_stop(userdata, EXIT_SUCCESS);
    return 0;
}

static int on_reload_signal(sd_event_source *source _unused_, const struct signalfd_siginfo *si _unused_,
                            void *userdata)
{
    manager_restart(userdata);
    return 0;
}

/* SIGCHLD is blocked for the workers' sake; a link that breaks is an error of a call, not a signal. */
static int block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    signal(SIGPIPE, SIG_IGN);
    return sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? -errno : 0;
}

static int handle_signals(sd_event *event, struct manager *m)
{
    int r = sd_event_add_signal(event, NULL, SIGTERM, on_stop_signal, m);
    if (r >= 0)
        r = sd_event_add_signal(event, NULL, SIGINT, on_stop_signal, m);
    return r < 0 ? r : sd_event_add_signal(event, NULL, SIGHUP, on_reload_signal, m);
}

/*
 * Anybody's call may bring 16 descriptors, and while one call is looked at others queue: with the usual 1024
 * a burst of them would cost us the bus connection, and the jobs with it. About 2000 come together before
 * dbus-daemon holds the sender back. Workers lower their limit themselves.
 */
static void raise_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int run(const struct manager_options *o, struct error *e)
{
    sd_event *event = NULL;
    struct manager *m = NULL;
    raise_limit();
    (void)log_open(NULL);
    int r = block_signals();
    if (r >= 0)
        r = sd_event_default(&event);
    if (r >= 0)
        r = manager_new(event, o, &m, e);
    if (r >= 0)
        r = handle_signals(event, m);
    if (r >= 0)
        r = manager_start(m, o, e);
    if (r >= 0)
        r = sd_event_loop(event);
    manager_free(m);
    sd_event_unref(event);
    return r;
}

int main(int argc, char **argv)
{
    struct manager_options options = {.worker_path = WORKER_PATH};
    switch (parse_arguments(argc, argv, &options)) {
    case STOP_OK:
        return EXIT_SUCCESS;
    case STOP_USAGE:
        return 2;
    case GO_ON:
        break;
    }
    struct error e = {0};
    int r = run(&options, &e);
    if (r < 0) {
        fprintf(stderr, "qdld: %s\n", e.kind != ERROR_NONE ? e.message : strerror(-r));
        return EXIT_FAILURE;
    }
    return r > 0 ? r : EXIT_SUCCESS;
}
