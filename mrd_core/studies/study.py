"""A study as its TOML file says it: models, forget sets, and the settings of what is run on them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from mrd_core.errors import UserError
from mrd_core.settings.command import Nested
from mrd_core.settings.configuration import Frozen
from mrd_core.settings.places import expanded
from mrd_core.studies.lines import Place, line_of, spelt

SUFFIX = ".toml"
SHIPPED = Path(__file__).with_name("shipped")


def _as_tables(value: Any) -> Any:
    return (value,) if isinstance(value, dict) else value


def _by_source(value: Any) -> Any:
    """Return tables by name; a text in the place of one is its `source`."""
    if not isinstance(value, dict):
        return value
    return {name: {"source": each} if isinstance(each, str) else each for name, each in value.items()}


Named = Annotated[dict[str, Nested], BeforeValidator(_by_source), Field(min_length=1)]
Tables = Annotated[tuple[Nested, ...], BeforeValidator(_as_tables)]


class Expected(Frozen):
    """Sizes that the cost is estimated by where what they are of is not on this machine."""

    parameters: int | None = Field(None, ge=1, description="Weights of a model.")
    samples: int | None = Field(
        None, ge=1, description="Samples of a forget set; of an evaluation, of all its sets."
    )
    tokens: float | None = Field(None, gt=0, description="Tokens of a sample, its prompt included; the mean.")
    answer_tokens: float | None = Field(None, gt=0, description="Those of its answer.")


class Content(Frozen):
    """What a study file may hold at the top; the settings within are checked by the configurations they make."""

    name: str = Field(min_length=1, max_length=80, description="What its runs carry as their study.")
    title: str = Field("", description="For people; by default the name.")
    about: str = Field("", description="What it shows, for people.")
    models: Named = Field(description="Models by name; their settings, or their source alone.")
    forget_sets: Named = Field(description="The same of forget sets, each maybe with `retain` and `held_out`.")
    score: Tables = Field(({},), description="Score runs, on each model and forget set.")
    unlearn: Tables = Field((), description="Unlearning runs on each score run.")
    evaluate: Tables = Field((), description="Evaluations of each model, and of what each unlearning run made.")
    characteristics: Tables = Field((), description="Readings of each scored forget set.")
    experiment: Tables = Field((), description="Experiments on each score run.")


@dataclass(frozen=True)
class Study:
    """A study file that was read.

    Attributes:
        content: What it says, with the changes that were asked for.
        path: Of the file.
        text: Of the file.
    """

    content: Content
    path: Path
    text: str

    @property
    def name(self) -> str:
        """What its runs carry as their study."""
        return self.content.name

    @property
    def title(self) -> str:
        """What people call it."""
        return self.content.title or self.name

    def refusal(self, place: Place, value: Any, reason: str, fix: str) -> UserError:
        """Return what a user should read of a setting of this file that is no good."""
        return _refusal(self.path, self.text, place, value, reason, fix)

    def invalid(self, error: ValidationError, place: Place) -> UserError:
        """Return what a user should read of settings at a place that do not validate."""
        return _invalid(self.path, self.text, error, place)


def shipped() -> Mapping[str, Path]:
    """Return the files of the studies that ship with the program, by the name that stands for them."""
    return {path.stem: path for path in sorted(SHIPPED.glob(f"*{SUFFIX}"))}


def read(name: str, changes: Iterable[str] = ()) -> Study:
    """Read a study.

    Args:
        name: Path of a file, or the name of a study that ships with the program.
        changes: Settings in the place of the file's, as `models.base.source=path` or `unlearn.seed=[0, 1]`. What
            is no TOML value is a text; a table of several takes its number (`unlearn.0.seed=3`), or all are meant.

    Raises:
        UserError: There is no such study, it is no TOML, or something in it is not known.
    """
    path = located(name)
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(str(path), f"It is no TOML: {error}.", "Correct the file there.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(str(path), f"It cannot be read ({error}).", "Name a TOML file.") from error
    for change in changes:
        _change(content, change)
    try:
        return Study(Content.model_validate(content), path, text)
    except ValidationError as error:
        raise _invalid(path, text, error, ()) from error


def located(name: str) -> Path:
    """Return the file of a study that is named by its path, or that ships with the program.

    Raises:
        UserError: There is none.
    """
    path = expanded(name) if name.strip() else Path()
    if path.is_file():
        return path.resolve()
    if (known := shipped().get(name.removesuffix(SUFFIX))) is not None:
        return known
    names = ", ".join(shipped())
    raise UserError(f"The study '{name}'", "There is no such file.", f"Name a TOML file, or one of: {names}.")


def _change(content: Nested, change: str) -> None:
    """Set a value in what a file says."""
    key, sign, typed = change.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not sign or not all(parts):
        raise UserError(f"--set {change}", "is no setting.", "Write it as models.base.source=path/to/model.")
    try:
        value = tomllib.loads(f"value = {typed}")["value"]
    except tomllib.TOMLDecodeError:
        value = typed.strip()
    # `models.base` alone is the source of it: what else is said of it stays.
    if len(parts) == 2 and parts[0] in ("models", "forget_sets") and isinstance(value, str):
        named = content.setdefault(parts[0], {})
        if isinstance(named, dict) and isinstance(named.get(parts[1]), dict):
            parts.append("source")
    _put(content, parts, value, change)


def _put(table: Any, parts: Sequence[str], value: Any, change: str) -> None:
    first, *rest = parts
    if isinstance(table, list):
        numbered = re.fullmatch(r"\d+", first) is not None
        if numbered and int(first) >= len(table):
            raise UserError(f"--set {change}", f"There are {len(table)} such tables.", "Count them from 0.")
        if numbered and not rest:
            table[int(first)] = value
            return
        for each in [table[int(first)]] if numbered else table:
            _put(each, rest if numbered else parts, value, change)
    elif not isinstance(table, dict):
        raise UserError(f"--set {change}", f"{first} would lie in a value.", "Name a setting of a table.")
    elif rest:
        _put(table.setdefault(first, {}), rest, value, change)
    else:
        table[first] = value


def _invalid(path: Path, text: str, error: ValidationError, place: Place) -> UserError:
    first = error.errors(include_url=False)[0]
    fields = tuple(part for part in first["loc"] if isinstance(part, int) or part.isidentifier())
    if first["type"] == "extra_forbidden":
        reason = "There is no such setting"
    else:
        message = first["msg"].removeprefix("Value error, ").strip()
        reason = message[:1].upper() + message[1:]
    value = first["input"] if first["type"] != "missing" else None
    return _refusal(path, text, (*place, *fields), value, reason, "Correct the file there.")


def _refusal(path: Path, text: str, place: Place, value: Any, reason: str, fix: str) -> UserError:
    line = line_of(text, place)
    where = str(path) if line is None else f"{path}, line {line}"
    shows = value is not None and not isinstance(value, dict | Frozen | tuple)
    setting = f"{spelt(place)} = {value}" if shows else spelt(place) or "The study"
    return UserError(where, f"{setting}: {reason}.", fix)
