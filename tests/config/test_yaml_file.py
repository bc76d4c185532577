"""A YAML text becomes values with lines; variables bring values and nothing else."""

import pytest

from fs9.config import ConfigError
from fs9.config.yaml_file import Scalar, Table, parse, plain, scalar


def read(text: str, **environ: str) -> object:
    return plain(parse(text, "f.yaml", environ))


def refused(text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml", environ)
    return str(caught.value)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "null\n"])
def test_a_file_without_values_is_empty(text):
    """A file of comments is an empty table, not an error."""
    assert read(text) == {}


def test_values_have_yaml_types_and_lines():
    """Each value has its YAML type, and knows the line where it stands."""
    tree = parse("a: 1\nb:\n  - x\n  - 2.5\nc: {d: true, e: null}\n", "f.yaml", {})
    assert plain(tree) == {"a": 1, "b": ["x", 2.5], "c": {"d": True, "e": None}}
    assert tree.key_lines == {"a": 1, "b": 2, "c": 5}
    assert tree.items["b"].items[1].line == 4


@pytest.mark.parametrize(
    ("written", "environ", "expected"),
    [
        ("${A}", {"A": "text"}, "text"),
        ("${A}", {"A": "12"}, 12),
        ("${A}", {"A": "true"}, True),
        ("${A}", {"A": ""}, None),
        ('"${A}"', {"A": "12"}, "12"),
        ("'${A}'", {"A": "12"}, "12"),
        ("x-${A}-${B}", {"A": "1", "B": "2"}, "x-1-2"),
        ("${A:-9999}", {}, 9999),
        ("${A:-9999}", {"A": ""}, 9999),
        ("${A:-9999}", {"A": "1"}, 1),
        ("${A:-}", {}, None),
        ("${A:-a b:c}", {}, "a b:c"),
        ("$A $$ $(A)", {"A": "1"}, "$A $$ $(A)"),
        ("$${A}", {"A": "1"}, "${A}"),
        ("${A}", {"A": "${B}", "B": "no"}, "${B}"),
        ("${A}", {"A": "k: [1, 2]  # c"}, "k: [1, 2]  # c"),
        ("${A}", {"A": "2001-99-99"}, "2001-99-99"),
    ],
)
def test_variables_are_expanded_in_values(written, environ, expected):
    """A variable's text becomes a value, read again when unquoted, and never structure."""
    assert read(f"k: {written}\n", **environ) == {"k": expected}


def test_variables_are_expanded_nowhere_else():
    """Comments and keys are left alone: an unset variable there is no error."""
    assert read("# ${NO}\n'${NO}': 1  # ${NO}\n") == {"${NO}": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: ${NO}\n", "f.yaml:2: the variable NO is not set (${NO:-default}?)"),
        ("b: ${1x}\n", "f.yaml:1: expected ${NAME} or ${NAME:-default}; write $${ for ${"),
        ("b: '${A'\n", "f.yaml:1: expected ${NAME} or ${NAME:-default}; write $${ for ${"),
        ("a: 1\na: 2\n", "f.yaml:2: a is given twice, first in line 1"),
        ("a:\n - b\n c: 1\n", "f.yaml:3: not valid YAML: "),
        ("a: [1\nb: 2\n", "f.yaml:2: not valid YAML: "),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: not valid YAML: "),
        ("a: *nowhere\n", "f.yaml:1: not valid YAML: "),
        ("- a\n", "f.yaml:1: expected keys and values at the top"),
        ("text\n", "f.yaml:1: expected keys and values at the top"),
        ("a: 2001-01-01\n", "f.yaml:1: a value of type timestamp is not understood; quote it"),
        ("a: !!python/object:os.system x\n", "f.yaml:1: a value of type python/"),
        ("[a, b]: 1\n", "f.yaml:1: a key must be a plain word"),
        ("a: &x [*x]\n", "f.yaml:1: "),
        ("a: " + "[" * 5000, "f.yaml: nested too deeply"),
        ("a: !!int x\n", "f.yaml:1: not a valid number; quote it if it is text"),
        ("a: \x01\n", "f.yaml:1: not valid YAML: special characters are not allowed"),
    ],
)
def test_what_cannot_be_read_names_file_and_line(text, expected):
    """Every refusal says in which line, and what is expected there."""
    assert refused(text).startswith(expected)


def test_an_alias_is_the_value_it_names():
    """Anchors and aliases work as YAML says."""
    assert read("a: &x {b: 1}\nc: *x\n") == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "value"), [("12", 12), ("yes", True), ("a b", "a b"), ("2001-01-01", "2001-01-01")]
)
def test_a_text_from_outside_is_a_plain_scalar(text, value):
    """Variables and flags are read by YAML's rules; their own text is kept."""
    assert scalar(text) == Scalar(0, value, text, expanded=True)


def test_an_empty_table_has_no_keys():
    """The empty file is a Table like others."""
    assert parse("", "f.yaml", {}) == Table(1, {}, {})
