"""What operators see: metrics, logs, traces, readiness, and the audit trail."""
