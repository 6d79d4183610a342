/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "scenario.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum setting_type { TYPE_NUMBER, TYPE_HEX, TYPE_TEXT, TYPE_CHOICE, TYPE_NUMBERS, TYPE_FAULTS };

struct setting {
    const char *name;
    enum setting_type type;
    size_t offset;
    const char *initial;
    const char *choices; /* "a|b|c", in the order of the enum */
    const char *meaning;
};

#define AT(field) offsetof(struct scenario, field)
#define NUMBER(n, d, m)                                                                                      \
    {                                                                                                        \
#n, TYPE_NUMBER, AT(n), d, NULL, m                                                                   \
    }
#define HEX(n, d, m)                                                                                         \
    {                                                                                                        \
#n, TYPE_HEX, AT(n), d, NULL, m                                                                      \
    }
#define TEXT(n, d, m)                                                                                        \
    {                                                                                                        \
#n, TYPE_TEXT, AT(n), d, NULL, m                                                                     \
    }
#define CHOICE(n, d, c, m)                                                                                   \
    {                                                                                                        \
#n, TYPE_CHOICE, AT(n), d, c, m                                                                      \
    }
#define CHOICE_AS(k, n, d, c, m)                                                                             \
    {                                                                                                        \
        k, TYPE_CHOICE, AT(n), d, c, m                                                                       \
    }
#define SWITCH(n, d, m)                                                                                      \
    {                                                                                                        \
#n, TYPE_CHOICE, AT(n), d, "no|yes", m                                                               \
    }
#define NUMBERS(n, m)                                                                                        \
    {                                                                                                        \
#n, TYPE_NUMBERS, AT(n), "", NULL, m                                                                 \
    }

static const struct setting settings[] = {
    HEX(serial, "49cbd7ef", "chip serial, also _SN: of the product string in 9008"),
    HEX(hwid, "000e50e100040000", "MSM_HW_ID: MSM, OEM, model"),
    TEXT(pkhash, "d9357db88795b5a8c2d1f07e6b4a39185f0c2e7d9b8a61534403f2e1d0cfbead",
         "PK hash in hex (32, 48 or 64 bytes)"),
    NUMBER(pkhash_repeat, "3", "how often the PK hash is repeated in the answer"),
    TEXT(version, "RM502QGLAAR05A03M4G", "version inside the images of a fresh flash"),
    TEXT(product, "RM502Q-GL", "product string in normal mode"),
    TEXT(product_edl, "", "product string in 9008; empty: QUSB_BULK_CID:0410_SN:<serial>"),
    TEXT(port, "virtual-usb-0:1.2", "connector"),
    TEXT(kernel, "1-1.2", "kernel name"),
    TEXT(port_normal, "", "connector in normal mode; empty: as port"),
    TEXT(kernel_normal, "", "kernel name in normal mode (SuperSpeed side); empty: as kernel"),
    NUMBER(max_packet, "512", "wMaxPacketSize in 9008"),
    NUMBER(max_packet_normal, "512", "wMaxPacketSize in normal mode; 1024 is SuperSpeed, on USB another bus"),
    HEX(pid_normal, "800", "product id in normal mode"),
    NUMBER(diag_interface, "0", "which of the five interfaces is DIAG, 0 to 3 (on USB)"),
    HEX(diag_protocol, "30", "bInterfaceProtocol of DIAG (on USB); ff on older modems"),
    HEX(edl_protocol, "ff", "bInterfaceProtocol in 9008 (on USB); 11 on newer modems"),
    NUMBER(swap_at, "0", "another unit sits there from the Nth appearance on; 0 never"),
    HEX(swap_serial, "5eed0001", "the other unit's serial"),

    CHOICE(geometry, "p4K_b256K", "p4K_b256K|p2K_b128K", "page and block of a fresh flash"),
    CHOICE(initial, "brick", "brick|working|blank",
           "contents of a fresh flash: no SBL; boots; everything erased"),
    TEXT(project, "RM502QGLAA", "project name in RAWDATA of a fresh flash"),
    TEXT(project_type, "STD", "project type in RAWDATA of a fresh flash"),
    NUMBERS(bad, "bad blocks (marked when the flash is opened)"),
    NUMBERS(fail_program, "blocks that go bad when one of their pages is programmed"),
    NUMBERS(fail_erase, "blocks that go bad when they are erased"),
    NUMBERS(unreadable, "pages that cannot be read (marked when the flash is opened, if they are written)"),
    NUMBERS(flip, "physical pages in which a bit flips when they are programmed"),
    SWITCH(flip_always, "no", "they flip at every programming, not only at the first"),
    NUMBERS(erase_skips, "blocks that an erase passes over in silence, and ACKs"),
    SWITCH(erase_skips_always, "no", "it does so at every erase, not only at the first"),
    SWITCH(program_ff, "yes", "no: a page of nothing but 0xFF is passed over when it is programmed"),
    SWITCH(torn, "yes", "power loss while programming or erasing ruins the page or block at hand"),

    CHOICE(calibration, "factory", "factory|erased|none|no-imei|blank-imei|partial",
           "EFS2 of a fresh flash: all that the factory wrote, erased, an empty file system, without NV 550, "
           "NV 550 all zero, half of rfnv"),
    TEXT(imei, "", "IMEI in NV 550 of a fresh flash; empty: made of the serial"),
    NUMBER(nv_items, "238", "numbered NV items of a fresh flash"),
    NUMBER(nv_contexts, "3", "subscriptions with numbered items of their own; 0: the modem has no 4b 30"),
    NUMBER(rfnv_items, "150", "items in /nv/item_files/rfnv of a fresh flash, and that the radio wants"),
    NUMBER(efs_large_kib, "0", "so many KiB of large files in EFS2 of a fresh flash"),
    SWITCH(efs_strange, "no",
           "EFS2 of a fresh flash has names that no XQCN can hold, and directories deep in each other"),
    CHOICE(efs_lost, "keep", "keep|format",
           "a file system that is not whole: formatted by the first write, or when the modem boots"),
    NUMBER(efs_activity, "0",
           "while it is online the firmware writes /data/counters at every Nth request; 0 never"),
    NUMBER(efs_journal, "0", "so many changes of EFS2 without a sync, then ENOSPC; 0 no limit"),

    NUMBER(program_us, "0", "programming of one page"),
    NUMBER(erase_us, "0", "erasing of one block"),
    NUMBER(read_us, "0", "reading of one page"),
    NUMBER(command_us, "0", "latency of every Firehose command"),
    NUMBER(open_ms, "0", "first opening of the storage"),
    NUMBER(read_data_us, "0", "pause before every READ_DATA"),
    NUMBER(programmer_start_ms, "0", "from DONE_RESP to the banner"),
    NUMBER(window_ms, "0", "how long 9008 stays while it loops"),
    NUMBER(gap_ms, "50", "how long it is gone between two windows"),
    NUMBER(reboot_ms, "20", "how long it is gone after a reset"),
    NUMBER(replug_ms, "50", "how long it is gone after an unplug fault; -1 for ever"),
    NUMBER(once_more_ms, "50", "boots=once-more: how long normal mode stays at first"),
    NUMBER(normal_ms, "3000", "boots=falls-back, crashes, never-lasts: how long normal mode stays"),
    NUMBER(host_wait_ms, "60000",
           "how long it waits for a host that is not there before it ends; -1 for ever"),
    CHOICE(power_delay, "ignore", "ignore|honour", "DelayInSeconds of <power>"),
    NUMBER(
        in_posted, "0",
        "bytes of the IN transfers that its host keeps posted: what goes in there without the host (socket)"),

    CHOICE(loop, "none", "none|soft|hard", "power cycles in 9008: never; until a programmer runs; always"),
    CHOICE(start, "boot", "boot|sahara|firehose|mid-transfer|crash-dump|normal|reset-resp",
           "first appearance"),
    SWITCH(force_edl, "no", "USB_BOOT is bridged: 9008 whatever the flash says"),
    CHOICE(boots, "yes", "yes|no|other-version|once-more|falls-back|crashes|never-lasts",
           "what becomes of a flash that should boot; falls-back, crashes: after normal_ms it is in 9008, in "
           "its crash dump, each time until its SBL is written anew; never-lasts: as falls-back, and then, "
           "too"),
    CHOICE(crash_id, "quectel", "quectel|qualcomm", "crash dump as 2c7c:0800 or as 05c6:900e"),
    CHOICE(crash_table, "honest", "honest|narrow|names|bounds|overlap|many|huge|odd|empty|refuse",
           "its table of memory regions: of 64 bit, of 32 bit; with paths for names, lengths beyond all "
           "bounds, regions in each other, 1000 entries; said to be of 4 GiB, of no whole entries, of none; "
           "a region that it does not lend"),
    NUMBER(crash_again, "0", "so many resets of a crash dump end in another one"),
    CHOICE(port_reset, "ignore", "ignore|restart", "what a port reset does"),

    CHOICE(hello, "normal", "normal|lost|twice|flood|short|long|lying-length|strange-mode|garbage",
           "HELLO of the first appearance; from flood on of every one"),
    NUMBER(sahara_version, "2", "protocol version in HELLO"),
    SWITCH(read64, "no", "READ_DATA64 instead of READ_DATA"),
    CHOICE(read_data, "honest", "honest|zero|huge|wrap|wrap64|far|endless",
           "what it asks for of the programmer: its segments, or numbers beyond every file"),
    CHOICE(execute, "honest", "honest|huge|other|cut",
           "length told for a client command's answer, answer to another one, half of the answer"),
    NUMBER(overread, "0", "bytes requested past the end of the last segment"),
    CHOICE(programmer_check, "refuse", "refuse|silent|accept",
           "a programmer that is not signed for this PK hash"),
    CHOICE(done, "complete", "complete|pending", "status in DONE_RESP"),
    CHOICE(sahara_reset, "hello", "hello|reboot|silent", "what follows RESET_RESP"),
    SWITCH(reset_state_machine, "yes", "RESET_STATE_MACHINE is understood"),
    CHOICE(stuck, "error", "error|swallow|dead", "a write of a wrong length in the middle of a transfer"),
    SWITCH(command_mode, "yes", "command mode is granted"),
    SWITCH(pkhash_command, "yes", "OEM_PK_HASH_READ is answered"),
    CHOICE(unsupported_command, "end-image", "end-image|zero|silent",
           "answer to a client command that it lacks"),
    CHOICE(sahara_zlp, "error", "ignore|error", "a ZLP that follows raw data in Sahara"),

    CHOICE(family, "auto", "auto|devprg|9x07", "whose banner and texts; auto: 9x07 on p2K_b128K"),
    NUMBER(payload_max, "8192", "largest payload supported"),
    CHOICE(configure, "ack", "ack|nak-once|larger|second-nak", "habits in negotiation"),
    CHOICE(storage, "ok", "ok|dead", "dead: the NAND does not open"),
    CHOICE(storage_info, "true", "true|wrong|none|zero|huge|negative|garbage",
           "what getstorageinfo says: the chip, half its page, nothing, numbers that no chip has, no JSON"),
    CHOICE(erase_kind, "physical", "physical|good-ack|good-nak|spill",
           "what an erase counts and how it ends"),
    CHOICE(fill, "ff", "ff|ee", "what an erased page reads as"),
    SWITCH(fill_batch, "no",
           "it is shown for a whole payload of pages inside a block if one of them is erased"),
    CHOICE(read_error, "fill", "fill|nak", "an unreadable page: its fill; zeros, and a NAK at the end"),
    CHOICE(digest, "auto", "auto|on|off|wrong", "getsha256digest; auto: by the literal in the programmer"),
    CHOICE(digest_form, "log", "log|bare|attribute|short|long|no-hex",
           "'INFO: Digest …', 'Digest …', Digest= in the response, 31 bytes, 33 bytes, 64 other letters"),
    CHOICE(vendor, "check", "check|agree|refuse|unknown|notfound", "answer to the vendor tag"),
    CHOICE_AS("auto_erase", auto_erase, "auto", "auto|yes|no", "program erases first; auto: devprg does"),
    CHOICE_AS("skip_bad_block", knows_skip_bad_block, "auto", "auto|yes|no", "auto: by the literal"),
    CHOICE_AS("last_sector", knows_last_sector, "auto", "auto|yes|no", "auto: by the literal"),
    CHOICE_AS("pages_per_block", knows_pages_per_block, "auto", "auto|yes|no", "auto: by the literal"),
    NUMBER(chatty, "0", "so many more logs with every command"),
    SWITCH(logs_after_response, "no", "logs follow their response"),
    NUMBER(log_flood, "-1", "endless logs from the Nth command on; 0 instead of a banner end; -1 never"),
    NUMBER(big_log, "0", "a log line of 1 MiB before the answer to the Nth command; 0 never"),
    NUMBER(split, "0", "documents go out in transfers of so many bytes; 0 whole"),
    SWITCH(glue, "no", "logs and response of a command in one transfer"),
    NUMBER(trailing_nuls, "0", "NUL bytes behind every document"),
    SWITCH(raw_glued, "no", "data of read in the same transfer as the ACK"),
    SWITCH(garbage_text, "no", "bytes that are not UTF-8 inside log texts"),
    CHOICE(
        in_zlp, "yes", "no|yes|each",
        "a ZLP follows an IN transfer that is a multiple of the packet size; each: every payload of a read"),
    CHOICE(zlp_extra, "ignore", "ignore|error", "a ZLP in raw data although ZlpAwareHost=0"),
    CHOICE(after_nak, "continue", "continue|hang", "what the programmer does after it said NAK"),

    NUMBER(mobile_model, "334", "mobile_model_id in the answer to 7c"),
    CHOICE(diag_spc, "none", "none|writes|all",
           "what of NV and EFS is refused with 42 before the SPC was given"),
    TEXT(spc, "000000", "the SPC"),
    CHOICE(diag_password, "none", "none|writes|all",
           "what is refused with 47 before the password (FF…FE) was given"),
    SWITCH(diag_offline, "yes", "NV and EFS are written only offline or in factory test mode, else 18"),
    CHOICE(nv_imei, "once", "once|writable|read-only", "writes of NV 550"),

    NUMBERS(nv_refuse, "items that take no write"),
    NUMBER(nv_refuse_status, "4", "the status of such a write: 4 failed, 7 read-only, 8 not defined"),
    NUMBERS(nv_unreadable, "items whose reading ends with status 4, failed"),
    NUMBERS(nv_deaf, "items that answer a write with done and stay as they are"),
    CHOICE(oper_mode, "auto", "auto|offline|untold",
           "mode after a boot: by its calibration, offline whatever is there (+CFUN: 7), not known to 4b 0f"),
    CHOICE(efs_subsystem, "both", "both|standard|alternate", "EFS2 as 4b 13, as 4b 3e"),
    CHOICE(efs_hidden, "rfnv", "rfnv|item-files|none", "which files are there by path and in no directory"),
    CHOICE(efs_open_autodir, "crash", "crash|ok", "open with ITEMFILE and AUTODIR"),
    CHOICE(efs_get, "no", "no|edl|qf", "whose form of the operation 39 it knows"),
    SWITCH(efs_md5, "yes", "it knows MD5SUM"),
    TEXT(efs_refuse, "", "files whose path begins so take no write"),
    NUMBER(efs_refuse_errno, "5", "the errno of such a write"),
    TEXT(efs_unreadable, "",
         "files that are there and whose path begins so are not opened, neither to read nor to write"),
    NUMBER(efs_unreadable_errno, "5", "the errno of that"),
    NUMBER(efs_chunk, "1024", "bytes that one read gives at most, and one write may have"),
    NUMBER(efs_sync_ms, "20", "how long a sync takes"),

    NUMBER(diag_us, "0", "latency of every answer (2000 to 4000 are a modem's)"),
    NUMBER(nv_busy, "0", "every Nth access to a numbered item ends with status 1, busy; 0 never"),
    NUMBER(diag_logs, "0", "so many unasked frames before each answer"),
    CHOICE(diag_flood, "off", "off|until-silenced|always",
           "unasked frames at any time: until 73, 7d 05 and 60 switched them off, or whatever they say"),
    NUMBER(diag_flood_us, "1000", "time between two of them"),
    NUMBER(diag_split, "0", "answers go out in transfers of so many bytes; 0 whole"),
    SWITCH(diag_glue, "no", "an answer and what is unasked around it in one transfer"),
    SWITCH(diag_tail, "no", "the first thing that it says is the end of an older frame"),

    {"fault", TYPE_FAULTS, AT(fault), "", NULL,
     "KIND@POINT: unplug|hang|nak|garbage|stop @ command:N|program:N|erase:N|done:N|byte:N|out:N[+OFFSET]|"
     "in:N[+OFFSET]|diag:N|answered:N|every:N, and there only "
     "silent|slow|crc|cut|short|long|twice|other|stale|flip; may be "
     "repeated"},
    SWITCH(fault_always, "no", "faults happen again in every appearance (counts restart)"),
};

static bool parse_number(const char *text, int base, int64_t *ret)
{
    char *end;
    long long v;

    errno = 0;
    v = base == 16 ? (long long)strtoull(text, &end, 16) : strtoll(text, &end, base);
    if (errno || end == text || *end)
        return false;
    *ret = v;
    return true;
}

static bool parse_choice(const char *text, const char *choices, int64_t *ret)
{
    size_t length = strlen(text);
    int64_t index = 0;

    for (const char *p = choices; p; index++) {
        const char *bar = strchr(p, '|');
        size_t n = bar ? (size_t)(bar - p) : strlen(p);
        if (n == length && strncmp(p, text, n) == 0) {
            *ret = index;
            return true;
        }
        p = bar ? bar + 1 : NULL;
    }
    /* A switch is also 0 or 1. */
    if (strcmp(choices, "no|yes") == 0 && (strcmp(text, "0") == 0 || strcmp(text, "1") == 0)) {
        *ret = text[0] - '0';
        return true;
    }
    return false;
}

/* "3,7-9": adds to the list; an empty text empties it. */
static bool parse_numbers(const char *text, struct number_list *l)
{
    l->count = 0;
    while (*text) {
        char *end;
        unsigned long first = strtoul(text, &end, 0), last = first;
        if (end == text)
            return false;
        if (*end == '-')
            last = strtoul(end + 1, &end, 0);
        if (last < first || (*end && *end != ','))
            return false;
        for (unsigned long v = first; v <= last; v++) {
            if (l->count == SCENARIO_LIST_MAX)
                return false;
            l->values[l->count++] = (uint32_t)v;
        }
        text = *end ? end + 1 : end;
    }
    return true;
}

static bool assign(struct scenario *s, const struct setting *t, const char *value)
{
    void *field = (char *)s + t->offset;
    struct text_list *list = field;

    switch (t->type) {
    case TYPE_NUMBER:
        return parse_number(value, 0, field);
    case TYPE_HEX:
        return parse_number(value, 16, field);
    case TYPE_CHOICE:
        return parse_choice(value, t->choices, field);
    case TYPE_NUMBERS:
        return parse_numbers(value, field);
    case TYPE_TEXT:
        if (strlen(value) >= SCENARIO_TEXT_MAX)
            return false;
        strcpy(field, value);
        return true;
    case TYPE_FAULTS:
        if (!*value || strcmp(value, "none") == 0) {
            list->count = 0;
            return true;
        }
        if (list->count == SCENARIO_FAULTS_MAX || strlen(value) >= SCENARIO_TEXT_MAX)
            return false;
        strcpy(list->values[list->count++], value);
        return true;
    }
    return false;
}

void scenario_defaults(struct scenario *s)
{
    memset(s, 0, sizeof(*s));
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        if (!assign(s, &settings[i], settings[i].initial))
            abort();
}

bool scenario_set(struct scenario *s, const char *assignment, char *error, size_t error_size)
{
    const char *equals = strchr(assignment, '=');
    size_t n = equals ? (size_t)(equals - assignment) : 0;

    for (size_t i = 0; n && i < sizeof(settings) / sizeof(settings[0]); i++) {
        const struct setting *t = &settings[i];
        if (strlen(t->name) != n || strncmp(t->name, assignment, n))
            continue;
        if (assign(s, t, equals + 1))
            return true;
        snprintf(error, error_size, "setting %s: cannot be '%s'%s%s", t->name, equals + 1,
                 t->choices ? ", only " : "", t->choices ? t->choices : "");
        return false;
    }
    snprintf(error, error_size, "no setting '%s'", assignment);
    return false;
}

bool scenario_load(struct scenario *s, const char *path, char *error, size_t error_size)
{
    FILE *f = fopen(path, "re");
    char line[1024];
    bool ok = true;

    if (!f) {
        snprintf(error, error_size, "scenario %s: %s", path, strerror(errno));
        return false;
    }
    while (ok && fgets(line, sizeof(line), f)) {
        char *p = line + strspn(line, " \t");
        p[strcspn(p, "\r\n")] = 0;
        if (*p && *p != '#')
            ok = scenario_set(s, p, error, error_size);
    }
    fclose(f);
    return ok;
}

void scenario_print(FILE *f)
{
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        const struct setting *t = &settings[i];
        fprintf(f, "%s\t%s\t%s\t%s\n", t->name, t->initial, t->choices ? t->choices : "", t->meaning);
    }
}

bool number_list_has(const struct number_list *l, uint32_t value)
{
    for (size_t i = 0; i < l->count; i++)
        if (l->values[i] == value)
            return true;
    return false;
}
