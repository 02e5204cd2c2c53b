"""Studies: files that say which runs there are to be, of which those are carried out that are not there yet.

Loads no torch.
"""
