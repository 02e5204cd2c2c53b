"""What a run is about, as its row in the store says it, so that a list need not open every directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrd_core.runs.files import CONFIG_FILE

# What people call the demo's; anything else is called by the end of its path.
DEMO = {"model": "the demo model", "forget_set": "Demo forget set"}
INHERITED = ("method", *DEMO)

Subject = dict[str, str | None]


def subject(config: Mapping[str, Any]) -> Subject:
    """Return score_run, study, method, model and forget_set, each for people; None for what it is not about.

    Args:
        config: Content of a config.json. What it does not say of the last three, the runs that it builds on say,
            where their directories are still there.
    """
    about = {name: _text(config.get(name)) for name in ("score_run", "study")} | _own(config)
    for link in ("unlearn_run", "score_run"):
        earlier = _text(config.get(link))
        says = _own(_config_in(Path(earlier))) if earlier else {}
        about |= {name: says[name] for name in INHERITED if says and about[name] is None}
    return about


def subject_in(directory: Path) -> Subject:
    """Return what the run in a directory is about; nothing where that was removed by hand."""
    about = subject(_config_in(directory))
    return about | {"score_run": str(Path(about["score_run"]).resolve()) if about["score_run"] else None}


def _own(config: Mapping[str, Any]) -> Subject:
    own = {"method": _text(config.get("method"))} | {name: _called(config.get(name), name) for name in DEMO}
    # The model that an unlearning run made goes by the one that it was made from.
    return own | {"model": None} if config.get("unlearn_run") else own


def _called(settings: Any, name: str) -> str | None:
    source = _text(settings.get("source")) if isinstance(settings, Mapping) else None
    return DEMO[name] if source == "demo" else source and Path(source).name


def _text(value: Any) -> str | None:
    return str(value) if value else None


def _config_in(directory: Path) -> dict[str, Any]:
    try:
        config = json.loads((directory / CONFIG_FILE).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
