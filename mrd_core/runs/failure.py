"""From an exception to what a user should read: the cause in one line and what to do next."""

from __future__ import annotations

import errno
import traceback

from mrd_core.errors import UserError
from mrd_core.runs.record import RunError

OUT_OF_MEMORY_PHRASES = ("out of memory", "can't allocate memory", "cannot allocate memory")
DISK_FULL_PHRASES = ("database or disk is full", "no space left on device")
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
# A name that no file can have, a folder that is none or the other way round, a file system that takes no writes,
# is broken, or was taken away.
OF_A_PLACE = (
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV),
)


def describe(error: BaseException) -> RunError:
    """Return the run error that tells a user about `error`; only a UserError goes without its traceback."""
    name = type(error).__name__
    if isinstance(error, UserError):
        return RunError(name, _sentence(error.cause), error.fix)
    cause, advice = _recognise(error)
    return RunError(name, _sentence(cause), advice, "".join(traceback.format_exception(error)))


def readable(error: OSError) -> UserError | None:
    """Return what to say of a full disk, a file that was removed or is not one's own; None of other errors."""
    if error.errno in DISK_FULL_ERRNOS:
        return UserError("The disk", "is full.", "Free some space, or move MRD_HOME to a larger disk.")
    if error.errno == errno.ENOENT and error.filename is None:
        return UserError("The working directory", "was removed.", "Go to another one, such as with `cd ~`.")
    if isinstance(error, FileNotFoundError):
        fix = "Put it back where it was, or run again what made it."
        return UserError(f"The file {error.filename}", "is missing.", fix)
    if isinstance(error, PermissionError):
        return UserError(f"The file {error.filename}", "is not open to this user.", "Correct its permissions.")
    if error.errno in OF_A_PLACE and error.filename is not None:
        return UserError(
            f"The path '{str(error.filename)[:80]}'", f"cannot be used ({error.strerror}).", "Name another one."
        )
    return None


def _recognise(error: BaseException) -> tuple[str, str]:
    # Known by name, because this package does not load torch; torch's CPU allocator raises a RuntimeError.
    memory_error = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if memory_error or (isinstance(error, RuntimeError) and _mentions(error, OUT_OF_MEMORY_PHRASES)):
        return (
            f"Out of memory: {error}" if str(error) else "Out of memory.",
            "Use fewer tokens per batch, a smaller model or dtype, or a larger device; then resume.",
        )
    # SQLite and the safetensors writer report a full disk in words, not by errno.
    disk_error = isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS
    if disk_error or _mentions(error, DISK_FULL_PHRASES):
        return (f"The disk is full: {error}", "Free some space, or move MRD_HOME to a larger disk; then resume.")
    if isinstance(error, FileNotFoundError):
        return f"A file is missing: {error.filename or error}", "Put the file back where it was; then resume."
    if isinstance(error, PermissionError):
        return f"No permission: {error.filename or error}", "Correct the permissions; then resume."
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted at the keyboard.", "Resume the run to go on."
    return (
        str(error).strip() or "The program ended with an unexpected error.",
        "This looks like a defect of the program: read the traceback, and report it with config.json.",
    )


def _mentions(error: BaseException, phrases: tuple[str, ...]) -> bool:
    message = str(error).lower()
    return any(phrase in message for phrase in phrases)


def _sentence(message: str) -> str:
    """Return the first line, closed with a full stop: the advice follows it on the same line."""
    first = message.strip().splitlines()[0].rstrip(" :;,")
    return first if first.endswith((".", "!", "?")) else f"{first}."
