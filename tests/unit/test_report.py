"""One report on a score run and all that rests on it: what it says, that it travels, that it can be checked."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from analysis.evidence.measurements import read_measurements
from analysis.redaction import LEFT_OUT
from analysis.report import drawing
from analysis.report.content import Chart, Column, Report, Section, Table, called
from analysis.report.drawing import svg
from analysis.report.evidence import experiment
from analysis.report.files import contents, figures, read
from analysis.report.making import default_options, report_of
from analysis.report.runs import Member, Members, members
from analysis.report.unlearning import unlearned
from analysis.report.verification import compared
from cli.door import door
from mrd_core.errors import UserError
from mrd_core.experiments.kinds import experiments
from mrd_core.runs import RunStore
from mrd_core.runs.directory import read_config, write_config
from mrd_core.samples import ForgetSet
from mrd_core.scoring.config import ScoreConfig
from mrd_core.scoring.files import ScoreFiles
from mrd_core.unlearning.files import UnlearningFiles
from tests.support.evidence_experiments import every_experiment
from tests.support.report_runs import AFTER, NAMES, SCORE, UNLEARNED, VALIDITY_RUN, copies, reported
from tests.support.scored_demo import copied, settings_in

pytestmark = pytest.mark.slow

FIGURES = 50
LARGEST = 1_000_000


class Page(HTMLParser):
    """A page read strictly: tags must be closed in order."""

    def __init__(self, source: str) -> None:
        """Read all of `source`."""
        super().__init__()
        self.opened: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(source)
        self.close()
        assert not self.opened

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.opened.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that holds nothing."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost tag."""
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note the text with the tag that it is in."""
        if self.opened:
            self.texts.append((self.opened[-1], data))

    def inside(self, *tags: str) -> list[str]:
        """Return all texts that lie directly in one of the tags."""
        return [data for tag, data in self.texts if tag in tags]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Members:
    """A score run with a reading, an unlearning run, two evaluations and an experiment."""
    home = reported(tmp_path_factory.getbasetemp())
    return members([home / name for name in NAMES], RunStore.open(settings_in(tmp_path_factory.mktemp("store"))))


@pytest.fixture(scope="module")
def report(runs: Members) -> Report:
    """The report on them."""
    return report_of(runs, default_options(runs), "Ada")


@pytest.fixture(scope="module")
def files(report: Report) -> dict[str, bytes]:
    """Its files."""
    return contents(report)


@pytest.fixture(scope="module")
def page(files: dict[str, bytes]) -> Page:
    """Its page, read."""
    return Page(files["report.html"].decode())


def texts_of(run: Path) -> set[str]:
    """Return the texts of the samples of a score run that are long enough to be theirs alone."""
    frame = ForgetSet.load(ScoreFiles(run).samples).frame
    return {text[:40] for text in (*frame["prompt"], *frame["answer"]) if len(text) >= 20}


@pytest.mark.parametrize(
    ("named", "kinds"),
    [
        (NAMES, ["score", "characteristics", "unlearn", "evaluate", "evaluate", "validity"]),
        ([SCORE], ["score", "characteristics"]),
        ([AFTER], ["score", "characteristics", "evaluate"]),
        ([UNLEARNED, AFTER], ["score", "characteristics", "unlearn", "evaluate"]),
        ([VALIDITY_RUN], ["score", "characteristics", "validity"]),
    ],
)
def test_a_run_stands_for_itself_and_the_scores_that_it_rests_on(
    runs: Members, tmp_path: Path, named: list[str], kinds: list[str]
) -> None:
    home = runs.score.parent
    rested = members([home / name for name in named], RunStore.open(settings_in(tmp_path)))
    assert [run.kind for run in rested.runs] == kinds
    assert rested.score == runs.score


def test_a_reading_rests_on_the_scores_that_it_lies_in(runs: Members, tmp_path: Path) -> None:
    score = copied(runs.score, tmp_path / "copy")
    (reading,) = ScoreFiles(score).readings.iterdir()
    assert members([reading], RunStore.open(settings_in(tmp_path))).score == score


def _on_other_scores(home: Path) -> list[Path]:
    config = read_config(home / SCORE, ScoreConfig)
    estimator = config.estimator.model_copy(update={"seed": 7})
    write_config(copied(home / SCORE, home / "other"), config.model_copy(update={"estimator": estimator}))
    return [home / UNLEARNED, home / "other"]


def _unfinished(home: Path) -> list[Path]:
    UnlearningFiles(home / UNLEARNED).summary.unlink()
    return [home / SCORE, home / UNLEARNED]


def _without_scores(home: Path) -> list[Path]:
    shutil.rmtree(home / SCORE)
    config = home / AFTER / "config.json"
    config.write_text(config.read_text(encoding="utf-8").replace("/scored", "/gone"), encoding="utf-8")
    return [home / AFTER]


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (_on_other_scores, "a report is on one score run"),
        (_unfinished, "has no summary.json"),
        (_without_scores, "no score run is there"),
    ],
)
def test_what_no_report_can_be_made_of_is_refused(
    runs: Members, tmp_path: Path, make: Callable[[Path], list[Path]], cause: str
) -> None:
    copies(runs.score.parent, tmp_path / "runs")
    with pytest.raises(UserError, match=cause):
        members(make(tmp_path / "runs"), RunStore.open(settings_in(tmp_path)))


def test_nothing_is_fetched_and_it_fits_in_a_megabyte(page: Page, files: dict[str, bytes]) -> None:
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not re.search(rb"https?:|url\((?!#)", files["report.html"])
    (policy,) = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert len(files["report.html"]) < LARGEST
    assert sum(tag == "svg" for tag, _ in page.tags) == sum(tag == "figcaption" for tag, _ in page.tags) >= 6


def test_the_first_page_has_verdicts_facts_and_limits(page: Page, report: Report, runs: Members) -> None:
    states = [attrs["class"] for tag, attrs in page.tags if (attrs.get("class") or "").startswith("state ")]
    assert len(states) == 5
    assert states[3:] == ["state damaged", "state not-measured"]
    assert report.answers["Unlearned"].sentence.startswith("GA, seed 0: 30 of 60 forgotten at the end.")
    forget_set, model = (report.facts.rows[f"SHA-256 of the {name}"]["value"] for name in ("forget set", "model"))
    assert forget_set == ForgetSet.load(ScoreFiles(runs.score).samples).digest
    assert re.fullmatch("[0-9a-f]{64}", str(model))
    heads = page.inside("h2")
    assert heads[:2] == ["Limits", "Runs"]
    assert heads[-2:] == ["Methods and sources", "Files (SHA-256)"]
    assert "by Ada" in "".join(page.inside("p"))


def test_settings_that_differ_from_the_defaults_are_told_and_no_others(report: Report) -> None:
    settings = report.runs[SCORE].settings
    assert settings["estimator.draws"] == "16"
    assert settings["estimator.stop"] == "never"
    assert not {"estimator.mode", "estimator.scope", "model.device", "kind", "forget_set_digest"} & settings.keys()
    assert "score_run" not in report.runs[UNLEARNED].settings


def test_every_table_has_a_caption_and_every_head_a_scope(page: Page) -> None:
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption") == tags.count("thead")
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.tags if tag == "th")


def test_a_run_in_the_order_of_a_measure_has_its_thirds_by_mrd(
    runs: Members, report: Report, tmp_path: Path
) -> None:
    member = runs.of("unlearn")[0]
    directory = shutil.copytree(member.directory, tmp_path / member.name)
    config = json.loads((directory / "config.json").read_text())
    config["curriculum"] |= {"sampler": "hard-to-easy", "column": "median_log_odds"}
    (directory / "config.json").write_text(json.dumps(config))
    files = UnlearningFiles(directory)
    files.summary.write_text(json.dumps(files.read_summary() | {"column": "median_log_odds"}))
    thirds, as_drawn = (
        section.parts["thirds"]
        for section in (unlearned([replace(member, directory=directory)]), report.sections["unlearning"])
    )
    assert isinstance(thirds, Table)
    assert isinstance(as_drawn, Table)
    assert [name.rpartition(", ")[2] for name in thirds.rows] == ["hard", "middle", "easy"]
    assert list(thirds.rows.values()) == list(as_drawn.rows.values())


def test_figures_are_those_of_the_runs(report: Report, runs: Members) -> None:
    table = report.sections["unlearning"].parts["runs"]
    assert isinstance(table, Table)
    outcome = pd.read_parquet(UnlearningFiles(runs.of("unlearn")[0].directory).outcome)
    row = table.rows[UNLEARNED]
    assert row["forgotten"] == 30
    assert row["forget_nll"] == pytest.approx(outcome["nll_after"].mean())
    samples = report.sections["difficulty"].parts["samples"]
    assert isinstance(samples, Table)
    scores = pd.read_parquet(ScoreFiles(runs.score).scores).set_index("sample_id")["mrd"]
    stated = {name: row["score"].value for name, row in samples.rows.items()}  # type: ignore[union-attr]
    assert stated == pytest.approx(scores.to_dict())


def test_markdown_and_page_have_the_same_headings(files: dict[str, bytes], page: Page, report: Report) -> None:
    headings = re.findall(r"^## (.+)$", files["report.md"].decode(), re.MULTILINE)
    assert len(headings) == len(report.sections) + 3
    assert {re.sub(r"\\(.)", r"\1", heading) for heading in headings} <= {*page.inside("h2"), "Files"}


def test_two_reports_are_alike_to_the_byte(
    report: Report, runs: Members, files: dict[str, bytes], tmp_path: Path
) -> None:
    again = report_of(runs, default_options(runs), "Ada")
    assert again.model_copy(update={"generated": report.generated}) == report
    (tmp_path / "report.json").write_bytes(files["report.json"])
    # Drawn anew, too.
    drawing._picture.cache_clear()
    assert contents(read(tmp_path / "report.json")) == files


def test_without_texts_no_file_holds_one(runs: Members, files: dict[str, bytes]) -> None:
    redacted = contents(report_of(runs, default_options(runs, without_texts=True)))
    texts = texts_of(runs.score)
    assert any(text in files["report.json"].decode() for text in texts)
    for name, content in redacted.items():
        assert LEFT_OUT in content.decode(), name
        assert not [text for text in texts if text in content.decode()], name


def test_no_text_of_a_stranger_becomes_markup_or_script(report: Report) -> None:
    nasty = "<script>alert(1)</script> $x$ & 'more'"
    charted = {"table": {"a": {"score": 1.0, "rank": 1}, nasty: {"score": 2.0, "rank": 2}}}
    table = Table(
        caption=nasty, columns={"score": {"title": nasty}, "rank": {"title": "$r$"}}, rows=charted["table"]
    )
    chart = Chart(form="points", title=nasty, alt=nasty, table="t", x="rank", y=("score",), unit=nasty)
    forest = chart.model_copy(update={"form": "forest"})
    section = report.sections["difficulty"].model_copy(
        update={"title": nasty, "text": (nasty,), "parts": {"t": table, "c": chart, "f": forest}}
    )
    made = contents(report.model_copy(update={"title": nasty, "sections": {"one": section}}))
    page = Page(made["report.html"].decode())
    assert nasty in page.inside("h1")
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>" not in made["report.md"].decode()


def table_of(section: Section, chart: Chart) -> Table:
    """Return what a chart is drawn from."""
    table = section.parts[chart.table]
    assert isinstance(table, Table)
    return table


def test_each_figure_of_the_page_is_a_picture_of_its_own(report: Report, page: Page) -> None:
    drawn = figures(report)
    assert len(drawn) == len(page.inside("figcaption")) > 3
    titles = [
        ElementTree.fromstring(each).findtext("{http://www.w3.org/2000/svg}title") for each in drawn.values()
    ]
    assert titles == page.inside("figcaption")
    assert {re.sub(r"-\d+$", "", name.removesuffix(".svg")) for name in drawn} >= {"difficulty-ranking"}


def test_every_kind_of_experiment_is_drawn(tmp_path: Path) -> None:
    drawn = {}
    for directory in every_experiment(tmp_path):
        kind = read_measurements(directory).config.kind
        section = experiment(Member(name=kind, kind=kind, directory=directory))
        charts = {name: part for name, part in section.parts.items() if isinstance(part, Chart)}
        pictures = {name: svg(chart, table_of(section, chart)) for name, chart in charts.items()}
        assert pictures, kind
        assert all(pictures.values()), kind
        drawn[kind] = pictures
    assert set(drawn) | {"durability"} == set(experiments())


def test_the_theorems_line_is_where_both_are_equal(tmp_path: Path) -> None:
    directory = every_experiment(tmp_path)[-1]
    section = experiment(Member(name="theorem", kind="theorem", directory=directory))
    chart = section.parts["equality"]
    assert isinstance(chart, Chart)
    without = chart.model_copy(update={"has_diagonal": False})
    with_line, alone = (svg(each, table_of(section, each)) for each in (chart, without))
    assert with_line.count("stroke-dasharray") == alone.count("stroke-dasharray") + 1


def test_axes_that_are_held_against_each_other_are_alike() -> None:
    rows = {"a": {"x": 1.0, "y": 1.01}, "b": {"x": 101.0, "y": 99.0}, "c": {"x": 10.0, "y": 10.0}}
    table = Table(caption="", columns={name: Column(title=name) for name in "xy"}, rows=rows)
    chart = Chart(form="points", title="", alt="", table="", x="x", y=("y",), has_diagonal=True)
    marks = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"[^>]*opacity', svg(chart, table))
    (x1, y1), (x3, y3), (x2, y2) = [(float(x), float(y)) for x, y in marks]
    # Ten is halfway from 1 to a hundred on either axis, and would not be on a linear one.
    assert (x2 - x1) / (x3 - x1) == pytest.approx(0.5, abs=0.01)
    assert (y2 - y1) / (y3 - y1) == pytest.approx(0.5, abs=0.01)


def test_axes_that_span_decades_are_logarithmic() -> None:
    def places(values: list[float]) -> list[float]:
        rows = {str(at): {"x": 1.0 + at, "y": value, "of": "one"} for at, value in enumerate(values)}
        table = Table(caption="", columns={name: Column(title=name) for name in ("x", "y", "of")}, rows=rows)
        chart = Chart(form="curves", title="", alt="", table="", x="x", y=("y",), group="of")
        (line,) = re.findall(r'<path d="M ([^"]+)" clip-path[^>]+stroke-width: 1.4', svg(chart, table))
        return [float(point.split()[1]) for point in line.split(" L ")]

    first, second, third = places([1, 10, 100])
    assert first - second == pytest.approx(second - third, rel=1e-3)
    first, second, third = places([1, 10, 99])
    assert second - third > 5 * (first - second)


def test_a_chart_without_a_value_is_not_drawn() -> None:
    columns = {name: Column(title="") for name in "xy"}
    table = Table(caption="", columns=columns, rows={"a": {"x": None, "y": None}})
    for form in get_args(Chart.model_fields["form"].annotation):
        assert svg(Chart(form=form, title="", alt="", table="", x="x", y=("y",)), table) == ""


def test_the_seeds_of_a_setting_are_curves_that_look_alike() -> None:
    columns = {name: Column(title=name) for name in ("x", "y", "setting", "run")}
    rows = {
        f"{setting} {seed} {at}": {"x": at, "y": at + seed, "setting": setting, "run": f"{setting}, seed {seed}"}
        for setting in ("GA", "NPO")
        for seed in range(3)
        for at in range(4)
    }
    look = {"form": "curves", "title": "", "alt": "", "table": "", "x": "x", "y": ("y",), "group": "setting"}
    table = Table(caption="", columns=columns, rows=rows)
    drawn = svg(Chart.model_validate(look | {"line": "run"}), table)
    curves = re.findall(r'<path d="M[^"]+" clip-path[^>]+stroke: (#\w+)[^>]*stroke-width: 1.4', drawn)
    assert [curves.count(colour) for colour in dict.fromkeys(curves)] == [3, 3]
    assert [drawn.count(f">{name}<") for name in ("GA", "NPO")] == [1, 1]


def test_an_axis_of_whole_numbers_has_no_halves() -> None:
    columns = {name: Column(title=name) for name in "xy"}
    table = Table(caption="", columns=columns, rows={str(at): {"x": at, "y": at / 3} for at in range(1, 6)})
    drawn = svg(Chart(form="points", title="", alt="", table="", x="x", y=("y",)), table)
    along = re.findall(r"text-anchor: middle[^>]*>([\d.]+)<", drawn)
    assert along == ["1", "2", "3", "4", "5"]


def test_a_legend_of_many_takes_nothing_from_what_is_drawn() -> None:
    def plotted(groups: int) -> float:
        columns = {name: Column(title=name) for name in ("x", "y", "group")}
        rows = {str(at): {"x": at, "y": at, "group": f"GA {at}"} for at in range(groups)}
        table = Table(caption="", columns=columns, rows=rows)
        drawn = svg(
            Chart(form="points", title="", alt="", table="", x="x", y=("y",), group="group", unit="y"), table
        )
        (clip,) = re.findall(r'<clipPath[^>]*>\s*<rect[^>]* height="([\d.]+)"', drawn)
        return float(clip)

    assert plotted(4) == pytest.approx(plotted(16), rel=0.05) == pytest.approx(plotted(46), rel=0.15)


def test_any_changed_figure_is_found_by_its_name(report: Report) -> None:
    said = json.loads(report.model_dump_json())
    figures = [
        path for path, leaf in report.leaves().items() if type(leaf) in (int, float) and path[0] != "format"
    ]
    assert len(figures) > 10 * FIGURES
    for path in (figures[at] for at in np.linspace(0, len(figures) - 1, FIGURES).round().astype(int)):
        changed = json.loads(json.dumps(said))
        place: Any = changed
        for step in path[:-1]:
            place = place[int(step)] if isinstance(place, list) else place[step]
        place[path[-1]] = place[path[-1]] * 1.001 + 1e-6 if isinstance(place[path[-1]], float) else 9_999
        (difference,) = compared(Report.model_validate(changed), report)
        assert difference.name == called(path)
        assert difference.runs == report.leaves()[path]


def command(*words: object) -> Result:
    """Return how a command ends in this process."""
    return CliRunner().invoke(door, list(map(str, words)))


@pytest.fixture(scope="module")
def written(runs: Members, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a report by the command line, and copies of its runs beside it."""
    folder = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRD_HOME", str(folder / "home"))
        patch.delenv("MRD_STORE_URL", raising=False)
        directories = copies(runs.score.parent, folder / "runs")
        ids = list(pd.read_parquet(ScoreFiles(directories[0]).scores).sort_values("mrd")["sample_id"].tail(12))
        (folder / "easy.txt").write_text("\n".join(ids), encoding="utf-8")
        options = ["--out", folder / "report", "--by", "Ada", "--audit", folder / "easy.txt"]
        outcome = command("report", *directories, *options)
        assert outcome.exit_code == 0, outcome.output
        assert "counts for nothing" in " ".join(outcome.output.split())
        yield folder


def test_a_set_within_the_pool_is_audited_and_needs_no_file_to_be_checked(written: Path) -> None:
    report = read(written / "report" / "report.json")
    assert report.options.audit is not None
    assert len(report.options.audit.sample_ids) == 12
    said = report.sections["audit"].text[0]
    assert said.startswith("The forget set is easier to unlearn than random ones.")
    (written / "easy.txt").unlink(missing_ok=True)
    (written / "other.jsonl").write_text('{"question": "Who?", "answer": "Nobody else"}\n', encoding="utf-8")
    refused = command("report", written / "runs" / SCORE, "--audit", written / "other.jsonl")
    assert isinstance(refused.exception, UserError)


def verify(folder: Path) -> tuple[int, dict[str, Any]]:
    """Return how the check of a report ends, and what it finds."""
    directories = [folder / "runs" / name for name in NAMES]
    outcome = command("verify", folder / "report" / "report.json", *directories, "--json")
    assert outcome.exit_code in (0, 1), outcome.output
    return outcome.exit_code, json.loads(outcome.stdout)


def test_a_report_of_the_shell_is_whole_and_follows_from_its_runs(written: Path) -> None:
    names = {"report.html", "report.md", "report.json", "figures"}
    assert {path.name for path in (written / "report").iterdir()} == names
    code, found = verify(written)
    assert (code, found["differences"]) == (0, [])
    assert found["compared"] > 10 * FIGURES
    again = command("report", written / "runs" / SCORE, "--out", written / "report")
    assert isinstance(again.exception, UserError)
    assert "new or empty" in again.exception.fix


def test_what_was_changed_since_is_found(written: Path, tmp_path: Path) -> None:
    folder = copied(written, tmp_path / "changed")
    files, score = UnlearningFiles(folder / "runs" / UNLEARNED), ScoreFiles(folder / "runs" / SCORE)
    outcome, draws = pd.read_parquet(files.outcome), pd.read_parquet(score.draws)
    outcome.loc[3, "accuracy_after"] = 0.93
    outcome.to_parquet(files.outcome, index=False)
    first = draws["sample_id"].iloc[0]
    draws.loc[draws["sample_id"] == first, "relative_answer"] *= 1.01
    draws.to_parquet(score.draws, index=False)
    page = folder / "report" / "report.html"
    page.write_text(page.read_text(encoding="utf-8").replace("30 of 60", "60 of 60"), encoding="utf-8")
    drawn = folder / "report/figures/difficulty-ranking.svg"
    drawn.write_text(drawn.read_text(encoding="utf-8").replace("#", "#0"), encoding="utf-8")
    code, found = verify(folder)
    names = {each["name"] for each in found["differences"]}
    assert code == 1
    assert "figures/difficulty-ranking.svg" in names
    assert {f"runs.{UNLEARNED}.files.outcome.parquet", f"runs.{SCORE}.files.draws.parquet", "report.html"} <= names
    assert f"unlearning.runs.{UNLEARNED}.forget_accuracy" in names
    assert f"difficulty.samples.{first}.score.value" in names
    assert f"unlearning.runs.{UNLEARNED}.retain_accuracy" not in names


def test_a_run_that_is_not_named_is_asked_for(written: Path) -> None:
    refused = command("verify", written / "report" / "report.json", written / "runs" / SCORE)
    assert isinstance(refused.exception, UserError)
    assert UNLEARNED in refused.exception.what


@pytest.mark.parametrize("content", ["{", "[]", "of another format", "drawn from nothing"])
def test_what_is_no_report_is_refused(written: Path, tmp_path: Path, content: str) -> None:
    path, whole = tmp_path / "report.json", (written / "report" / "report.json").read_text(encoding="utf-8")
    changes = {
        "of another format": ('"format": 1,', '"format": 99,'),
        "drawn from nothing": ('"table": "samples"', '"table": "none"'),
    }
    path.write_text(whole.replace(*changes[content]) if content in changes else content, encoding="utf-8")
    refused = command("verify", path, written / "runs" / SCORE)
    assert isinstance(refused.exception, UserError)
    assert refused.exception.what == str(path)
