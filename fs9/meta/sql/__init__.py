"""What both databases have in common: every call of `Store` as a generator of statements."""
