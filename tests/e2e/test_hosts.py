"""Who may talk to the server: a page of this machine, and no site whose name was made to point here."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Page

from benchmarks.browsing import Visitor
from mrd_core.runs import Run
from tests.conftest import REPOSITORY
from tests.e2e.conftest import HOST, STEP, STREAMLIT, Server, launched

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

FOREIGN = "rebind.evil.example"


def handshake(port: int, host: str, origin: str) -> int:
    """Ask for the WebSocket of the app under a name of the server, and return the HTTP status."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = (
        "GET /_stcore/stream HTTP/1.1",
        f"Host: {host}",
        f"Origin: {origin}",
        *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"),
        *("", ""),
    )
    with socket.create_connection((HOST, port), timeout=30) as connection:
        connection.sendall("\r\n".join(lines).encode())
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize("command", [STREAMLIT, ("cli", "app")])
def test_only_the_names_of_this_machine_are_answered(tmp_path: Path, command: Sequence[str]) -> None:
    # The project's own command brings the settings to whatever folder it is started in.
    folder = REPOSITORY if command is STREAMLIT else tmp_path
    server = Server(tmp_path, command, folder)
    server.start()
    try:
        for name in ("127.0.0.1", "localhost"):
            host = f"{name}:{server.port}"
            assert handshake(server.port, host, f"http://{host}") == 101
        for name in (FOREIGN, f"127.0.0.1.{FOREIGN}", "0.0.0.0"):
            host = f"{name}:{server.port}"
            assert handshake(server.port, host, f"http://{host}") == 403
            assert handshake(server.port, name, f"http://{name}") == 403
        # A page of another site that knows the address.
        assert handshake(server.port, f"{HOST}:{server.port}", f"http://{FOREIGN}") == 403
        visitor = Visitor(f"{HOST}:{server.port}", [], [], seed=0)
        asyncio.run(visitor.stay("difficulty", until=0.0, pause=0.0))
        assert (len(visitor.reruns), visitor.errors) == (1, [])
        # Colours and all else of the settings are as the server takes them.
        assert "Traceback" not in (tmp_path / "server.log").read_text()
    finally:
        server.stop()


@pytest.fixture
def page_elsewhere() -> Iterator[Page]:
    """A page of a browser for which a foreign name leads to this machine, as it does after DNS rebinding."""
    with launched(f"--host-resolver-rules=MAP {FOREIGN} {HOST}") as browser:
        yield browser.new_page()


def test_a_site_that_points_its_name_here_sees_no_run(server: Server, scored: Run, page_elsewhere: Page) -> None:
    heard: list[str] = []
    page_elsewhere.on("websocket", lambda opened: opened.on("framereceived", lambda _: heard.append(opened.url)))
    page_elsewhere.goto(f"{server.url}/difficulty?run={scored.id}", timeout=STEP)
    page_elsewhere.get_by_text(scored.title).first.wait_for(timeout=STEP)
    assert any(HOST in url for url in heard)
    page_elsewhere.goto(f"http://{FOREIGN}:{server.port}/difficulty?run={scored.id}", timeout=STEP)
    page_elsewhere.wait_for_timeout(5000)
    assert not any(FOREIGN in url for url in heard)
    assert scored.title not in page_elsewhere.content()
