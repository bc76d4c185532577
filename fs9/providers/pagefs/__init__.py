"""pagefs: a POSIX-like tree over a metadata store and a block store."""
