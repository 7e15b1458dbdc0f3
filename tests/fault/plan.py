# SPDX-License-Identifier: MIT
"""The fault plan: for each row the tests that show it. A test that is named here has to exist; files are patterns.

Much of it needs no long run, and is a scenario: `make faults` runs those again, beside the tests of this folder.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    fault: str
    shows: str
    tests: tuple[str, ...]
    later: str = ""  # what it waits for, when nothing is there yet


def scenario(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"scenario/test_{file}.py::test_{name}" for name in names) or (f"scenario/test_{file}.py",)


def fault(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"fault/test_{file}.py::test_{name}" for name in names) or (f"fault/test_{file}.py",)


ROWS = (
    Row(
        1,
        "kill -9 before the response",
        "GETs are answered by another worker, a begun POST is 502, nothing runs twice",
        scenario("worker_failure", "killed_before_the_response", "only_worker_killed_and_replaced")
        + scenario("worker_failure", "batch_of_64_killed_in_its_middle", "request_that_kills_two_workers_is_given_up")
        + scenario("end_of_life_worker", "lost_before_the_head_safe_method", "lost_before_the_head_unsafe_method")
        + scenario("supervisor", "workers_killed_under_load")
        + fault("kill*"),
    ),
    Row(
        2,
        "kill -9 during an upload",
        "502, then closed; no retry of what was not kept",
        scenario("worker_failure", "killed_in_the_middle_of_an_upload")
        + scenario("end_of_life_worker", "lost_during_an_upload")
        + scenario("retry", "begun_request", "body_over_64_kib_is_not_kept"),
    ),
    Row(
        3,
        "kill -9 in the middle of a response",
        "cut or reset: it never looks complete",
        scenario("worker_failure", "killed_after_the_head", "killed_in_the_middle_of_a_download")
        + scenario("end_of_life_worker", "lost_after_the_head", "lost_after_the_head_close_delimited")
        + scenario("http2_end_of_life", "lost_after_the_head"),
    ),
    Row(
        4,
        "kill -9 with WebSockets open",
        "1011 at once; 1012 when it was planned",
        fault("ends", "websockets_of_a_killed_worker")
        + scenario("websocket_ends", "the_worker_is_lost_after_accept", "the_worker_goes_away"),
    ),
    Row(
        5,
        "SIGSTOP of a worker",
        "requests go elsewhere, nothing is lost after SIGCONT",
        fault("kill_workers", "stopped_workers")
        + scenario("worker_failure", "stopped_worker_gets_nothing_new_and_loses_nothing", "stopped_worker_killed")
        + scenario("worker_failure", "only_worker_stopped_requests_wait"),
    ),
    Row(
        6,
        "a worker that leaks",
        "recycled by drain, 0 failed",
        fault("rolling_restart", "leaking_workers_are_recycled"),
    ),
    Row(
        7,
        "20 rolling restarts, 20 deploys under load",
        "0 of 18,000 requests fail in each; broken generations change nothing",
        fault("rolling_restart", "twenty_rolling_restarts", "two_rolling_restarts") + fault("deploy_generations"),
    ),
    Row(
        8,
        "the log's disk is full, or slow",
        "serving goes on, lines are dropped and counted",
        scenario("faults", "full_log_disk", "slow_log_disk_slows_nobody"),
    ),
    Row(
        9,
        "no descriptors",
        "accepting pauses without spinning, and goes on",
        scenario("limits_connections", "descriptors_run_out", "worker_links_when_descriptors_run_out"),
    ),
    Row(
        10,
        "the n-th allocation fails",
        "one request is lost, or the start refused",
        scenario("faults", "one_allocation_fails", "all_allocations_fail_from_then_on"),
    ),
    Row(
        11,
        "clients that read slowly or not at all",
        "bounded memory; only the stalled are cut",
        scenario("memory", "stalled_readers_are_bounded_and_cut", "slow_reader_is_cut_by_the_rate")
        + scenario("limits", "write_stall", "slow_reader_above_the_rate_is_left_alone"),
    ),
    Row(
        12,
        "clients that write slowly",
        "cut at their limits, others do not notice",
        fault("ends", "slow_clients") + scenario("memory", "slow_senders_are_closed_at_their_limits"),
    ),
    Row(
        13,
        "half-close, reset, FIN inside a body",
        "half-closed clients get their answer, the app hears of those that are gone",
        scenario("end_of_life", "half_closed_gets_its_answer", "half_closed_later_then_reset", "app_sees_the_ends")
        + scenario("end_of_life", "reset_while_the_response_is_awaited", "end_inside_the_request_body"),
    ),
    Row(14, "5 % of TCP packets lost", "0 failed, only latency", fault("network", "tcp_loss")),
    Row(
        15,
        "UDP packets lost, reordered, doubled, spoilt",
        "all complete, right digest",
        scenario(
            "http3_interop",
            "bad_network",
            "twenty_mebibytes_on_a_bad_network",
            "blackhole",
            "hundred_handshakes_at_30_percent",
        ),
    ),
    Row(
        16,
        "a client's port changes",
        "the download goes on",
        scenario("http3_interop", "rebinding", "connection_migration", "a_path_that_is_not_validated_gets_little"),
    ),
    Row(17, "amplification", "at most three times what came", scenario("http3_interop", "amplification_limit")),
    Row(18, "50 certificate reloads under load", "0 failed, bad pairs refused", fault("reload*")),
    Row(19, "50 configuration reloads under load", "0 failed, memory flat", fault("reload*")),
    Row(20, "5 binary upgrades under load", "0 failed, the old process goes", fault("upgrade*")),
    Row(21, "the clock jumps", "no timer fires, logs show it", fault("network", "clock_jumps")),
    Row(
        22,
        "floods",
        "bounded memory, each ends at its limit",
        scenario("http2_floods")
        + scenario(
            "memory", "flood_of_connections", "flood_of_resets", "flood_of_bad_requests_is_a_bounded_log", "head_bomb"
        ),
    ),
    Row(
        23,
        "requests as the drain begins",
        "all are answered, then all are closed",
        fault("ends", "requests_as_the_drain_begins")
        + scenario("processes", "drain_finishes_the_request_under_way")
        + scenario("http2_end_of_life", "the_gateway_stops"),
    ),
    Row(
        24,
        "the order of starts",
        "503 without workers, stale sockets are replaced, a second instance is refused",
        scenario("processes", "stale_socket_is_replaced", "second_instance_is_refused_by_its_sockets")
        + scenario("worker_failure", "workers_come_back_after_the_gateway_was_away")
        + scenario("end_of_life_worker", "queue_deadline_without_a_worker"),
    ),
    Row(
        25,
        "idle and stalled in thousands",
        "16 KiB idle, 64 KiB with TLS, 160 KiB a stalled stream",
        scenario("memory", "idle_plain_connection", "idle_tls_connection", "ten_thousand_idle_connections")
        + scenario("http2_floods", "memory_of_a_stalled_stream", "memory_of_an_idle_connection"),
    ),
)
