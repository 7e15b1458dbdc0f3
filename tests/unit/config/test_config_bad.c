/* SPDX-License-Identifier: MIT */
/*
 * Everything that is wrong with a configuration is told with its place and what would be right: one row per mistake, with the
 * whole text of the complaint.
 */
#include "check.h"
#include "support.h"

#include <stdlib.h>

#include "base/mem.h"

struct row {
    const char *text;
    const char *complaint; /* all of it; one that ends in "..." is only the beginning */
};

static const struct row rows[] = {
    {"[gateway\n" MINIMAL,
     "t.toml:1:9: this is no TOML: Error while parsing table header: expected ']', saw '\\n'\n"},
    {"threads = \n" MINIMAL, "t.toml:1:11: this is no TOML: Error while parsing key-value pair: "
                             "expected value, saw '\\n'\n"},
    {"[gateway]\nthreads = 1\nthreads = 2\n" MINIMAL,
     "t.toml:3:11: this is no TOML: Error while parsing key-value pair: cannot redefine existing "
     "integer 'threads'\n"},
    {"[log]\nlevel = debug\n" MINIMAL, "t.toml:2:9: this is no TOML: Error while parsing value: "
                                       "could not determine value type; a string needs quotes\n"},
    {"[gateway]\nthreads = 01\n" MINIMAL, "t.toml:2:13: this is no TOML: Error while parsing "
                                          "decimal integer: leading zeroes are prohibited\n"},
    {"[log]\nlevel = \"x\n" MINIMAL,
     "t.toml:2:11: this is no TOML: Error while parsing string: unescaped control characters other "
     "than TAB (U+0009) are explicitly prohibited\n"},
    {"[gatway]\n" MINIMAL,
     "t.toml:1:2: there is no section \"gatway\"; did you mean \"gateway\"?\n"},
    {"[statsd]\naddress = \"x\"\n" MINIMAL,
     "t.toml:1:2: [statsd]: this version has no StatsD; use [admin] http with Prometheus; leave "
     "the section out\n"},
    {"[websocket]\norigins = [\"example.com\"]\n" MINIMAL,
     "t.toml:2:12: websocket.origins has \"example.com\"; write scheme, host and port without a "
     "path, "
     "such as \"https://example.com\" or \"http://localhost:3000\"\n"},
    {"[websocket]\norigins = [\"https://example.com/\"]\n" MINIMAL,
     "t.toml:2:12: websocket.origins has \"https://example.com/\"; write scheme, host and port "
     "without a path, such as \"https://example.com\" or \"http://localhost:3000\"\n"},
    {"[statsd]\n" MINIMAL, "t.toml:1:2: [statsd]: this version has no StatsD; use [admin] http "
                           "with Prometheus; leave the section out\n"},
    {"[frobnicate]\n" MINIMAL,
     "t.toml:1:2: there is no section \"frobnicate\"; docs/CONFIGURATION.md lists the sections\n"},
    {"[[gateway]]\n" MINIMAL, "t.toml:1:3: gateway is an array; write [gateway] once\n"},
    {"gateway = 1\n" MINIMAL, "t.toml:1:1: gateway is a whole number; write [gateway] once\n"},
    {"colour = \"red\"\n" MINIMAL,
     "t.toml:1:1: there is no section \"colour\"; docs/CONFIGURATION.md lists the sections\n"},
    {"[listen]\nbind = \"127.0.0.1:1\"\n[apps.main]\n",
     "t.toml:1:2: listen is a table; write [[listen]] with double brackets, once for each\n"},
    {"[[listen]]\nbind=\"127.0.0.1:1\"\n[apps]\nsocket = \"/x\"\n",
     "t.toml:4:1: apps.socket is a string; options of an app stand in [apps.NAME], [apps.main] "
     "say\n"},
    {"[[listen]]\nbind=\"127.0.0.1:1\"\n[[apps]]\n",
     "t.toml:3:3: apps is an array; write [apps.NAME] once for each app\n"},
    {"[apps.main]\n", "t.toml:1:1: there is no [[listen]]; write one, such as: [[listen]] bind = "
                      "\"127.0.0.1:8080\"\n"},
    {"[[listen]]\nbind=\"127.0.0.1:1\"\n",
     "t.toml:1:1: there is no app; write [apps.main], and start workers with: python -m "
     "asgi_worker module:attribute\n"},
    {"", "t.toml:1:1: there is no app; write [apps.main], and start workers with: python -m "
         "asgi_worker module:attribute\n"
         "t.toml:1:1: there is no [[listen]]; write one, such as: [[listen]] bind = "
         "\"127.0.0.1:8080\"\n"},
    {"apps = {}\n[[listen]]\nbind=\"127.0.0.1:1\"\n",
     "t.toml:1:8: there is no app; write [apps.main], and start workers with: python -m "
     "asgi_worker module:attribute\n"},
    {"listen = []\n[apps.main]\n", "t.toml:1:10: there is no [[listen]]; write one, such as: "
                                   "[[listen]] bind = \"127.0.0.1:8080\"\n"},
    {"listen = [1]\n[apps.main]\n",
     "t.toml:1:11: listen[0] is a whole number; write a table of options\n"},
    {"[gateway]\nthread = 1\n" MINIMAL,
     "t.toml:2:1: gateway has no option \"thread\"; did you mean \"threads\"?\n"},
    {"[gateway]\nworkers = 1\n" MINIMAL,
     "t.toml:2:1: gateway has no option \"workers\"; docs/CONFIGURATION.md lists the options\n"},
    {"[limits]\nheader = 1\n" MINIMAL,
     "t.toml:2:1: limits has no option \"header\"; did you mean \"header_block\"?\n"},
    {"[limits]\nbody_sise = 1\n" MINIMAL,
     "t.toml:2:1: limits has no option \"body_sise\"; did you mean \"body_size\"?\n"},
    {"[[listen]]\nbind=\"127.0.0.1:1\"\n[apps.main]\npromote = \"yes\"\n",
     "t.toml:4:11: apps.main.promote is \"yes\"; write \"auto\" or \"manual\"\n"},
    {"[[listen]]\nbind=\"127.0.0.1:1\"\n[apps.main]\nwarmup = \"health\"\n",
     "t.toml:4:10: apps.main.warmup is \"health\"; write a path that begins with '/', such as "
     "\"/health\"\n"},
    {"[[listen]]\nbnid=\"127.0.0.1:1\"\n[apps.main]\n",
     "t.toml:1:1: listen[0].bind is missing; add it: \"*:8443\", \"0.0.0.0:8443\", \"[::]:8443\", "
     "\"unix:/path\" or \"fd://3\"\n"
     "t.toml:2:1: listen[0] has no option \"bnid\"; did you mean \"bind\"?\n"},
    {"[tls]\nearly_data = true\n" MINIMAL,
     "t.toml:2:1: tls.early_data: this version takes no early data; leave it out\n"},
    {"[[listen]]\nbind=\"127.0.0.1:1\"\n[apps.main]\n[[route]]\npath=\"/static/\"\nfiles=\"/"
     "srv\"\n",
     "t.toml:6:1: route[0].files: this version serves no files itself; serve them from the app; "
     "leave it out\n"},
    {"[gateway]\nthreads = \"two\"\n" MINIMAL,
     "t.toml:2:11: gateway.threads is a string; write a whole number from 0 to 64\n"},
    {"[gateway]\nthreads = 1.5\n" MINIMAL, "t.toml:2:11: gateway.threads is a floating-point "
                                           "number; write a whole number from 0 to 64\n"},
    {"[gateway]\nthreads = true\n" MINIMAL,
     "t.toml:2:11: gateway.threads is a boolean; write a whole number from 0 to 64\n"},
    {"[gateway]\nthreads = [1]\n" MINIMAL,
     "t.toml:2:11: gateway.threads is an array; write a whole number from 0 to 64\n"},
    {"[gateway]\nthreads = 65\n" MINIMAL,
     "t.toml:2:11: gateway.threads is out of range; write a whole number from 0 to 64\n"},
    {"[gateway]\nthreads = -1\n" MINIMAL,
     "t.toml:2:11: gateway.threads is out of range; write a whole number from 0 to 64\n"},
    {"[gateway]\nmax_connections = \"none\"\n" MINIMAL,
     "t.toml:2:19: gateway.max_connections is \"none\"; write a whole number from 1 to 10000000, "
     "or \"auto\"\n"},
    {"[gateway]\nmax_connections = 0\n" MINIMAL,
     "t.toml:2:19: gateway.max_connections is out of range; write a whole number from 1 to "
     "10000000, or \"auto\"\n"},
    {"[gateway]\nmax_connections_per_ip = 0\n" MINIMAL,
     "t.toml:2:26: gateway.max_connections_per_ip is out of range; write a whole number from 1 to "
     "10000000, or \"off\"\n"},
    {"[gateway]\ndrain_timeout = 30\n" MINIMAL,
     "t.toml:2:17: gateway.drain_timeout is the plain number 30; write a duration with its unit, "
     "such as \"30s\" or \"30ms\"\n"},
    {"[gateway]\ndrain_timeout = \"30\"\n" MINIMAL,
     "t.toml:2:17: gateway.drain_timeout is \"30\"; write a duration from \"0s\" to \"24h\", such "
     "as \"30s\"\n"},
    {"[gateway]\ndrain_timeout = \"30 s\"\n" MINIMAL,
     "t.toml:2:17: gateway.drain_timeout is \"30 s\"; write a duration from \"0s\" to \"24h\", "
     "such as \"30s\"\n"},
    {"[gateway]\ndrain_timeout = \"25h\"\n" MINIMAL,
     "t.toml:2:17: gateway.drain_timeout is out of range; write a duration from \"0s\" to \"24h\", "
     "such as \"30s\"\n"},
    {"[gateway]\ndrain_timeout = \"off\"\n" MINIMAL,
     "t.toml:2:17: gateway.drain_timeout is \"off\"; write a duration from \"0s\" to \"24h\", such "
     "as \"30s\"\n"},
    {"[gateway]\nhandshake_timeout = \"0s\"\n" MINIMAL,
     "t.toml:2:21: gateway.handshake_timeout is out of range; write a duration from \"100ms\" to "
     "\"10m\", such as \"30s\"\n"},
    {"[gateway]\ndrain_timeout = \"99999999999999999999h\"\n" MINIMAL,
     "t.toml:2:17: gateway.drain_timeout is \"99999999999999999999h\"; write a duration from "
     "\"0s\" to \"24h\", such as \"30s\"\n"},
    {"[gateway]\ndrain_timeout = 07:32:00\n" MINIMAL,
     "t.toml:2:17: gateway.drain_timeout is a date or time; write a duration from \"0s\" to "
     "\"24h\", such as \"30s\"\n"},
    {"[limits]\nfirst_byte = \"never\"\n" MINIMAL,
     "t.toml:2:14: limits.first_byte is \"never\"; write a duration from \"1ms\" to \"24h\", such "
     "as \"30s\", or \"off\"\n"},
    {"[limits]\nbody_size = \"1GB\"\n" MINIMAL,
     "t.toml:2:13: limits.body_size is \"1GB\"; write a size from 0 to \"1024TiB\", such as 65536 "
     "or \"64KiB\"\n"},
    {"[limits]\nbody_size = \"off\"\n" MINIMAL,
     "t.toml:2:13: limits.body_size is \"off\"; write a size from 0 to \"1024TiB\", such as 65536 "
     "or \"64KiB\"\n"},
    {"[limits]\nbody_size = -1\n" MINIMAL,
     "t.toml:2:13: limits.body_size is out of range; write a size from 0 to \"1024TiB\", such as "
     "65536 or \"64KiB\"\n"},
    {"[limits]\nbody_size = \"99999999999TiB\"\n" MINIMAL,
     "t.toml:2:13: limits.body_size is \"99999999999TiB\"; write a size from 0 to \"1024TiB\", "
     "such as 65536 or \"64KiB\"\n"},
    {"[limits]\ntarget = 63\n" MINIMAL, "t.toml:2:10: limits.target is out of range; write a size "
                                        "from 64 to \"512KiB\", such as 65536 or \"64KiB\"\n"},
    {"[ipc]\nmax_frame = \"2MiB\"\n" MINIMAL,
     "t.toml:2:13: ipc.max_frame is out of range; write a size from \"32KiB\" to \"1MiB\", such as "
     "65536 or \"64KiB\"\n"},
    {"[log]\nlevel = \"loud\"\n" MINIMAL,
     "t.toml:2:9: log.level is \"loud\"; write \"debug\", \"info\", \"warning\" or \"error\"\n"},
    {"[log]\nlevel = 3\n" MINIMAL, "t.toml:2:9: log.level is a whole number; write \"debug\", "
                                   "\"info\", \"warning\" or \"error\"\n"},
    {"[log]\naccess_format = \"%(h)s %(zz)s\"\n" MINIMAL,
     "t.toml:2:17: log.access_format is malformed: at character 7: there is no atom %(zz)s..."},
    {"[log]\naccess_format = \"100%\"\n" MINIMAL,
     "t.toml:2:17: log.access_format is malformed: at character 4: a single % is neither %(atom)s "
     "nor %%..."},
    {"[log]\nerror = \"/nonexistent/x.log\"\n" MINIMAL,
     "t.toml:2:9: log.error is /nonexistent/x.log, but there is no directory /nonexistent; make "
     "it\n"},
    {"[log]\nerror = \"\"\n" MINIMAL,
     "t.toml:2:9: log.error is empty; write \"-\", \"syslog\" or a path\n"},
    {"[log]\naccess = \"/tmp\"\n" MINIMAL,
     "t.toml:2:10: log.access is /tmp, which is a directory; name a file in it\n"},
    {"[http]\nserver_header = \"yes\"\n" MINIMAL,
     "t.toml:2:17: http.server_header is a string; write true or false\n"},
    {"[http]\nserver_name = \"a\\r\\nb\"\n" MINIMAL,
     "t.toml:2:15: http.server_name is no legal field value; leave out control characters and "
     "spaces at its ends\n"},
    {"[http]\nheaders = { \"bad name\" = \"x\" }\n" MINIMAL,
     "t.toml:2:26: http.headers has the field \"bad name\", which is no legal field name; leave it "
     "out\n"},
    {"[http]\nheaders = { connection = \"close\" }\n" MINIMAL,
     "t.toml:2:26: http.headers has the field \"connection\", which belongs to one message or "
     "connection and cannot be added to all; leave it out\n"},
    {"[http]\nheaders = { x-a = \"1\\n2\" }\n" MINIMAL,
     "t.toml:2:19: http.headers has an illegal value for \"x-a\"; leave out control characters and "
     "spaces at its ends\n"},
    {"[http]\nheaders = { x-a = 1 }\n" MINIMAL,
     "t.toml:2:19: http.headers is a whole number; write a table of fields: { x-frame-options = "
     "\"DENY\" }\n"},
    {"[http]\nheaders = { Server = \"x\" }\n" MINIMAL,
     "t.toml:2:22: http.headers has the field \"Server\", which has options of its own: "
     "http.server_header, http.server_name and http.date_header; leave it out\n"},
    {"[http]\nserver_names = [\"http://example.com\"]\n" MINIMAL,
     "t.toml:2:17: http.server_names has \"http://example.com\"; write host names without scheme "
     "and port, such as \"example.com\" or \"*.example.com\"\n"},
    {"[http]\nserver_names = \"example.com\"\n" MINIMAL,
     "t.toml:2:16: http.server_names is a string; write an array of host names\n"},
    {"[http]\nserver_names = [\"example.com:80\"]\n" MINIMAL,
     "t.toml:2:17: http.server_names has \"example.com:80\"; write host names without scheme and "
     "port, such as \"example.com\" or \"*.example.com\"\n"},
    {"[http]\nserver_names = [1]\n" MINIMAL, "t.toml:2:17: http.server_names has an element that "
                                             "is a whole number; write an array of host names\n"},
    {"[admin]\nhttp = \"9180\"\n" MINIMAL,
     "t.toml:2:8: admin.http is \"9180\", which has no port; write \"*:8443\", \"0.0.0.0:8443\", "
     "\"[::]:8443\", \"unix:/path\" or \"fd://3\"\n"},
    {"[admin]\nhttp = \"localhost:9180\"\n" MINIMAL,
     "t.toml:2:8: admin.http is \"localhost:9180\", which has a host that is no numeric address; "
     "write \"*:8443\", \"0.0.0.0:8443\", \"[::]:8443\", \"unix:/path\" or \"fd://3\"\n"},
    {"[admin]\nmode = 600\n" MINIMAL, "t.toml:2:8: admin.mode is a whole number; write permissions "
                                      "in octal, such as \"0660\", at most \"0777\"\n"},
    {"[admin]\nmode = \"999\"\n" MINIMAL, "t.toml:2:8: admin.mode is \"999\"; write permissions in "
                                          "octal, such as \"0660\", at most \"0777\"\n"},
    {"[admin]\nmode = \"1777\"\n" MINIMAL, "t.toml:2:8: admin.mode is \"1777\"; write permissions "
                                           "in octal, such as \"0660\", at most \"0777\"\n"},
    {"[admin]\nsocket = "
     "\"/"
     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
     "xxxxxxxxxxxxxxxxx\"\n" MINIMAL,
     "t.toml:2:10: admin.socket has 111 characters; at most 107 are allowed\n"},
    {"[proxy_headers]\ntrusted = [\"10.1.2.3/8\"]\n" MINIMAL,
     "t.toml:2:12: proxy_headers.trusted has \"10.1.2.3/8\"; write an address (\"192.0.2.1\"), a "
     "network without bits behind its prefix (\"10.0.0.0/8\"), \"unix\" or \"*\"\n"},
    {"[proxy_headers]\ntrusted = [\"everyone\"]\n" MINIMAL,
     "t.toml:2:12: proxy_headers.trusted has \"everyone\"; write an address (\"192.0.2.1\"), a "
     "network without bits behind its prefix (\"10.0.0.0/8\"), \"unix\" or \"*\"\n"},
    {"[proxy_headers]\nstyle = \"rfc7239\"\n" MINIMAL,
     "t.toml:2:9: proxy_headers.style is \"rfc7239\"; write \"auto\", \"x-forwarded\" or "
     "\"forwarded\"\n"},
    {"[proxy_headers]\nuse = [\"for\", \"port\"]\n" MINIMAL,
     "t.toml:2:15: proxy_headers.use has \"port\"; write some of \"for\", \"proto\", \"host\", "
     "\"prefix\"\n"},
    {"[tls]\nmin_version = \"1.1\"\n" MINIMAL,
     "t.toml:2:15: tls.min_version is \"1.1\"; write \"1.2\" or \"1.3\"\n"},
    {"[tls]\nmin_version = 1.2\n" MINIMAL,
     "t.toml:2:15: tls.min_version is a floating-point number; write \"1.2\" or \"1.3\"\n"},
    {"[tls]\nverify = \"optional\"\n" MINIMAL, "t.toml:2:10: tls.verify needs tls.client_ca, the "
                                               "file with the authorities that are trusted\n"},
    {"[tls]\nclient_ca = \"ca.pem\"\n" MINIMAL,
     "t.toml:2:13: tls.client_ca is /nonexistent/ca.pem, which cannot be read: No such file or "
     "directory; relative paths start at the directory of the configuration\n"
     "t.toml:2:13: tls.client_ca is of no use while tls.verify is \"none\"; write verify = "
     "\"optional\" or \"required\", or leave client_ca out\n"},
    {"[tls]\ncertificates = [{ cert = \"a.pem\", key = \"/dev/null\" }]\n" MINIMAL,
     "t.toml:2:26: tls.certificates[0].cert is /nonexistent/a.pem, which cannot be read: No such "
     "file or directory; relative paths start at the directory of the configuration\n"
     "t.toml:2:41: tls.certificates[0].key is /dev/null, which is no file; name a PEM file\n"},
    {"[tls]\ncertificates = [{ cert = \"/etc/passwd\" }]\n" MINIMAL,
     "t.toml:2:17: tls.certificates[0].key is missing; add it: the path of a PEM file\n"},
    {"[tls]\ncertificates = [{ cert = \"/etc/passwd\", key = \"/etc/passwd\", keyy = 1 "
     "}]\n" MINIMAL,
     "t.toml:2:62: tls.certificates[0] has no option \"keyy\"; did you mean \"key\"?\n"},
    {"[tls]\ncertificates = { cert = \"a.pem\" }\n" MINIMAL,
     "t.toml:2:16: tls.certificates is a table; write an array of certificates: [{ cert = "
     "\"cert.pem\", key = \"key.pem\" }]\n"},
    {"[tls]\ncertificates = [\"a.pem\"]\n" MINIMAL,
     "t.toml:2:17: tls.certificates[0] is a string; write a table of options\n"},
    {"[tls]\nclient_ca = \"/etc/passwd\"\n" MINIMAL,
     "t.toml:2:13: tls.client_ca is of no use while tls.verify is \"none\"; write verify = "
     "\"optional\" or \"required\", or leave client_ca out\n"},
    {"[tls]\ncertificates = [{ cert = \"/etc/passwd\", key = \"/etc/passwd\", password_file = "
     "\"/dev/null\" }]\n" MINIMAL,
     "t.toml:2:78: tls.certificates[0].password_file is /dev/null, which is no file; name a PEM "
     "file\n"},
    {"[[listen]]\ntls = false\n[apps.main]\n",
     "t.toml:1:1: listen[0].bind is missing; add it: \"*:8443\", \"0.0.0.0:8443\", \"[::]:8443\", "
     "\"unix:/path\" or \"fd://3\"\n"},
    {"[[listen]]\nbind = \"8080\"\n[apps.main]\n",
     "t.toml:2:8: listen[0].bind is \"8080\", which has no port; write \"*:8443\", "
     "\"0.0.0.0:8443\", \"[::]:8443\", \"unix:/path\" or \"fd://3\"\n"},
    {"[[listen]]\nbind = \"127.0.0.1:99999\"\n[apps.main]\n",
     "t.toml:2:8: listen[0].bind is \"127.0.0.1:99999\", which has no port from 0 to 65535; write "
     "\"*:8443\", \"0.0.0.0:8443\", \"[::]:8443\", \"unix:/path\" or \"fd://3\"\n"},
    {"[[listen]]\nbind = \"example.com:80\"\n[apps.main]\n",
     "t.toml:2:8: listen[0].bind is \"example.com:80\", which has a host that is no numeric "
     "address; write \"*:8443\", \"0.0.0.0:8443\", \"[::]:8443\", \"unix:/path\" or \"fd://3\"\n"},
    {"[[listen]]\nbind = \"::1:80\"\n[apps.main]\n",
     "t.toml:2:8: listen[0].bind is \"::1:80\", which has an IPv6 address without [ ]; write "
     "\"*:8443\", \"0.0.0.0:8443\", \"[::]:8443\", \"unix:/path\" or \"fd://3\"\n"},
    {"[[listen]]\nbind = \"unix:\"\n[apps.main]\n",
     "t.toml:2:8: listen[0].bind is \"unix:\", which has a path that is empty or longer than 107 "
     "characters; write \"*:8443\", \"0.0.0.0:8443\", \"[::]:8443\", \"unix:/path\" or "
     "\"fd://3\"\n"},
    {"[[listen]]\nbind = "
     "\"unix:/"
     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
     "xxxxxxxxxxxxxxxxx\"\n[apps.main]\n",
     "t.toml:2:8: listen[0].bind is "
     "\"unix:/"
     "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
     "xxxxxxxxxxxxxxxxx\", which has a path that is empty or longer than 107 characters; write "
     "\"*:8443\", \"0.0.0.0:8443\", \"[::]:8443\", \"unix:/path\" or \"fd://3\"\n"},
    {"[[listen]]\nbind = \"fd://1\"\n[apps.main]\n",
     "t.toml:2:8: listen[0].bind is \"fd://1\", which names no descriptor from 3 upwards; write "
     "\"*:8443\", \"0.0.0.0:8443\", \"[::]:8443\", \"unix:/path\" or \"fd://3\"\n"},
    {"[[listen]]\nbind = 8080\n[apps.main]\n",
     "t.toml:2:8: listen[0].bind is a whole number; write \"*:8443\", \"0.0.0.0:8443\", "
     "\"[::]:8443\", \"unix:/path\" or \"fd://3\"\n"},
    {"[[listen]]\nbind = \"*:1\"\ntls = true\n[apps.main]\n",
     "t.toml:3:7: listen[0].tls needs a certificate; write [tls] certificates = [{ cert = "
     "\"cert.pem\", key = \"key.pem\" }]\n"},
    {"[[listen]]\nbind = \"*:1\"\nprotocols = [\"h3\", \"http/1.1\"]\n[apps.main]\n",
     "t.toml:3:13: listen[0].protocols has \"h3\", which is always encrypted; write tls = true "
     "here, "
     "or leave \"h3\" out\n"},
    {"[[listen]]\nbind = \"unix:/x/y\"\ntls = true\nprotocols = [\"h3\"]\n[apps.main]\n",
     "t.toml:3:7: listen[0].tls needs a certificate; write [tls] certificates = [{ cert = "
     "\"cert.pem\", key = \"key.pem\" }]\n"
     "t.toml:4:13: listen[0].protocols has \"h3\", which needs a UDP port of its own beside this "
     "listener's; "
     "bind \"address:port\", or leave \"h3\" out\n"},
    {"[[listen]]\nbind = \"*:1\"\ntls = true\nproxy_protocol = \"v2\"\nprotocols = [\"h3\"]\n"
     "[apps.main]\n",
     "t.toml:3:7: listen[0].tls needs a certificate; write [tls] certificates = [{ cert = "
     "\"cert.pem\", key = \"key.pem\" }]\n"
     "t.toml:5:13: listen[0].protocols has \"h3\", to which the PROXY protocol does not apply; "
     "make it a "
     "[[listen]] without proxy_protocol, or leave \"h3\" out\n"},
    {"[[listen]]\nbind = \"*:1\"\nprotocols = []\n[apps.main]\n",
     "t.toml:3:13: listen[0].protocols is empty; write [\"h3\", \"h2\", \"http/1.1\"] or "
     "some of them\n"},
    {"[[listen]]\nbind = \"*:1\"\nprotocols = [\"spdy\"]\n[apps.main]\n",
     "t.toml:3:14: listen[0].protocols has \"spdy\"; write [\"h3\", \"h2\", \"http/1.1\"] "
     "or some of them\n"},
    {"[[listen]]\nbind = \"*:1\"\nproxy_protocol = \"v3\"\n[apps.main]\n",
     "t.toml:3:18: listen[0].proxy_protocol is \"v3\"; write \"off\", \"v1\", \"v2\" or \"any\"\n"},
    {"[[listen]]\nbind = \"*:1\"\nbacklog = 0\n[apps.main]\n",
     "t.toml:3:11: listen[0].backlog is out of range; write a whole number from 1 to 65535\n"},
    {"[[listen]]\nbind = \":80\"\n[apps.main]\n",
     "t.toml:2:8: listen[0].bind is \":80\", which has a host that is no numeric address; write "
     "\"*:8443\", \"0.0.0.0:8443\", \"[::]:8443\", \"unix:/path\" or \"fd://3\"\n"},
    {"[[listen]]\nbind = \"*:1\"\n[[listen]]\nbind = \"0.0.0.0:1\"\n[apps.main]\n",
     "t.toml:4:8: listen[1].bind is the same address as listen[0].bind; give each an address of "
     "its own\n"},
    {"[[listen]]\nbind = \"[::]:1\"\n[[listen]]\nbind = \"*:1\"\n[apps.main]\n",
     "t.toml:4:8: listen[1].bind is the same address as listen[0].bind; give each an address of "
     "its own\n"},
    {"[[listen]]\nbind = \"unix:/run/a\"\n[[listen]]\nbind = \"unix:/run/a\"\n[apps.main]\n",
     "t.toml:4:8: listen[1].bind is the same address as listen[0].bind; give each an address of "
     "its own\n"},
    {"[[listen]]\nbind = \"fd://3\"\n[[listen]]\nbind = \"fd://3\"\n[apps.main]\n",
     "t.toml:4:8: listen[1].bind is the same address as listen[0].bind; give each an address of "
     "its own\n"},
    {"[[listen]]\nbind = \"127.0.0.1:9180\"\n[admin]\nhttp = \"127.0.0.1:9180\"\n[apps.main]\n",
     "t.toml:4:8: admin.http is the same address as listen[0].bind; give each an address of its "
     "own\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\nsocket = \"/run/s\"\n[apps.b]\nsocket = "
     "\"/run/s\"\n[[route]]\napp = \"a\"\n",
     "t.toml:6:10: apps.b.socket is the same address as apps.a.socket; give each an address of its "
     "own\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\nsocket = \"/run/s\"\n[admin]\nsocket = "
     "\"/run/s\"\n",
     "t.toml:4:10: apps.a.socket is the same address as admin.socket; give each an address of its "
     "own\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\n[apps.b]\n",
     "t.toml:3:1: there are 2 apps and no [[route]]; write one for each, such as: [[route]] path = "
     "\"/\" app = \"a\"\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\n[[route]]\napp = \"b\"\n",
     "t.toml:5:7: route[0].app is \"b\", and there is no [apps.b]; add it or name another app\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.main]\n[[route]]\napp = \"mian\"\n",
     "t.toml:5:7: route[0].app is \"mian\", and there is no [apps.mian]; did you mean \"main\"?\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\n[apps.b]\n[[route]]\npath = \"/\"\n",
     "t.toml:5:1: route[0].app is missing; name one of the 2 apps\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.\"a b\"]\n",
     "t.toml:3:7: apps.a b: the name of an app has at most 64 letters, digits, '-' and '_'; choose "
     "another\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\nretry = \"always\"\n",
     "t.toml:4:9: apps.a.retry is \"always\"; write \"never\", \"unstarted\", \"safe\" or "
     "\"idempotent\"\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\nallow_uids = [\"root\"]\n",
     "t.toml:4:15: apps.a.allow_uids has an element that is no user id; write an array of user "
     "ids: [1000]\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\nallow_uids = [-1]\n",
     "t.toml:4:15: apps.a.allow_uids has an element that is no user id; write an array of user "
     "ids: [1000]\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\ngroup = \"nosuchgroup\"\n",
     "t.toml:4:9: apps.a.group is \"nosuchgroup\", and there is no such group; make it (groupadd "
     "--system nosuchgroup) or name another\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\nqueue_timeout = \"0s\"\n",
     "t.toml:4:17: apps.a.queue_timeout is out of range; write a duration from \"1ms\" to \"24h\", "
     "such as \"30s\"\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\n[[route]]\npath = \"api\"\napp = \"a\"\n",
     "t.toml:5:8: route[0].path is \"api\"; write the beginning of a path, such as \"/api/\", "
     "without ? and #\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\n[[route]]\npath = \"/a?b\"\n",
     "t.toml:5:8: route[0].path is \"/a?b\"; write the beginning of a path, such as \"/api/\", "
     "without ? and #\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\n[[route]]\nhost = \"a/b\"\n",
     "t.toml:5:8: route[0].host is \"a/b\"; write a host name without scheme and port, such as "
     "\"example.com\" or \"*.example.com\"\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\n[[route]]\npath = \"/\"\n[[route]]\npath = "
     "\"/api/\"\n",
     "t.toml:6:1: route[1] never matches, because route[0] takes all its requests and the first "
     "match wins; move it up\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\n[[route]]\nhost = \"x.y\"\npath = "
     "\"/api/\"\n[[route]]\nhost = \"x.y\"\npath = \"/api/\"\n",
     "t.toml:7:1: route[1] never matches, because route[0] takes all its requests and the first "
     "match wins; move it up\n"},
    {"[ipc]\nwindow = \"32KiB\"\n" MINIMAL,
     "t.toml:2:10: ipc.window (32768 bytes) is smaller than ipc.max_frame (65536 bytes); make it "
     "at least as large\n"},
    {"[ipc]\nmax_frame = \"32KiB\"\n" MINIMAL,
     "t.toml:2:13: limits.header_block + limits.target + 8 KiB (49152 bytes) do not fit into "
     "ipc.max_frame (32768 bytes); make the limits smaller or the frame larger\n"},
    {"[limits]\nheader_block = \"60KiB\"\n" MINIMAL,
     "t.toml:2:16: limits.header_block + limits.target + 8 KiB (77824 bytes) do not fit into "
     "ipc.max_frame (65536 bytes); make the limits smaller or the frame larger\n"},
    {"[ipc]\nping_interval = \"5s\"\n" MINIMAL,
     "t.toml:2:17: ipc.unresponsive_after must be longer than ipc.ping_interval; every worker "
     "would be unresponsive between two PINGs\n"},
    {"[ipc]\nlink_queue = \"64KiB\"\nmax_frame = \"128KiB\"\nwindow = \"128KiB\"\n" MINIMAL,
     "t.toml:2:14: ipc.link_queue (65536 bytes) is smaller than ipc.max_frame (131072 bytes); make "
     "it at least as large\n"},
    {"[log]\nlevel = \"${GATEWAYD_TEST_UNSET}\"\n" MINIMAL,
     "t.toml:2:9: log.level names the environment variable GATEWAYD_TEST_UNSET, which is not set; "
     "set it or write the value itself\n"},
    {"[log]\nlevel = \"${GATEWAYD\"\n" MINIMAL,
     "t.toml:2:9: log.level has a malformed \"${\"; write ${NAME} for an environment variable, or "
     "$${ for the text \"${\"\n"},
    {"[log]\nlevel = \"${}\"\n" MINIMAL,
     "t.toml:2:9: log.level has a malformed \"${\"; write ${NAME} for an environment variable, or "
     "$${ for the text \"${\"\n"},
    {"[log]\nlevel = \"a\\u0000b\"\n" MINIMAL,
     "t.toml:2:9: log.level has a NUL character; leave it out\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\n[[listen]]\nbind = \"*:2\"\ntls = "
     "true\nredirect_https = true\n",
     "t.toml:6:7: listen[1].tls needs a certificate; write [tls] certificates = [{ cert = "
     "\"cert.pem\", key = \"key.pem\" }]\n"
     "t.toml:7:18: listen[1].redirect_https would redirect https to itself; it is for listeners "
     "without tls\n"},
    {"route = []\n[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\n[apps.b]\n",
     "t.toml:4:1: there are 2 apps and no [[route]]; write one for each, such as: [[route]] path = "
     "\"/\" app = \"a\"\n"},
    {"[gateway]\nbody_size = 1\n" MINIMAL,
     "t.toml:2:1: gateway has no option \"body_size\"; it belongs in [limits]\n"},
    {"[gateway]\nmax_connections = 9999999\n" MINIMAL,
     "t.toml:2:19: gateway.max_connections (9999999) and 90 descriptors in reserve are more than "
     "the ..."},
    {"[[listen]]\nbind = \"*:1\"\nredirect_https = true\n[apps.main]\n",
     "t.toml:3:18: listen[0].redirect_https has nowhere to redirect to; add a [[listen]] with tls "
     "= true\n"},
    {"[[listen]]\nbind = \"127.0.0.1:1\"\n[apps.a]\npause_timeout = 1\n",
     "t.toml:4:17: apps.a.pause_timeout is the plain number 1; write a duration with its unit, "
     "such "
     "as \"1s\" or \"1ms\"\n"},
    {"[http]\nserver_names = [\"a.*.example.com\"]\n" MINIMAL,
     "t.toml:2:17: http.server_names has \"a.*.example.com\"; write host names without scheme and "
     "port, such as \"example.com\" or \"*.example.com\"\n"},
    {MINIMAL "[[route]]\npath = \"/a/../b\"\n",
     "t.toml:6:8: route[0].path is \"/a/../b\", which no path can begin with; leave out empty "
     "segments, \".\" and \"..\"\n"},
};

static void check_row(const struct row *row)
{
    struct config *config = NULL;
    struct strbuf errors;
    size_t length = strlen(row->complaint);

    strbuf_init(&errors);
    CHECK_EQ_INT(load_text(row->text, NULL, &config, &errors), ERROR_INVALID);
    CHECK(config == NULL);
    if (length > 3 && strcmp(row->complaint + length - 3, "...") == 0) {
        CHECK(errors.length > length);
        CHECK_EQ_MEM(strbuf_text(&errors), row->complaint, length - 3);
    } else {
        CHECK_EQ_STR(strbuf_text(&errors), row->complaint);
    }
    CHECK(strbuf_text(&errors)[errors.length - 1] == '\n');
    strbuf_done(&errors);
}

TEST(every_mistake_is_told_with_its_place)
{
    uint64_t live = mem_live();

    unsetenv("GATEWAYD_TEST_UNSET");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        check_row(&rows[i]);
    }
    CHECK_EQ_INT(mem_live(), live);
}

TEST(all_mistakes_are_told_at_once)
{
    struct config *config = NULL;
    struct strbuf errors;

    strbuf_init(&errors);
    CHECK_EQ_INT(
        load_text("[gateway]\nthreads = -1\ndrain_timeout = 3\n[log]\nlevel = \"x\"\n" MINIMAL
                  "qeue_max = 1\n",
                  NULL, &config, &errors),
        ERROR_INVALID);
    CHECK_EQ_STR(
        strbuf_text(&errors),
        "t.toml:2:11: gateway.threads is out of range; write a whole number from 0 to 64\n"
        "t.toml:3:17: gateway.drain_timeout is the plain number 3; write a duration with its unit, "
        "such as \"3s\" or "
        "\"3ms\"\n"
        "t.toml:5:9: log.level is \"x\"; write \"debug\", \"info\", \"warning\" or \"error\"\n"
        "t.toml:10:1: apps.main has no option \"qeue_max\"; did you mean \"queue_max\"?\n");
    strbuf_done(&errors);
}

TEST(at_most_twenty_are_told)
{
    struct config *config = NULL;
    struct strbuf text, errors;
    size_t lines = 0;

    strbuf_init(&text);
    strbuf_init(&errors);
    strbuf_append_text(&text, "[gateway]\n");
    for (int i = 0; i < 50; i++) {
        strbuf_printf(&text, "wrong%d = 1\n", i);
    }
    strbuf_append_text(&text, MINIMAL);
    CHECK_EQ_INT(load_text(strbuf_text(&text), NULL, &config, &errors), ERROR_INVALID);
    for (size_t i = 0; i < errors.length; i++) {
        lines += errors.data[i] == '\n';
    }
    CHECK_EQ_INT(lines, CONFIG_ERRORS_MAX + 1);
    CHECK(strstr(strbuf_text(&errors), "t.toml: 30 more errors\n") != NULL);
    strbuf_done(&text);
    strbuf_done(&errors);
}

TEST(mistakes_in_overrides_name_the_override)
{
    static const struct row overrides[] = {
        {"log.level=loud", "-o log.level=loud: log.level is \"loud\"; write \"debug\", \"info\", "
                           "\"warning\" or \"error\"\n"},
        {"gateway.threads=99", "-o gateway.threads=99: gateway.threads is out of range; write a "
                               "whole number from 0 to 64\n"},
        {"gateway.thread=1",
         "-o gateway.thread=1: gateway has no option \"thread\"; did you mean \"threads\"?\n"},
        {"gatewy.threads=1",
         "-o gatewy.threads=1: there is no section \"gatewy\"; did you mean \"gateway\"?\n"},
        {"log.level=\xf8x", "-o log.level=\xf8x: log.level is not UTF-8; write it in UTF-8\n"},
        {"log.level=\xed\xa0\x80",
         "-o log.level=\xed\xa0\x80: log.level is not UTF-8; write it in UTF-8\n"},
        {"log.level=a\nb", "-o log.level=a\\x0ab: log.level is \"a\\x0ab\"; write \"debug\", "
                           "\"info\", \"warning\" or \"error\"\n"},
        {"gateway", "-o gateway: it has no value; write section.key=value\n"},
        {"=1", "-o =1: it has no value; write section.key=value\n"},
        {"gateway..threads=1", "-o gateway..threads=1: the name is malformed; write "
                               "section.key=value or section[0].key=value\n"},
        {"listen[x].bind=*:1", "-o listen[x].bind=*:1: the name is malformed; write "
                               "section.key=value or section[0].key=value\n"},
        {"listen[2].bind=*:1", "-o listen[2].bind=*:1: there is no such element; ..."},
        {"listen.bind=*:1", "-o listen.bind=*:1: the key is not in a table; ..."},
        {"apps.main.socket.x=1", "-o apps.main.socket.x=1: the key is not in a table; ..."},
        {"listen[0].bind=nowhere",
         "-o listen[0].bind=nowhere: listen[0].bind is \"nowhere\", which has no port; ..."},
    };
    struct strbuf errors;

    for (size_t i = 0; i < sizeof(overrides) / sizeof(overrides[0]); i++) {
        struct config *config = NULL;
        const char *const list[] = {overrides[i].text, NULL};
        size_t length = strlen(overrides[i].complaint);
        strbuf_init(&errors);
        CHECK_EQ_INT(load_text(MINIMAL "socket = \"/run/x\"\n", list, &config, &errors),
                     ERROR_INVALID);
        if (strcmp(overrides[i].complaint + length - 3, "...") == 0) {
            CHECK(errors.length > length);
            CHECK_EQ_MEM(strbuf_text(&errors), overrides[i].complaint, length - 3);
        } else {
            CHECK_EQ_STR(strbuf_text(&errors), overrides[i].complaint);
        }
        strbuf_done(&errors);
    }
}

TEST(a_file_that_cannot_be_read)
{
    struct config *config = NULL;
    struct strbuf errors;

    strbuf_init(&errors);
    CHECK_EQ_INT(config_load("/nonexistent/gateway.toml", NULL, 0, &config, &errors),
                 ERROR_INVALID);
    CHECK_EQ_STR(strbuf_text(&errors),
                 "/nonexistent/gateway.toml: cannot read it: No such file or directory; name the "
                 "configuration with -c FILE\n");
    strbuf_clear(&errors);
    CHECK_EQ_INT(config_load("/", NULL, 0, &config, &errors), ERROR_INVALID);
    CHECK_EQ_STR(strbuf_text(&errors),
                 "/: cannot read it: Is a directory; name the configuration with -c FILE\n");
    strbuf_done(&errors);
}

CHECK_MAIN
