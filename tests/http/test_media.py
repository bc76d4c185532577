"""Content types by file name."""

from __future__ import annotations

import mimetypes

import pytest

from fs9.http.media import content_type


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", "text/plain"),
        ("A.HTML", "text/html"),
        ("a.json", "application/json"),
        ("a.js", "text/javascript"),
        ("a.md", "text/markdown"),
        ("a.tar.gz", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("a.gz", "application/gzip"),
        ("a.txt.bz2", "application/x-bzip2"),
        ("a.txt.br", "application/octet-stream"),
        ("a.webp", "image/webp"),
        ("a", "application/octet-stream"),
        (".txt", "application/octet-stream"),
        ("a.", "application/octet-stream"),
        ("a.unknown", "application/octet-stream"),
        ("", "application/octet-stream"),
        ("data:text/html,x", "application/octet-stream"),
        ("http://a.html?x", "application/octet-stream"),
        ("a.txt;type=x", "application/octet-stream"),
    ],
)
def test_types(name: str, expected: str) -> None:
    assert content_type(name) == expected


def test_the_host_s_own_types_do_not_matter() -> None:
    mimetypes.add_type("text/x-ours", ".unheard-of")
    assert content_type("a.unheard-of") == "application/octet-stream"
