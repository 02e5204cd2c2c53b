"""Many passes that go through a model together, a layer at a time.

Where no second copy of the weights fits, a layer's perturbed weights are made when it runs. Pass by pass that is
once for every batch and sign. Here each pass stops in front of every layer until all have come there: a layer's
weights are made once for each sign, and all batches go through them. What a pass computes is the model's own code,
call by call, so a pass ends on the bits that it would have alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from greenlet import getcurrent, greenlet
from torch import Tensor, nn

from mrd_core.model.perturbation import Transform, layers, unread


@dataclass(frozen=True)
class Call:
    """One pass.

    Attributes:
        run: Calls the model.
        weights: Which of the weights it sees, by their place among the transforms.
    """

    run: Callable[[], Tensor]
    weights: int


class NestedLayersError(RuntimeError):
    """A layer runs within another one, so that a pass cannot stop in front of it."""


def together(
    module: nn.Module,
    calls: Sequence[Call],
    transforms: Sequence[Transform],
    before: Callable[[int], None] = lambda _: None,
) -> list[Tensor]:
    """Return what the calls return, each with every parameter replaced by its own `transform(name, parameter)`.

    Passes take turns at a layer in the order of the transforms, then of the calls. A weight that is read while its
    layer does not run is NaN.

    Args:
        module: The model.
        calls: The passes.
        transforms: The weights that they see.
        before: Called with the index of a call before it goes on; raises to stop all.

    Raises:
        NestedLayersError: A layer of the model runs within another one.
    """
    procession = _Procession(module, calls, transforms, before)
    try:
        return procession.results()
    finally:
        procession.disband()


class _Procession:
    """The passes on their way through the layers."""

    def __init__(
        self,
        module: nn.Module,
        calls: Sequence[Call],
        transforms: Sequence[Transform],
        before: Callable[[int], None],
    ) -> None:
        self._calls, self._transforms, self._before = calls, transforms, before
        self._names = {parameter: name for name, parameter in module.named_parameters()}
        self._originals = {parameter: parameter.data for parameter in self._names}
        # In the precision of each transform, as weights are read while their layers wait, too.
        self._absent = [
            {parameter: unread(name, parameter.data, transform) for parameter, name in self._names.items()}
            for transform in transforms
        ]
        self._parameters = dict(layers(module))
        self._hub = getcurrent()
        # The passes that are in a layer.
        self._inside: set[greenlet] = set()
        self._handles = [layer.register_forward_pre_hook(self._stop) for layer in self._parameters]
        self._handles += [layer.register_forward_hook(self._leave, always_call=True) for layer in self._parameters]
        self._passes = [greenlet(call.run) for call in calls]
        self._waiting: dict[int, nn.Module] = {}
        self._results: dict[int, Tensor] = {}

    def results(self) -> list[Tensor]:
        """Lead all of them through."""
        for index, call in enumerate(self._calls):
            _put(self._absent[call.weights])
            self._go_on(index)
        while self._waiting:
            layer = next(iter(self._waiting.values()))
            here = sorted(index for index, at in self._waiting.items() if at is layer)
            for weights, transform in enumerate(self._transforms):
                seen = [index for index in here if self._calls[index].weights == weights]
                if seen:
                    self._through(layer, transform, self._absent[weights], seen)
        return [self._results[index] for index in range(len(self._calls))]

    def disband(self) -> None:
        """End those that are on their way, and put the model's own weights back."""
        for each in self._passes:
            if each and not each.dead:
                each.throw()
        for handle in self._handles:
            handle.remove()
        _put(self._originals)

    def _stop(self, layer: nn.Module, _arguments: object) -> None:
        if getcurrent() in self._inside:
            raise NestedLayersError(type(layer).__name__)
        self._hub.switch(layer)
        self._inside.add(getcurrent())

    def _leave(self, *_call: object) -> None:
        self._inside.discard(getcurrent())

    def _go_on(self, index: int) -> None:
        self._before(index)
        answer = self._passes[index].switch()
        if self._passes[index].dead:
            self._results[index] = answer
        else:
            self._waiting[index] = answer

    def _through(
        self, layer: nn.Module, transform: Transform, absent: dict[nn.Parameter, Tensor], seen: Sequence[int]
    ) -> None:
        _put(absent)
        _put({each: transform(self._names[each], self._originals[each]) for each in self._parameters[layer]})
        for index in seen:
            del self._waiting[index]
            self._go_on(index)
        _put({each: absent[each] for each in self._parameters[layer]})


def _put(values: Mapping[nn.Parameter, Tensor]) -> None:
    for parameter, value in values.items():
        parameter.data = value
