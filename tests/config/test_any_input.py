"""Whatever stands in a file or a variable: settings or a ConfigError, never anything else."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fs9.config import SETTINGS, ConfigError, Flags, Settings, load

NAMES = st.sampled_from(
    sorted({name for setting in SETTINGS for name in setting.key.split(".")} | {"path", "config"})
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["${A}", "${B:-1}", "${C", "info", "/", "memfs", "a=debug"])
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
FILES = st.one_of(
    st.binary(max_size=64),
    st.text(max_size=64).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.dictionaries(NAMES, TREES, max_size=3).map(lambda tree: yaml.safe_dump(tree).encode()),
)
BOUNDED = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def outcome(flags: Flags, environ: dict[str, str], place: Path) -> str:
    """The refusal's text; empty when there are settings."""
    try:
        result = load(flags, environ, place, system_file=place / "none")
    except ConfigError as error:
        return str(error)
    assert isinstance(result, Settings)
    return ""


@BOUNDED
@given(data=FILES, value=st.text(st.characters(exclude_characters="\0"), max_size=8))
def test_any_file(tmp_path: Path, data: bytes, value: str):
    """Invariant tested: a file gives settings, or a ConfigError that names the file."""
    path = tmp_path / "any.yaml"
    path.write_bytes(data)
    text = outcome(Flags({}, path), {"A": value}, tmp_path)
    assert text == "" or str(path) in text or text.startswith("server.limits.")


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.env], ids=lambda s: s.key)
@BOUNDED
@given(value=SCALARS.map(str))
def test_any_variable(tmp_path: Path, setting, value: str):
    """Invariant tested: a variable gives settings, or a ConfigError that names the variable."""
    text = outcome(Flags({}), {setting.env: value}, tmp_path)
    assert text == "" or setting.env in text
