"""The command line of the analyses: `python -m analysis --help`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pydantic
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.characteristics import runs as reading
from analysis.characteristics.claims import Claim
from analysis.characteristics.config import CharacteristicsConfig
from analysis.characteristics.judgement import Judgement, claims_json, judged, remains
from analysis.characteristics.runs import Characterised
from analysis.characteristics.strata import parsed
from analysis.comparison.strata import COLUMN as DIFFICULTY_COLUMN
from analysis.comparison_command import compared
from analysis.difficulty import Variant
from analysis.evidence.brief import brief
from analysis.evidence.judge import Evidence, Measurements, judge, measurements
from analysis.export.characteristics import exports, write_exports
from analysis.export.comparison import write_exports as write_comparison
from analysis.export.evidence import evidence_json, write_tables
from analysis.text.config import ReadingConfig
from mrd_core.command_line import EXIT_CANCELLED, EXIT_FAILED, EXIT_USER_ERROR, run_app
from mrd_core.errors import UserError
from mrd_core.runs import Run, RunState, RunStore, submit, worker
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import CONFIG_FILE
from mrd_core.samples.config import ForgetSetConfig, Scope
from mrd_core.scoring.config import Formula, Normalisation, ScoreConfig
from mrd_core.settings.configuration import help_of
from mrd_core.settings.installation import Settings
from mrd_core.shell import NO_CORPUS

app = typer.Typer(
    help="What makes a sample hard to unlearn on this model, and is that what the paper says?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console()
# The terminal wraps: a path that is broken here could not be copied.
err = Console(stderr=True, soft_wrap=True)


def reading_option(field: str, *names: str) -> Any:
    """Return the typer option of a field of ReadingConfig, its help and default taken from there."""
    default = ReadingConfig.model_fields[field].default
    return typer.Option(*names, help=f"{help_of(ReadingConfig, field)} [default: {default}]")


def corpus_option(field: str) -> Any:
    """Return the typer option of a field of the corpus."""
    return typer.Option(f"--corpus-{field}", help=help_of(ForgetSetConfig, field))


@app.command()
def characteristics(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Score run: its id, or its directory.")],
    corpus: Annotated[
        str | None,
        typer.Option(
            help=f"{help_of(CharacteristicsConfig, 'corpus')} A file, folder or hub id; "
            f"`{NO_CORPUS}` leaves it out."
        ),
    ] = None,
    corpus_subset: Annotated[str | None, corpus_option("subset")] = None,
    corpus_split: Annotated[str | None, corpus_option("split")] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Folder for the files; by default that of the reading.")
    ] = None,
    pipeline: Annotated[str | None, reading_option("pipeline")] = None,
    language: Annotated[str | None, reading_option("language")] = None,
    text: Annotated[Scope | None, reading_option("text")] = None,
    common_words: Annotated[int | None, reading_option("common_words")] = None,
    names: Annotated[str | None, reading_option("names")] = None,
    numbers: Annotated[str | None, reading_option("numbers")] = None,
    ngram: Annotated[int | None, reading_option("ngram")] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(help="CRITERION=quartile|mean|median|NUMBER, repeatable; by default the paper's."),
    ] = None,
    scope: Annotated[Scope | None, typer.Option(help="Scored tokens; by default those of the run.")] = None,
    normalisation: Annotated[
        Normalisation | None, typer.Option(help="Normalisation of MRD; by default that of the run.")
    ] = None,
    formula: Annotated[Formula, typer.Option(help="Variant of the score.")] = Formula.MRD,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")] = False,
) -> None:
    """Read the texts of a scored forget set, hold the paper's claims against it, write everything to files."""
    score_run = _score_run(run)
    if out_dir:
        _require_folder(out_dir)
    wishes = {
        "pipeline": pipeline,
        "language": language,
        "text": text,
        "common_words": common_words,
        "names": names,
        "numbers": numbers,
        "ngram": ngram,
    }
    thresholds = dict(map(parsed, threshold or ()))
    settings = _reading({name: wish for name, wish in wishes.items() if wish is not None})
    score_config = read_config(score_run, ScoreConfig)
    config = reading.default_config(score_run)
    chosen = _corpus(corpus, corpus_subset, corpus_split, config.corpus)
    done = _carried_out(config.model_copy(update={"reading": settings, "corpus": chosen}))
    estimator = score_config.estimator
    variant = Variant(scope or estimator.scope, normalisation or estimator.normalisation, formula)
    found = reading.characterised(score_run, done.directory, variant)
    judgement = judged(found, thresholds)
    folder, contents = out_dir or done.directory, exports(found, judgement, score_config.title)
    write_exports(folder, contents)
    if as_json:
        print(json.dumps(claims_json(judgement), ensure_ascii=False), flush=True)
    else:
        _print(found, judgement)
    err.print(f"Written to {escape(str(folder))}: {', '.join(contents)}", highlight=False)


@app.command()
def evidence(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Directories of experiments, running or done.")
    ],
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Folder for every table as CSV, named after its directory.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a directory, a line each, instead of tables.")
    ] = False,
) -> None:
    """Judge experiments: does difficulty predict unlearning, with which interval, and what speaks against it?"""
    if out_dir:
        _require_folder(out_dir)
        _require_different_names(directories)
    for directory in directories:
        found = measurements(directory)
        shown = judge(found)
        if as_json:
            print(json.dumps(evidence_json(found, shown), ensure_ascii=False, allow_nan=False), flush=True)
        else:
            _print_evidence(found, shown)
        if out_dir:
            written = write_tables(out_dir, directory.resolve().name, shown)
            err.print(f"Written to {escape(str(out_dir))}: {escape(', '.join(written))}", highlight=False)


@app.command()
def compare(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR...", help="Directories of evaluations, or result files of OpenUnlearning (JSON)."
        ),
    ],
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="The one that the others are held against; by default the first of a model that nothing was "
            "unlearned from."
        ),
    ] = None,
    column: Annotated[
        str, typer.Option(help="Column of the scores by which samples are hard or easy.")
    ] = DIFFICULTY_COLUMN,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Folder for tables (CSV, Markdown, LaTeX) and figures (HTML).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Compare evaluations: what was forgotten, what was kept, at what price, and is the difference noise?"""
    if out_dir:
        _require_folder(out_dir)
    found = compared(sources, baseline, column)
    if as_json:
        print(json.dumps(found.as_json(), ensure_ascii=False, allow_nan=False), flush=True)
    else:
        for title, frame in found.tables():
            out.print(_grid(title, frame))
        for note in found.said():
            out.print(f"Mind: {note}", highlight=False, markup=False)
    if out_dir:
        contents = found.exports()
        write_comparison(out_dir, contents)
        err.print(f"Written to {escape(str(out_dir))}: {escape(', '.join(contents))}", highlight=False)


@app.command("run")
def run_directory(
    directory: Annotated[Path, typer.Argument(help="Directory of a characteristics run, with a config.json.")],
) -> None:
    """Carry out the run that a directory's config.json describes."""
    _work(directory)


@app.command()
def doctor() -> None:
    """Print which pipeline reads the texts, and the versions of what measures them."""
    from analysis.doctor import Finding, findings

    table = Table(box=None, pad_edge=False)
    for name in Finding._fields:
        table.add_column(name, overflow="fold")
    for finding in findings():
        table.add_row(*map(escape, finding))
    out.print(table)


def _score_run(text: str) -> Path:
    """Return the directory of a score run that is named by it, or by its id."""
    path = Path(text).expanduser()
    if (path / CONFIG_FILE).is_file():
        return path.resolve()
    if path.exists():
        raise UserError(str(path), f"is no run directory: it holds no {CONFIG_FILE}.", "Name that of a score run.")
    return _store().get(text).directory


def _require_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written to, and a run's: what it holds would be written over."""
    if (folder / CONFIG_FILE).exists():
        raise UserError(f"--out {folder}", "is the directory of a run.", "Name another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out {folder}", f"cannot be a folder: {error.strerror}.", "Name a folder that can be written to."
        ) from error


def _require_different_names(directories: list[Path]) -> None:
    """Refuse directories whose tables would be written over one another."""
    names = [directory.resolve().name for directory in directories]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            f"The name {twice}",
            "is that of two directories, and tables are named after it.",
            "Judge one at a time.",
        )


def _store() -> RunStore:
    return RunStore.open(Settings.from_environment())


def _reading(wished: dict[str, Any]) -> ReadingConfig:
    try:
        return ReadingConfig(**wished)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise UserError(
            f"--{option} {first['input']}", f"{first['msg']}.", "See `python -m analysis characteristics --help`."
        ) from error


def _corpus(
    source: str | None, subset: str | None, split: str | None, default: ForgetSetConfig | None
) -> ForgetSetConfig | None:
    """Return the corpus that the options name, the default where they name none."""
    if source in (None, NO_CORPUS, "demo"):
        if subset or split:
            raise UserError(
                f"--corpus-{'subset' if subset else 'split'} {subset or split}",
                "belongs to a data set, and --corpus names none.",
                "Name the data set with --corpus.",
            )
        return {None: default, NO_CORPUS: None}.get(source, ForgetSetConfig(source="demo"))
    path = Path(source).expanduser()
    found = str(path.resolve()) if path.exists() else source
    return ForgetSetConfig(source=found, subset=subset, split=split, invalid_rows="skip")


def _carried_out(config: CharacteristicsConfig) -> Run:
    """Return the finished reading of these settings; one that is not there yet is made, here in the foreground."""
    store = _store()
    run = submit(config, store=store, settings=Settings.from_environment())
    if run.state is not RunState.SUCCEEDED:
        _work(run.directory)
    return store.get(run.id)


def _work(directory: Path) -> None:
    state = worker.run(directory, foreground=True)
    if state is RunState.CANCELLED:
        err.print("Cancelled.")
        raise typer.Exit(EXIT_CANCELLED)
    if state is not RunState.SUCCEEDED:
        run = _store().find_by_directory(directory)
        raise typer.Exit(EXIT_USER_ERROR if run and run.error and run.error.type == "UserError" else EXIT_FAILED)


def _print(found: Characterised, judgement: Judgement) -> None:
    about = found.about
    out.print(f"Read by {about.pipeline} ({about.pipeline_reason})", highlight=False, markup=False)
    for caution in about.cautions:
        err.print(f"[yellow]warning[/yellow] {escape(caution)}", highlight=False)
    for normalisation, claims in judgement.claims.items():
        table = Table(title=f"MRD, {normalisation} over the tokens (small: hard)", title_justify="left", box=None)
        # In a narrow terminal it is the words that are broken: no figure and no verdict is cut.
        table.add_column("criterion")
        for name in ("high, low", "difference, δ, p (Holm)", "length held", "verdict"):
            table.add_column(name, no_wrap=True)
        for claim in claims:
            table.add_row(*map(escape, _row(claim, judgement, normalisation)))
        out.print(table)
    for claim in judgement.shown:
        measured = f"{claim.feature}, high is {claim.rule}" if claim.feature else "not measured"
        out.print(f"{claim.criterion.title}: {measured}; {claim.reason}", highlight=False, markup=False)


def _row(claim: Claim, judgement: Judgement, normalisation: Normalisation) -> tuple[str, ...]:
    name = (claim.criterion.title, f"{claim.n_high}, {claim.n_low}")
    if claim.comparison is None:
        return (*name, "–", "–", claim.verdict)
    difference, delta = claim.comparison.difference, claim.comparison.cliffs_delta
    left = remains(judgement, claim, normalisation)
    return (
        *name,
        f"{difference.value:+.3g}\n[{difference.low:+.3g}, {difference.high:+.3g}]\n"
        f"δ {delta.value:+.2f}, p {claim.p_holm:.2g}",
        f"{left['length_held']:+.2f}\n[{left['length_held_low']:+.2f}, {left['length_held_high']:+.2f}]",
        claim.verdict,
    )


def _print_evidence(found: Measurements, shown: Evidence) -> None:
    out.print(f"{found.config.title} ({found.config.figure})", style="bold", highlight=False, markup=False)
    out.print(shown.verdict, highlight=False, markup=False)
    for finding in shown.findings:
        out.print(f"- {finding}", highlight=False, markup=False)
    for title, frame in brief(shown).items():
        out.print(_grid(title, frame))
    out.print(f"Paper: {shown.paper}", highlight=False, markup=False)
    for caveat in shown.caveats:
        out.print(f"Mind: {caveat}", highlight=False, markup=False)


def _grid(title: str, frame: pd.DataFrame) -> Table:
    table = Table(title=escape(title), title_justify="left", box=None)
    # In a narrow terminal it is the words that are broken: no figure is cut.
    for number, column in enumerate(frame):
        table.add_column(escape(str(column)), no_wrap=number > 0)
    for row in frame.itertuples(index=False, name=None):
        table.add_row(*map(escape, row))
    return table


def main() -> None:
    """Run the command line."""
    run_app(app, err)


if __name__ == "__main__":
    main()
