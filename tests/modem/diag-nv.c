/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Numbered NV items (reference/diag.md 2.4). */

#include "diag.h"

#include <string.h>

#include "factory.h"
#include "trace.h"

enum nv_status {
    NV_DONE,
    NV_BUSY,
    NV_BAD_COMMAND,
    NV_FULL,
    NV_FAIL,
    NV_NOT_ACTIVE,
    NV_BAD_PARAMETER,
    NV_READ_ONLY,
    NV_NOT_DEFINED,
};

enum {
    ITEMS = 7166, /* what is beyond is not known to this firmware, files instead of numbers from 20000 on */
    PLAIN_ITEM = 1,
    PLAIN_DATA = 3,
    PLAIN_SHORT = PLAIN_DATA + EFS_NV_SIZE, /* some hosts leave the status out */
    INDEXED_ITEM = 4,
    INDEXED_INDEX = 6,
    INDEXED_DATA = 8,
    INDEXED_SHORT = INDEXED_DATA + EFS_NV_SIZE,
    INDEXED_READ = 1,
    INDEXED_WRITE = 2,
};

/* Numbers that this firmware gives no meaning to; what its factory wrote has one. */
static bool is_defined(const struct diag *d, uint16_t item)
{
    if (item % 7 != 5)
        return true;
    for (size_t i = 0; i < (size_t)d->scenario->nv_items; i++)
        if (factory_nv_item(d->scenario, i) == item)
            return true;
    return false;
}

static enum nv_status check_item(const struct diag *d, uint16_t item, uint16_t index)
{
    if (item >= ITEMS || (index && index >= d->scenario->nv_contexts))
        return NV_BAD_PARAMETER;
    return is_defined(d, item) ? NV_DONE : NV_NOT_DEFINED;
}

static enum nv_status read_item(struct diag *d, uint16_t item, uint16_t index, uint8_t *data)
{
    enum nv_status status = check_item(d, item, index);
    const struct efs_nv *nv = efs_nv_find(&d->efs, item, index);

    if (status != NV_DONE)
        return status;
    if (item == NV_ESN && index == 0) {
        memcpy(data, "\x0D\xD0\xAD\xDE", 4);
        return NV_DONE;
    }
    if (number_list_has(&d->scenario->nv_unreadable, item))
        return NV_FAIL;
    if (!nv)
        return NV_NOT_ACTIVE;
    memcpy(data, nv->data, EFS_NV_SIZE);
    return NV_DONE;
}

static enum nv_status write_item(struct diag *d, uint16_t item, uint16_t index, const uint8_t *data)
{
    enum nv_status status = check_item(d, item, index);
    const struct efs_nv *nv = efs_nv_find(&d->efs, item, index);

    if (status != NV_DONE)
        return status;
    if (item == NV_ESN)
        return NV_READ_ONLY;
    if (item == NV_IMEI && nv && nv->data[0] && memcmp(nv->data, data, EFS_NV_SIZE) != 0)
        violation("another IMEI is written");
    if (item == NV_IMEI && (d->scenario->nv_imei == NV_IMEI_READ_ONLY ||
                            (d->scenario->nv_imei == NV_IMEI_ONCE && nv && nv->data[0])))
        return NV_READ_ONLY;
    if (number_list_has(&d->scenario->nv_refuse, item))
        return (enum nv_status)d->scenario->nv_refuse_status;
    if (number_list_has(&d->scenario->nv_deaf, item))
        return NV_DONE;
    return efs_nv_put(&d->efs, item, index, data) ? NV_FULL : NV_DONE;
}

/* What read and write have in common; where its fields lie is what differs. */
static int serve(struct diag *d, bool write, uint16_t index, size_t item_at, size_t data_at)
{
    uint16_t item = diag_u16(d, item_at);
    enum nv_status status;
    bool busy;

    if (d->request_length > data_at + EFS_NV_SIZE + sizeof(uint16_t))
        return diag_refuse(d, DIAG_BAD_LENGTH);
    if (item == NV_NEVER && write)
        violation("NV %d is written", NV_NEVER);
    if (item == NV_NEVER) {
        /* Not even a whole frame comes back. */
        d->answer_length = 0;
        return 0;
    }
    if (!diag_may(d, write))
        return 0;
    busy = d->scenario->nv_busy > 0 && ++d->nv_accesses % (uint64_t)d->scenario->nv_busy == 0;
    diag_answer(d, data_at, data_at + EFS_NV_SIZE + sizeof(uint16_t));
    if (write)
        memcpy(d->answer + data_at, d->request + data_at, EFS_NV_SIZE);
    status = busy    ? NV_BUSY
             : write ? write_item(d, item, index, d->request + data_at)
                     : read_item(d, item, index, d->answer + data_at);
    diag_put16(d, data_at + EFS_NV_SIZE, status);
    trace("diag nv %s item=%u index=%u status=%d", write ? "write" : "read", item, index, (int)status);
    return 0;
}

int diag_nv(struct diag *d, bool write)
{
    return diag_has(d, PLAIN_SHORT) ? serve(d, write, 0, PLAIN_ITEM, PLAIN_DATA) : 0;
}

int diag_nv_indexed(struct diag *d)
{
    uint16_t command = diag_u16(d, 2);

    if (d->scenario->nv_contexts == 0 || (command != INDEXED_READ && command != INDEXED_WRITE))
        return diag_refuse(d, DIAG_BAD_COMMAND);
    if (!diag_has(d, INDEXED_SHORT))
        return 0;
    return serve(d, command == INDEXED_WRITE, diag_u16(d, INDEXED_INDEX), INDEXED_ITEM, INDEXED_DATA);
}
