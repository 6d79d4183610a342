/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "base/digest.h"
#include "base/io.h"
#include "base/text.h"

static const char abc_sha256[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

static void test_known_answers(void **state)
{
    (void)state;
    uint8_t sum[SHA256_SIZE];
    char hex[SHA256_HEX_SIZE];
    assert_int_equal(digest_sha256("abc", 3, sum), 0);
    text_hex(sum, SHA256_SIZE, hex);
    assert_string_equal(hex, abc_sha256);

    struct digest *d = digest_new(DIGEST_MD5);
    digest_update(d, "a", 1);
    digest_update(d, "bc", 2);
    digest_final(d, sum);
    digest_free(d);
    text_hex(sum, MD5_SIZE, hex);
    assert_string_equal(hex, "900150983cd24fb0d6963f7d28e17f72");
}

static void test_file(void **state)
{
    (void)state;
    uint8_t sum[SHA256_SIZE];
    char hex[SHA256_HEX_SIZE];
    int fd = memfd_create("test", 0);
    assert_int_equal(io_pwrite_full(fd, "xxabc", 5, 0), 0);
    assert_int_equal(digest_sha256_fd(fd, 2, 3, sum), 0);
    text_hex(sum, SHA256_SIZE, hex);
    assert_string_equal(hex, abc_sha256);
    assert_int_equal(digest_sha256_fd(fd, 2, 4, sum), -EIO); /* shorter than said */
    close(fd);
}

static void test_sealed_memfd(void **state)
{
    (void)state;
    int fd = io_memfd_sealed("test", "hello", 5);
    assert_true(fd >= 0);
    assert_int_equal(io_memfd_check(fd, 5), 0);
    assert_int_equal(io_memfd_check(fd, 4), -EFBIG);
    assert_int_equal(io_pwrite_full(fd, "x", 1, 0), -EPERM);
    char *text;
    size_t size;
    assert_int_equal(io_read_file(fd, 100, &text, &size), 0);
    assert_int_equal(size, 5);
    assert_string_equal(text, "hello");
    free(text);
    assert_int_equal(io_read_file(fd, 4, &text, &size), -EFBIG);
    close(fd);
    fd = memfd_create("open", MFD_ALLOW_SEALING);
    assert_int_equal(io_memfd_check(fd, 100), -EPERM);
    close(fd);
}

/* RFC 4231, test cases 1 and 2. */
static void test_hmac(void **state)
{
    (void)state;
    static const struct {
        const char *key, *data, *mac;
    } known[] = {
        {"\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b", "Hi There",
         "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {"Jefe", "what do ya want for nothing?",
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
    };
    uint8_t mac[SHA256_SIZE];
    char hex[SHA256_HEX_SIZE];
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        assert_int_equal(
            digest_hmac_sha256(known[i].key, strlen(known[i].key), known[i].data, strlen(known[i].data), mac),
            0);
        text_hex(mac, sizeof(mac), hex);
        assert_string_equal(hex, known[i].mac);
    }
    static const uint8_t key[65];
    assert_int_equal(digest_hmac_sha256(key, sizeof(key), "", 0, mac), -EINVAL);
}

static void test_gmac(void **state _unused_)
{
    static const uint8_t zeros[GMAC_KEY_SIZE];
    uint8_t sum[GMAC_SIZE], other[GMAC_SIZE], data[100] = {1, 2, 3}, key[GMAC_KEY_SIZE] = {1};
    char hex[2 * GMAC_SIZE + 1];
    assert_int_equal(digest_gmac(zeros, NULL, 0, sum), 0); /* case 13 of McGrew and Viega */
    text_hex(sum, sizeof(sum), hex);
    assert_string_equal(hex, "530f8afbc74536b9a963b4f1c4cb738b");
    const struct iovec whole = {data, 100}, cut[] = {{data, 1}, {data + 1, 16}, {data + 17, 83}};
    assert_int_equal(digest_gmac(zeros, &whole, 1, sum), 0);
    assert_int_equal(digest_gmac(zeros, cut, ARRAY_SIZE(cut), other), 0);
    assert_memory_equal(sum, other, GMAC_SIZE);
    assert_int_equal(digest_gmac(key, &whole, 1, other), 0);
    assert_memory_not_equal(sum, other, GMAC_SIZE);
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] ^= 0x10;
        assert_int_equal(digest_gmac(zeros, &whole, 1, other), 0);
        assert_memory_not_equal(sum, other, GMAC_SIZE);
        data[i] ^= 0x10;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers), cmocka_unit_test(test_file),
        cmocka_unit_test(test_sealed_memfd),  cmocka_unit_test(test_hmac),
        cmocka_unit_test(test_gmac),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
