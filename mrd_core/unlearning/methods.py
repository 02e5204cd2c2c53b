"""The unlearning methods: what each minimises, what it needs, and what can be set.

The command line, the form and the documentation are made from what is declared here. Loads no torch: the
losses themselves are in `forget_terms`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from mrd_core.errors import UserError
from mrd_core.scoring.measures import SATIMP

Average = Literal["tokens", "samples"]
Granularity = Literal["token", "instance", "group"]

# Values by name, as `parsed` returns them: the names are those of the loss function's own arguments.
Parameters = Mapping[str, Any]


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

    def parsed(self, given: float | str) -> float | str:
        """Return `given` as a value of this parameter.

        Raises:
            UserError: It is none.
        """
        value = given if self.bounds is None else _number_within(self.bounds, given)
        if value is None or (self.choices and value not in self.choices):
            raise UserError(
                f"The parameter {self.name}={given}",
                f"is not {self.domain}.",
                f"Give {self.domain}, or leave it out for the default, {self.default}.",
            )
        return value


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
        needs_reference: Whether the loss needs the samples' NLL under the starting model.
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
    needs_reference: bool = False

    @property
    def needs_retain(self) -> bool:
        """Whether it cannot do without a retain set."""
        return self.retain == "required"

    @property
    def needs_refusals(self) -> bool:
        """Whether it teaches refusals instead of the samples' own answers."""
        return self.forget == "refusals"


def parsed(method: Method, given: Mapping[str, float | str]) -> dict[str, Any]:
    """Return a value for every parameter of `method`: the given one, or its default.

    Raises:
        UserError: A parameter is not one of the method's, is of another type, or lies out of its bounds.
    """
    names = [parameter.name for parameter in method.parameters]
    unknown = next((name for name in given if name not in names), None)
    if unknown is not None:
        raise UserError(
            f"The parameter {unknown}",
            f"is none of the method {method.name}.",
            f"Leave it out, or set one that it has: {', '.join(names)}.",
        )
    return {
        parameter.name: parameter.parsed(given.get(parameter.name, parameter.default))
        for parameter in method.parameters
    }


def averaged_over(parameters: Parameters) -> Average:
    """Return what a forget loss with these `parameters` is a mean over.

    A batch that is accumulated from parts has the loss of the whole if each part's loss weighs by its share
    of these. The group weights of WGA, SimImp and SatImp are the exception: there each part is its own group.
    """
    average: Average = parameters.get("average", "samples")
    return average


def _number_within(bounds: tuple[float, float], given: float | str) -> float | None:
    """Return `given` as a number, or None where it is none or lies out of `bounds`."""
    if isinstance(given, bool):
        return None
    try:
        number = float(given)
    except (TypeError, ValueError):
        return None
    return number if bounds[0] <= number <= bounds[1] else None


_JANG = "Jang et al. 2023, Knowledge Unlearning for Mitigating Privacy Risks in Language Models"
_MAINI = "Maini et al. 2024, TOFU: A Task of Fictitious Unlearning for LLMs"
_ZHANG = "Zhang et al. 2024, Negative Preference Optimization"
_WANG = "Wang et al. 2025, Rethinking LLM Unlearning Objectives"
_YANG = "Yang et al. 2025, Exploring Criteria of Loss Reweighting to Enhance LLM Unlearning"
_FAN = "Fan et al. 2024, Simplicity Prevails: Rethinking Negative Preference Optimization for LLM Unlearning"

NOTATION = (
    r"\mathrm{NLL}_i = -\sum_{t \in S_i} \log p_t,\quad n_i = |S_i|,\quad S_i: \text{answer tokens, EOS included},"
    r"\quad \text{ref}: \text{the starting model},\quad \mathcal{R}: \text{retain term}"
)
_MEAN_NLL = r"\frac{\sum_i \mathrm{NLL}_i}{\sum_i n_i}"
_RETAIN = r" + \lambda\,\mathcal{R}(\theta)"

_AVERAGE = Parameter(
    name="average",
    default="tokens",
    unit="",
    source=_MAINI,
    help="Mean over all answer tokens of the batch, where long answers weigh more, or over samples.",
    choices=get_args(Average),
)
_GRANULARITY = Parameter(
    name="granularity",
    default="token",
    unit="",
    source=_YANG,
    help="Whose probability the weight is computed from: each token's, its sample's (geometric mean over the "
    "tokens), or the group's that goes through the model at once (mean over its samples).",
    choices=get_args(Granularity),
)


def _exponent(name: str, default: float, source: str, meaning: str) -> Parameter:
    return Parameter(name, default, "", source, f"Exponent of {meaning}; 0 switches it off.", (0.0, 100.0))


def _inverse_temperature(default: float, unit: str, source: str) -> Parameter:
    return Parameter(
        "beta",
        default,
        unit,
        source,
        "How soon the push fades as a sample is forgotten; towards 0 it is gradient ascent.",
        (1e-6, 100.0),
    )


_SATURATION = "the saturation p, which spares what is forgotten already"
_IMPORTANCE = "the importance 1 − p, which spares what is certain anyway"

_ALL = (
    Method(
        name="ga",
        label="GA",
        title="Gradient ascent (SGA)",
        formula=f"-{_MEAN_NLL}",
        source=_JANG,
        forget="answers",
        retain="none",
        default_retain_weight=0.0,
        parameters=(_AVERAGE,),
    ),
    Method(
        name="graddiff",
        label="GradDiff",
        title="Gradient difference (GradDiff)",
        formula=f"-{_MEAN_NLL}{_RETAIN}",
        source="Liu et al. 2022, Continual Learning and Private Unlearning",
        forget="answers",
        retain="required",
        default_retain_weight=1.0,
        parameters=(_AVERAGE,),
    ),
    Method(
        name="po",
        label="PO",
        title="Preference optimisation (PO)",
        formula=r"\frac{\sum_i \mathrm{NLL}_i^{\text{refusal}}}{\sum_i n_i^{\text{refusal}}}" + _RETAIN,
        source=_MAINI,
        forget="refusals",
        retain="required",
        default_retain_weight=1.0,
        parameters=(_AVERAGE,),
    ),
    Method(
        name="npo",
        label="NPO",
        title="Negative preference optimisation (NPO)",
        formula=r"-\frac{2}{\beta}\,\mathrm{mean}_i \log\sigma\!\left(\beta\left(\mathrm{NLL}_i - "
        rf"\mathrm{{NLL}}_i^{{\text{{ref}}}}\right)\right){_RETAIN}",
        source=_ZHANG,
        forget="answers",
        retain="required",
        default_retain_weight=1.0,
        parameters=(_inverse_temperature(0.1, "1/nat", _ZHANG),),
        needs_reference=True,
    ),
    Method(
        name="wga",
        label="WGA",
        title="Weighted gradient ascent (WGA, SimSat)",
        formula=rf"\mathrm{{mean}}_t\; p_t^{{\beta}} \log p_t{_RETAIN}",
        source=_WANG,
        forget="answers",
        retain="optional",
        default_retain_weight=1.0,
        parameters=(_exponent("beta", 1.0, _WANG, _SATURATION), _GRANULARITY, _AVERAGE),
    ),
    Method(
        name="simimp",
        label="SimImp",
        title="Importance-weighted gradient ascent (SimImp)",
        formula=rf"\mathrm{{mean}}_t\; (1 - p_t)^{{\beta}} \log p_t{_RETAIN}",
        source=_YANG,
        forget="answers",
        retain="optional",
        default_retain_weight=1.0,
        parameters=(_exponent("beta", 1.0, _YANG, _IMPORTANCE), _GRANULARITY, _AVERAGE),
    ),
    Method(
        name="satimp",
        label="SatImp",
        title="Saturation and importance (SatImp)",
        formula=rf"\mathrm{{mean}}_t\; p_t^{{\beta_1}} (1 - p_t)^{{\beta_2}} \log p_t{_RETAIN}",
        source=_YANG,
        forget="answers",
        retain="optional",
        default_retain_weight=0.1,
        parameters=(
            _exponent("beta1", SATIMP["beta1"], _YANG, _SATURATION),
            _exponent("beta2", SATIMP["beta2"], f"{_YANG}; a port of it has 1", _IMPORTANCE),
            _GRANULARITY,
            _AVERAGE,
        ),
    ),
    Method(
        name="simnpo",
        label="SimNPO",
        title="Simple NPO (SimNPO)",
        formula=r"-\frac{2}{\beta}\,\mathrm{mean}_i \log\sigma\!\left(\beta\left("
        rf"\tfrac{{\mathrm{{NLL}}_i}}{{n_i}} - \gamma\right)\right){_RETAIN}",
        source=_FAN,
        forget="answers",
        retain="optional",
        default_retain_weight=1.0,
        parameters=(
            _inverse_temperature(4.5, "tokens/nat", f"{_FAN}; also 2.5"),
            Parameter(
                name="gamma",
                default=0.0,
                unit="nats per token",
                source=f"{_FAN}; the margin in the paper's equation is β γ",
                help="Mean NLL at which the push has fallen to half of its full strength.",
                bounds=(0.0, 100.0),
            ),
        ),
    ),
)

METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _ALL})
