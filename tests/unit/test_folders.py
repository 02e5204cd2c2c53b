"""What a folder of data may reach: not more than itself, wherever its card, its links and its names point."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mrd_core.errors import UserError
from mrd_core.samples import load_table
from mrd_core.samples.config import ForgetSetConfig
from pages.shell import session

SECRET = b'{"text": "TOPSECRET"}\n'


class _Counting(BaseHTTPRequestHandler):
    """Serves the secret, and counts who asks for it."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(SECRET)))
        self.end_headers()
        self.wfile.write(SECRET if self.command == "GET" else b"")

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def address() -> Iterator[str]:
    _Counting.asked = 0
    server = HTTPServer(("127.0.0.1", 0), _Counting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/s.jsonl"
    server.shutdown()
    server.server_close()


@pytest.fixture
def allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder that paths typed in the browser may lie under, beside a secret."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "s.jsonl").write_bytes(SECRET)
    (tmp_path / "allowed" / "f").mkdir(parents=True)
    monkeypatch.setenv("MRD_ALLOWED_ROOTS", str(tmp_path / "allowed"))
    return tmp_path / "allowed"


def refusal(source: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        load_table(ForgetSetConfig(source=str(source)))
    assert "TOPSECRET" not in str(caught.value)
    return str(caught.value)


def located_refusal(source: Path | str) -> str:
    with pytest.raises(UserError) as caught:
        session.located(str(source), local=True)
    return str(caught.value)


CARD = "---\nconfigs:\n- config_name: default\n  {}\n---\n"
FILES = "data_files: [{{split: train, path: {}}}]"


@pytest.mark.parametrize(
    "entry",
    [
        FILES.format("../../secret/s.jsonl"),
        FILES.format("[x.jsonl, sub/../../../secret/s.jsonl]"),
        FILES.format("'SECRET'"),
        "data_files: ../../secret/*.jsonl",
        "data_files: ['ADDRESS']",
        FILES.format("'ADDRESS'"),
        FILES.format("'zip://s.jsonl::ADDRESS'"),
        "data_dir: ../../secret",
        "data_dir: 'ADDRESS'",
        FILES.format("link.jsonl"),
    ],
)
@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
def test_a_card_leads_out_of_no_folder(name: str, entry: str, allowed: Path, address: str) -> None:
    secret = allowed.parent / "secret" / "s.jsonl"
    card = CARD.format(entry.replace("SECRET", str(secret)).replace("ADDRESS", address))
    (allowed / "f" / name).write_text(card if name == "README.md" else card.replace("---\n", ""))
    (allowed / "f" / "x.jsonl").write_bytes(b'{"text": "x"}')
    if "link" in entry:
        (allowed / "f" / "link.jsonl").symlink_to(secret)
    assert "lies outside of the folder and is not read" in refusal(allowed / "f")
    assert _Counting.asked == 0


@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
def test_a_mark_before_a_card_hides_nothing_of_it(name: str, allowed: Path, address: str) -> None:
    card = CARD.format(FILES.format(f"'{address}'"))
    text = card if name == "README.md" else card.replace("---\n", "")
    (allowed / "f" / name).write_text(text, encoding="utf-8-sig")
    (allowed / "f" / "x.jsonl").write_bytes(b'{"text": "x"}')
    assert "lies outside of the folder and is not read" in refusal(allowed / "f")
    assert _Counting.asked == 0


@pytest.mark.parametrize("link", ["x.jsonl", "sub", ".hidden/x.jsonl"])
def test_in_the_browser_no_link_leads_out_of_the_allowed_folders(link: str, allowed: Path) -> None:
    (allowed / "f" / link).parent.mkdir(exist_ok=True)
    target = allowed.parent / "secret"
    (allowed / "f" / link).symlink_to(target if link == "sub" else target / "s.jsonl")
    assert f"'{link}" in located_refusal(allowed / "f")
    # What is chosen by its own name is the user's, in the shell.
    assert load_table(ForgetSetConfig(source=str(target / "s.jsonl"))).frame["text"].tolist() == ["TOPSECRET"]


def test_links_within_the_allowed_folders_and_of_a_hub_cache_are_inside(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (allowed / "other.jsonl").write_bytes(SECRET)
    (allowed / "f" / "x.jsonl").symlink_to(allowed / "other.jsonl")
    assert session.located(str(allowed / "f"), local=True) == str(allowed / "f")
    cache = allowed / "datasets--a--b"
    snapshot = cache / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    (cache / "blobs" / "123").write_bytes(SECRET)
    (snapshot / "train.jsonl").symlink_to("../../blobs/123")
    (snapshot / "README.md").write_text(CARD.format("data_files: train.jsonl"))
    monkeypatch.setenv("MRD_ALLOWED_ROOTS", str(snapshot))
    assert session.located(str(snapshot), local=True) == str(snapshot)
    assert len(load_table(ForgetSetConfig(source=str(snapshot))).frame) == 1
    (snapshot / "train.jsonl").unlink()
    (snapshot / "train.jsonl").symlink_to(allowed / "other.jsonl")
    assert "train.jsonl" in located_refusal(snapshot)
    assert "lies outside" in refusal(snapshot)


def test_a_folder_with_too_many_files_is_not_searched(allowed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (allowed / "f" / "loop").symlink_to(allowed / "f")
    for number in range(9):
        (allowed / "f" / f"{number}.jsonl").write_bytes(SECRET)
    assert "several files" in refusal(allowed / "f")
    monkeypatch.setenv("MRD_FOLDER_LIMIT", "9")
    for error in (refusal(allowed / "f"), located_refusal(allowed / "f")):
        assert "more than 9 files" in error
        assert "MRD_FOLDER_LIMIT" in error


@pytest.mark.parametrize("source", ["/", "//"])
def test_the_root_of_the_system_is_not_searched(source: str) -> None:
    assert "MRD_FOLDER_LIMIT" in refusal(source)


@pytest.mark.parametrize(
    "card",
    [
        "configs: [1]",
        "configs: {a: b}",
        "configs: [{config_name: [1]}]",
        "configs: &a [*a]",
        "{: [",
        "configs:\n- config_name: d\n  data_files: &a [*a]",
    ],
)
def test_a_card_that_is_none_is_explained(card: str, allowed: Path) -> None:
    (allowed / "f" / "README.md").write_text(f"---\n{card}\n---\n")
    (allowed / "f" / "x.jsonl").write_bytes(SECRET)
    assert "cannot be read as a data set" in refusal(allowed / "f")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("state.json", {}),
        ("state.json", [1]),
        ("state.json", {"_data_files": [{"filename": 3}]}),
        ("state.json", {"_data_files": []}),
        ("state.json", {"_data_files": [{"filename": "../../secret/s.jsonl"}]}),
        ("dataset_dict.json", {}),
        ("dataset_dict.json", {"splits": ["../../secret"]}),
        ("dataset_dict.json", {"splits": [{"a": 1}]}),
    ],
)
def test_a_saved_data_set_names_its_own_files(name: str, value: object, allowed: Path) -> None:
    (allowed / "f" / name).write_text(json.dumps(value))
    assert refusal(allowed / "f")


def test_a_name_that_is_not_utf8_is_named(allowed: Path) -> None:
    path = os.fsdecode(os.fsencode(allowed / "f") + b"/\xfe.jsonl")
    Path(path).write_bytes(SECRET)
    for source in (path, str(allowed / "f")):
        assert r"\udcfe.jsonl: The name is not UTF-8." in refusal(source)
