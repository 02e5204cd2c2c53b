"""Parts of the page on two score runs or more."""
