"""A session of the app as a browser has one: over the WebSocket, without drawing anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Origin, Subprotocol

# Within which a rerun has to end [s].
PATIENCE_SECONDS = 120.0
PROTOCOL = Subprotocol("streamlit")
LARGEST_MESSAGE = 64 * 2**20
WORDS = ("the", "a", "who", "in", "")
# Of the cards for errors; a verdict that is bad news has another.
ERROR_ICON = ":material/error:"
# For how many reruns a browser keeps a message that it may be asked to draw again.
KEPT_RERUNS = 2

Action = Literal["first page", "page", "sample", "filter", "live panel", "press"]


@dataclass(frozen=True)
class Rerun:
    """A rerun of the page's script, or of a fragment of it.

    Attributes:
        action: What asked for it.
        seconds: From the request to the end of the script.
        received: What came over the socket [bytes].
    """

    action: Action
    seconds: float
    received: int


@dataclass
class Panel:
    """A fragment that asks to be run again and again.

    Attributes:
        interval: How often [s].
        due: When next, as `time.monotonic` counts.
    """

    interval: float
    due: float


@dataclass
class Drawn:
    """What the page holds, as far as somebody could use it.

    Attributes:
        widgets: Inputs by id, each with the fragment that it lies in ("" without one).
        buttons: Ids of buttons by key, each with the fragment that it lies in.
        panels: Fragments that run by themselves, by id.
        pages: Hashes of the app's pages by path.
    """

    widgets: dict[str, tuple[Any, str]] = field(default_factory=dict)
    buttons: dict[str, tuple[str, str]] = field(default_factory=dict)
    panels: dict[str, Panel] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)


class Visitor:
    """Somebody who looks around in the app: changes pages, opens samples, filters.

    Args:
        address: `127.0.0.1:PORT`.
        runs: Values of `run` in the address of a page.
        samples: Ids of samples of these runs.
        seed: Of what is done.

    Attributes:
        reruns: All reruns so far.
        errors: Exceptions and errors that pages showed, each with its page.
        refusals: Errors that a page showed after inputs were changed at random, each with its page: what a form
            says to a name that is missing or a method that nobody chose.
    """

    def __init__(self, address: str, runs: list[str], samples: list[str], seed: int) -> None:
        self._address, self._runs, self._samples = address, runs, samples
        self._chance = Random(seed)
        self._drawn = Drawn()
        self._states: dict[str, WidgetState] = {}
        # As a browser keeps them: by hash, each with the rerun that it was last part of.
        self._kept: dict[str, tuple[ForwardMsg, int]] = {}
        self._page, self._query = "", self._any_run()
        self.reruns: list[Rerun] = []
        self.errors: list[str] = []
        self.refusals: list[str] = []
        self._has_changed_inputs = False
        # The container of a card for an error whose reason is still to come.
        self._card: list[int] = []

    async def stay(self, page: str, until: float, pause: float) -> None:
        """Open a page and look around until `until` (`time.monotonic`), with pauses of about `pause` [s]."""
        try:
            async with self.at(page) as connection:
                while time.monotonic() < until:
                    await self._rest(connection, self._chance.uniform(0.5, 1.5) * pause, until)
                    await self._act(connection)
        except (OSError, TimeoutError, WebSocketException) as error:
            self.errors.append(f"{self._page}: the session ended: {error!r}")

    @asynccontextmanager
    async def at(self, page: str) -> AsyncIterator[ClientConnection]:
        """Open a page in a session of its own.

        Raises:
            OSError, TimeoutError, WebSocketException: The session broke off.
        """
        self._page, self._drawn, self._kept, self._states = page, Drawn(), {}, {}
        self._has_changed_inputs = False
        socket = f"ws://{self._address}/_stcore/stream"
        async with connect(
            socket,
            origin=Origin(f"http://{self._address}"),
            subprotocols=[PROTOCOL],
            max_size=LARGEST_MESSAGE,
            # A browser answers the server's pings and sends none.
            ping_interval=None,
        ) as connection:
            await self._rerun(connection, "first page", page_name=page)
            yield connection

    async def go(self, connection: ClientConnection, page: str) -> Rerun:
        """Change to a page."""
        self._page, self._states = page, {}
        return await self._rerun(connection, "page")

    async def press(self, connection: ClientConnection, key: str) -> Rerun:
        """Press the button of this key.

        Raises:
            KeyError: The page has none.
        """
        name, fragment = self._drawn.buttons[key]
        self._states[name] = WidgetState(id=name, trigger_value=True)
        rerun = await self._rerun(connection, "press", fragment_id=fragment)
        del self._states[name]
        return rerun

    async def _rest(self, connection: ClientConnection, seconds: float, until: float) -> None:
        """Wait, while the live panels of the page go on as a browser lets them."""
        end = min(time.monotonic() + seconds, until)
        while (now := time.monotonic()) < end:
            due = [name for name, panel in self._drawn.panels.items() if panel.due <= now]
            for name in due:
                self._drawn.panels[name].due = now + self._drawn.panels[name].interval
                await self._rerun(connection, "live panel", fragment_id=name, is_auto_rerun=True)
            if not due:
                await asyncio.sleep(0.1)

    async def _act(self, connection: ClientConnection) -> None:
        action: Action = self._chance.choice(("page", "sample", "filter", "filter"))
        if action == "filter" and self._drawn.widgets:
            widget, fragment = self._chance.choice(list(self._drawn.widgets.values()))
            self._states[widget.id] = changed(widget, self._chance)
            self._has_changed_inputs = True
            await self._rerun(connection, action, fragment_id=fragment)
            return
        if action == "sample":
            self._query["sample"] = self._chance.choice(self._samples)
        else:
            self._page = self._chance.choice(list(self._drawn.pages))
            self._query, self._states = self._any_run(), {}
        await self._rerun(connection, "sample" if action == "sample" else "page")

    def _any_run(self) -> dict[str, str]:
        return {"run": self._chance.choice(self._runs)} if self._runs else {}

    async def _rerun(self, connection: ClientConnection, action: Action, **wish: Any) -> Rerun:
        """Ask for a rerun, take in what comes of it, and note how long it took and how much it was."""
        began, received = time.monotonic(), 0
        request = BackMsg()
        state = request.rerun_script
        state.query_string = urlencode(self._query)
        state.page_script_hash = self._drawn.pages.get(self._page, "")
        state.widget_states.CopyFrom(WidgetStates(widgets=self._states.values()))
        state.cached_message_hashes.extend(self._kept)
        for name, value in wish.items():
            setattr(state, name, value)
        await connection.send(request.SerializeToString())
        async with asyncio.timeout(PATIENCE_SECONDS):
            has_ended = False
            while not has_ended:
                content = await connection.recv(decode=False)
                received += len(content)
                has_ended = self._take_in(self._in_full(ForwardMsg.FromString(content)))
        rerun = Rerun(action, time.monotonic() - began, received)
        self.reruns.append(rerun)
        oldest = len(self.reruns) - KEPT_RERUNS
        self._kept = {name: kept for name, kept in self._kept.items() if kept[1] >= oldest}
        return rerun

    def _in_full(self, message: ForwardMsg) -> ForwardMsg:
        """Return the message, or that which it refers to, and keep it as a browser does."""
        if message.WhichOneof("type") == "ref_hash":
            name, metadata = message.ref_hash, message.metadata
            message = ForwardMsg.FromString(self._kept[name][0].SerializeToString())
            message.metadata.CopyFrom(metadata)
            self._kept[name] = message, len(self.reruns)
        elif message.metadata.cacheable:
            self._kept[message.hash] = message, len(self.reruns)
        return message

    def _take_in(self, message: ForwardMsg) -> bool:
        """Keep what somebody could use, and what went wrong; return whether the script has ended."""
        what = message.WhichOneof("type")
        if what == "new_session" and not message.metadata.run.fragment_ids:
            self._drawn.widgets, self._drawn.panels, self._drawn.buttons = {}, {}, {}
        elif what == "navigation":
            self._drawn.pages = {page.url_pathname: page.page_script_hash for page in message.navigation.app_pages}
        elif what == "auto_rerun":
            interval = message.auto_rerun.interval
            self._drawn.panels[message.auto_rerun.fragment_id] = Panel(interval, time.monotonic() + interval)
        elif what == "stop_auto_rerun":
            for name in message.stop_auto_rerun.fragment_ids:
                self._drawn.panels.pop(name, None)
        elif what == "delta":
            self._look_at(message.delta, list(message.metadata.delta_path)[:-1])
        elif what == "page_not_found":
            self.errors.append(f"{self._page}: there is no such page")
        return what == "script_finished" and message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN

    def _look_at(self, delta: Any, container: list[int]) -> None:
        element = delta.new_element
        kind = element.WhichOneof("type") if delta.HasField("new_element") else None
        if kind == "exception":
            self.errors.append(f"{self._page}: {element.exception.type}: {element.exception.message}")
        elif kind == "alert" and element.alert.icon == ERROR_ICON:
            self._card = container
        elif kind == "text" and container == self._card:
            # Inputs outlive their page within a session. While none was touched, there is nothing to refuse.
            (self.refusals if self._has_changed_inputs else self.errors).append(
                f"{self._page}: {element.text.body}"
            )
            self._card = []
        elif kind == "button":
            # `$$ID-HASH-KEY`.
            self._drawn.buttons[element.button.id.split("-", 2)[-1]] = element.button.id, delta.fragment_id
        elif kind in ("selectbox", "multiselect", "button_group", "text_input", "checkbox"):
            widget = getattr(element, kind)
            if not widget.disabled and not widget.form_id and getattr(widget, "options", True):
                self._drawn.widgets[widget.id] = widget, delta.fragment_id


def changed(widget: Any, chance: Random) -> WidgetState:
    """Return a state of a widget that somebody might choose."""
    kind = type(widget).__name__
    if kind == "Checkbox":
        return WidgetState(id=widget.id, bool_value=chance.random() < 0.5)
    if kind == "TextInput":
        return WidgetState(id=widget.id, string_value=chance.choice(WORDS))
    options = [option if isinstance(option, str) else option.content for option in widget.options]
    if kind == "Selectbox":
        return WidgetState(id=widget.id, string_value=chance.choice(options))
    state = WidgetState(id=widget.id)
    state.string_array_value.data.append(chance.choice(options))
    return state
