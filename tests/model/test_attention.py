"""The one attention function, and the entries that head scores read."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from induction_bump.model.attention import attend, entries_of_pattern, pre_softmax_scores


def qkv(T: int = 7, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, T, 3, 4, generator=generator) for _ in range(3))


def pattern_of(q: torch.Tensor, k: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    return pre_softmax_scores(q, k, bias=bias).softmax(-1)


@pytest.mark.parametrize("biased", [False, True])
def test_kernels_agree_with_and_without_a_bias_on_the_scores(biased: bool) -> None:
    q, k, v = qkv()
    # one that is made for a longer context, as clamps are
    bias = torch.randn(3, 9, 9).masked_fill(torch.ones(9, 9).triu(1) > 0, -torch.inf) if biased else None
    fused = attend(q, k, v, bias=bias)
    explicit = attend(q, k, v, bias=bias, read_pattern=lambda name, tensor: tensor)
    torch.testing.assert_close(fused, explicit, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("biased", [False, True])
def test_bfloat16_goes_in_and_comes_out(biased: bool) -> None:
    q, k, v = (x.bfloat16() for x in qkv())
    # one that is made for a longer context, as clamps are
    bias = torch.randn(3, 9, 9).masked_fill(torch.ones(9, 9).triu(1) > 0, -torch.inf) if biased else None
    with torch.autocast("cpu", torch.bfloat16):
        z = attend(q, k, v, bias=bias)
    assert z.dtype == torch.bfloat16
    torch.testing.assert_close(z.float(), attend(q.float(), k.float(), v.float(), bias=bias), atol=0.01, rtol=0.02)


def test_a_bias_towards_the_previous_token_makes_a_previous_token_head() -> None:
    q, k, v = qkv()
    bias = torch.full((7, 7), -torch.inf).triu(1).repeat(3, 1, 1)
    bias[1].diagonal(-1).fill_(50.0)
    z = attend(q, k, v, bias=bias)
    torch.testing.assert_close(z[:, 1:, 1], v[:, :-1, 1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(z[:, :, 0], attend(q, k, v)[:, :, 0])


@settings(deadline=None, max_examples=40)
@given(T=st.integers(2, 40), chunk_bytes=st.integers(1, 5000), biased=st.booleans(), seed=st.integers(0, 1000))
def test_entries_are_those_of_the_whole_pattern_whatever_the_chunks(
    T: int, chunk_bytes: int, biased: bool, seed: int
) -> None:
    q, k, _ = qkv(T, seed)
    generator = torch.Generator().manual_seed(seed)
    bias = torch.randn(3, T, T, generator=generator) if biased else None
    keys = (torch.rand(2, T, 2, generator=generator) * (torch.arange(T)[:, None] + 1)).long()
    keys[torch.rand(keys.shape, generator=generator) < 0.2] = -1
    entries = entries_of_pattern(q, k, keys, bias=bias, chunk_bytes=chunk_bytes)
    pattern = pattern_of(q, k, bias)
    for b in range(2):
        for i in range(T):
            for m in range(2):
                j = int(keys[b, i, m])
                expected = pattern[b, :, i, j] if j >= 0 else torch.zeros(3)
                torch.testing.assert_close(entries[b, :, i, m], expected, atol=1e-5, rtol=1e-4)
