from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msksam_cli.io.toml_text import toml_text

_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
_leaf = st.one_of(
    st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False), _text, st.lists(st.integers(-9, 9))
)
_tree = st.dictionaries(_text, st.one_of(_leaf, st.dictionaries(_text, _leaf, max_size=3)), max_size=4)


@given(_tree)
def test_what_is_written_is_what_tomllib_reads(values: dict[str, object]) -> None:
    assert tomllib.loads(toml_text(values)) == values


def test_what_has_no_form_is_a_programmers_mistake() -> None:
    with pytest.raises(ValueError, match="set has no TOML form"):
        toml_text({"a": {1}})
