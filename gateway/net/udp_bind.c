/* SPDX-License-Identifier: MIT */
/*
 * Binding UDP sockets: a SO_REUSEPORT group, one socket for each loop, made in order and never resized. A small program of the kernel (classic
 * BPF, which needs no rights) steers packets by what connection ids show in clear (h3/quic_cid.h); where it cannot be attached the kernel spreads
 * by addresses, and loops forward what is not theirs.
 */
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "net/udp.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef SO_ATTACH_REUSEPORT_CBPF
#define SO_ATTACH_REUSEPORT_CBPF 51
#endif

/* Bursts of many connections arrive between two turns; the kernel bounds both by net.core.rmem_max and wmem_max. */
#define BUFFER_WANTED (2 << 20)
/* A connection id of ours (h3/quic_cid.h): its length, and where r and r xor loop lie in it. */
#define CID_LENGTH 19
#define CID_MASK_AT 1
#define CID_LOOP_AT 2

static bool set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value)) == 0;
}

/* What must work for QUIC to be spoken at all. */
static bool set_options(int fd, bool ipv6)
{
    /* Without them a packet goes to whatever address the kernel prefers as source, and congestion is told by loss alone. */
    bool good = ipv6 ? set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) &&
                           set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1) &&
                           set_option(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1) &&
                           /* RFC 9000 14: never fragmented; the path's limit is found by probes. */
                           set_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
                     : set_option(fd, IPPROTO_IP, IP_PKTINFO, 1) &&
                           set_option(fd, IPPROTO_IP, IP_RECVTOS, 1) &&
                           set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);

    /* A kernel without it gives datagrams one by one. */
    (void)set_option(fd, IPPROTO_UDP, UDP_GRO, 1);
    (void)set_option(fd, SOL_SOCKET, SO_RCVBUF, BUFFER_WANTED);
    (void)set_option(fd, SOL_SOCKET, SO_SNDBUF, BUFFER_WANTED);
    return good;
}

enum error udp_bind(const struct addr *addr, bool group, int *ret_fd)
{
    int fd = socket(addr->sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return ERROR_IO;
    }
    /* No SO_REUSEADDR: with it two UDP sockets may have one address, and one of them hears nothing. */
    if ((group && !set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1)) ||
        !set_options(fd, addr->sa.sa_family == AF_INET6) ||
        bind(fd, &addr->sa, addr->length) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return ERROR_IO;
    }
    *ret_fd = fd;
    return ERROR_NONE;
}

/* Returns the index of the socket, which is the loop's, or a number that is no index: then the kernel hashes the addresses. A short header has its
 * connection id behind the first byte, a long one behind first byte, version and length. */
static void steer(int fd)
{
    enum { SHORT = 1, LONG = 6 };
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x80, 5, 0),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, SHORT + CID_MASK_AT),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, SHORT + CID_LOOP_AT),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        BPF_STMT(BPF_RET | BPF_A, 0),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, LONG - 1),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CID_LENGTH, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, LONG + CID_MASK_AT),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, LONG + CID_LOOP_AT),
        BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    struct sock_fprog filter = {sizeof(program) / sizeof(*program), program};

    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &filter, sizeof(filter)) != 0) {
        log_info(
            "net",
            "QUIC packets are not steered by the kernel (%s): loops forward them to each other",
            strerror(errno));
    }
}

static enum error explain(const struct addr *addr, char *text, size_t size)
{
    char where[ADDR_TEXT_SIZE];
    int error = errno;

    addr_format(addr, where);
    if (error == EADDRINUSE) {
        snprintf(
            text, size,
            "UDP %s (for \"h3\"): address already in use by another process; stop it or choose "
            "another port (ss -lunp shows who)",
            where);
    } else if (error == EACCES) {
        snprintf(text, size,
                 "UDP %s (for \"h3\"): permission denied: ports below 1024 need root or "
                 "CAP_NET_BIND_SERVICE",
                 where);
    } else {
        snprintf(text, size, "UDP %s (for \"h3\"): cannot bind: %s", where, strerror(error));
    }
    return ERROR_IO;
}

enum error udp_bind_group(const struct addr *addr, size_t count, int *ret_fds, char *text,
                          size_t text_size)
{
    int probe = -1;

    /* Alone first: in a group of the same user it would share the port in silence. */
    if (udp_bind(addr, false, &probe) != ERROR_NONE) {
        return explain(addr, text, text_size);
    }
    close(probe);
    for (size_t i = 0; i < count; i++) {
        if (udp_bind(addr, true, &ret_fds[i]) != ERROR_NONE) {
            enum error error = explain(addr, text, text_size);
            while (i > 0) {
                close(ret_fds[--i]);
            }
            return error;
        }
    }
    if (count > 1) {
        steer(ret_fds[0]);
    }
    return ERROR_NONE;
}
