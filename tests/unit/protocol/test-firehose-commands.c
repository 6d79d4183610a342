/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Commands of one document and one answer: erase, getstorageinfo, getsha256digest, the vendor's check, power.
 */

#include "../firehose-modem.h"

#include "base/text.h"

static const struct firehose_range block10 = {4096, 64, 640, 64, 703};

/* ---- erase ---- */

static void host_erase(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    c->r = firehose_erase(f, &block10, &c->e);
    note(c, "%u %s", firehose_error_count(f), firehose_first_error(f));
    firehose_clear_errors(f);
    note(c, " %u%s", firehose_error_count(f), firehose_first_error(f));
}

static void host_bad_erase(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    struct firehose_range r = block10;
    r.count = 0;
    c->r = firehose_erase(f, &r, &c->e);
    if (c->r == -EINVAL)
        c->r = firehose_nop(f, NULL);
}

static void test_erase(void **state)
{
    (void)state;
    struct peer_case cases[] = {
        {"ACK", modem_steps,
         STEPS({"<erase PAGES_PER_BLOCK=\"64\" SECTOR_SIZE_IN_BYTES=\"4096\" num_partition_sectors=\"64\" "
                "physical_partition_number=\"0\" start_sector=\"640\" last_sector=\"703\" />",
                LOG("INFO: Calling handler for erase") LOG("INFO: Erasing start sector 640, num sectors 0")
                    ACK}),
         host_erase},
        {"ACK with errors", modem_steps,
         STEPS({"<erase",
                LOG("ERROR: out of good blocks") LOG("WARN: [205]NAND Error -2 (4)") LOG("ERROR: two") ACK}),
         host_erase},
        {"geometry", modem_steps,
         STEPS({"<erase",
                LOG("ERROR: Attribute 'SECTOR_SIZE_IN_BYTES'=4096 must be equal to disk sector size 2048")
                    NAK}),
         host_erase},
        {"geometry, devprg", modem_steps,
         STEPS({"<erase",
                LOG("ERROR: sector size defined in XML (4096) different from device sector size (2048)")
                    NAK}),
         host_erase},
        {"pages", modem_steps,
         STEPS({"<erase",
                LOG("ERROR: Attribute 'PAGES_PER_BLOCK'=64 must be equal to disk pages per block 128") NAK}),
         host_erase},
        {"dead flash", modem_steps,
         STEPS({"<erase", LOG("ERROR: Failed to open device, type:nand, slot:0, lun:0 error:4") NAK}),
         host_erase},
        {"nothing is sent", modem_steps, STEPS({"<nop", ACK}), host_bad_erase},
    };
    const struct expected expected[] = {
        {0, ERROR_NONE, NULL, "0  0"},
        {0, ERROR_NONE, NULL, "2 ERROR: out of good blocks 0"},
        {-EPERM, ERROR_GEOMETRY_DIFFERS, "disk sector size 2048", NULL},
        {-EPERM, ERROR_GEOMETRY_DIFFERS, "device sector size (2048)", NULL},
        {-EPERM, ERROR_GEOMETRY_DIFFERS, "pages per block 128", NULL},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "Failed to open device", NULL},
        {0, ERROR_INVALID_ARGS, NULL, NULL},
    };
    _Static_assert(ARRAY_SIZE(cases) == ARRAY_SIZE(expected), "one expectation a case");
    play(cases, expected, ARRAY_SIZE(cases));
    assert_int_equal(cases[5].e.hint, HINT_CONTACT_VENDOR);
}

/* ---- getstorageinfo ---- */

static void host_storage(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    struct firehose_storage s;
    c->r = firehose_storage_info(f, &s, &c->e);
    if (c->r < 0)
        return;
    if (s.valid)
        note(c, "%llu x %u of %u", (unsigned long long)s.total_blocks, s.block_size, s.page_size);
    if (s.bad_block_list)
        note(c, " bad:");
    for (size_t i = 0; i < s.n_bad_blocks; i++)
        note(c, " %u", s.bad_blocks[i]);
}

#define STORAGE(blocks, block, page)                                                                         \
    "INFO: {&quot;storage_info&quot;: {&quot;total_blocks&quot;:" blocks ", &quot;block_size&quot;:" block   \
    ", &quot;page_size&quot;:" page                                                                          \
    ", &quot;num_physical&quot;:1, &quot;manufacturer_id&quot;:44, &quot;serial_num&quot;:0, "               \
    "&quot;fw_version&quot;:&quot;0&quot;, &quot;mem_type&quot;:&quot;NAND&quot;, "                          \
    "&quot;prod_name&quot;:&quot;x&quot;}}"
#define UNESCAPED                                                                                            \
    "INFO: {\"storage_info\": {\"total_blocks\":2048, \"block_size\":262144, \"page_size\":4096, "           \
    "\"prod_name\":\"\"}}"
#define FLASH_INFO(pages)                                                                                    \
    "[FLASH_INFO]&#10;FLASH_NAME=MT29F4G08&#10;SECTOR_SIZE_IN_BYTES=2048&#10;NUM_PARTITION_SECTORS=" pages   \
    "&#10;num_physical_partitions=1&#10;TOTAL_SECTOR_SIZE_IN_BYTES=2112&#10;PAGES_IN_BLOCK=64&#10;"

static void test_storage(void **state)
{
    (void)state;
    struct peer_case cases[] = {
        {"SDX55", modem_steps,
         STEPS({"<getstorageinfo physical_partition_number=\"0\"",
                LOG("INFO: [297] bbt_size:100 blocks:800.") LOG(STORAGE("2048", "262144", "4096")) ACK}),
         host_storage},
        {"unescaped", modem_steps, STEPS({"<getstorageinfo", LOG(UNESCAPED) ACK}), host_storage},
        {"log behind the answer", modem_steps,
         STEPS({"<getstorageinfo", ACK}, {NULL, LOG(STORAGE("2048", "262144", "4096"))}), host_storage},
        {"9x07 in one log", modem_steps,
         STEPS({"<getstorageinfo",
                LOG("INFO: " FLASH_INFO("131072") "[BAD_BLOCK_LIST]&#10;BAD_BLOCK=7&#10;BAD_BLOCK=2047&#10;"
                                                  "TOTAL_BAD_BLOCK=2") ACK}),
         host_storage},
        {"9x07 a log a line", modem_steps,
         STEPS({"<getstorageinfo",
                LOG("INFO: [FLASH_INFO]") LOG("INFO: FLASH_NAME=MT29F4 G08")
                    LOG("INFO: SECTOR_SIZE_IN_BYTES=2048") LOG("INFO: NUM_PARTITION_SECTORS=131072")
                        LOG("INFO: PAGES_IN_BLOCK=64") LOG("INFO: [BAD_BLOCK_LIST]") LOG("INFO: BAD_BLOCK=12")
                            LOG("INFO: TOTAL_BAD_BLOCK=1") ACK}),
         host_storage},
        {"empty list", modem_steps,
         STEPS({"<getstorageinfo", LOG(FLASH_INFO("131072") "[BAD_BLOCK_LIST]&#10;TOTAL_BAD_BLOCK=0") ACK}),
         host_storage},
        {"list that contradicts itself", modem_steps,
         STEPS({"<getstorageinfo",
                LOG(FLASH_INFO("131072") "[BAD_BLOCK_LIST] BAD_BLOCK=7 TOTAL_BAD_BLOCK=2") ACK}),
         host_storage},
        {"block beyond the chip", modem_steps,
         STEPS({"<getstorageinfo", LOG(FLASH_INFO("131072") "[BAD_BLOCK_LIST] BAD_BLOCK=2048") ACK}),
         host_storage},
        {"no list", modem_steps, STEPS({"<getstorageinfo", LOG(FLASH_INFO("131072")) ACK}), host_storage},
        {"half a block", modem_steps, STEPS({"<getstorageinfo", LOG(FLASH_INFO("131073")) ACK}),
         host_storage},
        {"nothing told", modem_steps, STEPS({"<getstorageinfo", ACK}), host_storage},
        {"negative", modem_steps, STEPS({"<getstorageinfo", LOG(STORAGE("-1", "262144", "4096")) ACK}),
         host_storage},
        {"huge", modem_steps,
         STEPS({"<getstorageinfo", LOG(STORAGE("9223372036854775807", "262144", "4096")) ACK}), host_storage},
        {"cut to 32 bits", modem_steps,
         STEPS({"<getstorageinfo", LOG(STORAGE("2048", "4295229440", "4096")) ACK}), host_storage},
        {"a string", modem_steps,
         STEPS({"<getstorageinfo", LOG(STORAGE("&quot;2048&quot;", "262144", "4096")) ACK}), host_storage},
        {"page that divides nothing", modem_steps,
         STEPS({"<getstorageinfo", LOG(STORAGE("2048", "262144", "4097")) ACK}), host_storage},
        {"not JSON", modem_steps,
         STEPS({"<getstorageinfo", LOG("{ &quot;storage_info&quot;: {{{{{{{{{{{{") ACK}), host_storage},
        {"NAK", modem_steps,
         STEPS({"<getstorageinfo", LOG("ERROR: Failed to open device, type:nand, error:4") NAK}),
         host_storage},
    };
    const struct expected expected[] = {
        {0, ERROR_NONE, NULL, "2048 x 262144 of 4096"},
        {0, ERROR_NONE, NULL, "2048 x 262144 of 4096"},
        {0, ERROR_NONE, NULL, "2048 x 262144 of 4096"},
        {0, ERROR_NONE, NULL, "2048 x 131072 of 2048 bad: 7 2047"},
        {0, ERROR_NONE, NULL, "2048 x 131072 of 2048 bad: 12"},
        {0, ERROR_NONE, NULL, "2048 x 131072 of 2048 bad:"},
        {0, ERROR_NONE, NULL, "2048 x 131072 of 2048"},
        {0, ERROR_NONE, NULL, "2048 x 131072 of 2048"},
        {0, ERROR_NONE, NULL, "2048 x 131072 of 2048"},
        {0, ERROR_NONE, NULL, ""},
        {0, ERROR_NONE, NULL, ""},
        {0, ERROR_NONE, NULL, ""},
        {0, ERROR_NONE, NULL, ""},
        {0, ERROR_NONE, NULL, ""},
        {0, ERROR_NONE, NULL, ""},
        {0, ERROR_NONE, NULL, ""},
        {0, ERROR_NONE, NULL, ""},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "Failed to open device", NULL},
    };
    _Static_assert(ARRAY_SIZE(cases) == ARRAY_SIZE(expected), "one expectation a case");
    play(cases, expected, ARRAY_SIZE(cases));
}

static void modem_many_bad_blocks(struct peer *p, const void *arg)
{
    (void)arg;
    char text[4096];
    if (!hear_document(p, "<getstorageinfo", text, sizeof(text)))
        return;
    peer_say_text(p, LOG(FLASH_INFO("131072") "[BAD_BLOCK_LIST]"));
    for (int i = 0; i < 1000; i++) {
        snprintf(text, sizeof(text), LOG("BAD_BLOCK=%d"), i);
        peer_say_text(p, text);
    }
    peer_say_text(p, ACK);
    peer_be_silent(p);
}

static void test_many_bad_blocks(void **state)
{
    (void)state;
    struct peer_case c = {"many", modem_many_bad_blocks, NULL, host_storage};
    play(&c, &(struct expected){0, ERROR_NONE, NULL, "2048 x 131072 of 2048"}, 1);
}

/* ---- getsha256digest ---- */

#define HEX   "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"
#define OTHER "ff112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"

static void host_digest(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    uint8_t digest[32];
    char hex[65];
    c->r = firehose_digest(f, &block10, digest, &c->e);
    if (c->r == 0) {
        text_hex(digest, sizeof(digest), hex);
        note(c, "%s", text_equal_nocase(hex, HEX) ? "same" : hex);
    }
}

static void test_digest(void **state)
{
    (void)state;
    struct peer_case cases[] = {
        {"log", modem_steps, STEPS({"<getsha256digest SECTOR_SIZE", LOG("INFO: Digest " HEX) ACK}),
         host_digest},
        {"log behind the answer", modem_steps,
         STEPS({"<getsha256digest", ACK}, {NULL, LOG("INFO: Digest " HEX)}), host_digest},
        {"attribute Digest", modem_steps, STEPS({"<getsha256digest", ANSWER("value='ACK' Digest='" HEX "'")}),
         host_digest},
        {"attribute sha256", modem_steps, STEPS({"<getsha256digest", ANSWER("value='ACK' sha256='" HEX "'")}),
         host_digest},
        {"both", modem_steps,
         STEPS({"<getsha256digest", LOG("Digest: " HEX) ANSWER("value='ACK' SHA256='" HEX "'")}),
         host_digest},
        {"two that differ", modem_steps,
         STEPS({"<getsha256digest", LOG("Digest " OTHER) ANSWER("value='ACK' SHA256='" HEX "'")}),
         host_digest},
        {"too short", modem_steps, STEPS({"<getsha256digest", LOG("Digest 0011") ACK}), host_digest},
        {"too long", modem_steps, STEPS({"<getsha256digest", LOG("Digest " HEX "0") ACK}), host_digest},
        {"none", modem_steps, STEPS({"<getsha256digest", ACK}), host_digest},
        {"not known", modem_steps, STEPS({"<getsha256digest", LOG("ERROR: unknown tag getsha256digest") NAK}),
         host_digest},
    };
    const struct expected expected[] = {
        {0, ERROR_NONE, NULL, "same"},
        {0, ERROR_NONE, NULL, "same"},
        {0, ERROR_NONE, NULL, "same"},
        {0, ERROR_NONE, NULL, "same"},
        {0, ERROR_NONE, NULL, "same"},
        {-EPROTO, ERROR_FIREHOSE_FAILED, NULL, ""},
        {-EOPNOTSUPP, ERROR_UNSUPPORTED, NULL, ""},
        {-EOPNOTSUPP, ERROR_UNSUPPORTED, NULL, ""},
        {-EOPNOTSUPP, ERROR_UNSUPPORTED, NULL, ""},
        {-EOPNOTSUPP, ERROR_UNSUPPORTED, "unknown tag", ""},
    };
    _Static_assert(ARRAY_SIZE(cases) == ARRAY_SIZE(expected), "one expectation a case");
    play(cases, expected, ARRAY_SIZE(cases));
}

/* ---- vendor check ---- */

static const struct firehose_vendor_check vendor = {4096, 64, 23040, 640, "RM502QGLAA", ""};

static void host_vendor(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    bool agreed = false;
    c->r = firehose_vendor_check(f, &vendor, &agreed, &c->e);
    note(c, "%s", agreed ? "agreed" : "not agreed");
}

static void host_bad_vendor(struct peer_case *c, struct transport *t)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    struct firehose_vendor_check v = vendor;
    bool agreed = false;
    v.project_name[0] = '\0';
    c->r = firehose_vendor_check(f, &v, &agreed, NULL);
    if (c->r == -EINVAL)
        c->r = firehose_nop(f, NULL);
}

#define VENDOR_TAG                                                                                           \
    "<erase vendor=\"quectel\" SECTOR_SIZE_IN_BYTES=\"4096\" start_sector=\"0\" "                            \
    "num_partition_sectors=\"64\" last_sector=\"63\" "

static void test_vendor(void **state)
{
    (void)state;
    struct peer_case cases[] = {
        {"ok", modem_steps,
         STEPS({VENDOR_TAG, LOG("INFO: [harden] project name or type = RM502QGLAA ok!\xf0\xe9\x88\x14") ACK}),
         host_vendor},
        {"ok behind the answer", modem_steps,
         STEPS({VENDOR_TAG, ACK}, {NULL, LOG("INFO: [harden] project name or type = RM502QGLAA ok!")}),
         host_vendor},
        {"not found", modem_steps, STEPS({VENDOR_TAG, LOG("INFO: not find RAWDATA partition in mibib") ACK}),
         host_vendor},
        {"ok for one, error for the other", modem_steps,
         STEPS({VENDOR_TAG, LOG("INFO: [harden] project name or type = RM502QGLAA ok!")
                                LOG("INFO: [harden] project name or type = M4G error!") ACK}),
         host_vendor},
        {"ok of something else", modem_steps, STEPS({VENDOR_TAG, LOG("INFO: erase ok!") ACK}), host_vendor},
        {"silence", modem_steps, STEPS({VENDOR_TAG, ACK}), host_vendor},
        {"refused", modem_steps,
         STEPS({VENDOR_TAG, LOG("ERROR: [harden] project name or type = RM502QGLAA error!") NAK}),
         host_vendor},
        {"nothing is sent without a name", modem_steps, STEPS({"<nop", ACK}), host_bad_vendor},
    };
    const struct expected expected[] = {
        {0, ERROR_NONE, NULL, "agreed"},
        {0, ERROR_NONE, NULL, "agreed"},
        {0, ERROR_NONE, NULL, "not agreed"},
        {0, ERROR_NONE, NULL, "not agreed"},
        {0, ERROR_NONE, NULL, "not agreed"},
        {0, ERROR_NONE, NULL, "not agreed"},
        {-EPERM, ERROR_WRONG_FIRMWARE, "[harden] project name or type = RM502QGLAA error!", "not agreed"},
        {0, ERROR_NONE, NULL, NULL},
    };
    _Static_assert(ARRAY_SIZE(cases) == ARRAY_SIZE(expected), "one expectation a case");
    play(cases, expected, ARRAY_SIZE(cases));
    assert_non_null(strstr(cases[6].e.message, "RM502QGLAA"));
}

/* ---- power ---- */

static void power(struct peer_case *c, struct transport *t, enum firehose_power mode)
{
    _cleanup_(firehose_freep) struct firehose *f = firehose_new(t);
    firehose_on_log(f, log_to_notes, c);
    c->r = firehose_power(f, mode, &c->e);
}

static void host_reset(struct peer_case *c, struct transport *t)
{
    power(c, t, FIREHOSE_POWER_RESET);
}

static void host_off(struct peer_case *c, struct transport *t)
{
    power(c, t, FIREHOSE_POWER_OFF);
}

static void host_edl(struct peer_case *c, struct transport *t)
{
    power(c, t, FIREHOSE_POWER_EDL);
}

#define RESET_LOGS                                                                                           \
    LOG("INFO: Will issue reset/power off 100 useconds, if this hangs check if watchdog is enabled")         \
    LOG("INFO: bsp_target_reset() 1")

static void test_power(void **state)
{
    (void)state;
    struct peer_case cases[] = {
        {"reset", modem_steps,
         STEPS({"<power value=\"reset\"", LOG("INFO: Calling") ACK}, {NULL, RESET_LOGS, STEP_UNPLUG}),
         host_reset},
        {"gone at once", modem_steps, STEPS({"<power value=\"off\"", NULL, STEP_UNPLUG}), host_off},
        {"gone behind the ACK", modem_steps, STEPS({"<power value=\"reset_to_edl\"", ACK, STEP_UNPLUG}),
         host_edl},
        {"stays", modem_steps, STEPS({"<power value=\"reset\"", ACK RESET_LOGS}), host_reset},
        {"refused", modem_steps, STEPS({"<power value=\"reset\"", LOG("ERROR: no") NAK}), host_reset},
        {"9x07 knows no EDL", modem_steps,
         STEPS({"<power value=\"reset_to_edl\"", LOG("ERROR: Unknown value") NAK}), host_edl},
    };
    const struct expected expected[] = {
        {0, ERROR_NONE, NULL,
         "I:INFO: Calling|I:INFO: Will issue reset/power off 100 useconds, if this hangs check if watchdog "
         "is enabled|I:INFO: bsp_target_reset() 1|"},
        {0, ERROR_NONE, NULL, ""},
        {0, ERROR_NONE, NULL, ""},
        {0, ERROR_NONE, NULL, NULL},
        {-EPROTO, ERROR_FIREHOSE_FAILED, "ERROR: no", NULL},
        {-EOPNOTSUPP, ERROR_UNSUPPORTED, "ERROR: Unknown value", NULL},
    };
    _Static_assert(ARRAY_SIZE(cases) == ARRAY_SIZE(expected), "one expectation a case");
    play(cases, expected, ARRAY_SIZE(cases));
    for (size_t i = 0; i < 3; i++)
        assert_in_range(cases[i].took, 0, USEC_PER_SEC);
    assert_in_range(cases[3].took, USEC_PER_SEC, 10 * USEC_PER_SEC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_erase),  cmocka_unit_test(test_storage), cmocka_unit_test(test_many_bad_blocks),
        cmocka_unit_test(test_digest), cmocka_unit_test(test_vendor),  cmocka_unit_test(test_power),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
