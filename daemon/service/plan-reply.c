/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/job.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "base/text.h"
#include "link/link.h"

enum { PLAN_RECORDS_MAX = 2048, PLAN_NOTES_MAX = 128, PLAN_KEY_MAX = 64 };

/* A step's dictionary is open while its lines come; the notes are collected, since they are one entry. */
struct plan_reply {
    sd_bus_message *reply;
    size_t n_records, n_notes;
    bool open;
    char *notes[PLAN_NOTES_MAX + 1];
};

static char type_of(const char *key)
{
    static const char *const numbers[] = {"FIRST_BLOCK", "BLOCKS", "PAGES", "BYTES"};
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        if (strcmp(numbers[i], key) == 0)
            return 't';
    return strcmp(key, "SBL_LAST") == 0 ? 'b' : 's';
}

/* FIRST_BLOCK is first-block on the bus. */
static int bus_key(const char *key, char out[PLAN_KEY_MAX])
{
    size_t i = 0;
    for (; key[i] && i < PLAN_KEY_MAX - 1; i++)
        out[i] = key[i] == '_' ? '-' : (char)tolower((unsigned char)key[i]);
    out[i] = '\0';
    return key[i] ? -EBADMSG : 0;
}

static int append_entry(sd_bus_message *reply, const char *key, const char *value)
{
    char name[PLAN_KEY_MAX], clean[OBJECT_STRING_MAX];
    char type = type_of(key);
    uint64_t number;
    int r = bus_key(key, name);
    if (r < 0)
        return r;
    if (type == 't') {
        if (text_parse_u64(value, 10, UINT64_MAX, &number) < 0)
            return -EBADMSG;
        return sd_bus_message_append(reply, "{sv}", name, "t", number);
    }
    if (type == 'b') {
        if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0)
            return -EBADMSG;
        return sd_bus_message_append(reply, "{sv}", name, "b", value[0] == '1');
    }
    text_clean(value, strlen(value), clean, sizeof(clean));
    return sd_bus_message_append(reply, "{sv}", name, "s", clean);
}

static int on_field(void *userdata, const char *key, const char *value)
{
    struct plan_reply *p = userdata;
    int r = 0;
    if (!p->open) {
        if (p->n_records++ == PLAN_RECORDS_MAX)
            return -EBADMSG;
        r = sd_bus_message_open_container(p->reply, 'a', "{sv}");
        p->open = true;
    }
    if (r >= 0 && strcmp(key, "NOTE") == 0) {
        char clean[OBJECT_STRING_MAX];
        if (p->n_notes == PLAN_NOTES_MAX)
            return -EBADMSG;
        text_clean(value, strlen(value), clean, sizeof(clean));
        p->notes[p->n_notes] = strdup(clean);
        return p->notes[p->n_notes] ? (p->n_notes++, 0) : -ENOMEM;
    }
    return r < 0 ? r : append_entry(p->reply, key, value);
}

static void drop_notes(struct plan_reply *p)
{
    while (p->n_notes > 0)
        free(p->notes[--p->n_notes]);
    p->notes[0] = NULL;
}

static int append_notes(struct plan_reply *p)
{
    p->notes[p->n_notes] = NULL;
    int r = sd_bus_message_open_container(p->reply, 'e', "sv");
    if (r >= 0)
        r = sd_bus_message_append_basic(p->reply, 's', "notes");
    if (r >= 0)
        r = sd_bus_message_open_container(p->reply, 'v', "as");
    if (r >= 0)
        r = sd_bus_message_append_strv(p->reply, p->notes);
    if (r >= 0)
        r = sd_bus_message_close_container(p->reply);
    if (r >= 0)
        r = sd_bus_message_close_container(p->reply);
    drop_notes(p);
    return r;
}

static int on_record(void *userdata)
{
    struct plan_reply *p = userdata;
    int r = p->n_notes > 0 ? append_notes(p) : 0;
    p->open = false;
    return r < 0 ? r : sd_bus_message_close_container(p->reply);
}

int plan_append(sd_bus_message *reply, const char *text, size_t size, size_t *ret_line)
{
    struct plan_reply p = {.reply = reply};
    int r = sd_bus_message_open_container(reply, 'a', "a{sv}");
    if (r >= 0)
        r = link_parse_text(text, size, on_field, on_record, &p, ret_line);
    drop_notes(&p);
    return r < 0 ? r : sd_bus_message_close_container(reply);
}
