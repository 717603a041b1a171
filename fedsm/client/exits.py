"""Exit codes of a job, with the fixed sentence of each.

=====  ==========================================================================================
code   when
=====  ==========================================================================================
0      the run is over, or the coordinator was gone longer than ``max-wait``
10-19  the owner's code and data: 10 ``app.py`` cannot be loaded, 11 the app raised in its last
       round, 12 the site's rows cannot be used, 13 they are fewer than the owner's terms ask for
20-29  the launch: 20 settings or hyperparameters are wrong
30-39  the link: 30 the two ends speak different protocols, 31 the coordinator refused the job's
       identity, 32 no coordinator was ever reached, 33 any other fault of the link
40-49  the model: 40 it cannot be written
50-59  the bootstrap (``iam/bootstrap.py``): 50 no bundle, 51 another bundle than the approved one,
       52 the bundle is unsafe to unpack, 53 the requirements cannot be installed
143    stopped by SIGTERM; what was there is saved
=====  ==========================================================================================

Any code but 0 comes with one sentence in ``output/failure``. It names the exception's class and the
file and line of the innermost frame in the owner's code, never the exception's text: that may hold
a row, and the sentence is read by the coordinator. The job's own log has the traceback.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from fedsm.errors import ConfigError, FedsmError


class Exit(IntEnum):
    """Why a job ended."""

    OVER = 0
    APP_NOT_LOADED = 10
    APP_RAISED = 11
    DATA_UNUSABLE = 12
    TOO_FEW_ROWS = 13
    SETTINGS_WRONG = 20
    PROTOCOL_MISMATCH = 30
    IDENTITY_REFUSED = 31
    COORDINATOR_NOT_REACHED = 32
    LINK_FAILED = 33
    MODEL_NOT_WRITTEN = 40
    STOPPED = 143

    @property
    def sentence(self) -> str:
        """What it means and what to do, without anything of the exception."""
        return _SENTENCES[self]


_LOG = "the job's log has the traceback"

_SENTENCES = {
    Exit.OVER: "the run is over",
    Exit.APP_NOT_LOADED: f"app.py could not be loaded; {_LOG}",
    Exit.APP_RAISED: f"the app raised an error; {_LOG}",
    Exit.DATA_UNUSABLE: f"the site's rows cannot be used; {_LOG}, with file and column",
    Exit.TOO_FEW_ROWS: "the site has fewer rows than its owner's terms ask for, and takes no part",
    Exit.SETTINGS_WRONG: f"the job's settings or hyperparameters are wrong; {_LOG}",
    Exit.PROTOCOL_MISMATCH: "job and coordinator speak different protocol versions; publish the "
    "bundle again with the coordinator's version of fedsm",
    Exit.IDENTITY_REFUSED: "the coordinator refused the job's identity; check that the job runs "
    "with the site's execution role",
    Exit.COORDINATOR_NOT_REACHED: "no coordinator was reached within max-wait; check routes and "
    "security groups between the job's subnets and the coordinator's address and port",
    Exit.LINK_FAILED: f"the link to the coordinator failed; {_LOG}",
    Exit.MODEL_NOT_WRITTEN: f"the model could not be written; {_LOG}",
    Exit.STOPPED: "the job was told to stop before the run was over",
}


@dataclass(frozen=True)
class Failure:
    """How a job fails: its exit code, and the sentence for ``output/failure``."""

    exit: Exit
    sentence: str


def failure(reason: Exit, error: BaseException, code: Path) -> Failure:
    """Describe an error without its text.

    Parameters
    ----------
    reason : Exit
    error : BaseException
    code : Path
        Folder of the owner's code; its ``fedsm`` folder is the runtime's.
    """
    return Failure(reason, f"{type(error).__name__} at {_place(error, code)}: {reason.sentence}.")


def stated(reason: Exit, error: FedsmError) -> Failure:
    """Describe an error that fedsm raised before or beside the owner's code, with its text.

    Such a text comes from the launch's settings or from the link; it never saw a row.
    """
    faults = error.faults if isinstance(error, ConfigError) else ()
    what = "; ".join([error.what, *(f"{field} {fault}" for field, fault in faults)])
    return Failure(reason, f"{type(error).__name__}: {what}: {reason.sentence}.")


def _place(error: BaseException, code: Path) -> str:
    """``file:line`` of the innermost frame in the owner's code, else of the innermost frame."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        path = Path(frame.filename).resolve()
        if path.is_relative_to(code) and not path.is_relative_to(code / "fedsm"):
            return f"{path.relative_to(code)}:{frame.lineno}"
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
