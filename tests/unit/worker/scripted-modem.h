/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A modem of a few lines behind a virtual modem's socket, in a child process: whoever opens it finds one
 * HELLO, it answers command mode, takes a programmer of any content, then answers configure, getstorageinfo,
 * nop and power. Enough to lead a session; the real thing is tests/modem.
 */

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "transport/virtual.h"

struct scripted_modem {
    uint32_t serial;
    uint64_t hwid;
    uint8_t pk_hash[32];
    bool running;     /* a programmer runs already: no HELLO, XML only */
    bool crashed;     /* HELLO with mode 2 */
    bool leaves;      /* unplugs itself as soon as it is opened */
    bool refuses;     /* command mode; the way back to a HELLO restarts it */
    bool breaks;      /* answers the serial and is silent to the next command */
    bool stays;       /* answers RESET with the next HELLO and never leaves */
    unsigned chatter; /* logs behind the last ACK, nobody asked for them */
    pid_t pid;
    int fd; /* the worker's end, to be given away */
};

static inline void modem_send(int fd, const void *data, size_t size)
{
    uint8_t packet[1 + VIRTUAL_DATA_MAX] = {VIRTUAL_DATA};
    memcpy(packet + 1, data, size);
    if (send(fd, packet, 1 + size, MSG_NOSIGNAL) < 0)
        _exit(0);
}

static inline void modem_words(int fd, size_t n, const uint32_t *words)
{
    modem_send(fd, words, n * sizeof(*words));
}

static inline void modem_hello(int fd, const struct scripted_modem *m)
{
    const uint32_t hello[12] = {0x01, 0x30, 2, 1, 0x400, m->crashed ? 2 : 0};
    modem_words(fd, 12, hello);
}

static inline void modem_xml(int fd, const char *tag)
{
    char document[1024];
    int n = snprintf(document, sizeof(document), "<?xml version=\"1.0\" encoding=\"UTF-8\" ?><data>%s</data>",
                     tag);
    modem_send(fd, document, (size_t)n);
}

static inline void modem_start_programmer(int fd)
{
    modem_xml(fd, "<log value=\"INFO: Binary build date: today\" />");
    modem_xml(fd, "<log value=\"INFO: Supported Functions (2):\" />");
    modem_xml(fd, "<log value=\"INFO: getstorageinfo\" />");
    modem_xml(fd, "<log value=\"INFO: getsha256digest\" />");
    modem_xml(fd, "<log value=\"INFO: End of supported functions 2\" />");
}

static inline void modem_firehose(int fd, struct scripted_modem *m, const char *text)
{
    static const char ack[] = "<response value=\"ACK\" rawmode=\"false\" />";
    if (strstr(text, "<configure")) {
        modem_xml(fd,
                  "<response value=\"ACK\" MemoryName=\"nand\" MinVersionSupported=\"1\" Version=\"1\" "
                  "MaxPayloadSizeToTargetInBytes=\"8192\" MaxPayloadSizeToTargetInBytesSupported=\"8192\" "
                  "MaxXMLSizeInBytes=\"4096\" />");
    } else if (strstr(text, "<getstorageinfo")) {
        modem_xml(fd, "<log value=\"INFO: {&quot;storage_info&quot;: {&quot;total_blocks&quot;:2048, "
                      "&quot;block_size&quot;:262144, &quot;page_size&quot;:4096}}\" />");
        modem_xml(fd, "<log value=\"ERROR: nothing serious\" />");
        modem_xml(fd, ack);
        for (unsigned i = 0; i < m->chatter; i++)
            modem_xml(fd, "<log value=\"INFO: nobody asked\" />");
    } else if (strstr(text, "<power")) {
        modem_xml(fd, ack);
        _exit(0);
    } else {
        modem_xml(fd, ack);
    }
}

static inline void modem_execute(int fd, const struct scripted_modem *m, uint32_t command, bool data)
{
    const void *value = command == 1   ? (const void *)&m->serial
                        : command == 2 ? (const void *)&m->hwid
                                       : m->pk_hash;
    uint32_t size = command == 1 ? 4 : command == 2 ? 8 : command == 3 ? 32 : 0;
    if (data)
        modem_send(fd, value, size);
    else
        modem_words(fd, 4, (const uint32_t[]){0x0e, 0x10, command, size});
}

static inline void modem_sahara(int fd, struct scripted_modem *m, const uint32_t *w)
{
    switch (w[0]) {
    case 0x02: /* HELLO_RESP */
        if (w[5] == 3 && m->refuses)
            modem_words(fd, 4, (const uint32_t[]){0x04, 0x10, 0, 1});
        else if (w[5] == 3)
            modem_words(fd, 2, (const uint32_t[]){0x0b, 8});
        else
            modem_words(fd, 5, (const uint32_t[]){0x03, 0x14, 13, 0, 64});
        break;
    case 0x05: /* DONE */
        modem_words(fd, 3, (const uint32_t[]){0x06, 0x0c, 1});
        m->running = true;
        modem_start_programmer(fd);
        break;
    case 0x07: /* RESET */
        modem_words(fd, 2, (const uint32_t[]){0x08, 8});
        if (!m->stays)
            _exit(0);
        modem_hello(fd, m);
        break;
    case 0x0c: /* SWITCH_MODE */
        modem_hello(fd, m);
        break;
    case 0x0d: /* EXECUTE, EXECUTE_DATA */
    case 0x0f:
        if (!m->breaks || w[2] == 1)
            modem_execute(fd, m, w[2], w[0] == 0x0f);
        break;
    default: /* the 64 bytes of the programmer */
        modem_words(fd, 4, (const uint32_t[]){0x04, 0x10, 13, 0});
    }
}

static inline void modem_run(int fd, struct scripted_modem *m)
{
    _Alignas(uint32_t) char buffer[4 + VIRTUAL_DATA_MAX];
    char *packet = buffer + 3; /* so that the words behind the type byte are aligned */
    for (;;) {
        ssize_t n = recv(fd, packet, VIRTUAL_DATA_MAX, 0);
        if (n <= 0 || m->leaves)
            _exit(0);
        packet[n] = '\0';
        if (packet[0] == VIRTUAL_DATA && n > 1 && m->running)
            modem_firehose(fd, m, packet + 1);
        else if (packet[0] == VIRTUAL_DATA && n > 8)
            modem_sahara(fd, m, (const uint32_t *)(const void *)(packet + 1));
    }
}

static inline void modem_plug(struct scripted_modem *m)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    /* The first IN transfer finds it there, as on the wire: whoever does not hear it at once begins to
     * persuade a modem, and this one is a process that a busy machine may leave waiting. */
    if (!m->running && !m->leaves)
        modem_hello(pair[1], m);
    pid_t parent = getpid();
    m->pid = fork();
    if (m->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        /* Nothing of the test's: an end of the link that stays open here would never be seen to close. */
        int fd = dup2(pair[1], STDERR_FILENO + 1);
        close_range((unsigned)fd + 1, ~0U, 0);
        modem_run(fd, m);
    }
    close(pair[1]);
    m->fd = pair[0];
}

static inline void modem_unplug(struct scripted_modem *m)
{
    m->fd = close_fd(m->fd);
    if (m->pid > 0) {
        kill(m->pid, SIGKILL);
        waitpid(m->pid, NULL, 0);
    }
    m->pid = 0;
}
