"""Parts of the pages, a folder for each."""
