"""An owner's account as data: all that is created for one site, why, and as reviewable files."""

from fedsm.onboarding.account import (
    Account,
    Boundary,
    BucketRules,
    KeyRules,
    Role,
    account,
    approval,
)
from fedsm.onboarding.review import Explained, explain, explained, files
from fedsm.onboarding.template import cloudformation

__all__ = [
    "Account",
    "Boundary",
    "BucketRules",
    "Explained",
    "KeyRules",
    "Role",
    "account",
    "approval",
    "cloudformation",
    "explain",
    "explained",
    "files",
]
