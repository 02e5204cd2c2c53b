"""Parts of the page Characteristics."""
