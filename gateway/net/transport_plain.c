/* SPDX-License-Identifier: MIT */
/*
 * The plain transport: the socket itself. Owns the descriptor; knows nothing of what the bytes mean.
 */
#include <errno.h>
#include <limits.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/transport.h"
#include "net/transport_core.h"

static enum error plain_read(struct transport *transport, void *out, size_t size,
                             size_t *ret_length)
{
    REQUIRE_OBJECT(transport, TRANSPORT_MAGIC);
    REQUIRE(size > 0);
    ssize_t length;
    do {
        length = recv(transport->io.fd, out, size, 0);
    } while (length < 0 && errno == EINTR);
    if (length > 0) {
        transport_count_in(transport, (size_t)length);
        *ret_length = (size_t)length;
        return ERROR_NONE;
    }
    if (length == 0) {
        return transport_end(transport, true);
    }
    return errno == EAGAIN ? ERROR_AGAIN : transport_fail(transport);
}

static enum error plain_writev(struct transport *transport, const struct iovec *vectors,
                               size_t count, size_t *ret_length)
{
    REQUIRE_OBJECT(transport, TRANSPORT_MAGIC);
    /* sendmsg rather than writev for MSG_NOSIGNAL: a client that left must not end the process by SIGPIPE. */
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)vectors,
                             .msg_iovlen = count < IOV_MAX ? count : IOV_MAX};
    ssize_t length;
    do {
        length = sendmsg(transport->io.fd, &message, MSG_NOSIGNAL);
    } while (length < 0 && errno == EINTR);
    REQUIRE(length != 0); /* the caller offers at least one byte */
    if (length > 0) {
        transport_count_out(transport, (size_t)length);
        *ret_length = (size_t)length;
        return ERROR_NONE;
    }
    return errno == EAGAIN ? ERROR_AGAIN : transport_fail(transport);
}

static enum error plain_shutdown(struct transport *transport)
{
    REQUIRE_OBJECT(transport, TRANSPORT_MAGIC);
    return transport_shut_socket(transport);
}

static void plain_free(struct loop_grave *grave)
{
    mem_free(LIST_CONTAINER(grave, struct transport, grave));
}

static void plain_destroy(struct transport *transport, bool reset)
{
    transport_close(transport, reset, plain_free);
}

static const struct transport_ops plain_ops = {
    .read = plain_read,
    .writev = plain_writev,
    .shutdown = plain_shutdown,
    .destroy = plain_destroy,
};

struct transport *transport_plain_new(struct loop *loop, int fd, const struct addr *peer,
                                      const struct addr *local)
{
    struct transport *transport = mem_calloc(1, sizeof(*transport));
    if (transport == NULL) {
        close(fd);
        return NULL;
    }
    transport_init(transport, &plain_ops, loop, fd, peer, local);
    return transport;
}
