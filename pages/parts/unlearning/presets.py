"""Comparisons that are launched in one click, each a study that ships with the program."""

from __future__ import annotations

from collections.abc import Iterable

from mrd_core.studies.presets import Comparison, comparison
from mrd_core.unlearning.config import UnlearnConfig

# By title; their runs carry it as the name of their study.
PRESETS = {preset.title: preset for preset in (comparison("sga-against-cga"), comparison("graddiff-po-npo"))}


def configs(preset: Comparison, base: UnlearnConfig, seeds: Iterable[int], study: str) -> list[UnlearnConfig]:
    """Return a run for each setting and seed; one seed after the other, so that early ends leave whole seeds.

    Args:
        preset: What is compared.
        base: All other settings. Those of its method are not used: every method has its own defaults.
        seeds: Shared by all settings.
        study: Name that holds the runs together.
    """
    shared = base.model_dump() | {"study": study, "parameters": {}}
    return [
        UnlearnConfig.model_validate(
            shared | {"seed": seed, "method": method, "curriculum": shared["curriculum"] | {"sampler": sampler}}
        )
        for seed in seeds
        for method in preset.methods
        for sampler in preset.samplers
    ]
