"""Numbers and text reach the page unharmed."""

import json

import numpy as np
import pytest

from induction_bump.report.numbers import inline_json, known, rounded, significant


def test_values_are_rounded_and_what_is_not_finite_becomes_null():
    assert rounded(np.array([[1.23456, np.nan], [np.inf, -2.0]]), 2) == [[1.23, None], [None, -2.0]]


@pytest.mark.parametrize(
    ("value", "figures", "short"),
    [(1234.56, 3, 1230.0), (-0.00012345, 3, -0.000123), (0.0, 2, 0.0), (9.996, 3, 10.0), (1e-300, 2, 1e-300)],
)
def test_values_of_any_size_keep_their_leading_figures(value: float, figures: int, short: float):
    assert significant(np.array([[value, np.nan], [np.inf, value]]), figures) == [[short, None], [None, short]]


@pytest.mark.parametrize(("values", "answer"), [([np.nan, 1.0], True), ([np.nan], False), ([], False)])
def test_a_curve_is_known_when_it_has_a_number(values: list[float], answer: bool):
    assert known(np.array(values)) is answer


@pytest.mark.parametrize("text", ["</script><b>", "<!-- <script>", "a & b", "\u2028\u2029", "\"quoted\" 'text'"])
def test_json_in_a_script_keeps_its_text_and_cannot_end_the_script(text: str):
    inlined = inline_json({"name": text})
    assert json.loads(inlined) == {"name": text}
    assert not any(character in inlined for character in "<>&\u2028\u2029")


def test_json_refuses_what_is_not_a_number():
    with pytest.raises(ValueError):
        inline_json([float("nan")])
