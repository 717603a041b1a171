"""URIs of AWS-managed scikit-learn images, by Region and version.

Source: ``image_uri_config/sklearn.json`` of the SageMaker Python SDK 3.27.
"""

from __future__ import annotations

from fedsm.config import Site
from fedsm.errors import ConfigError

_SKLEARN_VERSIONS = ("1.4-2-py312", "1.9-0")

_SKLEARN_REGISTRIES = {
    "af-south-1": "510948584623",
    "ap-east-1": "651117190479",
    "ap-northeast-1": "354813040037",
    "ap-northeast-2": "366743142698",
    "ap-northeast-3": "867004704886",
    "ap-south-1": "720646828776",
    "ap-south-2": "628508329040",
    "ap-southeast-1": "121021644041",
    "ap-southeast-2": "783357654285",
    "ap-southeast-3": "951798379941",
    "ap-southeast-4": "106583098589",
    "ca-central-1": "341280168497",
    "ca-west-1": "190319476487",
    "cn-north-1": "450853457545",
    "cn-northwest-1": "451049120500",
    "eu-central-1": "492215442770",
    "eu-central-2": "680994064768",
    "eu-north-1": "662702820516",
    "eu-south-1": "978288397137",
    "eu-south-2": "104374241257",
    "eu-west-1": "141502667606",
    "eu-west-2": "764974769150",
    "eu-west-3": "659782779980",
    "il-central-1": "898809789911",
    "me-central-1": "272398656194",
    "me-south-1": "801668240914",
    "sa-east-1": "737474898029",
    "us-east-1": "683313688378",
    "us-east-2": "257758044811",
    "us-gov-east-1": "237065988967",
    "us-gov-west-1": "414596584902",
    "us-west-1": "746614075791",
    "us-west-2": "246618743249",
}


def image_uri(site: Site) -> str:
    """The site's image: its own, or the managed one of its framework.

    Raises
    ------
    ConfigError
        The version or Region has no managed image that can run a job (Python 3.11 or newer).
    """
    if site.image is not None:
        return site.image
    framework = site.framework
    if framework is None:
        raise ConfigError(
            "there is no image", where=site.name, action="give image or framework in the site"
        )
    account = _SKLEARN_REGISTRIES.get(site.region)
    if framework.version not in _SKLEARN_VERSIONS or account is None:
        known = ", ".join(_SKLEARN_VERSIONS)
        raise ConfigError(
            f"no managed {framework.name} image {framework.version} in {site.region}",
            where=f"sites.{site.name}.framework",
            action=f"give image: with a full URI, or one of the versions {known}",
        )
    domain = "amazonaws.com.cn" if site.region.startswith("cn-") else "amazonaws.com"
    repository = f"{account}.dkr.ecr.{site.region}.{domain}/sagemaker-scikit-learn"
    return f"{repository}:{framework.version}-cpu-py3"
