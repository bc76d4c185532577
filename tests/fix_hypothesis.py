"""How Hypothesis runs here: without a time limit per example, which a busy machine would break."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("fs9", deadline=None)
settings.load_profile("fs9")
