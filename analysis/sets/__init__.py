"""Scored forget sets held against each other: two of them, or one by several runs."""
