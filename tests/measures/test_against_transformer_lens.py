"""The same numbers as TransformerLens, where it has them: logits, patterns, head scores and weights' circuits.

Both read the same exported weights, and compute in float64 where rounding would hide a difference. Circuits are
compared after TransformerLens's own folding of norms and centring of what is written, in float32 since its version 3.
The version that is installed is the one that is asked: a `TransformerBridge` from 4 on, a `HookedTransformer` before.
"""

import itertools
import re
import warnings
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
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
from induction_bump.training.export import export
from tests.measures.random_models import T, V, pairs, random_model
from tests.model.test_transformer_lens import EXPORTABLE
from tests.model.variants import options
from tests.training.runs import config_of as config_of_run
from tests.training.test_export import saved_run

EXPORTING = Path(__file__).parents[2] / "docs" / "export.md"

try:
    MAJOR = int(version("transformer-lens").partition(".")[0])
except PackageNotFoundError:
    MAJOR = 0

pytestmark = [
    pytest.mark.transformer_lens,
    pytest.mark.skipif(
        not MAJOR,
        reason="TransformerLens is not installed: pip install -c constraints.txt -e '.[transformer-lens]'",
    ),
    pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning"),
]

LOADABLE = {
    name: model
    for name, model in itertools.islice(EXPORTABLE.items(), 0, None, 5)  # each two values of two options meet
    if MAJOR < 4 or model.positions != "shortformer"  # which a bridge refuses
}
FOLDABLE = {
    f"{sublayers}-{positions}-{norm}": options(sublayers=sublayers, positions=positions, norm=norm, biases=True)
    for sublayers, positions in (("sss", "rotary"), ("sfsf", "learned"))
    for norm in ("layernorm", "rmsnorm", "none")
}


@pytest.fixture(scope="module", autouse=True)
def lens() -> None:
    """The library, imported when it is first needed, since that takes seconds; its warnings are its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if MAJOR < 4:
            import transformer_lens
        else:
            import transformer_lens.model_bridge.sources.native  # noqa: F401 - gives the bridge `boot_native`


def config(model: Transformer) -> dict[str, Any]:
    return config_of(model.options, model.vocab_size, model.context) | {"device": "cpu", "dtype": model.W_E.dtype}


def hooked(model: Transformer) -> Any:
    """A `HookedTransformer` of the model's config and precision, with weights of its own."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    return HookedTransformer(HookedTransformerConfig.from_dict(config(model)))


def loaded(model: Transformer) -> Any:
    """TransformerLens's model with the exported weights."""
    if MAJOR < 4:
        made = hooked(model)
        result = made.load_state_dict(state_dict_of(model), strict=False)
        assert not result.unexpected_keys
        # buffers that are right from the start
        buffers = {"mask", "IGNORE", "rotary_sin", "rotary_cos"}
        assert {name.rsplit(".", 1)[-1] for name in result.missing_keys} <= buffers
        return made
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.conversion_utils import convert_tl_checkpoint
    from transformer_lens.model_bridge import TransformerBridge

    written = TransformerBridgeConfig.from_dict(config(model))
    made = TransformerBridge.boot_native(written, dtype=model.W_E.dtype)
    made.load_state_dict(convert_tl_checkpoint(state_dict_of(model), written))
    return made


@cache
def folded(variant: str, *, center_unembed: bool = True) -> tuple[Transformer, Any]:
    """A model, and TransformerLens's of the exported weights after it has processed them."""
    model = random_model(FOLDABLE[variant]).double()
    if MAJOR < 4:
        made = hooked(model)
        weights = {name: tensor.double() for name, tensor in state_dict_of(model).items()}
        made.load_and_process_state_dict(weights, center_unembed=center_unembed)
    else:
        made = loaded(model)
        centred = model.options.norm == "layernorm"
        made.process_weights(fold_ln=True, center_writing_weights=centred, center_unembed=center_unembed)
    return model, made


def precision(model: ModelOptions) -> float:
    """Rotary tables are made in float32 here, in a bridge RMS norms as well, of which sharp patterns make more."""
    return 1e-4 if model.positions == "rotary" or (MAJOR >= 4 and model.norm == "rmsnorm") else 1e-9


def tokens_of(batch: int = 3, length: int = T) -> torch.Tensor:
    return torch.randint(0, V, (batch, length), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
@pytest.mark.parametrize("variant", LOADABLE)
def test_logits_and_patterns_are_equal(variant: str) -> None:
    model = random_model(LOADABLE[variant]).double()
    patterns: list[torch.Tensor] = []
    logits = model(tokens_of(), Tap(frozenset({"pattern"}), lambda site, tensor: patterns.append(tensor)))
    theirs, cached = loaded(model).run_with_cache(tokens_of())
    rtol = precision(model.options)
    torch.testing.assert_close(theirs, logits, rtol=rtol, atol=rtol * float(logits.abs().max()))
    assert len(patterns) == model.options.n_attention
    for layer, pattern in enumerate(patterns):
        torch.testing.assert_close(cached["pattern", layer], pattern, rtol=rtol, atol=rtol)


@torch.no_grad()
def test_an_export_is_loaded_as_the_page_about_it_says(tmp_path: Path) -> None:
    run = saved_run(tmp_path / "run")
    written = export(run.path, "transformer_lens")
    [of_4, of_earlier] = re.findall(r"```py\n(.*?)```", EXPORTING.read_text(encoding="utf-8"), re.DOTALL)
    code, directories = re.subn(
        r'Path\(".*?"\)', lambda _: f"Path({str(written)!r})", of_4 if MAJOR >= 4 else of_earlier
    )
    assert directories == 1
    found: dict[str, Any] = {}
    exec(code, found)
    settings = config_of_run(tmp_path)
    model = Transformer(settings.model, run.info.vocab_size, settings.data.context, seed=8)
    torch.testing.assert_close(found["model"](tokens_of()), model(tokens_of()), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_logits_are_equal_in_a_long_context() -> None:
    model = Transformer(ModelOptions(sublayers="ss", d_model=64, n_heads=4, positions="rotary"), V, 4096)
    for attention in model.attention_sublayers():
        attention.W_Q.mul_(6)  # sharp patterns, in which an error of an angle shows
    tokens = tokens_of(1, 2048)
    torch.testing.assert_close(loaded(model)(tokens), model(tokens), rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("positions", ["rotary", "shortformer" if MAJOR < 4 else "learned"])
def test_prefix_matching_is_the_mean_of_its_patterns_diagonal(positions: str) -> None:
    block = 4
    model = random_model(options(sublayers="ss", positions=positions))
    blocks = tokens_of(5, block) % (V - 1) + 1
    tokens = torch.cat([torch.zeros(5, 1, dtype=torch.long), blocks, blocks], dim=1)
    lookup = repeat_lookup(torch.full((5,), block), 2, tokens > 0)
    _, cached = loaded(model).run_with_cache(tokens)
    scores = read(model, tokens.numpy(), lookup, losses=False).scores["prefix_matching"]
    for layer in range(2):
        # the diagonal starts at query block − 1, and the second copy at block + 1
        stripe = cached["pattern", layer].diagonal(1 - block, dim1=-2, dim2=-1)[..., 2:]
        np.testing.assert_allclose(scores[:, layer], stripe.mean(-1), rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("variant", FOLDABLE)
def test_composition_before_the_baseline_is_equal(variant: str) -> None:
    model, theirs = folded(variant)
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
def test_eigenvalue_copying_is_equal(variant: str, label: str) -> None:
    model, theirs = folded(variant, center_unembed=label == "copying_eigenvalue")
    circuit = theirs.embed.W_E @ theirs.OV @ theirs.unembed.W_U  # (layers, H, V, V), factored
    eigenvalues = circuit.eigenvalues
    expected = eigenvalues.sum(-1).real / eigenvalues.abs().sum(-1)
    ours = copying_eigenvalue(fold(model))[label]
    assert len(ours) == expected.numel()
    for (layer, head), value in ours.items():
        assert value == pytest.approx(float(expected[layer, head]), rel=1e-5, abs=1e-6)
