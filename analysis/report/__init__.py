"""One report on a score run and all that rests on it: what it says, how it looks, and whether it is true."""
