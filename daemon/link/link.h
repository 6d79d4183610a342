/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The messages between the service and one worker: datagrams of a SOCK_SEQPACKET pair, each a list of
 * KEY=VALUE lines as in sd_notify, values C-escaped (text_escape), file descriptors by SCM_RIGHTS. The keys
 * are in link/keys.h. The receiver refuses a message that is too long, is cut, holds raw control bytes or
 * non-UTF-8, an unknown key, too many fields, or file descriptors that the other side does not expect: the
 * sender is then not trusted any more (the service kills it, the worker exits).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/cleanup.h"

enum {
    LINK_MESSAGE_MAX = 8192, /* bytes of a datagram */
    LINK_FIELDS_MAX = 128,
    LINK_FDS_MAX = 8,
    LINK_WORKER_FD = 3, /* where the worker finds its end */
};

struct link_field {
    const char *key; /* points into the message's buffer */
    char *value;     /* unescaped, malloc'ed by the message */
};

struct link_message {
    char buffer[LINK_MESSAGE_MAX + 1];
    size_t size;
    struct link_field fields[LINK_FIELDS_MAX];
    size_t n_fields;
    int fds[LINK_FDS_MAX]; /* -1 once stolen */
    size_t n_fds;
};

/* ---- building and sending ---- */

/* Empties a message so that it can be filled anew; closes fds that it still holds. */
void link_message_reset(struct link_message *m);
/* Frees everything inside (not the struct, which lives on a stack or in its owner). Takes what _cleanup_
 * gives. */
void link_message_done(struct link_message *m);

/* Appends KEY=escaped value. -EMSGSIZE if it does not fit (the message is unchanged), -ENOMEM, -E2BIG
 * (fields). */
int link_add(struct link_message *m, const char *key, const char *value);
int link_addf(struct link_message *m, const char *key, const char *format, ...) _printf_(3, 4);
/* Appends a descriptor; the message owns it from then on, also on failure. -E2BIG. */
int link_add_fd(struct link_message *m, int fd);

/*
 * Sends in one datagram and empties the message. 0; -EPIPE if the other side is gone; -EAGAIN if it does not
 * read and the socket is non-blocking; else the errno.
 */
int link_send(int socket, struct link_message *m);

/* ---- receiving ---- */

/*
 * Receives one datagram into m (which is reset first). 1: a message; 0: the other side closed; -EAGAIN:
 * nothing there (non-blocking socket or MSG_DONTWAIT); -EBADMSG: the datagram breaks a rule above (m is then
 * empty). `allowed` is the table of keys that this side accepts, ended by NULL; a key that ends in '.' there
 * is a prefix (REPORT. accepts REPORT.anything of [A-Za-z0-9_-]).
 */
int link_receive(int socket, int flags, const char *const *allowed, struct link_message *m);

/* The first value of a key; NULL if it is not there. */
const char *link_get(const struct link_message *m, const char *key);
/* Takes the next descriptor out of the message (in the order they were added); -1 if there is none left. */
int link_steal_fd(struct link_message *m);

/*
 * Parses the same lines from text that did not come by datagram (plan memfd, records): calls on_field for
 * each line, on_record at every blank line and at the end. -EBADMSG with the line number in *ret_line at the
 * first bad line. No limit but the text's size.
 */
int link_parse_text(const char *text, size_t size,
                    int (*on_field)(void *userdata, const char *key, const char *value),
                    int (*on_record)(void *userdata), void *userdata, size_t *ret_line);
