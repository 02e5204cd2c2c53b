"""Memory Removal Difficulty as its paper describes it (Feng et al. 2025, Algorithm 1), one sample at a time.

Our own transcription, kept naive on purpose: for each sample and each draw the weights are reloaded and
perturbed, the sample runs alone through both models, and a loop adds up its tokens. It is what a user of the
published algorithm pays, and nothing in the product uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mrd_core.model.encoding import EncodedSample

Weights = Mapping[str, Tensor]


def copy_of_weights(model: Any) -> Weights:
    """Return the model's weights as they are now, to be reloaded before every draw."""
    return {name: weight.clone() for name, weight in model.state_dict().items()}


@torch.no_grad()
def relative_change(model: Any, weights: Weights, sample: EncodedSample, sigma: float) -> Tensor:
    """Return r_k = Σ_t (P_t(θ) − P_t(θ + δ_k)) / P_t(θ) over the answer, for one fresh δ_k; a scalar.

    The model is left perturbed, as the next call reloads `weights`.
    """
    tokens = torch.from_numpy(sample.tokens).to(model.device)
    model.load_state_dict(weights)
    before = _log_probs(model, tokens)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=sigma)
    after = _log_probs(model, tokens)
    change = torch.zeros((), device=model.device)
    for position in sample.answer.nonzero()[0].tolist():
        change += (before[position] - after[position]) / before[position]
    return change


def _log_probs(model: Any, tokens: Tensor) -> Tensor:
    """Return log p of each token after the first [nats], shape (L − 1,), from a pass of this sample alone."""
    log_probs = model(input_ids=tokens[None]).logits[0, :-1].log_softmax(-1)
    chosen: Tensor = log_probs.gather(1, tokens[1:, None]).squeeze(1)
    return chosen
