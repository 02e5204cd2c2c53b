"""Passes that go through a model together end on the bits that each would have alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from mrd_core.model.layer_major import NestedLayersError
from mrd_core.model.likelihood import Passes, Scorer
from mrd_core.model.loading import settle
from mrd_core.model.perturbation import Noise, PerturbedModel
from mrd_core.runs import Cancelled
from mrd_core.scoring.files import ScoreFiles
from mrd_core.scoring.mrd import SPREAD_PAIRS, Estimator, measure_baseline
from tests.support import families, tiny
from tests.support.marks import few_in_the_gate

SAMPLES = tiny.encoded(*range(4, 40, 3))
NOISE = Noise(3, 1e-2)
# A layer of theirs runs within another one, or behind the body: they are read batch by batch.
NESTED = {
    *("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "fuyu"),
    *("hrm_text", "inkling2_loop_text", "inkling2_text", "inkling_text", "megatron-bert", "modernbert-decoder"),
    *("rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm", "xlm-roberta"),
    *("xlm-roberta-xl", "xmod", "zaya"),
}


def passes(network: torch.nn.Module, batch_tokens: int = 60) -> Passes:
    return Passes(tiny.reader(Scorer(network), batch_tokens), SAMPLES)


def bits(network: torch.nn.Module) -> list[bytes]:
    return [parameter.numpy().tobytes() for parameter in network.parameters()]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("index", [0, SPREAD_PAIRS])
@pytest.mark.parametrize("mode", ["antithetic", "plain"])
def test_a_unit_by_layers_has_the_bits_of_one_by_passes(tied, index, mode):
    network = tiny.llama(tie_word_embeddings=tied)
    over, before = passes(network), bits(network)
    baseline = measure_baseline(over, torch.float32)
    units = []
    for streamed, by_layers in ((False, False), (True, False), (True, True)):
        model = PerturbedModel(over.scorer, NOISE, streamed=streamed)
        estimator = Estimator(over, model, baseline, mode, with_parts=mode == "antithetic", by_layers=by_layers)
        units.append(vars(estimator.unit(index)))
    for other in units[1:]:
        for name, values in units[0].items():
            np.testing.assert_array_equal(values, other[name], err_msg=name, strict=True)
    assert bits(network) == before


def test_a_layer_is_made_once_for_each_sign_whatever_the_number_of_batches():
    over = passes(tiny.llama())
    assert len(over.batches) > 3
    model, made = PerturbedModel(over.scorer, NOISE, streamed=True), []

    def counted(sign):
        transform = model.transform(0, sign)

        def noting(name, weight):
            if weight.numel():
                made.append((sign, name))
            return transform(name, weight)

        return noting

    over.by_layers([counted(1), counted(-1)])
    names = [name for name, _ in over.scorer.named_parameters()]
    assert sorted(made) == sorted((sign, name) for sign in (1, -1) for name in names)
    # Both signs of a layer follow each other.
    layer = [sign for sign, name in made if "layers.1." in name]
    assert layer == [1] * (len(layer) // 2) + [-1] * (len(layer) // 2)


def test_passes_that_are_stopped_between_layers_leave_the_model_as_it_was():
    network = tiny.llama()
    over, before = passes(network), bits(network)
    looks = iter(range(20))

    def stop() -> None:
        if next(looks) == 17:
            raise Cancelled("enough")

    over.reader = tiny.reader(over.scorer, 60, before_batch=stop)
    with pytest.raises(Cancelled):
        over.by_layers([PerturbedModel(over.scorer, NOISE, streamed=True).transform(0, 1)])
    assert bits(network) == before
    assert not any(module._forward_pre_hooks for module in over.scorer.modules())


def test_a_limit_of_memory_changes_the_way_and_no_bit(tiny_model, tiny_forget_set, cli, tmp_path):
    words = ("score", "--model", tiny_model, "--forget-set", tiny_forget_set, "--workers", 1, "--draws", 24)
    found = {}
    # The weights of the model and half of a second copy; or room for everything.
    whole = (tiny_model / "model.safetensors").stat().st_size / 2**30
    for name, limit in (("little", 1.5 * whole), ("much", 1.0)):
        outcome = cli(*words, "--device-memory", limit, "--batch-tokens", 64, "--out", tmp_path / name)
        assert outcome.code == 0, outcome.said
        found[name] = ScoreFiles(tmp_path / name)
    plans = {name: files.read_plan() for name, files in found.items()}
    assert (plans["little"].streamed, plans["little"].by_layers) == (True, True)
    assert (plans["much"].streamed, plans["much"].by_layers) == (False, False)
    assert "both signs of a pair and all batches" in plans["little"].reasons["memory"]
    for name in ("scores", "draws", "tokens", "probes"):
        frames = [pd.read_parquet(getattr(files, name)) for files in found.values()]
        pd.testing.assert_frame_equal(*frames, check_exact=True)


@pytest.mark.parametrize("family", few_in_the_gate(families.FAMILIES, "llama", "qwen3", "gemma3_text", "mamba"))
def test_families_go_by_layers_to_the_bits_of_passes_alone(family):
    network = families.built(family).eval().requires_grad_(False)
    settle(network)
    over = Passes(tiny.reader(Scorer(network), 60), families.samples())
    model = PerturbedModel(over.scorer, NOISE, streamed=True)
    transforms = [model.transform(0, sign) for sign in (1, -1)]
    if family in NESTED:
        with pytest.raises(NestedLayersError):
            over.by_layers(transforms)
        return
    together, _ = over.by_layers(transforms)
    for sign, log_probs in zip((1, -1), together, strict=True):
        with model.draw(0, sign):
            np.testing.assert_array_equal(over(), log_probs)
