"""Room for what only an unfinished run needs, on another disk than that of the runs: MRD_SCRATCH.

A file system that many machines share is slow; checkpoints are large and soon replaced. What goes there is
a link in the run directory, so that whoever reads or removes it need not know.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from mrd_core.errors import UserError
from mrd_core.runs.files import SCRATCH_PREFIX, RunDirectory


def lend(files: RunDirectory, scratch: Path | None) -> list[str]:
    """Put what may lie there on the scratch disk, unless it is there already; say what an earlier attempt lost.

    Args:
        files: Of the run.
        scratch: Folder of the scratch disk; None leaves all in the run directory.

    Returns:
        A sentence for each part that lies on the disk of another machine, or is gone.

    Raises:
        UserError: The folder cannot be written to.
    """
    lost = []
    for artifact in files.artifacts().values():
        place = files.directory / artifact.path
        if not artifact.large:
            continue
        if place.is_symlink() and not place.exists():
            lost.append(f"{artifact.path} of the earlier attempt is not there: {place.readlink()}.")
            place.unlink()
        if scratch is not None and not place.exists():
            place.symlink_to(_folder(scratch, files.directory.name), target_is_directory=True)
    return lost


def _folder(scratch: Path, run: str) -> Path:
    try:
        scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Path(tempfile.mkdtemp(prefix=f"{SCRATCH_PREFIX}{run}-", dir=scratch))
    except OSError as error:
        raise UserError(
            f"MRD_SCRATCH={scratch}",
            f"cannot be written to: {error.strerror}.",
            "Name another folder, or unset it.",
        ) from error
