"""The settings behind `fs9.limits.Limits`: a key and a help text for each bound."""

from __future__ import annotations

from fs9.config.kinds import Kind, Seconds, Whole
from fs9.config.setting import Setting
from fs9.limits import Limits

_BYTES = Whole("bytes")
_COUNT = Whole("whole number")
_SECONDS = Seconds()
_DEFAULTS = Limits()


def _limit(field: str, key: str, kind: Kind, help_text: str) -> Setting:
    default = getattr(_DEFAULTS, field)
    return Setting(key, kind, help_text, default=default, field=field, is_limit=True)


LIMIT_SETTINGS: tuple[Setting, ...] = (
    _limit(
        "request_timeout_s",
        "server.request_timeout_secs",
        _SECONDS,
        "A request ends with 408 after this long without a byte of its body or an answer.",
    ),
    _limit(
        "concurrent_requests_max",
        "server.max_concurrent_requests",
        _COUNT,
        "Requests in progress in one worker; the next one is answered 503 at once.",
    ),
    _limit(
        "proxy_hops_max",
        "server.limits.max_proxy_hops",
        _COUNT,
        "Servers that may have passed a request on (`X-FS9-Hop-Count`) before it is answered 508.",
    ),
    _limit(
        "shutdown_timeout_s",
        "server.shutdown_timeout_secs",
        _SECONDS,
        "How long a stopping server may take to finish its requests and close its files.",
    ),
    _limit(
        "json_body_bytes_max",
        "server.max_body_size_bytes",
        _BYTES,
        "The largest JSON body; larger ones are answered 413.",
    ),
    _limit(
        "write_body_bytes_max",
        "server.max_write_size_bytes",
        _BYTES,
        "The largest body of a write or an upload; larger ones are answered 413.",
    ),
    _limit(
        "request_line_bytes_max",
        "server.limits.max_request_line_bytes",
        _BYTES,
        "The longest request line (method, path and query); longer ones are answered 414.",
    ),
    _limit(
        "headers_bytes_max",
        "server.limits.max_headers_bytes",
        _BYTES,
        "All header lines of a request together; more is answered 431.",
    ),
    _limit(
        "header_timeout_s",
        "server.limits.header_timeout_secs",
        _SECONDS,
        "From the first byte of a request's head to its last.",
    ),
    _limit(
        "keep_alive_s",
        "server.limits.keep_alive_secs",
        _SECONDS,
        "How long an idle connection is kept; longer than the proxy in front keeps it.",
    ),
    _limit(
        "read_whole_bytes_max",
        "server.limits.max_whole_read_bytes",
        _BYTES,
        "A read up to this size is answered in one piece; a larger one is streamed.",
    ),
    _limit(
        "read_piece_bytes",
        "server.limits.read_piece_bytes",
        _BYTES,
        "The pieces of streamed reads and downloads.",
    ),
    _limit(
        "lent_bytes_min",
        "server.limits.min_accel_bytes",
        _BYTES,
        "Downloads from this size on are sent by nginx, where `server.accel_redirect` is set.",
    ),
    _limit(
        "write_piece_bytes",
        "server.limits.write_piece_bytes",
        _BYTES,
        "The pieces in which uploads and writes are received.",
    ),
    _limit(
        "fast_body_bytes_max",
        "server.limits.max_fast_body_bytes",
        _BYTES,
        "Bodies up to this size, and to `max_write_size_bytes`, are answered on the fast lane.",
    ),
    _limit(
        "handles_per_namespace_max",
        "server.limits.max_handles_per_namespace",
        _COUNT,
        "Open files of one namespace.",
    ),
    _limit(
        "message_bytes_max",
        "server.limits.max_message_bytes",
        _BYTES,
        "The largest message, that is, one write to a pubsubfs or streamfs; larger ones are"
        " answered 413.",
    ),
    _limit(
        "followers_per_namespace_max",
        "server.limits.max_followers_per_namespace",
        _COUNT,
        "Clients that follow files of one namespace, or watch it; further ones are answered 507.",
    ),
    _limit(
        "mounts_per_namespace_max",
        "server.limits.max_mounts_per_namespace",
        _COUNT,
        "Mounts of a namespace; further ones over HTTP are answered 507.",
    ),
    _limit(
        "watch_events_max",
        "server.limits.max_watch_events",
        _COUNT,
        "Changes of a namespace that are kept for watchers that reconnect.",
    ),
    _limit(
        "listing_entries_max",
        "server.limits.max_listing_entries",
        _COUNT,
        "Entries of one directory listing; longer directories need `limit` and `cursor`.",
    ),
    _limit(
        "handle_ttl_s",
        "server.limits.handle_ttl_secs",
        _SECONDS,
        "An open file that nobody uses is closed after this long.",
    ),
    _limit(
        "handle_sweep_interval_s",
        "server.limits.handle_sweep_interval_secs",
        _SECONDS,
        "How often idle open files are looked for; at most `handle_ttl_secs`.",
    ),
    _limit(
        "handle_close_timeout_s",
        "server.limits.handle_close_timeout_secs",
        _SECONDS,
        "How long a provider may take to close one idle file.",
    ),
    _limit(
        "memfs_bytes_max",
        "server.limits.max_memfs_bytes",
        _BYTES,
        "Bytes that one memfs may hold, or one pubsubfs or streamfs in memory.",
    ),
    _limit(
        "memfs_files_max",
        "server.limits.max_memfs_files",
        _COUNT,
        "Files and directories that one memfs may hold.",
    ),
    _limit(
        "file_bytes_max",
        "server.limits.max_file_bytes",
        _BYTES,
        "The largest file, whatever the provider.",
    ),
    _limit(
        "events_max",
        "server.limits.max_events",
        _COUNT,
        "Audit events kept, per namespace; older ones are forgotten.",
    ),
    _limit(
        "events_days",
        "server.limits.event_days",
        _COUNT,
        "Days for which audit events are kept.",
    ),
    _limit(
        "events_waiting_max",
        "server.limits.max_waiting_events",
        _COUNT,
        "Audit events of one namespace that wait for a store that is down; then its changes are"
        " answered 503, because none is made that is not recorded.",
    ),
    _limit(
        "owner_wait_s",
        "server.limits.owner_wait_secs",
        _SECONDS,
        "How long a request waits for the previous owner to release its namespace. The time of a"
        " drain does not count.",
    ),
    _limit(
        "worker_silence_s",
        "server.limits.worker_silence_secs",
        _SECONDS,
        "A worker that sends nothing on the bus for this long is considered hung, and is killed"
        " and replaced; at least 2.",
    ),
    _limit(
        "feed_stale_s",
        "server.limits.feed_stale_secs",
        _SECONDS,
        "A worker that has heard no announcements of its fleet for this long is not ready, and"
        " with authentication on answers 503 unless it can read the changes from the metadata.",
    ),
    _limit(
        "token_cache_entries_max",
        "server.limits.max_token_cache_entries",
        _COUNT,
        "Verified tokens remembered by a worker.",
    ),
    _limit(
        "token_cache_ttl_s",
        "server.limits.token_cache_ttl_secs",
        _SECONDS,
        "How long a verified token is remembered, never past its own expiry.",
    ),
    _limit(
        "token_refusals_max",
        "server.limits.max_token_refusals",
        _COUNT,
        "Bad tokens remembered by a worker.",
    ),
    _limit(
        "token_refusal_ttl_s",
        "server.limits.token_refusal_ttl_secs",
        _SECONDS,
        "How long a bad token is remembered.",
    ),
    _limit(
        "token_outage_grace_s",
        "server.auth.outage_grace_secs",
        _SECONDS,
        "While the metadata cannot be asked, how much longer a credential that is remembered"
        " holds, never past its own expiry and never when it is revoked.",
    ),
    _limit(
        "reconcile_interval_s",
        "server.limits.reconcile_interval_secs",
        _SECONDS,
        "How often a worker asks the metadata for revocations and changed namespaces, in case no"
        " announcement has reached it.",
    ),
    _limit(
        "meta_connections_max",
        "meta.max_connections",
        _COUNT,
        "Connections of each process to PostgreSQL, beside one that listens for changes. The server"
        " must allow those of all workers.",
    ),
    _limit(
        "meta_timeout_s",
        "meta.timeout_secs",
        _SECONDS,
        "A call of PostgreSQL fails after this long, its wait for a connection included; the"
        " server gives up a statement after half of it.",
    ),
    _limit(
        "meta_failures_max",
        "server.meta_resilience.failure_threshold",
        _COUNT,
        "After so many failed tries in a row an endpoint of the metadata service is left alone.",
    ),
    _limit(
        "meta_recovery_s",
        "server.meta_resilience.recovery_timeout_secs",
        _SECONDS,
        "For so long; then one call is let through to find out whether it answers again.",
    ),
    _limit(
        "meta_attempts_max",
        "server.meta_resilience.max_retry_attempts",
        _COUNT,
        "How often a call of the metadata service is tried, each time at the next endpoint.",
    ),
    _limit(
        "meta_delay_first_ms",
        "server.meta_resilience.base_delay_ms",
        _COUNT,
        "Milliseconds before the second try; it doubles with each try, with jitter.",
    ),
    _limit(
        "meta_try_timeout_s",
        "server.meta_resilience.try_timeout_secs",
        _SECONDS,
        "A try fails when the whole answer has not come after this long.",
    ),
    _limit(
        "meta_total_timeout_s",
        "server.meta_resilience.total_timeout_secs",
        _SECONDS,
        "All tries of one call together; less than `server.request_timeout_secs`.",
    ),
    _limit(
        "announce_wait_s",
        "server.limits.announce_wait_secs",
        _SECONDS,
        "How long the answer to a revocation waits until every worker has applied it.",
    ),
    _limit(
        "failed_credentials_per_minute_max",
        "server.limits.max_failed_credentials_per_minute",
        _COUNT,
        "Invalid tokens that a worker accepts to check from one address; beyond that, tokens that"
        " it does not know yet are answered 429 unchecked.",
    ),
    _limit(
        "rate_limit_keys_max",
        "server.limits.max_rate_limit_keys",
        _COUNT,
        "Users, namespaces and addresses whose rates a worker remembers, each.",
    ),
    _limit(
        "connections_max",
        "server.limits.max_connections",
        _COUNT,
        "Connections of one worker; the next one is answered 503 and closed. At most three"
        " quarters of the files that the process may open.",
    ),
    _limit(
        "connections_per_address_max",
        "server.limits.max_connections_per_address",
        _COUNT,
        "Connections of one worker from one address; the next one is answered 429 and closed."
        " Those of `trusted_proxies` and over Unix sockets are not counted.",
    ),
    _limit(
        "concurrent_requests_per_namespace_max",
        "server.limits.max_concurrent_requests_per_namespace",
        _COUNT,
        "Requests in progress in one namespace; the next one is answered 429 at once.",
    ),
    _limit(
        "transfer_bytes_per_s_min",
        "server.limits.min_transfer_bytes_per_sec",
        _BYTES,
        "A client that sends its body, or takes its answer, slower than this is cut off.",
    ),
    _limit(
        "transfer_period_s",
        "server.limits.transfer_period_secs",
        _SECONDS,
        "The period over which that rate is measured.",
    ),
    _limit(
        "plugin_call_timeout_s",
        "server.limits.plugin_call_timeout_secs",
        _SECONDS,
        "How long one call of a native plugin may take before its process is killed and started"
        " again; less than `request_timeout_secs`.",
    ),
    _limit(
        "plugin_threads_max",
        "server.limits.max_plugin_threads",
        _COUNT,
        "Calls in progress in one mount of a native plugin; more wait.",
    ),
    _limit(
        "plugin_file_bytes_max",
        "server.limits.max_plugin_file_bytes",
        _BYTES,
        "The largest file of a native plugin; plugins that keep files in memory abort at huge"
        " offsets.",
    ),
    _limit(
        "blocking_threads_max",
        "server.limits.max_blocking_threads",
        _COUNT,
        "Threads of one worker for calls that block, such as those to the disk.",
    ),
)
