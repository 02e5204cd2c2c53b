"""`mrd-lens evaluate`."""

from __future__ import annotations

from cli.form import RUN_FOLDER, command_of, json_option, out_option
from cli.jobs import make
from mrd_core.evaluation.command import EVALUATE

evaluate = command_of(EVALUATE, make, [out_option(RUN_FOLDER), json_option("End with one line of JSON.")])
