/* SPDX-License-Identifier: MIT */
/*
 * The library's session: its options, its memory and our first SETTINGS. Every limit that the library has of its own is set here,
 * where ours is not lower anyway.
 */
#include "base/mem.h"
#include "h2/h2_state.h"

static void *session_malloc(size_t size, void *user)
{
    (void)user;
    return mem_alloc(size);
}

static void session_free(void *memory, void *user)
{
    (void)user;
    mem_free(memory);
}

static void *session_calloc(size_t count, size_t size, void *user)
{
    (void)user;
    return mem_calloc(count, size);
}

static void *session_realloc(void *old, size_t size, void *user)
{
    (void)user;
    return mem_realloc(old, size);
}

static void set_options(nghttp2_option *option, const struct h2_settings *settings)
{
    /* Windows are opened by nghttp2_session_consume_*, as workers take what came. */
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_max_continuations(option, (size_t)settings->continuations_max);
    nghttp2_option_set_max_settings(option, (size_t)settings->settings_entries_max);
    nghttp2_option_set_max_outbound_ack(option, (size_t)settings->acks_max);
    nghttp2_option_set_stream_reset_rate_limit(option, settings->reset_burst, settings->reset_rate);
    nghttp2_option_set_max_deflate_dynamic_table_size(option, (size_t)settings->header_table);
    nghttp2_option_set_builtin_recv_extension_type(option, NGHTTP2_PRIORITY_UPDATE);
}

/* The window that a stream begins with: never more than its exchange may hold. */
static uint32_t stream_window(const struct h2_conn *h2)
{
    uint64_t most = h2_http_settings(h2)->window;
    uint64_t window = h2->settings->stream_window;
    return (uint32_t)(window < most ? window : most);
}

static int submit_settings(struct h2_conn *h2)
{
    const nghttp2_settings_entry entries[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, (uint32_t)h2->settings->max_concurrent_streams},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, stream_window(h2)},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)h2_http_settings(h2)->header_block_max},
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, (uint32_t)h2->settings->header_table},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},   /* RFC 9218 2.1 */
        {NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1}, /* RFC 8441 3 */
    };
    int error = nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, entries,
                                        sizeof entries / sizeof entries[0]);
    if (error == 0) {
        /* Half of the bound is window, the other half may lie here (h2_stream.c). */
        error = nghttp2_session_set_local_window_size(
            h2->session, NGHTTP2_FLAG_NONE, 0, (int32_t)(h2->settings->connection_window / 2));
    }
    return error;
}

enum error h2_session_new(struct h2_conn *h2)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    nghttp2_mem memory = {NULL, session_malloc, session_free, session_calloc, session_realloc};
    int failed = nghttp2_session_callbacks_new(&callbacks);
    if (failed == 0) {
        h2_callbacks_set(callbacks);
        failed = nghttp2_option_new(&option);
    }
    if (failed == 0) {
        set_options(option, h2->settings);
        failed = nghttp2_session_server_new3(&h2->session, callbacks, h2, option, &memory);
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    if (failed == 0) {
        failed = submit_settings(h2);
    }
    if (failed != 0) {
        nghttp2_session_del(h2->session);
        h2->session = NULL;
        return ERROR_NO_MEMORY;
    }
    h2->settings_sent_at = loop_now(h2->conn.loop);
    return ERROR_NONE;
}
