/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { MD5_SIZE = 16 };

/* RFC 1321, of all at once. */
void md5(const uint8_t *data, size_t length, uint8_t digest[MD5_SIZE]);
