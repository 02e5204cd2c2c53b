"""Finished runs of the demo that ship with the program: `files` opens them, `making` makes them anew."""
