"""The suites of an evaluation: which tables each reads, and which sets it makes of them."""
