"""The same numbers as TransformerLens, where it has them: logits, patterns, head scores and weights' circuits.

Both read the same exported weights, and compute in float64 where rounding would hide a difference. Circuits are
compared after TransformerLens's own folding of norms and centring of what is written, in float32 in its version 3.
"""

import importlib.util
import itertools
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from induction_bump.measures.circuits import copying_eigenvalue
from induction_bump.measures.folding import fold
from induction_bump.measures.heads import repeat_lookup
from induction_bump.measures.reading import read
from induction_bump.model.options import ModelOptions
from induction_bump.model.transformer import Tap, Transformer
from induction_bump.model.transformer_lens import config_of, state_dict_of
from tests.measures.random_models import T, V, pairs, random_model
from tests.model.test_transformer_lens import EXPORTABLE
from tests.model.variants import options

pytestmark = [
    pytest.mark.transformer_lens,
    pytest.mark.skipif(
        importlib.util.find_spec("transformer_lens") is None,
        reason="TransformerLens is not installed: pip install -c constraints.txt -e '.[transformer-lens]'",
    ),
    pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning"),
]

FOLDABLE = {
    f"{sublayers}-{positions}-{norm}": options(sublayers=sublayers, positions=positions, norm=norm, biases=True)
    for sublayers in ("sss", "sfsf")
    for positions in ("rotary", "learned")
    for norm in ("layernorm", "rmsnorm", "none")
}


@pytest.fixture(scope="module")
def lens() -> ModuleType:
    """The library, imported when it is first needed, since that takes seconds; its warnings are its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformer_lens
    return transformer_lens


def hooked(lens: ModuleType, model: Transformer) -> Any:
    """A `HookedTransformer` of the model's config and precision, with weights of its own."""
    config = config_of(model.options, model.vocab_size, model.context) | {"device": "cpu", "dtype": model.W_E.dtype}
    return lens.HookedTransformer(lens.HookedTransformerConfig.from_dict(config))


def loaded(lens: ModuleType, model: Transformer) -> Any:
    """A `HookedTransformer` with the exported weights."""
    made = hooked(lens, model)
    result = made.load_state_dict(state_dict_of(model), strict=False)
    assert not result.unexpected_keys
    # masks are buffers that are right from the start
    assert {name.rsplit(".", 1)[-1] for name in result.missing_keys} <= {"mask", "IGNORE"}
    return made


def folded(lens: ModuleType, model: Transformer, *, center_unembed: bool = True) -> Any:
    """A `HookedTransformer` that has processed the exported weights."""
    made = hooked(lens, model)
    weights = {name: tensor.double() for name, tensor in state_dict_of(model).items()}
    made.load_and_process_state_dict(weights, center_unembed=center_unembed)
    return made


def tokens_of(batch: int = 3, length: int = T) -> torch.Tensor:
    return torch.randint(0, V, (batch, length), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
@pytest.mark.parametrize("variant", EXPORTABLE)
def test_logits_and_patterns_are_equal(lens: ModuleType, variant: str) -> None:
    model = random_model(EXPORTABLE[variant]).double()
    patterns: list[torch.Tensor] = []
    logits = model(tokens_of(), Tap(frozenset({"pattern"}), lambda site, tensor: patterns.append(tensor)))
    theirs, cache = loaded(lens, model).run_with_cache(tokens_of())
    torch.testing.assert_close(theirs, logits, rtol=1e-9, atol=1e-9)
    assert len(patterns) == model.options.n_attention
    for layer, pattern in enumerate(patterns):
        torch.testing.assert_close(cache["pattern", layer], pattern, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_logits_are_equal_in_a_long_context(lens: ModuleType) -> None:
    model = Transformer(ModelOptions(sublayers="ss", d_model=64, n_heads=4, positions="rotary"), V, 2048)
    for attention in model.attention_sublayers():
        attention.W_Q.mul_(6)  # sharp patterns, in which an error of an angle shows
    tokens = tokens_of(1, 2048)
    torch.testing.assert_close(loaded(lens, model)(tokens), model(tokens), rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("positions", ["rotary", "shortformer"])
def test_prefix_matching_is_the_mean_of_its_patterns_diagonal(lens: ModuleType, positions: str) -> None:
    block = 4
    model = random_model(options(sublayers="ss", positions=positions))
    blocks = tokens_of(5, block) % (V - 1) + 1
    tokens = torch.cat([torch.zeros(5, 1, dtype=torch.long), blocks, blocks], dim=1)
    lookup = repeat_lookup(torch.full((5,), block), 2, tokens > 0)
    _, cache = loaded(lens, model).run_with_cache(tokens)
    scores = read(model, tokens.numpy(), lookup, losses=False).scores["prefix_matching"]
    for layer in range(2):
        # the diagonal starts at query block − 1, and the second copy at block + 1
        stripe = cache["pattern", layer].diagonal(1 - block, dim1=-2, dim2=-1)[..., 2:]
        np.testing.assert_allclose(scores[:, layer], stripe.mean(-1), rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("variant", FOLDABLE)
def test_composition_before_the_baseline_is_equal(lens: ModuleType, variant: str) -> None:
    model = random_model(FOLDABLE[variant]).double()
    theirs = folded(lens, model)
    scores = {mode: theirs.all_composition_scores(mode.upper()) for mode in "qkv"}  # (layer, head, layer, head) each
    layers, heads = range(model.options.n_attention), range(model.options.n_heads)
    expected = {
        (mode, (early, a), (late, b)): float(scores[mode][early, a, late, b])
        for mode, early, a, late, b in itertools.product("qkv", layers, heads, layers, heads)
        if early < late
    }
    assert pairs(fold(model)) == pytest.approx(expected, rel=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("variant", FOLDABLE)
@pytest.mark.parametrize("label", ["copying_eigenvalue", "copying_eigenvalue_raw"])
def test_eigenvalue_copying_is_equal(lens: ModuleType, variant: str, label: str) -> None:
    model = random_model(FOLDABLE[variant]).double()
    theirs = folded(lens, model, center_unembed=label == "copying_eigenvalue")
    circuit = theirs.embed.W_E @ theirs.OV @ theirs.unembed.W_U  # (layers, H, V, V), factored
    eigenvalues = circuit.eigenvalues
    expected = eigenvalues.sum(-1).real / eigenvalues.abs().sum(-1)
    ours = copying_eigenvalue(fold(model))[label]
    assert len(ours) == expected.numel()
    for (layer, head), value in ours.items():
        assert value == pytest.approx(float(expected[layer, head]), rel=1e-5, abs=1e-6)
