/* SPDX-License-Identifier: MIT */
/*
 * The configuration as an immutable snapshot: gateway.toml and -o overrides, checked as a whole and turned into the settings
 * structs that the modules declare. Every string and array in it lives in the snapshot's arena; a reload makes a new snapshot,
 * and the old one goes with its last user. schema.def has every option; it is what a person may write. This module knows no
 * socket, process or certificate: what needs one opened (binding, key matches certificate) is its user's check, and
 * config_place() gives that user the line and column to name.
 */
#ifndef GATEWAY_CONFIG_CONFIG_H
#define GATEWAY_CONFIG_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app/settings.h"
#include "base/arena.h"
#include "base/error.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "h3/quic_settings.h"
#include "http/settings.h"
#include "ipc/settings.h"
#include "loop/loop.h"
#include "net/addr.h"
#include "net/listener.h"
#include "net/tls_context.h"
#include "ws/ws_settings.h"

struct file_set;

/* [gateway]: what the master and the server decide by. Times are nanoseconds. */
struct gateway_settings {
    unsigned threads;                /* 0: chosen (config_threads) */
    unsigned max_connections;        /* 0: "auto" (config_max_connections) */
    unsigned max_connections_per_ip; /* 0: off */
    unsigned max_handshakes;
    unsigned file_threads;
    uint64_t handshake_timeout;
    uint64_t buffer_memory; /* bytes; 0: "auto" (config_buffer_memory) */
    uint64_t drain_timeout;
    uint64_t drain_idle;
    struct slice user;     /* empty: stay who we are; looked up at load when we are root */
    struct slice pid_file; /* absolute path; empty: none */
};

/* [admin] */
struct admin_options {
    struct slice socket;      /* absolute path; empty: none */
    unsigned socket_mode;     /* of the socket file */
    struct slice http;        /* "127.0.0.1:9180", "[::1]:9180", "unix:/path"; empty: none */
    unsigned max_connections; /* at once, both kinds; more are closed */
    uint64_t timeout;         /* from accept to the whole command or request */
};

struct config {
    uint32_t magic;
    atomic_uint references;
    struct arena arena;
    struct slice path; /* of the file, absolute; empty when there was none (text only) */

    struct gateway_settings gateway;
    struct admin_options admin;
    struct log_settings log;
    struct slice access_format; /* compiles: it was tried */

    const struct listener_settings *listeners;
    size_t listener_count;
    struct tls_settings tls; /* no certificates unless a listener has tls = true */

    const struct addr_network *trusted; /* [proxy_headers] trusted */
    size_t trusted_count;
    struct proxy_headers_settings proxy_headers;

    struct http_settings http; /* [http], [limits]; `window` is [ipc] window */
    struct h1_settings h1;
    struct h2_settings h2;
    struct h3_settings h3;
    struct quic_settings quic; /* [http3] too; windows and streams are those of `h3` */
    struct ws_settings ws;
    struct ipc_settings ipc;
    struct loop_settings loop;

    const struct app_settings *apps;
    size_t app_count;
    const struct route_settings *routes; /* never empty: the default route is filled in */
    size_t route_count;

    const struct config_extra
        *extra; /* config's own: the tree for config_place, the lists as written */
};

/* Reads `path` (NULL: no file, overrides only), applies `overrides` ("section.key=value", "listen[0].bind=*:80"; the value is TOML,
 * or else taken as a string) and checks everything. ERROR_NONE: *ret_config has one reference. ERROR_INVALID: `errors` holds
 * up to CONFIG_ERRORS_MAX lines "file:line:column: what; what would be right". ERROR_NO_MEMORY: nothing is said. */
enum error config_load(const char *path, const char *const *overrides, size_t override_count,
                       struct config **ret_config, struct strbuf *errors) MUST_CHECK;
/* The same, with every file opened through `files` (NULL: just opened), for whom `path` may be unreadable. */
enum error config_load_files(struct file_set *files, const char *path, const char *const *overrides,
                             size_t override_count, struct config **ret_config,
                             struct strbuf *errors) MUST_CHECK;
/* The same for text in memory, named `name` in errors; relative paths are relative to `directory` (absolute). */
enum error config_load_text(struct slice text, const char *name, const char *directory,
                            const char *const *overrides, size_t override_count,
                            struct config **ret_config, struct strbuf *errors) MUST_CHECK;
#define CONFIG_ERRORS_MAX 20
#define CONFIG_FILE_MAX ((size_t)1 << 20) /* bytes of the file */

/* The file to read when no -c was given: ./gateway.toml, then /etc/gatewayd/gateway.toml; NULL when neither exists. */
const char *config_default_path(void);

/* One more user; one less: the last one frees it. NULL is allowed in unref. Any thread. */
struct config *config_ref(struct config *config);
void config_unref(struct config *config);

/* Before `config` is taken over by what runs with `running`: puts options back that a reload cannot change (schema.def: FIXED), and says so
 * in `out`, a line each. `config` must not be in use yet. */
void config_keep_fixed(struct config *config, const struct config *running, struct strbuf *out);

/* "file:line:column" (or "-o text") of what was written for `option` ("tls.certificates[0].key", "listen[1].bind"), of the
 * nearest section when it was left out, or the file's name. Goes to `out`, always NUL-terminated. */
void config_place(const struct config *config, const char *option, char *out, size_t size);

/* The complete effective configuration as TOML that loads to an equal one; with each option's sentence, range and default as a
 * comment when `annotated`. */
void config_print(const struct config *config, bool annotated, struct strbuf *out);

/* Loops to run: [gateway] threads, or max(1, min(4, cpus / 4)) of the cpus that the cgroup and the affinity mask allow. */
unsigned config_threads(const struct config *config);
/* Client connections allowed at once: as set, or the hard descriptor limit less what apps, logs and listeners need. */
unsigned config_max_connections(const struct config *config);
/* Bytes for buffers: as set, or 25 % of the memory that the cgroup or the machine has. */
uint64_t config_buffer_memory(const struct config *config);

#endif
