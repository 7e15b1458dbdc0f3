/* SPDX-License-Identifier: MIT */
/*
 * What a right configuration becomes: defaults, every type, overrides, paths, printing that loads to the same again, and memory
 * that fails at every single allocation.
 */
#include "check.h"
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/metrics.h"
#include "base/run_directory.h"
#include "config/option.h"
#include "config/resources.h"

#define S(n) (UINT64_C(1000000000) * (n))

static bool same(struct slice got, const char *expected)
{
    return slice_equal(got, slice_from(expected));
}

TEST(defaults_of_the_process_and_of_requests)
{
    struct config *config = load_good(MINIMAL, NULL);

    CHECK_EQ_INT(config->gateway.threads, 0);
    CHECK_EQ_INT(config->gateway.max_connections, 0);
    CHECK_EQ_INT(config->gateway.max_connections_per_ip, 0);
    CHECK_EQ_INT(config->gateway.max_handshakes, 512);
    CHECK_EQ_INT(config->gateway.handshake_timeout, S(10));
    CHECK_EQ_INT(config->gateway.drain_timeout, S(30));
    CHECK_EQ_INT(config->gateway.drain_idle, S(5));
    CHECK_EQ_INT(config->http.target_max, 8192);
    CHECK_EQ_INT(config->http.header_block_max, 32768);
    CHECK_EQ_INT(config->http.header_fields_max, 100);
    CHECK_EQ_INT(config->http.cookie_crumbs_max, 100);
    CHECK_EQ_INT(config->http.trailer_block_max, 8192);
    CHECK_EQ_INT(config->http.trailer_fields_max, 32);
    CHECK_EQ_INT(config->http.header_timeout, S(10));
    CHECK_EQ_INT(config->http.body_size_max, UINT64_C(1) << 30);
    CHECK_EQ_INT(config->http.body_idle, S(30));
    CHECK_EQ_INT(config->http.body_min_rate, 500);
    CHECK_EQ_INT(config->http.keep_alive, S(60));
    CHECK_EQ_INT(config->http.keep_alive_requests, 0);
    CHECK_EQ_INT(config->http.first_byte, S(60));
    CHECK_EQ_INT(config->http.request_deadline, 0);
    CHECK_EQ_INT(config->http.response_idle, 0);
    CHECK_EQ_INT(config->http.write_stall, S(60));
    CHECK_EQ_INT(config->http.early_response_drain, 65536);
    CHECK_EQ_INT(config->http.early_response_drain_time, S(1));
    CHECK_EQ_INT(config->http.lingering_close, S(5));
    CHECK_EQ_INT(config->http.window, 65536);
    config_unref(config);
}

TEST(defaults_of_workers_and_apps)
{
    struct config *config = load_good(MINIMAL, NULL);
    char directory[256], expected[300];

    CHECK_EQ_INT(config->h1.leading_crlf_max, 2);
    CHECK_EQ_INT(config->h1.chunk_line_max, 4096);
    CHECK_EQ_INT(config->h1.chunk_overhead_max, 102400);
    CHECK_EQ_INT(config->h1.read_buffer, 16384);
    CHECK_EQ_INT(config->ipc.max_frame, 65536);
    CHECK_EQ_INT(config->ipc.max_links, 4096);
    CHECK_EQ_INT(config->ipc.hello_timeout, S(5));
    CHECK_EQ_INT(config->ipc.start_timeout, S(60));
    CHECK_EQ_INT(config->ipc.ping_interval, S(1));
    CHECK_EQ_INT(config->ipc.unresponsive_after, S(5));
    CHECK_EQ_INT(config->ipc.link_queue, 262144);
    CHECK_EQ_INT(config->loop.turn_callbacks, 64);
    CHECK_EQ_INT(config->loop.turn_time_us, 500);
    CHECK_EQ_INT(config->app_count, 1);
    CHECK(same(config->apps[0].name, "main"));
    CHECK_EQ_INT(config->apps[0].queue_max, 1024);
    CHECK_EQ_INT(config->apps[0].queue_timeout, S(5));
    CHECK_EQ_INT(config->apps[0].retry, APP_RETRY_SAFE);
    CHECK_EQ_INT(config->apps[0].socket_mode, 0660);
    run_directory(directory, sizeof(directory));
    snprintf(expected, sizeof(expected), "%s/main.sock", directory);
    CHECK(same(config->apps[0].socket, expected));
    CHECK_EQ_INT(config->route_count, 1);
    CHECK(same(config->routes[0].path, "/"));
    CHECK_EQ_INT(config->routes[0].app, 0);
    CHECK_EQ_INT(config->trusted_count, 3);
    CHECK(config->proxy_headers.use_for && config->proxy_headers.use_proto);
    CHECK(!config->proxy_headers.use_host && !config->proxy_headers.use_prefix);
    CHECK_EQ_INT(config->tls.min_version, 0x0303);
    CHECK_EQ_INT(config->tls.tickets, 1);
    config_unref(config);
}

static const char everything[] =
    "[gateway]\nthreads = 3\nmax_connections = 100\nmax_connections_per_ip = 10\nbuffer_memory = "
    "\"64MiB\"\n"
    "drain_idle = \"0s\"\npid_file = \"run/pid\"\n"
    "[admin]\nsocket = \"\"\nhttp = \"[::1]:9180\"\nmode = \"0600\"\n"
    "[log]\nlevel = \"warning\"\naccess = \"\"\naccess_format = '%(h)s \"%(r)s\" %(s)s $${x}'\n"
    "[[listen]]\nbind = \"*:8443\"\ntls = false\nbacklog = 7\nproxy_protocol = \"v2\"\n"
    "[[listen]]\nbind = \"unix:web.sock\"\nmode = \"600\"\n"
    "[[listen]]\nbind = \"fd://3\"\n"
    "[proxy_headers]\ntrusted = [\"10.0.0.0/8\", \"*\"]\nuse = [\"prefix\", \"host\"]\n"
    "[http]\nserver_names = [\"Example.COM\", \"example.org\"]\nserver_header = false\n"
    "headers = { X-Frame-Options = \"DENY\", \"x-quote\" = \"a \\\"b\\\" \\\\ c\" }\n"
    "[limits]\nfirst_byte = \"off\"\nkeep_alive_requests = 1000\nbody_size = 0\nkeep_alive = "
    "\"1500ms\"\n"
    "[loop]\nturn_time = \"1ms\"\n"
    "[apps.zebra]\nallow_uids = [0, 1000]\nretry = \"never\"\nqueue_max = 0\n"
    "[apps.ape]\nsocket = \"ape.sock\"\n"
    "[[route]]\nhost = \"*.Example.com\"\npath = \"/api/\"\napp = \"ape\"\nstrip_prefix = true\n"
    "[[route]]\napp = \"zebra\"\n";

TEST(every_type_reaches_its_field)
{
    struct config *config = load_good(everything, NULL);

    CHECK_EQ_INT(config_threads(config), 3);
    CHECK_EQ_INT(config_max_connections(config), 100);
    CHECK_EQ_INT(config_buffer_memory(config), 64 << 20);
    CHECK(same(config->gateway.pid_file, "/nonexistent/run/pid"));
    CHECK_EQ_INT(config->admin.socket.length, 0);
    CHECK(same(config->admin.http, "[::1]:9180"));
    CHECK_EQ_INT(config->log.level, LOG_WARNING);
    CHECK_EQ_INT(config->log.access.length, 0);
    CHECK(same(config->access_format, "%(h)s \"%(r)s\" %(s)s ${x}"));
    CHECK_EQ_INT(config->listener_count, 3);
    CHECK_EQ_INT(config->listeners[0].backlog, 7);
    CHECK_EQ_INT(config->listeners[0].proxy_protocol, PROXY_PROTOCOL_V2);
    CHECK(config->listeners[0].h1 && config->listeners[0].h2 && !config->listeners[0].h3);
    CHECK(same(config->listeners[1].bind, "unix:/nonexistent/web.sock"));
    CHECK_EQ_INT(config->listeners[1].unix_mode, 0600);
    CHECK_EQ_INT(config->trusted_count, 2);
    CHECK(config->proxy_headers.use_host && config->proxy_headers.use_prefix);
    CHECK(!config->proxy_headers.use_for);
    CHECK_EQ_INT(config->http.server_name_count, 2);
    CHECK(same(config->http.server_names[0], "example.com"));
    CHECK(!config->http.server_header && config->http.date_header);
    CHECK_EQ_INT(config->http.extra_field_count, 2);
    CHECK(same(config->http.extra_fields[0].name, "x-frame-options"));
    CHECK(same(config->http.extra_fields[1].value, "a \"b\" \\ c"));
    CHECK_EQ_INT(config->http.first_byte, 0);
    CHECK_EQ_INT(config->http.keep_alive, UINT64_C(1500000000));
    CHECK_EQ_INT(config->http.body_size_max, 0);
    CHECK_EQ_INT(config->loop.turn_time_us, 1000);
    CHECK_EQ_INT(config->app_count, 2);
    CHECK(same(config->apps[0].name, "zebra")); /* the order of the file, not of the alphabet */
    CHECK_EQ_INT(config->apps[0].allow_uid_count, 2);
    CHECK_EQ_INT(config->apps[0].allow_uids[1], 1000);
    CHECK_EQ_INT(config->apps[0].retry, APP_RETRY_NEVER);
    CHECK(same(config->apps[1].socket, "/nonexistent/ape.sock"));
    CHECK_EQ_INT(config->route_count, 2);
    CHECK(same(config->routes[0].host, "*.example.com"));
    CHECK_EQ_INT(config->routes[0].app, 1);
    CHECK(config->routes[0].strip_prefix);
    CHECK_EQ_INT(config->routes[1].app, 0);
    config_unref(config);
}

TEST(overrides_win_over_the_file)
{
    static const char *const overrides[] = {"gateway.threads=7",
                                            "log.level=debug", /* needs no quotes */
                                            "log.access_format=\"json\"",
                                            "listen[0].bind=127.0.0.1:9999",
                                            "listen[1].bind=127.0.0.1:9998",
                                            "apps.main.queue_max = 5",
                                            "http.headers={ x-a = \"b\" }",
                                            "gateway.threads=8",
                                            NULL};
    struct config *config = load_good("[gateway]\nthreads = 3\n" MINIMAL, overrides);

    CHECK_EQ_INT(config->gateway.threads, 8);
    CHECK_EQ_INT(config->log.level, LOG_DEBUG);
    CHECK(same(config->access_format, "json"));
    CHECK_EQ_INT(config->listener_count, 2);
    CHECK(same(config->listeners[0].bind, "127.0.0.1:9999"));
    CHECK(same(config->listeners[1].bind, "127.0.0.1:9998"));
    CHECK_EQ_INT(config->apps[0].queue_max, 5);
    CHECK_EQ_INT(config->http.extra_field_count, 1);
    config_unref(config);
}

TEST(overrides_alone_are_a_configuration)
{
    static const char *const overrides[] = {"listen[0].bind=127.0.0.1:0",
                                            "apps.main.socket=/run/x"};
    struct config *config = NULL;
    struct strbuf errors;

    strbuf_init(&errors);
    CHECK_EQ_INT(config_load(NULL, overrides, 2, &config, &errors), ERROR_NONE);
    CHECK(same(config->apps[0].socket, "/run/x"));
    CHECK_EQ_INT(config->path.length, 0);
    config_unref(config);
    strbuf_done(&errors);
}

TEST(environment_variables_expand)
{
    setenv("GATEWAYD_TEST_NAME", "two words", 1);
    struct config *config =
        load_good("[http]\nserver_name = \"x ${GATEWAYD_TEST_NAME} $HOME $${HOME} $\"\n" MINIMAL
                  "socket = \"${RUN_DIRECTORY}/a.sock\"\n",
                  NULL);
    char directory[256], expected[300];

    CHECK(same(config->http.server_name, "x two words $HOME ${HOME} $"));
    run_directory(directory, sizeof(directory));
    snprintf(expected, sizeof(expected), "%s/a.sock", directory);
    CHECK(same(config->apps[0].socket, expected));
    config_unref(config);
    unsetenv("GATEWAYD_TEST_NAME");
}

TEST(places_name_what_was_written)
{
    static const char *const overrides[] = {"admin.http=127.0.0.1:9180", NULL};
    struct config *config =
        load_good("[gateway]\nthreads = 1\n" MINIMAL "queue_max = 3\n", overrides);
    char place[200];

    config_place(config, "gateway.threads", place, sizeof(place));
    CHECK_EQ_STR(place, "t.toml:2:11");
    config_place(config, "listen[0].bind", place, sizeof(place));
    CHECK_EQ_STR(place, "t.toml:5:8");
    config_place(config, "apps.main.queue_max", place, sizeof(place));
    CHECK_EQ_STR(place, "t.toml:7:13");
    config_place(config, "admin.http", place, sizeof(place));
    CHECK_EQ_STR(place, "-o admin.http=127.0.0.1:9180");
    config_place(config, "listen[0].tls", place, sizeof(place)); /* left out: its table */
    CHECK_EQ_STR(place, "t.toml:4:1");
    config_place(config, "tls.certificates[0]", place, sizeof(place));
    CHECK_EQ_STR(place, "t.toml:1:1");
    config_unref(config);
}

/* A file with everything, its relative paths and certificates beside it. */
TEST(files_are_found_beside_the_configuration)
{
    char directory[] = "/tmp/gatewayd-config-XXXXXX", path[128], expected[160];
    struct config *config = NULL;
    struct strbuf errors;
    const char *const names[] = {"cert.pem", "password", "gateway.toml"};
    const char *const contents[] = {
        "pem\n", "secret\nmore\n",
        "[tls]\ncertificates = [{ cert = \"cert.pem\", key = \"cert.pem\", password_file = "
        "\"password\" }]\n"
        "verify = \"required\"\nclient_ca = \"cert.pem\"\nmin_version = \"1.3\"\n"
        "[log]\nerror = \"error.log\"\n"
        "[[listen]]\nbind = \"*:8443\"\ntls = true\n[apps.main]\n"};

    CHECK(mkdtemp(directory) != NULL);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
        FILE *file = fopen(path, "w");
        CHECK(file != NULL);
        fputs(contents[i], file);
        fclose(file);
    }
    strbuf_init(&errors);
    enum error error = config_load(path, NULL, 0, &config, &errors);
    CHECK_EQ_STR(strbuf_text(&errors), "");
    CHECK_EQ_INT(error, ERROR_NONE);
    CHECK(same(config->path, path));
    snprintf(expected, sizeof(expected), "%s/cert.pem", directory);
    CHECK_EQ_INT(config->tls.certificate_count, 1);
    CHECK(same(config->tls.certificates[0].cert, expected));
    CHECK(same(config->tls.certificates[0].key_password, "secret"));
    CHECK(same(config->tls.client_ca, expected));
    CHECK_EQ_INT(config->tls.verify, TLS_VERIFY_REQUIRED);
    CHECK_EQ_INT(config->tls.min_version, 0x0304);
    snprintf(expected, sizeof(expected), "%s/error.log", directory);
    CHECK(same(config->log.error, expected));
    config_unref(config);
    strbuf_done(&errors);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
        unlink(path);
    }
    rmdir(directory);
}

static void print_and_load_again(const char *text)
{
    for (int annotated = 0; annotated < 2; annotated++) {
        struct strbuf first, second;
        struct config *config = load_good(text, NULL);
        strbuf_init(&first);
        strbuf_init(&second);
        config_print(config, annotated == 1, &first);
        CHECK(!first.failed);
        struct config *again = load_good(strbuf_text(&first), NULL);
        config_print(again, annotated == 1, &second);
        CHECK_EQ_STR(strbuf_text(&second), strbuf_text(&first));
        config_unref(config);
        config_unref(again);
        strbuf_done(&first);
        strbuf_done(&second);
    }
}

TEST(what_is_printed_loads_to_the_same)
{
    print_and_load_again(MINIMAL);
    print_and_load_again(everything);
}

TEST(references_are_counted)
{
    uint64_t live = mem_live();
    struct config *config = load_good(MINIMAL, NULL);

    CHECK(config_ref(config) == config);
    config_unref(config);
    CHECK(same(config->apps[0].name, "main"));
    config_unref(config);
    config_unref(NULL);
    CHECK_EQ_INT(mem_live(), live);
}

/* Every allocation fails once: the load says so, nothing is half done, nothing leaks. */
TEST(memory_that_runs_out)
{
    static const char *const overrides[] = {"gateway.threads=7", "listen[2].bind=127.0.0.1:1",
                                            NULL};
    uint64_t live = mem_live();
    bool done = false;

    for (uint64_t n = 1; !done; n++) {
        struct config *config = NULL;
        struct strbuf errors;
        CHECK(n < 5000);
        strbuf_init(&errors);
        mem_fail_nth(n, 0);
        enum error error =
            load_text("[log]\naccess = \"\"\n[http]\nheaders = { a = \"b\" }\n[[listen]]\nbind = "
                      "\"unix:x\"\n" MINIMAL "allow_uids = [1]\n[[route]]\nhost = \"a\"\n",
                      overrides, &config, &errors);
        mem_fail_nth(0, 0);
        if (error == ERROR_NONE) {
            done = true;
        } else {
            CHECK_EQ_INT(error, ERROR_NO_MEMORY);
            CHECK(config == NULL);
        }
        config_unref(config);
        strbuf_done(&errors);
        CHECK_EQ_INT(mem_live(), live);
    }
}

TEST(the_machine_is_asked)
{
    struct config *config = load_good(MINIMAL, NULL);

    CHECK(resources_cpus() >= 1);
    CHECK(resources_memory() > (1 << 20));
    CHECK(config_threads(config) >= 1 && config_threads(config) <= 4);
    CHECK_EQ_INT(config_buffer_memory(config), resources_memory() / 4);
    CHECK(config_max_connections(config) >= 1);
    CHECK(config_max_connections(config) <= resources_descriptors());
    CHECK_EQ_INT(resources_raise_descriptors(), ERROR_NONE);
    config_unref(config);
}

static bool is_metric(const char *name)
{
    for (int i = 0; i < METRIC_COUNT; i++) {
        if (strcmp(name, metrics_name((enum metric)i)) == 0) {
            return true;
        }
    }
    printf("# there is no metric %s\n", name);
    return false;
}

TEST(every_row_of_the_schema_is_complete)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option *option = &option_table[i];
        CHECK(strlen(option->doc) > 10);
        CHECK(option->doc[strlen(option->doc) - 1] == '.');
        CHECK(option->counter[0] == '\0' || option->breach[0] != '\0');
        CHECK(option->least <= option->most);
        CHECK(option->counter[0] == '\0' || is_metric(option->counter));
    }
}

CHECK_MAIN
