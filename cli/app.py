"""`mrd-lens app`."""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from mrd_core.settings.command import ROOT

# The link `.streamlit/config.toml` shows this file to whoever starts Streamlit in the checkout.
SETTINGS = Path(__file__).with_name("streamlit.toml")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED, help="Further options of `streamlit run`, which win.")
def app(options: tuple[str, ...]) -> None:
    """Become the server, with the project's settings whatever the working directory's are.

    A variable of Streamlit (STREAMLIT_SERVER_ADDRESS) wins over the setting, an option over both.
    """
    flags = _flags(tomllib.loads(SETTINGS.read_text(encoding="utf-8")))
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), *flags, *options]
    os.execv(sys.executable, command)


def _flags(settings: Mapping[str, Any], section: str = "") -> Iterator[str]:
    """Yield settings as options of `streamlit run`."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flags(value, f"{section}{name}.")
            continue
        # An option would win over its variable.
        if _variable(f"{section}{name}") in os.environ:
            continue
        # An option that may be repeated; a list of colours is one value.
        repeated = isinstance(value, list) and not section.startswith("theme.")
        for one in value if repeated else [value]:
            yield f"--{section}{name}={one if isinstance(one, str) else json.dumps(one)}"


def _variable(option: str) -> str:
    """Return the environment variable that Streamlit reads for an option: STREAMLIT_SERVER_ALLOWED_HOSTS."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", f"STREAMLIT_{option}").replace(".", "_").upper()
