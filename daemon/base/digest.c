/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/digest.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>

#include "base/io.h"

enum { READ_CHUNK = 64 * 1024, GMAC_NONCE_SIZE = 12 };

static const char GMAC_CIPHER[] = "AES-256-GCM";

struct digest {
    EVP_MD_CTX *context;
};

static EVP_MD *md5, *sha256;
static EVP_MAC *gmac;
static EVP_CIPHER *gmac_cipher;

int digest_init(void)
{
    if (!md5)
        md5 = EVP_MD_fetch(NULL, "MD5", NULL);
    if (!sha256)
        sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (!gmac)
        gmac = EVP_MAC_fetch(NULL, "GMAC", NULL);
    if (!gmac_cipher)
        gmac_cipher = EVP_CIPHER_fetch(NULL, GMAC_CIPHER, NULL);
    return md5 && sha256 && gmac && gmac_cipher ? 0 : -ENOSYS;
}

struct digest *digest_new(enum digest_kind kind)
{
    if (digest_init() < 0)
        return NULL;
    _cleanup_(digest_freep) struct digest *d = calloc(1, sizeof(*d));
    if (!d)
        return NULL;
    d->context = EVP_MD_CTX_new();
    if (!d->context || EVP_DigestInit_ex2(d->context, kind == DIGEST_MD5 ? md5 : sha256, NULL) != 1)
        return NULL;
    return steal_ptr(d);
}

void digest_update(struct digest *d, const void *data, size_t size)
{
    EVP_DigestUpdate(d->context, data, size);
}

int digest_update_fd(struct digest *d, int fd, uint64_t offset, uint64_t size)
{
    _cleanup_free_ char *chunk = malloc(READ_CHUNK);
    if (!chunk)
        return -ENOMEM;
    while (size > 0) {
        size_t n = size < READ_CHUNK ? (size_t)size : READ_CHUNK;
        int r = io_pread_full(fd, chunk, n, offset);
        if (r < 0)
            return r;
        digest_update(d, chunk, n);
        offset += n;
        size -= n;
    }
    return 0;
}

struct digest *digest_copy(const struct digest *d)
{
    _cleanup_(digest_freep) struct digest *copy = calloc(1, sizeof(*copy));
    if (!copy)
        return NULL;
    copy->context = EVP_MD_CTX_new();
    if (!copy->context || EVP_MD_CTX_copy_ex(copy->context, d->context) != 1)
        return NULL;
    return steal_ptr(copy);
}

void digest_final(struct digest *d, uint8_t *ret)
{
    EVP_DigestFinal_ex(d->context, ret, NULL);
}

struct digest *digest_free(struct digest *d)
{
    if (!d)
        return NULL;
    EVP_MD_CTX_free(d->context);
    free(d);
    return NULL;
}

int digest_sha256(const void *data, size_t size, uint8_t ret[SHA256_SIZE])
{
    _cleanup_(digest_freep) struct digest *d = digest_new(DIGEST_SHA256);
    if (!d)
        return -ENOMEM;
    digest_update(d, data, size);
    digest_final(d, ret);
    return 0;
}

int digest_sha256_fd(int fd, uint64_t offset, uint64_t size, uint8_t ret[SHA256_SIZE])
{
    _cleanup_(digest_freep) struct digest *d = digest_new(DIGEST_SHA256);
    int r = d ? digest_update_fd(d, fd, offset, size) : -ENOMEM;
    if (r == 0)
        digest_final(d, ret);
    return r;
}

/* ---- HMAC ---- */

enum { HMAC_BLOCK = 64, HMAC_INNER = 0x36, HMAC_OUTER = 0x5c };

static int hmac_pass(const uint8_t key[HMAC_BLOCK], uint8_t pad, const void *data, size_t size,
                     uint8_t ret[SHA256_SIZE])
{
    _cleanup_(digest_freep) struct digest *d = digest_new(DIGEST_SHA256);
    uint8_t block[HMAC_BLOCK];
    if (!d)
        return -ENOMEM;
    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = key[i] ^ pad;
    digest_update(d, block, sizeof(block));
    digest_update(d, data, size);
    digest_final(d, ret);
    return 0;
}

int digest_hmac_sha256(const void *key, size_t key_size, const void *data, size_t size,
                       uint8_t ret[SHA256_SIZE])
{
    uint8_t block[HMAC_BLOCK] = {0}, inner[SHA256_SIZE];
    if (key_size > sizeof(block))
        return -EINVAL;
    memcpy(block, key, key_size);
    int r = hmac_pass(block, HMAC_INNER, data, size, inner);
    return r < 0 ? r : hmac_pass(block, HMAC_OUTER, inner, sizeof(inner), ret);
}

/* ---- GMAC ---- */

int digest_gmac(const uint8_t key[GMAC_KEY_SIZE], const struct iovec *pieces, size_t n_pieces,
                uint8_t ret[GMAC_SIZE])
{
    static const uint8_t nonce[GMAC_NONCE_SIZE];
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, (char *)GMAC_CIPHER, 0),
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_IV, (void *)nonce, sizeof(nonce)),
        OSSL_PARAM_construct_end()};
    size_t size = 0;
    EVP_MAC_CTX *context = digest_init() < 0 ? NULL : EVP_MAC_CTX_new(gmac);
    bool good = context && EVP_MAC_init(context, key, GMAC_KEY_SIZE, parameters) == 1;
    for (size_t i = 0; good && i < n_pieces; i++)
        good = EVP_MAC_update(context, pieces[i].iov_base, pieces[i].iov_len) == 1;
    good = good && EVP_MAC_final(context, ret, &size, GMAC_SIZE) == 1 && size == GMAC_SIZE;
    EVP_MAC_CTX_free(context);
    return good ? 0 : -ENOMEM;
}
