"""A request that could be read in two ways is refused: what is judged is what is carried out."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from dataclasses import dataclass

import boto3
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.local.conftest import REGION, SERVER, SITE, World, statement

Headers = Sequence[tuple[str, str]]
SECRET = b"rows of the site"
FORM = "application/x-www-form-urlencoded"
JSON = "application/x-amz-json-1.1"


@dataclass
class Sender:
    """Signs a request, headers of the same name joined as a judge would join them, and sends it."""

    address: str
    credentials: Credentials

    def __call__(
        self,
        method: str,
        target: str,
        headers: Headers = (),
        unsigned: Headers = (),
        *,
        body: bytes = b"",
        service: str = "s3",
    ) -> tuple[int, bytes]:
        joined: dict[str, str] = {"Host": self.address}
        for name, value in headers:
            name = name.lower()
            joined[name] = f"{joined[name]},{value}" if name in joined else value
        request = AWSRequest(method, f"http://{self.address}{target}", data=body, headers=joined)
        signer = S3SigV4Auth if service == "s3" else SigV4Auth
        signer(self.credentials, service, REGION).add_auth(request)
        given = {name.lower() for name, _ in headers}
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name.lower() not in given:
                    connection.putheader(name, value)
            for name, value in [*headers, *unsigned]:
                connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def sender(world: World, session: boto3.Session) -> Sender:
    found = session.get_credentials()
    assert found is not None
    credentials = Credentials(found.access_key, found.secret_key, found.token)
    return Sender(world.endpoint.url.removeprefix("http://"), credentials)


@pytest.fixture(scope="module")
def stranger(world: World) -> Sender:
    """Another account's administrator, who has a bucket; the site's holds ``data/secret``."""
    world.put("data/secret", SECRET)
    session = world.admin(SERVER)
    client = session.client("s3")
    client.create_bucket(
        Bucket="stranger", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    client.put_object(Bucket="stranger", Key="ok", Body=b"own")
    return sender(world, session)


COPY = "x-amz-copy-source"


@pytest.mark.parametrize(
    "headers",
    [
        [(COPY, "/stranger/ok"), (COPY, "/site-data/data/secret")],
        [(COPY, "/stranger/ok"), ("X-Amz-Copy-Source", "/site-data/data/secret")],
        [(COPY, "/stranger/ok"), ("x-amz-copy_source", "/site-data/data/secret")],
        [("x-amz-copy_source", "/site-data/data/secret")],
        [(COPY, "//stranger/site-data/data/secret")],
        [(COPY, "http://stranger/site-data/data/secret")],
        [(COPY, "%2F%2Fsite-data/data/secret")],
        [(COPY, "/stranger/ok"), ("x-moto-account-id", SITE), ("X-Moto-Account-Id", SITE)],
    ],
)
def test_no_header_reads_anothers_object(stranger: Sender, headers: Headers) -> None:
    status, _ = stranger("PUT", "/stranger/copied", headers)
    assert status == 400
    status, _ = stranger("GET", "/stranger/copied")
    assert status == 404


def test_every_amz_header_must_be_signed(stranger: Sender) -> None:
    for header in (COPY, "x-amz-acl", "x-amz-meta-colour"):
        status, body = stranger("PUT", "/stranger/copied", unsigned=[(header, "/stranger/ok")])
        assert status == 403
        assert b"headers present in the request which were not signed" in body
    target, kind = ("X-Amz-Target", "SageMaker.ListTrainingJobs"), ("Content-Type", JSON)
    for signed, unsigned, expected in (([target, kind], [], 200), ([kind], [target], 400)):
        status, _ = stranger("POST", "/", signed, unsigned, body=b"{}", service="sagemaker")
        assert status == expected


def test_a_repeated_header_is_refused_before_it_is_judged(world: World) -> None:
    nobody = Sender(world.endpoint.url.removeprefix("http://"), Credentials("none", "none"))
    status, body = nobody("GET", "/", [("range", "bytes=0-1"), ("Range", "bytes=0-9")])
    assert status == 400
    assert b"range" in body


def test_a_key_with_reserved_characters_is_copied(world: World, stranger: Sender) -> None:
    client = world.admin(SERVER).client("s3")
    for key in ("a b+c;d#e?f", "ü/x", "/leading"):
        client.put_object(Bucket="stranger", Key=key, Body=b"own")
        source = {"Bucket": "stranger", "Key": key}
        client.copy_object(Bucket="stranger", Key="copy", CopySource=source)
        assert client.get_object(Bucket="stranger", Key="copy")["Body"].read() == b"own"


@pytest.mark.parametrize(
    ("target", "headers", "body"),
    [
        # moto takes the first of repeated parameters, a mapping the last
        ("/?Action=CreateUser&UserName=eve&Action=GetRole&RoleName=execution", [], b""),
        ("/", [("Content-Type", FORM)], b"Action=CreateUser&UserName=eve&Action=GetRole"),
        # ... and the URL's before the body's, or the other way round
        ("/?Action=CreateUser&UserName=eve", [], b"Action=GetRole&RoleName=execution"),
        (
            "/?Action=CreateUser&UserName=eve",
            [("Content-Type", FORM)],
            b"Action=GetRole&RoleName=execution",
        ),
    ],
)
def test_a_query_names_its_parameters_once(
    world: World, target: str, headers: Headers, body: bytes
) -> None:
    reader = sender(world, world.as_role(SITE, statement("Allow", "iam:GetRole")))
    assert reader("POST", target, headers, body=body, service="iam")[0] == 400
    users = world.admin().client("iam").list_users()["Users"]
    assert [user["UserName"] for user in users] == ["admin"]


@pytest.mark.parametrize(
    ("target", "headers", "body"),
    [
        ("/?Action=CreateLogGroup", [("Content-Type", JSON)], b'{"logGroupName": "/eve"}'),
        ("/", [("Content-Type", FORM)], b"Action=CreateLogGroup&logGroupName=/eve"),
        ("/", [("Content-Type", JSON), ("Action", "CreateLogGroup")], b""),
    ],
)
def test_a_target_is_the_only_action(
    world: World, target: str, headers: Headers, body: bytes
) -> None:
    reader = sender(world, world.as_role(SITE, statement("Allow", "logs:DescribeLogGroups")))
    named = ("X-Amz-Target", "Logs_20140328.DescribeLogGroups")
    reader("POST", target, [named, *headers], body=body, service="logs")
    groups = world.admin().client("logs").describe_log_groups()["logGroups"]
    assert "/eve" not in [group["logGroupName"] for group in groups]


def test_an_objects_content_is_no_parameter(world: World) -> None:
    writer = sender(world, world.as_role(SITE, statement("Allow", "s3:PutObject")))
    target = f"/{world.bucket}/data/secret"
    writer("PUT", target, [("Content-Type", FORM)], body=b"tagging=&acl=")
    client = world.admin().client("s3")
    assert client.get_object(Bucket=world.bucket, Key="data/secret")["Body"].read()


def test_what_boto3_sends_is_no_ambiguity(world: World) -> None:
    """Multipart, ranges, copies, metadata, each way of checksums, tags."""
    client, bucket = world.admin().client("s3"), world.bucket
    part = b"x" * (5 << 20)
    upload = client.create_multipart_upload(
        Bucket=bucket, Key="big", ContentType="text/csv", Metadata={"my_key": "v", "other": "w"}
    )["UploadId"]
    source = {"Bucket": bucket, "Key": "first"}
    client.put_object(Bucket=bucket, Key="first", Body=part, CacheControl="no-store")
    call = {"Bucket": bucket, "Key": "big", "UploadId": upload}
    tags = [
        client.upload_part(**call, PartNumber=1, Body=part)["ETag"],
        client.upload_part_copy(**call, PartNumber=2, CopySource=source)["CopyPartResult"]["ETag"],
    ]
    parts = [{"PartNumber": i, "ETag": tag} for i, tag in enumerate(tags, 1)]
    client.complete_multipart_upload(**call, MultipartUpload={"Parts": parts})
    found = client.get_object(Bucket=bucket, Key="big", Range="bytes=5242878-5242881")
    assert found["Body"].read() == b"xxxx"
    assert found["ContentType"] == "text/csv"
    assert set(found["Metadata"]) == {"my_key", "other"}
    for algorithm in ("CRC32", "SHA1", "SHA256"):
        client.put_object(
            Bucket=bucket, Key=algorithm, Body=b"1", ChecksumAlgorithm=algorithm, Tagging="a=b"
        )
        head = client.head_object(Bucket=bucket, Key=algorithm, ChecksumMode="ENABLED")
        assert head["ContentLength"] == 1
    found = client.copy_object(Bucket=bucket, Key="second", CopySource=source)
    assert found["CopyObjectResult"]["ETag"]
    client.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": key} for key in ("big", "first", "second")]}
    )
    assert client.list_objects_v2(Bucket=bucket, Prefix="first")["KeyCount"] == 0
