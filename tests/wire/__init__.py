"""Tests of `fs9.wire`."""
