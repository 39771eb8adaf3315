"""JSON is parsed strictly, and written in UTF-8."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fileupload.wsgi.json_body import encode_json, parse_json


@pytest.mark.parametrize(
    "text",
    ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "-1e999", "9" * 5000, "[" * 100_000, "", "{", b"\xff", "'a'"],
    ids=lambda text: str(text)[:12],
)
def test_invalid_json_is_refused(text: str | bytes) -> None:
    """A text that other parsers refuse, or that Python cannot represent, is refused as invalid JSON."""
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=8,
)


@given(values)
def test_values_round_trip(value: Any) -> None:
    """A written value is read back unchanged."""
    assert parse_json(encode_json(value)) == value


@given(st.text(st.characters(categories=["Cs", "Ll", "Po"])))
def test_a_lone_surrogate_is_written_as_an_escape(text: str) -> None:
    """A lone surrogate is written as an escape, so that every parser can read it."""
    data = encode_json({text: [text]})
    assert data.decode("utf-8")
    assert json.loads(data) == json.loads(json.dumps({text: [text]}))
