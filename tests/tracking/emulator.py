"""SageMaker Experiments answered by moto, with what moto lacks of the service put right.

moto 5.2.5 differs from AWS in ways that matter here:

- CreateExperiment, CreateTrial and CreateTrialComponent on a name that is taken replace what was
  there; AWS refuses. The SDK's ``load_run`` always creates first, so on bare moto it would empty
  the very run that it opens. `faithful` refuses.
- The same calls drop their ``Tags``, without which ``list_runs`` takes nothing for a run.
  `faithful` keeps them.
- ListTrialComponents ignores ``ExperimentName``: ``list_runs`` sees all runs of the account. The
  tests keep to one experiment.
- BatchGetMetrics is missing: values are read through DescribeTrialComponent, which gives count,
  first to last extremes and the last value, but no series.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto.core.request import Request as MotoRequest
from moto.sagemaker.exceptions import AWSValidationException
from moto.sagemaker.responses import SageMakerResponse
from moto.sagemakermetrics.responses import SageMakerMetricsResponse
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

REGION = "eu-west-1"
_CREATE = {
    "create_experiment": ("ExperimentName", "experiments"),
    "create_trial": ("TrialName", "trials"),
    "create_trial_component": ("TrialComponentName", "trial_components"),
}


def session() -> boto3.Session:
    """A session with made-up keys."""
    return boto3.Session(
        aws_access_key_id="testing", aws_secret_access_key="testing", region_name=REGION
    )


def faithful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make moto refuse a name that is taken, and keep tags."""
    for method, (parameter, store) in _CREATE.items():
        original = getattr(SageMakerResponse, method)
        monkeypatch.setattr(SageMakerResponse, method, _creating(original, parameter, store))


def _creating(original: Callable[[Any], Any], parameter: str, store: str) -> Callable[[Any], Any]:
    def create(self: Any) -> Any:
        name, held = self._get_param(parameter), getattr(self.sagemaker_backend, store)
        if name in held:
            raise AWSValidationException(f"{parameter} {name} must be unique within an AWS account")
        answer = original(self)
        held[name].tags.extend(self._get_param("Tags") or [])
        return answer

    return create


@contextmanager
def served() -> Iterator[str]:
    """Serve Experiments over HTTP on a free port of loopback; gives the URL."""

    @Request.application
    def answer(request: Request) -> Response:
        api = SageMakerMetricsResponse if request.path == "/BatchPutMetrics" else SageMakerResponse
        asked = MotoRequest.from_primitives(
            request.method, request.url, dict(request.headers), request.get_data()
        )
        status, headers, body = api.dispatch(asked, request.url, asked.headers)
        return Response(body, status, {k: v for k, v in headers.items() if k != "status"})

    server = make_server("127.0.0.1", 0, answer, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
