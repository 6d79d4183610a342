/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What Sahara's numbers are called: the status table of reference/edl.md 1.3 and the chips of section 4. */

#include "protocol/sahara.h"

#include <stdio.h>

#include "base/cleanup.h"

static const char *const statuses[] = {
    [0x00] = "success",
    [0x01] = "invalid command in this state",
    [0x02] = "protocol mismatch",
    [0x03] = "invalid target protocol version",
    [0x04] = "invalid host protocol version",
    [0x05] = "invalid packet size",
    [0x06] = "unexpected image id",
    [0x07] = "invalid image header size",
    [0x08] = "invalid image data size",
    [0x09] = "invalid image type",
    [0x0a] = "invalid transmit length",
    [0x0b] = "invalid receive length",
    [0x0c] = "general transmit or receive error",
    [0x0d] = "READ_DATA error",
    [0x0e] = "too many program headers",
    [0x0f] = "invalid program header size",
    [0x10] = "multiple shared segments",
    [0x11] = "uninitialised program header location",
    [0x12] = "invalid destination address",
    [0x13] = "invalid image header data size",
    [0x14] = "invalid ELF header",
    [0x15] = "unknown host error in HELLO_RESP",
    [0x16] = "receive timeout",
    [0x17] = "transmit timeout",
    [0x18] = "invalid mode from the host",
    [0x19] = "invalid memory read",
    [0x1a] = "the host cannot handle the size",
    [0x1b] = "memory debug unsupported",
    [0x1c] = "invalid mode switch",
    [0x1d] = "command execution failed",
    [0x1e] = "invalid command parameter",
    [0x1f] = "client command unsupported",
    [0x20] = "EXECUTE_DATA for the wrong client command",
    [0x21] = "hash-table auth failure",
    [0x22] = "segment hash failure",
    [0x23] = "hash table missing",
    [0x24] = "target init failure",
    [0x25] = "image auth failure",
    [0x26] = "invalid hash-table size",
    [0x27] = "enumeration failure",
    [0x28] = "hardware bulk transfer error",
};

const char *sahara_status_name(uint32_t status)
{
    static _Thread_local char text[64];
    if (status < ARRAY_SIZE(statuses))
        snprintf(text, sizeof(text), "%s (0x%02x)", statuses[status], status);
    else
        snprintf(text, sizeof(text), "unknown status 0x%x", status);
    return text;
}

enum { MSM_ID_SHIFT = 32, MSM_ID_WITHOUT_REVISION = 0x0fffffff };

/* An M behind the part (SDX55M, SDX24M) is the same silicon for us: same programmers, same packages. */
static const struct {
    uint32_t msm_id;
    const char *name;
} chips[] = {
    {0x000480e1, "MDM9207"}, {0x0004a0e1, "MDM9607"}, {0x000320e1, "MDM9250"}, {0x0007d0e1, "SDX20"},
    {0x0007f0e1, "MDM9x65"}, {0x000960e1, "SDX24"},   {0x000970e1, "SDX24"},   {0x0007b0e1, "SDX50M"},
    {0x000cf0e1, "SDX55"},   {0x000e50e1, "SDX55"},   {0x001990e1, "SDX62"},   {0x001610e1, "SDX65"},
    {0x001070e1, "MDM9205"}, {0x009730e1, "MDM9206"},
};

const char *sahara_chip_name(uint64_t hwid)
{
    uint32_t msm_id = (uint32_t)(hwid >> MSM_ID_SHIFT) & MSM_ID_WITHOUT_REVISION;
    for (size_t i = 0; i < ARRAY_SIZE(chips); i++)
        if (chips[i].msm_id == msm_id)
            return chips[i].name;
    return NULL;
}
