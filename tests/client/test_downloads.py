"""Which bytes are asked for, and which of an answer's bytes were."""

from __future__ import annotations

import pytest

from fs9.client.downloads import Head, Wanted, download
from fs9.client.failures import UnexpectedAnswer
from fs9.client.ops import Answer
from fs9.errors import InvalidArgument


def head(wanted: Wanted, status: int, **headers: str) -> Head:
    operation = download(wanted)
    next(operation)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with pytest.raises(StopIteration) as done:
        operation.send(Answer(status, named))
    found = done.value.value
    assert isinstance(found, Head)
    return found


@pytest.mark.parametrize(
    ("wanted", "header"),
    [
        (Wanted("/f"), None),
        (Wanted("/f", 5), "bytes=5-"),
        (Wanted("/f", 5, 3), "bytes=5-7"),
        (Wanted("/f", 0, 1), "bytes=0-0"),
        (Wanted("/f", -4), "bytes=-4"),
        (Wanted("/f", -4, 4), "bytes=-4"),
    ],
)
def test_range_header(wanted: Wanted, header: str | None) -> None:
    assert wanted.headers().get("range") == header


@pytest.mark.parametrize("wanted", [Wanted("/f", 0, 0), Wanted("/f", -4, 2)])
def test_ranges_that_cannot_be_said(wanted: Wanted) -> None:
    with pytest.raises(InvalidArgument):
        wanted.headers()


def test_conditions_are_quoted() -> None:
    headers = Wanted("/f", 1, if_match="a", if_none_match="*", if_range="b").headers()
    assert (headers["if-match"], headers["if-none-match"]) == ('"a"', "*")
    assert headers["if-range"] == '"b"'


def test_whole_file() -> None:
    found = head(Wanted("/f"), 200, content_length="9", etag='"v1"')
    assert (found.offset, found.length, found.size, found.etag) == (0, 9, 9, "v1")
    assert found.is_resumable


def test_weak_or_missing_etags_cannot_be_continued() -> None:
    assert not head(Wanted("/f"), 200, content_length="9").is_resumable
    assert not head(Wanted("/f"), 200, content_length="9", etag='W/"v1"').is_resumable
    assert not head(Wanted("/f"), 200, etag='"v1"').is_resumable


def test_a_range_that_is_honoured() -> None:
    found = head(Wanted("/f", 2, 3), 206, content_range="bytes 2-4/9")
    assert (found.offset, found.length, found.size, found.skip) == (2, 3, 9, 0)


@pytest.mark.parametrize(
    ("wanted", "offset", "length"),
    [
        (Wanted("/f", 2, 3), 2, 3),
        (Wanted("/f", 7), 7, 2),
        (Wanted("/f", -4), 5, 4),
        (Wanted("/f", 20), 9, 0),
    ],
)
def test_a_range_that_is_ignored_is_cut_out(wanted: Wanted, offset: int, length: int) -> None:
    found = head(wanted, 200, content_length="9")
    assert (found.skip, found.offset, found.length, found.cut) == (offset, offset, length, True)


def test_if_range_that_failed_means_the_whole_file() -> None:
    found = head(Wanted("/f", 5, if_range="old"), 200, content_length="9", etag='"new"')
    assert (found.offset, found.length, found.skip) == (0, 9, 0)


@pytest.mark.parametrize("value", ["", "bytes 4-2/9", "bytes 0-1/9", "bytes 2-8/9", "lines 2-4/9"])
def test_ranges_that_were_not_asked_for(value: str) -> None:
    """Wrong bytes are an error, whatever the server meant."""
    operation = download(Wanted("/f", 2, 3))
    next(operation)
    with pytest.raises(UnexpectedAnswer):
        operation.send(Answer(206, {"content-range": value}))


def test_encoded_bytes_are_refused() -> None:
    operation = download(Wanted("/f"))
    next(operation)
    with pytest.raises(UnexpectedAnswer, match="proxy"):
        operation.send(Answer(200, {"content-encoding": "gzip"}))
