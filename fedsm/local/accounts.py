"""The administrators' keys of a cloud's accounts, in a file that only its owner reads.

``credentials.ini`` is an AWS shared credentials file with one profile per account.
"""

from __future__ import annotations

import configparser
import io
import os
import re
import secrets
import string
from collections.abc import Sequence
from pathlib import Path

from fedsm.errors import LocalCloudError

CREDENTIALS = "credentials.ini"
_KEY_ALPHABET = string.ascii_uppercase + "234567"


def write_private(path: Path, content: str) -> None:
    """Replace a file in one step; mode 0600 from its first byte."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    temporary.replace(path)


def read_keys(directory: Path) -> dict[str, tuple[str, str]]:
    """Account -> access key id and secret key of its administrator; empty without a file."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(directory / CREDENTIALS)
    return {
        account: (parser[account]["aws_access_key_id"], parser[account]["aws_secret_access_key"])
        for account in parser.sections()
    }


def ensure_keys(directory: Path, accounts: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Keys of all accounts on file, after making those that are missing.

    Raises
    ------
    LocalCloudError
        An account id is not twelve digits.
    """
    keys = read_keys(directory)
    for account in accounts:
        if not re.fullmatch(r"\d{12}", account):
            raise LocalCloudError(
                "an account id has twelve digits", where=account, action="correct the account id"
            )
        if account not in keys:
            key_id = "AKIA" + "".join(secrets.choice(_KEY_ALPHABET) for _ in range(16))
            keys[account] = (key_id, secrets.token_urlsafe(30))
    parser = configparser.ConfigParser(interpolation=None)
    for account, (key_id, secret) in keys.items():
        parser[account] = {"aws_access_key_id": key_id, "aws_secret_access_key": secret}
    text = io.StringIO()
    parser.write(text)
    if keys != read_keys(directory):
        write_private(directory / CREDENTIALS, text.getvalue())
    return keys
