/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What this modem is and how it misbehaves: key=value settings from a file and from --set. Every setting, its
 * default and its meaning stands in one table (scenario.c); `virtual-modem --settings` prints it, README.md
 * explains.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { SCENARIO_LIST_MAX = 256, SCENARIO_FAULTS_MAX = 64, SCENARIO_TEXT_MAX = 160 };

enum loop_kind { LOOP_NONE, LOOP_SOFT, LOOP_HARD };
enum hello_kind {
    HELLO_NORMAL,
    HELLO_LOST,
    HELLO_TWICE,
    /* from here on hostile */
    HELLO_FLOOD,
    HELLO_SHORT,
    HELLO_LONG,
    HELLO_LYING_LENGTH,
    HELLO_STRANGE_MODE,
    HELLO_GARBAGE
};
enum read_data_kind { READ_HONEST, READ_ZERO, READ_HUGE, READ_WRAP, READ_WRAP64, READ_FAR, READ_ENDLESS };
enum execute_kind { EXECUTE_HONEST, EXECUTE_HUGE, EXECUTE_OTHER, EXECUTE_CUT };
enum start_kind {
    START_BOOT,
    START_SAHARA,
    START_FIREHOSE,
    START_MID_TRANSFER,
    START_CRASH_DUMP,
    START_NORMAL,
    START_RESET_RESP,
};
enum check_kind { CHECK_REFUSE, CHECK_SILENT, CHECK_ACCEPT };
enum done_kind { DONE_COMPLETE, DONE_PENDING };
enum sahara_reset_kind { SAHARA_RESET_HELLO, SAHARA_RESET_REBOOT, SAHARA_RESET_SILENT };
enum stuck_kind { STUCK_ERROR, STUCK_SWALLOW, STUCK_DEAD };
enum unsupported_kind { UNSUPPORTED_END_IMAGE, UNSUPPORTED_ZERO, UNSUPPORTED_SILENT };
enum tolerance_kind { TOLERANCE_IGNORE, TOLERANCE_ERROR };
enum boots_kind {
    BOOTS_YES,
    BOOTS_NO,
    BOOTS_OTHER_VERSION,
    BOOTS_ONCE_MORE,
    BOOTS_FALLS_BACK,
    BOOTS_CRASHES,
    BOOTS_NEVER_LASTS
};
enum initial_kind { INITIAL_BRICK, INITIAL_WORKING, INITIAL_BLANK };
enum calibration_kind {
    CALIBRATION_FACTORY,
    CALIBRATION_ERASED,
    CALIBRATION_NONE,
    CALIBRATION_NO_IMEI,
    CALIBRATION_BLANK_IMEI,
    CALIBRATION_PARTIAL
};
enum efs_lost_kind { EFS_LOST_KEEP, EFS_LOST_FORMAT };
enum lock_kind { LOCK_NONE, LOCK_WRITES, LOCK_ALL };
enum oper_mode_kind { OPER_MODE_AUTO, OPER_MODE_OFFLINE, OPER_MODE_UNTOLD };
enum nv_imei_kind { NV_IMEI_ONCE, NV_IMEI_WRITABLE, NV_IMEI_READ_ONLY };
enum efs_subsystem_kind { EFS_SUBSYSTEM_BOTH, EFS_SUBSYSTEM_STANDARD, EFS_SUBSYSTEM_ALTERNATE };
enum hidden_kind { HIDDEN_RFNV, HIDDEN_ITEM_FILES, HIDDEN_NONE };
enum autodir_kind { AUTODIR_CRASH, AUTODIR_OK };
enum flood_kind { FLOOD_OFF, FLOOD_UNTIL_SILENCED, FLOOD_ALWAYS };
enum get_kind { GET_NO, GET_EDL, GET_QF };
enum geometry_kind { GEOMETRY_4K, GEOMETRY_2K };
enum family_kind { FAMILY_AUTO, FAMILY_DEVPRG, FAMILY_9X07 };
enum configure_kind { CONFIGURE_ACK, CONFIGURE_NAK_ONCE, CONFIGURE_LARGER, CONFIGURE_SECOND_NAK };
enum erase_kind { ERASE_PHYSICAL, ERASE_GOOD_ACK, ERASE_GOOD_NAK, ERASE_SPILL };
enum fill_kind { FILL_FF, FILL_EE };
enum read_error_kind { READ_ERROR_FILL, READ_ERROR_NAK };
enum digest_kind { DIGEST_AUTO, DIGEST_ON, DIGEST_OFF, DIGEST_WRONG };
enum digest_form {
    DIGEST_FORM_LOG,
    DIGEST_FORM_BARE,
    DIGEST_FORM_ATTRIBUTE,
    DIGEST_FORM_SHORT,
    DIGEST_FORM_LONG,
    DIGEST_FORM_NO_HEX
};
enum vendor_kind { VENDOR_CHECK, VENDOR_AGREE, VENDOR_REFUSE, VENDOR_UNKNOWN, VENDOR_NOTFOUND };
enum knows_kind { KNOWS_AUTO, KNOWS_YES, KNOWS_NO };
enum nak_kind { NAK_CONTINUE, NAK_HANG };
enum power_delay_kind { POWER_DELAY_IGNORE, POWER_DELAY_HONOUR };
enum storage_kind { STORAGE_OK, STORAGE_DEAD };
enum info_kind { INFO_TRUE, INFO_WRONG, INFO_NONE, INFO_ZERO, INFO_HUGE, INFO_NEGATIVE, INFO_GARBAGE };
enum port_reset_kind { PORT_RESET_IGNORE, PORT_RESET_RESTART };
enum in_zlp_kind { IN_ZLP_NO, IN_ZLP_YES, IN_ZLP_EACH };
enum crash_id_kind { CRASH_ID_QUECTEL, CRASH_ID_QUALCOMM };
enum crash_table_kind {
    CRASH_TABLE_HONEST,
    CRASH_TABLE_NARROW,
    CRASH_TABLE_NAMES,
    CRASH_TABLE_BOUNDS,
    CRASH_TABLE_OVERLAP,
    CRASH_TABLE_MANY,
    CRASH_TABLE_HUGE,
    CRASH_TABLE_ODD,
    CRASH_TABLE_EMPTY,
    CRASH_TABLE_REFUSE,
};

/* A list of block or page numbers. */
struct number_list {
    size_t count;
    uint32_t values[SCENARIO_LIST_MAX];
};

struct text_list {
    size_t count;
    char values[SCENARIO_FAULTS_MAX][SCENARIO_TEXT_MAX];
};

struct scenario {
    /* Who it is. */
    int64_t serial, hwid;
    char pkhash[SCENARIO_TEXT_MAX];
    int64_t pkhash_repeat;
    char version[SCENARIO_TEXT_MAX], product[SCENARIO_TEXT_MAX], product_edl[SCENARIO_TEXT_MAX];
    char port[SCENARIO_TEXT_MAX], kernel[SCENARIO_TEXT_MAX];
    char port_normal[SCENARIO_TEXT_MAX], kernel_normal[SCENARIO_TEXT_MAX];
    int64_t max_packet, max_packet_normal, pid_normal, diag_interface, diag_protocol, edl_protocol;
    int64_t swap_at, swap_serial;

    /* Its chip. */
    int64_t geometry, initial;
    char project[SCENARIO_TEXT_MAX], project_type[SCENARIO_TEXT_MAX];
    struct number_list bad, fail_program, fail_erase, unreadable, flip, erase_skips;
    int64_t flip_always, erase_skips_always, program_ff, torn;

    /* What its factory left in EFS2. */
    int64_t calibration, nv_items, nv_contexts, rfnv_items, efs_large_kib, efs_strange, efs_journal, efs_lost,
        efs_activity;
    char imei[SCENARIO_TEXT_MAX];

    /* Time. */
    int64_t program_us, erase_us, read_us, command_us, open_ms, read_data_us, programmer_start_ms;
    int64_t window_ms, gap_ms, reboot_ms, replug_ms, once_more_ms, normal_ms, host_wait_ms, power_delay,
        in_posted;

    /* Its life. */
    int64_t loop, start, force_edl, boots, crash_id, crash_table, crash_again, port_reset;

    /* Sahara. */
    int64_t hello, sahara_version, read64, read_data, execute, overread, programmer_check, done, sahara_reset,
        reset_state_machine;
    int64_t stuck, command_mode, pkhash_command, unsupported_command, sahara_zlp;

    /* Firehose. */
    int64_t family, payload_max, configure, storage, storage_info, erase_kind, fill, fill_batch, read_error,
        digest, digest_form, vendor, auto_erase;
    int64_t knows_skip_bad_block, knows_last_sector, knows_pages_per_block;
    int64_t chatty, logs_after_response, log_flood, big_log, split, glue, trailing_nuls, raw_glued,
        garbage_text;
    int64_t in_zlp, zlp_extra, after_nak;

    /* DIAG. */
    int64_t mobile_model, diag_spc, diag_password, diag_offline, nv_imei, nv_refuse_status, oper_mode;
    struct number_list nv_refuse, nv_unreadable, nv_deaf;
    char efs_refuse[SCENARIO_TEXT_MAX];
    int64_t efs_refuse_errno;
    char efs_unreadable[SCENARIO_TEXT_MAX];
    int64_t efs_unreadable_errno;
    char spc[SCENARIO_TEXT_MAX];
    int64_t efs_subsystem, efs_hidden, efs_open_autodir, efs_get, efs_md5, efs_chunk, efs_sync_ms;
    int64_t diag_us, nv_busy, diag_logs, diag_flood, diag_flood_us, diag_split, diag_glue, diag_tail;

    /* Faults. */
    struct text_list fault;
    int64_t fault_always;
};

void scenario_defaults(struct scenario *s);

/* One "key=value". False, with one line in error, for an unknown key or a value that it cannot have. */
bool scenario_set(struct scenario *s, const char *assignment, char *error, size_t error_size);

/* A file of such lines; empty ones and those that start with # are skipped. */
bool scenario_load(struct scenario *s, const char *path, char *error, size_t error_size);

/* The table: name, default, choices and meaning of each setting. */
void scenario_print(FILE *f);

/* True if the list has the number. */
bool number_list_has(const struct number_list *l, uint32_t value);
