"""Tests of pagefs, its stores and its behaviour after crashes."""
