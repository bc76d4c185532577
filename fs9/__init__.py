"""fs9: a file server for many tenants, where everything is a file.

A request travels: worker process (`workers`) → owner of the namespace (`router`) → operation
(`fs9.http.operations`) → session (`fs9.vfs.session`) → mounted provider (`fs9.providers`),
and the bytes travel back the same way. The client is `fs9.client`, the command `fs9.cli`.
"""

__version__ = "0.1.0"
