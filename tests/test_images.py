"""URIs of managed images."""

from __future__ import annotations

import pytest

from fedsm.config import Site
from fedsm.errors import ConfigError
from fedsm.images import image_uri
from tests.support import site


def made(**changes: object) -> Site:
    return Site.model_validate({**site("a"), "image": None, **changes})


def test_a_managed_image_of_a_region() -> None:
    framework = {"name": "sklearn", "version": "1.4-2-py312"}
    assert image_uri(made(framework=framework, region="eu-west-1")) == (
        "141502667606.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-py312-cpu-py3"
    )
    china = image_uri(made(framework=framework, region="cn-north-1"))
    assert china.startswith("450853457545.dkr.ecr.cn-north-1.amazonaws.com.cn/")


def test_an_own_image_goes_through() -> None:
    assert image_uri(made(image="registry/x:1")) == "registry/x:1"


@pytest.mark.parametrize(
    ("version", "region"), [("0.23-1", "us-east-1"), ("1.4-2-py312", "mx-central-1")]
)
def test_what_is_not_there_is_named(version: str, region: str) -> None:
    with pytest.raises(ConfigError, match=f"{version} in {region}"):
        image_uri(made(framework={"name": "sklearn", "version": version}, region=region))
