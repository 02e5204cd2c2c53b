"""Experiments that hold difficulty against what unlearning really takes, on the user's own model and data."""
