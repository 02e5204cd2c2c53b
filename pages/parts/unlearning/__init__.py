"""Parts of the page Unlearning."""
