"""What the site's owner allows a run to choose, checked before anything is dialled.

An approved pipeline fixes the limits in the job's environment, where the server cannot reach them:
``FEDSM_LIMIT_ADDRESS`` (ranges or names, then the port; 0 for any), ``FEDSM_LIMIT_ROUNDS``, and
``FEDSM_LIMIT_HP_<NAME>`` (lowest and highest value). The direct launch sets none.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Array, RecordDict

from fedsm.client.contract import Value
from fedsm.contract import LIMIT_ADDRESS, LIMIT_ROUNDS, PREFIX, JobSettings, limit_name
from fedsm.errors import ConfigError

_ACTION = "let the server keep to the invitation, or ask the site's owner for more"
_RANGE = limit_name("")


@dataclass(frozen=True, slots=True)
class Limits:
    """The owner's limits; ``None`` or empty where there is none.

    Attributes
    ----------
    hosts : tuple of str
        Ranges, addresses or names that may be dialled.
    port : int
        0 for any.
    rounds : int or None
        Most rounds, and most messages of a kind that the job answers.
    ranges : mapping of str to (float, float)
        Environment variable to the lowest and highest value.
    """

    hosts: tuple[str, ...] = ()
    port: int = 0
    rounds: int | None = None
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Limits:
        """Read the limits.

        Raises
        ------
        ConfigError
            One is not of its form.
        """
        name = ""
        try:
            name = LIMIT_ADDRESS
            *hosts, port = environ.get(name, "0").split()
            number = int(port)
            name = LIMIT_ROUNDS
            rounds = int(environ[name]) if name in environ else None
            ranges = {}
            for name in (n for n in environ if n.startswith(_RANGE)):
                low, high = environ[name].split()
                ranges[name] = (float(low), float(high))
        except ValueError:
            raise ConfigError(
                "is not a limit of its form",
                where=name,
                action="let the site's approver approve the bundle again",
            ) from None
        return cls(tuple(hosts), number, rounds, ranges)

    def check(self, settings: JobSettings, hyperparameters: Mapping[str, Value]) -> None:
        """See that a run is within the limits.

        Raises
        ------
        ConfigError
            It is not; names each parameter.
        """
        faults: list[tuple[str, str]] = []
        if self.hosts and not self._may_dial(settings.address):
            allowed = f"{' '.join(self.hosts)}, port {self.port or 'any'}"
            faults.append((f"{PREFIX}ADDRESS", f"{settings.address} is not within {allowed}"))
        if self.rounds is not None and not 0 < settings.rounds <= self.rounds:
            faults.append((f"{PREFIX}ROUNDS", f"{settings.rounds} is not from 1 to {self.rounds}"))
        values = {limit_name(name): (name, value) for name, value in hyperparameters.items()}
        for variable, (low, high) in sorted(self.ranges.items()):
            name, value = values.get(variable, (variable, None))
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (number and low <= value <= high):  # type: ignore[operator]
                shown = "it" if value is None else str(value)[:40]
                faults.append((name, f"{shown} is not a number from {low:g} to {high:g}"))
        if faults:
            raise ConfigError(
                "the run is outside what the site's owner allows",
                where=settings.site,
                action=_ACTION,
                faults=tuple(faults),
            )

    def _may_dial(self, address: str) -> bool:
        host, _, port = address.rpartition(":")
        if self.port and port != str(self.port):
            return False
        host = host.removeprefix("[").removesuffix("]")
        if host in self.hosts:
            return True
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(ip in network for network in _networks(self.hosts))


class Quota:
    """How often each kind of message is answered: once a round of those that the owner allows.

    Rounds are counted by messages, not by the number that the coordinator gives a round. To Flower
    ``train`` and ``train.default`` are one function.
    """

    def __init__(self, rounds: int | None) -> None:
        self.rounds = rounds
        self._taken: Counter[str] = Counter()

    def take(self, kind: str, alone: int = 0) -> bool:
        """Whether one more message of a kind, which asks for rounds alone, may be answered."""
        kind = kind.removesuffix(".default")
        self._taken[kind] += 1
        return self.rounds is None or max(self._taken[kind], alone) <= self.rounds


class Questions:
    """What is asked of the rows beside the rounds: one question of a kind, put as often as need be.

    Of two questions, such as histograms with shifted edges or a report with other groups, the
    difference of the answers can count fewer rows than either.
    """

    def __init__(self) -> None:
        self._asked: dict[str, bytes] = {}

    def take(self, kind: str, content: RecordDict) -> bool:
        """Whether a message of a kind asks what the first of its kind asked."""
        kind = kind.removesuffix(".default")
        question = _digest(content)
        return self._asked.setdefault(kind, question) == question


def _digest(content: RecordDict) -> bytes:
    found = hashlib.sha256()
    for name, record in sorted(content.items()):
        for key, value in sorted(record.items()):
            shown: Any = value
            if isinstance(value, Array):
                data = hashlib.sha256(value.data).digest()
                shown = value.dtype, tuple(value.shape), value.stype, data
            found.update(repr((name, type(record).__name__, key, shown)).encode())
    return found.digest()


def _networks(
    hosts: tuple[str, ...],
) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = []
    for host in hosts:
        try:
            found.append(ipaddress.ip_network(host))
        except ValueError:  # a name
            continue
    return found
