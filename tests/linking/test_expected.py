"""Where the law of Aoyama et al. 2025 has the bump."""

import subprocess
import sys

import pytest

from induction_bump.linking.expected import expected_tokens, length_past
from induction_bump.training.schedule import Duration


def test_it_is_half_a_million_tokens_times_the_root_of_a_steps() -> None:
    assert expected_tokens(1, 1) == pytest.approx(501_187, rel=1e-6)
    assert expected_tokens(16, 128) == pytest.approx(22.68e6, rel=1e-3)
    assert expected_tokens(64, 256) == pytest.approx(2 * expected_tokens(16, 256))


@pytest.mark.parametrize(
    ("expected", "length"), [(22.68e6, "35Mtok"), (64.1e6, "97Mtok"), (1e6, "1.5Mtok"), (9e8, "1400Mtok")]
)
def test_a_length_past_it_has_two_digits_and_can_be_given_as_it_is(expected: float, length: str) -> None:
    assert length_past(expected) == length
    assert 1.5 * expected <= Duration.parse(length).value < 1.65 * expected


def test_asking_loads_no_torch() -> None:
    code = "import sys, induction_bump.linking.expected; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
