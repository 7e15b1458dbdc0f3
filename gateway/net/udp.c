/* SPDX-License-Identifier: MIT */
/*
 * Receiving and sending datagrams with their ancillary data. One system call for as many datagrams as the kernel combines: per packet
 * that is a tenth of the cost of sendto and recvmsg alone.
 */
#include "net/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/log.h"
#include "base/metrics.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* Room for the address, the traffic class and the segment size, whichever family. */
#define CONTROL_SIZE                                                                               \
    (CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(int)))

union control {
    struct cmsghdr align;
    uint8_t bytes[CONTROL_SIZE];
};

void udp_socket_init(struct udp_socket *udp, int fd, const struct addr *addr)
{
    int value = 0;
    socklen_t length = sizeof(value);

    *udp = (struct udp_socket){.fd = fd, .addr = *addr};
    udp->gso = getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &value, &length) == 0;
}

/* --- receiving ----------------------------------------------------------------------------------- */

static void set_local(struct udp_packets *packets, const void *data)
{
    struct addr *local = &packets->local;

    if (local->sa.sa_family == AF_INET) {
        struct in_pktinfo info;
        memcpy(&info, data, sizeof(info));
        ((struct sockaddr_in *)(void *)&local->storage)->sin_addr = info.ipi_addr;
    } else {
        struct in6_pktinfo info;
        memcpy(&info, data, sizeof(info));
        ((struct sockaddr_in6 *)(void *)&local->storage)->sin6_addr = info.ipi6_addr;
    }
}

static void read_control(struct msghdr *message, struct udp_packets *packets)
{
    for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control != NULL;
         control = CMSG_NXTHDR(message, control)) {
        int level = control->cmsg_level, type = control->cmsg_type;
        if ((level == IPPROTO_IP && type == IP_PKTINFO) ||
            (level == IPPROTO_IPV6 && type == IPV6_PKTINFO)) {
            set_local(packets, CMSG_DATA(control));
        } else if (level == IPPROTO_IP && type == IP_TOS) {
            packets->ecn = *CMSG_DATA(control) & 3u;
        } else if (level == IPPROTO_IPV6 && type == IPV6_TCLASS) {
            int class = 0;
            memcpy(&class, CMSG_DATA(control), sizeof(class));
            packets->ecn = (unsigned)class & 3u;
        } else if (level == IPPROTO_UDP && type == UDP_GRO) {
            int segment = 0;
            memcpy(&segment, CMSG_DATA(control), sizeof(segment));
            packets->segment = segment > 0 ? (size_t)segment : packets->segment;
        }
    }
}

enum error udp_receive(const struct udp_socket *udp, uint8_t *buffer,
                       struct udp_packets *ret_packets)
{
    union control control;
    struct iovec vector = {buffer, UDP_BUFFER_SIZE};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t got;

    *ret_packets = (struct udp_packets){.local = udp->addr, .data = buffer};
    message.msg_name = &ret_packets->peer.storage;
    message.msg_namelen = sizeof(ret_packets->peer.storage);
    do {
        got = recvmsg(udp->fd, &message, 0);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return errno == EAGAIN || errno == EWOULDBLOCK ? ERROR_AGAIN : ERROR_IO;
    }
    ret_packets->peer.length = message.msg_namelen;
    ret_packets->length = (size_t)got;
    ret_packets->segment = (size_t)got;
    read_control(&message, ret_packets);
    METRIC_INCREMENT(udp_receives);
    return ERROR_NONE;
}

/* --- sending ------------------------------------------------------------------------------------- */

static struct cmsghdr *add_control(struct msghdr *message, struct cmsghdr *last, int level,
                                   int type, const void *data, size_t length)
{
    struct cmsghdr *control =
        last == NULL ? CMSG_FIRSTHDR(message)
                     : (struct cmsghdr *)(void *)((uint8_t *)last + CMSG_ALIGN(last->cmsg_len));

    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(control), data, length);
    return control;
}

static struct cmsghdr *add_source(struct msghdr *message, const struct addr *local)
{
    if (local->sa.sa_family == AF_INET) {
        struct in_pktinfo info = {
            .ipi_spec_dst = ((const struct sockaddr_in *)(const void *)&local->storage)->sin_addr};
        return add_control(message, NULL, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    }
    struct in6_pktinfo info = {
        .ipi6_addr = ((const struct sockaddr_in6 *)(const void *)&local->storage)->sin6_addr};
    return add_control(message, NULL, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
}

/* One sendmsg of at most UDP_SEGMENTS_MAX datagrams. */
static ssize_t send_some(const struct udp_socket *udp, const struct udp_packets *packets,
                         size_t offset, size_t length)
{
    union control control;
    struct iovec vector = {packets->data + offset, length};
    struct addr peer = packets->peer;
    struct msghdr message = {.msg_name = &peer.storage,
                             .msg_namelen = peer.length,
                             .msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t sent;

    memset(&control, 0, sizeof(control));
    struct cmsghdr *last = add_source(&message, &packets->local);
    if (packets->ecn != 0) {
        int class = (int)packets->ecn;
        bool ipv4 = packets->local.sa.sa_family == AF_INET;
        last = add_control(&message, last, ipv4 ? IPPROTO_IP : IPPROTO_IPV6,
                           ipv4 ? IP_TOS : IPV6_TCLASS, &class, sizeof(class));
    }
    if (length > packets->segment) {
        uint16_t segment = (uint16_t)packets->segment;
        last = add_control(&message, last, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment));
    }
    message.msg_controllen = (size_t)((uint8_t *)last - control.bytes) + CMSG_ALIGN(last->cmsg_len);
    do {
        sent = sendmsg(udp->fd, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    METRIC_INCREMENT(udp_sends);
    return sent;
}

/* How much goes into the next call. */
static size_t next_length(const struct udp_socket *udp, const struct udp_packets *packets,
                          size_t offset)
{
    size_t left = packets->length - offset;
    size_t most = udp->gso ? packets->segment * UDP_SEGMENTS_MAX : packets->segment;

    return left < most ? left : most;
}

enum error udp_send(struct udp_socket *udp, const struct udp_packets *packets, size_t *ret_sent)
{
    size_t offset = 0;

    REQUIRE(packets->length > 0 && packets->segment > 0 && packets->length <= UDP_BUFFER_SIZE);
    while (offset < packets->length) {
        size_t length = next_length(udp, packets, offset);
        if (send_some(udp, packets, offset, length) >= 0) {
            offset += length;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            *ret_sent = offset;
            return ERROR_AGAIN;
        } else if (errno == EIO && udp->gso && length > packets->segment) {
            /* The device cannot compute the checksums of the parts: split by ourselves from here on. */
            log_info("net", "UDP segmentation offload is not to be had here: it is left off");
            udp->gso = false;
        } else {
            METRIC_INCREMENT(udp_send_errors);
            offset += length;
        }
    }
    *ret_sent = offset;
    return ERROR_NONE;
}
