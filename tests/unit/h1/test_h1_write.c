/* SPDX-License-Identifier: MIT */
/* Serialisation: heads, framing, and that any split of what the socket takes gives the same bytes. */
#include "check.h"

#include "base/strbuf.h"
#include "h1/h1_write.h"

struct writing {
    struct arena arena;
    struct h1_writer writer;
    struct byteq body;
    struct http_settings settings;
    struct slice alt_svc;
    struct request_head request;
    struct strbuf out;
};

static void writing_init(struct writing *w, const char *method, enum http_version version)
{
    *w = (struct writing){.request = {.version = version, .method = slice_from(method)}};
    arena_init(&w->arena, 1024);
    h1_writer_init(&w->writer);
    byteq_init(&w->body);
    strbuf_init(&w->out);
}

static void writing_done(struct writing *w)
{
    arena_done(&w->arena);
    byteq_done(&w->body);
    strbuf_done(&w->out);
}

static void give_head(struct writing *w, unsigned status, struct field *fields, size_t count,
                      bool close, bool end)
{
    struct response_head head = {.status = status, .fields = fields, .field_count = count};
    const char *why = NULL;
    struct h1_head_context context = {
        .settings = &w->settings,
        .request = &w->request,
        .date = SLICE("Fri, 20 Nov 2026 18:00:00 GMT"),
        .alt_svc = w->alt_svc,
        .close = close,
        .end = end,
    };
    CHECK_EQ_INT(response_head_check(&w->arena, &head, &why), ERROR_NONE);
    CHECK_EQ_INT(h1_writer_head(&w->writer, &w->arena, &context, &head), ERROR_NONE);
}

static void plan(struct writing *w, bool end, const struct field *trailers, size_t count)
{
    CHECK_EQ_INT(h1_writer_plan(&w->writer, &w->arena, &w->body, end, trailers, count), ERROR_NONE);
}

/* Writes all there is, at most `piece` bytes at a time, with `max` vectors. */
static void write_all(struct writing *w, bool end, const struct field *trailers,
                      size_t trailer_count, size_t piece, size_t max)
{
    struct iovec vectors[8];
    for (;;) {
        plan(w, end, trailers, trailer_count);
        size_t count = h1_writer_gather(&w->writer, &w->body, vectors, max);
        if (count == 0) {
            break;
        }
        CHECK(count <= max);
        size_t left = piece;
        size_t taken = 0;
        for (size_t i = 0; i < count && left > 0; i++) {
            size_t length = vectors[i].iov_len < left ? vectors[i].iov_len : left;
            CHECK(length > 0);
            strbuf_append(&w->out, vectors[i].iov_base, length);
            left -= length;
            taken += length;
        }
        size_t body = h1_writer_sent(&w->writer, taken);
        byteq_consume(&w->body, body);
    }
    CHECK(!h1_writer_pending(&w->writer));
}

TEST(heads_and_their_framing)
{
    static const struct {
        const char *method;
        unsigned status;
        const char *name, *value; /* one field, or none */
        const char *expected;
        enum http_version version;
        bool close, end;
    } rows[] = {
        {"GET", 200, "Content-Length", "3", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n",
         HTTP_1_1, 0, 0},
        {"GET", 200, NULL, NULL, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", HTTP_1_1,
         0, 0},
        {"GET", 200, NULL, NULL, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", HTTP_1_1, 0, 1},
        {"GET", 200, "transfer-encoding", "gzip",
         "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n", HTTP_1_1, 1,
         0},
        {"GET", 200, NULL, NULL, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", HTTP_1_0, 1, 0},
        {"GET", 200, "content-length", "3",
         "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive\r\n\r\n", HTTP_1_0, 0, 0},
        {"HEAD", 200, NULL, NULL, "HTTP/1.1 200 OK\r\n\r\n", HTTP_1_1, 0, 0},
        {"HEAD", 200, "content-length", "5", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
         HTTP_1_1, 0, 0},
        {"GET", 304, "content-length", "5",
         "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", HTTP_1_1, 0, 0},
        {"GET", 204, "content-length", "5", "HTTP/1.1 204 No Content\r\n\r\n", HTTP_1_1, 0, 0},
        {"GET", 205, "content-length", "5",
         "HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n", HTTP_1_1, 0, 0},
        {"GET", 103, "Link", "</x>", "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", HTTP_1_1, 1,
         0},
        {"GET", 100, NULL, NULL, "HTTP/1.1 100 Continue\r\n\r\n", HTTP_1_1, 0, 0},
        {"GET", 999, "x", "", "HTTP/1.1 999 \r\nx: \r\ncontent-length: 0\r\n\r\n", HTTP_1_1, 0, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct writing w;
        writing_init(&w, rows[i].method, rows[i].version);
        struct field field = {slice_from(rows[i].name), slice_from(rows[i].value)};
        give_head(&w, rows[i].status, &field, rows[i].name != NULL, rows[i].close, rows[i].end);
        write_all(&w, rows[i].end, NULL, 0, SIZE_MAX, 8);
        CHECK_EQ_STR(strbuf_text(&w.out), rows[i].expected);
        writing_done(&w);
    }
}

TEST(own_fields_give_way_to_the_apps)
{
    struct writing w;
    writing_init(&w, "GET", HTTP_1_1);
    static const struct field extra[] = {{{"x-a", 3}, {"1", 1}}, {{"x-b", 3}, {"2", 1}}};
    w.settings = (struct http_settings){.date_header = true,
                                        .server_header = true,
                                        .server_name = SLICE("gatewayd"),
                                        .extra_fields = extra,
                                        .extra_field_count = 2};
    w.alt_svc = SLICE("h3=\":443\"");
    struct field fields[] = {{SLICE("Server"), SLICE("app")}, {SLICE("X-B"), SLICE("app")}};
    give_head(&w, 200, fields, 2, false, true);
    write_all(&w, true, NULL, 0, SIZE_MAX, 8);
    CHECK_EQ_STR(strbuf_text(&w.out),
                 "HTTP/1.1 200 OK\r\nserver: app\r\nx-b: app\r\n"
                 "date: Fri, 20 Nov 2026 18:00:00 GMT\r\nalt-svc: h3=\":443\"\r\nx-a: 1\r\n"
                 "content-length: 0\r\n\r\n");
    writing_done(&w);
}

TEST(any_split_gives_the_same_bytes)
{
    static const char expected[] = "HTTP/1.1 103 Early Hints\r\n\r\n"
                                   "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                                   "11\r\nhello, wide world\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n";
    static const struct field trailers[] = {{{"x-sum", 5}, {"7", 1}}};
    for (size_t piece = 1; piece < sizeof expected; piece++) {
        for (size_t max = 4; max <= 8; max += 4) {
            struct writing w;
            writing_init(&w, "GET", HTTP_1_1);
            give_head(&w, 103, NULL, 0, false, false);
            give_head(&w, 200, NULL, 0, false, false);
            CHECK_EQ_INT(byteq_append(&w.body, "hello, ", 7), ERROR_NONE);
            CHECK_EQ_INT(byteq_append(&w.body, "wide world", 10), ERROR_NONE);
            write_all(&w, false, NULL, 0, piece, max);
            CHECK_EQ_INT(byteq_append(&w.body, "abc", 3), ERROR_NONE);
            write_all(&w, true, trailers, 1, piece, max);
            CHECK_EQ_STR(strbuf_text(&w.out), expected);
            CHECK(h1_writer_finished(&w.writer));
            writing_done(&w);
        }
    }
}

TEST(a_small_response_is_one_vector_write)
{
    struct writing w;
    struct iovec vectors[64];
    writing_init(&w, "GET", HTTP_1_1);
    give_head(&w, 200, NULL, 0, false, false);
    CHECK_EQ_INT(byteq_append(&w.body, "hello", 5), ERROR_NONE);
    plan(&w, true, NULL, 0);
    size_t count = h1_writer_gather(&w.writer, &w.body, vectors, 64);
    CHECK_EQ_INT(count, 4); /* head, chunk line, body, last chunk */
    CHECK_EQ_MEM(vectors[3].iov_base, "\r\n0\r\n\r\n", 7);
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        total += vectors[i].iov_len;
    }
    CHECK_EQ_INT(h1_writer_sent(&w.writer, total), 5);
    byteq_consume(&w.body, 5);
    CHECK(h1_writer_finished(&w.writer));
    writing_done(&w);
}

TEST(without_an_end_there_is_no_last_chunk)
{
    struct writing w;
    writing_init(&w, "GET", HTTP_1_1);
    give_head(&w, 200, NULL, 0, false, false);
    CHECK_EQ_INT(byteq_append(&w.body, "x", 1), ERROR_NONE);
    write_all(&w, false, NULL, 0, SIZE_MAX, 8);
    CHECK(!h1_writer_finished(&w.writer) && !h1_writer_pending(&w.writer));
    CHECK(strstr(strbuf_text(&w.out), "0\r\n\r\n") == NULL);
    write_all(&w, true, NULL, 0, SIZE_MAX, 8);
    CHECK(h1_writer_finished(&w.writer));
    CHECK(strstr(strbuf_text(&w.out), "1\r\nx\r\n0\r\n\r\n") != NULL);
    writing_done(&w);
}

CHECK_MAIN
