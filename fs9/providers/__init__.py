"""Storage: the implementations of `fs9.provider`. Each is one file; none imports another."""
