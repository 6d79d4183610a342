/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the parts of Firehose share; for protocol/firehose*.c only.
 *
 *     firehose.c         the state: documents out and in, logs, answers, errors
 *     firehose-print.c   every document that is ever sent, one function a tag
 *     firehose-setup.c   banner, configure, nop
 *     firehose-storage.c getstorageinfo in its two forms
 *     firehose-data.c    program and read: raw data between two ACKs
 *     firehose-simple.c  erase, digest, vendor check, power: one document, one answer
 *
 * A command is: firehose_begin() (what came late is read away, the document goes out), firehose_await() (its
 * answer), and for program and read the data and a second firehose_await().
 */

#include "protocol/firehose.h"
#include "protocol/xml.h"

enum firehose_verb {
    FIREHOSE_START, /* no command: the banner, and what is said between commands */
    FIREHOSE_NOP,
    FIREHOSE_CONFIGURE,
    FIREHOSE_STORAGE_INFO,
    FIREHOSE_ERASE,
    FIREHOSE_PROGRAM,
    FIREHOSE_READ,
    FIREHOSE_DIGEST,
    FIREHOSE_VENDOR_CHECK,
    FIREHOSE_POWER,
    FIREHOSE_VERB_COUNT
};

/* How long a programmer may take (2.12: what the tools of the field wait, the longest that had a reason). */
struct firehose_limit {
    const char *name; /* for messages */
    usec_t send;      /* until the document is taken */
    usec_t answer;    /* the (first) answer */
    usec_t raw;       /* each piece of raw data */
    usec_t final;     /* the answer behind raw data */
};
extern const struct firehose_limit firehose_limits[FIREHOSE_VERB_COUNT];

enum {
    FIREHOSE_INPUT_SIZE = 16384,
    FIREHOSE_SOURCE_MAX = 4 * TRANSPORT_CHUNK_MAX, /* what a source is asked for at once */
    FIREHOSE_DOCUMENTS_MAX =
        10000, /* logs and strays in one command; the longest real one is a bad-block list */
    FIREHOSE_READS_MAX = 1 << 20, /* IN transfers with documents in one command */
    FIREHOSE_DRAIN_READS_MAX = 4096,
    FIREHOSE_GARBAGE_MAX = 64 * 1024, /* bytes in one command that belong to no document */
    FIREHOSE_LINE_SIZE = 2048,        /* a log line, cleaned; the rest is cut */
    FIREHOSE_WORDS_SIZE = 512,
    FIREHOSE_FUNCTIONS_SIZE = 1024,
    FIREHOSE_PAYLOAD_DEFAULT = 8192, /* what every NAND programmer accepts (2.3) */
};

/* Anything slower than this is a modem that will never be done. Measured rates are 3.5 MB/s and more (7). */
#define FIREHOSE_RATE_MIN ((uint64_t)64 * 1024) /* bytes a second */

/* Called with every log of the running command, as it came (not cleaned). */
typedef void (*firehose_line)(void *userdata, const char *text);

struct firehose {
    struct transport *transport;
    struct xml_splitter *splitter;
    void (*on_log)(void *userdata, enum firehose_log_level level, const char *text);
    void *log_userdata;

    /* logs */
    unsigned n_errors;
    char first_error[FIREHOSE_WORDS_SIZE];
    char command_error[FIREHOSE_WORDS_SIZE]; /* first ERROR log of the running command */
    char command_last[FIREHOSE_WORDS_SIZE];  /* its last log */
    bool command_failed;                     /* it had an ERROR log */
    firehose_line on_line;
    void *line_userdata;
    bool vip;

    /* banner */
    bool banner_listing;                     /* between its head and its end: a log is a function's name */
    bool banner_complete;                    /* its last line was seen */
    char functions[FIREHOSE_FUNCTIONS_SIZE]; /* " program read " */

    uint32_t payload; /* bytes a raw OUT transfer */
    bool zlp_aware;   /* configured with ZlpAwareHost="1" */

    /* what bounds the running command */
    unsigned documents_left, reads_left;
    size_t garbage;

    /* Where we stand with the modem. */
    bool sent;         /* the running command's document was on its way */
    bool owes_answer;  /* a command was given up before its answer came */
    bool stuck_in_raw; /* a command was given up in the middle of raw data */
    bool boundary;     /* the last IN transfer ended with the bytes last read */

    uint8_t in[FIREHOSE_INPUT_SIZE];
    uint8_t out[FIREHOSE_SOURCE_MAX];
};

/* ---- firehose-print.c: flash rule 7 ---- */

struct firehose_text {
    char data[1024];
    size_t size; /* never a multiple of 512: a newline follows where it would be (2.1) */
};

/* The newline of 2.1, if it is needed. */
void firehose_end_text(struct firehose_text *text);
/* All return -EINVAL with InvalidArgs, and print nothing, when the integers lack or contradict something. */
int firehose_print_nop(struct firehose_text *ret, struct error *e);
int firehose_print_configure(struct firehose_text *ret, uint32_t payload, bool zlp_aware, struct error *e);
int firehose_print_storage_info(struct firehose_text *ret, struct error *e);
int firehose_print_erase(struct firehose_text *ret, const struct firehose_range *range, struct error *e);
int firehose_print_program(struct firehose_text *ret, const struct firehose_range *range, struct error *e);
int firehose_print_read(struct firehose_text *ret, const struct firehose_range *range, bool skip_bad_block,
                        struct error *e);
int firehose_print_digest(struct firehose_text *ret, const struct firehose_range *range, struct error *e);
int firehose_print_vendor_check(struct firehose_text *ret, const struct firehose_vendor_check *check,
                                struct error *e);
int firehose_print_power(struct firehose_text *ret, enum firehose_power mode, struct error *e);

/* ---- firehose.c ---- */

struct firehose_answer {
    bool ack;
    struct xml_document *document; /* for its attributes */
};

static inline void firehose_answer_done(struct firehose_answer *a)
{
    a->document = xml_document_free(a->document);
}
#define _cleanup_answer_ _cleanup_(firehose_answer_done)

/* Reads away what came late, brings a modem that owes an answer back into step, sends the document. */
int firehose_begin(struct firehose *f, enum firehose_verb verb, const struct firehose_text *document,
                   struct error *e);

/*
 * The next answer; logs in front of it are handled. Raw: Firehose answers with rawmode="true" where raw data
 * follow, and an answer that says otherwise belongs to an earlier command: it is told as a log and passed
 * over. Errors are set and leave f in a state that the next firehose_begin() can deal with.
 */
int firehose_await(struct firehose *f, enum firehose_verb verb, usec_t deadline, bool raw,
                   struct firehose_answer *ret, struct error *e);

/*
 * One document handled, or one transfer taken in. 1: *ret is a response, 0 something else happened; negative:
 * the errno of the transport or splitter, or -EOVERFLOW (too many documents); nothing set. deadline 0: only
 * what is there.
 */
int firehose_step(struct firehose *f, usec_t deadline, struct xml_document **ret);
/* Steps until a response is there: 0, or the errno of a step. */
int firehose_receive(struct firehose *f, usec_t deadline, struct xml_document **ret);

/* Every log from now on, also to the caller of one command; NULL ends it. */
static inline void firehose_listen(struct firehose *f, firehose_line on_line, void *userdata)
{
    f->on_line = on_line;
    f->line_userdata = userdata;
}

/* rawmode="true" */
bool firehose_is_raw(const struct xml_document *d);
bool firehose_is_ack(const struct xml_document *d);
/* An answer that belongs to no command is told as a log. */
void firehose_pass_over(struct firehose *f, const struct xml_document *d);

/* After an answer: logs that belong to it may follow (2.1). Waits for the event, a moment at most, until
 * *seen. */
void firehose_linger(struct firehose *f, const bool *seen);

/* Names what went wrong with the command, from an errno of transport or splitter. */
int firehose_fail(struct firehose *f, enum firehose_verb verb, int error, struct error *e);
/* The modem said NAK: its words, and the errors that have a name of their own. */
int firehose_refused(struct firehose *f, enum firehose_verb verb, struct error *e);
/* The words that explain the running command best. */
const char *firehose_command_words(const struct firehose *f);
/* A sentence of ours among the programmer's logs. */
void firehose_note(struct firehose *f, enum firehose_log_level level, const char *format, ...) _printf_(3, 4);

/* begin and await of a command without raw data; NAK is not an error here. */
int firehose_transact(struct firehose *f, enum firehose_verb verb, const struct firehose_text *document,
                      struct firehose_answer *ret, struct error *e);
