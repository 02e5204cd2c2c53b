"""Intervals, groups and censored outcomes."""
