"""The meta store: which namespaces exist and what is mounted in them, kept over restarts."""
