"""JSON is read strictly, and what is written is always JSON in UTF-8."""

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
def test_what_is_no_json(text: str | bytes) -> None:
    """What other readers would not take, or Python cannot hold, is refused as what is no JSON at all."""
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=8,
)


@given(values)
def test_values_come_back(value: Any) -> None:
    """What is written is read again as it was."""
    assert parse_json(encode_json(value)) == value


@given(st.text(st.characters(categories=["Cs", "Ll", "Po"])))
def test_lone_surrogates(text: str) -> None:
    """Half of a pair is written as its escape, by which every reader has it again."""
    data = encode_json({text: [text]})
    assert data.decode("utf-8")
    assert json.loads(data) == json.loads(json.dumps({text: [text]}))
