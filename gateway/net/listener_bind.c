/* SPDX-License-Identifier: MIT */
/*
 * Binding: from a "bind" string to listening sockets. Runs in the master before rights are dropped and in one thread;
 * every failure is a sentence for the person who wrote the configuration. Accepts nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "net/listener.h"

#define BACKLOG_DEFAULT 4096 /* the kernel cuts it to net.core.somaxconn */

/* One call's state. */
struct binding {
    const struct listener_settings *settings;
    unsigned setting, loops;
    struct listener_socket *out;
    size_t room, count;
    char *text;
    size_t text_size;
};

PRINTF_LIKE(3, 4)
static enum error refuse(struct binding *binding, enum error error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(binding->text, binding->text_size, format, arguments);
    va_end(arguments);
    return error;
}

static int backlog_of(const struct binding *binding)
{
    return binding->settings->backlog > 0 ? binding->settings->backlog : BACKLOG_DEFAULT;
}

static enum error add(struct binding *binding, int fd, unsigned loop)
{
    if (binding->count == binding->room) {
        return refuse(binding, ERROR_LIMIT, "too many listening sockets: at most %zu in all",
                      binding->room);
    }
    struct listener_socket *added = &binding->out[binding->count];
    memset(added, 0, sizeof(*added));
    added->fd = fd;
    added->setting = binding->setting;
    added->loop = loop;
    added->addr.length = sizeof(added->addr.storage);
    if (getsockname(fd, &added->addr.sa, &added->addr.length) != 0) {
        return refuse(binding, ERROR_IO, "cannot read the address of a socket: %s",
                      strerror(errno));
    }
    binding->count++;
    return ERROR_NONE;
}

/* --- TCP ------------------------------------------------------------------------------------------------------------ */

static enum error explain_tcp(struct binding *binding, const struct addr *addr, int error)
{
    char where[ADDR_TEXT_SIZE];
    addr_format(addr, where);
    switch (error) {
    case EADDRINUSE:
        return refuse(binding, ERROR_IO,
                      "%s: address already in use: another process or another [[listen]] listens "
                      "there; stop it or choose another port (ss -ltnp shows who)",
                      where);
    case EACCES:
        return refuse(binding, ERROR_IO,
                      "%s: permission denied: ports below 1024 need root or CAP_NET_BIND_SERVICE",
                      where);
    case EADDRNOTAVAIL:
        return refuse(binding, ERROR_IO,
                      "%s: no interface of this machine has this address (ip addr shows them)",
                      where);
    case EAFNOSUPPORT:
        return refuse(binding, ERROR_IO,
                      "%s: this machine has no IPv6; bind \"0.0.0.0:%u\" instead", where,
                      addr_port(addr));
    case EMFILE:
    case ENFILE:
        return refuse(binding, ERROR_IO, "%s: out of file descriptors; raise the limit (ulimit -n)",
                      where);
    default:
        return refuse(binding, ERROR_IO, "%s: cannot listen: %s", where, strerror(error));
    }
}

/* A bound TCP socket, or -1 with errno. `group`: one of a SO_REUSEPORT group. */
static int tcp_socket(const struct addr *addr, bool group)
{
    int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    const int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        (group && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) ||
        (addr->sa.sa_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0) ||
        bind(fd, &addr->sa, addr->length) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* SO_REUSEPORT would let a second gatewayd of the same user share the port in silence. A socket without the option cannot
 * be bound beside a listening one, so try that first. */
static bool address_is_free(const struct addr *addr)
{
    if (addr_port(addr) == 0) {
        return true;
    }
    int fd = tcp_socket(addr, false);
    if (fd < 0) {
        return false;
    }
    close(fd);
    return true;
}

static void set_port(struct addr *addr, unsigned port)
{
    if (addr->sa.sa_family == AF_INET) {
        ((struct sockaddr_in *)(void *)&addr->storage)->sin_port = htons((uint16_t)port);
    } else {
        ((struct sockaddr_in6 *)(void *)&addr->storage)->sin6_port = htons((uint16_t)port);
    }
}

/* One socket per loop on one address; with port 0 the first one's port becomes everyone's. */
static enum error bind_tcp(struct binding *binding, struct addr addr)
{
    if (!address_is_free(&addr)) {
        return explain_tcp(binding, &addr, errno);
    }
    for (unsigned loop = 0; loop < binding->loops; loop++) {
        int fd = tcp_socket(&addr, true);
        if (fd < 0) {
            return explain_tcp(binding, &addr, errno);
        }
        if (listen(fd, backlog_of(binding)) != 0) {
            int error = errno;
            close(fd);
            return explain_tcp(binding, &addr, error);
        }
        enum error error = add(binding, fd, loop);
        if (error != ERROR_NONE) {
            close(fd);
            return error;
        }
        if (addr_port(&addr) == 0) {
            set_port(&addr, addr_port(&binding->out[binding->count - 1].addr));
        }
    }
    return ERROR_NONE;
}

/* "*:port": both families; a machine without IPv6 gets IPv4 and a warning. */
static enum error bind_everywhere(struct binding *binding, unsigned port)
{
    struct addr any;
    REQUIRE(addr_parse(SLICE("0.0.0.0"), port, &any) == ERROR_NONE);
    enum error error = bind_tcp(binding, any);
    if (error != ERROR_NONE) {
        return error;
    }
    port = addr_port(&binding->out[binding->count - 1].addr);
    REQUIRE(addr_parse(SLICE("::"), port, &any) == ERROR_NONE);
    int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (probe < 0 && errno == EAFNOSUPPORT) {
        log_warning("net", "this machine has no IPv6: \"*:%u\" listens on IPv4 only", port);
        return ERROR_NONE;
    }
    if (probe >= 0) {
        close(probe);
    }
    return bind_tcp(binding, any);
}

static enum error bind_host_port(struct binding *binding)
{
    struct slice text = binding->settings->bind;
    size_t colon = text.length;
    while (colon > 0 && text.data[colon - 1] != ':') {
        colon--;
    }
    struct slice host = {text.data, colon > 0 ? colon - 1 : 0};
    struct slice port_text = {text.data + colon, text.length - colon};
    unsigned long long port = 0;
    struct addr addr;
    if (colon > 0 && slice_to_uint(port_text, 65535, &port)) {
        if (slice_equal(host, SLICE("*"))) {
            return bind_everywhere(binding, (unsigned)port);
        }
        bool bare_ipv6 =
            host.length > 0 && host.data[0] != '[' && memchr(host.data, ':', host.length) != NULL;
        if (!bare_ipv6 && addr_parse(host, (unsigned)port, &addr) == ERROR_NONE) {
            return bind_tcp(binding, addr);
        }
    }
    return refuse(binding, ERROR_INVALID,
                  "\"%.*s\" is no address to listen on; write \"*:8443\", \"192.0.2.1:8443\", "
                  "\"[2001:db8::1]:8443\" (numbers, no host names), \"unix:/path\" or \"fd://3\"",
                  SLICE_PRINT(text));
}

/* --- Unix sockets --------------------------------------------------------------------------------------------------- */

/* Whether somebody answers on an existing socket file; *ret_errno says why not. */
static bool answers(const struct addr *addr, int *ret_errno)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        *ret_errno = errno;
        return false;
    }
    *ret_errno = connect(fd, &addr->sa, addr->length) == 0 ? 0 : errno;
    close(fd);
    return *ret_errno == 0 || *ret_errno == EAGAIN || *ret_errno == EPROTOTYPE;
}

/* Removes a socket file that a dead process left; never anything else, and never one that is in use. */
static enum error clear_stale(struct binding *binding, const struct addr *addr, const char *path)
{
    struct stat status;
    if (lstat(path, &status) != 0) {
        return ERROR_NONE; /* absent; or bind() will say what is wrong */
    }
    if (!S_ISSOCK(status.st_mode)) {
        return refuse(binding, ERROR_INVALID,
                      "%s exists and is not a socket; remove it or choose another path", path);
    }
    int error = 0;
    if (answers(addr, &error)) {
        return refuse(binding, ERROR_IO,
                      "%s: another process listens there; stop it or choose another path", path);
    }
    if (error != ECONNREFUSED) {
        return refuse(binding, ERROR_IO, "%s exists and cannot be checked: %s", path,
                      strerror(error));
    }
    if (unlink(path) != 0) {
        return refuse(binding, ERROR_IO, "%s: a stale socket that cannot be removed: %s", path,
                      strerror(errno));
    }
    return ERROR_NONE;
}

/* The mode is set before listen(): until then nobody can connect, so there is no moment with a wider one. */
static enum error bind_unix_path(struct binding *binding, int fd, const struct addr *addr,
                                 const char *path)
{
    if (bind(fd, &addr->sa, addr->length) != 0) {
        return refuse(binding, ERROR_IO, "%s: cannot make the socket: %s%s", path, strerror(errno),
                      errno == ENOENT ? " (its directory must exist)" : "");
    }
    /* No link is followed: the directory may be another user's. */
    if (fchmodat(AT_FDCWD, path, binding->settings->unix_mode, AT_SYMLINK_NOFOLLOW) != 0 ||
        listen(fd, backlog_of(binding)) != 0) {
        enum error error =
            refuse(binding, ERROR_IO, "%s: cannot listen: %s", path, strerror(errno));
        unlink(path);
        return error;
    }
    return add(binding, fd, 0);
}

static enum error bind_unix(struct binding *binding, struct slice path)
{
    struct addr addr;
    if (addr_from_unix(path, &addr) != ERROR_NONE || path.data[0] != '/') {
        return refuse(binding, ERROR_INVALID,
                      "\"unix:%.*s\": the path must be absolute and at most %d bytes long",
                      SLICE_PRINT(path), ADDR_UNIX_PATH_MAX);
    }
    const char *text = ((struct sockaddr_un *)(void *)&addr.storage)->sun_path;
    enum error error = clear_stale(binding, &addr, text);
    if (error != ERROR_NONE) {
        return error;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return refuse(binding, ERROR_IO, "%s: cannot make a socket: %s", text, strerror(errno));
    }
    error = bind_unix_path(binding, fd, &addr, text);
    if (error != ERROR_NONE) {
        close(fd);
    }
    return error;
}

/* --- inherited descriptors ------------------------------------------------------------------------------------------ */

static bool socket_option(int fd, int option, int *ret_value)
{
    socklen_t length = sizeof(*ret_value);
    return getsockopt(fd, SOL_SOCKET, option, ret_value, &length) == 0;
}

/* A descriptor that came through exec has no FD_CLOEXEC; every one that we opened, or took here before, has it: so the flag
 * tells a second use and a number that was never handed over. */
static enum error bind_inherited(struct binding *binding, struct slice number)
{
    unsigned long long value = 0;
    if (!slice_to_uint(number, INT_MAX, &value)) {
        return refuse(binding, ERROR_INVALID,
                      "\"fd://%.*s\": write a descriptor number: \"fd://3\"", SLICE_PRINT(number));
    }
    int fd = (int)value, type = 0, listening = 0, family = 0;
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0) {
        return refuse(binding, ERROR_INVALID,
                      "fd://%d: no such descriptor was inherited (is the service started by its "
                      "socket unit?)",
                      fd);
    }
    if (flags & FD_CLOEXEC) {
        return refuse(binding, ERROR_INVALID,
                      "fd://%d: used twice, or a descriptor of gatewayd's own; each [[listen]] "
                      "needs an inherited descriptor of its own",
                      fd);
    }
    if (!socket_option(fd, SO_TYPE, &type) || type != SOCK_STREAM ||
        !socket_option(fd, SO_ACCEPTCONN, &listening) || !listening ||
        !socket_option(fd, SO_DOMAIN, &family) ||
        (family != AF_INET && family != AF_INET6 && family != AF_UNIX)) {
        return refuse(binding, ERROR_INVALID,
                      "fd://%d is not a listening TCP or Unix stream socket", fd);
    }
    int status = fcntl(fd, F_GETFL);
    if (status < 0 || fcntl(fd, F_SETFL, status | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, flags | FD_CLOEXEC) != 0) {
        return refuse(binding, ERROR_IO, "fd://%d: %s", fd, strerror(errno));
    }
    return add(binding, fd, 0);
}

enum error listener_bind(const struct listener_settings *settings, unsigned setting_index,
                         unsigned loops, struct listener_socket *out, size_t room,
                         size_t *ret_count, char *error_text, size_t error_size)
{
    REQUIRE(loops > 0 && error_size >= 256);
    struct binding binding = {.settings = settings,
                              .setting = setting_index,
                              .loops = loops,
                              .out = out,
                              .room = room,
                              .text = error_text,
                              .text_size = error_size};
    struct slice bind_text = settings->bind;
    enum error error;
    if (slice_starts_with(bind_text, SLICE("unix:"))) {
        error = bind_unix(&binding, (struct slice){bind_text.data + 5, bind_text.length - 5});
    } else if (slice_starts_with(bind_text, SLICE("fd://"))) {
        error = bind_inherited(&binding, (struct slice){bind_text.data + 5, bind_text.length - 5});
    } else {
        error = bind_host_port(&binding);
    }
    if (error != ERROR_NONE) {
        for (size_t i = 0; i < binding.count; i++) {
            close(out[i].fd);
        }
        return error;
    }
    *ret_count = binding.count;
    return ERROR_NONE;
}
