"""completion: a script for each shell that knows the commands and their options."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from fs9.cli.completion import SHELLS
from fs9.cli.main import COMMANDS

if TYPE_CHECKING:
    from tests.cli.conftest import Fs9


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts(fs9: Fs9, shell: str) -> None:
    code, out, err = fs9("completion", shell)
    assert (code, err) == (0, "")
    for command in COMMANDS:
        assert command in out
    assert "no-clobber" in out


def test_bash_understands_it(fs9: Fs9) -> None:
    """The script is loaded, and completes a command's name."""
    script = fs9("completion", "bash")[1]
    ask = 'COMP_WORDS=(fs9 doc); COMP_CWORD=1; _shtab_fs9; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True)
    assert done.stdout.strip() == "doctor"


def test_the_other_program_has_a_script_of_its_own(fs9: Fs9) -> None:
    """With its own commands, down to their options; `fs9` has them under `admin`."""
    script = fs9("completion", "bash", "--program", "fs9-admin")[1]
    assert "_shtab_fs9_admin fs9-admin\n" in script
    assert "--requests-per-second" in script
    assert "_shtab_fs9_admin_quotas_set" in fs9("completion", "bash")[1]
