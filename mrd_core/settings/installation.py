"""Settings of this installation, read from the environment."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field
from sqlalchemy import URL

from mrd_core.errors import UserError
from mrd_core.settings.configuration import Frozen


class Settings(Frozen):
    """Settings of this installation, read from the environment."""

    home: Path = Field(description="MRD_HOME: where runs and the store live.")
    store_url: str = Field(description="MRD_STORE_URL: SQLAlchemy URL of the run store.")
    upload_limit_mb: int = Field(50, gt=0, description="MRD_UPLOAD_LIMIT_MB: largest forget set [MB].")
    allowed_roots: tuple[Path, ...] = Field(
        description="MRD_ALLOWED_ROOTS: folders (separated as in PATH) that paths typed in the browser may "
        "lie under; by default the working directory and MRD_HOME."
    )

    @classmethod
    def from_environment(cls) -> Settings:
        """Read MRD_HOME, MRD_STORE_URL, MRD_UPLOAD_LIMIT_MB and MRD_ALLOWED_ROOTS, each with its default.

        Raises:
            UserError: The upload limit is no positive whole number.
        """
        limit = os.environ.get("MRD_UPLOAD_LIMIT_MB") or "50"
        if not limit.isdecimal() or int(limit) == 0:
            raise UserError(
                f"MRD_UPLOAD_LIMIT_MB={limit}",
                "is no positive whole number of megabytes.",
                "Set it to one, such as 200, or unset it for 50.",
            )
        home = Path(os.environ.get("MRD_HOME") or Path.home() / ".mrd-lens").expanduser().resolve()
        roots = os.environ.get("MRD_ALLOWED_ROOTS")
        # Put into a text as it is, a `?` or `%` of the folder's name would mean something else.
        url = URL.create("sqlite", database=str(home / "store.db"))
        return cls(
            home=home,
            store_url=os.environ.get("MRD_STORE_URL") or url.render_as_string(),
            upload_limit_mb=int(limit),
            allowed_roots=tuple(Path(root).expanduser().resolve() for root in roots.split(os.pathsep))
            if roots
            else (Path.cwd(), home),
        )
