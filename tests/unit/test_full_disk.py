"""A run on a disk that gets full while it works: it says so, and goes on when there is room again."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from benchmarks.every_kind import Workplace
from benchmarks.fingerprints import Fingerprint, differences, fingerprint
from mrd_core.runs import Run, RunState
from mrd_core.runs.kind import kinds
from tests.support.commands import PATIENCE, Outcome, ended, started
from tests.support.disks import fill, small_disk
from tests.support.runs import lost

pytestmark = [pytest.mark.slow, pytest.mark.long]

MEGABYTES = 60


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A data root on a small disk, with a finished score run."""
    with small_disk(tmp_path_factory.mktemp("disk") / "home", MEGABYTES) as home:
        yield Workplace.at(home)


@pytest.fixture(autouse=True)
def _here(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRD_HOME", str(place.settings.home))
    monkeypatch.delenv("MRD_STORE_URL", raising=False)


def undisturbed(place: Workplace, kind: str) -> Fingerprint:
    """Return what a run of a kind leaves behind on a disk with room for it."""
    run = place.submitted(kind)
    outcome = ended(started("run", run.directory))
    assert outcome.code == 0, outcome.err
    results = fingerprint(run, place.store)
    place.store.delete(run.id)
    return results


def carried_out_on_a_full_disk(place: Workplace, run: Run) -> Outcome:
    """Carry a run out, and fill the disk as soon as it works; there is room again when it has ended."""
    process = started("run", run.directory)
    deadline = time.monotonic() + PATIENCE
    while place.store.get(run.id).state is not RunState.RUNNING:
        assert time.monotonic() < deadline, "the worker does not begin"
        time.sleep(0.05)
    ballast = fill(place.settings.home)
    try:
        return ended(process)
    finally:
        ballast.unlink()


@pytest.mark.parametrize("kind", kinds())
def test_it_names_the_full_disk_and_resumes_to_the_same_results(place: Workplace, kind: str) -> None:
    expected = undisturbed(place, kind)
    run = place.submitted(kind)
    outcome = carried_out_on_a_full_disk(place, run)
    assert outcome.code != 0
    assert "disk is full" in outcome.said.lower()
    # Where the store had no room for it, what the worker left says how it ended.
    failed = place.store.get(run.id)
    failed = failed if failed.state is RunState.FAILED else lost(place.store)[0]
    assert failed.error
    assert (failed.state, "disk is full" in failed.error.cause.lower()) == (RunState.FAILED, True)
    resumed = ended(started("runs", "resume", run.id))
    assert resumed.code == 0, resumed.err
    assert differences(fingerprint(run, place.store), expected) == []
    place.store.delete(run.id)
