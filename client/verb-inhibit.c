/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Another tool's turn: the service keeps off the modem while a command runs. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "bus.h"
#include "output.h"
#include "select.h"

enum { REASON_SIZE = 200, COMMAND_MAX = 150, CANNOT_RUN = 126, NOT_FOUND = 127, SIGNAL_BASE = 128 };

/* The descriptor stays the reply's until it is copied here; the command has it, too, so that the modem is its
 * own even if this process is killed. */
static int take_guard(sd_bus *bus, const char *modem, const char *command, int *ret)
{
    sd_bus_message *m = NULL, *reply = NULL;
    char reason[REASON_SIZE];
    int fd = -1;
    snprintf(reason, sizeof(reason), "qdlctl inhibit: %.*s", text_fit(command, COMMAND_MAX), command);
    agent_start();
    int r = bus_new_call(bus, &m, modem, "org.qdld1.Modem", "Inhibit");
    if (r >= 0)
        r = sd_bus_message_append(m, "s", reason);
    if (r >= 0)
        r = bus_append_no_options(m);
    int code = bus_call(bus, r, m, &reply);
    if (code != EXIT_OK)
        return code;
    if (sd_bus_message_read_basic(reply, 'h', &fd) >= 0)
        *ret = dup(fd);
    sd_bus_message_unref(reply);
    if (*ret >= 0)
        return EXIT_OK;
    fprintf(stderr, "qdlctl: the service gave no descriptor\n");
    return EXIT_OTHER;
}

/* As a shell would say how it ended. What is typed at the terminal is for the command. */
static int run(char **command)
{
    int status;
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    pid_t child = fork();
    if (child < 0) {
        fprintf(stderr, "qdlctl: %s cannot be started: %s\n", command[0], strerror(errno));
        return EXIT_OTHER;
    }
    if (child == 0) {
        signal(SIGINT, SIG_DFL);
        signal(SIGQUIT, SIG_DFL);
        execvp(command[0], command);
        fprintf(stderr, "qdlctl: %s cannot be started: %s\n", command[0], strerror(errno));
        _exit(errno == ENOENT ? NOT_FOUND : CANNOT_RUN);
    }
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return EXIT_OTHER;
    return WIFEXITED(status) ? WEXITSTATUS(status) : SIGNAL_BASE + WTERMSIG(status);
}

int verb_inhibit(sd_bus *bus, int argc, char **argv)
{
    json_object *modem;
    int guard = -1;
    (void)argc;
    int code = select_modem(bus, argv[1], MODEM_LOOK, &modem);
    if (code != EXIT_OK)
        return code;
    code = take_guard(bus, dict_string(modem, "path"), argv[2], &guard);
    json_object_put(modem);
    agent_stop();
    if (code != EXIT_OK)
        return code;
    if (geteuid() != 0)
        fprintf(stderr,
                "qdlctl: the device node of a modem in 9008 is for the service and root only; %s may be "
                "refused it\n",
                argv[2]);
    code = run(argv + 2);
    close(guard);
    return code;
}
