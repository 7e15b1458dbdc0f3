/* SPDX-License-Identifier: MIT */
/* Addresses: what is parsed, how it is printed, which network holds which address. */
#include "check.h"

#include <stdlib.h>
#include <sys/un.h>

#include "net/addr.h"

TEST(addr_parses_and_prints)
{
    static const struct {
        const char *host;
        unsigned port;
        const char *host_text, *text; /* NULL: invalid */
    } rows[] = {
        {"127.0.0.1", 80, "127.0.0.1", "127.0.0.1:80"},
        {"0.0.0.0", 0, "0.0.0.0", "0.0.0.0:0"},
        {"255.255.255.255", 65535, "255.255.255.255", "255.255.255.255:65535"},
        {"::1", 443, "::1", "[::1]:443"},
        {"[::1]", 443, "::1", "[::1]:443"},
        {"2001:DB8:0:0::5", 1, "2001:db8::5", "[2001:db8::5]:1"},
        {"::ffff:192.0.2.1", 8, "192.0.2.1", "192.0.2.1:8"},
        {"fe80::1%4000000000", 8, "fe80::1%4000000000", "[fe80::1%4000000000]:8"},
        {"fe80::1%lo", 8, "fe80::1%lo", "[fe80::1%lo]:8"},
        {"", 80, NULL, NULL},
        {"[]", 80, NULL, NULL},
        {"[127.0.0.1]", 80, NULL, NULL},
        {"localhost", 80, NULL, NULL},
        {"1.2.3", 80, NULL, NULL},
        {"1.2.3.4.5", 80, NULL, NULL},
        {"1.2.3.256", 80, NULL, NULL},
        {"01.2.3.4", 80, NULL, NULL},
        {" 1.2.3.4", 80, NULL, NULL},
        {"1.2.3.4", 65536, NULL, NULL},
        {"::1%no-such-interface", 80, NULL, NULL},
        {"::1%", 80, NULL, NULL},
        {":::", 80, NULL, NULL},
        {"[::1", 80, NULL, NULL},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999", 80, NULL, NULL},
        {"1111:2222:3333:4444:5555:6666:123.123.123.123%abcdefghijklmnopqrstuvwxyz", 1, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct addr addr;
        char text[ADDR_TEXT_SIZE];
        enum error error = addr_parse(slice_from(rows[i].host), rows[i].port, &addr);
        if (rows[i].text == NULL) {
            CHECK_EQ_INT(error, ERROR_INVALID);
            continue;
        }
        CHECK_EQ_INT(error, ERROR_NONE);
        CHECK_EQ_INT(addr_format(&addr, text), strlen(rows[i].text));
        CHECK_EQ_STR(text, rows[i].text);
        CHECK_EQ_INT(addr_format_host(&addr, text), strlen(rows[i].host_text));
        CHECK_EQ_STR(text, rows[i].host_text);
        CHECK_EQ_INT(addr_port(&addr), rows[i].port);
        CHECK(!addr_is_unix(&addr));
    }
}

TEST(addr_refuses_a_nul_inside)
{
    struct addr addr;
    CHECK_EQ_INT(addr_parse((struct slice){"1.2.3.4\0", 8}, 80, &addr), ERROR_INVALID);
    CHECK_EQ_INT(addr_from_unix((struct slice){"/a\0b", 4}, &addr), ERROR_INVALID);
}

TEST(addr_prints_unix_addresses)
{
    struct addr addr;
    char text[ADDR_TEXT_SIZE], path[ADDR_UNIX_PATH_MAX + 2];
    CHECK_EQ_INT(addr_from_unix(SLICE("/run/x.sock"), &addr), ERROR_NONE);
    addr_format(&addr, text);
    CHECK_EQ_STR(text, "unix:/run/x.sock");
    CHECK(addr_is_unix(&addr));
    CHECK_EQ_INT(addr_port(&addr), 0);

    memset(path, 'p', sizeof(path));
    CHECK_EQ_INT(addr_from_unix((struct slice){path, ADDR_UNIX_PATH_MAX}, &addr), ERROR_NONE);
    CHECK_EQ_INT(addr_format(&addr, text), ADDR_UNIX_PATH_MAX + 5);
    CHECK_EQ_INT(addr_from_unix((struct slice){path, ADDR_UNIX_PATH_MAX + 1}, &addr),
                 ERROR_INVALID);
    CHECK_EQ_INT(addr_from_unix(SLICE(""), &addr), ERROR_INVALID);

    /* An unnamed peer, one with an abstract name, and one whose name would break a log line. */
    memset(&addr, 0, sizeof(addr));
    addr.sa.sa_family = AF_UNIX;
    addr.length = sizeof(sa_family_t);
    addr_format(&addr, text);
    CHECK_EQ_STR(text, "unix:");
    struct sockaddr_un *un = (struct sockaddr_un *)(void *)&addr.storage;
    memcpy(un->sun_path, "\0ab\n", 4);
    addr.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 4);
    addr_format(&addr, text);
    CHECK_EQ_STR(text, "unix:@ab?");
    addr.length = 0;
    CHECK_EQ_INT(addr_format(&addr, text), 0);
}

TEST(addr_network_contains_table)
{
    static const struct {
        const char *network, *addr;
        int contains; /* -1: the network is invalid */
    } rows[] = {
        {"10.0.0.0/8", "10.255.3.4", 1},
        {"10.0.0.0/8", "11.0.0.1", 0},
        {"10.0.0.0/8", "::1", 0},
        {"0.0.0.0/0", "1.2.3.4", 1},
        {"0.0.0.0/0", "::1", 0},
        {"::/0", "2001:db8::1", 1},
        {"::/0", "1.2.3.4", 0},
        {"192.0.2.128/25", "192.0.2.127", 0},
        {"192.0.2.128/25", "192.0.2.200", 1},
        {"192.0.2.7", "192.0.2.7", 1},
        {"192.0.2.7", "192.0.2.6", 0},
        {"192.0.2.7", "::ffff:192.0.2.7", 1},
        {"192.0.2.6/31", "192.0.2.7", 1},
        {"2001:db8::/33", "2001:db8:7fff::1", 1},
        {"2001:db8::/33", "2001:db8:8000::1", 0},
        {"::ffff:10.0.0.0/104", "10.1.2.3", 1},
        {"::1", "::1", 1},
        {"::1", "::2", 0},
        {"*", "::2", 1},
        {"*", "9.9.9.9", 1},
        {"*", "/any", 1},
        {"unix", "/any", 1},
        {"unix", "127.0.0.1", 0},
        {"127.0.0.1", "/any", 0},
        {"10.0.0.1/8", "", -1},
        {"::ffff:0:0/95", "", -1},
        {"10.0.0.0/33", "", -1},
        {"::/129", "", -1},
        {"10.0.0.0/", "", -1},
        {"10.0.0.0/-1", "", -1},
        {"10.0.0.0/8/8", "", -1},
        {"/8", "", -1},
        {"", "", -1},
        {"unix/8", "", -1},
        {"example.com", "", -1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct addr_network network;
        struct addr addr;
        enum error error = addr_network_parse(slice_from(rows[i].network), &network);
        CHECK_EQ_INT(error, rows[i].contains < 0 ? ERROR_INVALID : ERROR_NONE);
        if (error != ERROR_NONE) {
            continue;
        }
        struct slice text = slice_from(rows[i].addr);
        CHECK_EQ_INT(text.data[0] == '/' ? addr_from_unix(text, &addr) : addr_parse(text, 1, &addr),
                     ERROR_NONE);
        CHECK_EQ_INT(addr_network_contains(&network, &addr), rows[i].contains);
    }
}

CHECK_MAIN
