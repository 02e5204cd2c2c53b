"""PID namespaces, in which a machine is another system to those outside."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache

# Where users may make namespaces of their own it takes no privilege.
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")
NAMESPACES = (("unshare", "--user", "--map-root-user", *NAMESPACE[1:]), NAMESPACE)


@cache
def namespace() -> tuple[str, ...]:
    """Return what starts a command in a PID namespace of its own; nothing where none can be made."""
    made = (way for way in NAMESPACES if subprocess.run([*way, "true"], capture_output=True).returncode == 0)
    return next(made, ()) if shutil.which("unshare") else ()
