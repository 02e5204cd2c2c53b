"""The data that runs of a study will read, so that they can be looked at before the first run begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from pydantic import BaseModel

from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.request import load_sets
from mrd_core.model.location import is_path
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.settings.configuration import RunConfig

# What of an evaluation says nothing of what is asked.
_ASKED = {"model", "unlearn_run", "score_run", "reference", "study"}


def inputs(config: RunConfig) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what a run reads from this machine's disk: a key, alike for the same data, and what reads it.

    Runs that it builds on need not be there. What lies on the hub is left to the run, which fetches it.
    """
    if isinstance(config, EvaluateConfig):
        # Its own files are read with the runs that it builds on.
        if config.data is not None and is_path(config.data):
            yield config.model_dump_json(exclude=_ASKED), partial(load_sets, config)
        return
    for samples in _sets_in(config):
        if is_path(samples.source):
            yield samples.model_dump_json(), partial(read, samples)


def _sets_in(settings: object) -> Iterator[ForgetSetConfig]:
    if isinstance(settings, ForgetSetConfig):
        yield settings
    elif isinstance(settings, BaseModel):
        for name in type(settings).model_fields:
            yield from _sets_in(getattr(settings, name))
