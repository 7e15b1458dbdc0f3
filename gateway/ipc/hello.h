/* SPDX-License-Identifier: MIT */
/*
 * How a worker's link begins: accepted on the app's Unix socket, its HELLO read within hello_timeout, judged by the user,
 * answered by the channel in the loop that the channel index names. A pending or bad handshake never blocks accepting.
 */
#ifndef GATEWAY_IPC_HELLO_H
#define GATEWAY_IPC_HELLO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/slice.h"
#include "ipc/frame_defs.h"
#include "ipc/settings.h"
#include "loop/loop.h"

/* HELLO, decoded and bounded; slices live in the link's arena. */
struct hello {
    unsigned proto_min, proto_max;
    struct slice app, generation, python, worker_version;
    struct slice target; /* what it serves ("shop.asgi:app"), for display; may be empty */
    uint64_t features;
    uint8_t instance[16];
    int64_t pid; /* as claimed; the kernel's is in ipc_link */
    uint32_t max_concurrency;
    uint32_t channel_index;
    struct slice token; /* empty on channel 0 */
};

/* What the gateway answers. Slices are copied into the frame. */
struct hello_ack {
    unsigned proto;
    uint64_t features;
    uint8_t gateway_instance[16];
    uint32_t channels;
    struct slice token;
    struct slice server_cert_pem; /* empty: none */
};

struct worker_stats {
    uint64_t rss, in_flight, tasks;
};

/* An accepted link on its way from the acceptor to a channel. Moves by mailbox to the channel's loop. */
struct ipc_link {
    int fd;
    int pidfd; /* -1: none to be had */
    pid_t pid; /* from the kernel (SO_PEERCRED) */
    uid_t uid;
    struct arena arena;
    struct hello hello;
};

/* Closes what it holds and frees it. */
void ipc_link_free(struct ipc_link *link);
/* Refuses a link: CHANNEL_ERROR(code, text for people), then closes and frees it. */
void ipc_link_refuse(struct ipc_link *link, enum frame_error code, const char *text);

struct ipc_acceptor;

/* Gets each link whose HELLO came in time and is well-formed, in the acceptor's loop; owns it from then on: hands it to channel_new in the right loop, or refuses. */
typedef void ipc_hello_fn(void *context, struct ipc_link *link);

/* Accepts workers on a bound, listening Unix socket (not owned). `allow_uids`: empty = the file mode decides. NULL: no memory. */
struct ipc_acceptor *ipc_acceptor_new(struct loop *loop, int fd,
                                      const struct ipc_settings *settings, const uid_t *allow_uids,
                                      size_t allow_uid_count, ipc_hello_fn *on_hello,
                                      void *context) MUST_CHECK;
/* Other limits and users from the next link on. ERROR_NO_MEMORY: as before. */
enum error ipc_acceptor_set(struct ipc_acceptor *acceptor, const struct ipc_settings *settings,
                            const uid_t *allow_uids, size_t allow_uid_count) MUST_CHECK;
/* The socket that it accepts from. */
int ipc_acceptor_fd(const struct ipc_acceptor *acceptor);
/* Stops accepting and drops pending handshakes; the memory goes by loop_bury. */
void ipc_acceptor_free(struct ipc_acceptor *acceptor);

/* Binds an app's socket: directory made with mode 0750 when missing, file 0660 (group when not -1), a stale file replaced, a live one
 * refused. On failure the text says what and what to do. */
enum error ipc_socket_bind(const char *path, gid_t group, int *ret_fd, char *error_text,
                           size_t error_size) MUST_CHECK;

#endif
