"""The conformance suite: what every provider must do, over every way to it."""

import pytest

for module in ("file_suite", "suite", "table"):
    pytest.register_assert_rewrite(f"tests.conformance.{module}")
