"""The numbers in a checkpoint's file, read without torch."""

import math
from pathlib import Path

import pytest
import torch

from induction_bump.records.state_file import not_finite


def test_every_number_of_a_state_is_looked_at(tmp_path: Path) -> None:
    finite = {
        "format": 1,
        "model": {"W": torch.ones(3, 2), "half": torch.ones(2, dtype=torch.float16)},
        "list": [torch.zeros(2, dtype=torch.float64), 1.5, {"b": torch.arange(4), "n": None}],
        "random": torch.get_rng_state(),
        "view": torch.ones(4, 4)[1:, ::2],
    }
    path = tmp_path / "state.pt"
    torch.save(finite, path)
    assert not_finite(path) is None
    for name, break_it in {
        "model.W": lambda s: s["model"]["W"][2, 1].fill_(math.inf),
        "model.half": lambda s: s["model"]["half"][0].fill_(math.nan),
        "list.0": lambda s: s["list"][0][1].fill_(-math.inf),
        "list.1": lambda s: s["list"].__setitem__(1, math.nan),
    }.items():
        torch.save(finite, path)
        state = torch.load(path, weights_only=True)
        break_it(state)
        torch.save(state, path)
        assert not_finite(path) == name


@pytest.mark.parametrize("content", [b"", b"state", b"PK\x05\x06" + bytes(18)], ids=["empty", "text", "empty-zip"])
def test_what_is_no_state_is_left_to_who_loads_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.pt").write_bytes(content)
    assert not_finite(tmp_path / "state.pt") is None
