"""Parts of the page Difficulty."""
