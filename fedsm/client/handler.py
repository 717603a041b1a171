"""Answers the coordinator's messages with the owner's ClientApp, as far as the terms release it."""

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
from fedsm.client.heads import Heads
from fedsm.client.limits import Questions, Quota
from fedsm.client.release import Release, Released, Shapes, TooFewRows, shapes_of
from fedsm.contract import MAX_ROUNDS, REPORT_ROUNDS
from fedsm.errors import ConfigError, DataError
from fedsm.learning.controls import split
from fedsm.learning.site_report import STATE
from fedsm.transport import notes, once

REPORT = "evaluate.report"
"""Type of the final evaluation's message."""


class Interrupted(BaseException):
    """Raised inside the app when the job must leave; no ``except Exception`` of an app stops it."""


class AppHandler:
    """A ClientApp and what it leaves behind between messages.

    An app that raises fails the round for this site only: the coordinator gets the failure's
    sentence and goes on while it has a quorum, and the site takes part in the next round. A site
    whose last message of a kind failed ends with that failure once the run is over.

    Parameters
    ----------
    app : ClientApp
    code : Path
        Folder of the owner's code.
    run_config, node_config : mapping
        Flower's, for the app's context.
    release : Release
        What may leave in a reply.
    heads : Heads, optional
        Keeps where the coordinator's journal stood at each message.
    rounds : int, optional
        How many messages of a kind are answered, and rounds trained alone for the report.

    Attributes
    ----------
    last_global, last_local : ArrayRecord or None
        Arrays of the last train or evaluate message, and of the last answer to train.
    config : Mapping
        Config of the same message as ``last_global``.
    prepared : Receiver
        The federation's preparation, as it came last.
    """

    def __init__(
        self,
        app: ClientApp,
        code: Path,
        *,
        run_config: Mapping[str, Value],
        node_config: Mapping[str, Value],
        release: Release,
        heads: Heads | None = None,
        rounds: int | None = None,
    ) -> None:
        self._app = app
        self._code = code
        self._run_config = dict(run_config)
        self._node_config = dict(node_config)
        self._release = release
        self._heads = heads
        self._quota = Quota(rounds)
        self._questions = Questions()
        self._context: Context | None = None
        self._in_app = False
        self._failures: dict[str, Failure] = {}
        self.prepared = once.Receiver()
        self.last_global: ArrayRecord | None = None
        self.last_local: ArrayRecord | None = None
        self.config: ConfigRecord = ConfigRecord()

    @property
    def personal(self) -> ArrayRecord | None:
        """The global arrays as the app fine-tuned them to the site; None where it did not."""
        kept = None if self._context is None else self._context.state.get(STATE)
        return kept if isinstance(kept, ArrayRecord) else None

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
        asking = message.metadata.message_type
        kind = asking.partition(".")[0]
        beside = kind == "query" or asking == REPORT  # the rounds
        head = notes.take_head(message.content)
        if head is None and self._release.limited:
            return self._fail(kind, message, _OFF_THE_RECORD)
        try:
            known = self.prepared.fill(message.content)
        except LookupError:
            log.line("prepared-values-unknown", kind=kind)
            return Message(Error(once.UNKNOWN, once.REFUSED), reply_to=message)
        if head is not None and self._heads is not None:
            self._heads.add(asking if beside else kind, head)
        alone = _rounds_alone(message.content) if asking == REPORT else 0
        if not self._quota.take(asking, alone):
            return self._fail(kind, message, _TOO_MANY_ROUNDS)
        if beside and self._release.limited and not self._questions.take(asking, message.content):
            return self._fail(kind, message, _ANOTHER_QUESTION)
        asked = self._remember(kind, message.content)
        began = time.monotonic()
        try:
            reply = self._ask_app(message)
            if reply.has_error():  # the app's own words, such as a Flower mod's, are the owner's
                log.line("error", kind=kind, reason=reply.error.reason)
                return self._fail(kind, message, _APP_ERROR)
            released = self._release.of(message.metadata.message_type, asked, reply.content)
        except Interrupted:
            return Message(Error(Exit.STOPPED, Exit.STOPPED.sentence), reply_to=message)
        except TooFewRows:
            return self._fail(kind, message, _TOO_FEW_ROWS)
        except BaseException as error:
            traceback.print_exception(error)
            return self._fail(kind, message, failure(_reason(error), error, self._code))
        if message.metadata.message_type != REPORT:
            self._failures.pop(kind, None)
        if kind == "train":
            arrays = _first_arrays(reply.content)
            # What is not like the model that was sent, such as sums at it, is no model.
            if arrays is not None and shapes_of(arrays.items()) == asked:
                self.last_local = split(arrays)[0]
            else:
                self.last_local = None
        phase = "report" if message.metadata.message_type == REPORT else kind
        self._log(phase, released, time.monotonic() - began)
        if released.withheld:
            released.content[notes.WITHHELD] = released.withheld.record()
        if known is not None:
            released.content[once.KNOWN] = known
        return Message(released.content, reply_to=message)

    def _fail(self, kind: str, message: Message, found: Failure) -> Message:
        if message.metadata.message_type != REPORT:  # an app need not know it
            self._failures[kind] = found
        log.line("error", kind=kind, reason=found.sentence)
        return Message(Error(found.exit, found.sentence), reply_to=message)

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

    def _remember(self, kind: str, content: RecordDict) -> Shapes:
        """Keep the message's arrays and config; returns what the arrays are like."""
        arrays = _first_arrays(content)
        if arrays is None:
            return {}
        if kind in ("train", "evaluate"):
            self.last_global = split(arrays)[0]
            self.config = next(iter(content.config_records.values()), ConfigRecord())
        return shapes_of(arrays.items())

    def _log(self, kind: str, released: Released, seconds: float) -> None:
        """What leaves as metrics, for SageMaker shows those of the log; the rest by name."""
        metrics = next(iter(released.content.metric_records.values()), MetricRecord())
        said = self.config.get("server-round", 0) if kind != "query" else 0
        server_round = said if isinstance(said, int) else 0  # a text could pass for a metric
        log.metrics("answered", kind, metrics, kind=kind, round=server_round, seconds=seconds)
        if released.reasons:
            reasons = {
                why.replace(" ", "-"): _few(names) for why, names in released.reasons.items()
            }
            log.line("withheld", kind=kind, round=server_round, **reasons)


_LOGGED = 20
"""Names in a line of the log."""

_TOO_MANY_ROUNDS = Failure(
    Exit.SETTINGS_WRONG,
    "Refused: the coordinator asked for more rounds than the site's owner allows.",
)
_ANOTHER_QUESTION = Failure(
    Exit.SETTINGS_WRONG, "Refused: the coordinator put a second question of a kind to the rows."
)
_OFF_THE_RECORD = Failure(
    Exit.SETTINGS_WRONG, "Refused: the coordinator did not say where its journal stands."
)
_APP_ERROR = Failure(Exit.APP_RAISED, "The app answered with an error; the job's log has it.")
_TOO_FEW_ROWS = Failure(Exit.TOO_FEW_ROWS, f"Too few rows: {Exit.TOO_FEW_ROWS.sentence}.")


def _reason(error: BaseException) -> Exit:
    if isinstance(error, DataError):
        return Exit.DATA_UNUSABLE
    return Exit.SETTINGS_WRONG if isinstance(error, ConfigError) else Exit.APP_RAISED


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _LOGGED} more" if len(names) > _LOGGED else ""
    return ", ".join(names[:_LOGGED]) + more


def _rounds_alone(content: RecordDict) -> int:
    """How many rounds of its own the site is to train for the report."""
    asked = (config.get(REPORT_ROUNDS, 0) for config in content.config_records.values())
    return max((n if isinstance(n, int) else MAX_ROUNDS + 1 for n in asked), default=0)


def _first_arrays(content: RecordDict) -> ArrayRecord | None:
    return next(iter(content.array_records.values()), None)
