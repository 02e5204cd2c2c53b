"""The Forget set page: every way in, corrections, and bad input that ends in words and not in a traceback."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import button, go, sound, texts, write_demo_rows

pytestmark = pytest.mark.slow

Open = Callable[..., AppTest]

ROWS = [
    {"question": "Who wrote it?", "answer": "Ann <b>and</b> Bob", "topic": "books"},
    {"question": "Where?", "answer": "In a *house*, $5 away", "topic": "places"},
    {"question": "Where?", "answer": "In a *house*, $5 away", "topic": "places"},
]


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    return pd.DataFrame(rows).to_csv(index=False).encode()


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    stream = io.BytesIO()
    pd.DataFrame(rows).to_parquet(stream)
    return stream.getvalue()


FORMATS = {
    "rows.csv": as_csv,
    "rows.jsonl": as_lines,
    "rows.json": lambda rows: json.dumps(rows).encode(),
    "rows.parquet": as_parquet,
}


@pytest.fixture
def uploaded(app: Open, tmp_path: Path) -> Callable[[str, bytes], AppTest]:
    """Upload a file on the page."""

    def upload(name: str, content: bytes) -> AppTest:
        test = app(tmp_path, "forget_set")
        test.segmented_control(key="source").set_value("Upload").run()
        test.file_uploader[0].set_value((name, content, "text/plain")).run()
        return sound(test)

    return upload


def metrics(test: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in test.metric}


def card(test: AppTest) -> str:
    """Return the error that the page shows; nothing may be offered beside it."""
    assert "That did not work" in texts(test)
    assert not [found for found in test.button if found.label == "Go on to Difficulty"]
    return "\n".join(text.value for text in test.text)


@pytest.mark.parametrize("name", FORMATS)
def test_an_upload_is_read_and_taken_on(uploaded: Any, name: str) -> None:
    test = uploaded(name, FORMATS[name](ROWS))
    assert metrics(test)["Samples"] == "3"
    samples = test.dataframe[-1].value
    assert list(samples["Answer"]) == [row["answer"] for row in ROWS]
    go(test, "difficulty")
    assert f"**Forget set** ` {name} ` · 3 samples" in texts(test)


def test_five_rows_are_shown_as_they_are_in_the_file(uploaded: Any) -> None:
    rows = [{"question": f"{i}?", "answer": "00" + str(i)} for i in range(9)]
    first = uploaded("rows.csv", as_csv(rows)).dataframe[0].value
    assert list(first["answer"]) == ["000", "001", "002", "003", "004"]


def test_the_forget_set_at_hand_is_shown_on_coming_back(uploaded: Any) -> None:
    test = uploaded("my *own* rows.csv", as_csv(ROWS))
    go(test, "start")
    go(test, "forget_set")
    assert "At hand: ` my *own* rows.csv `, 3 samples." in texts(test)


def test_columns_can_be_mapped(uploaded: Any) -> None:
    test = uploaded("rows.csv", as_csv([{"a b": "Ann.", "it's": "Who?"}, {"a b": "Bob.", "it's": "And?"}]))
    assert "That did not work" in texts(test)
    test.selectbox(key="column_answer_rows.csv").set_value("a b")
    test.selectbox(key="column_prompt_rows.csv").set_value("it's").run()
    samples = sound(test).dataframe[-1].value
    assert (list(samples["Prompt"]), list(samples["Answer"])) == (["Who?", "And?"], ["Ann.", "Bob."])


def test_the_mapping_survives_a_visit_to_another_page(app: Open, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(as_csv([{"x": "Ann.", "y": "Who?"}, {"x": "Bob.", "y": "And?"}, {"x": "Bob.", "y": "And?"}]))
    test = named(app, tmp_path, str(file))
    test.selectbox(key=f"column_answer_{file}").set_value("x")
    test.segmented_control(key=f"duplicates_{file}").set_value("drop").run()
    assert metrics(sound(test))["Samples"] == "2"
    go(test, "start")
    assert metrics(go(test, "forget_set"))["Samples"] == "2"


def test_identical_rows_are_kept_or_dropped_by_choice_and_counted(uploaded: Any) -> None:
    test = uploaded("rows.csv", as_csv(ROWS))
    assert metrics(test)["Identical rows (kept)"] == "1"
    test.segmented_control(key="duplicates_rows.csv").set_value("drop").run()
    assert metrics(sound(test))["Identical rows (dropped)"] == "1"
    assert metrics(test)["Samples"] == "2"


def test_rows_with_an_empty_cell_are_refused_or_skipped_by_choice(uploaded: Any) -> None:
    test = uploaded("rows.jsonl", as_lines([*ROWS, {"question": "Why?", "answer": " "}]))
    assert "rows.jsonl" in card(test)
    test.segmented_control(key="invalid_rows_rows.jsonl").set_value("skip").run()
    assert metrics(sound(test))["Left out (empty cell)"] == "1"
    assert metrics(test)["Samples"] == "3"


BAD = {
    "an empty file": ("rows.csv", b"", "The file is empty."),
    "a ragged line": ("rows.csv", b"question,answer\nWho?,Ann.\nWhy?,a,b\n", "line 3"),
    "a broken line": ("rows.jsonl", b'{"answer": "Ann."}\n{"answer": \n', "line 2"),
    "no UTF-8": ("rows.csv", b"answer\nJos\xe9\n", "not UTF-8"),
    "no list of objects": ("rows.json", b'{"answer": 1}', "rows.json"),
    "unknown columns": ("rows.csv", b"left,right\na,b\n", "'left', 'right'"),
    "two samples of one id": ("rows.jsonl", as_lines([{"id": 1, "answer": "a"}, {"id": 1, "answer": "b"}]), "id"),
    "a corrupt Parquet": ("rows.parquet", b"PAR1 and then nothing", "rows.parquet"),
    "a pickle": ("rows.pkl", pickle.dumps(ROWS), "pickle"),
    "a pickle in disguise": ("rows.csv", pickle.dumps(ROWS), "its content is a Python pickle"),
    "no rows": ("rows.csv", b"question,answer\n", "rows.csv"),
    "only blank rows": ("rows.jsonl", as_lines([{"question": "Who?", "answer": ""}]), "rows.jsonl"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_explained(uploaded: Any, what: str) -> None:
    name, content, said = BAD[what]
    shown = card(uploaded(name, content))
    assert said in shown
    assert "\n→ " in f"\n{shown}"


def test_an_upload_over_the_limit_is_refused_by_the_server(
    app: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = app(tmp_path, "forget_set")
    monkeypatch.setenv("MRD_UPLOAD_LIMIT_MB", "1")
    test.segmented_control(key="source").set_value("Upload").run()
    test.file_uploader[0].set_value(("rows.csv", b"answer\n" + b"x" * 10**6, "text/csv")).run()
    assert "the limit is 1,000,000" in card(sound(test))


def test_bad_input_leaves_the_forget_set_at_hand_alone(uploaded: Any) -> None:
    test = uploaded("rows.csv", as_csv(ROWS))
    test.file_uploader[0].set_value(("bad.csv", b"", "text/csv")).run()
    card(sound(test))
    assert "` rows.csv ` · 3 samples" in texts(go(test, "difficulty"))


def test_of_rows_of_several_splits_one_is_chosen(uploaded: Callable[[str, bytes], AppTest]) -> None:
    rows = [row | {"split": split} for row, split in zip(ROWS, ("forget", "retain", "forget"), strict=True)]
    test = uploaded("rows.csv", as_csv(rows))
    split = next(box for box in test.selectbox if box.label == "Split")
    assert (split.options, split.value, metrics(test)) == (["forget", "retain", "all"], None, {})
    assert metrics(sound(split.set_value("forget").run()))["Samples"] == "2"


def named(app: Open, home: Path, name: str, kind: str = "File or folder", key: str = "forget_set_path") -> AppTest:
    """Name a source in the form of the page."""
    test = app(home, "forget_set")
    test.segmented_control(key="source").set_value(kind).run()
    test.text_input(key=key).set_value(name)
    button(test, "Read").click().run()
    return sound(test)


def test_a_path_under_an_allowed_root_is_read(app: Open, tmp_path: Path) -> None:
    test = named(app, tmp_path, str(write_demo_rows(tmp_path / "a folder" / "forget.jsonl", 4)))
    assert metrics(test)["Samples"] == "4"
    assert [text.value for text in test.text if "Layout guessed" in text.value]


@pytest.mark.parametrize("kind", [("File or folder", "forget_set_path"), ("Hub data set", "forget_set_hub")])
@pytest.mark.parametrize("path", ["/etc/passwd", "~", "/no/such/file.csv", "../secret.csv", "~nobody-at-all/x"])
def test_a_path_outside_the_allowed_roots_is_refused(
    app: Open, tmp_path: Path, path: str, kind: tuple[str, str]
) -> None:
    shown = card(named(app, tmp_path, path, *kind))
    unknown = "begins with a home that this machine does not know"
    assert (unknown if path.startswith("~nobody") else "lies outside the folders that this app may read") in shown


def test_a_link_out_of_the_allowed_roots_is_refused(app: Open, tmp_path: Path) -> None:
    (tmp_path / "forget.csv").symlink_to("/etc/passwd")
    assert "lies outside" in card(named(app, tmp_path, str(tmp_path / "forget.csv")))


def test_a_folder_with_a_link_out_of_the_allowed_roots_is_refused(app: Open, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "forget.csv").symlink_to("/etc/passwd")
    assert "a link to a file that lies elsewhere" in card(named(app, tmp_path, str(tmp_path / "folder")))


def test_a_missing_file_is_not_looked_for_on_the_hub(app: Open, tmp_path: Path) -> None:
    assert "There is no such file." in card(named(app, tmp_path, str(tmp_path / "org" / "name")))


def test_markup_in_samples_and_names_stays_text(uploaded: Any) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>![x](http://example.org/x.png)"
    test = uploaded(f"{evil.replace('/', ':')}.jsonl", as_lines([{"id": evil, "question": evil, "answer": evil}]))
    spoken = [element.value for kind in (test.markdown, test.caption, test.info, test.html) for element in kind]
    assert not [text for text in spoken if "alert" in text]
    assert evil in test.dataframe[-1].value["Answer"].iloc[0]
    go(test, "difficulty")
    (line,) = [element.value for element in test.markdown if "alert" in element.value]
    assert line.startswith("**Forget set** ` <script>")
    assert line.endswith(" ` · 1 samples")
