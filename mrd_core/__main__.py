"""The command line: `python -m mrd_core --help`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

import pydantic
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mrd_core.command_line import EXIT_CANCELLED, EXIT_FAILED, EXIT_USER_ERROR, run_app
from mrd_core.errors import UserError
from mrd_core.evaluation import options as evaluation_options
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.experiments import options as experiment_options
from mrd_core.experiments.config import EXPERIMENTS, ExperimentConfig
from mrd_core.model.config import ModelConfig
from mrd_core.runs import Run, RunState, RunStore, command_for, submit
from mrd_core.runs.directory import read_config
from mrd_core.runs.kind import kind_named
from mrd_core.samples import read
from mrd_core.samples.config import ColumnMapping, ForgetSetConfig, Layout, Scope
from mrd_core.scoring.columns import MRD_ANSWER_MEAN
from mrd_core.scoring.config import EstimatorConfig, Normalisation, ScoreConfig
from mrd_core.scoring.files import RunFiles
from mrd_core.settings.configuration import help_of
from mrd_core.settings.installation import Settings
from mrd_core.settings.options import Option
from mrd_core.unlearning.config import CurriculumConfig, UnlearnConfig
from mrd_core.unlearning.curriculum_export import json_lines, planned, realised
from mrd_core.unlearning.files import UnlearningFiles
from mrd_core.unlearning.options import OPTIONS, settings_of
from mrd_core.unlearning.stopping import SOURCES

app = typer.Typer(
    help="Which samples of a forget set will a language model not forget easily, and how sure can we be?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
runs_app = typer.Typer(help="List, show, cancel, resume and delete runs.", no_args_is_help=True)
app.add_typer(runs_app, name="runs")
experiment_app = typer.Typer(
    help="Hold difficulty against what unlearning really takes, on this model and these samples.",
    no_args_is_help=True,
)
app.add_typer(experiment_app, name="experiment")

out = Console()
# The terminal wraps: a path that is broken here could not be copied.
err = Console(stderr=True, soft_wrap=True)


def model_option(field: str, *names: str) -> Any:
    """Return the typer option of a field of ModelConfig, its help taken from there."""
    return typer.Option(*names, help=help_of(ModelConfig, field))


def forget_set_option(field: str, *names: str) -> Any:
    """Return the typer option of a field of ForgetSetConfig."""
    return typer.Option(*names, help=help_of(ForgetSetConfig, field))


def column_option(field: str) -> Any:
    """Return the typer option that maps a column."""
    return typer.Option(f"--{field.replace('_', '-')}-column", help=help_of(ColumnMapping, field))


def estimator_option(field: str, *names: str) -> Any:
    """Return the typer option of a field of EstimatorConfig."""
    return typer.Option(*names, help=help_of(EstimatorConfig, field))


@app.command()
def score(
    model: Annotated[str, model_option("source", "--model")],
    forget_set: Annotated[str, forget_set_option("source", "--forget-set")],
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Run directory, new or empty; by default under MRD_HOME.")
    ] = None,
    preset: Annotated[str, estimator_option("preset")] = "recommended",
    mode: Annotated[str | None, estimator_option("mode")] = None,
    sigma: Annotated[str | None, estimator_option("sigma")] = None,
    draws: Annotated[int | None, estimator_option("draws")] = None,
    seed: Annotated[int | None, estimator_option("seed")] = None,
    stop: Annotated[str | None, estimator_option("stop")] = None,
    median_relative_se: Annotated[float | None, estimator_option("median_relative_se")] = None,
    p90_relative_se: Annotated[float | None, estimator_option("p90_relative_se")] = None,
    reliability: Annotated[float | None, estimator_option("reliability")] = None,
    scope: Annotated[Scope | None, estimator_option("scope")] = None,
    normalisation: Annotated[Normalisation | None, estimator_option("normalisation")] = None,
    workers: Annotated[int | None, estimator_option("workers")] = None,
    batch_tokens: Annotated[int | None, estimator_option("batch_tokens")] = None,
    gradient_norms: Annotated[str | None, estimator_option("gradient_norms")] = None,
    adapter: Annotated[str | None, model_option("adapter")] = None,
    device: Annotated[str, model_option("device")] = "auto",
    dtype: Annotated[str, model_option("dtype")] = "auto",
    template: Annotated[str, model_option("template")] = "auto",
    layout: Annotated[Layout, forget_set_option("layout")] = Layout.AUTO,
    prompt_column: Annotated[str | None, column_option("prompt")] = None,
    answer_column: Annotated[str | None, column_option("answer")] = None,
    id_column: Annotated[str | None, column_option("id")] = None,
    split_column: Annotated[str | None, column_option("split")] = None,
    training_count_column: Annotated[str | None, column_option("training_count")] = None,
    subset: Annotated[str | None, forget_set_option("subset")] = None,
    split: Annotated[str | None, forget_set_option("split")] = None,
    duplicates: Annotated[str, forget_set_option("duplicates")] = "keep",
    invalid_rows: Annotated[str, forget_set_option("invalid_rows")] = "refuse",
    as_json: Annotated[
        bool, typer.Option("--json", help="End with one line of JSON; also times the bare model.")
    ] = False,
) -> None:
    """Score how hard each sample of a forget set is to unlearn from a model."""
    wishes = {
        "mode": mode,
        "sigma": _number_or_auto(sigma),
        "draws": draws,
        "seed": seed,
        "stop": stop,
        "median_relative_se": median_relative_se,
        "p90_relative_se": p90_relative_se,
        "reliability": reliability,
        "scope": scope,
        "normalisation": normalisation,
        "workers": workers,
        "batch_tokens": batch_tokens,
        "gradient_norms": gradient_norms,
        "time_floor": as_json,
    }
    with _options_explained():
        config = ScoreConfig(
            forget_set=ForgetSetConfig(
                source=_absolute(forget_set),
                subset=subset,
                split=split,
                layout=layout,
                columns=ColumnMapping(
                    prompt=prompt_column,
                    answer=answer_column,
                    id=id_column,
                    split=split_column,
                    training_count=training_count_column,
                ),
                duplicates=duplicates,
                invalid_rows=invalid_rows,
            ),
            model=ModelConfig(
                source=_absolute(model),
                adapter=adapter and _absolute(adapter),
                device=device,
                dtype=dtype,
                template=template,
            ),
            estimator=_preset(preset)(**{name: wish for name, wish in wishes.items() if wish is not None}),
        )
    _score(config, out_dir, as_json)


@app.command()
def demo(
    out_dir: Annotated[Path | None, typer.Option("--out", help="Run directory, new or empty.")] = None,
) -> None:
    """Score the demo's forget set on the demo's model, in about a minute and without a network."""
    _score(ScoreConfig(forget_set=ForgetSetConfig(source="demo")), out_dir, as_json=False)


def unlearn(
    scores: Annotated[str, typer.Option(help="Score run: its directory, or its id.")],
    model: Annotated[
        str | None, typer.Option(help="Model that is to forget; by default the one that was scored.")
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Run directory, new or empty; by default under MRD_HOME.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
    **given: Any,
) -> None:
    """Unlearn the forget set of a score run, with or without a curriculum, and keep the resulting model."""
    store = _store()
    scored = _run_directory(scores, store)
    settings = settings_of({name.replace("_", "-"): value for name, value in given.items()})
    chosen = read_config(scored, ScoreConfig).model.model_dump() | settings.pop("model", {})
    with _options_explained("unlearn"):
        config = UnlearnConfig.model_validate(
            _absolute_paths(settings)
            | {"score_run": scored, "model": chosen | ({"source": _absolute(model)} if model else {})}
        )
    run = submit(config, store=store, settings=Settings.from_environment(), directory=out_dir)
    _finish(_carry_out(run.directory), as_json)


def evaluate(
    model: Annotated[
        str | None, typer.Option(help=f"{help_of(ModelConfig, 'source')} Not with --unlearned.")
    ] = None,
    unlearned: Annotated[
        str | None, typer.Option(help="Unlearning run whose model is evaluated: its directory, or its id.")
    ] = None,
    scores: Annotated[
        str | None, typer.Option(help="Score run whose MRD stands beside each sample: its directory, or its id.")
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Run directory, new or empty; by default under MRD_HOME.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
    **given: Any,
) -> None:
    """Evaluate a model: what it still knows of the forget set, and what it has kept."""
    if (model is None) == (unlearned is None):
        raise UserError(
            "The evaluation",
            "needs one model.",
            "Name it with --model, or the unlearning run that made it with --unlearned.",
        )
    if unlearned is not None and (given.get("adapter") or given.get("template")):
        raise UserError(
            f"--unlearned {unlearned}",
            "says which model and how its texts are made, and another option does too.",
            "Leave out --adapter and --template, or name the model with --model.",
        )
    store = _store()
    settings = evaluation_options.settings_of({name.replace("_", "-"): value for name, value in given.items()})
    chosen = _absolute_paths(settings)
    if model is not None:
        chosen["model"] = chosen.get("model", {}) | {"source": _absolute(model)}
    with _options_explained("evaluate", evaluation_options.OPTIONS):
        config = EvaluateConfig.model_validate(
            chosen
            | {
                "unlearn_run": unlearned and _run_directory(unlearned, store),
                "score_run": scores and _run_directory(scores, store),
            }
        )
    run = submit(config, store=store, settings=Settings.from_environment(), directory=out_dir)
    _finish(_carry_out(run.directory), as_json)


def _experiment(config: type[ExperimentConfig]) -> Callable[..., None]:
    """Return the command that carries out experiments of this kind."""

    def experiment(
        scores: Annotated[
            str | None, typer.Option(help="Score run to build on: its directory, or its id.")
        ] = None,
        model: Annotated[
            str | None, typer.Option(help=f"{help_of(ModelConfig, 'source')} Not with --scores.")
        ] = None,
        forget_set: Annotated[
            str | None,
            typer.Option(help=f"{help_of(ForgetSetConfig, 'source')} It is scored first. Not with --scores."),
        ] = None,
        out_dir: Annotated[
            Path | None, typer.Option("--out", help="Run directory, new or empty; by default under MRD_HOME.")
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
        **given: Any,
    ) -> None:
        store, settings = _store(), Settings.from_environment()
        wishes = experiment_options.settings_of(
            config.name, {name.replace("_", "-"): value for name, value in given.items()}
        )
        with _options_explained(f"experiment {config.name}", experiment_options.OPTIONS[config.name]):
            wished = config.model_validate(
                _absolute_paths(wishes) | _studied(wishes, scores, model, forget_set, store)
            )
        run = submit(wished, store=store, settings=settings, directory=out_dir)
        _finish(_carry_out(run.directory), as_json)

    return experiment


def _studied(
    wishes: dict[str, Any], scores: str | None, model: str | None, forget_set: str | None, store: RunStore
) -> dict[str, Any]:
    """Return where an experiment's samples and model are from, in the place of what was wished of them."""
    if scores is None:
        if model is None or forget_set is None:
            raise UserError(
                "The experiment",
                "needs a model and a forget set.",
                "Name both with --model and --forget-set, or a score run with --scores.",
            )
        return {
            "model": _absolute_paths(wishes.get("model", {}) | {"source": model}),
            "forget_set": wishes.get("forget_set", {}) | {"source": _absolute(forget_set)},
        }
    own = wishes.get("model", {})
    if model or forget_set or "forget_set" in wishes or own.keys() - {"device", "dtype"}:
        raise UserError(
            f"--scores {scores}",
            "says which model and which forget set, and another option does too.",
            "Leave out --scores, or what else is said of them; --device and --dtype may differ.",
        )
    scored = _run_directory(scores, store)
    config = read_config(scored, ScoreConfig)
    shared = config.model_dump(include={"model", "forget_set", "estimator"})
    return {"score_run": scored, **shared, "model": shared["model"] | own}


def _with_options(command: Callable[..., None], options: Iterable[Option]) -> Callable[..., None]:
    """Return `command` with these options in the place of its keyword arguments, for typer."""
    signature = inspect.signature(command, eval_str=True)
    own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    types = {"value": str | None, "several": str | None, "flag": bool, "list": list[str] | None}
    added = [
        inspect.Parameter(
            option.name.replace("-", "_"),
            inspect.Parameter.KEYWORD_ONLY,
            default=False if option.kind == "flag" else None,
            annotation=Annotated[types[option.kind], typer.Option(f"--{option.name}", help=option.help)],
        )
        for option in options
    ]
    command.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own] + added
    )
    command.__annotations__ = {one.name: one.annotation for one in [*own, *added]} | {"return": None}
    return command


app.command()(_with_options(unlearn, OPTIONS))
app.command()(_with_options(evaluate, evaluation_options.OPTIONS))


@app.command()
def curriculum(
    run: Annotated[str | None, typer.Option(help="Unlearning run, its directory or its id: what it drew.")] = None,
    scores: Annotated[
        str | None, typer.Option(help="Score run, its directory or its id: one epoch as it would be drawn.")
    ] = None,
    sampler: Annotated[str, typer.Option(help=f"{help_of(CurriculumConfig, 'sampler')} With --scores.")] = "mrd",
    column: Annotated[
        str, typer.Option(help=f"{help_of(CurriculumConfig, 'column')} With --scores.")
    ] = MRD_ANSWER_MEAN,
    seed: Annotated[int, typer.Option(help="Seed of the draws. With --scores.")] = 0,
    out_file: Annotated[Path | None, typer.Option("--out", help="File to write; by default stdout.")] = None,
) -> None:
    """Write the order of the forget samples as JSON Lines: as a run drew it, or as one epoch would be drawn."""
    store = _store()
    if run is not None and scores is None:
        directory = _run_directory(run, store)
        read_config(directory, UnlearnConfig)
        text = json_lines(realised(UnlearningFiles(directory)))
    elif scores is not None and run is None:
        with _options_explained("curriculum"):
            wished = CurriculumConfig(sampler=sampler, column=column)
            text = json_lines(planned(_run_directory(scores, store), wished, seed))
    else:
        raise UserError("The curriculum", "is that of one run.", "Name it with either --run or --scores.")
    _write(text, out_file)


def _write(text: str, path: Path | None) -> None:
    """Write a text into a file, or to stdout."""
    if path is None:
        print(text, end="", flush=True)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(str(path), f"cannot be written: {error.strerror}.", "Name a file in a folder.") from error


for _name, _config in EXPERIMENTS.items():
    experiment_app.command(_name, help=f"{_config.__doc__} ({_config.figure} of the paper.)")(
        _with_options(_experiment(_config), experiment_options.OPTIONS[_name])
    )


def _run_directory(name: str, store: RunStore) -> Path:
    """Return the directory of a run, mostly a score run, that is named by its directory or its id."""
    path = Path(name).expanduser()
    return path.resolve() if path.is_dir() else store.get(name).directory


def _absolute_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Make the paths in nested settings absolute, as `_absolute` does."""
    paths = {"source", "adapter", "refusals", "stratum", "reference", "data", "toxicity_model"}
    return {
        name: _absolute_paths(value)
        if isinstance(value, dict)
        # The source of the thresholds is a word.
        else (_absolute(value) if name in paths and value not in SOURCES else value)
        for name, value in settings.items()
    }


@app.command("run")
def run_directory(
    directory: Annotated[Path, typer.Argument(help="Run directory with a config.json.")],
) -> None:
    """Carry out the run that a directory's config.json describes."""
    _finish(_carry_out(directory), as_json=False)


@app.command(hidden=True)
def share(directory: Path, parent: int) -> None:
    """Draw units for the run that the process PARENT leads in DIRECTORY (started by that process)."""
    from mrd_core.scoring.drawing import share as draw_units

    draw_units(directory, read_config(directory, ScoreConfig), parent)


@app.command()
def doctor() -> None:
    """Print versions, device, dtype, threads and store, each with the reason of the choice."""
    from mrd_core.doctor import Finding, findings

    table = Table(box=None, pad_edge=False)
    for name in Finding._fields:
        # A path that does not fit is broken, never cut: it is here to be read.
        table.add_column(name, overflow="fold")
    for finding in findings(Settings.from_environment()):
        table.add_row(*map(escape, finding))
    out.print(table)


@runs_app.command("list")
def list_runs(
    limit: Annotated[int, typer.Option(min=1, help="Most runs to list, newest first.")] = 20,
) -> None:
    """List runs, newest first."""
    table = Table(box=None, pad_edge=False)
    # Ids, states and dates are copied and compared, so they are never cut.
    for name, width in (("run", 20), ("state", 10), ("created", 16), ("title", None), ("progress", None)):
        table.add_column(name, min_width=width)
    for run in _store().list(limit=limit):
        created = f"{run.created_at.astimezone():%Y-%m-%d %H:%M}"
        table.add_row(run.id, run.state, created, escape(run.title), _progress(run))
    out.print(table if table.row_count else "No runs yet. Begin with: python -m mrd_core demo")


@runs_app.command()
def show(run_id: Annotated[str, typer.Argument(metavar="RUN")]) -> None:
    """Show a run: state, directory, command, figures, what happened."""
    store = _store()
    run = store.get(run_id)
    out.print(f"{run.id}  {run.state}  {escape(run.title)}", highlight=False)
    command = " ".join(command_for(run.directory))
    out.print(f"directory  {escape(str(run.directory))}\ncommand    {escape(command)}")
    if run.error:
        out.print(f"error      {escape(run.error.cause)} {escape(run.error.advice)}")
    for event in store.events(run.id).itertuples():
        out.print(f"{event.level:8} {escape(str(event.message))}", highlight=False)
    if run.summary:
        out.print_json(data=run.summary)


@runs_app.command()
def cancel(run_id: Annotated[str, typer.Argument(metavar="RUN")]) -> None:
    """Ask a run to stop; what it has finished is kept."""
    out.print(f"{run_id} is {_store().request_cancel(run_id)}.")


@runs_app.command()
def resume(run_id: Annotated[str, typer.Argument(metavar="RUN")]) -> None:
    """Go on with a cancelled, failed or lost run, here in the foreground."""
    run = _store().resume(run_id)
    _finish(_carry_out(run.directory), as_json=False)


@runs_app.command()
def delete(
    run_id: Annotated[str, typer.Argument(metavar="RUN")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a run with its copies of texts, its results and its rows in the store."""
    store = _store()
    run = store.get(run_id)
    if not yes:
        typer.confirm(f"Delete {run.id} ({run.title}) and everything in {run.directory}?", abort=True)
    store.delete(run.id)
    out.print(f"{run.id} is deleted.")


def _store() -> RunStore:
    store = RunStore.open()
    store.reap()
    return store


def _progress(run: Run) -> str:
    kind = kind_named(run.kind)
    if run.state is RunState.SUCCEEDED and run.summary:
        return kind.headline(run.summary)
    if run.error:
        return escape(shorten(run.error.cause, 60, placeholder=" …"))
    done, total = run.progress.get("done"), run.progress.get("total")
    return f"{done} of {total} {kind.counted}" if total else str(run.progress.get("message", ""))


def _number_or_auto(text: str | None) -> float | str | None:
    try:
        return float(text) if text not in (None, "auto") else text
    except ValueError as error:
        raise UserError(f"--sigma {text}", "is no number.", "Give a number between 0 and 1, or auto.") from error


def _absolute(source: str) -> str:
    """Make a path absolute, so that config.json means the same from any directory; leave names alone."""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() and source != "demo" else source


def _preset(name: str) -> Any:
    presets = {"recommended": EstimatorConfig.recommended, "paper": EstimatorConfig.paper}
    if name not in presets:
        raise UserError(f"The preset '{name}'", "is unknown.", f"Use {' or '.join(presets)}.")
    return presets[name]


@contextmanager
def _options_explained(command: str = "score", options: Iterable[Option] = OPTIONS) -> Iterator[None]:
    """Turn a value that a configuration refuses into an error that names the option."""
    try:
        yield
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = _option_at(first["loc"], options)
        option = f"--{name} {_as_typed(first['input'])}".rstrip() if name else "The settings"
        why = first["msg"].removeprefix("Value error, ")
        raise UserError(option, f"{why}.", f"See `python -m mrd_core {command} --help`.") from error


def _as_typed(value: Any) -> str:
    """Return a refused value as it was typed; "" where an option is missing: the input is then the whole."""
    if isinstance(value, dict):
        return ""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _option_at(place: tuple[int | str, ...], options: Iterable[Option]) -> str:
    """Return the option whose value stands at this place of a configuration; "" for the whole of it."""
    for length in range(len(place), 0, -1):
        for option in options:
            if option.path == place[:length] or (length == len(place) and option.path[:-1] == place):
                return option.name
    return str(place[0]).replace("_", "-") if place else ""


def _score(config: ScoreConfig, directory: Path | None, as_json: bool) -> None:
    forget_set = read(config.forget_set)
    for note in forget_set.report.notes:
        err.print(f"[dim]{escape(note)}[/dim]")
    config = config.model_copy(update={"forget_set_digest": forget_set.digest})
    run = submit(
        config,
        store=_store(),
        settings=Settings.from_environment(),
        directory=directory,
        prepare=lambda draft: forget_set.save(RunFiles(draft).samples),
    )
    _finish(_carry_out(run.directory), as_json)


def _carry_out(directory: Path) -> Run:
    from mrd_core.runs.worker import run as work

    work(directory, foreground=True)
    run = RunStore.open().find_by_directory(directory)
    assert run is not None  # the worker registers every directory that it carries out
    return run


def _finish(run: Run, as_json: bool) -> None:
    if run.state is RunState.CANCELLED:
        err.print(f"Cancelled. Go on with: python -m mrd_core runs resume {run.id}")
        raise typer.Exit(EXIT_CANCELLED)
    if run.state is not RunState.SUCCEEDED or run.summary is None:
        raise typer.Exit(EXIT_USER_ERROR if run.error and run.error.type == "UserError" else EXIT_FAILED)
    _print_outcome(run, run.summary)
    if as_json:
        print(json.dumps(run.summary, ensure_ascii=False), flush=True)


def _print_outcome(run: Run, summary: dict[str, Any]) -> None:
    description = kind_named(run.kind).describe(run.directory, summary)
    if description.table is not None:
        table = Table(box=None, pad_edge=False)
        for name in description.table:
            table.add_column(str(name), no_wrap=True, justify="right" if name in ("value", "samples") else "left")
        for row in description.table.itertuples(index=False):
            table.add_row(*map(escape, row))
        err.print(table)
    for warning in summary["warnings"]:
        err.print(f"[yellow]warning[/yellow] {escape(warning)}", highlight=False)
    for line in description.lines:
        err.print(escape(line), highlight=False)


def main() -> None:
    """Run the command line."""
    run_app(app, err)


if __name__ == "__main__":
    main()
