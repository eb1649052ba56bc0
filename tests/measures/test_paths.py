"""Path order: every path followed by loops, and what the sums must be."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from induction_bump.measures.paths import Path, path_order
from induction_bump.measures.reading import read
from induction_bump.model.options import Clamp
from induction_bump.model.transformer import Attention, Transformer
from tests.measures.random_models import V, changed, random_model
from tests.model.naive import Patterns, naive_logits
from tests.model.variants import VARIANTS, options

N, T = 3, 6
TOKENS = np.random.default_rng(0).integers(0, V, (N, T + 1))
DOCUMENTS = np.arange(N)
Head = tuple[int, int]

ATTENTION_ONLY = {
    f"{layers}-{positions}-{norm}-{biases}-{smeared}": options(
        sublayers=layers, positions=positions, norm=norm, biases=biases, smeared_keys=smeared, tied=biases
    )
    for layers, (positions, smeared), norm, biases in itertools.product(
        ("ss", "sss"),
        (("rotary", True), ("learned", False), ("shortformer", False)),
        ("layernorm", "rmsnorm", "none"),
        (False, True),
    )
} | {
    # held at zero: a head that would be read, one that would read, and one between them
    "held-at-zero": options(
        sublayers="sss",
        biases=True,
        clamps=tuple(Clamp(layer=layer, head=head, kind="zero") for layer, head in ((0, 1), (1, 0), (2, 2))),
    ),
    # a bias leaves a head its paths
    "biased": options(
        sublayers="ss",
        clamps=(Clamp(layer=0, head=1, kind="previous", strength=3.0), Clamp(layer=1, head=2, kind="first")),
    ),
}


class NaivePaths:
    """All paths of an attention-only model on one sequence, each followed by itself, in float64."""

    def __init__(self, model: Transformer, sequence: Tensor) -> None:
        self.model, self.targets = model, sequence[1:]
        self.layers = [s for s in model.sublayers if isinstance(s, Attention)]
        self.patterns: Patterns = {}

        def note(layer: int, head: int, z: Tensor, pattern: Tensor) -> Tensor:
            self.patterns[layer, head] = pattern
            return z

        naive_logits(model, sequence[:-1], note)
        with torch.no_grad():
            self.start = model.embed(sequence[None, :-1])[0].double()
        self.terms: dict[tuple[Head, ...], Tensor] = {}
        self.scales: list[Tensor] = []
        silent = {(c.layer, c.head) for c in model.options.clamps if c.kind == "zero"}
        stream = self.start.clone()
        direct = self.start.clone()
        for layer in self.layers:
            self.scales.append(self.scale(stream))
            new: dict[tuple[Head, ...], Tensor] = {}
            for head in range(model.options.n_heads):
                if (layer.layer, head) in silent:
                    continue
                own = (layer.layer, head)
                new[(own,)] = self.through(layer, head, direct, constant=True)
                for path, term in self.terms.items():
                    new[(*path, own)] = self.through(layer, head, term, constant=False)
            self.terms |= new
            bias = layer.b_O.detach().double() if layer.biases else 0
            direct = direct + bias
            stream = stream + bias + sum(new.values())
        self.scales.append(self.scale(stream))
        self.direct, self.all = direct, stream

    def scale(self, x: Tensor) -> Tensor:
        if self.model.options.norm == "none":
            return torch.ones(len(x), 1, dtype=torch.float64)
        if self.model.options.norm == "layernorm":
            x = x - x.mean(-1, keepdim=True)
        return 1 / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-5)

    def normed(self, norm, x: Tensor, scale: Tensor, constant: bool) -> Tensor:
        if self.model.options.norm == "none":
            return x
        if self.model.options.norm == "layernorm":
            x = x - x.mean(-1, keepdim=True)
        x = x * scale * norm.gain.detach().double()
        return x + norm.bias.detach().double() if constant and norm.bias is not None else x

    def through(self, layer: Attention, head: int, x: Tensor, constant: bool) -> Tensor:
        read = self.normed(layer.norm, x, self.scales[layer.layer], constant)
        values = read @ layer.W_V[:, head].detach().double()
        if constant and layer.biases:
            values = values + layer.b_V[head].detach().double()
        pattern = self.patterns[layer.layer, head]
        mixed = torch.stack([sum(pattern[i, j] * values[j] for j in range(i + 1)) for i in range(len(values))])
        return mixed @ layer.W_O[head].detach().double()

    def loss(self, x: Tensor) -> float:
        normed = self.normed(self.model.norm, x, self.scales[-1], constant=True)
        logits = normed @ self.model.unembedding.detach().double()
        if self.model.b_U is not None:
            logits = logits + self.model.b_U.detach().double()
        log_p = logits.log_softmax(-1)
        return float(np.mean([-log_p[k, t] for k, t in enumerate(self.targets)]))

    def rows(self) -> Iterator[tuple[Path, float]]:
        for order in range(len(self.layers) + 1):
            kept = sum(term for path, term in self.terms.items() if len(path) <= order)
            yield Path("all", order, "up_to"), self.loss(self.direct + kept)
        of_direct, of_all = self.loss(self.direct), self.loss(self.all)
        yield Path("direct", 0, "added"), of_direct - self.loss(torch.zeros_like(self.direct))
        yield Path("direct", 0, "removed"), self.loss(self.all - self.direct) - of_all
        for path, term in self.terms.items():
            if len(path) <= 2:
                name = "→".join(f"L{layer}H{head}" for layer, head in path)
                yield Path(name, len(path), "added"), self.loss(self.direct + term) - of_direct
                yield Path(name, len(path), "removed"), self.loss(self.all - term) - of_all


@pytest.mark.parametrize("name", ATTENTION_ONLY)
def test_every_path_is_the_one_that_loops_follow(name: str) -> None:
    model = random_model(ATTENTION_ONLY[name], spread=0.15)
    expected: dict[Path, list[float]] = {}
    for sequence in torch.from_numpy(TOKENS):
        for path, value in NaivePaths(model, sequence).rows():
            expected.setdefault(path, []).append(value)
    found = path_order(model, TOKENS, DOCUMENTS)
    silent = {f"L{c.layer}H{c.head}" for c in model.options.clamps if c.kind == "zero"}
    of_silent = {p for p in found if silent & set(p.name.split("→"))}
    assert found.keys() - of_silent == set(expected)
    assert {head for p in of_silent for head in p.name.split("→") if head in silent} == silent
    for path, values in expected.items():
        assert float(found[path]) == pytest.approx(np.mean(values), abs=2e-5 * max(1, np.max(np.abs(values)))), path
        se = np.std(values, ddof=1) / np.sqrt(N)
        assert float(found[path].stderr) == pytest.approx(se, rel=1e-2, abs=1e-4), path
    for path in of_silent:
        assert float(found[path]) == pytest.approx(0, abs=1e-6), path


@pytest.mark.parametrize("name", VARIANTS)
def test_the_last_order_is_the_whole_loss(name: str) -> None:
    model = random_model(VARIANTS[name], spread=0.15)
    found = path_order(model, TOKENS, DOCUMENTS)
    last = Path("all", model.options.n_attention, "up_to")
    assert float(found[last]) == pytest.approx(read(model, TOKENS).losses.mean(), rel=2e-5)
    assert max(p.order for p in found if p.how == "up_to") == model.options.n_attention


def test_with_feed_forward_sublayers_orders_are_defined_and_paths_are_not() -> None:
    found = path_order(random_model(options(sublayers="sfs")), TOKENS, DOCUMENTS)
    assert {(p.name, p.order, p.how) for p in found} == {("all", n, "up_to") for n in range(3)}


def test_order_0_with_feed_forward_sublayers_is_the_model_without_its_attention() -> None:
    """But for the norms' scales, which stay frozen: so in a model without norms."""
    model = random_model(options(sublayers="sfs", norm="none"), spread=0.1)
    silent = changed(model, lambda m: [s.W_O.zero_() for s in m.attention_sublayers()] and None)
    order_0 = path_order(model, TOKENS, DOCUMENTS)[Path("all", 0, "up_to")]
    assert float(order_0) == pytest.approx(read(silent, TOKENS).losses.mean(), rel=1e-5)


def test_a_bigram_model_is_its_direct_path() -> None:
    model = random_model(options(sublayers=""))
    found = path_order(model, TOKENS, DOCUMENTS)
    assert float(found[Path("direct", 0, "removed")]) + float(found[Path("all", 0, "up_to")]) == pytest.approx(
        np.log(V), rel=1e-5
    )
    assert set(found) == {Path("all", 0, "up_to"), Path("direct", 0, "added"), Path("direct", 0, "removed")}


@settings(deadline=None, max_examples=8)
@given(order=st.permutations(range(3)))
def test_the_order_of_heads_only_renames_paths(order: list[int]) -> None:
    def reorder(model: Transformer) -> None:
        first = next(model.attention_sublayers())
        for weight in (first.W_Q, first.W_K, first.W_V):
            weight.copy_(weight[:, order].clone())
        first.W_O.copy_(first.W_O[order].clone())

    model = random_model(options(sublayers="ss"))
    before = path_order(model, TOKENS, DOCUMENTS)
    after = path_order(changed(model, reorder), TOKENS, DOCUMENTS)
    for head, old in enumerate(order):
        for how in ("added", "removed"):
            assert float(after[Path(f"L0H{head}→L1H2", 2, how)]) == pytest.approx(
                float(before[Path(f"L0H{old}→L1H2", 2, how)]), rel=1e-4, abs=1e-5
            )


def test_a_broken_model_is_an_error() -> None:
    model = random_model(options(sublayers="ss"))
    with torch.no_grad():
        next(model.attention_sublayers()).W_V.fill_(torch.inf)
    with pytest.raises(ValueError, match="not finite"):
        path_order(model, TOKENS, DOCUMENTS)
