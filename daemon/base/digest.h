/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Streaming MD5 and SHA-256, and a quick checksum (libcrypto EVP). Call digest_init() once before a sandbox
 * closes the file system.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "base/cleanup.h"

enum {
    MD5_SIZE = 16,
    SHA256_SIZE = 32,
    SHA256_HEX_SIZE = 2 * SHA256_SIZE + 1,
    GMAC_KEY_SIZE = 32,
    GMAC_SIZE = 16
};

enum digest_kind { DIGEST_MD5, DIGEST_SHA256 };

struct digest;

/* Fetches the algorithms and keeps them; -ENOSYS if libcrypto lacks one. Idempotent. */
int digest_init(void);

/* NULL without memory. */
struct digest *digest_new(enum digest_kind kind);
void digest_update(struct digest *d, const void *data, size_t size);
/* `size` bytes of a file from `offset`, by pread. -EIO if the file is shorter, or the errno of pread. */
int digest_update_fd(struct digest *d, int fd, uint64_t offset, uint64_t size);
/* A second one that has seen the same bytes; NULL without memory. */
struct digest *digest_copy(const struct digest *d);
/* Writes MD5_SIZE or SHA256_SIZE bytes; the digest can then only be freed. */
void digest_final(struct digest *d, uint8_t *ret);
struct digest *digest_free(struct digest *d);
DEFINE_CLEANUP(struct digest *, digest_free)

/* One buffer. -ENOMEM. */
int digest_sha256(const void *data, size_t size, uint8_t ret[SHA256_SIZE]);

/* One piece of a file; errors as digest_update_fd(), -ENOMEM. */
int digest_sha256_fd(int fd, uint64_t offset, uint64_t size, uint8_t ret[SHA256_SIZE]);

/* RFC 2104, of one buffer; a key of at most 64 bytes. -EINVAL, -ENOMEM. */
int digest_hmac_sha256(const void *key, size_t key_size, const void *data, size_t size,
                       uint8_t ret[SHA256_SIZE]);

/*
 * Of the pieces one behind the other, told apart by the key: GMAC (AES-256, the nonce is all zeros). Finds
 * what accidents do, at a tenth of SHA-256's price; it is no proof against somebody who wants to deceive.
 * -ENOMEM.
 */
int digest_gmac(const uint8_t key[GMAC_KEY_SIZE], const struct iovec *pieces, size_t n_pieces,
                uint8_t ret[GMAC_SIZE]);
