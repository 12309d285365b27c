"""Every metric of `/metrics`, defined once: the sums, their exposition and docs/metrics.md follow this table.

Names follow Prometheus' conventions (https://prometheus.io/docs/practices/naming/): base units, `_total` for counters. Labels
are bounded: never a session, an agent, a client or anything else without a bound.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

OTHER = "other"  # the label of everything beyond a bound


class Type(enum.StrEnum):
    """What Prometheus does with a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(enum.StrEnum):
    """How the gauges of several workers are merged. Counters and histograms are always added."""

    SUM = "sum"
    MIN = "min"
    MAX = "max"


class Metric(NamedTuple):
    """One metric family.

    Attributes:
        name: as a query names it, `_total` included.
        help: one sentence without its full stop.
        unit: what its values are, or "" for a count.
        divisor: values are kept as integers of this fraction of the unit, so that sums are exact.
        buckets: upper bounds of a histogram's buckets, without the last, which is infinite.
    """

    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    divisor: int = 1
    merge: Merge = Merge.SUM
    buckets: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """How many numbers a series of it has: one, or a histogram's counts per bucket and its sum."""
        return len(self.buckets) + 2 if self.type is Type.HISTOGRAM else 1


def counter(name: str, help: str, *labels: str, unit: str = "", divisor: int = 1) -> Metric:
    return Metric(name, Type.COUNTER, help, labels, unit, divisor)


def gauge(name: str, help: str, *labels: str, unit: str = "", merge: Merge = Merge.SUM) -> Metric:
    return Metric(name, Type.GAUGE, help, labels, unit, merge=merge)


def seconds(name: str, help: str, *labels: str, buckets: tuple[float, ...]) -> Metric:
    return Metric(name, Type.HISTOGRAM, help, labels, "seconds", buckets=buckets)


NANO, MICRO = 10**9, 10**6

EXCHANGES = counter(
    "claude_proxy_exchanges_total",
    "Finished Messages calls, by how they ended and what the client got",
    *("upstream", "model", "outcome", "status_class"),
)
OTHERS = counter(
    "claude_proxy_other_exchanges_total",
    "Finished calls of other paths (count_tokens, batches, other) and requests that were refused before their path was read",
    *("upstream", "kind", "outcome", "status_class"),
)
FAILURES = counter(
    "claude_proxy_failures_total",
    "Calls that went wrong, by whose side it was and by error type",
    *("upstream", "side", "kind"),
)
TOKENS = counter(
    "claude_proxy_tokens_total",
    "Tokens as the upstream reported them; input does not include what was read from or written to the cache",
    *("upstream", "model", "kind"),
    unit="tokens",
)
COST = counter(
    "claude_proxy_cost_usd_total",
    "API list price of the reported usage; not a bill",
    *("upstream", "model"),
    unit="US dollars",
    divisor=NANO,
)
UNPRICED = counter(
    "claude_proxy_unpriced_exchanges_total",
    "Messages calls with usage for which no price is known: their cost is missing from claude_proxy_cost_usd_total",
    *("upstream", "model"),
)
CREDITS = counter(
    "claude_proxy_credits_total",
    "Plan credits that the reported usage comes to",
    *("upstream", "model"),
    unit="credits",
    divisor=MICRO,
)
FIRST_BYTE = seconds(
    "claude_proxy_first_byte_seconds",
    "From the start of a Messages call to the first byte of a 2xx answer's body sent to the client",
    *("upstream", "model"),
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300),
)
DURATION = seconds(
    "claude_proxy_duration_seconds",
    "From the first byte in to the last byte out of Messages calls that went upstream",
    *("upstream", "model"),
    buckets=(0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600),
)
SILENCE = seconds(
    "claude_proxy_longest_silence_seconds",
    "The longest time without a byte from the upstream, in each streamed 2xx answer",
    "upstream",
    buckets=(0.1, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 240, 300),
)
QUEUE_WAIT = seconds(
    "claude_proxy_queue_wait_seconds",
    "How long Messages calls waited for their turn at the upstream",
    "upstream",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300),
)
OVERHEAD = seconds(
    "claude_proxy_overhead_seconds",
    "From a Messages call's head to its first attempt upstream, without the wait in the queue: its body is read and checked",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
)
IN_FLIGHT = gauge("claude_proxy_in_flight", "Exchanges that are running now")
UPSTREAM_UP = gauge(
    "claude_proxy_upstream_up",
    "1 while an account of the upstream is in rotation, 0 while all are ejected or out (in any worker)",
    "upstream",
    merge=Merge.MIN,
)
QUEUE_WAITING = gauge(
    "claude_proxy_queue_waiting",
    "Messages calls that wait for their turn; one that may go to several upstreams counts at each",
    "upstream",
)
QUEUE_SENT = gauge("claude_proxy_queue_sent", "Messages calls that have their turn and are not over", "upstream")
QUEUE_LIMIT = gauge(
    "claude_proxy_queue_limit", "Messages calls that the upstream's accounts take at once, as learned", "upstream"
)
QUOTA_USED = gauge(
    "claude_proxy_quota_used_ratio",
    "Used share of a plan's window by the provider's own count; 1 is all of it",
    *("upstream", "account", "window"),
    unit="ratio",
    merge=Merge.MAX,
)
QUOTA_RESET = gauge(
    "claude_proxy_quota_reset_seconds",
    "Time until that window restarts",
    *("upstream", "account", "window"),
    unit="seconds",
    merge=Merge.MAX,
)
LEDGER_LOST = counter("claude_proxy_ledger_lost_total", "Exchanges that could not be recorded in the ledger")
LEDGER_QUEUE = gauge("claude_proxy_ledger_queue", "Finished exchanges that wait to be written to the ledger")
NOTICES = counter("claude_proxy_notices_total", "Notices for a person, by what became of them", "result")
LISTENER_ERRORS = counter(
    "claude_proxy_listener_errors_total", "Faults of the proxy's own bookkeeping that cost no request; the log names them"
)
LOG_LINES_LOST = counter("claude_proxy_log_lines_lost_total", "Log lines that could not be written")
WORKERS = gauge("claude_proxy_workers", "Worker processes whose numbers are in this answer")
BUILD = gauge("claude_proxy_build_info", "Always 1; its labels say what runs", "version", "python", merge=Merge.MAX)
CPU = counter("process_cpu_seconds_total", "User and system CPU time", unit="seconds")
MEMORY = gauge("process_resident_memory_bytes", "Resident memory", unit="bytes")
OPEN_FDS = gauge("process_open_fds", "Open file descriptors")
MAX_FDS = gauge("process_max_fds", "Most file descriptors that may be open")
START_TIME = gauge(
    "process_start_time_seconds", "Unix time at which the (oldest) process started", unit="seconds", merge=Merge.MIN
)

METRICS = (
    *(EXCHANGES, OTHERS, FAILURES, TOKENS, COST, UNPRICED, CREDITS),
    *(FIRST_BYTE, DURATION, SILENCE, QUEUE_WAIT, OVERHEAD),
    *(IN_FLIGHT, UPSTREAM_UP, QUEUE_WAITING, QUEUE_SENT, QUEUE_LIMIT, QUOTA_USED, QUOTA_RESET),
    *(LEDGER_LOST, LEDGER_QUEUE, NOTICES, LISTENER_ERRORS, LOG_LINES_LOST),
    *(WORKERS, BUILD, CPU, MEMORY, OPEN_FDS, MAX_FDS, START_TIME),
)
BY_NAME = {metric.name: metric for metric in METRICS}
