"""The tree of errors.

    FedsmError                    where, what, next action
    ├── ConfigError               federation.yaml or an override is wrong; all faults at once
    ├── AccessError               a call was refused: session, role, permission
    ├── BundleError               client code cannot be packed, published or found
    ├── LaunchError               a site's job cannot be created
    ├── JobError                  a site's job ended when it should not have
    ├── TransportError            the link between coordinator and job
    │   ├── WireError             malformed or oversized bytes
    │   ├── ProtocolMismatch      the two ends speak different versions
    │   ├── IdentityRefused       the peer did not prove who it is
    │   └── CoordinatorGone       no coordinator for longer than max-wait
    ├── TrainingError             the rounds cannot go on
    │   ├── QuorumLost            fewer live sites than min_sites
    │   ├── SeparatedData         rows that a plane parts: without a penalty no finite optimum
    │   ├── NotConverged          the rounds ended before the tolerance was met
    │   └── StoppedEarly          asked to stop before there was a model
    ├── DataError                 a site's rows cannot be used
    ├── TrackingError             an experiment tracker refused
    ├── EvidenceError             a journal or an evidence pack is not whole
    └── LocalCloudError           the embedded local cloud

A message names the site or account, what failed, and what the person who can mend it does next. It
never holds a row's content.
"""

from __future__ import annotations


class FedsmError(Exception):
    """Base of all errors that fedsm raises on purpose.

    Parameters
    ----------
    what : str
        What failed, one sentence without the full stop.
    where : str, optional
        The site, account, file or field concerned.
    action : str, optional
        What the person who can mend it does next.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, action: str | None = None) -> None:
        self.what = what
        self.where = where
        self.action = action
        super().__init__(what, where, action)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}. Next: {self.action}" if self.action else head


class ConfigError(FedsmError):
    """The configuration is wrong; ``faults`` lists every field with its fault."""

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        action: str | None = None,
        faults: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(what, where=where, action=action)
        self.faults = faults

    def __str__(self) -> str:
        lines = [super().__str__()]
        lines += [f"  {field}: {fault}" for field, fault in self.faults]
        return "\n".join(lines)


class AccessError(FedsmError):
    """AWS refused a call: the message holds what the policy must say."""

    exit_code = 3


class BundleError(FedsmError):
    """The code bundle cannot be made, published, found or trusted."""

    exit_code = 2


class LaunchError(FedsmError):
    """A site's training job could not be created."""

    exit_code = 4


class JobError(FedsmError):
    """A site's training job ended when it should not have."""

    exit_code = 4


class TransportError(FedsmError):
    """The link between coordinator and job failed."""

    exit_code = 5


class WireError(TransportError):
    """Malformed or oversized bytes arrived."""


class ProtocolMismatch(TransportError):  # noqa: N818
    """The two ends speak different protocol versions."""


class IdentityRefused(TransportError):  # noqa: N818
    """The peer did not prove who it is."""


class CoordinatorGone(TransportError):  # noqa: N818
    """No coordinator answered for longer than ``max-wait``."""


class TrainingError(FedsmError):
    """The rounds cannot go on."""

    exit_code = 5


class QuorumLost(TrainingError):  # noqa: N818
    """Fewer sites are live than ``min_sites``."""


class StoppedEarly(TrainingError):  # noqa: N818
    """The run was asked to stop before there was a model."""


class DataError(FedsmError):
    """A site's rows cannot be used; names file and column, never content."""

    exit_code = 2


class TrackingError(FedsmError):
    """An experiment tracker refused."""


class EvidenceError(FedsmError):
    """A journal or an evidence pack is not as it was written; names line or file."""

    exit_code = 7


class LocalCloudError(FedsmError):
    """The embedded local cloud could not do what was asked."""

    exit_code = 6
