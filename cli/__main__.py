"""`python -m cli`, and `python …/cli`, as jobs are started."""

import sys
from pathlib import Path

if __name__ == "__main__":
    if not __package__:
        # Started by its folder, whatever the search path and the working directory: the packages beside it are
        # wanted, and not the modules in it.
        sys.path[0] = str(Path(__file__).resolve().parents[1])

    from cli.door import main

    main()
