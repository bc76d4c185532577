"""fs9.providers.jail: both walks find the same files and never leave the root."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from fs9.errors import BackendUnavailable, InvalidArgument
from fs9.providers import jail
from fs9.providers.jail import KernelJail, WalkJail, open_jail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Inside: a directory, a file, links to everywhere. Beside it: a secret."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "f").write_text("inside")
    (root / "up").symlink_to("..")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "in").symlink_to("d")
    (root / "dangling").symlink_to("nowhere")
    (root / "loop").symlink_to("loop")
    (root / "proc").symlink_to("/proc/self/root")
    return root


@pytest.fixture(params=[KernelJail, WalkJail], ids=["kernel", "walk"])
def held(request, root: Path) -> Iterator[jail.Jail]:
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    held = request.param(fd, os.fstat(fd).st_dev)
    yield held
    held.close()


def located(held: jail.Jail, path: str) -> os.stat_result:
    fd = held.locate(path)
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("path", "host"), [("/", "."), ("/d", "d"), ("/d/f", "d/f"), ("/d/e", "d/e")]
)
def test_locates_what_is_there(held, root, path, host):
    """A path is located to the file of that name below the root."""
    assert os.path.samestat(located(held, path), os.stat(root / host))


def test_the_parent_is_the_directory_and_the_last_name(held, root):
    """`parent` gives what the *at calls need."""
    with held.parent("/d/f") as entry:
        assert entry.name == b"f"
        assert os.path.samestat(os.fstat(entry.directory_fd), os.stat(root / "d"))
        assert os.path.samestat(entry.stat(), os.stat(root / "d/f"))
    with held.parent("/new") as entry:
        assert os.path.samestat(os.fstat(entry.directory_fd), os.stat(root))
        assert entry.stat() is None


@pytest.mark.parametrize("name", ["up", "out", "in", "dangling", "loop", "proc"])
def test_a_last_link_is_located_itself(held, root, name):
    """The link is found, not its target, wherever that is."""
    assert os.path.samestat(located(held, f"/{name}"), os.lstat(root / name))


@pytest.mark.parametrize("name", ["up", "out", "in", "dangling", "loop", "proc", "d/f"])
@pytest.mark.parametrize("below", ["secret", "f", "x/y", "root/d/f", "etc/passwd"])
def test_nothing_is_reached_through_a_link_or_a_file(held, name, below):
    """A link, also one that stays inside, or a file in the middle is ENOTDIR."""
    for call in (held.locate, held.parent):
        with pytest.raises(NotADirectoryError):
            call(f"/{name}/{below}")


def test_a_middle_link_as_the_parent_is_not_a_directory(held):
    """Creating something through a link is refused as reading is."""
    for path in ("/out/new", "/in/new", "/dangling/new", "/loop/new"):
        with pytest.raises(NotADirectoryError):
            held.parent(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "d",
        "//",
        "//d",
        "/d/",
        "/d//f",
        "/.",
        "/..",
        "/./d",
        "/../secret",
        "/d/../../secret",
        "/d/..",
        "/d/../d/f",
        "/d/.",
        "/../../../../../../etc/passwd",
        "/d/f\0",
        "/\0",
        "\0",
        "/.fs9-tmp-",
        "/.fs9-tmp-0123/x",
        "/d/.fs9-tmp-0123",
        "/\udc80",
    ],
)
def test_hostile_paths_are_refused_before_any_call(held, path, monkeypatch):
    """No system call sees an empty, `.`, `..` or reserved name, a NUL or a lone surrogate."""
    monkeypatch.setattr(os, "open", lambda *_, **__: pytest.fail("os.open"))
    monkeypatch.setattr(os, "dup", lambda *_: pytest.fail("os.dup"))
    monkeypatch.setattr(jail, "_openat2", lambda *_: pytest.fail("openat2"))
    for call in (held.locate, held.locate_cached, held.parent):
        with pytest.raises(InvalidArgument):
            call(path)


@pytest.mark.parametrize("name", ["...", "..d", ". ", "\\..\\x", "%2e%2e", " ", "a\nb", "é", "~"])
def test_odd_names_are_ordinary(held, root, name):
    """What only looks like a trick is a name."""
    (root / name).write_text("odd")
    assert os.path.samestat(located(held, f"/{name}"), os.stat(root / name))


def test_missing_and_too_long_names_are_the_systems_errors(held):
    """ENOENT and ENAMETOOLONG come through."""
    for path, number in (
        ("/no", errno.ENOENT),
        ("/no/where", errno.ENOENT),
        ("/" + "x" * 256, errno.ENAMETOOLONG),
        ("/x" * 3000, errno.ENOENT if isinstance(held, WalkJail) else errno.ENAMETOOLONG),
    ):
        with pytest.raises(OSError) as caught:
            held.locate(path)
        assert caught.value.errno == number


def test_the_root_has_no_parent(held):
    """`parent` of the root is EISDIR."""
    with pytest.raises(IsADirectoryError):
        held.parent("/")


def test_the_root_is_held_by_descriptor(held, root):
    """Moving the root, or putting a link in its place, changes nothing."""
    moved = root.rename(root.parent / "moved")
    root.symlink_to(root.parent / "outside")
    assert os.path.samestat(located(held, "/d/f"), os.stat(moved / "d/f"))
    with pytest.raises(FileNotFoundError):
        held.locate("/secret")


def test_descriptors_are_not_inherited_and_not_leaked(held):
    """Every descriptor is close-on-exec, and refused paths leave none behind."""
    before = len(os.listdir("/proc/self/fd"))
    for path in ("/d/f", "/d", "/"):
        fd = held.locate(path)
        assert not os.get_inheritable(fd)
        os.close(fd)
    for path in ("/no", "/out/x/y", "/d/f/x", "/d/e/no/no"):
        with pytest.raises(OSError):
            held.locate(path)
        with pytest.raises(OSError):
            held.parent(path + "/x")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_mounted_proc_is_not_crossed_by_its_magic_links(held, root):
    """/proc/self/root is a magic link: refused in the middle of a path like any other."""
    proc = WalkJail if isinstance(held, WalkJail) else KernelJail
    inner = proc(os.open("/proc/self", os.O_PATH | os.O_DIRECTORY))
    try:
        with pytest.raises(NotADirectoryError):
            inner.locate("/root/etc")
        with pytest.raises(NotADirectoryError):
            inner.parent("/cwd/new")
    finally:
        inner.close()


@pytest.fixture
def local(root: Path, monkeypatch) -> Iterator[KernelJail]:
    """A jail on a local file system, whatever the tests run on."""
    monkeypatch.setattr(jail, "_is_local", lambda fd: True)
    held = open_jail(root)
    assert isinstance(held, KernelJail)
    yield held
    held.close()


def test_cached_paths_are_located_without_waiting(local, root):
    """What was just looked up is in the kernel's cache; a missing name is known to miss."""
    os.close(local.locate("/d/f"))
    fd = local.locate_cached("/d/f")
    assert fd is not None
    assert os.path.samestat(os.fstat(fd), os.stat(root / "d/f"))
    os.close(fd)
    with pytest.raises(NotADirectoryError):
        local.locate_cached("/out/secret")


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EXDEV])
def test_what_is_not_cached_is_none(local, monkeypatch, number):
    """A path that is not in memory, or leads to another mount, sends the caller to a thread."""

    def refused(*_):
        raise OSError(number, "")

    monkeypatch.setattr(jail, "_openat2", refused)
    assert local.locate_cached("/d/f") is None


def test_a_walk_never_claims_to_be_cached(root):
    """Without openat2 nobody can tell, so every lookup goes to a thread."""
    walk = WalkJail(os.open(root, os.O_PATH), os.stat(root).st_dev)
    assert walk.locate_cached("/d/f") is None
    walk.close()


def test_on_a_network_nothing_is_inline(root, monkeypatch):
    """A file system that is not known as local has no cached lookups and no local device."""
    monkeypatch.setattr(jail, "_LOCAL", set())
    held = open_jail(root)
    assert held.local_device is None
    assert held.locate_cached("/d/f") is None
    held.close()
    proc = os.open("/proc", os.O_PATH)
    monkeypatch.undo()
    assert not jail._is_local(proc)
    os.close(proc)


def test_a_kernel_without_resolve_cached_still_resolves(root, monkeypatch):
    """Linux 5.6 to 5.11 say EINVAL to RESOLVE_CACHED: then only the inline path is off."""
    real = jail._openat2

    def older(fd, name, how):
        if how == jail._HOW_CACHED:
            raise OSError(errno.EINVAL, "")
        return real(fd, name, how)

    monkeypatch.setattr(jail, "_openat2", older)
    monkeypatch.setattr(jail, "_is_local", lambda fd: True)
    held = open_jail(root)
    try:
        assert isinstance(held, KernelJail)
        assert held.locate_cached("/d/f") is None
        assert os.path.samestat(located(held, "/d/f"), os.stat(root / "d/f"))
    finally:
        held.close()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_without_openat2_the_walk_takes_over(root, monkeypatch, number):
    """An old kernel (ENOSYS) and a seccomp filter (EPERM) both select the walk."""

    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(jail, "_openat2", refused)
    held = open_jail(root)
    assert isinstance(held, WalkJail)
    held.close()


def test_without_proc_there_is_no_jail(root, monkeypatch):
    """`reopen` needs /proc/self/fd; without it opening the jail says so and leaks nothing."""
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(jail, "descriptor_path", lambda fd: f"/no/proc/{fd}")
    with pytest.raises(BackendUnavailable, match="/proc"):
        open_jail(root)
    assert len(os.listdir("/proc/self/fd")) == before


def test_reopen_gives_the_same_file_whatever_its_name(held, root):
    """A file that was renamed and replaced after `locate` is still the one opened."""
    fd = held.locate("/d/f")
    (root / "d/f").rename(root / "d/g")
    (root / "d/f").symlink_to("/etc/passwd")
    again = jail.reopen(fd, os.O_RDONLY)
    assert os.read(again, 100) == b"inside"
    os.close(again)
    os.close(fd)
