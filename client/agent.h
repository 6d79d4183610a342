/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A polkit agent for a terminal without a desktop (ssh, tty): pkttyagent, started while we call, as a
 * fallback to one that is there. */

#include "qdlctl.h"

/* Starts it where it helps: a terminal, not root, no --no-ask-password. Waits until it is registered. */
void agent_start(void);
void agent_stop(void);
