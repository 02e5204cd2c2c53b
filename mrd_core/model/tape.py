"""What enters the modules of a pass, and the gradients of what leaves them: the pieces of every sample's gradient.

Hooks on the modules that hold parameters note their inputs on the way forward; on the way back each use of a
parameter becomes a piece. The weights themselves need no gradient. What a module does to its parameters is known
of linear layers, embeddings, and layers that multiply or shift each feature; any other is without a rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from mrd_core.model.pieces import Dense, Outer, Piece, Rows

# Takes the name of a parameter and the piece that one of its uses adds.
Sink = Callable[[str, Piece], None]
# From the gradient of a module's output to pieces by the module's own names.
Backward = Callable[[Tensor], dict[str, Piece]]
Rule = Callable[["Call"], Backward]


class UnknownLayoutError(Exception):
    """A tensor of which it is not known which of its entries belong to which sample."""


@dataclass(frozen=True)
class Call:
    """One call of a module.

    Attributes:
        module: The module.
        args: What it was called with, and kwargs.
        samples: B, and tokens of the padded batch.
    """

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    samples: int
    tokens: int

    @property
    def value(self) -> Tensor:
        """Its first argument."""
        value: Tensor = self.args[0] if self.args else next(iter(self.kwargs.values()))
        return value.detach()

    def by_sample(self, values: Tensor) -> Tensor:
        """Return a tensor whose last axis are features as (B, tokens of a sample, features), in fp32 or finer.

        Raises:
            UnknownLayoutError: Neither its first axis nor its first two together are samples.
        """
        features = values.shape[-1]
        first = len(values)
        # A batch of one sample is that sample's, whatever its layout.
        if self.samples == 1 or (values.dim() > 2 and first == self.samples):
            shape = (self.samples, -1, features)
        elif values.dim() == 2 and first == self.samples * self.tokens:
            shape = (self.samples, self.tokens, features)
        else:
            raise UnknownLayoutError(type(self.module).__name__)
        return values.reshape(shape).to(torch.promote_types(values.dtype, torch.float32))

    def slope(self, name: str) -> Tensor:
        """Return what the module gives with all entries of a parameter at 1, less what it gives with them at 0."""
        own = self.module.get_parameter(name)
        with torch.no_grad():
            one, zero = (
                functional_call(self.module, {name: own.new_full((), value).expand(own.shape)}, *self.called)
                for value in (1.0, 0.0)
            )
            slope: Tensor = one - zero
        return slope

    @property
    def called(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Its arguments."""
        return self.args, dict(self.kwargs)


def _linear(call: Call) -> Backward:
    def backward(gradient: Tensor) -> dict[str, Piece]:
        left, right = call.by_sample(gradient), call.by_sample(call.value)
        return {"weight": Outer(left, right), "bias": Dense(left.sum(1))}

    return backward


def _transposed(call: Call) -> Backward:
    def backward(gradient: Tensor) -> dict[str, Piece]:
        left, right = call.by_sample(gradient), call.by_sample(call.value)
        return {"weight": Outer(right, left), "bias": Dense(left.sum(1))}

    return backward


def _embedding(call: Call) -> Backward:
    # What a family multiplies its embeddings by belongs to their gradient.
    scale = call.slope("weight")

    def backward(gradient: Tensor) -> dict[str, Piece]:
        right = call.by_sample(gradient * scale)
        return {"weight": Rows(call.value.expand(len(right), -1), right)}

    return backward


def _by_feature(call: Call) -> Backward:
    # The output is affine in a gain and in a shift, feature by feature.
    slopes = {name: call.slope(name) for name, _ in call.module.named_parameters()}

    def backward(gradient: Tensor) -> dict[str, Piece]:
        return {name: Dense(call.by_sample(gradient * slope).sum(1)) for name, slope in slopes.items()}

    return backward


def rule_of(module: nn.Module) -> Rule | None:
    """Return how the pieces of a module's own parameters are made; None where it is not known."""
    own = dict(module.named_parameters(recurse=False))
    if isinstance(module, nn.Linear):
        return _linear
    if type(module) is Conv1D:
        return _transposed
    if isinstance(module, nn.Embedding):
        return _embedding
    is_leaf = next(module.children(), None) is None
    if is_leaf and all(parameter.dim() == 1 for parameter in own.values()):
        return _by_feature
    return None


class Tape:
    """Listens to the modules of a network.

    Args:
        modules: The modules that hold parameters: their own names of them → those in the network.

    Attributes:
        sink: Where pieces go.
        skipped: Parameters whose pieces are not wanted.
        is_trying: Whether a rule that does not work sends nothing and is passed over.
        uses: How often each parameter was used since the last `reset`.
        ids: Ids that rows of a parameter were looked up at, since then.
    """

    def __init__(self, modules: Mapping[nn.Module, Mapping[str, str]]) -> None:
        self._modules = modules
        self._shape = (1, 1)
        self._is_muted = False
        self.sink: Sink = lambda _name, _piece: None
        self.skipped: frozenset[str] = frozenset()
        self.is_trying = False
        self.uses: Counter[str] = Counter()
        self.ids: dict[str, Tensor] = {}

    def reset(self) -> None:
        """Forget what was used."""
        self.uses.clear()
        self.ids.clear()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen within."""
        with ExitStack() as stack:
            for module in self._modules:
                stack.callback(module.register_forward_hook(self._note, with_kwargs=True).remove)
            yield

    @contextmanager
    def batch(self, samples: int, tokens: int) -> Iterator[None]:
        """Say how many samples of how many padded tokens pass within."""
        before, self._shape = self._shape, (samples, tokens)
        try:
            yield
        finally:
            self._shape = before

    def _note(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        rule = rule_of(module)
        names = {own: name for own, name in self._modules[module].items() if name not in self.skipped}
        value = args[0] if args else next(iter(kwargs.values()), None)
        is_plain = isinstance(value, Tensor) and isinstance(output, Tensor)
        if self._is_muted or not (rule and names and is_plain and torch.is_grad_enabled()):
            return None
        backward = self._backward_of(rule, Call(module, args, kwargs, *self._shape))
        if backward is None:
            return None
        self.uses.update(names.values())
        if isinstance(module, nn.Embedding):
            output = self._first_of_the_graph(output)
            self.ids |= {name: value for name in names.values() if isinstance(value, Tensor)}
        if output.requires_grad:
            output.register_hook(lambda gradient: self._send(names, backward, gradient))
        return output

    def _backward_of(self, rule: Rule, call: Call) -> Backward | None:
        self._is_muted = True
        try:
            return rule(call)
        except (RuntimeError, TypeError):
            if not self.is_trying:
                raise
            return None
        finally:
            self._is_muted = False

    def _first_of_the_graph(self, output: Tensor) -> Tensor:
        samples = self._shape[0]
        if len(output) == 1 < samples:
            # Positions are looked up once for all samples, and each has a gradient of its own there.
            output = output.expand(samples, *output.shape[1:])
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        # A leaf may not be written over, which some models do.
        return output.clone()

    def _send(self, names: Mapping[str, str], backward: Backward, gradient: Tensor) -> None:
        try:
            with torch.no_grad():
                pieces = backward(gradient)
        except (UnknownLayoutError, RuntimeError):
            if not self.is_trying:
                raise
            return
        for own, name in names.items():
            self.sink(name, pieces[own])
