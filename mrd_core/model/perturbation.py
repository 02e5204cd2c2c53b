"""Weights that are not the model's own: θ + δ for a draw, or θ in a finer dtype for the baseline.

The model's weights W₀ are never written to. Noise is never added and taken away again (that drifts): each
draw is written afresh as W = W₀ + σz. One δ covers all parameters and is shared by all samples; a tied weight
is one parameter and gets one δ. z is keyed by (seed, draw, parameter name), so that a draw is the same
whatever was computed before it, and by whom.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Transform = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True)
class Noise:
    """Gaussian noise on the weights, δ = σz.

    Attributes:
        seed: Seed of the run.
        sigma: Standard deviation σ.
    """

    seed: int
    sigma: float

    def standard(self, draw: int, name: str, like: Tensor) -> Tensor:
        """Return z ~ N(0, 1) of the shape of `like`, in fp32 or finer, on its device."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        digest = hashlib.blake2b(f"{self.seed}/{draw}/{name}".encode(), digest_size=8).digest()
        # One bit less than 64: torch takes seeds up to 2⁶³ − 1 on every device.
        key = int.from_bytes(digest, "big") >> 1
        generator = torch.Generator(device=like.device).manual_seed(key)
        return torch.empty_like(like, dtype=dtype).normal_(generator=generator)

    def perturbed(self, draw: int, sign: int, name: str, weight: Tensor) -> Tensor:
        """Return W₀ ± σz in fp32 or finer."""
        return self.standard(draw, name, weight).mul_(sign * self.sigma).add_(weight)


class PerturbedModel:
    """Puts θ ± σz in the place of θ, with one extra copy of the weights or one extra layer.

    Args:
        module: The model whose parameters are perturbed, all of them.
        noise: Seed and σ.
        streamed: Perturb each layer as it runs (one extra layer of memory, noise drawn anew for every batch)
            instead of the whole model before the pass (one extra copy of the weights).
        dtype: What W₀ ± σz is rounded to, once; by default the dtype of each weight.
    """

    def __init__(
        self, module: nn.Module, noise: Noise, *, streamed: bool, dtype: torch.dtype | None = None
    ) -> None:
        self._module = module
        self._noise = noise
        self._streamed = streamed
        self._dtype = dtype

    @property
    def sigma(self) -> float:
        """Standard deviation σ of the noise."""
        return self._noise.sigma

    @contextmanager
    def draw(self, index: int, sign: int = 1) -> Iterator[None]:
        """Within it the model is θ + sign · σ · z_index; afterwards it is θ again, bit for bit."""

        with (streamed if self._streamed else copied)(self._module, self.transform(index, sign)):
            yield

    def transform(self, index: int, sign: int) -> Transform:
        """Return what makes θ + sign · σ · z_index of θ, a parameter at a time."""

        def perturbed(name: str, weight: Tensor) -> Tensor:
            return self._noise.perturbed(index, sign, name, weight).to(self._dtype or weight.dtype)

        return perturbed


@contextmanager
def copied(module: nn.Module, transform: Transform) -> Iterator[None]:
    """Replace every parameter by `transform(name, parameter)`; costs one copy of the weights."""
    originals = {parameter: parameter.data for parameter in module.parameters()}
    try:
        for name, parameter in module.named_parameters():
            parameter.data = transform(name, parameter.data)
        yield
    finally:
        for parameter, original in originals.items():
            parameter.data = original


@contextmanager
def streamed(module: nn.Module, transform: Transform) -> Iterator[None]:
    """Replace a layer's parameters by `transform(name, parameter)` only while it runs; costs one layer.

    A weight that is read while its layer does not run is NaN: no pass goes on with weights that were passed over.
    """
    # named_parameters lists a tied weight once, so both of its layers see the same name, and the same noise.
    names = {parameter: name for name, parameter in module.named_parameters()}
    originals = {parameter: parameter.data for parameter in names}
    absent = {parameter: unread(name, parameter.data, transform) for parameter, name in names.items()}
    handles: list[RemovableHandle] = []

    def replace(layer: nn.Module, parameters: list[nn.Parameter]) -> None:
        running: list[list[nn.Parameter]] = []

        def before(*_args: object) -> None:
            # One that a layer around this one has replaced already stays as it is.
            running.append([parameter for parameter in parameters if parameter in waiting])
            waiting.difference_update(running[-1])
            for parameter in running[-1]:
                parameter.data = transform(names[parameter], originals[parameter])

        def after(*_args: object) -> None:
            for parameter in running.pop():
                parameter.data = absent[parameter]
                waiting.add(parameter)

        handles.append(layer.register_forward_pre_hook(before))
        # always_call: the weights go even when the layer runs out of memory.
        handles.append(layer.register_forward_hook(after, always_call=True))

    waiting = set(names)
    for layer, parameters in layers(module):
        replace(layer, parameters)
    try:
        for parameter in names:
            parameter.data = absent[parameter]
        yield
    finally:
        for handle in handles:
            handle.remove()
        for parameter, original in originals.items():
            parameter.data = original


def unread(name: str, weight: Tensor, transform: Transform) -> Tensor:
    """Return NaN in the shape of a weight, in the precision that it will have, in no memory."""
    dtype = transform(name, weight.new_empty(0)).dtype
    return weight.new_full((), torch.nan, dtype=dtype).expand(weight.shape)


def layers(module: nn.Module) -> Iterator[tuple[nn.Module, list[nn.Parameter]]]:
    """Yield what is called with the parameters that it may read, layers of a list as a whole.

    What is within a layer may read weights of its neighbours: mixers of state-space models call no convolution but
    read its weight.
    """
    own = list(module.parameters(recurse=False))
    if own:
        yield module, own
    for child in module.children():
        is_whole = isinstance(module, nn.ModuleList) and not isinstance(child, nn.ModuleList | nn.ModuleDict)
        if is_whole:
            yield child, list(child.parameters())
        else:
            yield from layers(child)


def checksum(module: nn.Module) -> int:
    """Return an integer that changes when any weight of `module` changes, on whatever device it is."""
    digest = hashlib.blake2b(digest_size=8)
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    for name, parameter in module.named_parameters():
        bits = parameter.detach().view(integers[parameter.element_size()]).flatten()
        for part in torch.split(bits, 1 << 22):
            # Weighted by place, so that two weights that change places are noticed too.
            weighted = part * torch.arange(1, part.numel() + 1, device=part.device)
            digest.update(f"{name}/{int(weighted.sum())}".encode())
    return int.from_bytes(digest.digest(), "big")
