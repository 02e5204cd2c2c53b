"""Places of this machine: paths as people type them, their home, and where the program was started."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from mrd_core.errors import UserError


def expanded(text: str) -> Path:
    """Return a path that was typed, its `~` or `~name` replaced by the home that it stands for.

    Raises:
        UserError: There is no such home, nor a file of that name.
    """
    # Path.expanduser would take the file `./~name` for a home.
    path = Path(os.path.expanduser(text))  # noqa: PTH111
    if text.startswith("~") and not path.is_absolute() and not path.exists():
        raise UserError(
            f"The path '{text}'",
            "begins with a home that this machine does not know.",
            "Write the path out in full, or set HOME and MRD_HOME.",
        )
    return path


def home() -> Path | None:
    """Return the user's home; None where the machine knows none."""
    with suppress(UserError):
        return expanded("~")
    return None


def working_directory() -> Path | None:
    """Return the directory that the program works in; None where it was removed since."""
    with suppress(OSError):
        return Path.cwd()
    return None
