"""Training-time treatments: biases on the scores of chosen heads, and heads held at zero."""

import pytest
import torch

from induction_bump.model.clamps import free_heads
from induction_bump.model.options import Clamp, ModelOptions
from induction_bump.model.transformer import Tap, Transformer, next_token_losses
from tests.model.naive import naive_logits
from tests.model.variants import options

CLAMPS = (
    Clamp(layer=0, head=1, kind="previous", strength=2.0),
    Clamp(layer=0, head=2, kind="second_previous", strength=-1.5),
    Clamp(layer=1, head=0, kind="first", strength=3.0),
    Clamp(layer=1, head=0, kind="previous", strength=1.0),
    Clamp(layer=1, head=2, kind="zero"),
)


def clamped(*clamps: Clamp, **changes: object) -> Transformer:
    return Transformer(options(sublayers="sfs", clamps=clamps, **changes), 17, 12, seed=3)


def patterns_of(model: Transformer, tokens: torch.Tensor) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    with torch.no_grad():
        model(tokens, Tap(frozenset({"pattern"}), lambda site, pattern: found.append(pattern)))
    return found


TOKENS = torch.randint(0, 17, (2, 9), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("positions", ["rotary", "shortformer"])
@pytest.mark.parametrize("smeared", [False, True])
def test_a_clamped_model_is_the_naive_one_with_biases_on_its_scores(positions: str, smeared: bool) -> None:
    model = clamped(*CLAMPS, positions=positions, smeared_keys=smeared, biases=True)
    fused = model(TOKENS)
    for row, tokens in zip(fused, TOKENS, strict=True):
        torch.testing.assert_close(row.double(), naive_logits(model, tokens), atol=1e-5, rtol=1e-4)
    explicit = model(TOKENS, Tap(frozenset({"scores"}), lambda site, scores: None))
    torch.testing.assert_close(explicit, fused, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "back"), [("previous", 1), ("second_previous", 2)])
def test_a_strong_bias_makes_a_head_look_where_it_is_pulled(kind: str, back: int) -> None:
    first, _ = patterns_of(clamped(Clamp(layer=0, head=1, kind=kind, strength=60.0)), TOKENS)
    assert first[:, 1].diagonal(-back, -2, -1).min() > 0.999
    assert first[:, 0].diagonal(-back, -2, -1).mean() < 0.5
    resting, _ = patterns_of(clamped(Clamp(layer=0, head=1, kind="first", strength=60.0)), TOKENS)
    assert resting[:, 1, :, 0].min() > 0.999


def test_a_head_held_at_zero_writes_nothing_and_is_never_trained() -> None:
    model = clamped(Clamp(layer=0, head=1, kind="zero"))
    next_token_losses(model(TOKENS[:, :-1]), TOKENS[:, 1:]).mean().backward()
    first = next(model.attention_sublayers())
    for weight in (first.W_V, first.W_Q, first.W_K):
        assert weight.grad is not None
        assert weight.grad[:, 1].abs().max() == 0
        assert weight.grad[:, 0].abs().max() > 0
    assert first.W_O.grad is not None
    assert first.W_O.grad[1].abs().max() == 0
    free = clamped()
    with torch.no_grad():
        next(free.attention_sublayers()).W_O[1] = 0
    torch.testing.assert_close(model(TOKENS), free(TOKENS))


def test_what_reads_a_clamped_head_sees_zero() -> None:
    seen: dict[int, torch.Tensor] = {}
    model = clamped(Clamp(layer=1, head=2, kind="zero"))
    model(TOKENS, Tap(frozenset({"z"}), lambda site, z: seen.update({site.layer: z})))
    assert seen[1][:, :, 2].abs().max() == 0
    assert seen[1][:, :, 1].abs().max() > 0
    assert seen[0].abs().min() > 0


def test_clamps_are_no_parameters_and_not_saved() -> None:
    assert set(clamped(*CLAMPS).state_dict()) == set(clamped().state_dict())


def test_heads_without_a_clamp_are_free() -> None:
    assert free_heads(options(sublayers="sfs", clamps=CLAMPS)) == [(0, 0), (1, 1)]


@pytest.mark.parametrize(
    ("clamps", "message"),
    [
        (
            [{"layer": 2, "head": 0, "kind": "zero"}],
            "L2H0 does not exist; this model has 2 attention layers of 3 heads",
        ),
        ([{"layer": 0, "head": 3, "kind": "first"}], "L0H3 does not exist"),
        ([{"layer": 0, "head": 0, "kind": "first"}] * 2, "L0H0 has two clamps of the kind first"),
        (
            [{"layer": 0, "head": 0, "kind": "zero"}, {"layer": 0, "head": 0, "kind": "first"}],
            "L0H0 is held at zero, where a bias on its scores does nothing",
        ),
    ],
)
def test_clamps_that_cannot_be_are_refused(clamps: list[dict[str, object]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelOptions(sublayers="sfs", d_model=12, n_heads=3, clamps=tuple(Clamp(**c) for c in clamps))  # type: ignore[arg-type]
