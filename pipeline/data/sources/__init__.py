"""Demonstrations that people bring: one file a format."""
