"""Answers the coordinator's messages with the owner's ClientApp."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedsm.client import log
from fedsm.client.contract import Value
from fedsm.client.exits import Exit, Failure, failure
from fedsm.errors import ConfigError, DataError


class Interrupted(BaseException):
    """Raised inside the app when the job must leave; no ``except Exception`` of an app stops it."""


class AppHandler:
    """A ClientApp and what it leaves behind between messages.

    An app that raises fails the round for this site only: the coordinator gets the failure's
    sentence and goes on while it has a quorum, and the site takes part in the next round. A site
    whose last message of a kind failed ends with that failure once the run is over.

    Attributes
    ----------
    last_global, last_local : ArrayRecord or None
        Arrays of the last train or evaluate message, and of the last answer to train.
    config : Mapping
        Config of the same message as ``last_global``.
    """

    def __init__(
        self,
        app: ClientApp,
        code: Path,
        *,
        run_config: Mapping[str, Value],
        node_config: Mapping[str, Value],
    ) -> None:
        self._app = app
        self._code = code
        self._run_config = dict(run_config)
        self._node_config = dict(node_config)
        self._context: Context | None = None
        self._in_app = False
        self._failures: dict[str, Failure] = {}
        self.last_global: ArrayRecord | None = None
        self.last_local: ArrayRecord | None = None
        self.config: ConfigRecord = ConfigRecord()

    @property
    def failure(self) -> Failure | None:
        """The failure of the last message of a kind, train before evaluate before query."""
        for kind in ("train", "evaluate", "query"):
            if kind in self._failures:
                return self._failures[kind]
        return None

    def interrupt(self) -> None:
        """Break off the app, if it is computing; for signal handlers, which run in its thread."""
        if self._in_app:
            raise Interrupted

    def __call__(self, message: Message) -> Message:
        """Answer one message; an error of the app becomes an error reply."""
        kind = message.metadata.message_type.partition(".")[0]
        self._remember(kind, message.content)
        began = time.monotonic()
        try:
            reply = self._ask_app(message)
        except Interrupted:
            return Message(Error(Exit.STOPPED, Exit.STOPPED.sentence), reply_to=message)
        except BaseException as error:
            traceback.print_exception(error)
            found = failure(_reason(error), error, self._code)
            self._failures[kind] = found
            log.line("error", kind=kind, reason=found.sentence)
            return Message(Error(found.exit, found.sentence), reply_to=message)
        if reply.has_error():  # the app's own words, such as a Flower mod's
            self._failures[kind] = Failure(Exit.APP_RAISED, "The app answered with an error.")
            log.line("error", kind=kind, reason=reply.error.reason)
            return reply
        self._failures.pop(kind, None)
        if kind == "train":
            self.last_local = _first_arrays(reply.content)
        self._log(kind, reply.content, time.monotonic() - began)
        return reply

    def _ask_app(self, message: Message) -> Message:
        if self._context is None:
            self._context = Context(
                run_id=message.metadata.run_id,
                node_id=message.metadata.dst_node_id,
                node_config=self._node_config,
                state=RecordDict(),
                run_config=self._run_config,
            )
        try:
            self._in_app = True
            reply = self._app(message, self._context)
        finally:
            self._in_app = False
        if not isinstance(reply, Message):
            raise TypeError("the app did not return a Message")
        return reply

    def _remember(self, kind: str, content: RecordDict) -> None:
        arrays = _first_arrays(content)
        if kind in ("train", "evaluate") and arrays is not None:
            self.last_global = arrays
            self.config = next(iter(content.config_records.values()), ConfigRecord())

    def _log(self, kind: str, content: RecordDict, seconds: float) -> None:
        metrics = next(iter(content.metric_records.values()), MetricRecord())
        server_round = self.config.get("server-round", 0) if kind != "query" else 0
        log.metrics("answered", kind, metrics, kind=kind, round=server_round, seconds=seconds)


def _reason(error: BaseException) -> Exit:
    if isinstance(error, DataError):
        return Exit.DATA_UNUSABLE
    return Exit.SETTINGS_WRONG if isinstance(error, ConfigError) else Exit.APP_RAISED


def _first_arrays(content: RecordDict) -> ArrayRecord | None:
    return next(iter(content.array_records.values()), None)
