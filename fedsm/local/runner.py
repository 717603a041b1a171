"""Run one training job from its first download to its last upload, in a thread of its own."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import boto3
from botocore.config import Config

from fedsm.local import sandbox
from fedsm.local.job_log import JobLog
from fedsm.local.jobs import Job
from fedsm.local.principals import Session
from fedsm.local.storage import StorageError, download, entries, inside, upload_tree

STOP_GRACE = 120.0
CREDENTIALS_LIFETIME = timedelta(hours=1)
_MARGIN = timedelta(hours=2)
_POLL = 0.02
_log = logging.getLogger(__name__)

OpenSession = Callable[[Job, timedelta], Session | None]


class Runner:
    """Runs jobs.

    Parameters
    ----------
    url : str
        The cloud's address.
    open_session : callable
        Session of a job's execution role for SageMaker, None when the role is gone or no longer
        trusts it.
    environments : Path
        Caches of environments, one directory per account.
    stop_grace : float
        Seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        url: str,
        open_session: OpenSession,
        environments: Path,
        *,
        isolation: str,
        stop_grace: float = STOP_GRACE,
    ) -> None:
        self.url, self.isolation, self.stop_grace = url, isolation, stop_grace
        self._open_session, self._environments = open_session, environments
        self._core = boto3.Session()
        self._core_lock = threading.Lock()
        self._credentials: dict[str, Session] = {}

    def warm(self) -> None:
        """Load what the first job would wait for."""
        for service in ("s3", "logs"):
            with self._core_lock:
                self._core.client(
                    service,
                    region_name="us-east-1",
                    endpoint_url=self.url,
                    aws_access_key_id="warm",
                    aws_secret_access_key="warm",  # noqa: S106 - never used
                )

    def start(self, job: Job) -> None:
        """Begin a job and return."""
        threading.Thread(target=self._run, args=(job,), name=f"job-{job.name}", daemon=True).start()

    def credentials(self, job: Job) -> dict[str, str] | None:
        """What the container credentials endpoint answers; None when the role is gone."""
        session = self._credentials.get(job.job_id)
        if session is None or session.expires - datetime.now(UTC) < CREDENTIALS_LIFETIME / 2:
            session = self._open_session(job, CREDENTIALS_LIFETIME)
            if session is None:
                return None
            self._credentials[job.job_id] = session
        return {
            "AccessKeyId": session.access_key_id,
            "SecretAccessKey": session.secret_key,
            "Token": session.token,
            "Expiration": f"{session.expires:%Y-%m-%dT%H:%M:%SZ}",
            "RoleArn": session.role_arn,
        }

    def _run(self, job: Job) -> None:
        try:
            self._phases(job)
        except StorageError as error:
            job.fail(str(error))
        except Exception as error:
            _log.exception("%s: the runner failed", job.name)
            job.fail(f"InternalServerError: {type(error).__name__} in the local cloud; see its log")
        finally:
            self._credentials.pop(job.job_id, None)

    def _phases(self, job: Job) -> None:
        request = job.record.request
        limit = float(request["StoppingCondition"].get("MaxRuntimeInSeconds", 86400))
        session = self._open_session(job, timedelta(seconds=limit + self.stop_grace) + _MARGIN)
        if session is None:
            raise StorageError(f"ClientError: the role {request['RoleArn']} cannot be assumed")
        s3 = self._client("s3", job, session)
        self._lay_out(job)
        job.move("Downloading", "Downloading input data")
        self._download(job, s3)
        if job.stop_requested.is_set():
            self._finish_stopped(job)
            return
        job.move("Training", "Training image download completed. Training in progress.")
        job.record.started = time.time()
        code = self._train(job, session, limit)
        if code != 0 and not job.stop_requested.is_set():
            self._fail(job, code)
            return
        if not job.stop_requested.is_set():
            job.move("Uploading", "Uploading generated training model")
        kms_key, archive = (
            request["OutputDataConfig"].get("KmsKeyId", ""),
            job.directory / "up.tar.gz",
        )
        upload_tree(s3, entries(job.ml, "model"), archive, job.artifacts, kms_key=kms_key)
        output = entries(job.ml, "output/data")
        if output:
            upload_tree(s3, output, archive, f"{job.output}/output.tar.gz", kms_key=kms_key)
        if job.stop_requested.is_set():
            self._finish_stopped(job)
        else:
            job.move("Completed", "Training job completed", "Completed")

    def _client(self, service: Literal["s3", "logs"], job: Job, session: Session) -> Any:
        with self._core_lock:  # making clients is not safe from several threads
            return self._core.client(
                service,
                region_name=job.record.region,
                endpoint_url=self.url,
                aws_access_key_id=session.access_key_id,
                aws_secret_access_key=session.secret_key,
                aws_session_token=session.token,
                config=Config(retries={"total_max_attempts": 2}, proxies={}),
            )

    def _lay_out(self, job: Job) -> None:
        shutil.rmtree(job.ml, ignore_errors=True)
        for name in ("input/config", "input/data", "model", "output/data", "checkpoints", "code"):
            (job.ml / name).mkdir(parents=True)
        request = job.record.request
        channels = {
            channel["ChannelName"]: {
                "TrainingInputMode": "File",
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": channel.get("RecordWrapperType", "None"),
                **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {}),
            }
            for channel in request.get("InputDataConfig", [])
        }
        instance = request["ResourceConfig"].get("InstanceType", "")
        group = {
            "instance_group_name": "homogeneousCluster",
            "instance_type": instance,
            "hosts": ["algo-1"],
        }
        config = {
            "hyperparameters": request.get("HyperParameters", {}),
            "inputdataconfig": channels,
            "resourceconfig": {
                "current_host": "algo-1",
                "current_instance_type": instance,
                "current_group_name": "homogeneousCluster",
                "hosts": ["algo-1"],
                "instance_groups": [group],
                "network_interface_name": "eth0",
            },
        }
        for name, content in config.items():
            (job.ml / "input/config" / f"{name}.json").write_text(json.dumps(content))

    def _download(self, job: Job, s3: Any) -> None:
        role = job.record.request["RoleArn"]
        for channel in job.record.request.get("InputDataConfig", []):
            directory = job.ml / "input/data" / channel["ChannelName"]
            directory.mkdir()
            uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
            download(s3, uri, directory, region=job.record.region, role=role)

    def _train(self, job: Job, session: Session, limit: float) -> int:
        """Run the job's program; its exit code, or 128 + the signal that ended it."""
        environments = self._environments / job.record.account
        environments.mkdir(parents=True, exist_ok=True)
        try:
            process = sandbox.start(
                self.isolation,
                ml=job.ml,
                environments=environments,
                command=self._command(job),
                environment=self._environment(job, environments),
            )
        except (OSError, ValueError) as error:
            (job.ml / "output/failure").write_text(f"the program cannot be started: {error}")
            return 127
        log = JobLog(job, self._client("logs", job, session), process.output)
        deadline = time.monotonic() + limit
        kill_at: float | None = None
        while (code := process.popen.poll()) is None:
            now = time.monotonic()
            if kill_at is None and now > deadline:
                job.timed_out = True
                job.begin_stop()
            if kill_at is None and job.stop_requested.is_set():
                process.terminate()
                kill_at = now + self.stop_grace
            elif kill_at is not None and now > kill_at:
                process.kill()
            job.stop_requested.wait(_POLL) if kill_at is None else time.sleep(_POLL)
        process.kill()  # what the program left behind would hold its output open
        log.close(timeout=10.0)
        return code if code >= 0 else 128 - code

    def _command(self, job: Job) -> list[str]:
        specification = job.record.request["AlgorithmSpecification"]
        arguments = list(specification.get("ContainerArguments", []))
        if specification.get("ContainerEntrypoint"):
            return [*specification["ContainerEntrypoint"], *arguments]
        path = sandbox.SCRIPT_MODE
        if self.isolation == sandbox.PROCESS:
            path = str(Path(sandbox.__file__).with_name("script_mode.py"))
        return ["python3", path, *(arguments or ["train"])]

    def _environment(self, job: Job, environments: Path) -> dict[str, str]:
        isolated = self.isolation == sandbox.BUBBLEWRAP
        region = job.record.region
        environment = {
            "PATH": sandbox.python_path(),
            "HOME": sandbox.HOME if isolated else str(job.ml),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TRAINING_JOB_NAME": job.name,
            "TRAINING_JOB_ARN": job.arn,
            "CURRENT_HOST": "algo-1",
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.url}/_fedsm/credentials/{job.job_id}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": job.token,
            "FEDSM_ENV_DIR": sandbox.ENVIRONMENTS if isolated else str(environments),
        }
        if not isolated:
            environment["SAGEMAKER_BASE_DIR"] = str(job.ml)
        return {**environment, **job.record.request.get("Environment", {})}

    def _fail(self, job: Job, code: int) -> None:
        path = inside(job.ml, "output/failure")
        text = ""
        if path is not None and path.is_file():
            with path.open(encoding="utf-8", errors="replace") as file:
                text = file.read(1024)
        tail = f", exit code: {code}"
        job.fail(f"AlgorithmError: {text}"[: 1024 - len(tail)] + tail)

    def _finish_stopped(self, job: Job) -> None:
        if job.timed_out:
            message = "Training job runtime exceeded MaxRuntimeInSeconds provided"
            job.move("MaxRuntimeExceeded", message, "Stopped")
        else:
            job.move("Stopped", "Training job stopped", "Stopped")
