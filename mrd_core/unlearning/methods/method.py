"""What an unlearning method declares: what it minimises, what it needs, and what can be set. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mrd_core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Average = Literal["tokens", "samples"]
Granularity = Literal["token", "instance", "group"]

FORGETS_WITH = {"answers": "the samples' own answers", "refusals": "a refusal in the place of the answer"}
RETAINS = {"none": "none", "optional": "where a retain set is given", "required": "always; it needs a retain set"}

# Values by name, as `parsed` returns them: the names are those of the loss function's own arguments.
Parameters = Mapping[str, Any]

NOTATION = (
    r"\mathrm{NLL}_i = -\sum_{t \in S_i} \log p_t,\quad n_i = |S_i|,\quad S_i: \text{answer tokens, EOS included},"
    r"\quad \text{ref}: \text{the starting model},\quad \mathcal{R}: \text{retain term}"
)


@dataclass(frozen=True)
class Parameter:
    """A setting of a method: a number within bounds, or one of some choices.

    Exactly one of `bounds` and `choices` is given.

    Attributes:
        name: On the command line, and as an argument of the loss.
        default: Its value where nothing is given.
        unit: Of a number; "" for a pure one.
        source: Where the default comes from.
        help: One line that says what it does.
        bounds: Smallest and largest number, both allowed.
        choices: What it can be.
    """

    name: str
    default: float | str
    unit: str
    source: str
    help: str
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()

    @property
    def type(self) -> Literal["number", "choice"]:
        """What kind of value it takes."""
        return "choice" if self.bounds is None else "number"

    @property
    def domain(self) -> str:
        """What it can be, in words."""
        if self.bounds is None:
            return f"one of {', '.join(self.choices)}"
        return "a number from {:g} to {:g}".format(*self.bounds)

    def parsed(self, setting: float | str) -> float | str:
        """Return `setting` as a value of this parameter.

        Raises:
            UserError: It is none.
        """
        value: float | str | None = setting
        if self.bounds is not None:
            low, high = self.bounds
            try:
                number = math.nan if isinstance(setting, bool) else float(setting)
            except (TypeError, ValueError):
                number = math.nan
            value = number if low <= number <= high else None
        if value is None or (self.choices and value not in self.choices):
            raise UserError(
                f"The parameter {self.name}={setting}",
                f"is not {self.domain}.",
                f"Give {self.domain}, or leave it out for the default, {self.default}.",
            )
        return value


@dataclass(frozen=True)
class Predictions:
    """What is predicted at the M scored positions of a batch, sample after sample.

    Attributes:
        log_softmax: log p(· | x_<t; θ) [nats], shape (M, V).
        targets: The true tokens, shape (M,).
        reference: log_softmax of the starting model, shape (M, V), where it is needed.
    """

    log_softmax: Tensor
    targets: Tensor
    reference: Tensor | None = None


@dataclass(frozen=True)
class States:
    """Hidden states that the M scored positions are predicted from, sample after sample.

    Attributes:
        hidden: Output of a layer, shape (M, d).
        direction: A unit vector, the same for the whole run, shape (d,).
    """

    hidden: Tensor
    direction: Tensor


@dataclass(frozen=True)
class Refused:
    """What is said of a refusal in the place of each sample's answer.

    Attributes:
        nll: Summed NLL of each refusal [nats], shape (B,).
        reference_nll: The same under the starting model.
    """

    nll: Tensor
    reference_nll: Tensor


@dataclass(frozen=True)
class ForgetBatch:
    """What a forget loss sees of B samples, right-padded to L positions.

    Attributes:
        log_probs: log p(x_t | x_<t; θ) [nats] of the texts that the method forgets with, shape (B, L).
        mask: True at the scored positions, shape (B, L).
        reference_nll: Summed NLL of each sample under the starting model [nats], shape (B,), where it is needed.
        predictions: Of all tokens of the vocabulary, where they are needed.
        refused: Of refusals beside the answers, where they are compared.
        states: Hidden states of a layer, where they are steered.
    """

    log_probs: Tensor
    mask: Tensor
    reference_nll: Tensor | None = None
    predictions: Predictions | None = None
    refused: Refused | None = None
    states: States | None = None

    @property
    def steered(self) -> States:
        """The hidden states.

        Raises:
            ValueError: There are none.
        """
        if self.states is None:
            raise ValueError("the loss needs the hidden states of a layer")
        return self.states

    @property
    def predicted(self) -> Predictions:
        """The predictions.

        Raises:
            ValueError: There are none.
        """
        if self.predictions is None:
            raise ValueError("the loss needs the predictions of all tokens")
        return self.predictions


@dataclass(frozen=True)
class Method:
    """An unlearning method.

    Attributes:
        name: On the command line.
        label: Short, as tables of the field have it.
        title: For people.
        formula: What it minimises, in LaTeX; its symbols are `NOTATION`.
        source: The paper that proposed it.
        forget: The texts whose likelihood its forget loss is made of: the samples' own answers or refusals.
        retain: Whether a retain term is added: never, where a retain set is given, or always.
        default_retain_weight: λ of the retain term, where there is one.
        parameters: What can be set.
        loss: Forget term of a batch, a scalar, given the batch and the parameters by name. It loads torch itself.
        needs_reference: Whether the loss needs the samples' NLL under the starting model.
        predictions: Whether the loss needs the predictions of all tokens: the model's own, or the starting model's
            too.
        steers: Whether the hidden states of the layer `ell` are steered, and those of retain samples kept.
        refuses_beside: Whether a refusal is trained beside each answer, to be preferred to it.
        holds_retain: Whether the retain loss is held at a limit instead of weighed, unless a weight is given.
        place: In lists, the smallest first; equal ones by name.
    """

    name: str
    label: str
    title: str
    formula: str
    source: str
    forget: Literal["answers", "refusals"]
    retain: Literal["none", "optional", "required"]
    default_retain_weight: float
    parameters: tuple[Parameter, ...]
    loss: Callable[..., Tensor]
    needs_reference: bool = False
    predictions: Literal["none", "own", "both"] = "none"
    steers: bool = False
    refuses_beside: bool = False
    holds_retain: bool = False
    place: int = 100

    @property
    def about(self) -> str:
        """What it forgets with and what its retain term is, in a sentence."""
        beside = ", a refusal beside each" if self.refuses_beside else ""
        return f"Forgets with {FORGETS_WITH[self.forget]}{beside}; retain term: {RETAINS[self.retain]}."

    @property
    def needs_retain(self) -> bool:
        """Whether it cannot do without a retain set."""
        return self.retain == "required"

    @property
    def has_refusals(self) -> bool:
        """Whether it takes refusals at all."""
        return self.needs_refusals or self.refuses_beside

    @property
    def needs_starting_model(self) -> bool:
        """Whether its loss looks at what the starting model predicts at each step."""
        return self.predictions == "both" or self.refuses_beside or self.steers

    @property
    def needs_refusals(self) -> bool:
        """Whether it teaches refusals instead of the samples' own answers."""
        return self.forget == "refusals"


def parsed(method: Method, settings: Mapping[str, float | str]) -> dict[str, Any]:
    """Return a value for every parameter of `method`: that of `settings`, or its default.

    Raises:
        UserError: A parameter is not one of the method's, is of another type, or lies out of its bounds.
    """
    names = [parameter.name for parameter in method.parameters]
    unknown = next((name for name in settings if name not in names), None)
    if unknown is not None:
        raise UserError(
            f"The parameter {unknown}",
            f"is none of the method {method.name}.",
            f"Leave it out, or set one that it has: {', '.join(names)}.",
        )
    return {
        parameter.name: parameter.parsed(settings.get(parameter.name, parameter.default))
        for parameter in method.parameters
    }


def steered_layer(parameters: Parameters, layers: int) -> int:
    """Return the layer whose states a method steers, the first is 1: as asked, or the middle one of too few."""
    asked = int(parameters["ell"])
    return asked if asked < layers else max(1, layers // 2)


def averaged_over(parameters: Parameters) -> Average:
    """Return what a forget loss with these `parameters` is a mean over.

    A batch that is accumulated from parts has the loss of the whole if each part's loss weighs by its share
    of these. The group weights of WGA, SimImp and SatImp are the exception: there each part is its own group.
    """
    average: Average = parameters.get("average", "samples")
    return average
