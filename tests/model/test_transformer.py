"""What the model computes, for every variant."""

import math

import pytest
import torch
from torch import Tensor

from induction_bump.model.init import decayed, initialise
from induction_bump.model.size import parameter_count
from induction_bump.model.transformer import Site, Tap, Transformer, next_token_losses
from tests.model.naive import naive_logits
from tests.model.variants import VARIANTS, options

V, T = 11, 9
each_variant = pytest.mark.parametrize("name", VARIANTS)


def model_of(name: str, seed: int = 0) -> Transformer:
    model = Transformer(VARIANTS[name], V, T, seed)
    with torch.no_grad():  # gains of 1 and biases of 0 would hide where they belong
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            if parameter.ndim <= 2 and parameter.std() == 0:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def tokens_of(batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randint(0, V, (batch, T), generator=torch.Generator().manual_seed(seed))


@each_variant
def test_logits_are_those_of_the_definitions_written_as_loops(name: str) -> None:
    model, tokens = model_of(name), tokens_of(1)
    torch.testing.assert_close(model(tokens)[0].double(), naive_logits(model, tokens[0]), atol=2e-5, rtol=1e-4)


@each_variant
def test_fused_and_explicit_kernel_agree(name: str) -> None:
    model, tokens = model_of(name), tokens_of()
    explicit = Tap(frozenset({"pattern"}), lambda site, tensor: None)
    torch.testing.assert_close(model(tokens, explicit), model(tokens), atol=1e-5, rtol=1e-4)


@each_variant
def test_the_closed_formula_counts_the_parameters(name: str) -> None:
    model = model_of(name)
    assert sum(p.numel() for p in model.parameters()) == parameter_count(model.options, V, T)


@each_variant
def test_no_position_sees_a_later_token(name: str) -> None:
    model, tokens = model_of(name), tokens_of()
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % V
    torch.testing.assert_close(model(changed)[:, :5], model(tokens)[:, :5], atol=0, rtol=0)
    assert not torch.allclose(model(changed)[:, 5], model(tokens)[:, 5])


@each_variant
def test_running_in_two_parts_is_running_whole(name: str) -> None:
    model, tokens = model_of(name), tokens_of()
    middle = len(model.sublayers) // 2
    half = model.run(model.embed(tokens), stop=middle)
    torch.testing.assert_close(model.unembed(model.run(half, start=middle)), model(tokens), atol=0, rtol=0)


@pytest.mark.parametrize("positions", ["shortformer", "rotary", "learned", "none"])
def test_only_a_model_without_positions_is_blind_to_the_order_of_the_past(positions: str) -> None:
    model = Transformer(options(sublayers="s", positions=positions), V, T)
    tokens, permuted = torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[2, 1, 4, 3, 5]])
    blind = torch.allclose(model(tokens)[0, -1], model(permuted)[0, -1], atol=1e-6)
    assert blind == (positions == "none")


def test_rotary_attention_depends_on_distance_only() -> None:
    model = Transformer(options(sublayers="s", positions="rotary"), V, T)
    scores: list[Tensor] = []
    tap = Tap(frozenset({"scores"}), lambda site, tensor: scores.append(tensor))
    model(torch.full((1, T), 3), tap)
    for distance in range(T):
        along = scores[0][0].diagonal(-distance, dim1=-2, dim2=-1)
        torch.testing.assert_close(along, along[:, :1].expand_as(along), atol=1e-5, rtol=1e-4)


def test_smeared_keys_open_and_shut() -> None:
    """α → ∞ is a model without smearing; α → −∞ shifts every key by one."""
    plain = Transformer(options(sublayers="s"), V, T)
    smeared = Transformer(options(sublayers="s", smeared_keys=True), V, T)
    smeared.load_state_dict(plain.state_dict(), strict=False)
    tokens = tokens_of()
    with torch.no_grad():
        smeared.sublayers[0].alpha.fill_(100.0)
    torch.testing.assert_close(smeared(tokens), plain(tokens))
    keys: dict[str, Tensor] = {}
    for name, model in (("plain", plain), ("smeared", smeared)):
        with torch.no_grad():
            smeared.sublayers[0].alpha.fill_(-100.0)
        model(tokens, Tap(frozenset({"k"}), lambda site, k, name=name: keys.__setitem__(name, k)))
    # rotation depends on the place the key ends up at, so compare its length, which rotation keeps
    torch.testing.assert_close(keys["smeared"][:, 1:].norm(dim=-1), keys["plain"][:, :-1].norm(dim=-1))
    torch.testing.assert_close(keys["smeared"][:, 0], keys["plain"][:, 0])


class TestTaps:
    """Reading and replacing activations."""

    def test_every_site_is_visited_in_order_with_its_shape(self) -> None:
        model = Transformer(options(sublayers="sf"), V, T)
        seen: list[tuple[Site, tuple[int, ...]]] = []
        names = frozenset({"residual", "q", "k", "v", "scores", "pattern", "z", "hidden", "written"})
        model(tokens_of(2), Tap(names, lambda site, x: seen.append((site, tuple(x.shape)))))
        B, D, H, K, M = 2, 12, 3, 6, 20
        heads, square = (B, T, H, K), (B, H, T, T)
        assert seen == [
            (Site("residual", 0, 0), (B, T, D)),
            (Site("q", 0, 0), heads),
            (Site("k", 0, 0), heads),
            (Site("v", 0, 0), heads),
            (Site("scores", 0, 0), square),
            (Site("pattern", 0, 0), square),
            (Site("z", 0, 0), heads),
            (Site("written", 0, 0), (B, T, D)),
            (Site("residual", 1, -1), (B, T, D)),
            (Site("hidden", 1, -1), (B, T, M)),
            (Site("written", 1, -1), (B, T, D)),
            (Site("residual", 2, -1), (B, T, D)),
        ]

    def test_zeroing_a_heads_z_is_zeroing_its_output_weights(self) -> None:
        model, tokens = model_of("sfs-rotary-layernorm-False-False-False"), tokens_of()

        def ablate(site: Site, z: Tensor) -> Tensor | None:
            if site.layer != 1:
                return None
            z = z.clone()
            z[:, :, 2] = 0
            return z

        ablated = model(tokens, Tap(frozenset({"z"}), ablate))
        with torch.no_grad():
            model.sublayers[2].W_O[2] = 0
        torch.testing.assert_close(ablated, model(tokens))

    def test_a_replaced_pattern_is_what_attention_goes_on_with(self) -> None:
        model, tokens = model_of("s-none-layernorm-False-False-False"), tokens_of()
        uniform = torch.ones(T, T).tril()
        uniform = (uniform / uniform.sum(-1, keepdim=True)).expand(2, 3, T, T)
        values: list[Tensor] = []
        mixed: list[Tensor] = []

        def at(site: Site, x: Tensor) -> Tensor | None:
            if site.name == "pattern":
                return uniform
            (values if site.name == "v" else mixed).append(x)
            return None

        model(tokens, Tap(frozenset({"pattern", "v", "z"}), at))
        running_mean = values[0].cumsum(1) / torch.arange(1, T + 1)[None, :, None, None]
        torch.testing.assert_close(mixed[0], running_mean)

    def test_nothing_stays_behind(self) -> None:
        model, tokens = model_of("sfs-rotary-layernorm-False-False-False"), tokens_of()
        before = model(tokens)
        model(tokens, Tap(frozenset({"z", "pattern"}), lambda site, x: torch.zeros_like(x)))
        torch.testing.assert_close(model(tokens), before, atol=0, rtol=0)


class TestInitialisation:
    """One function gives every parameter its first value."""

    def test_the_same_seed_gives_the_same_weights_and_another_seed_others(self) -> None:
        a, b, c = (Transformer(options(), V, T, seed) for seed in (1, 1, 2))
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
        assert not torch.equal(a.W_E, c.W_E)

    def test_it_does_not_touch_the_global_generator(self) -> None:
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        Transformer(options(), V, T, 0)
        assert torch.equal(torch.rand(3), expected)

    def test_untrained_models_are_near_uniform(self) -> None:
        model = Transformer(options(sublayers="ss", d_model=64, n_heads=4, d_head=16), 256, 64)
        tokens = torch.randint(0, 256, (4, 65))
        loss = next_token_losses(model(tokens[:, :-1]), tokens[:, 1:]).mean()
        assert loss.item() == pytest.approx(math.log(256), abs=0.3)

    def test_standard_deviations_are_those_of_the_table(self) -> None:
        model = Transformer(options(sublayers="sf", d_model=64, n_heads=8, d_head=16, d_mlp=256), 500, 64)
        attention, feed_forward = model.sublayers
        L = 2
        expected = {
            model.W_E: 1.0,
            attention.W_Q: 64**-0.5,
            attention.W_O: (8 * 16 * 2 * L) ** -0.5,
            feed_forward.W_in: 64**-0.5,
            feed_forward.W_out: (256 * 2 * L) ** -0.5,
            model.W_U: 0.5 * 64**-0.5,
        }
        for parameter, deviation in expected.items():
            assert parameter.std().item() == pytest.approx(deviation, rel=0.05)

    def test_an_unknown_parameter_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"no initial distribution.*layer\.mystery"):
            initialise({"layer.mystery": torch.zeros(2, 2)}, options(), 0)

    def test_decay_belongs_on_matrices_only(self) -> None:
        model = Transformer(options(biases=True, smeared_keys=True, positions="learned", sublayers="sf"), V, T)
        kept = {n.rsplit(".", 1)[-1] for n, p in model.named_parameters() if decayed(n, p)}
        assert kept == {"W_E", "W_U", "W_Q", "W_K", "W_V", "W_O", "W_in", "W_out"}


def test_losses_are_those_of_the_softmax() -> None:
    logits = torch.randn(2, 3, V)
    targets = torch.randint(0, V, (2, 3))
    expected = -logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    torch.testing.assert_close(next_token_losses(logits, targets), expected)


def test_more_positions_than_the_context_are_refused() -> None:
    with pytest.raises(ValueError, match="10 positions are more than the model's context of 9"):
        Transformer(options(), V, T)(torch.zeros(1, 10, dtype=torch.long))
