"""The HTTP contract, shared by server and clients: pure functions and tables, no I/O.

`routes` is the table of endpoints, `messages` the JSON bodies, `codec` turns values into them
and back, `query` decodes query strings, `conditions` and `ranges` implement RFC 9110's
preconditions and byte ranges, `cursor` the pages of a listing, `problem` errors on the wire.
"""
