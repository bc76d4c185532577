"""Tests of `fs9.http`."""
