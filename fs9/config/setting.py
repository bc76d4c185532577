"""One declared setting."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fs9.config.kinds import Kind


@dataclass(frozen=True, slots=True)
class Setting:
    """`key` in the file; `field` of Settings, or of Limits when `is_limit`.

    `env` and `flag` are None when there is none. `default_text` describes a default that
    depends on the machine. An `optional` setting may be unset (None). `example` is what the
    example file shows when the default says too little.
    """

    key: str
    kind: Kind
    help: str
    default: object = None
    default_text: str = ""
    env: str | None = None
    flag: str | None = None
    secret: bool = False
    optional: bool = False
    example: object = None
    field: str = ""
    is_limit: bool = False

    def of_field(self, name: str) -> Setting:
        """The same setting, knowing the field that holds it."""
        return dataclasses.replace(self, field=name)

    @property
    def section(self) -> str:
        """The key without its last name; empty at the top level."""
        return self.key.rpartition(".")[0]

    @property
    def summary(self) -> str:
        """The first sentence of the help, as a phrase."""
        first = self.help.partition(". ")[0].partition(";")[0].rstrip(".")
        abbreviation = first[1:2].isupper()  # TCP port
        return first if abbreviation else first[0].lower() + first[1:]

    @property
    def default_shown(self) -> str:
        """The default in words."""
        if self.default_text:
            return self.default_text
        return "none" if self.default in (None, "") else str(self.default)
