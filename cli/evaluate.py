"""`mrd-lens evaluate`."""

from __future__ import annotations

from cli.form import command_of
from mrd_core.evaluation.command import EVALUATE

evaluate = command_of(EVALUATE)
