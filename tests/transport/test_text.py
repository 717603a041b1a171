from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsm.transport.text import clean


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("the app raised: café, 数", "the app raised: café, 数"),
        ("\x1b[2J\x1b]0;pwn\x07", "\\x1b[2J\\x1b]0;pwn\\x07"),
        ("one\nrun completed\r", "one\\nrun completed\\r"),
        ("bad \ud800", "bad \\ud800"),
        ("\u202egnp", "\\u202egnp"),
        ("\x9b2J", "\\x9b2J"),
        (7, "7"),
        (None, "NoneType"),
        ([1] * 9, "list"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_instead(text: object, cleaned: str) -> None:
    assert clean(text, 100) == cleaned


@given(st.text(st.characters(), max_size=60), st.integers(0, 40))
def test_clean_text_is_printable_encodable_and_short(text: str, limit: int) -> None:
    got = clean(text, limit)
    assert got.isprintable()
    assert len(got) <= limit
    assert json.loads(json.dumps(got)) == got.encode().decode()
    assert clean(got, limit) == got


def test_a_cut_shows() -> None:
    assert clean("x" * 20, 10) == "xxxxxxx..."
    assert clean("x" * 10, 10) == "x" * 10
