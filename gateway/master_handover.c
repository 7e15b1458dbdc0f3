/* SPDX-License-Identifier: MIT */
/* Lines of "WORD NUMBERS TEXT"; a line with an unknown word is of a later version, and skipped. */
#include "master_handover.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/strbuf.h"
#include "endpoints_files.h"

#define FORM 1
#define LINE_MAX_LENGTH 4608

/* --- writing -------------------------------------------------------------------------------------------------------- */

static void put_endpoint(const char *word, const struct endpoint *endpoint, struct strbuf *out)
{
    if (endpoint->fd >= 0) {
        strbuf_printf(out, "%s %d %u %.*s\n", word, endpoint->fd, endpoint->id,
                      SLICE_PRINT(endpoint->bind));
    }
}

static void put_endpoints(const struct endpoints *endpoints, struct strbuf *out)
{
    for (size_t i = 0; i < endpoints->listener_count; i++) {
        const struct listener_socket *socket = &endpoints->listeners[i];
        strbuf_printf(out, "listener %d %u %u %.*s\n", socket->fd, socket->id, socket->loop,
                      SLICE_PRINT(endpoints->listener_binds[i]));
    }
    for (size_t i = 0; i < endpoints->datagram_count; i++) {
        const struct listener_socket *socket = &endpoints->datagrams[i];
        strbuf_printf(out, "datagram %d %u %u\n", socket->fd, socket->id, socket->loop);
    }
    for (size_t i = 0; i < endpoints->app_count; i++) {
        put_endpoint("app", &endpoints->apps[i], out);
    }
    put_endpoint("admin", &endpoints->admin_socket, out);
    put_endpoint("admin_http", &endpoints->admin_http, out);
    for (const struct endpoint_file *file = endpoints->files; file != NULL; file = file->next) {
        strbuf_printf(out, "file %s\n", file->path);
    }
    if (endpoints->pid_file >= 0) {
        strbuf_printf(out, "pid_file %d %s\n", endpoints->pid_file, endpoints->pid_path);
    }
}

static void put_quic(pid_t pid, const struct server_older *quic, struct strbuf *out)
{
    if (quic->fd >= 0) {
        strbuf_printf(out, "quic_of %d %d %u\n", (int)pid, quic->fd, quic->generation);
    }
}

static void put_all(const struct master *master, struct strbuf *out)
{
    strbuf_printf(out, "gatewayd-handover %d\nloops %u\nnumber %u\nlast_id %u\nwish %" PRIu32 "\n",
                  FORM, master->loops, master->number, master->endpoints.last_id,
                  master->upgrade.answers);
    strbuf_printf(out, "quic_generation %u\nquic_secret ", master->quic_generation);
    for (size_t i = 0; i < sizeof(master->quic_secret); i++) {
        strbuf_printf(out, "%02x", master->quic_secret[i]);
    }
    strbuf_printf(out, "\nserver %d %d\n", (int)master->server, master->control);
    for (unsigned i = 0; i < master->draining_count; i++) {
        strbuf_printf(out, "draining %d %d %" PRIu64 "\n", (int)master->draining[i].pid,
                      master->draining[i].control, master->draining[i].kill_at);
        put_quic(master->draining[i].pid, &master->draining[i].quic, out);
    }
    put_quic(master->server, &master->quic, out);
    put_endpoints(&master->endpoints, out);
}

int master_handover_write(const struct master *master)
{
    struct strbuf text;
    int fd = memfd_create("gatewayd-handover", MFD_CLOEXEC);

    if (fd < 0) {
        return -1;
    }
    strbuf_init(&text);
    put_all(master, &text);
    if (text.failed || pwrite(fd, text.data, text.length, 0) != (ssize_t)text.length) {
        close(fd);
        fd = -1;
    }
    strbuf_done(&text);
    return fd;
}

static void pass_one(int fd, bool pass)
{
    if (fd >= 0) {
        (void)fcntl(fd, F_SETFD, pass ? 0 : FD_CLOEXEC);
    }
}

void master_handover_pass(const struct master *master, int fd, bool pass)
{
    const struct endpoints *endpoints = &master->endpoints;

    pass_one(fd, pass);
    pass_one(master->control, pass);
    pass_one(master->quic.fd, pass);
    for (unsigned i = 0; i < master->draining_count; i++) {
        pass_one(master->draining[i].control, pass);
        pass_one(master->draining[i].quic.fd, pass);
    }
    for (size_t i = 0; i < endpoints->listener_count; i++) {
        pass_one(endpoints->listeners[i].fd, pass);
    }
    for (size_t i = 0; i < endpoints->datagram_count; i++) {
        pass_one(endpoints->datagrams[i].fd, pass);
    }
    for (size_t i = 0; i < endpoints->app_count; i++) {
        pass_one(endpoints->apps[i].fd, pass);
    }
    pass_one(endpoints->admin_socket.fd, pass);
    pass_one(endpoints->admin_http.fd, pass);
    pass_one(endpoints->pid_file, pass);
}

/* --- reading -------------------------------------------------------------------------------------------------------- */

/* A line taken apart. */
struct line {
    char word[24];
    long long numbers[3];
    unsigned count;
    const char *text; /* what follows the numbers */
};

static void take_apart(char *text, unsigned numbers, struct line *line)
{
    size_t length = strcspn(text, " ");

    *line = (struct line){.text = ""};
    if (length == 0 || length >= sizeof(line->word)) {
        return;
    }
    memcpy(line->word, text, length);
    text += length + strspn(text + length, " ");
    while (line->count < numbers) {
        char *end;
        errno = 0;
        line->numbers[line->count] = strtoll(text, &end, 10);
        if (end == text || errno != 0) {
            break;
        }
        text = end + strspn(end, " ");
        line->count++;
    }
    line->text = text;
}

static bool fill_socket(const struct line *line, struct listener_socket *socket)
{
    *socket = (struct listener_socket){.fd = (int)line->numbers[0],
                                       .id = (unsigned)line->numbers[1],
                                       .loop = (unsigned)line->numbers[2]};
    socket->addr.length = sizeof(socket->addr.storage);
    return getsockname(socket->fd, &socket->addr.sa, &socket->addr.length) == 0;
}

static bool take_endpoint(struct endpoints *endpoints, const struct line *line,
                          struct endpoint *endpoint)
{
    endpoint->bind = arena_copy(&endpoints->arena, slice_from(line->text));
    endpoint->fd = (int)line->numbers[0];
    endpoint->id = (unsigned)line->numbers[1];
    return endpoint->bind.data != NULL && line->count == 2;
}

/* False: malformed, or no memory. */
static bool take_socket_line(struct endpoints *endpoints, const struct line *line)
{
    if (strcmp(line->word, "listener") == 0) {
        struct slice bind = arena_copy(&endpoints->arena, slice_from(line->text));
        endpoints->listener_binds[endpoints->listener_count] = bind;
        return bind.data != NULL &&
               fill_socket(line, &endpoints->listeners[endpoints->listener_count++]);
    }
    if (strcmp(line->word, "datagram") == 0) {
        return fill_socket(line, &endpoints->datagrams[endpoints->datagram_count++]);
    }
    if (strcmp(line->word, "app") == 0) {
        return take_endpoint(endpoints, line, &endpoints->apps[endpoints->app_count++]);
    }
    if (strcmp(line->word, "admin") == 0) {
        return take_endpoint(endpoints, line, &endpoints->admin_socket);
    }
    if (strcmp(line->word, "admin_http") == 0) {
        return take_endpoint(endpoints, line, &endpoints->admin_http);
    }
    if (strcmp(line->word, "file") == 0) {
        endpoints_remember(endpoints, line->text);
    } else if (strcmp(line->word, "pid_file") == 0) {
        struct slice path = arena_copy(&endpoints->arena, slice_from(line->text));
        endpoints->pid_file = (int)line->numbers[0];
        endpoints->pid_path = path.data;
        return path.data != NULL;
    }
    return true;
}

static bool take_secret(struct master *master, const char *text)
{
    static const char digits[] = "0123456789abcdef";

    if (strspn(text, digits) != 2 * sizeof(master->quic_secret)) {
        return false;
    }
    for (size_t i = 0; i < sizeof(master->quic_secret); i++) {
        const char *high = strchr(digits, text[2 * i]);
        const char *low = strchr(digits, text[2 * i + 1]);
        master->quic_secret[i] = (uint8_t)((high - digits) << 4 | (low - digits));
    }
    return true;
}

/* Comes behind the server that it belongs to. */
static void take_quic(struct master *master, const struct line *line)
{
    const struct server_older quic = {(uint16_t)line->numbers[2], (int)line->numbers[1]};

    if (master->server == (pid_t)line->numbers[0]) {
        master->quic = quic;
        return;
    }
    for (unsigned i = 0; i < master->draining_count; i++) {
        if (master->draining[i].pid == (pid_t)line->numbers[0]) {
            master->draining[i].quic = quic;
            return;
        }
    }
}

static bool take_line(struct master *master, char *text)
{
    struct line line;

    take_apart(text, 0, &line);
    if (strcmp(line.word, "quic_secret") == 0) {
        return take_secret(master, line.text);
    }
    if (strcmp(line.word, "file") == 0) {
        return take_socket_line(&master->endpoints, &line);
    }
    bool one = strcmp(line.word, "pid_file") == 0;
    bool two = strncmp(line.word, "app", 3) == 0 || strncmp(line.word, "admin", 5) == 0;
    take_apart(text, one ? 1 : two ? 2 : 3, &line);
    if (strcmp(line.word, "loops") == 0) {
        master->loops = (unsigned)line.numbers[0];
    } else if (strcmp(line.word, "number") == 0) {
        master->number = (unsigned)line.numbers[0];
    } else if (strcmp(line.word, "last_id") == 0) {
        master->endpoints.last_id = (unsigned)line.numbers[0];
    } else if (strcmp(line.word, "wish") == 0) {
        master->upgrade.answers = (uint32_t)line.numbers[0];
    } else if (strcmp(line.word, "quic_generation") == 0) {
        master->quic_generation = (uint16_t)line.numbers[0];
    } else if (strcmp(line.word, "server") == 0) {
        master->server = (pid_t)line.numbers[0];
        master->control = (int)line.numbers[1];
    } else if (strcmp(line.word, "draining") == 0) {
        if (master->draining_count < MASTER_DRAINING_MAX) {
            master->draining[master->draining_count++] = (struct master_child){
                (pid_t)line.numbers[0], (int)line.numbers[1], {0, -1}, (uint64_t)line.numbers[2]};
        }
    } else if (strcmp(line.word, "quic_of") == 0) {
        take_quic(master, &line);
    } else {
        return take_socket_line(&master->endpoints, &line);
    }
    return true;
}

static size_t count_lines(const char *text)
{
    size_t count = 1;

    for (; *text != '\0'; text++) {
        count += *text == '\n';
    }
    return count;
}

static bool make_room(struct endpoints *endpoints, size_t most)
{
    struct arena *arena = &endpoints->arena;

    endpoints->listeners = arena_calloc(arena, most, sizeof(*endpoints->listeners));
    endpoints->listener_binds = arena_calloc(arena, most, sizeof(*endpoints->listener_binds));
    endpoints->datagrams = arena_calloc(arena, most, sizeof(*endpoints->datagrams));
    endpoints->apps = arena_calloc(arena, most, sizeof(*endpoints->apps));
    return endpoints->listeners != NULL && endpoints->listener_binds != NULL &&
           endpoints->datagrams != NULL && endpoints->apps != NULL;
}

static bool read_text(int fd, struct strbuf *text)
{
    char buffer[4096];
    ssize_t got;
    off_t at = 0;

    while ((got = pread(fd, buffer, sizeof(buffer), at)) > 0) {
        strbuf_append(text, buffer, (size_t)got);
        at += got;
    }
    return got == 0 && !text->failed;
}

enum error master_handover_read_take(struct master *master, int fd)
{
    char first[32];
    struct strbuf text;
    struct slice rest;

    snprintf(first, sizeof(first), "gatewayd-handover %d\n", FORM);
    strbuf_init(&text);
    bool fine = read_text(fd, &text) &&
                slice_starts_with(slice_from(strbuf_text(&text)), slice_from(first));
    close(fd);
    endpoints_init(&master->endpoints);
    fine = fine && make_room(&master->endpoints, count_lines(strbuf_text(&text)));
    rest = slice_from(strbuf_text(&text));
    while (fine && rest.length > 0) {
        char line[LINE_MAX_LENGTH];
        struct slice one = slice_cut(rest, '\n', &rest);
        fine = one.length < sizeof(line);
        if (fine && one.length > 0) {
            memcpy(line, one.data, one.length);
            line[one.length] = '\0';
            fine = take_line(master, line);
        }
    }
    strbuf_done(&text);
    if (fine) {
        master_handover_pass(master, -1, false);
    }
    return fine ? ERROR_NONE : ERROR_INVALID;
}
