"""Every bound of the server, with its default; nothing else in the code is a bare number.

All of them are settings (`fs9.config` maps the keys); units are last in the names. A value of
`Limits` checks the relations between them when it is made.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB


@dataclass(frozen=True, slots=True)
class Limits:
    # -- one request ------------------------------------------------------------------------
    #: A JSON body; larger ones are refused with 413.
    json_body_bytes_max: int = 2 * MIB
    #: The body of write and upload; larger ones are refused with 413.
    write_body_bytes_max: int = 256 * MIB
    #: The request line, and all header lines together (nginx and Envoy default to 8-60 KiB).
    request_line_bytes_max: int = 16 * KIB
    headers_bytes_max: int = 32 * KIB
    #: Seconds without a byte of the body, or without an answer, before 408.
    request_timeout_s: float = 30.0
    #: Seconds from the first byte of a request head to its last.
    header_timeout_s: float = 30.0
    #: Seconds an idle connection is kept (longer than nginx's and Envoy's upstream defaults).
    keep_alive_s: float = 75.0
    #: Requests in progress in one worker; the next is refused with 503.
    concurrent_requests_max: int = 1000
    #: Servers that may have passed a request on (`X-FS9-Hop-Count`); more are refused with 508.
    proxy_hops_max: int = 10

    # -- bodies in pieces -------------------------------------------------------------------
    #: A read up to this size is one provider read with a Content-Length; a larger one streams.
    read_whole_bytes_max: int = MIB
    #: Pieces of streamed reads and downloads (measured: 1 MiB equals nginx, 256 KiB is 0.75).
    read_piece_bytes: int = MIB
    #: The buffer that uploads and writes are received into.
    write_piece_bytes: int = MIB
    #: Downloads from this size on are left to nginx, where it may send them itself.
    lent_bytes_min: int = MIB
    #: Bodies up to this size are answered on the fast lane.
    fast_body_bytes_max: int = 64 * KIB

    # -- one namespace ----------------------------------------------------------------------
    handles_per_namespace_max: int = 65_536
    #: One message: a write to a topic or stream, which reaches it in one piece.
    message_bytes_max: int = MIB
    #: Clients that follow files at a time; each costs a connection and no thread.
    followers_per_namespace_max: int = 10_000
    #: Mounts that can be made over HTTP; each may keep files or memory of its own.
    mounts_per_namespace_max: int = 32
    #: Changes that watchers can catch up with, per watched namespace; up to twice as many are kept.
    watch_events_max: int = 10_000
    #: Entries of one readdir answer; a longer directory needs `limit` and `cursor`.
    listing_entries_max: int = 100_000
    #: Idle seconds after which a handle is closed, and how often that is looked for.
    handle_ttl_s: float = 300.0
    handle_sweep_interval_s: float = 60.0
    #: How long one provider may take to close a handle in a sweep or at shutdown.
    handle_close_timeout_s: float = 10.0
    #: Bytes of one memfs, and of one file anywhere.
    memfs_bytes_max: int = GIB
    memfs_files_max: int = 1_000_000
    file_bytes_max: int = 16 * TIB
    #: Audit events kept in the store, and for how long.
    events_max: int = 100_000
    events_days: int = 90
    #: Audit events that wait for a store that is down; then changes are refused.
    events_waiting_max: int = 50_000
    #: How long a load waits until the worker that had the namespace lets it go.
    owner_wait_s: float = 10.0
    #: A worker that says nothing on the bus for so long hangs, and is killed.
    worker_silence_s: float = 10.0
    #: A worker that has not heard all that was announced for so long does not rely on it.
    feed_stale_s: float = 30.0

    # -- one worker -------------------------------------------------------------------------
    #: Verified tokens kept, and for how long at most (never past the token's own expiry).
    token_cache_entries_max: int = 100_000
    token_cache_ttl_s: float = 300.0
    #: Credentials that do not hold are remembered, too, and for how long.
    token_refusals_max: int = 10_000
    token_refusal_ttl_s: float = 10.0
    #: While nobody can say whether it still holds, a credential does so for this long.
    token_outage_grace_s: float = 900.0
    #: How often a worker asks the store what changed, in case that nobody told it.
    reconcile_interval_s: float = 5.0
    #: Connections of a process to PostgreSQL.
    meta_connections_max: int = 20
    #: The deadline of each call of PostgreSQL, its wait for a connection included.
    meta_timeout_s: float = 10.0
    #: A metadata service: failures in a row after which it is left alone, and for how long.
    meta_failures_max: int = 5
    meta_recovery_s: float = 30.0
    #: How often a call of it is tried, what is waited before the second try, and the deadlines of
    #: a try and of all of them (less than `request_timeout_s`).
    meta_attempts_max: int = 3
    meta_delay_first_ms: int = 100
    meta_try_timeout_s: float = 3.0
    meta_total_timeout_s: float = 10.0
    #: How long who changes something waits for every worker to have heard of it.
    announce_wait_s: float = 2.0
    #: Credentials that do not hold, of one address; the next ones are refused unseen.
    failed_credentials_per_minute_max: int = 1000
    #: Users, namespaces and addresses whose rates are remembered, of each kind.
    rate_limit_keys_max: int = 200_000
    #: Connections, and those of one address that is no trusted proxy's.
    connections_max: int = 10_000
    connections_per_address_max: int = 2_000
    #: Requests in progress of one namespace, so that it leaves the others some.
    concurrent_requests_per_namespace_max: int = 750
    #: What a body that arrives, or an answer that is taken, must move in each period.
    transfer_bytes_per_s_min: int = 100
    transfer_period_s: float = 30.0
    #: One call of a native plugin, before its process is ended (less than `request_timeout_s`).
    plugin_call_timeout_s: float = 20.0
    #: Calls in progress in one mount of a native plugin.
    plugin_threads_max: int = 8
    #: One file of a native plugin. Plugins in memory allocate, and abort, at huge offsets.
    plugin_file_bytes_max: int = GIB
    #: Threads for calls that block.
    blocking_threads_max: int = 16
    #: From SIGTERM to the end of the process.
    shutdown_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0")
        # A lower bound for all bodies is one for small ones, too.
        fast_bytes = min(self.fast_body_bytes_max, self.write_body_bytes_max)
        object.__setattr__(self, "fast_body_bytes_max", fast_bytes)
        if self.worker_silence_s < 2:  # it reports every second
            raise ValueError("worker_silence_s must be at least 2")
        if self.handle_sweep_interval_s > self.handle_ttl_s:
            raise ValueError("handle_sweep_interval_s must not exceed handle_ttl_s")
