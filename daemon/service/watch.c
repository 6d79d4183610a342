/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/watch.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/text.h"

enum {
    VENDOR_QUECTEL = 0x2c7c,

    /* Modules of other chip makers have PIDs of four digits that begin with 6 (ASR) or 8 (HiSilicon); they
       have no EDL and must be left alone, but for these two, which are Qualcomm (reference/edl.md 3.1). */
    PID_FAMILY_MASK = 0xf000,
    PID_FAMILY_ASR = 0x6000,
    PID_FAMILY_HISILICON = 0x8000,
    PID_EM061K_GL_A = 0x6008,
    PID_EM061K_GL_B = 0x6009,

    SERIAL_DIGITS = 8,
};

/* What the ids say (reference/edl.md 3.1, 4). Where it also depends on the number of interfaces, see
 * appearance_kind(). */
enum kind { KIND_EDL, KIND_CRASH_DUMP, KIND_NORMAL, KIND_NORMAL_OR_DUMP, KIND_FASTBOOT };

static const struct {
    uint16_t vid, pid;
    enum kind kind;
} ids[] = {
    {0x05c6, 0x9008, KIND_EDL},
    {0x05c6, 0x900e, KIND_CRASH_DUMP},
    {0x05c6, 0x9006, KIND_CRASH_DUMP}, /* with mass storage */
    {0x05c6, 0x9025, KIND_CRASH_DUMP},
    {0x05c6, 0x901d, KIND_NORMAL},
    {0x05c6, 0x901f, KIND_NORMAL},         /* SDX20's default */
    {0x05c6, 0x9091, KIND_NORMAL_OR_DUMP}, /* SDX55's default */
    {0x05c6, 0x9092, KIND_NORMAL},
    {0x05c6, 0x90db, KIND_NORMAL},
    {0x05c6, 0x90e8, KIND_NORMAL},
    {0x3c93, 0xffff, KIND_NORMAL}, /* EC20, EG060K made for others */
    {0x3763, 0x3c93, KIND_NORMAL},
    {0x18d1, 0xd00d, KIND_FASTBOOT},
    /* EDL under a vendor's own ids */
    {0x105b, 0xe0ab, KIND_EDL}, /* Foxconn T99W175 */
    {0x105b, 0xe0b0, KIND_EDL},
    {0x0fce, 0x9dde, KIND_EDL}, /* Sony */
    {0x0fce, 0xade3, KIND_EDL},
    {0x0fce, 0xade5, KIND_EDL},
    {0x0fce, 0xaded, KIND_EDL},
    {0x1199, 0x9062, KIND_EDL}, /* Sierra */
    {0x1199, 0x9070, KIND_EDL},
    {0x1199, 0x9090, KIND_EDL},
    {0x0846, 0x68e0, KIND_EDL}, /* Netgear */
    {0x19d2, 0x0076, KIND_EDL}, /* ZTE */
    {0x1004, 0x61a1, KIND_EDL}, /* LG */
    {0x3801, 0x9008, KIND_EDL}, /* comma */
};

static int find_kind(uint16_t vid, uint16_t pid, enum kind *ret)
{
    if (vid == VENDOR_QUECTEL) {
        unsigned family = pid & PID_FAMILY_MASK;
        bool other_maker = family == PID_FAMILY_ASR || family == PID_FAMILY_HISILICON;
        if (other_maker && pid != PID_EM061K_GL_A && pid != PID_EM061K_GL_B)
            return -ENOENT;
        *ret = KIND_NORMAL_OR_DUMP;
        return 0;
    }
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
        if (ids[i].vid == vid && ids[i].pid == pid) {
            *ret = ids[i].kind;
            return 0;
        }
    return -ENOENT;
}

bool appearance_is_candidate(uint16_t vid, uint16_t pid)
{
    enum kind kind;
    return find_kind(vid, pid, &kind) == 0;
}

const char *appearance_kind(const struct appearance *a)
{
    enum kind kind;
    if (find_kind(a->vid, a->pid, &kind) < 0)
        return "unknown";
    switch (kind) {
    case KIND_EDL:
        return "edl";
    case KIND_CRASH_DUMP:
        return "crash-dump";
    case KIND_FASTBOOT:
        return "fastboot";
    case KIND_NORMAL_OR_DUMP: /* the same ids; a working modem has several interfaces (reference/edl.md 3.1,
                                 4) */
        return a->interfaces == 1 ? "crash-dump" : "normal";
    case KIND_NORMAL:
        return "normal";
    }
    return "unknown";
}

int appearance_serial(const char *product, char out[9])
{
    static const char marker[] = "_SN:";
    const char *p = strstr(product, marker);
    if (!p)
        return -ENOENT;
    p += strlen(marker);
    /* It ends with a blank, an underscore or the string (reference/edl.md 4). */
    size_t n = strcspn(p, " _");
    if (n == 0 || n > SERIAL_DIGITS)
        return -ENOENT;

    char digits[SERIAL_DIGITS + 1] = "00000000";
    memcpy(digits + SERIAL_DIGITS - n, p, n);
    uint8_t value[SERIAL_DIGITS / 2];
    if (text_unhex(digits, value, sizeof(value)) < 0)
        return -ENOENT;
    text_hex(value, sizeof(value), out);
    return 0;
}

bool appearance_port_fits(const char *port)
{
    enum { ENCODED_MAX = 200, ESCAPED = 3 };
    size_t n = 0;
    for (const char *c = port; *c; c++)
        n += isalnum((unsigned char)*c) && c > port ? 1 : ESCAPED;
    return n <= ENCODED_MAX;
}

struct appearance *appearance_free(struct appearance *a)
{
    if (!a)
        return NULL;
    free(a->key);
    free(a->port);
    free(a->kernel_name);
    free(a->devnode);
    free(a->product);
    close_fd(a->virtual_fd);
    free(a);
    return NULL;
}

struct watch *watch_free(struct watch *w)
{
    if (w)
        w->ops->free(w);
    return NULL;
}
