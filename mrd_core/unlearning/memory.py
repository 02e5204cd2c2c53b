"""What an unlearning step holds at a time, before it is taken: counted tensor by tensor. Loads no torch.

Counted is what torch keeps of a decoder whose blocks are those of Llama (two RMS norms, attention without a matrix
of scores, a gated feed-forward layer; Touvron et al. 2023), in steps after the first, when the optimiser has its
state. Other families come out alike; experts and recurrent layers do not. What texts take that are read without
gradients is left out: such batches are halved where memory runs out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mrd_core.runs.records import Record
from mrd_core.unlearning.config import UnlearnConfig
from mrd_core.unlearning.methods import METHODS
from mrd_core.unlearning.methods.method import Method, parsed, steered_layer

BYTES = {"float32": 4, "bfloat16": 2, "float64": 8}
# Bytes of state for each byte of a trained weight; a paged one gives way to what else a GPU has to hold.
MOMENTS = {"adamw_torch": 2.0, "sgd": 0.0, "sign_sgd": 0.0, "paged_adamw_8bit": 0.0}
# For each weight, where the state has a precision of its own: two moments, with a scale for every 256 numbers.
MOMENTS_8BIT = 2 * (1 + 4 / 256)
NAMES = {
    "width": ("hidden_size", "n_embd", "d_model"),
    "inner": ("intermediate_size", "n_inner", "ffn_dim"),
    "layers": ("num_hidden_layers", "n_layer"),
    "heads": ("num_attention_heads", "n_head"),
    "words": ("vocab_size",),
}


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder.

    Attributes:
        parameters: Its weights.
        width: Of the stream between layers, d.
        inner: Of the feed-forward layers, f.
        layers: How many.
        queries: Width of all queries together, q.
        keys: Width of all keys together, k; that of the values, too.
        words: Of the vocabulary, V.
    """

    parameters: int
    width: int
    inner: int
    layers: int
    queries: int
    keys: int
    words: int

    @classmethod
    def of(cls, settings: Mapping[str, Any], parameters: int) -> Shape | None:
        """Return it, given the config.json of a model; None where that says something else."""
        text = settings.get("text_config") or settings
        sizes: dict[str, int] = {
            name: next((text[key] for key in keys if isinstance(text.get(key), int)), 0)
            for name, keys in NAMES.items()
        }
        width, heads = sizes["width"], sizes["heads"]
        # As GPT-2 has it where nothing is said.
        sizes["inner"] = sizes["inner"] or 4 * width
        if not all(sizes.values()):
            return None
        head = text.get("head_dim") or width // heads
        groups = text.get("num_key_value_heads") or heads
        return cls(parameters, width, sizes["inner"], sizes["layers"], heads * head, groups * head, sizes["words"])

    @property
    def of_layer(self) -> int:
        """Weights of a layer."""
        d, f, q, k = self.width, self.inner, self.queries, self.keys
        return 2 * d * q + 2 * d * k + 3 * d * f + 2 * d

    def adapter(self, rank: int) -> int:
        """Return the weights of a LoRA adapter on all linear layers but the head."""
        d, f, q, k = self.width, self.inner, self.queries, self.keys
        return self.layers * rank * ((d + q) + 2 * (d + k) + (q + d) + 2 * (d + f) + (f + d))


class MemoryPlan(Record):
    """What is held on each device [bytes].

    Attributes:
        weights: Those of the model, and of an adapter.
        gradients: Those of what is trained, once all are there.
        optimiser: Its state.
        activations: What the layers keep of a micro-batch for the backward pass.
        logits: What the head makes of it, and its gradient.
        reference: The second copy of the weights that a KL retain term may need.
        peak: The most at a time: not the sum, since gradients come as activations go.
        least: The same with one sample at a time.
        free: What was free before the model was loaded; None where nobody looked.
        length: Tokens of the longest text.
    """

    weights: int
    gradients: int
    optimiser: int
    activations: int
    logits: int
    reference: int
    peak: int
    least: int
    free: int | None = None
    length: int = 0

    @property
    def in_words(self) -> str:
        """What makes the peak, for people."""
        parts = {
            "weights": self.weights,
            "gradients": self.gradients,
            "the optimiser's state": self.optimiser,
            "activations": self.activations,
            "logits": self.logits,
            "the starting model": self.reference,
        }
        spelt = ", ".join(f"{name} {size(held)}" for name, held in parts.items() if held)
        return f"{size(self.peak)} on each device at most: {spelt}; not all at the same time"


def remedies(config: UnlearnConfig, peak_of: Callable[[UnlearnConfig], int], most: int) -> list[str]:
    """Return the options that bring a run down to `most` bytes on each device, the mildest first; each alone.

    Args:
        config: Of the run.
        peak_of: Plans the peak of a run [bytes].
        most: What there is [bytes].
    """
    now = config.optimiser
    changes: list[tuple[str, dict[str, Any]]] = [
        (f"--micro-batch {half}", {"micro_batch": half}) for half in (config.micro_batch() // 2, 1) if half
    ]
    if not now.gradient_checkpointing:
        changes.append(("--gradient-checkpointing", {"gradient_checkpointing": True}))
    if now.name == "adamw_torch":
        changes.append(("--optimiser adamw_8bit", {"name": "adamw_8bit"}))
    if now.name != "sgd":
        changes.append(("--optimiser sgd", {"name": "sgd"}))
    if not now.lora_rank:
        changes.append(("--lora-rank 8", {"lora_rank": 8}))
        changes.append(
            ("--lora-rank 8 --gradient-checkpointing", {"lora_rank": 8, "gradient_checkpointing": True})
        )
    tried = {
        option: peak_of(config.model_copy(update={"optimiser": now.model_copy(update=change)}))
        for option, change in changes
    }
    return [option for option, peak in tried.items() if peak <= most]


def size(held: float) -> str:
    """Return a number of bytes for people: `1.5 GiB`, `12 MiB`."""
    return f"{held / 2**30:.3g} GiB" if held >= 2**30 else f"{held / 2**20:.3g} MiB"


def planned(
    config: UnlearnConfig,
    shape: Shape,
    length: float,
    scored: float,
    *,
    dtype: str,
    on_gpu: bool,
    processes: int = 1,
) -> MemoryPlan:
    """Plan the memory of a run.

    Args:
        config: Of the run.
        shape: Of its model.
        length: Tokens of its longest text.
        scored: Of these, those of the answer.
        dtype: Precision of the weights.
        on_gpu: Whether torch's optimisers move all weights at a time, as they do on a GPU.
        processes: How many share a batch.
    """

    def step(samples: int) -> _Step:
        return _Step(config, shape, samples, length, scored, BYTES[dtype], on_gpu, processes)

    usual = step(config.micro_batch(processes))
    return MemoryPlan(
        weights=usual.weights,
        gradients=usual.gradients,
        optimiser=usual.state,
        activations=usual.activations,
        logits=usual.logits,
        reference=usual.reference,
        peak=usual.peak,
        least=step(1).peak,
        length=math.ceil(length),
    )


@dataclass(frozen=True)
class _Step:
    """One step, as `planned` is given it.

    Attributes:
        samples: In a micro-batch.
        width: Bytes of a weight.
    """

    config: UnlearnConfig
    shape: Shape
    samples: int
    length: float
    scored: float
    width: int
    on_gpu: bool
    processes: int

    @property
    def method(self) -> Method:
        return METHODS[self.config.method]

    @property
    def tokens(self) -> int:
        """Of a micro-batch, padding included."""
        return math.ceil(self.samples * self.length)

    @property
    def texts(self) -> int:
        """Texts of a sample that wait for one backward pass; a refusal is taken to be as long as the answer."""
        return 2 if self.method.refuses_beside else 1

    @property
    def reached(self) -> int:
        """Layers that the gradient reaches: none is above the one whose states are steered."""
        if not self.method.steers:
            return self.shape.layers
        return steered_layer(parsed(self.method, self.config.parameters), self.shape.layers)

    @property
    def is_mixed(self) -> bool:
        return self.config.optimiser.mixed_precision == "bf16"

    @property
    def passing(self) -> int:
        """Bytes of a number in the matrix products."""
        return 2 if self.is_mixed else self.width

    @property
    def fine(self) -> int:
        """Bytes of a number in norms and log-probabilities, which are in fp32 or finer."""
        return max(4, self.width)

    @property
    def rank(self) -> int:
        return self.config.optimiser.lora_rank or 0

    @property
    def trained(self) -> int:
        """Bytes of the weights that gradients move; those of an adapter are in fp32 or finer."""
        if self.rank:
            return self.shape.adapter(self.rank) * self.fine * self.reached // self.shape.layers
        if self.method.steers:
            return (self.shape.words * self.shape.width + self.reached * self.shape.of_layer) * self.width
        return self.shape.parameters * self.width

    @property
    def largest(self) -> int:
        """Bytes of the largest weight that is trained: the embedding."""
        if self.rank:
            return self.rank * max(self.shape.width, self.shape.inner) * self.fine
        return self.shape.words * self.shape.width * self.width

    @property
    def weights(self) -> int:
        adapter = self.shape.adapter(self.rank) * self.fine if self.rank else 0
        return self.shape.parameters * self.width + adapter

    @property
    def rounds(self) -> int:
        """Backward passes of a step in each process, one for each of its micro-batches and of their partners'."""
        each = math.ceil(self.config.optimiser.batch_size / self.samples / self.processes)
        return each * (2 if self.config.retain_weight else 1)

    @property
    def gradients(self) -> int:
        """Those of the step; beside the sums of earlier rounds, where several processes add up."""
        return self.trained * (2 if self.processes > 1 and self.rounds > 1 else 1)

    @property
    def state(self) -> int:
        name = self.config.optimiser.name
        if name in MOMENTS:
            return round(MOMENTS[name] * self.trained)
        return round(MOMENTS_8BIT * self.trained / (self.fine if self.rank else self.width))

    @property
    def reference(self) -> int:
        needs_copy = self.config.needs_starting_model and not self.rank
        return self.shape.parameters * self.width if needs_copy else 0

    @property
    def layer(self) -> int:
        """Bytes that a layer keeps of a token."""
        d, f, q, k = self.shape.width, self.shape.inner, self.shape.queries, self.shape.keys
        wide, fine = self.passing, self.fine
        # What a norm squares and, where its scale is trained, what it scales.
        norms = 2 * d * fine * (1 if self.rank else 2)
        if self.is_mixed or (self.rank and wide < 4):
            # Each of the seven matrices, or its adapter, has a copy of its input in another precision.
            own = wide if self.is_mixed else 4
            inputs = own * (5 * d + (q if self.rank else 0) + f)
        else:
            # Queries, keys and values read the same; the attention keeps what its output is made from.
            inputs = wide * (2 * d + f)
        attention = wide * (2 * q + 2 * k)
        gates = wide * 3 * f
        return norms + inputs + attention + gates + 7 * self.rank * (wide if self.is_mixed else 4)

    @property
    def kept(self) -> int:
        """Bytes of the activations that wait for the backward pass."""
        stream = self.shape.width * (self.fine if self.is_mixed else self.width)
        top = self.shape.width * (self.fine * (1 if self.rank else 2) + (0 if self.rank else self.passing))
        each = stream if self.config.optimiser.gradient_checkpointing else self.layer
        return self.texts * self.tokens * (self.shape.layers * each + top) + self.cast

    @property
    def cast(self) -> int:
        """Bytes of the weights in the precision of mixed passes."""
        return self.shape.parameters * 2 if self.is_mixed else 0

    @property
    def passing_by(self) -> int:
        """Bytes that the backward pass of a layer has beside: what is made anew, where it is, and gradients."""
        return self.tokens * (self.again + 3 * self.shape.inner * self.passing)

    @property
    def again(self) -> int:
        """Bytes that gradient checkpointing makes anew of a token, a layer at a time."""
        return self.layer if self.config.optimiser.gradient_checkpointing else 0

    @property
    def activations(self) -> int:
        return self.kept + self.tokens * self.again

    @property
    def logits(self) -> int:
        """Bytes at the head: log-probabilities and gradients of scored positions, and gradients of all."""
        scored, words = math.ceil(self.samples * self.scored), self.shape.words
        fine = scored * words * self.fine
        wide, everywhere = scored * words * self.passing, self.tokens * words * self.passing
        compared = 4 * fine if self.config.retain.term == "kl" and self.config.retain_weight else 0
        if self.method.steers:
            # They are looked at, and no gradient comes back from them.
            return fine + wide + everywhere
        return self.texts * fine + max(fine, everywhere) + wide + compared

    @property
    def peak(self) -> int:
        standing = self.weights + self.reference + self.state
        earlier = self.gradients if self.rounds > 1 else 0
        head = 0 if self.rank or self.method.steers else self.largest
        at_head = earlier + self.kept + max(self.logits + head, self.passing_by)
        # All gradients are there when the last layer, or the embedding, is reached.
        last = max(self.tokens * (self.layer - self.again) + self.passing_by, self.largest)
        at_end = self.gradients + last + self.cast
        # A copy of what moves at a time: all of it, or two of a single weight.
        copies = {"adamw_torch": 2, "sgd": 1, "sign_sgd": 1}.get(self.config.optimiser.name, 0)
        moving = self.trained if self.on_gpu and copies else copies * self.largest
        return standing + max(at_head, at_end, self.gradients + moving)
