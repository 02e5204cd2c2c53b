"""Whether the nodes of a cluster can reach what a worker needs: run directories, the interpreter, the store."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

import psutil
from sqlalchemy import make_url

from mrd_core.errors import UserError
from mrd_core.runs.schema import POSTGRES
from mrd_core.settings.command import ROOT
from mrd_core.settings.installation import Settings

# Types of file systems that only the machine sees that has the disk.
OF_ONE_MACHINE = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "ramfs", "overlay", "apfs", "hfs", "vfat"}
)
# Where SQLite's log cannot be shared by processes of several machines, or locks are not to be trusted.
OF_A_NETWORK = frozenset(
    {
        *("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "fuse.ceph", "cifs", "smb3", "glusterfs"),
        *("fuse.glusterfs", "orangefs", "pvfs2", "panfs", "wekafs", "9p", "afs", "fuse.sshfs", "daos"),
    }
)


def file_system(path: Path) -> str:
    """Return the type of the file system that a path lies on; "" where the system does not say it."""
    there = path.resolve()
    mounted = [part for part in psutil.disk_partitions(all=True) if there.is_relative_to(part.mountpoint)]
    # Of several at one place the last one was mounted over the others.
    return (
        max(enumerate(mounted), key=lambda item: (len(item[1].mountpoint), item[0]))[1].fstype if mounted else ""
    )


def check(settings: Settings, directory: Path, elsewhere: Collection[str]) -> None:
    """Refuse what cannot work on other nodes.

    Args:
        settings: Of this installation.
        directory: Of the run.
        elsewhere: Names of nodes that are not this machine.

    Raises:
        UserError: Names what the nodes cannot reach, and the way out.
    """
    url = make_url(settings.store_url)
    if url.get_backend_name() == "sqlite" and url.database:
        _check_sqlite(Path(url.database), elsewhere)
    if not elsewhere:
        return
    for what, path in (
        ("The run directory", directory),
        ("The program", ROOT),
        ("The interpreter", Path(sys.prefix)),
    ):
        if (kind := file_system(path)) in OF_ONE_MACHINE:
            raise UserError(
                f"{what} {path}",
                f"lies on a disk of this machine ({kind}), which {_named(elsewhere)} cannot see.",
                "Put it on a file system that all nodes share (MRD_HOME for runs), or run here: --launcher local.",
            )


def _check_sqlite(database: Path, elsewhere: Collection[str]) -> None:
    kind = file_system(database.parent)
    if kind in OF_A_NETWORK or (elsewhere and kind in OF_ONE_MACHINE):
        why = (
            f"lies on a network file system ({kind}), where SQLite loses what several machines write"
            if kind in OF_A_NETWORK
            else f"lies on a disk of this machine ({kind}), which {_named(elsewhere)} cannot see"
        )
        raise UserError(
            f"The run store {database}",
            f"{why}.",
            "Keep the store in PostgreSQL: MRD_STORE_URL=postgresql+psycopg://USER@HOST/NAME, after "
            f"`{sys.executable} -m pip install -r {POSTGRES}`.",
        )


def _named(nodes: Collection[str]) -> str:
    shown = sorted(nodes)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
