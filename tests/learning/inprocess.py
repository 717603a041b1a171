"""Flower's Grid over ClientApps in this process: the app and the strategy are the real ones."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fedsm.client.app_loader import load_app
from fedsm.transport.flower import Run, empty_run, set_identity

ROOT = Path(__file__).resolve().parents[2]


def fresh_app(code: Path) -> ClientApp:
    """The app of a folder, whatever module of the same name was loaded before."""
    names, path = [file.stem for file in code.glob("*.py")], list(sys.path)
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    try:
        return load_app(code)
    finally:
        sys.path[:] = path
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)


class InProcessGrid(Grid):
    """One app for all sites; each has its own context, and ``also`` in its node's config."""

    def __init__(
        self,
        app: ClientApp,
        sites: Iterable[Mapping[str, Path]],
        run_config: Mapping[str, bool | int | float | str] | None = None,
        also: Mapping[str, str] | None = None,
    ) -> None:
        set_identity(1, 1)
        self._app = app
        self._contexts = {
            node: Context(
                run_id=1,
                node_id=node,
                node_config={
                    **{f"channel-{name}": str(path) for name, path in channels.items()},
                    **(also or {}),
                },
                state=RecordDict(),
                run_config=dict(run_config or {}),
            )
            for node, channels in enumerate(sites, start=2)
        }

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        return empty_run(1)

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        return list(self._contexts)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        return [self._app(m, self._contexts[m.metadata.dst_node_id]) for m in messages]

    def ask(self, kind: str, config: Mapping[str, object] | None = None) -> dict[str, RecordDict]:
        """Contents of all sites' answers to a query."""
        content = RecordDict({"config": ConfigRecord(dict(config or {}))})
        messages = [
            Message(content=content, message_type=kind, dst_node_id=node) for node in self._contexts
        ]
        replies = self.send_and_receive(messages)
        return {str(reply.metadata.src_node_id): reply.content for reply in replies}
