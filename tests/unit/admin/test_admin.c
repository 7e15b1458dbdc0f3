/* SPDX-License-Identifier: MIT */
/*
 * The admin side over real sockets and two loops: every command, what is refused, the bounds, clients that leave, and loops that do
 * not answer.
 */
#include "check.h"
#include "fixture.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/metrics.h"

static struct fixture fixture;
static char answer[1 << 18];

static void start(void)
{
    fixture_start(&fixture, 8, 20000);
}

static const char *ask(const char *command)
{
    fixture_ask(&fixture, false, command, answer, sizeof(answer));
    return answer;
}

static bool has(const char *text)
{
    return strstr(answer, text) != NULL;
}

TEST(commands_answer_as_text)
{
    start();
    CHECK_EQ_STR(ask("version\n"), "ok\ngatewayd " GATEWAYD_VERSION "\n");
    ask("status\n");
    CHECK(strncmp(answer, "ok\ngatewayd " GATEWAYD_VERSION ", process ", 21) == 0);
    CHECK(has(", 2 loops, log level info\nready\nconnections 0 "));
    CHECK(has("\nAPP   STATE       GENERATION  READY  WORKERS"));
    CHECK(has("\nmain  te\"xt [31m  te\"xt [31m   1003     1004"));
    ask("workers\n");
    CHECK(strncmp(answer, "ok\nAPP    PID  ID          CLAIMED  STATE", 41) == 0);
    CHECK(has("te\"xt [31m")); /* no escape sequence reaches a terminal */
    ask("connections\r\n");
    CHECK(has("ok\n"));
    CHECK(has("\n1000  1001") && has("\n2000  2001")); /* both loops */
    ask("requests\n");
    CHECK(has("TARGET\n"));
    ask("metrics admin_req\n");
    CHECK(strncmp(answer, "ok\nadmin_requests ", 18) == 0);
    CHECK(!has("conns"));
    ask("metrics\n");
    CHECK(has("\nconns_accepted "));
    ask("help\n");
    CHECK(has("\nloglevel    [LEVEL]            show"));
    fixture_stop(&fixture);
}

TEST(commands_answer_as_json)
{
    start();
    CHECK_EQ_STR(ask("version --json\n"), "ok\n{\"version\":\"" GATEWAYD_VERSION "\"}\n");
    CHECK_EQ_STR(
        ask("apps --json\n"),
        "ok\n[{\"app\":\"main\",\"state\":\"te\\\"xt\\u001b[31m\",\"generation\":\"te\\\"xt"
        "\\u001b[31m\",\"ready\":1003,\"workers\":1004,\"in_flight\":1005,\"waiting\":1006,"
        "\"queue_max\":1007,\"socket\":\"te\\\"xt\\u001b[31m\","
        "\"last_error\":\"te\\\"xt\\u001b[31m\"}]\n");
    ask("{\"command\":\"requests\"}\n");
    CHECK(has("ok\n[{\"conn\":1000,\"loop\":1001,\"app\":\"te\\\"xt"));
    CHECK(has("\"worker\":null,"));
    CHECK(has("},{\"conn\":2000,"));
    CHECK(has("\"age\":0.000001,")); /* 1005 ns */
    ask("--json status\n");
    CHECK(has("ok\n{\"version\":\"") && has(",\"ready\":true,\"not_ready_because\":\"\",") &&
          has("\"apps\":[{\"app\":\"main\""));
    CHECK(has(",\"metrics\":{\"loop_turns\":"));
    CHECK_EQ_STR(ask("{ \"command\" : \"loglevel\" , \"json\" : false }\n"), "ok\ninfo\n");
    CHECK_EQ_STR(ask("{\"command\":\"metrics\",\"argument\":\"no_such_metric\"}\n"), "ok\n{}\n");
    ask("help --json\n");
    CHECK(has("{\"status\":\"what"));
    fixture_stop(&fixture);
}

TEST(the_log_level_changes)
{
    start();
    CHECK_EQ_STR(ask("loglevel\n"), "ok\ninfo\n");
    CHECK_EQ_STR(ask("loglevel error\n"), "ok\nerror\n");
    CHECK_EQ_INT(log_get_level(), LOG_ERROR);
    CHECK_EQ_STR(ask("loglevel --json\n"), "ok\n{\"level\":\"error\"}\n");
    CHECK_EQ_STR(ask("loglevel loud\n"),
                 "error: there is no log level \"loud\"; write debug, info, warning or error\n");
    CHECK_EQ_STR(ask("loglevel info\n"), "ok\ninfo\n");
    fixture_stop(&fixture);
}

TEST(what_is_no_command_is_refused)
{
    static const char *const rows[][2] = {
        {"frobnicate\n",
         "error: there is no command \"frobnicate\"; \"help\" lists the commands\n"},
        {"\n", "error: there is no command \"\"; \"help\" lists the commands\n"},
        {"\x1b[31m\n", "error: there is no command \" [31m\"; \"help\" lists the commands\n"},
        {"status now\n", "error: \"status\" takes no argument\n"},
        {"metrics a b\n", "error: write: metrics [PREFIX]\n"},
        {"deploy main\n", "error: write: deploy APP GENERATION\n"},
        {"drain 1 2 3 4 5\n", "error: \"5\" is too much; write COMMAND [WORD...] [--json]\n"},
        {"{\n", "error: malformed; "},
        {"{}\n", "error: malformed; "},
        {"{\"command\":\"status\"\n", "error: malformed; "},
        {"{\"command\":\"status\"} x\n", "error: malformed; "},
        {"{\"command\":\"sta\\u0074us\"}\n", "error: malformed; "},
        {"{\"command\":1}\n", "error: malformed; "},
        {"{\"command\":\"status\",\"colour\":\"red\"}\n", "error: malformed; "},
        {"{\"command\":\"status\",\"json\":maybe}\n", "error: malformed; "},
        {"{\"command\":\"status\",}\n", "error: malformed; "},
    };

    start();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ask(rows[i][0]);
        if (rows[i][1][strlen(rows[i][1]) - 1] == '\n') {
            CHECK_EQ_STR(answer, rows[i][1]);
        } else {
            CHECK(strncmp(answer, rows[i][1], strlen(rows[i][1])) == 0);
        }
    }
    fixture_stop(&fixture);
}

TEST(orders_are_handed_on_and_their_verdicts_told)
{
    start();
    fixture.verdict = ADMIN_DONE;
    CHECK_EQ_STR(ask("deploy main v2\n"), "ok\ndeploy <main> <v2>\n");
    CHECK_EQ_STR(ask("drain\n"), "ok\ndrain\n");
    CHECK_EQ_STR(ask("{\"command\":\"rollback\",\"arguments\":[\"main\"]}\n"),
                 "ok\n{\"outcome\":\"done\",\"text\":\"rollback <main>\"}\n");
    CHECK_EQ_STR(ask("{\"command\":\"deploy\",\"arguments\":[\"main\",\"\"],\"json\":false}\n"),
                 "ok\ndeploy <main> <>\n");
    fixture.verdict = ADMIN_PENDING;
    CHECK_EQ_STR(ask("outcome main v2\n"), "pending\noutcome <main> <v2>\n");
    fixture.verdict = ADMIN_FAILED;
    CHECK_EQ_STR(ask("outcome main v2 --json\n"),
                 "failed\n{\"outcome\":\"failed\",\"text\":\"outcome <main> <v2>\"}\n");
    fixture.verdict = ADMIN_REFUSED;
    CHECK_EQ_STR(ask("pause main\n"), "error: pause <main>\n");
    fixture_stop(&fixture);
}

TEST(a_command_may_come_in_pieces)
{
    start();
    int fd = fixture_connect(&fixture, false);
    for (const char *c = "version\n"; *c != '\0'; c++) {
        CHECK_EQ_INT(send(fd, c, 1, MSG_NOSIGNAL), 1);
    }
    fixture_read(fd, answer, sizeof(answer));
    CHECK_EQ_STR(answer, "ok\ngatewayd " GATEWAYD_VERSION "\n");
    fixture_stop(&fixture);
}

TEST(a_line_without_end_is_cut_off)
{
    static char line[10000];

    start();
    memset(line, 'a', sizeof(line) - 1);
    CHECK_EQ_STR(ask(line), "");
    fixture_stop(&fixture);
}

TEST(more_connections_than_allowed_are_refused)
{
    int fds[8];
    int64_t refused = metrics_sum(METRIC_admin_refused);

    start();
    for (size_t i = 0; i < 8; i++) {
        fds[i] = fixture_connect(&fixture, false);
    }
    CHECK_EQ_STR(ask("version\n"), "error: admin.max_connections are open; try again\n");
    fixture_ask(&fixture, true, "GET /livez HTTP/1.1\r\n\r\n", answer, sizeof(answer));
    CHECK(strncmp(answer, "HTTP/1.1 503 ", 13) == 0);
    CHECK_EQ_INT(metrics_sum(METRIC_admin_refused), refused + 2);
    for (size_t i = 0; i < 8; i++) {
        close(fds[i]);
    }
    fixture_stop(&fixture);
}

TEST(a_silent_connection_is_closed)
{
    int64_t timeouts = metrics_sum(METRIC_admin_timeouts);

    fixture_start(&fixture, 8, 50);
    int fd = fixture_connect(&fixture, false);
    CHECK_EQ_INT(send(fd, "stat", 4, MSG_NOSIGNAL), 4);
    CHECK_EQ_INT(fixture_read(fd, answer, sizeof(answer)), 0);
    CHECK_EQ_INT(metrics_sum(METRIC_admin_timeouts), timeouts + 1);
    fixture_stop(&fixture);
}

/* A loop that is stuck takes nothing from commands that do not need it, and the one that does ends at the timeout. */
TEST(a_stuck_loop_does_not_stick_the_others)
{
    fixture_start(&fixture, 8, 300);
    atomic_store(&fixture.hold, true);
    int fd = fixture_connect(&fixture, false);
    CHECK_EQ_INT(send(fd, "connections\n", 12, MSG_NOSIGNAL), 12);
    sem_wait(&fixture.held); /* loop 1 is in rows() now */
    CHECK_EQ_STR(ask("version\n"), "ok\ngatewayd " GATEWAYD_VERSION "\n");
    ask("apps\n");
    CHECK(strncmp(answer, "ok\nAPP", 6) == 0);
    CHECK_EQ_INT(fixture_read(fd, answer, sizeof(answer)), 0);
    atomic_store(&fixture.hold, false);
    sem_post(&fixture.release);
    ask("connections\n");
    CHECK(has("\n2000  2001"));
    fixture_stop(&fixture);
}

/* The rows come home to a connection that has gone, or to an admin side that has ended. */
TEST(rows_that_nobody_waits_for)
{
    fixture_start(&fixture, 8, 100);
    atomic_store(&fixture.hold, true);
    int fd = fixture_connect(&fixture, false);
    CHECK_EQ_INT(send(fd, "requests\n", 9, MSG_NOSIGNAL), 9);
    sem_wait(&fixture.held);
    fixture_read(fd, answer, sizeof(answer)); /* closed at the timeout */
    sem_post(&fixture.release);
    atomic_store(&fixture.hold, false);
    fixture_stop(&fixture);
}

TEST(the_registry_is_asked_of_loop_0_only)
{
    start();
    ask("apps\n");
    ask("workers\n");
    ask("status\n");
    CHECK_EQ_INT(atomic_load(&fixture.asked), 0);
    ask("connections\n");
    CHECK_EQ_INT(atomic_load(&fixture.asked), 1u << ADMIN_CONNECTIONS);
    fixture_stop(&fixture);
}

/* --- HTTP ------------------------------------------------------------------------------------------------------------- */

static const char *get(const char *request)
{
    fixture_ask(&fixture, true, request, answer, sizeof(answer));
    const char *body = strstr(answer, "\r\n\r\n");
    return body != NULL ? body + 4 : "";
}

TEST(health_checks)
{
    start();
    CHECK_EQ_STR(get("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"), "live\n");
    CHECK(strncmp(
              answer,
              "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n",
              77) == 0);
    CHECK(has("\r\nConnection: close\r\n"));
    CHECK_EQ_STR(get("GET /readyz HTTP/1.0\n\n"), "ready\n");
    atomic_store(&fixture.ready, false);
    CHECK_EQ_STR(get("GET /readyz?verbose HTTP/1.1\r\n\r\n"), "app main has no ready worker\n");
    CHECK(strncmp(answer, "HTTP/1.1 503 Service Unavailable\r\n", 34) == 0);
    CHECK_EQ_STR(get("GET /livez HTTP/1.1\r\n\r\n"), "live\n");
    ask("status\n");
    CHECK(has("\nNOT READY: app main has no ready worker\nconnections "));
    fixture_stop(&fixture);
}

TEST(pages_and_methods)
{
    start();
    CHECK(strncmp(get("GET /status HTTP/1.1\r\n\r\n"), "{\"version\":", 11) == 0);
    CHECK(has("\r\nContent-Type: application/json\r\n"));
    CHECK_EQ_STR(get("HEAD /livez HTTP/1.1\r\n\r\n"), "");
    CHECK(strncmp(answer, "HTTP/1.1 200 ", 13) == 0 && has("\r\nContent-Length: 5\r\n"));
    get("POST /livez HTTP/1.1\r\n\r\n");
    CHECK(strncmp(answer, "HTTP/1.1 405 ", 13) == 0 && has("\r\nAllow: GET, HEAD\r\n"));
    get("GET / HTTP/1.1\r\n\r\n");
    CHECK(strncmp(answer, "HTTP/1.1 404 ", 13) == 0);
    get("GET /livez\r\n\r\n");
    CHECK(strncmp(answer, "HTTP/1.1 400 ", 13) == 0);
    get("\r\n\r\n");
    CHECK(strncmp(answer, "HTTP/1.1 400 ", 13) == 0);
    fixture_stop(&fixture);
}

/* Each metric is described once, before its samples, and each line has the form of the text format. */
TEST(prometheus_text)
{
    size_t samples = 0;

    start();
    const char *line = get("GET /metrics HTTP/1.1\r\n\r\n");
    CHECK(has("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    CHECK(strstr(line, "gatewayd_build_info{version=\"" GATEWAYD_VERSION "\"} 1\n") != NULL);
    CHECK(strstr(line, "# TYPE gatewayd_conns_accepted_total counter\n") != NULL);
    CHECK(strstr(line, "# TYPE gatewayd_conns gauge\ngatewayd_conns 0\n") != NULL);
    CHECK(strstr(line, "gatewayd_app_ready{app=\"main\"} 1003\n") != NULL);
    CHECK(strstr(line, "gatewayd_worker_lag_seconds{app=\"main\",pid=\"1001\"} 0.000001014\n") !=
          NULL);
    while (*line != '\0') {
        const char *end = strchr(line, '\n');
        CHECK(end != NULL);
        if (*line != '#') {
            const char *space = end;
            while (space > line && space[-1] != ' ') {
                space--;
            }
            CHECK(strncmp(line, "gatewayd_", 9) == 0);
            CHECK(space > line && strspn(space, "-0123456789.") == (size_t)(end - space));
            samples++;
        }
        line = end + 1;
    }
    CHECK(samples > METRIC_COUNT);
    fixture_stop(&fixture);
}

CHECK_MAIN
