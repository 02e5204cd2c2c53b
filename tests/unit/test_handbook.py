"""The chapters on methods, metrics, experiments and files are what the code declares."""

from __future__ import annotations

from mrd_core.evaluation import handbook as metrics_handbook
from mrd_core.evaluation.metrics import METRICS
from mrd_core.experiments import handbook as experiments_handbook
from mrd_core.experiments.kinds import experiments
from mrd_core.runs import handbook as files_handbook
from mrd_core.runs.kind import kinds
from mrd_core.unlearning.handbook import chapter
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.sampling import SAMPLERS
from tests.conftest import REPOSITORY


def test_the_chapter_in_the_documentation_is_up_to_date() -> None:
    assert (REPOSITORY / "docs" / "unlearning-methods.md").read_text(encoding="utf-8") == chapter()


def test_the_chapter_names_every_method_parameter_and_sampler() -> None:
    text = chapter()
    for method in METHODS.values():
        assert f"`{method.name}`" in text
        assert method.source in text
        for parameter in method.parameters:
            assert f"| `{parameter.name}` | {parameter.default} |" in text
    for sampler in SAMPLERS.values():
        assert f"`{sampler.name}`" in text


def test_the_chapter_on_metrics_is_up_to_date_and_names_them_all() -> None:
    text = metrics_handbook.chapter()
    assert (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8") == text
    for metric in METRICS.values():
        assert f"`{metric.name}`" in text
        assert metric.source in text


def test_the_chapter_on_files_is_up_to_date_and_names_them_all() -> None:
    text = files_handbook.chapter()
    assert (REPOSITORY / "docs" / "files.md").read_text(encoding="utf-8") == text
    for kind in kinds().values():
        assert f"`{kind.name}`" in text
        for artifact in kind.artifacts.values():
            assert f"| `{artifact.path}`" in text
            assert all(f"| `{column.name}` |" in text for column in artifact.columns)


def test_the_chapter_on_experiments_is_up_to_date_and_names_them_all() -> None:
    text = experiments_handbook.chapter()
    assert (REPOSITORY / "docs" / "experiments.md").read_text(encoding="utf-8") == text
    for name, experiment in experiments().items():
        assert f"## `{name}`" in text
        assert all(f"| `{column}` |" in text for part in experiment.parts for column in part.columns)
