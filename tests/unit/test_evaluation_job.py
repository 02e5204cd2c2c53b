"""Evaluations by their front door: a tiny model that knows its samples, asked in TOFU's layout and by its runs."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from mrd_core.errors import UserError
from mrd_core.evaluation import interchange
from mrd_core.evaluation.command import EVALUATE
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.files import EvaluationFiles
from mrd_core.evaluation.job import evaluate_job
from mrd_core.evaluation.request import completed, copy_sets
from mrd_core.model.config import ModelConfig
from mrd_core.model.loading import load
from mrd_core.model.memorization import measure_memorization
from mrd_core.runs import Cancelled, JobContext, RunState, submit, worker
from mrd_core.runs.directory import read_config, write_config
from mrd_core.runs.files import read_json, write_frame
from mrd_core.samples import read
from mrd_core.samples.config import ForgetSetConfig
from mrd_core.scoring.config import ScoreConfig
from tests.support import tiny
from tests.support.commands import Outcome
from tests.support.unlearning_runs import N_FORGET, N_RETAIN, Place, Scored, forget_rows, retain_rows, scored_tiny
from tests.unit.conftest import CONTEXT, WORDS, write_rows

pytestmark = pytest.mark.slow

WRONG = 3


def perturbed(row: dict[str, str]) -> dict[str, Any]:
    """Return a row of a `_perturbed` file: the paraphrases are what the model knows, the wrong ones are not."""
    wrong = [f"{WORDS[(i * 5) % len(WORDS)]} {WORDS[(i * 7 + 1) % len(WORDS)]} {i}" for i in range(WRONG)]
    return {
        "question": row["question"],
        "answer": row["answer"],
        "paraphrased_answer": row["answer"],
        "perturbed_answer": wrong,
        "paraphrased_question": row["question"],
    }


def general(name: str) -> list[dict[str, Any]]:
    """Return rows that the model never saw, with wrong answers and no paraphrases."""
    return [
        {"question": f"{name} {i}?", "answer": WORDS[i], "perturbed_answer": [WORDS[i + 1], WORDS[i + 2]]}
        for i in range(4)
    ]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    return scored_tiny(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in TOFU's layout."""
    folder = tmp_path_factory.mktemp("tofu")
    write_rows(folder / "forget10_perturbed.jsonl", [perturbed(row) for row in forget_rows()])
    write_rows(folder / "retain_perturbed.jsonl", [perturbed(row) for row in retain_rows()])
    write_rows(folder / "real_authors_perturbed.jsonl", general("Author"))
    write_rows(folder / "world_facts_perturbed.jsonl", general("Fact"))
    return folder


def tofu(scored: Scored, data: Path, **changes: Any) -> EvaluateConfig:
    """Return the configuration of an evaluation of the tiny model."""
    settings: dict[str, Any] = {
        "suite": "tofu",
        "data": str(data),
        "model": {"source": str(scored.model), "device": "cpu"},
        "max_new_tokens": 40,
    }
    return EvaluateConfig.model_validate(settings | changes)


def carried_out(config: EvaluateConfig, directory: Path, context: JobContext | None = None) -> EvaluationFiles:
    """Carry an evaluation out in a directory."""
    directory.mkdir(exist_ok=True)
    files = EvaluationFiles(directory)
    if not files.catalogue.exists():
        copy_sets(config, files)
    evaluate_job(config, context or JobContext(directory))
    return files


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """The evaluation of a model that knows nothing."""
    home = tmp_path_factory.mktemp("reference")
    tokenizer = tiny.tokenizer()
    tiny.llama(seed=5, vocab_size=len(tokenizer), max_position_embeddings=CONTEXT).save_pretrained(home / "model")
    tokenizer.save_pretrained(home / "model")
    config = EvaluateConfig(
        suite="tofu",
        data=str(data),
        model=ModelConfig(source=str(home / "model"), device="cpu"),
        max_new_tokens=4,
    )
    return carried_out(config, home / "evaluation").directory


@pytest.fixture(scope="module")
def evaluated(
    tmp_path_factory: pytest.TempPathFactory, scored: Scored, data: Path, reference: Path
) -> EvaluationFiles:
    """The evaluation of the model that knows all forget and retain samples."""
    config = tofu(scored, data, reference=str(reference), score_run=scored.directory)
    return carried_out(config, tmp_path_factory.mktemp("evaluated") / "run")


def value(files: EvaluationFiles, split: str, metric: str) -> float:
    """Return an aggregate."""
    found = [one for one in read_json(files.aggregates) if (one["split"], one["metric"]) == (split, metric)]
    assert len(found) == 1, (split, metric)
    return float(found[0]["value"])


def of_samples(files: EvaluationFiles, split: str, metric: str) -> pd.Series[float]:
    """Return the values of a metric by sample."""
    values = pd.read_parquet(files.values)
    wanted = (values["split"] == split) & (values["metric"] == metric)
    return values[wanted].set_index("sample_id")["value"]


def test_a_model_that_knows_its_samples_is_found_to(evaluated: EvaluationFiles) -> None:
    for split in ("forget", "retain"):
        assert value(evaluated, split, "exact_memorization") == 1.0
        assert value(evaluated, split, "rouge") == 1.0
        assert value(evaluated, split, "accuracy") == 1.0
        assert value(evaluated, split, "answer_match") == 1.0
    assert (value(evaluated, "forget", "rr"), value(evaluated, "forget", "ua")) == (0.0, 0.0)
    assert value(evaluated, "world_facts", "answer_match") == 0.0


def test_likelihoods_are_those_of_the_model(evaluated: EvaluationFiles, scored: Scored) -> None:
    model = load(ModelConfig(source=str(scored.model), device="cpu"))
    from tests.support.tiny import encode

    forget = read(ForgetSetConfig(source=str(scored.forget)))
    oracle = measure_memorization(model.reader(512), encode(forget, model.tokenizer, model.context, "plain"))
    np.testing.assert_allclose(of_samples(evaluated, "forget", "nll"), oracle.nll, rtol=1e-4)


def test_the_truth_ratio_is_that_of_the_likelihoods(evaluated: EvaluationFiles) -> None:
    raw = of_samples(evaluated, "forget", "truth_ratio_raw")
    # What the model knows by heart is far likelier than any wrong answer.
    assert (raw < 0.2).all()
    np.testing.assert_allclose(of_samples(evaluated, "forget", "truth_ratio"), np.minimum(raw, 1 / raw))
    retained = of_samples(evaluated, "retain", "truth_ratio_raw")
    np.testing.assert_allclose(of_samples(evaluated, "retain", "truth_ratio"), np.maximum(0, 1 - retained))


def test_forget_quality_holds_the_model_against_its_reference(evaluated: EvaluationFiles, reference: Path) -> None:
    theirs = of_samples(EvaluationFiles(reference), "forget", "truth_ratio_raw")
    pd.testing.assert_series_equal(of_samples(evaluated, "forget", "truth_ratio_reference"), theirs)
    assert value(evaluated, "forget", "forget_quality") < 1e-3


def test_a_reference_may_be_a_model(
    tmp_path: Path, scored: Scored, data: Path, reference: Path, evaluated: EvaluationFiles
) -> None:
    model = str(reference.parent / "model")
    files = carried_out(tofu(scored, data, reference=model, limit=4), tmp_path / "run")
    found = of_samples(files, "forget", "truth_ratio_reference")
    assert len(found) == 4
    np.testing.assert_allclose(
        found, of_samples(evaluated, "forget", "truth_ratio_reference").loc[found.index], rtol=1e-3
    )


def test_a_reference_of_fewer_samples_is_refused(
    tmp_path: Path, scored: Scored, data: Path, reference: Path
) -> None:
    less = EvaluationFiles(Path(shutil.copytree(reference, tmp_path / "less")))
    values = pd.read_parquet(less.values)
    some = values[values["sample_id"].isin(values["sample_id"].unique()[:4])]
    write_frame(less.values, some)
    asked = tofu(scored, data, reference=str(less.directory))
    # When it is asked for, and again by a job whose sets were there before.
    for refused in (
        lambda: copy_sets(asked, EvaluationFiles(tmp_path)),
        lambda: carried_out(asked, tmp_path / "run"),
    ):
        with pytest.raises(UserError, match="has the truth ratio of 4 of the 10 forget samples"):
            refused()


def test_quality_and_attacks_of_a_few_samples_are_undefined_or_doubted(
    tmp_path: Path, scored: Scored, data: Path, reference: Path, evaluated: EvaluationFiles
) -> None:
    files = carried_out(tofu(scored, data, reference=str(reference), limit=3, max_new_tokens=2), tmp_path / "run")
    aggregates = {each["metric"]: each["value"] for each in read_json(files.aggregates)}
    assert aggregates["forget_quality"] is aggregates["mia_loss_retain"] is None
    assert any("forget_quality: 3 samples" in warning for warning in files.read_summary()["warnings"])
    assert any(
        "10 samples" in warning and "few (below 30)" in warning for warning in evaluated.read_summary()["warnings"]
    )


def test_every_text_that_was_written_is_kept_with_its_question(evaluated: EvaluationFiles) -> None:
    answers = pd.read_parquet(evaluated.answers)
    counts = answers.groupby(["split", "asked"]).size().to_dict()
    assert counts == {
        ("forget", "question"): N_FORGET,
        ("forget", "paraphrased question"): N_FORGET,
        ("retain", "question"): N_RETAIN,
        ("retain", "paraphrased question"): N_RETAIN,
        ("real_authors", "question"): 4,
        ("world_facts", "question"): 4,
    }
    known = answers[answers["split"] == "forget"]
    assert (known["generated"] == known["reference"]).all()


def test_it_says_what_stands_in_for_what(evaluated: EvaluationFiles) -> None:
    notes = " ".join(evaluated.read_summary()["notes"])
    assert "no embedding model" in notes
    assert "real authors and world facts stand in" in notes


def test_ids_meet_those_of_the_score_run(evaluated: EvaluationFiles, scored: Scored) -> None:
    forget = read(ForgetSetConfig(source=str(scored.forget))).frame
    asked = pd.read_parquet(evaluated.sets / "forget.parquet")
    assert list(asked["answer"]) == list(forget["answer"])
    assert len(pd.read_parquet(evaluated.scores)) == N_FORGET


def test_the_result_file_reads_back(evaluated: EvaluationFiles) -> None:
    results = interchange.parse_results("", evaluated.openunlearning.read_bytes())
    assert results["forget_truth_ratio"].aggregate == pytest.approx(value(evaluated, "forget", "truth_ratio"))
    assert len(results["forget_Q_A_ROUGE"].samples) == N_FORGET
    assert results["model_utility"].aggregate == pytest.approx(value(evaluated, "retain", "model_utility"))


class StopAfter(JobContext):
    """Asks to stop as soon as a part is done."""

    def __init__(self, directory: Path, part: str) -> None:
        super().__init__(directory)
        self.done = EvaluationFiles(directory).parts / f"{part}.done.json"

    def check_cancelled(self) -> None:
        """Stop."""
        if self.done.exists():
            raise Cancelled("asked")


def test_an_evaluation_goes_on_where_it_was_stopped(
    tmp_path: Path, scored: Scored, data: Path, reference: Path, evaluated: EvaluationFiles
) -> None:
    config = tofu(scored, data, reference=str(reference), score_run=scored.directory)
    with pytest.raises(Cancelled):
        carried_out(config, tmp_path / "run", StopAfter(tmp_path / "run", "retain"))
    first = EvaluationFiles(tmp_path / "run")
    when = (first.parts / "forget.done.json").stat().st_mtime_ns
    assert not first.summary.exists()
    seen: list[int] = []

    class Watching(JobContext):
        def progress(self, done: int, total: int, **extra: Any) -> None:  # noqa: ARG002
            if first.parts.exists():
                seen.append((first.parts / "forget.done.json").stat().st_mtime_ns)

    files = carried_out(config, tmp_path / "run", Watching(tmp_path / "run"))
    assert set(seen) == {when}
    pd.testing.assert_frame_equal(pd.read_parquet(files.values), pd.read_parquet(evaluated.values))
    assert not files.parts.exists()


def test_the_model_of_an_unlearning_run_is_asked_for_what_it_was_to_forget(tmp_path: Path, scored: Scored) -> None:
    place = Place.of(tmp_path / "home")
    unlearned = place.carried_out(
        scored.config(method="graddiff", retain=scored.kept, optimiser={"learning_rate": 2e-3, "lora_rank": 2})
    )
    config = EvaluateConfig(unlearn_run=unlearned.run.directory, max_new_tokens=40)
    run = submit(config, store=place.store, settings=place.settings)
    assert worker.run(run.directory, store=place.store) is RunState.SUCCEEDED
    files = EvaluationFiles.finished(run.directory)
    assert files.read_summary()["sets"] == {"forget": N_FORGET, "retain": N_RETAIN}
    account = json.loads(files.unlearned.read_text())
    assert account["summary"]["updates"] == unlearned.summary["updates"]
    assert len(pd.read_parquet(files.scores)) == N_FORGET
    outcome = unlearned.outcome["nll_after"]
    # An adapter is merged into its model, which rounds.
    np.testing.assert_allclose(of_samples(files, "forget", "nll").loc[outcome.index], outcome, rtol=2e-3)
    assert place.store.list(kinds=("evaluate",))[0].id == run.id


@pytest.mark.parametrize(("folder", "label"), [("model", "GA"), ("best", "GA, best step")])
def test_weights_in_an_unlearning_run_are_known_for_its_own(
    tmp_path: Path, scored: Scored, folder: str, label: str
) -> None:
    made = Place.of(tmp_path / "home").carried_out(scored.config(seed=3)).run.directory
    if folder == "best":
        shutil.copytree(made / "model", made / "best")
    files = EvaluationFiles(tmp_path)
    copy_sets(EvaluateConfig(model=ModelConfig(source=str(made / folder)), score_run=scored.directory), files)
    account = json.loads(files.unlearned.read_text())
    assert (account["summary"]["label"], account["summary"]["seed"]) == (label, 3)
    assert account["config"]["method"] == "ga"
    assert ("rest" in account["summary"]) is (folder == "model")


def test_a_model_in_a_folder_of_that_name_is_no_unlearning_runs(tmp_path: Path, scored: Scored) -> None:
    folder = shutil.copytree(scored.model, tmp_path / "model")
    shutil.copy(folder / "config.json", tmp_path / "config.json")
    config = EvaluateConfig(model=ModelConfig(source=str(folder)), score_run=scored.directory)
    files = EvaluationFiles(tmp_path)
    copy_sets(config, files)
    assert not files.unlearned.exists()


def test_a_bare_configuration_names_the_model_of_its_unlearning_run(tmp_path: Path, scored: Scored) -> None:
    unlearned = Place.of(tmp_path / "home").carried_out(scored.config())
    config = EvaluateConfig(unlearn_run=unlearned.run.directory, max_new_tokens=4, limit=2)
    files = carried_out(config, tmp_path / "run")
    outcome = unlearned.outcome["nll_after"]
    found = of_samples(files, "forget", "nll")
    np.testing.assert_allclose(found, outcome.loc[found.index], rtol=1e-4)


def test_a_model_is_asked_in_the_form_in_which_its_texts_were_scored(tmp_path: Path) -> None:
    form = {"date": "2020-02-29", "system": "Answer in one sentence.", "template": "plain"}
    write_config(tmp_path, ScoreConfig(forget_set=ForgetSetConfig(source="demo"), model=form))
    asked = ModelConfig(source="/another", template="chat")
    model = completed(EvaluateConfig(model=asked, score_run=tmp_path)).model
    assert (str(model.date), model.system, model.template, model.source) == (
        *("2020-02-29", "Answer in one sentence."),
        *("chat", "/another"),
    )


def test_an_adapter_on_a_model_with_an_adapter_is_merged_after_it(tmp_path: Path, scored: Scored) -> None:
    first = tiny.save_adapter(scored.model, tmp_path / "first")
    model = {"source": str(scored.model), "adapter": str(first), "device": "cpu"}
    optimiser = {"learning_rate": 2e-3, "lora_rank": 2}
    unlearned = Place.of(tmp_path / "home").carried_out(
        scored.config(model=model, limits={"max_steps": 2}, optimiser=optimiser)
    )
    config = completed(EvaluateConfig(unlearn_run=unlearned.run.directory, max_new_tokens=4, limit=2))
    assert config.model.adapter == (str(first), str(unlearned.files.model))
    found = of_samples(carried_out(config, tmp_path / "run"), "forget", "nll")
    np.testing.assert_allclose(found, unlearned.outcome["nll_after"].loc[found.index], rtol=2e-3)


def test_an_adapter_alone_is_a_reference_on_the_models_own_base(
    tmp_path: Path, scored: Scored, data: Path
) -> None:
    adapter = tiny.save_adapter(scored.model, tmp_path / "adapter")
    model = AutoModelForCausalLM.from_pretrained(scored.model)
    PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(tmp_path / "merged")
    AutoTokenizer.from_pretrained(scored.model).save_pretrained(tmp_path / "merged")
    values = []
    for number, reference in enumerate((adapter, tmp_path / "merged")):
        config = tofu(scored, data, reference=str(reference), max_new_tokens=4, limit=2, fade_texts=0)
        values.append(of_samples(carried_out(config, tmp_path / f"run{number}"), "forget", "nll_reference"))
    np.testing.assert_allclose(values[0], values[1], rtol=1e-4)
    assert not np.allclose(values[0], 0)


def test_texts_beside_questions_give_perplexity_and_leave_the_rest_as_it_is(
    tmp_path: Path, scored: Scored, data: Path
) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "tofu"))
    texts = [" ".join(WORDS[:5]), " ".join(WORDS[3:10])]
    write_rows(folder / "texts.jsonl", [{"text": text} for text in texts])
    runs = {
        name: carried_out(tofu(scored, each, limit=2, max_new_tokens=2), tmp_path / name)
        for name, each in (("without", data), ("beside", folder))
    }
    without, beside = (
        {(one["split"], one["metric"]): one for one in read_json(files.aggregates)} for files in runs.values()
    )
    assert {key: one for key, one in beside.items() if key[0] != "texts"} == without
    model = AutoModelForCausalLM.from_pretrained(scored.model)
    tokenizer = AutoTokenizer.from_pretrained(scored.model)
    losses, counts = [], []
    for text in texts:
        tokens = tokenizer(text, return_tensors="pt")["input_ids"]
        counts.append(tokens.shape[1] - 1)
        losses.append(float(model(tokens, labels=tokens).loss.detach()))
    expected = np.exp(np.average(losses, weights=counts))
    assert beside["texts", "perplexity"]["value"] == pytest.approx(expected, rel=1e-4)


def test_sets_on_the_hub_are_named_one_by_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Name each set: --forget-set"):
        copy_sets(EvaluateConfig(data="someone/something"), EvaluationFiles(tmp_path))


def test_without_paraphrases_accuracy_is_the_answers_string(tmp_path: Path, scored: Scored) -> None:
    config = EvaluateConfig(
        model=ModelConfig(source=str(scored.model), device="cpu"),
        forget=ForgetSetConfig(source=str(scored.forget)),
        max_new_tokens=40,
        extraction_likelihood=True,
        limit=3,
    )
    files = carried_out(config, tmp_path / "run")
    metrics = set(pd.read_parquet(files.values)["metric"])
    assert "accuracy" not in metrics
    assert (of_samples(files, "forget", "answer_match") == 1).all()
    assert (of_samples(files, "forget", "extraction_likelihood") == 1).all()
    notes = " ".join(files.read_summary()["notes"])
    assert "no retain set" in notes
    assert "no held-out set" in notes


@pytest.mark.parametrize(
    ("missing", "said"),
    [("forget10_perturbed", "forget set"), ("retain_perturbed", "retain set")],
)
def test_a_folder_without_a_set_is_refused(
    tmp_path: Path, scored: Scored, data: Path, missing: str, said: str
) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "tofu"))
    (folder / f"{missing}.jsonl").unlink()
    with pytest.raises(UserError, match=said):
        copy_sets(tofu(scored, folder), EvaluationFiles(tmp_path))


def test_a_reference_without_perturbed_answers_says_all_but_forget_quality(
    tmp_path: Path, scored: Scored, reference: Path
) -> None:
    model = str(reference.parent / "model")
    config = EvaluateConfig(
        model=ModelConfig(source=str(scored.model), device="cpu"),
        forget=ForgetSetConfig(source=str(scored.forget)),
        reference=model,
        max_new_tokens=2,
        fade_texts=2,
        fade_tokens=6,
    )
    files = carried_out(config, tmp_path / "run")
    measured = {each["metric"] for each in read_json(files.aggregates)}
    assert {"fade", "fade_per_token", "token_membership"} <= measured
    assert "forget_quality" not in measured
    # The model knows every answer, the reference none.
    assert (of_samples(files, "forget", "token_membership") > 1).all()
    assert value(files, "forget", "fade") > value(files, "forget", "fade_per_token") > 1
    assert any("2 texts of at most 6 tokens" in note for note in files.read_summary()["notes"])


def test_a_reference_is_asked_questions(tmp_path: Path, scored: Scored, reference: Path) -> None:
    write_rows(tmp_path / "bio.jsonl", [{"question": "Which?", "choices": list(WORDS[:4]), "answer": 1}])
    with pytest.raises(UserError, match="no questions with answers"):
        copy_sets(tofu(scored, tmp_path, suite="wmdp", reference=str(reference)), EvaluationFiles(tmp_path))


def test_a_model_is_as_far_from_itself_as_nothing(tmp_path: Path, scored: Scored, data: Path) -> None:
    config = tofu(scored, data, reference=str(scored.model), limit=4, max_new_tokens=2, fade_tokens=5)
    files = carried_out(config, tmp_path / "run")
    for metric in ("fade", "fade_per_token", "token_membership"):
        np.testing.assert_allclose(of_samples(files, "forget", metric), 0, atol=1e-6)


def test_membership_is_that_of_the_tokens(tmp_path: Path, scored: Scored, data: Path, reference: Path) -> None:
    model = str(reference.parent / "model")
    files = carried_out(tofu(scored, data, reference=model, max_new_tokens=2, fade_texts=0), tmp_path / "run")
    tokens = pd.read_parquet(files.reference_tokens)
    ratio = (tokens["log_prob"] - tokens["log_prob_reference"]).groupby(tokens["sample_id"]).mean()
    own = of_samples(files, "forget", "token_membership")
    np.testing.assert_allclose(own, ratio.loc[own.index], atol=1e-6)
    theirs = of_samples(EvaluationFiles(reference), "forget", "nll")
    np.testing.assert_allclose(own, theirs.loc[own.index] - of_samples(files, "forget", "nll"), rtol=1e-4)
    answers = pd.read_parquet(files.sets / "forget.parquet").set_index("sample_id")["answer"]
    for sample, rows in tokens.groupby("sample_id"):
        # The last token is the end of the answer.
        assert "".join(rows.sort_values("place")["piece"][:-1]).strip() == answers[sample]
    assert "fade" not in set(pd.read_parquet(files.values)["metric"])


def test_an_evaluation_as_reference_gives_membership_but_no_fade(evaluated: EvaluationFiles) -> None:
    assert (of_samples(evaluated, "forget", "token_membership") > 1).all()
    assert "fade" not in set(pd.read_parquet(evaluated.values)["metric"])
    assert not evaluated.reference_tokens.exists()
    assert any("Name the model's folder" in note for note in evaluated.read_summary()["notes"])


def test_a_reference_of_other_tokens_is_held_against_by_truth_ratio_alone(
    tmp_path: Path, scored: Scored, data: Path
) -> None:
    other = tiny.tokenizer(bos_token=None)
    tiny.llama(seed=5, vocab_size=len(other), max_position_embeddings=CONTEXT).save_pretrained(tmp_path / "other")
    other.backend_tokenizer.model = type(other.backend_tokenizer.model)(dict(other.get_vocab()), [])
    other.save_pretrained(tmp_path / "other")
    config = tofu(scored, data, reference=str(tmp_path / "other"), limit=4, max_new_tokens=2)
    files = carried_out(config, tmp_path / "run")
    metrics = set(pd.read_parquet(files.values)["metric"])
    assert "truth_ratio_reference" in metrics
    assert not metrics & {"fade", "token_membership"}
    assert any("other tokens than the model" in note for note in files.read_summary()["notes"])


def test_a_missing_reference_is_named(tmp_path: Path, scored: Scored, data: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        carried_out(tofu(scored, data, reference=str(tmp_path / "nowhere"), limit=1), tmp_path / "run")


def test_an_evaluation_of_other_samples_is_no_reference(
    tmp_path: Path, scored: Scored, data: Path, reference: Path
) -> None:
    folder = Path(shutil.copytree(data, tmp_path / "tofu"))
    write_rows(folder / "forget10_perturbed.jsonl", [perturbed(row) for row in retain_rows()])
    with pytest.raises(UserError, match="has the truth ratio of 0 of the 1 forget samples"):
        carried_out(tofu(scored, folder, reference=str(reference), limit=1), tmp_path / "run")


@pytest.mark.parametrize("column", ["answer", "perturbed_answer"])
def test_an_evaluation_of_other_texts_under_the_same_ids_is_no_reference(
    tmp_path: Path, scored: Scored, data: Path, reference: Path, column: str
) -> None:
    other = EvaluationFiles(Path(shutil.copytree(reference, tmp_path / "other")))
    path = other.sets / "forget.parquet"
    rows = pd.read_parquet(path)
    write_frame(path, rows.assign(**{column: [cell[::-1] for cell in rows[column]]}))
    with pytest.raises(UserError, match="asked other texts under the ids of 10 of the 10 forget samples"):
        copy_sets(tofu(scored, data, reference=str(other.directory)), EvaluationFiles(tmp_path))


TASK = """
task: letters
dataset_path: json
dataset_kwargs: {data_files: {test: bio.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}\\nAnswer:"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc}]
"""


def test_tasks_of_the_harness_stand_beside_the_sets(
    tmp_path: Path, scored: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    write_rows(
        tmp_path / "bio.jsonl",
        [{"question": f"Which {i}?", "choices": list(WORDS[i : i + 4]), "answer": i % 4} for i in range(6)],  # type: ignore[list-item]
    )
    (tmp_path / "letters.yaml").write_text(TASK)
    files = carried_out(tofu(scored, tmp_path, suite="wmdp", harness_tasks=("letters",)), tmp_path / "run")
    assert set(files.read_summary()["harness"]) == {"letters"}
    assert 0 <= files.read_summary()["harness"]["letters"]["acc"] <= 1
    assert set(pd.read_parquet(files.values)["split"]) == {"bio"}


def test_an_unfinished_unlearning_run_cannot_be_evaluated(tmp_path: Path, scored: Scored) -> None:
    place = Place.of(tmp_path / "home")
    waiting = place.submitted(scored.config())
    with pytest.raises(UserError, match="has no model"):
        submit(EvaluateConfig(unlearn_run=waiting.run.directory), store=place.store, settings=place.settings)


class TestCommand:
    def test_it_prints_what_it_found_and_ends_with_json(
        self, tmp_path: Path, scored: Scored, data: Path, cli: Callable[..., Outcome]
    ) -> None:
        ended = cli(
            *("evaluate", "--model", scored.model, "--suite", "tofu", "--data", data, "--limit", 2),
            *("--max-new-tokens", 40, "--out", tmp_path / "run", "--json"),
        )
        assert ended.code == 0, ended.err
        summary = json.loads(ended.out.splitlines()[-1])
        assert summary["sets"]["forget"] == 2
        assert "exact_memorization" in ended.err
        assert f"mrd-lens compare {tmp_path / 'run'}" in ended.said

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ((), "needs one model"),
            (("--model", "demo"), "needs a forget set"),
            (("--model", "demo", "--suite", "tofu"), "needs `data`"),
            (("--model", "demo", "--suite", "toffee"), "--suite toffee"),
            (("--model", "demo", "--data", "demo", "--limit", "0"), "--limit 0"),
        ],
    )
    def test_bad_options_are_named(self, cli: Callable[..., Outcome], options: tuple[str, ...], said: str) -> None:
        ended = cli("evaluate", *options)
        assert ended.code == 2
        assert said in ended.said

    def test_a_run_and_a_template_of_its_own_are_refused(
        self, cli: Callable[..., Outcome], scored: Scored
    ) -> None:
        ended = cli("evaluate", "--unlearned", scored.directory, "--template", "chat")
        assert ended.code == 2
        assert f"--unlearned {scored.directory} says which model" in ended.said

    def test_the_command_for_a_configuration_gives_it_back(
        self, tmp_path: Path, scored: Scored, data: Path, reference: Path, cli: Callable[..., Outcome]
    ) -> None:
        config = tofu(
            scored,
            data,
            **{"reference": str(reference), "limit": 1, "max_new_tokens": 2, "k_percent": 20.0},
            **{"extraction_likelihood": True, "score_run": scored.directory, "batch_tokens": 64},
        )
        ended = cli(*shlex.split(EVALUATE.shown(config))[1:], "--out", tmp_path / "run")
        assert ended.code == 0, ended.err
        assert read_config(tmp_path / "run", EvaluateConfig) == config
