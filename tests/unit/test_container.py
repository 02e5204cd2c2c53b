"""The image and what is started beside it: files, settings and ports are those of the program, and it starts."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url
from streamlit.config import get_config_options, get_option

from mrd_core.settings.installation import Settings
from tests.conftest import REPOSITORY
from tests.support.commands import PATIENCE

# Variables of others that the image and the services set.
OF_OTHERS = {"PIP_NO_CACHE_DIR", "PYTHONUNBUFFERED", "HF_HOME", "PGPASSWORD"}
TAGGED = re.compile(r"[\w./-]+:\d+\.\d+(\.\d+)?(-[\w.-]+)?")
REQUIRED = re.compile(r"\$\{\w+:\?[^}]+\}")


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile and what follows each, lines that go on joined."""
    text = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


def of(instruction: str) -> list[str]:
    return [rest for word, rest in instructions() if word == instruction]


def variables() -> dict[str, str]:
    """Return the environment of the image."""
    return dict(word.split("=", 1) for rest in of("ENV") for word in shlex.split(rest))


def copied() -> Iterator[tuple[list[str], str]]:
    """Yield sources and place of what is copied into the image."""
    for rest in of("COPY"):
        *sources, place = shlex.split(rest)
        yield sources, place


def health() -> list[str]:
    (check,) = of("HEALTHCHECK")
    command: list[str] = json.loads(check.partition("CMD ")[2])
    return command


def services() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text(encoding="utf-8"))
    return content


def test_what_is_copied_is_there_and_all_that_the_program_is_made_of() -> None:
    sources = {source for each, _ in copied() for source in each}
    assert [source for source in sources if not (REPOSITORY / source).exists()] == []
    setup = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packages = {name.rstrip("*") for name in setup["packages"]["find"]["include"]}
    assert packages | {f"{name}.py" for name in setup["py-modules"]} <= sources
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    let_through = {line[1:].partition("/")[0] for line in lines if line.startswith("!")}
    assert let_through == sources


def test_it_runs_as_nobody_s_root_and_starts_from_a_version() -> None:
    words = [word for word, _ in instructions()]
    (user,) = of("USER")
    assert int(user) > 0
    assert words.index("USER") > max(at for at, word in enumerate(words) if word in ("RUN", "COPY"))
    assert words[-1] == "CMD"
    images = [*of("FROM"), *(each["image"] for each in services()["services"].values() if "image" in each)]
    assert [image for image in images if not TAGGED.fullmatch(image)] == []


def test_one_port_is_exposed_looked_at_published_and_documented() -> None:
    (port,) = of("EXPOSE")
    assert int(port) == get_option("server.port")
    assert f":{port}/_stcore/health" in health()[-1]
    assert services()["services"]["app"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    text = (REPOSITORY / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert re.findall(r"app_port: (\d+)", text) == [port]
    assert set(re.findall(r"--publish (\S+)", text)) == {f"127.0.0.1:{port}:{port}"}


def test_every_variable_is_a_setting_of_the_program_or_of_streamlit() -> None:
    own = {info.description.partition(":")[0] for info in Settings.model_fields.values() if info.description}
    known = OF_OTHERS | own | {option.env_var for option in get_config_options().values()}
    assert variables().keys() | services()["services"]["app"]["environment"].keys() <= known


def test_all_that_is_written_lies_on_the_one_volume() -> None:
    (volume,) = of("VOLUME")
    assert [each for each in ("MRD_HOME", "HF_HOME") if not Path(variables()[each]).is_relative_to(volume)] == []
    assert variables()["MRD_ALLOWED_ROOTS"] == volume
    assert services()["services"]["app"]["volumes"] == [f"data:{volume}"]


def test_the_store_is_reached_by_the_app_alone_and_needs_a_password() -> None:
    content = services()
    app, store = content["services"]["app"], content["services"]["store"]
    assert "ports" not in store
    assert store["networks"] == ["inside"]
    assert content["networks"]["inside"] == {"internal": True}
    address = make_url(app["environment"]["MRD_STORE_URL"])
    assert (address.host, address.password, address.drivername) == ("store", None, "postgresql+psycopg")
    assert (address.username, address.database) == ("mrd", "mrd")
    assert {store["environment"][name] for name in ("POSTGRES_USER", "POSTGRES_DB")} == {"mrd"}
    passwords = {app["environment"]["PGPASSWORD"], store["environment"]["POSTGRES_PASSWORD"]}
    assert len(passwords) == 1
    assert REQUIRED.fullmatch(passwords.pop())
    named = {volume.partition(":")[0] for each in (app, store) for volume in each["volumes"]}
    assert named == set(content["volumes"])


def test_what_is_asked_of_the_reader_is_documented() -> None:
    text = (REPOSITORY / "docs" / "deploy.md").read_text(encoding="utf-8")
    asked = set(re.findall(r"\$\{(\w+)", (REPOSITORY / "compose.yaml").read_text(encoding="utf-8")))
    assert asked == {"DATABASE_PASSWORD", "ALLOWED_HOSTS"}
    assert all(name in text for name in asked)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.cold
def test_its_commands_install_and_start_the_app_in_a_bare_environment(tmp_path: Path) -> None:
    """As far as it goes without root: what adds the user is left out, and the volume is a folder."""
    (volume,), (port,) = of("VOLUME"), of("EXPOSE")
    place, data = tmp_path / "app", tmp_path / "data"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own_port = str(free.getsockname()[1])
    image = {name: value.replace(volume, str(data)) for name, value in variables().items()}
    # What pip has fetched before need not be fetched again.
    image.pop("PIP_NO_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MRD_", "STREAMLIT"))}
    environment |= image | {
        "PATH": f"{tmp_path / 'venv' / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": "",
        "STREAMLIT_SERVER_PORT": own_port,
        "STREAMLIT_SERVER_ADDRESS": "127.0.0.1",
        "TORCH_INDEX": index(),
    }
    for word, rest in instructions():
        if word == "COPY":
            copy(shlex.split(rest), place)
        elif word == "RUN" and not rest.startswith("useradd"):
            subprocess.run(["sh", "-ec", rest], cwd=place, env=environment, check=True, timeout=1800)
    (command,) = of("CMD")
    server = subprocess.Popen(json.loads(command), cwd=place, env=environment)
    try:
        check = [word.replace(port, own_port) for word in health()]
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(check, env=environment, capture_output=True, check=False).returncode:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(1)
    finally:
        server.terminate()
        server.wait()
    wide = environment | {"COLUMNS": "400"}
    outcome = subprocess.run(["mrd-lens", "doctor"], cwd=tmp_path, env=wide, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    assert str(data) in outcome.stdout


def index() -> str:
    """Return the package index of this machine, which has torch as well."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True,
        text=True,
        check=False,
    )
    return os.environ.get("PIP_INDEX_URL") or asked.stdout.strip() or "https://pypi.org/simple"


def copy(words: list[str], place: Path) -> None:
    """Copy as the image does: a folder's content into the target, a file beneath it."""
    *sources, target = words
    for source in map(REPOSITORY.joinpath, sources):
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, place / target, symlinks=True, ignore=ignored, dirs_exist_ok=True)
        else:
            (place / target).mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place / target)
