"""Settings of this installation, read from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from mrd_core.errors import UserError
from mrd_core.settings import places
from mrd_core.settings.configuration import Frozen
from mrd_core.settings.places import expanded, working_directory

_HOME = ".mrd-lens"
STORE_FILE = "store.db"


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
            store_url=_located(os.environ.get("MRD_STORE_URL") or store_url_in(home)),
            # A link may lead to another disk on each node.
            scratch=expanded(scratch).absolute() if (scratch := os.environ.get("MRD_SCRATCH")) else None,
            launcher=_launcher(),
            **{field: _limit(field) for field in cls.model_fields if "limit" in field},
            allowed_roots=tuple(expanded(root).resolve() for root in roots.split(os.pathsep)) if roots else own,
        )

    @property
    def of_workers(self) -> dict[str, str]:
        """The variables that a worker is given, so that it does as it would here; with the store's password."""
        scratch = {"MRD_SCRATCH": str(self.scratch)} if self.scratch else {}
        return {"MRD_HOME": str(self.home), "MRD_STORE_URL": self.store_url} | scratch | self._limits

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a fresh shell must set to find the same runs under the same limits; no password."""
        user = places.home()
        is_default = user is not None and self.home == (user / _HOME).resolve()
        variables = {} if is_default else {"MRD_HOME": str(self.home)}
        if self.store_url != store_url_in(self.home):
            variables["MRD_STORE_URL"] = without_password(self.store_url)
        return variables | self._limits

    @property
    def _limits(self) -> dict[str, str]:
        """The variables of the limits that are no default."""
        limits = {field: info.default for field, info in Settings.model_fields.items() if "limit" in field}
        own = {field: getattr(self, field) for field, default in limits.items() if getattr(self, field) != default}
        return {f"MRD_{field.upper()}": str(limit) for field, limit in own.items()}


def store_url_in(home: Path) -> str:
    """Return the address of the SQLite store in a data root."""
    # Put into a text as it is, a `?` or `%` of the folder's name would mean something else.
    return URL.create("sqlite", database=str(home / STORE_FILE)).render_as_string()


def without_password(address: str | URL) -> str:
    """Return the address of a store as it may be shown; of a malformed one, only the variable that holds it."""
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        return "named by MRD_STORE_URL"
    # Drivers take passwords among their options, too: `?password=`, `?sslpassword=`.
    hidden = {name: "..." for name in url.query if "password" in name}
    if url.password is None and not hidden:
        return str(address)
    return url.update_query_dict(hidden).render_as_string()


def _located(address: str) -> str:
    """Return the address of a store, the path of a SQLite file in it absolute: workers start elsewhere."""
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        # Refused by whoever opens it.
        return address
    path = url.database if url.get_backend_name() == "sqlite" else None
    if not path or Path(path).is_absolute() or path.startswith((":memory:", "file:")):
        return address
    return url.set(database=str(expanded(path).resolve())).render_as_string()


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
