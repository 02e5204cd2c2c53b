"""Parts of the page on audits."""
