"""Evaluation: what a model has forgotten and what it has kept, as values per sample and their aggregates."""
