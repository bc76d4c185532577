"""The namespace core: mounts, handles, the operations on paths, sessions, namespaces."""
