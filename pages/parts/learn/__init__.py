"""Parts of the page Learn: a file a step, and the walk through them."""
