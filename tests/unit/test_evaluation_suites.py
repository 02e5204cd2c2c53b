"""The suites WMDP, WHP and SAFE from small files in their layouts, and what is wrong with bad ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mrd_core.errors import UserError
from mrd_core.evaluation import source
from mrd_core.evaluation.config import EvaluateConfig
from mrd_core.evaluation.identity import sample_ids
from mrd_core.evaluation.request import load_sets
from mrd_core.evaluation.sets import Sets
from mrd_core.samples import Table

QUESTION = {"question": "Which gas?", "choices": ["A gas", "B gas", "C gas", "D gas"], "answer": 2}
MMLU = QUESTION | {"question": "Which bone?", "subject": "human_anatomy"}
COMPLETION = {"prompt": "Ann wrote", "references": ["the letter.", "an old letter."]}


def write(folder: Path, **tables: list[dict[str, Any]]) -> Path:
    """Write tables as JSON Lines; `_` in their names stays."""
    folder.mkdir(exist_ok=True)
    for name, rows in tables.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def loaded(suite: str, folder: Path, **config: Any) -> Sets:
    return load_sets(EvaluateConfig(suite=suite, data=str(folder), **config))


def refusal(suite: str, folder: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        loaded(suite, folder)
    assert caught.value.fix
    return caught.value


def shape(suite: Sets) -> list[tuple[str, str, str, int]]:
    return [(one.name, one.role, one.kind, len(one.frame)) for one in suite.sets]


def test_wmdp_has_its_exams_and_mmlu(tmp_path: Path) -> None:
    folder = write(
        tmp_path, wmdp_bio=[QUESTION, QUESTION | {"question": "Which germ?"}], chem=[QUESTION], mmlu=[MMLU]
    )
    suite = loaded("wmdp", folder)
    assert shape(suite) == [
        ("bio", "forget", "choices", 2),
        ("chem", "forget", "choices", 1),
        ("mmlu", "general", "choices", 1),
    ]
    assert [one.frame["subject"][0] for one in suite.sets] == ["biology", "chemistry", "human anatomy"]
    assert suite.sets[0].frame.loc[0, ["question", "choices", "right"]].tolist() == list(QUESTION.values())
    assert [note for note in suite.notes if "cyber" in note]
    assert [len(one.frame) for one in loaded("wmdp", folder, limit=1).sets] == [1, 1, 1]


def test_wmdp_reads_lists_from_csv(tmp_path: Path) -> None:
    with (tmp_path / "bio.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([list(QUESTION), ["Which gas?", json.dumps(QUESTION["choices"]), "2"]])
    frame = loaded("wmdp", tmp_path).sets[0].frame
    assert frame["choices"][0] == QUESTION["choices"]
    assert frame["right"][0] == 2


def test_whp_has_two_sets_of_prompts_and_texts(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        seen=[COMPLETION],
        unseen=[{"prompt": "Bob said", "references": "nothing."}],
        texts=[{"text": " = Title = "}, {"text": ""}, {"text": None}, {"text": "A line."}],
    )
    suite = loaded("whp", folder)
    assert shape(suite) == [
        ("seen", "forget", "completions", 1),
        ("unseen_prompts", "forget", "completions", 1),
        ("texts", "general", "texts", 2),
    ]
    assert suite.sets[1].frame["references"][0] == ["nothing."]
    assert suite.sets[2].frame["text"].tolist() == [" = Title = ", "A line."]
    assert any("2 of 4 general texts" in note for note in suite.notes)


def test_the_lines_of_wikitext_become_articles(tmp_path: Path) -> None:
    lines = ["", "Before it.\n", " = A = B = \n", "", " One. \n", " = = Section = = \n", None, " = C = \n", "Two."]
    suite = loaded("whp", write(tmp_path, seen=[COMPLETION], wikitext=[{"text": line} for line in lines]))
    frame = suite.sets[1].frame
    assert frame["text"].tolist() == [
        "Before it.",
        " = A = B = \n\n One. \n = = Section = = ",
        " = C = \nTwo.",
    ]
    assert frame["sample_id"].is_unique
    assert not any("blank" in note for note in suite.notes)


def test_safe_asks_each_prompt_once_and_reads_prompts_that_are_objects(tmp_path: Path) -> None:
    harmful = {"prompt": "How?", "response_0": "So.", "response_1": "No.", "is_response_0_safe": False}
    folder = write(
        tmp_path,
        safe_prompts=[harmful, harmful | {"response_0": "Thus."}, {"prompt": "Why?"}],
        real_toxicity_prompts=[{"prompt": {"text": "They said", "toxicity": 0.4}}, {"prompt": "You are"}],
    )
    suite = loaded("safe", folder)
    assert shape(suite) == [("safe_prompts", "forget", "prompts", 2), ("real_toxicity", "forget", "prompts", 2)]
    assert suite.sets[0].frame["prompt"].tolist() == ["How?", "Why?"]
    assert suite.sets[1].frame["prompt"].tolist() == ["They said", "You are"]
    assert [one.frame["is_question"][0] for one in suite.sets] == [True, False]
    assert any("1 of 3 SAFE prompts" in note for note in suite.notes)
    assert any("perplexity is not measured" in note for note in suite.notes)


@pytest.mark.parametrize("suite", ["wmdp", "whp", "safe"])
def test_a_folder_with_other_files_is_refused_by_what_it_holds(tmp_path: Path, suite: str) -> None:
    (tmp_path / "notes.md").write_text("x")
    error = refusal(suite, tmp_path)
    assert str(tmp_path) in error.what
    assert "notes.md" in error.why
    assert {"wmdp": "wmdp-bio", "whp": "seen", "safe": "safe_prompts"}[suite] in error.why
    assert "does not exist" in refusal(suite, tmp_path / "missing").why
    assert "not a folder" in refusal(suite, tmp_path / "notes.md").why


@pytest.mark.parametrize(
    ("suite", "name", "row", "place", "why"),
    [
        ("wmdp", "bio", QUESTION | {"answer": 4}, "row 2, column 'answer'", "numbered from 0 to 3"),
        ("wmdp", "bio", QUESTION | {"answer": "E"}, "row 2, column 'answer'", "not a whole number"),
        ("wmdp", "bio", QUESTION | {"choices": ["one"]}, "row 2, column 'choices'", "1 choices"),
        ("wmdp", "bio", QUESTION | {"choices": [1, None]}, "row 2, column 'choices'", "blank"),
        ("wmdp", "bio", QUESTION | {"question": " "}, "row 2, column 'question'", "blank"),
        ("whp", "seen", COMPLETION | {"references": []}, "row 2, column 'references'", "empty list"),
        ("whp", "seen", COMPLETION | {"references": '["open'}, "row 2, column 'references'", "JSON list"),
        ("whp", "seen", COMPLETION | {"prompt": ["a"]}, "row 2, column 'prompt'", "a list, not text"),
        ("safe", "safe_prompts", {"prompt": None}, "row 2, column 'prompt'", "blank"),
        ("safe", "real_toxicity", {"prompt": {"words": "x"}}, "row 2, column 'prompt'", "blank"),
    ],
)
def test_a_bad_cell_is_named(
    tmp_path: Path, suite: str, name: str, row: dict[str, Any], place: str, why: str
) -> None:
    good = {"bio": QUESTION, "seen": COMPLETION}.get(name, {"prompt": "How?"})
    error = refusal(suite, write(tmp_path, **{name: [good, row]}))
    assert place in error.what
    assert why in error.why


def test_a_table_is_refused_where_it_is_there_twice_or_lacks_a_column(tmp_path: Path) -> None:
    write(tmp_path, seen=[{"prompt": "Ann", "reference": "x"}])
    assert "'references'; its columns are 'prompt', 'reference'" in refusal("whp", tmp_path).why
    (tmp_path / "seen.csv").write_text("prompt,references\nAnn,x\n")
    assert "seen.csv, seen.jsonl" in refusal("whp", tmp_path).why


def test_texts_that_are_all_blank_are_refused(tmp_path: Path) -> None:
    for name in ("wikitext", "texts"):
        folder = write(tmp_path, seen=[COMPLETION], **{name: [{"text": " "}]})
        assert "blank in all rows" in refusal("whp", folder).why


def test_only_a_name_that_is_no_path_is_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    names = ["cais/wmdp", "org/name", "./cais/wmdp", "/cais", "a/b/c", "demo", "~/x"]
    assert [name for name in names if source.on_hub(name)] == ["cais/wmdp"]


def table(**columns: list[Any]) -> Table:
    return Table("t.jsonl", pd.DataFrame(columns, dtype=object))


def test_an_id_depends_on_the_content_alone() -> None:
    contents = [["a", "b"], ["a b"], ["a ", "b"], ["a", "b"]]
    ids = sample_ids(table(x=[0] * 4), contents)
    assert ids[1] == sample_ids(table(x=[0]), [["a  b"]])[0]
    assert ids[2:] == [f"{ids[0]}#2", f"{ids[0]}#3"]
    assert len(set(ids)) == 4


def test_given_ids_are_kept_and_must_mean_one_sample() -> None:
    assert sample_ids(table(id=["q", "q", 7]), [["a"], ["a"], ["b"]]) == ["q", "q#2", "7"]
    with pytest.raises(UserError, match="rows 1 and 3: The id 'q'"):
        sample_ids(table(id=["q", "r", "q"]), [["a"], ["b"], ["c"]])


@pytest.mark.parametrize(
    ("forget", "files", "used"),
    [
        ("forget05", ["holdout05", "holdout10"], "holdout05"),
        ("forget01", ["holdout01", "held_out"], "holdout01"),
        ("forget01", ["holdout10"], "holdout10"),
        ("forget10", ["holdout10", "holdout10_perturbed"], "holdout10_perturbed"),
    ],
)
def test_the_held_out_set_of_tofu_follows_the_forget_set(
    tmp_path: Path, forget: str, files: list[str], used: str
) -> None:
    retain = f"retain{100 - int(forget[6:])}"
    folder = write(
        tmp_path,
        **{name: [{"question": "Who?", "answer": f"{name} {i}."} for i in range(10)] for name in (forget, retain)},
        **{name: [{"question": "Who?", "answer": f"{name}."}] for name in files},
    )
    sets = loaded("tofu", folder, forget_split=forget)
    (unseen,) = sets.of_role("unseen")
    assert list(unseen.frame["answer"]) == [f"{used}."]
    others = {"holdout10", "held_out"} & set(files) - {used}
    assert not others or not any("not used" in note for note in sets.notes)


@pytest.mark.parametrize("suite", ["wmdp", "whp", "safe", "custom"])
def test_files_that_are_not_used_and_samples_in_two_sets_are_named(tmp_path: Path, suite: str) -> None:
    rows: dict[str, dict[str, list[Any]]] = {
        "wmdp": {"bio": [QUESTION], "cyber": [QUESTION]},
        "whp": {"seen": [COMPLETION], "unseen": [COMPLETION]},
        "safe": {"safe_prompts": [{"prompt": "How?"}], "real_toxicity": [{"prompt": "How?"}]},
        "custom": {name: [{"question": "Who?", "answer": "Ann."}] for name in ("forget", "retain")},
    }
    folder = write(tmp_path, **rows[suite], validation=[{"text": "x"}])
    sets = loaded(suite, folder)
    assert "Files of the folder that are not used: 'validation.jsonl'." in sets.notes
    assert any(note.startswith("1 samples of the ") and note.endswith(" too.") for note in sets.notes)


@pytest.mark.parametrize("suite", ["tofu", "custom"])
def test_a_folder_of_questions_may_hold_texts_beside_them(tmp_path: Path, suite: str) -> None:
    names = {"tofu": ("forget10", "retain90"), "custom": ("forget", "retain")}[suite]
    folder = write(tmp_path, **{name: [{"question": f"Who of {name}?", "answer": "Ann."}] for name in names})
    without = loaded(suite, folder)
    write(folder, texts=[{"text": "A text."}, {"text": " "}, {"text": "Another."}])
    sets = loaded(suite, folder)
    assert shape(sets) == [*shape(without), ("texts", "general", "texts", 2)]
    assert set(sets.notes) - set(without.notes) == {"1 of 3 general texts are blank and left out."}
