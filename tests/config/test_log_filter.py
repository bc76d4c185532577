"""`logging.filter`: levels by logger."""

import pytest

from fs9.config.log_filter import parse_filter


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("", {}),
        ("debug", {"": 10}),
        ("WARN", {"": 30}),
        (" info , fs9.http = trace ,", {"": 20, "fs9.http": 5}),
        ("fs9.vfs=error", {"fs9.vfs": 40}),
    ],
)
def test_a_filter_maps_loggers_to_levels(text, levels):
    """A bare level is for all loggers that are not named."""
    assert parse_filter(text) == levels


@pytest.mark.parametrize(
    "text", ["loud", "a=", "=info", "a=info,a=debug", "info,debug", "a=b=info="]
)
def test_a_wrong_filter_is_refused(text):
    """Unknown levels, missing names and repetitions are errors."""
    with pytest.raises(ValueError, match=r"no level|missing|twice"):
        parse_filter(text)
