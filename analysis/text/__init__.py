"""Reading texts: pipeline, language, syntax, n-grams, corpora."""
