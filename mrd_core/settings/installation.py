"""Settings of this installation, read from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field
from sqlalchemy import URL, make_url

from mrd_core.errors import UserError
from mrd_core.settings import places
from mrd_core.settings.configuration import Frozen
from mrd_core.settings.places import expanded, working_directory

_HOME = ".mrd-lens"


class Settings(Frozen):
    """Settings of this installation, read from the environment."""

    home: Path = Field(description="MRD_HOME: where runs and the store live.")
    store_url: str = Field(description="MRD_STORE_URL: SQLAlchemy URL of the run store.")
    scratch: Path | None = Field(
        None, description="MRD_SCRATCH: folder for checkpoints, in the place of the run directories."
    )
    upload_limit_mb: int = Field(50, gt=0, description="MRD_UPLOAD_LIMIT_MB: largest forget set [MB].")
    unpacked_limit_mb: int = Field(
        100, gt=0, description="MRD_UNPACKED_LIMIT_MB: largest file when it is unpacked [MB]."
    )
    row_limit: int = Field(200_000, gt=0, description="MRD_ROW_LIMIT: most rows of a file.")
    cell_limit: int = Field(4_000_000, gt=0, description="MRD_CELL_LIMIT: most cells of a file, rows × columns.")
    folder_limit: int = Field(10_000, gt=0, description="MRD_FOLDER_LIMIT: most files in a folder of data.")
    launcher: Literal["local", "slurm", "ray"] = Field(
        "local", description="MRD_LAUNCHER: where runs are carried out, unless a run says otherwise."
    )
    allowed_roots: tuple[Path, ...] = Field(
        description="MRD_ALLOWED_ROOTS: folders (separated as in PATH) that paths typed in the browser may "
        "lie under; by default the working directory and MRD_HOME."
    )

    @classmethod
    def from_environment(cls) -> Settings:
        """Read each setting from the variable that its description begins with, or take its default.

        Raises:
            UserError: A limit is no positive whole number, or a home is not known.
        """
        home = expanded(os.environ.get("MRD_HOME") or f"~/{_HOME}").resolve()
        roots = os.environ.get("MRD_ALLOWED_ROOTS")
        own = tuple(path for path in (working_directory(), home) if path)
        return cls(
            home=home,
            store_url=os.environ.get("MRD_STORE_URL") or _store_in(home),
            scratch=expanded(scratch).resolve() if (scratch := os.environ.get("MRD_SCRATCH")) else None,
            launcher=_launcher(),
            **{field: _limit(field) for field in cls.model_fields if "limit" in field},
            allowed_roots=tuple(expanded(root).resolve() for root in roots.split(os.pathsep)) if roots else own,
        )

    @property
    def of_workers(self) -> dict[str, str]:
        """The variables that a worker of this installation is given; with the password of the store."""
        return {"MRD_HOME": str(self.home), "MRD_STORE_URL": self.store_url}

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a fresh shell must set to find the same runs under the same limits; no password."""
        user = places.home()
        is_default = user is not None and self.home == (user / _HOME).resolve()
        variables = {} if is_default else {"MRD_HOME": str(self.home)}
        if self.store_url != _store_in(self.home):
            url = make_url(self.store_url)
            variables["MRD_STORE_URL"] = self.store_url if url.password is None else url.render_as_string()
        for field, info in Settings.model_fields.items():
            if "limit" in field and getattr(self, field) != info.default:
                variables[f"MRD_{field.upper()}"] = str(getattr(self, field))
        return variables


def _store_in(home: Path) -> str:
    # Put into a text as it is, a `?` or `%` of the folder's name would mean something else.
    return URL.create("sqlite", database=str(home / "store.db")).render_as_string()


def _launcher() -> Any:
    name = os.environ.get("MRD_LAUNCHER") or "local"
    known = get_args(Settings.model_fields["launcher"].annotation)
    if name not in known:
        raise UserError(f"MRD_LAUNCHER={name}", "is no launcher.", f"Set it to {', '.join(known)}, or unset it.")
    return name


def _limit(field: str) -> int:
    name, default = f"MRD_{field.upper()}", Settings.model_fields[field].default
    limit = os.environ.get(name) or str(default)
    if not (limit.isascii() and limit.isdecimal() and int(limit)):
        raise UserError(
            f"{name}={limit}", "is no positive whole number.", f"Set it to one, or unset it for {default}."
        )
    return int(limit)
