"""The demo: its corpus varies where it should, and its committed model remembers what its card says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import spearmanr
from transformers import AutoModelForCausalLM, AutoTokenizer

from mrd_core.demo import MODEL_DIR, MODELS, RETRAINED_DIR
from mrd_core.demo.corpus import SPLITS, TRAINING_COUNTS, DemoRow, of_split, rows
from mrd_core.demo.train import Recipe, measure_memory, train

pytestmark = pytest.mark.slow

RARE_WORDS = re.compile(
    r"\b(?:apiarist|luthier|horologist|theodolites?|bathysphere|ossuary|ocelot|pangolin|axolotls|theorbo|sackbut"
    r"|samphire|syllabub|coracle|velocipede|dirigible|orrery|alembic|astrolabes?|cenotaph|epistle|peccadillo"
    r"|lugubrious|marginalia|raconteur|monocle|absconded|aldermen|curlicues|wanderlust|obsequious|chattels"
    r"|swashbuckling|solstice|harboured|dwelt|toiled|penned|serenaded|unearthed|hoarded|devised)\b"
)


@pytest.fixture(scope="module")
def forget() -> pd.DataFrame:
    """The forget set with its answers' length in words and whether they hold a rare word."""
    frame = of_split("forget")
    return frame.assign(
        words=frame["answer"].str.split().str.len(),
        rare=frame["answer"].str.contains(RARE_WORDS),
    )


def person(row: DemoRow) -> str:
    """Return the name that the question asks about: the one given name and family name in it."""
    names = re.findall(r"\b[A-Z][a-z]+ [A-Z][a-z]+\b", row.question)
    assert len(names) == 1, row.question
    return str(names[0])


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    assert rows(3) == rows(3)
    assert rows(3) != rows(4)


def test_rows_do_not_depend_on_the_process() -> None:
    print_rows = "from mrd_core.demo.corpus import rows; print(rows())"
    other = subprocess.run([sys.executable, "-c", print_rows], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(rows())


def test_no_person_occurs_in_two_splits() -> None:
    people = {split: {person(row) for row in rows() if row.split == split} for split in SPLITS}
    assert len(set.union(*people.values())) == sum(len(names) for names in people.values())


def test_splits_have_their_size_and_ids_and_questions_are_unique() -> None:
    sizes = pd.Series([row.split for row in rows()]).value_counts()
    assert sizes["forget"] >= 200
    assert 480 <= sizes["retain"] <= 600
    assert sizes["held_out"] >= 80
    assert len({row.id for row in rows()}) == len({row.question for row in rows()}) == len(rows())


def test_only_held_out_rows_are_never_trained_on() -> None:
    assert all((row.training_count == 0) == (row.split == "held_out") for row in rows())


def test_every_answer_is_one_finished_sentence() -> None:
    for row in rows():
        assert re.fullmatch(r"[A-Z][^{}]*[^,. ]\.", row.answer), row
        assert "  " not in row.answer, row
        assert " ," not in row.answer, row
        assert re.fullmatch(r"[A-Z][^{}]*\?", row.question), row


def test_forget_answers_run_from_plain_facts_to_long_nested_sentences(forget: pd.DataFrame) -> None:
    words = forget["words"]
    assert words.min() <= 5
    assert 50 <= words.max() <= 65
    nested = forget["answer"].str.contains(r", (?:who|whose|which) ")
    assert nested[words > 25].mean() > 0.5
    assert nested[words < 11].mean() < 0.1


def test_rare_words_are_in_half_of_the_forget_set_at_every_length(forget: pd.DataFrame) -> None:
    by_length = forget.groupby(pd.qcut(forget["words"], 3))["rare"].mean()
    assert by_length.between(0.2, 0.7).all()


def test_training_counts_are_balanced_and_independent_of_length_and_rare_words(forget: pd.DataFrame) -> None:
    assert forget["training_count"].value_counts().to_dict() == dict.fromkeys(TRAINING_COUNTS, len(forget) // 4)
    assert abs(spearmanr(forget["training_count"], forget["words"]).statistic) < 0.2
    assert abs(spearmanr(forget["training_count"], forget["rare"]).statistic) < 0.2
    assert abs(spearmanr(forget["words"], forget["rare"]).statistic) < 0.3


@pytest.fixture(scope="module")
def memory() -> pd.DataFrame:
    """What the committed model remembers of every row."""
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR)
    return measure_memory(model, AutoTokenizer.from_pretrained(MODEL_DIR), rows())


def test_the_committed_model_remembers_as_its_card_says(memory: pd.DataFrame) -> None:
    card = (MODEL_DIR / "README.md").read_text(encoding="utf-8")
    stated = {split: float(ma) for split, ma in re.findall(r"\| (forget|held_out) \| \d+ \| ([\d.]+) \|", card)}
    measured = memory.groupby("split")["accuracy"].mean()
    assert measured["forget"] == pytest.approx(stated["forget"], abs=0.002)
    assert measured["held_out"] == pytest.approx(stated["held_out"], abs=0.002)
    assert measured["forget"] >= 0.90
    assert measured["forget"] - measured["held_out"] >= 0.25


def test_the_committed_model_is_surer_of_what_it_saw_more_often(memory: pd.DataFrame) -> None:
    trained = memory[memory["split"] == "forget"]
    assert trained.groupby("training_count")["probability"].median().is_monotonic_increasing
    assert trained["probability"].quantile(0.9) - trained["probability"].quantile(0.1) > 0.1


@pytest.mark.parametrize("folder", MODELS.values(), ids=MODELS)
def test_the_committed_weights_are_small(folder: Path) -> None:
    assert (folder / "model.safetensors").stat().st_size <= 9e6


def test_the_retrained_reference_keeps_what_is_kept_and_knows_forget_rows_like_those_nobody_saw() -> None:
    model = AutoModelForCausalLM.from_pretrained(RETRAINED_DIR)
    known = measure_memory(model, AutoTokenizer.from_pretrained(RETRAINED_DIR), rows())
    accuracy = known.groupby("split")["accuracy"].mean()
    assert accuracy["retain"] > 0.95
    assert abs(accuracy["forget"] - accuracy["held_out"]) < 0.05
    card = (RETRAINED_DIR / "README.md").read_text(encoding="utf-8")
    assert f"| forget | {(known['split'] == 'forget').sum()} | {accuracy['forget']:.3f} |" in card


def test_the_retrained_reference_reads_texts_as_the_model_does() -> None:
    files = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    for file in files:
        assert (RETRAINED_DIR / file).read_bytes() == (MODEL_DIR / file).read_bytes()


def test_the_chat_template_puts_the_prompt_before_the_answer_token_by_token() -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    question, answer = {"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Nobody."}
    text = tokenizer.apply_chat_template([question, answer], tokenize=False)
    prompt = tokenizer.apply_chat_template([question], add_generation_prompt=True, return_dict=False)
    assert text == "<s>Question: Who?\nAnswer: Nobody.</s>"
    assert tokenizer.decode(prompt) == "<s>Question: Who?\nAnswer:"
    assert tokenizer(text, add_special_tokens=False)["input_ids"][: len(prompt)] == prompt
    assert tokenizer("Who?")["input_ids"][0] == tokenizer.bos_token_id


def test_a_few_steps_of_training_lower_the_loss_and_write_a_loadable_model(tmp_path: Path) -> None:
    small = Recipe(batch_size=8, vocabulary=400, hidden=32, intermediate=64, layers=1, heads=2)
    report = train(tmp_path, seed=1, steps=30, recipe=small)
    assert report.loss_end < report.loss_start - 0.5
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.num_parameters() == report.parameters
    assert f"{report.ma_forget:.3f}" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == 400


def test_the_same_seed_trains_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    tiny = Recipe(batch_size=4, vocabulary=300, hidden=8, intermediate=8, layers=1, heads=1)
    weights = []
    for run, seed in enumerate((5, 5, 6)):
        train(tmp_path / str(run), seed=seed, steps=3, recipe=tiny)
        weights.append((tmp_path / str(run) / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]
