"""From runs to a report: each section is filled from the files of its runs, and every verdict from the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import pandas as pd

from analysis import verdict
from analysis.characteristics.judgement import Judgement, claim_figures, judged, replicates_for
from analysis.characteristics.runs import Characterised, characterised
from analysis.comparison.kept import kept_answers, rest_with_answers
from analysis.difficulty import ScoredRun, Variant, ranking, trust
from analysis.evidence.headlines import headlines
from analysis.evidence.measurements import read_measurements
from analysis.evidence.returns import comebacks
from analysis.redaction import without_texts
from analysis.report import methods
from analysis.report.audit import audit
from analysis.report.characteristics import LIMITS as CLAIM_LIMITS
from analysis.report.characteristics import claims, length
from analysis.report.content import Answer, AuditedSet, Method, Options, Report, Section
from analysis.report.difficulty import difficulty, measures
from analysis.report.evaluation import evaluations
from analysis.report.evidence import experiment
from analysis.report.provenance import facts, programs, record
from analysis.report.runs import EVALUATION, UNLEARNING, Member, Members
from analysis.report.unlearning import name_of, risk, summary_of, unlearned
from analysis.verdict import ASKED, Verdict
from mrd_core.experiments.config import ExperimentConfig
from mrd_core.runs.directory import read_config
from mrd_core.runs.files import json_value
from mrd_core.scoring.config import ScoreConfig

LIMITS = (
    "Everything here is about this model, these samples and these settings, and about MRD as a measure; whether "
    "it foretells unlearning on this model is a question of its own, answered above.",
    "Intervals are 95 % intervals; of many, some miss what they are of by chance.",
    "What is forgotten by what a model answers need not be gone from its weights, and may come back.",
)


def default_options(members: Members, *, without_texts: bool = False, audit: AuditedSet | None = None) -> Options:
    """Return what a report looks at unless something else is asked: the scores by which the run ranks."""
    estimator = read_config(members.score, ScoreConfig).estimator
    variant = Variant(estimator.scope, estimator.normalisation)
    return Options(variant=variant, without_texts=without_texts, audit=audit)


def report_of(members: Members, options: Options, by: str = "", *, is_fresh: bool = False) -> Report:
    """Return the report on runs.

    Args:
        members: The runs.
        options: What is looked at, and whether texts of samples are left out.
        by: Who makes it.
        is_fresh: Whether everything is judged anew, and nothing taken from what was judged before.

    Raises:
        UserError: A file of a run is gone.
    """
    return _Maker(members, options, is_fresh).report(by)


@dataclass(frozen=True, eq=False)
class _Maker:
    """Runs on their way into a report, each file read once."""

    members: Members
    options: Options
    is_fresh: bool

    @cached_property
    def run(self) -> ScoredRun:
        return ScoredRun(self.members.score)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The samples, hardest first, without texts where they are left out."""
        table = ranking(self.run, self.options.variant)
        return without_texts(table) if self.options.without_texts else table

    @cached_property
    def read(self) -> tuple[Characterised, Judgement] | None:
        """What was read of the texts and what is concluded from it; None where nothing was read."""
        reading = self.members.reading
        if reading is None or self.run.draws.is_preview:
            return None
        forget_set = characterised(self.members.score, reading, self.options.variant)
        judgement = judged(forget_set, {}, None if self.is_fresh else reading)
        return forget_set.without_texts() if self.options.without_texts else forget_set, judgement

    def report(self, by: str) -> Report:
        verdicts = list(self.verdicts())
        sections = dict(self.sections())
        return Report(
            title=f"Difficulty of unlearning: {read_config(self.members.score, ScoreConfig).title}",
            generated=datetime.now(UTC).replace(microsecond=0),
            by=by,
            programs=programs(),
            options=self.options,
            conclusion=verdict.conclusion(verdicts),
            answers={
                str(each.question): Answer(question=ASKED[each.question], state=each.state, sentence=each.sentence)
                for each in verdicts
            },
            facts=facts(self.run, self.members.of(UNLEARNING)),
            runs={member.name: record(member) for member in self.members.runs},
            limits=tuple(self.limits()),
            sections=sections,
            methods=dict(self.methods()),
        )

    def verdicts(self) -> Iterator[Verdict]:
        summary, trusted = self.run.files.read_figures(), trust(self.run, self.options.variant)
        recomputed = {f"reliability_{norm}": json_value(value) for norm, value in trusted.reliability.items()}
        normalisation = {"normalisation": str(self.options.variant.normalisation), "n_samples": len(self.table)}
        yield verdict.measured(summary.model_copy(update=recomputed | normalisation))
        yield verdict.explained(claim_figures(self.read[1]) if self.read else None)
        validity = self.members.of("validity")
        yield verdict.predictive(headlines(validity[-1].directory) if validity else None)
        runs = self.members.of(UNLEARNING)
        if runs:
            evaluated = [member.directory for member in self.members.of(EVALUATION)]
            kept = kept_answers(runs[-1].directory, evaluated)
            yield verdict.unlearned(name_of(runs[-1]), summary_of(runs[-1]), kept)
        else:
            yield verdict.unlearned("", None)
        yield self.durable()

    def durable(self) -> Verdict:
        """Judge what came back of the newest unlearning run that the newest durability experiment attacked."""
        experiments = self.members.of("durability")
        lines = comebacks(read_measurements(experiments[-1].directory)) if experiments else []
        for run in reversed(self.members.of(UNLEARNING)):
            if own := [line for line in lines if line.model == run.directory.name]:
                evaluated = [member.directory for member in self.members.of(EVALUATION)]
                kept = kept_answers(run.directory, evaluated)
                left, _ = rest_with_answers(summary_of(run), kept)
                return verdict.durable(name_of(run), own, left)
        return verdict.durable()

    def attacked(self, run: Member) -> Member | None:
        """Return the newest durability experiment that attacked an unlearning run."""
        return next(
            (
                each
                for each in reversed(self.members.of("durability"))
                if run.directory in getattr(read_config(each.directory, ExperimentConfig), "runs", ())
            ),
            None,
        )

    def sections(self) -> Iterator[tuple[str, Section]]:
        variant = self.options.variant
        yield "difficulty", difficulty(self.run, self.table, variant)
        if beside := measures(self.run, self.table, variant, replicates_for(len(self.table))):
            yield "measures", beside
        if self.options.audit:
            yield "audit", audit(self.run, self.options.audit)
        if self.read:
            yield "claims", claims(*self.read)
            yield "length", length(*self.read)
        for member in self.members.experiments:
            yield member.kind, experiment(member)
        if runs := self.members.of(UNLEARNING):
            yield "unlearning", unlearned(runs)
            for member in runs:
                section = risk(member, self.attacked(member), without_texts=self.options.without_texts)
                yield f"risk_{member.name}", section
        yield from evaluations(self.members.of(EVALUATION)).items()

    def limits(self) -> Iterator[str]:
        yield from self.run.files.read_figures().warnings
        yield from LIMITS
        if self.read:
            yield from CLAIM_LIMITS

    def methods(self) -> Iterator[tuple[str, Method]]:
        parts = {
            methods.SCORES: True,
            methods.AUDIT: self.options.audit,
            methods.CLAIMS: self.read,
            methods.EXPERIMENTS: self.members.experiments,
            methods.UNLEARNING: self.members.of(UNLEARNING),
            methods.EVALUATIONS: self.members.of(EVALUATION),
            methods.VERIFICATION: True,
        }
        yield from ((name, methods.METHODS[name]) for name, is_there in parts.items() if is_there)
