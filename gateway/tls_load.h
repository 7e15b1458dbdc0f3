/* SPDX-License-Identifier: MIT */
/*
 * The certificates of a configuration, loaded and checked.
 */
#ifndef GATEWAY_TLS_LOAD_H
#define GATEWAY_TLS_LOAD_H

#include <stddef.h>

#include "base/error.h"

struct config;
struct file_set;
struct tls_context;
struct tls_keyring;

/* Loads what a configuration needs for TLS, its files opened through `files` (may be NULL); *keyring is made when it is needed and
 * not there. *ret_tls is NULL when no listener has TLS. On failure `text` (at least 768 bytes) says what, where in the
 * configuration, and what to do. */
enum error tls_load(const struct config *config, struct file_set *files,
                    struct tls_keyring **keyring, struct tls_context **ret_tls, char *text,
                    size_t text_size) MUST_CHECK;

#endif
