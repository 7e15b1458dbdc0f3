/* SPDX-License-Identifier: MIT */
/*
 * HELLO and HELLO_ACK, and an accepted link before it is a channel. It owns nothing but what an ipc_link holds.
 */
#include "ipc/hello.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "ipc/frame.h"
#include "ipc/hello_wire.h"
#include "ipc/map_rules.h"
#include "ipc/pack.h"

#define SERVER_CERT_MAX 16384 /* bytes of PEM, FRAME_MAP_HELLO_ACK */

/* R28: names that we do not know are skipped. */
static uint64_t decode_features(const struct pack_value *names)
{
    uint64_t features = 0;

    for (uint32_t i = 0; i < names->count; i++) {
        features |= frame_feature_bit(names->items[i].bytes);
    }
    return features;
}

static enum error copy_bytes(struct arena *arena, const struct pack_value *map, const char *key,
                             struct slice *ret_bytes)
{
    *ret_bytes = arena_copy(arena, map_bytes(map, key));
    return ret_bytes->data != NULL ? ERROR_NONE : ERROR_NO_MEMORY;
}

static enum error decode_texts(struct arena *arena, const struct pack_value *map,
                               struct hello *hello)
{
    if (copy_bytes(arena, map, "app", &hello->app) != ERROR_NONE ||
        copy_bytes(arena, map, "generation", &hello->generation) != ERROR_NONE ||
        copy_bytes(arena, map, "python", &hello->python) != ERROR_NONE ||
        copy_bytes(arena, map, "worker_version", &hello->worker_version) != ERROR_NONE ||
        copy_bytes(arena, map, "target", &hello->target) != ERROR_NONE) {
        return ERROR_NO_MEMORY;
    }
    return copy_bytes(arena, map, "token", &hello->token);
}

enum error hello_decode(struct arena *arena, struct slice payload, struct hello *ret_hello,
                        const char **ret_text)
{
    struct pack_value map;
    struct hello hello = {0};
    enum error error = map_decode(MAP_HELLO, arena, payload, &map, ret_text);

    if (error != ERROR_NONE) {
        return error;
    }
    hello.proto_min = (unsigned)map_value(&map, "proto_min")->number;
    hello.proto_max = (unsigned)map_value(&map, "proto_max")->number;
    if (hello.proto_min > hello.proto_max) { /* R26 */
        *ret_text = "proto_min is greater than proto_max";
        return ERROR_PROTOCOL;
    }
    hello.features = decode_features(map_value(&map, "features"));
    memcpy(hello.instance, map_value(&map, "instance")->bytes.data, sizeof(hello.instance));
    hello.pid = (int64_t)map_value(&map, "pid")->number;
    hello.max_concurrency = (uint32_t)map_value(&map, "max_concurrency")->number;
    hello.channel_index = (uint32_t)map_value(&map, "channel_index")->number;
    error = decode_texts(arena, &map, &hello);
    if (error != ERROR_NONE) {
        *ret_text = "out of memory";
        return error;
    }
    *ret_hello = hello;
    return ERROR_NONE;
}

static void pack_key(struct strbuf *out, const char *key)
{
    pack_text(out, slice_from(key));
}

static void pack_key_uint(struct strbuf *out, const char *key, uint64_t value)
{
    pack_key(out, key);
    pack_uint(out, value);
}

static void pack_features(struct strbuf *out, uint64_t features)
{
    pack_key(out, "features");
    pack_array(out, (uint32_t)__builtin_popcountll(features));
    for (unsigned i = 0; i < FRAME_FEATURE_COUNT; i++) {
        if ((features >> i & 1) != 0) {
            pack_text(out, slice_from(frame_feature_name(i)));
        }
    }
}

void hello_ack_encode(struct strbuf *out, const struct hello_ack *ack,
                      const struct ipc_settings *settings)
{
    REQUIRE(ack->features >> FRAME_FEATURE_COUNT == 0 && ack->token.length == 16);
    pack_map(out, 11);
    pack_key_uint(out, "proto", ack->proto);
    pack_features(out, ack->features);
    pack_key(out, "gateway");
    pack_bin(out,
             (struct slice){(const char *)ack->gateway_instance, sizeof(ack->gateway_instance)});
    pack_key_uint(out, "channels", ack->channels);
    pack_key(out, "token");
    pack_bin(out, ack->token);
    pack_key_uint(out, "max_frame", settings->max_frame);
    pack_key_uint(out, "window", settings->window);
    pack_key_uint(out, "ws_max_message", settings->ws_max_message);
    pack_key_uint(out, "ping_interval", settings->ping_interval / CLOCK_NS_PER_MS);
    pack_key_uint(out, "start_timeout", settings->start_timeout / CLOCK_NS_PER_MS);
    pack_key(out, "server_cert");
    /* A chain that is longer than the map allows would make the whole HELLO_ACK malformed. */
    if (ack->server_cert_pem.length == 0 || ack->server_cert_pem.length > SERVER_CERT_MAX) {
        pack_nil(out);
    } else {
        pack_text(out, ack->server_cert_pem);
    }
}

void ipc_link_free(struct ipc_link *link)
{
    if (link == NULL) {
        return;
    }
    if (link->fd >= 0) {
        close(link->fd);
    }
    if (link->pidfd >= 0) {
        close(link->pidfd);
    }
    arena_done(&link->arena);
    mem_free(link);
}

void ipc_link_refuse(struct ipc_link *link, enum frame_error code, const char *text)
{
    struct slice words = slice_from(text);
    uint8_t header[FRAME_HEADER_SIZE];
    struct frame frame = {.type = FRAME_CHANNEL_ERROR, .code = (uint16_t)code};

    REQUIRE(((frame_rule(FRAME_CHANNEL_ERROR)->gateway_codes >> code) & 1) != 0);
    words.length = words.length < 1024 ? words.length : 1024;
    frame.length = (uint32_t)words.length;
    frame_encode(header, &frame);
    struct iovec vectors[] = {{.iov_base = header, .iov_len = sizeof(header)},
                              {.iov_base = (void *)(uintptr_t)words.data, .iov_len = words.length}};
    struct msghdr message = {.msg_iov = vectors, .msg_iovlen = 2};
    /* Not in a flush: nothing else was ever written to this descriptor, so an empty socket takes it, and nobody waits for it. */
    (void)sendmsg(link->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    METRIC_INCREMENT(ipc_links_refused);
    log_warning("ipc", "worker %d refused: %s: %s", (int)link->pid, frame_error_name(code), text);
    ipc_link_free(link);
}
