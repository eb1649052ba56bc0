"""What is written for TransformerLens says the same as the model, by TransformerLens's own conventions.

`lens_logits` computes what TransformerLens does with this config and these weights, head by head, so that this
holds where TransformerLens is not installed; tests/measures/test_against_transformer_lens.py asks the library itself.
"""

import itertools
import json
import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from induction_bump.model.options import Clamp, ModelOptions
from induction_bump.model.transformer import Transformer
from induction_bump.model.transformer_lens import ExportError, config_of, in_adjacent_pairs, state_dict_of
from tests.measures.random_models import T, V, random_model
from tests.model.variants import options

EXPORTABLE: dict[str, ModelOptions] = {
    "-".join(map(str, (*order, *values))): options(
        sublayers=order[0], activation=order[1], positions=positions, norm=norm, biases=biases, tied=tied
    )
    for order, *values in itertools.product(
        (("ss", "gelu"), ("sfsf", "gelu"), ("sfsf", "relu"), ("sf", "solu")),
        ("shortformer", "rotary", "learned", "none"),
        ("layernorm", "rmsnorm", "none"),
        (False, True),
        (False, True),
    )
    for positions, norm, biases, tied in (values,)
}


def lens_logits(config: dict[str, Any], state: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """Logits of one sequence, T × V, in float64."""
    w = {name: tensor.double() for name, tensor in state.items()}
    kind = config["positional_embedding_type"]
    x = w["embed.W_E"][tokens]
    if kind == "standard":
        x = x + w["pos_embed.W_pos"][: len(tokens)]
    for layer in range(config["n_layers"]):
        own = {n.removeprefix(f"blocks.{layer}."): v for n, v in w.items() if n.startswith(f"blocks.{layer}.")}
        read = normed(x, own, "ln1", config)
        for_qk = read + w["pos_embed.W_pos"][: len(tokens)] if kind == "shortformer" else read
        written = own["attn.b_O"]
        for head in range(config["n_heads"]):
            q = for_qk @ own["attn.W_Q"][head] + own["attn.b_Q"][head]
            k = for_qk @ own["attn.W_K"][head] + own["attn.b_K"][head]
            v = read @ own["attn.W_V"][head] + own["attn.b_V"][head]
            if kind == "rotary":
                q, k = (torch.stack([rotated(row, i, config) for i, row in enumerate(rows)]) for rows in (q, k))
            scores = q @ k.T / math.sqrt(config["d_head"])
            scores[torch.ones_like(scores).triu(1).bool()] = -torch.inf
            written = written + scores.softmax(-1) @ v @ own["attn.W_O"][head]
        x = x + written
        if not config["attn_only"]:
            hidden = normed(x, own, "ln2", config) @ own["mlp.W_in"] + own["mlp.b_in"]
            x = x + activated(hidden, config["act_fn"]) @ own["mlp.W_out"] + own["mlp.b_out"]
    return normed(x, w, "ln_final", config) @ w["unembed.W_U"] + w["unembed.b_U"]


def normed(x: Tensor, w: dict[str, Tensor], name: str, config: dict[str, Any]) -> Tensor:
    kind = config["normalization_type"]
    if kind is None:
        assert f"{name}.w" not in w
        return x
    if kind == "LN":
        x = x - x.mean(-1, keepdim=True)
    x = x / (x.pow(2).mean(-1, keepdim=True) + config["eps"]).sqrt() * w[f"{name}.w"]
    return x + w[f"{name}.b"] if kind == "LN" else x


def rotated(row: Tensor, position: int, config: dict[str, Any]) -> Tensor:
    assert config["rotary_adjacent_pairs"] is True
    out = row.clone()
    for i in range(0, config["rotary_dim"], 2):
        angle = position * config["rotary_base"] ** (-i / config["rotary_dim"])
        out[i] = row[i] * math.cos(angle) - row[i + 1] * math.sin(angle)
        out[i + 1] = row[i + 1] * math.cos(angle) + row[i] * math.sin(angle)
    return out


def activated(x: Tensor, name: str) -> Tensor:
    if name == "gelu":
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2
    return x * x.exp() / x.exp().sum(-1, keepdim=True) if name == "solu" else x * (x > 0)


@pytest.mark.parametrize("variant", EXPORTABLE)
def test_logits_are_those_of_the_exported_weights(variant: str) -> None:
    model = random_model(EXPORTABLE[variant]).double()
    config = json.loads(json.dumps(config_of(model.options, V, T)))
    tokens = torch.randint(0, V, (T,), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model(tokens[None])[0]
    expected = lens_logits(config, state_dict_of(model), tokens)
    # the model's rotary tables are rounded to float32
    precision = 1e-5 if model.options.positions == "rotary" else 1e-9
    torch.testing.assert_close(logits, expected, rtol=precision, atol=precision * float(expected.abs().max()))


def test_features_that_are_rotated_together_lie_side_by_side() -> None:
    assert in_adjacent_pairs(torch.arange(6).expand(2, 3, 6)).tolist() == [[[0, 3, 1, 4, 2, 5]] * 3] * 2


def test_there_are_parameters_only() -> None:
    """TransformerLens 4 refuses a name that it does not know."""
    names = {
        name.rsplit(".", 1)[-1] for name in state_dict_of(random_model(options(sublayers="sf", positions="rotary")))
    }
    assert all(re.fullmatch(r"[Wb]_\w+|[wb]", name) for name in names)


@pytest.mark.parametrize(("base", "written"), [(10_000.0, 10_000), (2.5, 2.5)])
def test_a_whole_rotary_base_is_written_as_an_integer(base: float, written: float) -> None:
    found = config_of(options(positions="rotary", rotary_base=base), V, T)["rotary_base"]
    assert found == written
    assert type(found) is type(written)


def test_tensors_are_copies_in_float32_that_share_no_memory() -> None:
    model = Transformer(options(sublayers="sf", tied=True), V, T)
    state = state_dict_of(model)
    places = [tensor.data_ptr() for tensor in state.values()]
    assert len(set(places)) == len(places)
    assert model.W_E.data_ptr() not in places
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in state.values())
    assert not any(tensor.requires_grad for tensor in state.values())


@pytest.mark.parametrize(
    ("variant", "told"),
    [
        (options(sublayers=""), "model.sublayers=''"),
        (options(sublayers="f"), "model.sublayers='f'"),
        (options(sublayers="fs"), "model.sublayers='fs'"),
        (options(sublayers="ssf"), "model.sublayers='ssf'"),
        (options(smeared_keys=True), "model.smeared_keys=true"),
        (options(clamps=(Clamp(layer=0, head=1, kind="first"),)), "model.clamps=L0H1 first"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_variants_are_refused_in_one_line(variant: ModelOptions, told: str) -> None:
    for refuse in (lambda: config_of(variant, V, T), lambda: state_dict_of(Transformer(variant, V, T))):
        with pytest.raises(ExportError) as refused:
            refuse()
        assert str(refused.value).startswith(f"{told}: ")
        assert "\n" not in str(refused.value)
