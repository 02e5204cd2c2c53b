"""Comparisons that are launched in one click: which methods, each under which samplers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mrd_core.unlearning.config import UnlearnConfig


@dataclass(frozen=True)
class Preset:
    """A comparison.

    Attributes:
        title: For people; its runs carry it as the name of their study.
        help: One line that says what it shows.
        methods: Names of the methods.
        samplers: Names of the samplers; each method runs under each of them.
    """

    title: str
    help: str
    methods: tuple[str, ...]
    samplers: tuple[str, ...]


PRESETS = {
    preset.title: preset
    for preset in (
        Preset(
            "SGA against CGA",
            "Gradient ascent on samples drawn uniformly, and drawn in proportion to their MRD.",
            ("ga",),
            ("uniform", "mrd"),
        ),
        Preset(
            "GradDiff, PO, NPO with and without MRD",
            "Three methods with a retain term, each on samples drawn uniformly and by MRD.",
            ("graddiff", "po", "npo"),
            ("uniform", "mrd"),
        ),
    )
}


def configs(preset: Preset, base: UnlearnConfig, seeds: Iterable[int], study: str) -> list[UnlearnConfig]:
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
