"""Tests: the tree mirrors the tree of the code."""
