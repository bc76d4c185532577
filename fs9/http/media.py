"""Content-Type by file name, from a fixed table: the same on every host and Python version."""

from __future__ import annotations

import mimetypes

from fs9.http.exchange import BYTES

# Types that the oldest supported Python does not know yet, or knows by an obsolete name.
_NEWER = {
    ".7z": "application/x-7z-compressed",
    ".avif": "image/avif",
    ".flac": "audio/flac",
    ".gz": "application/gzip",
    ".js": "text/javascript",
    ".jsonl": "application/jsonl",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".ogg": "audio/ogg",
    ".otf": "font/otf",
    ".parquet": "application/vnd.apache.parquet",
    ".rs": "text/plain",
    ".toml": "application/toml",
    ".ttf": "font/ttf",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zst": "application/zstd",
}
# A file that is compressed is sent as it is, so its type is that of the compression.
_COMPRESSED = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
}

# Without files: the tables of the host would make the answer depend on it.
_TYPES = mimetypes.MimeTypes(filenames=())
for _suffix, _type in _NEWER.items():
    _TYPES.add_type(_type, _suffix)


def content_type(name: str) -> str:
    """The media type for a file of that name; `application/octet-stream` when unknown."""
    # Only the name: guess_type reads URLs, and would take "data:text/html" for one.
    media_type, compression = _TYPES.guess_type(f"/{name}")
    if compression is not None:
        return _COMPRESSED.get(compression, BYTES)
    return media_type or BYTES
