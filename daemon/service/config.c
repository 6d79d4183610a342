/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/config.h"

#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "service/log.h"
#include "service/rescue-rule.h"

#define DEFAULT_PATH "/etc/qdld/qdld.conf"

enum kind { BYTES, COUNT, SECONDS, SWITCH, CHOICE };

static const char *const kind_names[] = {
    [BYTES] = "size", [COUNT] = "count", [SECONDS] = "time in seconds", [SWITCH] = "yes or no"};

enum { POLICY_OFF, POLICY_HOLD };
static const char *const policies[] = {[POLICY_OFF] = "off", [POLICY_HOLD] = "hold", NULL};

static const struct setting {
    const char *section, *name;
    enum kind kind;
    size_t offset;
    uint64_t fallback, min, max; /* in the setting's own unit; of a choice the number of its word */
    const char *const *words;    /* of a choice, NULL-terminated */
} settings[] = {
#define SETTING(section, name, kind, field, ...)                                                             \
    {                                                                                                        \
        section, name, kind, offsetof(struct config, field), __VA_ARGS__                                     \
    }
    SETTING("Limits", "PackageSizeMax", BYTES, package_bytes_max, UINT64_C(4) << 30, 1 << 20,
            UINT64_C(4) << 30),
    SETTING("Limits", "PackageEntriesMax", COUNT, package_entries_max, 4096, 16, 4096),
    SETTING("Limits", "LibrarySizeMax", BYTES, library_bytes_max, UINT64_C(16) << 30, 1 << 20,
            UINT64_C(1) << 50),
    SETTING("Backup", "ReserveFree", BYTES, reserve_free, UINT64_C(1) << 30, 0, UINT64_C(1) << 50),
    SETTING("Backup", "Automatic", SWITCH, backups_automatic, 1, 0, 1),
    SETTING("Backup", "Keep", COUNT, backups_keep, 4, 1, 1000),
    SETTING("Limits", "JobsPerUser", COUNT, jobs_per_uid, 8, 1, 64),
    SETTING("Limits", "ImportsPerUser", COUNT, imports_per_uid, 2, 1, 64),
    SETTING("Limits", "JobsMax", COUNT, jobs_max, 64, 1, 1024),
    SETTING("Limits", "ImportWorkersMax", COUNT, import_workers_max, 4, 1, 64),
    SETTING("Limits", "PendingAuthorizationsPerUser", COUNT, pending_auth_per_uid, 16, 1, 1024),
    SETTING("Limits", "InputTimeoutSec", SECONDS, input_timeout, 60, 1, 3600),
    SETTING("Limits", "PreflightSec", SECONDS, ready_timeout, 10, 1, 600),
    SETTING("Limits", "StopSec", SECONDS, stop_timeout, 120, 1, 120),
    SETTING("Limits", "JobLogMax", BYTES, log_bytes_max, 4 << 20, 4096, 64 << 20),
    SETTING("Limits", "JobsLinger", COUNT, jobs_linger, 64, 1, 1024),
    SETTING("Limits", "JobsLingerSec", SECONDS, jobs_linger_time, 7 * 86400, 1, 366 * 86400),
    SETTING("Identify", "OnAppear", SWITCH, identify_on_appear, 1, 0, 1),
    SETTING("Identify", "DelaySec", SECONDS, identify_delay, 5, 0, 600),
    SETTING("Catch", "DefaultPolicy", CHOICE, default_policy, POLICY_HOLD, 0, 1, policies),
    SETTING("Catch", "CatchUnknown", SWITCH, catch_unknown, 0, 0, 1),
    SETTING("Rescue", "Attempts", COUNT, rescue_attempts, 5, 1, 100),
    SETTING("Rescue", "FlashesPerDay", COUNT, rescue_per_day, 6, 1, RESCUE_DAY_MAX),
    SETTING("Rescue", "BackoffSec", SECONDS, rescue_backoff, 60, 1, 86400),
    SETTING("Flash", "WaitDeviceSec", SECONDS, wait_device, 120, 1, 86400),
    SETTING("Flash", "BootTimeoutSec", SECONDS, boot_timeout, 180, 1, 3600),
#undef SETTING
};

/* COUNT, SWITCH and CHOICE fields are unsigned, the others 64 bits wide. */
static void store(struct config *c, const struct setting *s, uint64_t value)
{
    void *field = (char *)c + s->offset;
    bool narrow = s->kind == COUNT || s->kind == SWITCH || s->kind == CHOICE;
    if (narrow && s->offset != offsetof(struct config, package_entries_max))
        *(unsigned *)field = (unsigned)value;
    else
        *(uint64_t *)field = s->kind == SECONDS ? value * USEC_PER_SEC : value;
}

/* "4G", "64M", "512K", "4096"; no suffix for anything but bytes. */
static int parse_value(const char *text, enum kind kind, uint64_t *ret)
{
    size_t n = strlen(text);
    unsigned shift = 0;
    char digits[32];
    if (n == 0 || n >= sizeof(digits))
        return -EINVAL;
    if (kind == SWITCH) {
        bool yes = strcmp(text, "yes") == 0 || strcmp(text, "true") == 0 || strcmp(text, "on") == 0 ||
                   strcmp(text, "1") == 0;
        bool no = strcmp(text, "no") == 0 || strcmp(text, "false") == 0 || strcmp(text, "off") == 0 ||
                  strcmp(text, "0") == 0;
        *ret = yes;
        return yes || no ? 0 : -EINVAL;
    }
    memcpy(digits, text, n + 1);
    if (kind == BYTES) {
        const char *at = strchr("KMGT", digits[n - 1]);
        if (at && *at) {
            shift = 10 * (unsigned)(at - "KMGT" + 1);
            digits[n - 1] = '\0';
        }
    }
    return 0 > text_parse_u64(digits, 10, UINT64_MAX >> shift, ret) ? -EINVAL : (*ret <<= shift, 0);
}

/* -EINVAL for a word that is none of its choices. */
static int parse_choice(const char *text, const char *const *words, uint64_t *ret)
{
    for (uint64_t i = 0; words[i]; i++)
        if (strcmp(words[i], text) == 0) {
            *ret = i;
            return 0;
        }
    return -EINVAL;
}

struct load {
    struct config *config;
    const char *path;
    unsigned line;
};

/* inih's answer: nonzero is "fine"; a bad line is said here and never stops the file. */
static int on_setting(void *userdata, const char *section, const char *name, const char *value)
{
    struct load *load = userdata;
    for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
        const struct setting *s = &settings[i];
        if (strcmp(s->section, section) != 0 || strcmp(s->name, name) != 0)
            continue;
        uint64_t number;
        if (s->kind == CHOICE) {
            if (parse_choice(value, s->words, &number) < 0)
                log_message(LOG_WARNING, "%s: [%s] %s=%s ignored: expected %s or %s.", load->path, section,
                            name, value, s->words[0], s->words[1]);
            else
                store(load->config, s, number);
            return 1;
        }
        if (parse_value(value, s->kind, &number) < 0 || number < s->min || number > s->max)
            log_message(LOG_WARNING, "%s: [%s] %s=%s ignored: expected a %s from %llu to %llu.", load->path,
                        section, name, value, kind_names[s->kind], (unsigned long long)s->min,
                        (unsigned long long)s->max);
        else
            store(load->config, s, number);
        return 1;
    }
    log_message(LOG_WARNING, "%s: [%s] %s is not a setting of qdld, ignored.", load->path, section, name);
    return 1;
}

static int load_file(struct config *c, const char *path)
{
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    if (!f)
        return errno == ENOENT ? 0 : -errno;
    struct load load = {.config = c, .path = path};
    int line = ini_parse_file(f, on_setting, &load);
    if (line > 0)
        log_message(LOG_WARNING, "%s:%d: neither [Section] nor Name=value, ignored.", path, line);
    return 0;
}

static int is_conf(const struct dirent *d)
{
    return d->d_name[0] != '.' && text_ends_with(d->d_name, ".conf");
}

int config_load(struct config *c, const char *path)
{
    *c = (struct config){0};
    for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
        store(c, &settings[i], settings[i].fallback);

    if (!path)
        path = DEFAULT_PATH;
    int r = load_file(c, path);
    if (r < 0)
        return r;

    _cleanup_free_ char *dir = text_printf("%s.d", path);
    struct dirent **names = NULL;
    int n = dir ? scandir(dir, &names, is_conf, alphasort) : -1;
    for (int i = 0; i < n; i++) {
        _cleanup_free_ char *file = text_printf("%s/%s", dir, names[i]->d_name);
        int q = file ? load_file(c, file) : -ENOMEM;
        if (q < 0 && r == 0)
            r = q;
        free(names[i]);
    }
    free(names);
    return r;
}
