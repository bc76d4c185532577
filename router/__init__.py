"""Which slot owns a namespace, and how a connection gets there. Knows no file system."""
