/* SPDX-License-Identifier: MIT */
/* Binding: what becomes of each kind of address, and the sentences for what cannot be bound. */
#include "check.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/listener.h"
#include "support.h"

#define ROOM 8

static struct listener_socket sockets[ROOM];
static size_t count;
static char error_text[512];

static enum error try_bind(const char *bind_text, unsigned loops)
{
    struct listener_settings settings = {.bind = slice_from(bind_text), .unix_mode = 0620};
    strcpy(error_text, "");
    count = 0;
    return listener_bind(&settings, 7, loops, sockets, ROOM, &count, error_text,
                         sizeof(error_text));
}

static void close_all(void)
{
    for (size_t i = 0; i < count; i++) {
        close(sockets[i].fd);
    }
    count = 0;
}

static const char *text_of(const struct addr *addr)
{
    static char text[ADDR_TEXT_SIZE];
    addr_format(addr, text);
    return text;
}

static bool can_connect(const struct addr *addr)
{
    int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool connected = connect(fd, &addr->sa, addr->length) == 0;
    close(fd);
    return connected;
}

TEST(bind_makes_a_group_for_the_loops)
{
    CHECK_EQ_INT(try_bind("127.0.0.1:0", 3), ERROR_NONE);
    CHECK_EQ_INT(count, 3);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ_INT(sockets[i].loop, i);
        CHECK_EQ_INT(sockets[i].setting, 7);
        CHECK(addr_port(&sockets[i].addr) != 0);
        CHECK_EQ_INT(addr_port(&sockets[i].addr), addr_port(&sockets[0].addr));
        CHECK(fcntl(sockets[i].fd, F_GETFD) & FD_CLOEXEC);
        CHECK(fcntl(sockets[i].fd, F_GETFL) & O_NONBLOCK);
    }
    CHECK(can_connect(&sockets[0].addr));

    /* Somebody else on the port, although he too would share it. */
    char again[64];
    struct listener_socket kept[3];
    memcpy(kept, sockets, sizeof(kept));
    snprintf(again, sizeof(again), "127.0.0.1:%u", addr_port(&kept[0].addr));
    CHECK_EQ_INT(try_bind(again, 2), ERROR_IO);
    CHECK(strstr(error_text, again) != NULL && strstr(error_text, "already in use") != NULL);
    for (int i = 0; i < 3; i++) {
        close(kept[i].fd);
    }
    CHECK_EQ_INT(try_bind(again, 2), ERROR_NONE);
    close_all();
}

TEST(bind_star_takes_both_families_on_one_port)
{
    int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (probe < 0) {
        SKIP("no IPv6");
    }
    close(probe);
    CHECK_EQ_INT(try_bind("*:0", 2), ERROR_NONE);
    CHECK_EQ_INT(count, 4);
    unsigned port = addr_port(&sockets[0].addr);
    static const char *const hosts[] = {"0.0.0.0", "0.0.0.0", "::", "::"};
    for (size_t i = 0; i < 4; i++) {
        char host[ADDR_TEXT_SIZE];
        addr_format_host(&sockets[i].addr, host);
        CHECK_EQ_STR(host, hosts[i]);
        CHECK_EQ_INT(addr_port(&sockets[i].addr), port);
        CHECK_EQ_INT(sockets[i].loop, i % 2);
    }
    close_all();
    CHECK_EQ_INT(try_bind("[::1]:0", 1), ERROR_NONE);
    CHECK(strncmp(text_of(&sockets[0].addr), "[::1]:", 6) == 0);
    close_all();
}

TEST(bind_refuses_with_a_sentence)
{
    static const struct {
        const char *bind, *says;
        enum error error;
    } rows[] = {
        {"", "is no address to listen on", ERROR_INVALID},
        {"8080", "is no address to listen on", ERROR_INVALID},
        {":8080", "is no address to listen on", ERROR_INVALID},
        {"localhost:80", "no host names", ERROR_INVALID},
        {"::1:8080", "is no address to listen on", ERROR_INVALID},
        {"127.0.0.1:", "is no address to listen on", ERROR_INVALID},
        {"127.0.0.1:65536", "is no address to listen on", ERROR_INVALID},
        {"192.0.2.77:0", "no interface of this machine has this address", ERROR_IO},
        {"unix:", "must be absolute", ERROR_INVALID},
        {"unix:relative.sock", "must be absolute", ERROR_INVALID},
        {"unix:/nonexistent/x.sock", "its directory must exist", ERROR_IO},
        {"fd://", "write a descriptor number", ERROR_INVALID},
        {"fd://x", "write a descriptor number", ERROR_INVALID},
        {"fd://4000", "no such descriptor was inherited", ERROR_INVALID},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        CHECK_EQ_INT(try_bind(rows[i].bind, 1), rows[i].error);
        CHECK_EQ_INT(count, 0);
        if (strstr(error_text, rows[i].says) == NULL) {
            CHECK_EQ_STR(error_text, rows[i].says);
        }
    }
    /* Failing in the middle leaves nothing open. */
    int before = dup(0);
    close(before);
    CHECK_EQ_INT(try_bind("127.0.0.1:0", ROOM + 1), ERROR_LIMIT);
    int after = dup(0);
    close(after);
    CHECK_EQ_INT(after, before);
}

TEST(bind_unix_replaces_only_stale_sockets)
{
    char bind_text[160];
    const char *path = support_path("x.sock");
    snprintf(bind_text, sizeof(bind_text), "unix:%s", path);
    mode_t mask = umask(077);
    CHECK_EQ_INT(try_bind(bind_text, 4), ERROR_NONE);
    umask(mask);
    CHECK_EQ_INT(count, 1);
    CHECK_EQ_STR(text_of(&sockets[0].addr), bind_text);
    struct stat status;
    CHECK_EQ_INT(stat(path, &status), 0);
    CHECK_EQ_INT(status.st_mode & 07777, 0620);
    struct listener_socket kept = sockets[0];
    CHECK(can_connect(&kept.addr));

    CHECK_EQ_INT(try_bind(bind_text, 1), ERROR_IO);
    CHECK(strstr(error_text, "another process listens there") != NULL);
    close(kept.fd);
    CHECK_EQ_INT(stat(path, &status), 0); /* stale now */
    CHECK_EQ_INT(try_bind(bind_text, 1), ERROR_NONE);
    CHECK(can_connect(&sockets[0].addr));
    close_all();
    CHECK_EQ_INT(unlink(path), 0);

    support_write("x.sock", "precious", 0600);
    CHECK_EQ_INT(try_bind(bind_text, 1), ERROR_INVALID);
    CHECK(strstr(error_text, "is not a socket") != NULL);
    CHECK_EQ_INT(stat(path, &status), 0);
    CHECK_EQ_INT(status.st_size, 8);
    CHECK_EQ_INT(unlink(path), 0);
    CHECK_EQ_INT(symlink("/etc/passwd", path), 0);
    CHECK_EQ_INT(try_bind(bind_text, 1), ERROR_INVALID);
    CHECK_EQ_INT(unlink(path), 0);

    /* A datagram socket of somebody else is in use, not stale. */
    struct addr addr;
    CHECK_EQ_INT(addr_from_unix(slice_from(path), &addr), ERROR_NONE);
    int datagram = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK_EQ_INT(bind(datagram, &addr.sa, addr.length), 0);
    CHECK_EQ_INT(try_bind(bind_text, 1), ERROR_IO);
    close(datagram);
    CHECK_EQ_INT(unlink(path), 0);
}

TEST(bind_takes_inherited_descriptors_once)
{
    char bind_text[32];
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* as it comes through exec: without FD_CLOEXEC */
    snprintf(bind_text, sizeof(bind_text), "fd://%d", fd);
    CHECK_EQ_INT(try_bind(bind_text, 1), ERROR_INVALID);
    CHECK(strstr(error_text, "not a listening") != NULL);

    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK_EQ_INT(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    CHECK_EQ_INT(listen(fd, 5), 0);
    CHECK_EQ_INT(try_bind(bind_text, 3), ERROR_NONE);
    CHECK_EQ_INT(count, 1);
    CHECK_EQ_INT(sockets[0].fd, fd);
    CHECK_EQ_INT(sockets[0].loop, 0);
    CHECK(addr_port(&sockets[0].addr) != 0);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    struct listener_socket kept = sockets[0];
    CHECK_EQ_INT(try_bind(bind_text, 1), ERROR_INVALID);
    CHECK(strstr(error_text, "used twice") != NULL);
    close(kept.fd);

    fd = socket(AF_INET, SOCK_DGRAM, 0);
    snprintf(bind_text, sizeof(bind_text), "fd://%d", fd);
    CHECK_EQ_INT(try_bind(bind_text, 1), ERROR_INVALID);
    close(fd);
    fd = open("/dev/null", O_RDONLY);
    snprintf(bind_text, sizeof(bind_text), "fd://%d", fd);
    CHECK_EQ_INT(try_bind(bind_text, 1), ERROR_INVALID);
    close(fd);
}

CHECK_MAIN
