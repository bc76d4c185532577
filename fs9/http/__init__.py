"""The file API over HTTP: decode, one call on a session, encode.

`operations` is the table of operations, `dispatch.answer` runs one of them, `app` is the
Falcon driver; the other driver is the protocol class of the workers.
"""
