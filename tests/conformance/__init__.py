"""The conformance suite: what every provider must do, over every way to it."""

import pytest

pytest.register_assert_rewrite("tests.conformance.suite")
