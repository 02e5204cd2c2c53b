"""From what a user names (the demo, a folder, a GGUF file, a hub id) to where its weights lie on this machine."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten

from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from mrd_core.demo import MODELS
from mrd_core.errors import UserError
from mrd_core.model.gguf_file import is_gguf
from mrd_core.settings.places import expanded

# What a model or an adapter needs, and nothing that would have to be unpickled.
PATTERNS = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def location_of(source: str, kind: str = "model") -> Path:
    """Return the local folder of a model (or of an adapter: `kind`), fetched from the hub where it is a hub id.

    What was fetched before is taken from the hub's cache when the hub cannot be reached. Of a model it may be a
    GGUF file.

    Raises:
        UserError: No such folder, no such hub id, gated, or unreachable.
    """
    if source in MODELS:
        return MODELS[source]
    path = expanded(source)
    if path.is_dir() or (kind == "model" and is_gguf(path)):
        return path
    if is_path(source):
        wanted = "a folder or a GGUF file" if kind == "model" else "a folder"
        raise UserError(
            f"The {kind} '{source}'",
            f"is not {wanted} on this machine." if path.exists() else "does not exist on this machine.",
            f"Give the folder that the {kind}'s save_pretrained wrote, or a hub id such as org/name.",
        )
    return _fetched(source, kind)


def is_path(source: str) -> bool:
    """Return whether a source, which is no folder, can only be meant as one, and not as a hub id."""
    return source.startswith((".", "/", "~")) or source.count("/") > 1 or Path(source).exists()


def _fetched(source: str, kind: str) -> Path:
    try:
        return Path(snapshot_download(source, allow_patterns=PATTERNS))
    except GatedRepoError as error:
        raise UserError(
            f"The {kind} '{source}'",
            "is gated on the hub.",
            "Accept its licence on its page and log in with `hf auth login`, or give a local folder.",
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"The {kind} '{source}'",
            "is not on the hub, or is private.",
            "Check the id, log in with `hf auth login`, or give a local folder.",
        ) from error
    # The hub's errors are OSErrors; a malformed id and a connection that breaks off are not always.
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"The {kind} '{source}'",
            f"is no local folder, and could not be fetched from the hub: {brief(error)}",
            "Check the id and the network, or download it elsewhere and give the local folder.",
        ) from error


def brief(error: BaseException) -> str:
    """Return the first two lines of an error: torch and peft name the culprit in the second."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shorten(" ".join(lines[:2]) or type(error).__name__, 300, placeholder=" …")
