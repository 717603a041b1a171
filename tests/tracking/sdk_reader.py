"""Run by the interpreter that has the SageMaker SDK: opens an experiment as its users do.

Arguments: the experiment and one run's name. Prints one JSON document. Uses nothing of fedsm.
"""

from __future__ import annotations

import json
import sys

import boto3
from sagemaker.core.experiments.run import list_runs, load_run
from sagemaker.core.helper.session_helper import Session


def seen(run):
    component = run._trial_component
    return {
        "parameters": component.parameters,
        "metrics": {m.metric_name: m.last for m in component.metrics or []},
        "outputs": {name: a.value for name, a in component.output_artifacts.items()},
        "status": component.status.primary_status,
        "config": run.experiment_config,
    }


def main(experiment: str, name: str) -> None:
    # The SDK reports its use to AWS unless told not to.
    quiet = {
        "SchemaVersion": "1.0",
        "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}},
    }
    session = Session(boto_session=boto3.Session(), sagemaker_config=quiet)
    runs = {r.run_name: seen(r) for r in list_runs(experiment, sagemaker_session=session)}
    loaded = load_run(experiment_name=experiment, run_name=name, sagemaker_session=session)
    opened = seen(loaded)
    with load_run(experiment_name=experiment, run_name=name, sagemaker_session=session) as run:
        run.log_parameter("reviewed-by", "a data scientist")
        run.log_metric("Review:Score", 0.5, step=1)
    again = load_run(experiment_name=experiment, run_name=name, sagemaker_session=session)
    print(json.dumps({"runs": runs, "opened": opened, "added": seen(again)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
