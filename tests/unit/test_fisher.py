"""gᵀ(F + λ)⁻¹g, held against whole gradients by plain autograd, one sample at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mrd_core.arrays import FloatArray
from mrd_core.model.fisher import fisher_norms
from mrd_core.model.likelihood import KeepDouble
from tests.support import replay, tiny
from tests.unit.test_measures import adapted, gpt2, tied
from tests.unit.test_products import opaque

SAMPLES, KEPT = tiny.encoded(17, 5, 24, 4), tiny.encoded(9, 30, 6, 12, 21, seed=1)
NETWORKS: dict[str, Callable[[], Any]] = {
    **{"llama": tiny.llama, "gpt2": gpt2, "tied": tied},
    **{"adapted": adapted, "opaque": opaque},
}


def slow(network: Any, damping: float) -> FloatArray:
    own, kept = (replay.gradients(network, encoded) for encoded in (SAMPLES, KEPT))
    fisher = (kept**2).mean(0)
    norms: FloatArray = (own**2 / (fisher + damping * fisher.mean())).sum(1)
    return norms


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("damping", [1.0, 0.01])
@pytest.mark.filterwarnings("ignore:Gradients")
def test_norms_are_those_of_whole_gradients(name: str, damping: float) -> None:
    network = tiny.in_double(NETWORKS[name]())
    with KeepDouble():
        found = fisher_norms(tiny.reader(network, 100), SAMPLES, KEPT, damping)
        np.testing.assert_allclose(found, slow(network, damping), rtol=1e-9)
    network = NETWORKS[name]()
    np.testing.assert_allclose(
        fisher_norms(tiny.reader(network, 100), SAMPLES, KEPT, damping), slow(network, damping), rtol=1e-4
    )


def test_a_sample_without_an_answer_has_none_and_one_that_is_kept_alone_has_its_weights_counted() -> None:
    network = tiny.in_double(tiny.llama())
    with KeepDouble():
        found = fisher_norms(tiny.reader(network, 100), tiny.encoded(17, 1), KEPT)
        assert np.isfinite(found[0])
        assert np.isnan(found[1])
        # With F its own squares and no damping to speak of, every weight that it moves counts as one.
        alone = tiny.encoded(17)
        moved = np.count_nonzero(replay.gradients(network, alone))
        assert fisher_norms(tiny.reader(network, 100), alone, alone, 1e-14)[0] == pytest.approx(moved, rel=0.05)
