"""The command line: `mrd-lens`. Each module holds the commands of one noun; none is loaded before it is called."""
