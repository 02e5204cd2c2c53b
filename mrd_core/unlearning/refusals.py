"""Refusal answers: what preference optimisation teaches a model to say in the place of a sample's answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from mrd_core.errors import UserError

SHIPPED = Path(__file__).parent / "refusals.txt"


def load(path: Path = SHIPPED) -> tuple[str, ...]:
    """Return the refusals in the file at `path`, one a line; blank lines and outer blanks do not count.

    Raises:
        UserError: The file cannot be read, is not UTF-8, or has no refusal in it.
    """
    try:
        text = path.read_text(encoding="utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise UserError(
            str(path),
            f"It cannot be read ({error.strerror or error}).",
            "Check the path and its permissions, or leave it out for the refusals that ship with the project.",
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            str(path), f"The byte at offset {error.start} is not UTF-8.", "Save the file as UTF-8."
        ) from error
    refusals = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not refusals:
        raise UserError(str(path), "The file is empty.", "Write at least one refusal answer into it, one a line.")
    return refusals


def choose(refusals: Sequence[str], seed: int, sample_id: str, step: int) -> str:
    """Return the refusal that `sample_id` is taught at `step`: another one each time, the same in every replay.

    It is uniform over `refusals` and depends on nothing but the arguments, so neither the batch nor a resume
    changes it.
    """
    key = f"refusal/{seed}/{step}/{sample_id}".encode()
    drawn = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
    return refusals[drawn % len(refusals)]
