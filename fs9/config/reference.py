"""The example file and the reference page, written from the declarations.

`tools/render_settings.py` puts them into the repository and checks that they are current.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, TypeAlias

import yaml

from fs9.config.loader import CONFIG_VARIABLE
from fs9.config.masking import plain_value
from fs9.config.setting import Setting
from fs9.config.settings import RESERVED_KEYS, RESERVED_VARIABLES, SETTINGS
from fs9.limits import GIB, KIB, MIB, TIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_WIDTH = 92

_Tree: TypeAlias = "dict[str, _Tree | Setting]"


# -- fs9.example.yaml -----------------------------------------------------------------------

_EXAMPLE_HEAD = """\
# Settings of fs9: every key, with its default (or an example where there is none).
#
# Copy this file to fs9.yaml, ~/.config/fs9/fs9.yaml or /etc/fs9/fs9.yaml and remove the "#"
# directly before the keys to change. ${NAME} and ${NAME:-default} in a value are replaced by
# environment variables. `fs9 config` shows what is in effect and why; docs/configuration.md
# has the rules.
"""


def example() -> str:
    """The text of `fs9.example.yaml`: loads as it is, and with every key uncommented."""
    return _EXAMPLE_HEAD + "\n" + "\n".join(_example_lines(_tree(), 0)) + "\n"


def _tree() -> _Tree:
    root: _Tree = {}
    for setting in SETTINGS:
        *sections, name = setting.key.split(".")
        branch = root
        for section in sections:
            below = branch.setdefault(section, {})
            assert isinstance(below, dict)
            branch = below
        branch[name] = setting
    return root


def _example_lines(tree: _Tree, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for position, (name, item) in enumerate(tree.items()):
        if position:
            yield ""
        if isinstance(item, Setting):
            for line in textwrap.wrap(_help_with_sources(item), _WIDTH - len(indent)):
                yield f"{indent}# {line}"
            for line in _yaml_lines(name, _example_value(item)):
                yield f"{indent}#{line}"
        else:
            yield f"{indent}{name}:"
            yield from _example_lines(item, depth + 1)


def _help_with_sources(setting: Setting) -> str:
    amount = f" ({_amount(setting)})" if _amount(setting) else ""
    sources = ", ".join(_sources(setting))
    return setting.help + amount + (f" [{sources}]" if sources else "")


def _example_value(setting: Setting) -> object:
    value = setting.default if setting.example is None else setting.example
    return plain_value(value)


def _yaml_lines(name: str, value: object) -> list[str]:
    # A quoted ${NAME} would stay text; PyYAML has no reason to quote one.
    return yaml.safe_dump({name: value}, sort_keys=False, width=_WIDTH).splitlines()


# -- docs/configuration.md ------------------------------------------------------------------

_PAGE_HEAD = f"""\
# Configuration

This page is written from the declarations of the settings (`fs9/config/settings.py`) by
`tools/render_settings.py`; a test fails when it is not current. `fs9 config` prints the
effective settings of an installation, where each came from, and masks the secrets.

## Where settings come from

Later sources win over earlier ones, key by key; every key merges, and a list is replaced as a
whole.

1. The defaults below.
2. Files: `/etc/fs9/fs9.yaml`, then `$XDG_CONFIG_HOME/fs9/fs9.yaml` (`~/.config` when that is
   not set), then `./fs9.yaml`. With `-c FILE` that file alone is read; with the variable
   `{CONFIG_VARIABLE}` the file that it names alone, which also wins over `-c` (and `fs9` says so).
3. Environment variables. An empty variable counts as not set, except `FS9_JWT_SECRET`: an
   empty one overrides the secret of a file, which may turn authentication off.
4. Flags.

A file that cannot be read or is not valid YAML, an unknown key and a value of the wrong type
are errors that name the file, the line and the key. Nothing falls back to a default.

## Variables in files

`${{NAME}}` in a value is replaced by the environment variable; when it is not set, that is an
error. `${{NAME:-default}}` takes the default when the variable is not set or empty. `$${{` is a
literal `${{`. Keys and comments are left alone, and a variable brings a value, never structure.
Between quotes the result stays text; unquoted it is read as YAML reads it, so that
`port: ${{PORT:-9999}}` is a number. In a flow mapping quotes are needed, because braces mean
something there: `server: {{port: "${{PORT}}"}}`. A number in quotes is a number where one is
expected.

## Authentication

Authentication is on when `server.auth.enabled` is true or a secret is set; without a secret
it cannot be on. Make one with `openssl rand -hex 32` and give every server the same.
Listening on an address that other hosts can reach is refused while authentication is off,
unless the flag `--insecure` is given.
"""

_PAGE_RESERVED = """\
## Not available

These keys are known from other versions of the protocol. They are refused, so that nobody
believes they have an effect; so are the environment variables, unless they are empty.
"""


def page() -> str:
    """The text of `docs/configuration.md`."""
    parts = [_PAGE_HEAD, "## Settings\n", *_setting_tables(), _PAGE_RESERVED]
    parts.append(_table(("Key", "Why"), ((f"`{k}`", v) for k, v in RESERVED_KEYS.items())))
    parts.append(
        _table(("Variable", "Why"), ((f"`{k}`", v) for k, v in RESERVED_VARIABLES.items()))
    )
    return "\n".join(parts)


def _setting_tables() -> Iterator[str]:
    sections = {setting.section: None for setting in SETTINGS}
    for section in sorted(sections, key=lambda name: (name == "logging", name)):
        settings = [setting for setting in SETTINGS if setting.section == section]
        yield f"### `{section}`\n" if section else "### Top level\n"
        yield _table(("Key", "Type", "Default", "Meaning"), map(_row, settings))


def _row(setting: Setting) -> tuple[str, ...]:
    sources = "; ".join(_sources(setting))
    meaning = setting.help + (f" ({sources})" if sources else "")
    return f"`{setting.key}`", setting.kind.title, _default_cell(setting), meaning


def _default_cell(setting: Setting) -> str:
    if setting.default_text or setting.default in (None, ""):
        return setting.default_shown
    if isinstance(setting.default, tuple):
        return "pagefs at `/`, below `data_dir`"
    shown = yaml.safe_dump(plain_value(setting.default)).splitlines()[0]
    return f"`{shown}`" + (f" ({_amount(setting)})" if _amount(setting) else "")


def _sources(setting: Setting) -> list[str]:
    env = [f"variable `{setting.env}`"] if setting.env else []
    flag = [f"flag `{setting.flag}`"] if setting.flag else []
    return [*env, *flag]


def _amount(setting: Setting) -> str:
    """A default in bytes as people say it, when that is shorter."""
    size = setting.default
    if setting.kind.title != "bytes" or not isinstance(size, int):
        return ""
    for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"
