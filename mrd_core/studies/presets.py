"""What forms of the pages begin with: settings of the studies that ship with the program."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from mrd_core.settings.command import Nested
from mrd_core.studies.study import read, shipped

# Studies on the demo's model.
SMALL = "small-"


class Comparison(NamedTuple):
    """What a study compares.

    Attributes:
        title: For people.
        about: One line that says what it shows.
        methods: Names of the methods.
        samplers: Names of the samplers; each method runs under each of them.
    """

    title: str
    about: str
    methods: tuple[str, ...]
    samplers: tuple[str, ...]


def comparison(name: str) -> Comparison:
    """Return the methods and samplers that the first unlearning table of a shipped study crosses."""
    study = read(str(shipped()[name]))
    table = study.content.unlearn[0]
    return Comparison(
        study.title, study.content.about, tuple(table["method"]), tuple(table["curriculum"]["sampler"])
    )


@cache
def demo_settings(kind: str) -> Nested:
    """Return what the studies on the demo's model set of an evaluation or an experiment; nothing without one."""
    for name, path in shipped().items():
        content = read(str(path)).content
        experiments = [table for table in content.experiment if table["kind"] == kind]
        tables = content.evaluate if kind == "evaluate" else experiments
        if name.startswith(SMALL) and tables:
            return dict(tables[0])
    return {}
