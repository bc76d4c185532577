"""fs9.vfs.journal: what is written, what a reader makes of it, what a crash leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fs9.errors import NotFound, Transient
from fs9.principal import Principal
from fs9.types import MKDIR, READ, OpenFlags
from fs9.vfs import journal as journal_module
from fs9.vfs.journal import HandleJournal, bits_of, clear_journals, flags_of

if TYPE_CHECKING:
    from pathlib import Path

    from fs9.threads import BlockingPool
    from fs9.vfs.journal import NamespaceJournal

APPEND = OpenFlags(write=True, append=True, create=True)
ANN = Principal("ann", "acme")
HALF = bytes(range(16))


@pytest.fixture
def journals(tmp_path: Path, pool: BlockingPool) -> HandleJournal:
    return HandleJournal(tmp_path / "handles", pool)


def known(journal: NamespaceJournal) -> dict[str, str]:
    return {handle_id: journal.dormant.get(handle_id)[0] for handle_id in journal.dormant}


def crash(journal: NamespaceJournal) -> None:
    """Forget it as a killed process does: nothing more is written, nothing is removed."""
    journal._broken = True


@pytest.mark.parametrize("flags", [READ, MKDIR, APPEND, OpenFlags(truncate=True, exclusive=True)])
def test_flags_come_back(flags):
    assert flags_of(bits_of(flags)) == flags


async def test_the_next_owner_finds_what_is_open(journals, tmp_path):
    """Opened and not closed, under the present path, with flags and identity."""
    first = await journals.load("acme")
    assert not (tmp_path / "handles/acme").exists()
    first.opened("h1", "/d/a", APPEND, "id1", ANN)
    first.opened("h2", "/d/b", READ, "id2", ANN)
    first.opened("h3", "/c", READ, "id3", ANN)
    with first.changing_path("/d", "/e"):
        pass
    with first.changing_path("/c"):
        pass
    first.closed(["h2"])
    crash(first)
    second = await journals.load("acme")
    assert known(second) == {"h1": "/e/a", "h3": ""}
    assert second.dormant.get("h1") == ("/e/a", bits_of(APPEND), "id1", ANN)
    assert second.unsettled == []
    assert (tmp_path / "handles/acme").read_bytes().count(b"\n") == 2  # written anew
    assert known(await journals.load("other")) == {}


async def test_the_next_owner_knows_what_a_revocation_can_mean(journals, tmp_path):
    """Also after the file was written anew. Records of an earlier version say the user alone."""
    by = Principal("ann", "acme", ("admin",), 99, ("/d",), (), False, 7, "j", "k", bytes(range(32)))
    first = await journals.load("acme")
    first.opened("h1", "/a", READ, "id1", by)
    first.opened("h2", "/b", READ, "id2", by)
    first.closed(["h2"])
    crash(first)
    with (tmp_path / "handles/acme").open("ab") as file:
        file.write(b'["o","h3","/c",1,"id3","ann"]\n')
    for _ in range(2):
        heir = await journals.load("acme")
        kept = Principal("ann", "acme", (), issued_at_s=7, jti="j", key_id="k", credential=HALF)
        assert heir.dormant.opener("h1") == kept
        assert heir.dormant.opener("h3") == ANN
        crash(heir)


async def test_dormant_handles_follow_what_their_new_owner_does(journals):
    first = await journals.load("acme")
    for handle_id, path in (("h1", "/a"), ("h2", "/b"), ("h3", "/c")):
        first.opened(handle_id, path, READ, f"id of {path}", ANN)
    await first.aclose()
    second = await journals.load("acme")
    with second.changing_path("/a", "/b"):
        pass
    second.replaced("/c", "another id")
    second.closed(["h2"])
    assert known(second) == {"h1": "/b", "h3": ""}
    crash(second)
    assert known(await journals.load("acme")) == known(second)


async def test_a_new_version_loses_only_handles_of_older_ones(journals):
    """A handle that was opened between the swap and its record has the new version already."""
    first = await journals.load("acme")
    first.opened("old", "/f", READ, "1", ANN)
    first.opened("new", "/f", READ, "2", ANN)
    first.replaced("/f", "2")
    crash(first)
    assert known(await journals.load("acme")) == {"old": "", "new": "/f"}


async def test_changes_that_fail_change_nothing(journals):
    """A definite refusal is noted; where nobody knows, the next owner has to look."""
    journal = await journals.load("acme")
    journal.opened("h", "/a", READ, "1", ANN)
    with pytest.raises(NotFound), journal.changing_path("/a", "/b/c"):
        raise NotFound("/b")
    with pytest.raises(Transient), journal.changing_path("/a"):
        raise Transient("?")
    assert not journal.changing("/a")
    crash(journal)
    after = await journals.load("acme")
    assert (known(after), after.unsettled) == ({"h": "/a"}, [("/a", "")])
    after.settle("/a", "", done=True)
    crash(after)
    again = await journals.load("acme")
    assert (known(again), again.unsettled) == ({"h": ""}, [])


async def test_a_change_cut_off_by_a_crash_is_unsettled(journals):
    first = await journals.load("acme")
    first.opened("h", "/a", READ, "1", ANN)
    first.changing_path("/a", "/b").__enter__()
    assert [first.changing(path) for path in ("/a/x", "/b", "/", "/c")] == [
        True,
        True,
        False,
        False,
    ]
    crash(first)
    second = await journals.load("acme")
    assert second.unsettled == [("/a", "/b")]
    crash(second)
    assert (await journals.load("acme")).unsettled == [("/a", "/b")]  # still


async def test_without_handles_nothing_is_written(journals, tmp_path):
    """Renames and removals of a namespace without handles cost no file."""
    journal = await journals.load("acme")
    with journal.changing_path("/a", "/b"), journal.changing_path("/c"):
        pass
    journal.replaced("/d", "1")
    assert not (tmp_path / "handles/acme").exists()
    journal.tidy()


async def test_the_file_goes_with_the_last_handle(journals, tmp_path):
    """At the next sweep, or at the end; a handle opened after that begins a new file."""
    path = tmp_path / "handles/acme"
    journal = await journals.load("acme")
    journal.opened("h1", "/a", READ, "1", ANN)
    journal.tidy()
    assert path.exists()
    journal.closed(["h1"])
    journal.tidy()
    assert not path.exists()
    journal.opened("h2", "/a", READ, "1", ANN)
    assert path.exists()
    journal.closed(["h2"])
    await journal.aclose()
    assert not path.exists()


async def test_a_torn_last_line_is_left_out(journals, tmp_path):
    path = tmp_path / "handles/acme"
    first = await journals.load("acme")
    first.opened("h1", "/a", READ, "1", ANN)
    first.opened("h2", "/b", READ, "2", ANN)
    crash(first)
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines()[1])):
        path.write_bytes(whole[:-cut])
        second = await journals.load("acme")
        assert known(second) == {"h1": "/a"}
        assert path.read_bytes().endswith(b"\n")
        second.opened("h3", "/c", READ, "3", ANN)  # not glued to what was torn
        crash(second)
        assert known(await journals.load("acme")) == {"h1": "/a", "h3": "/c"}


@pytest.mark.parametrize("content", [b"not json\n", b'["o"]\n', b'["?",1]\n', b"\xff\xfe\n"])
async def test_an_unreadable_journal_is_set_aside(journals, tmp_path, caplog, content):
    """Its handles are lost; a namespace is not."""
    path = tmp_path / "handles/acme"
    path.write_bytes(content)
    journal = await journals.load("acme")
    assert known(journal) == {}
    assert "handles are lost" in caplog.text
    assert (tmp_path / "handles/acme.unreadable").read_bytes() == content
    journal.opened("h", "/a", READ, "1", ANN)
    crash(journal)
    assert known(await journals.load("acme")) == {"h": "/a"}


async def test_a_directory_in_its_place_is_no_crash(journals, tmp_path, caplog):
    (tmp_path / "handles/acme").mkdir()
    assert known(await journals.load("acme")) == {}
    assert "handles are lost" in caplog.text


async def test_the_file_stays_small(journals, tmp_path, monkeypatch):
    """With handles open it is written anew when most of it is over; without, it is emptied."""
    monkeypatch.setattr(journal_module, "_SLACK_RECORDS", 50)
    path = tmp_path / "handles/acme"
    journal = await journals.load("acme")
    for number in range(1000):
        journal.opened(f"x{number}", "/x", READ, "9", ANN)
        journal.closed([f"x{number}"])
    assert path.read_bytes().count(b"\n") <= 52
    journal.opened("h1", "/a", READ, "1", ANN)
    with journal.changing_path("/a", "/b"):
        pass
    for number in range(100):
        journal.opened(f"y{number}", "/y", READ, "9", ANN)
        journal.closed([f"y{number}"])
    assert journal._rewriting is not None
    journal.opened("h2", "/c", APPEND, "2", ANN)  # while it is being written anew
    with journal.changing_path("/b", "/d"):
        pass
    await journal._rewriting
    assert path.read_bytes().count(b"\n") < 10
    journal.opened("h3", "/e", READ, "3", ANN)
    crash(journal)
    assert known(await journals.load("acme")) == {"h1": "/d", "h2": "/c", "h3": "/e"}
    assert [file.name for file in path.parent.iterdir()] == ["acme"]


async def test_closing_while_it_is_written_anew(journals, tmp_path, monkeypatch):
    """The close waits: the next owner must not meet the writer."""
    monkeypatch.setattr(journal_module, "_SLACK_RECORDS", 10)
    journal = await journals.load("acme")
    journal.opened("h1", "/a", READ, "1", ANN)
    for number in range(10):
        journal.opened(f"y{number}", "/y", READ, "9", ANN)
        journal.closed([f"y{number}"])
    assert journal._rewriting is not None
    await journal.aclose()
    assert journal._rewriting is None
    assert [file.name for file in (tmp_path / "handles").iterdir()] == ["acme"]
    assert known(await journals.load("acme")) == {"h1": "/a"}


async def test_a_full_disk_ends_the_journal_and_nothing_else(
    journals, tmp_path, monkeypatch, caplog
):
    """Rather no journal than one that misses a close."""
    journal = await journals.load("acme")
    journal.opened("h1", "/a", READ, "1", ANN)
    monkeypatch.setattr(journal_module.os, "write", lambda fd, data: len(data) // 2)
    journal.closed(["h1"])
    monkeypatch.undo()
    assert "cannot be written" in caplog.text
    journal.opened("h2", "/b", READ, "2", ANN)
    await journal.aclose()
    assert known(await journals.load("acme")) == {}


async def test_a_fleet_that_starts_anew_has_no_handles(journals, tmp_path):
    journal = await journals.load("acme")
    journal.opened("h1", "/a", READ, "1", ANN)
    crash(journal)
    clear_journals(tmp_path / "handles")
    assert known(await journals.load("acme")) == {}
    clear_journals(tmp_path / "missing")
