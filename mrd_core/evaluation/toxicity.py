"""How toxic a text is, by the word of a text-classification model such as Toxic-BERT (Hanu and Unitary 2020)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from mrd_core.arrays import FloatArray
from mrd_core.errors import UserError
from mrd_core.model.encoding import IntArray, length_buckets, padded, padding_mask
from mrd_core.model.loading import read_network, read_part, require_safetensors
from mrd_core.model.location import location_of
from mrd_core.model.processes import ALONE, Processes
from mrd_core.model.reader import agreed, evaluating, within_memory

# Longer texts are cut: classifiers of this kind are trained on no more [tokens].
MOST_TOKENS = 512
_NEGATED = re.compile(r"non|not", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A text-classification model with a label for toxic.

    Attributes:
        network: In evaluation mode, in fp32.
        tokenizer: Its tokenizer.
        device: Where token ids go.
        label: Index of the toxic one.
        is_multi_label: Whether labels stand beside each other, rather than one of them holds.
    """

    network: Any
    tokenizer: Any
    device: torch.device
    label: int
    is_multi_label: bool

    @torch.no_grad()
    def probabilities(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the probability of toxic, shape (B,), for token ids and attention mask of shape (B, L)."""
        logits = self.network(input_ids=ids, attention_mask=mask).logits.float()
        toxic: Tensor = (logits.sigmoid() if self.is_multi_label else logits.softmax(-1))[:, self.label]
        return toxic


def load(source: str, device: torch.device) -> Classifier:
    """Load a text-classification model from safetensors; no code that comes with it is run.

    Raises:
        UserError: It is missing, unreachable, gated, has no safetensors, is no text-classification model, or none
            of its labels is for toxic.
    """
    folder = location_of(source, "text-classification model")
    require_safetensors(folder, source)
    # A language model has no head to classify with, and is refused as one that lacks weights.
    network = read_network(AutoModelForSequenceClassification, folder, source, torch.float32)
    settings = network.config
    label, several = toxic_label(source, settings.id2label)
    kind = settings.problem_type
    return Classifier(
        network=network.eval().to(device),
        tokenizer=read_part(AutoTokenizer, folder, source),
        device=device,
        label=label,
        is_multi_label=len(settings.id2label) == 1
        or (several if kind is None else kind == "multi_label_classification"),
    )


def toxic_label(source: str, labels: Mapping[int, str]) -> tuple[int, bool]:
    """Return the index of the label for toxic and whether several labels are of that kind.

    Of several ("toxic", "severe_toxic"), it is the shortest; labels with "non" or "not" in them are the opposite.

    Raises:
        UserError: No label is for toxic; names them.
    """
    toxic = [index for index, name in labels.items() if "toxic" in name.lower() and not _NEGATED.search(name)]
    if not toxic:
        raise UserError(
            f"The text-classification model '{source}'",
            f"has no label for toxic; its labels are: {', '.join(labels.values())}.",
            "Choose a model for toxicity, or name its labels in config.json (id2label).",
        )
    return min(toxic, key=lambda index: len(labels[index])), len(toxic) > 1


def score(
    classifier: Classifier,
    texts: Sequence[str | None],
    batch_tokens: int,
    before_batch: Callable[[], None] = lambda: None,
    processes: Processes = ALONE,
) -> FloatArray:
    """Return the probability that each text is toxic, shape (N,).

    Args:
        classifier: The text-classification model.
        texts: N texts; None has none.
        batch_tokens: Most padded tokens in a batch; halved while memory runs out.
        before_batch: Called before each batch; raises to stop (cancellation).
        processes: Those that score the same texts together.

    Returns:
        NaN where there is no text, or no token in it.

    Raises:
        UserError: Out of memory with a single text in the batch.
    """
    tokens = [_tokens(text, classifier) for text in texts]
    written = np.flatnonzero([len(ids) > 0 for ids in tokens])
    scores = np.full(len(texts), np.nan)
    # Without a padding token, a decoder could not tell where a text of a batch ends.
    padding = classifier.tokenizer.pad_token_id

    def score_all(most: int) -> None:
        for share in agreed(processes, lambda: own_share(most)):
            for chosen, found in share:
                scores[chosen] = found

    def own_share(most: int) -> list[tuple[IntArray, FloatArray]]:
        """Return which texts stand in the batches of this process, and how toxic each is."""
        lengths = np.array([len(tokens[i]) for i in written], dtype=np.int64)
        share = []
        for bucket in processes.share(length_buckets(lengths, most if padding is not None else 1)):
            before_batch()
            chosen = written[bucket]
            batch = [tokens[i] for i in chosen]
            ids = torch.from_numpy(padded(batch, filling=padding or 0)).to(classifier.device)
            mask = torch.from_numpy(padding_mask(batch)).to(classifier.device, torch.int64)
            share.append((chosen, classifier.probabilities(ids, mask).cpu().numpy()))
        return share

    with evaluating(classifier.network):
        within_memory(score_all, batch_tokens)
    return scores


def _tokens(text: str | None, classifier: Classifier) -> IntArray:
    if text is None:
        return np.empty(0, dtype=np.int64)
    tokenizer = classifier.tokenizer
    position_limit = getattr(classifier.network.config, "max_position_embeddings", MOST_TOKENS)
    most = min(MOST_TOKENS, tokenizer.model_max_length, position_limit)
    return np.array(tokenizer(text, truncation=True, max_length=most)["input_ids"], dtype=np.int64)
