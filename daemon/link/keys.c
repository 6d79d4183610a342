/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "link/keys.h"

#include <stddef.h>

const char *const link_keys_from_service[] = {
    KEY_JOB, KEY_OPTION,  KEY_FD,     KEY_DEVICE, KEY_DEVICE_GONE, KEY_APPEARED,      KEY_VID,
    KEY_PID, KEY_PRODUCT, KEY_CANCEL, KEY_STOP,   KEY_RELEASE,     KEY_BACKUP_STORED, KEY_BACKUP_REFUSED,
    KEY_ID,  KEY_MESSAGE, NULL,
};

const char *const link_keys_from_worker[] = {
    KEY_BUILD,       KEY_READY,       KEY_PHASE,       KEY_DETAIL,     KEY_PROGRESS,
    KEY_BYTES_DONE,  KEY_BYTES_TOTAL, KEY_UNSAFE,      KEY_CANCELABLE, KEY_LOG,
    KEY_WAIT_DEVICE, KEY_DEVICE_LOST, KEY_SERIAL,      KEY_HWID,       KEY_PKHASH,
    KEY_CHIP,        KEY_MODE,        KEY_STORAGE,     KEY_PROJECT,    KEY_TABLE,
    KEY_DESTRUCTIVE, KEY_PROBLEM,     KEY_FIRMWARE,    KEY_PLAN,       KEY_RESULT,
    KEY_ERROR,       KEY_MESSAGE,     KEY_WORDS,       KEY_HINT,       KEY_REPORT,
    KEY_HOLDING,     KEY_BACKUP,      KEY_BACKUP_FACT, KEY_VERSION,    KEY_MODEL,
    KEY_OPERATING,   KEY_IMEI_HASH,   KEY_IMEI,        NULL,
};
