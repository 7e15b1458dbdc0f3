/* SPDX-License-Identifier: MIT */
/*
 * Where the sockets of gatewayd, its workers and gatewayctl meet when nobody says otherwise.
 */
#ifndef GATEWAY_BASE_RUN_DIRECTORY_H
#define GATEWAY_BASE_RUN_DIRECTORY_H

#include <stddef.h>

/* The run directory: /run/gatewayd for root, else $XDG_RUNTIME_DIR/gatewayd (when that is an absolute path), else
 * /run/user/UID/gatewayd (where systemd would have put it: never a place where others can write). It is not made here. `out` is NUL-terminated and cut when it does not fit; returns the length wanted. */
size_t run_directory(char *out, size_t size);

#endif
