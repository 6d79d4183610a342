/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <systemd/sd-login.h>
#include <unistd.h>

static pid_t agent;

/* A desktop's agent goes first where there is a session; polkitd never asks a fallback where there is none.
 */
static bool in_session(void)
{
    char *session = NULL;
    int r = sd_pid_get_session(0, &session);
    free(session);
    return r >= 0;
}

void agent_start(void)
{
    int ready[2];
    if (agent || options.no_ask_password || geteuid() == 0 || !isatty(STDIN_FILENO) || pipe(ready) < 0)
        return;
    agent = fork();
    if (agent == 0) {
        char notify[16], process[16];
        snprintf(notify, sizeof(notify), "%d", ready[1]);
        snprintf(process, sizeof(process), "%d", getppid());
        close(ready[0]);
        execlp("pkttyagent", "pkttyagent", "--notify-fd", notify, "--process", process,
               in_session() ? "--fallback" : NULL, NULL);
        _exit(127);
    }
    close(ready[1]);
    char c;
    /* End of file: it is registered, or it is not installed; either way we go on. */
    while (agent > 0 && read(ready[0], &c, 1) > 0)
        ;
    close(ready[0]);
}

void agent_stop(void)
{
    if (agent <= 0)
        return;
    kill(agent, SIGTERM);
    waitpid(agent, NULL, 0);
    agent = 0;
}
