"""Path order: which terms of a model's expansion into paths carry its loss (E21, term importance).

Defined in docs/measures/definitions.md#path_order.

The attention patterns and the norms' scales of the intact model are frozen, so that an attention-only model is linear
in what its heads read. Then

    run 0: every head writes 0; keep what each would have written           → loss of order 0
    run n: every head writes what it would have written in run n − 1         → loss of order ≤ n

and run L, L the number of attention sublayers, is the intact model exactly. Biases of attention sublayers are written
in every run. A single path's contribution to the residual stream is what remains of it alone: `direct` is the
embedding with those biases, `L0H1` what the head writes when it reads `direct`, `L0H1→L1H2` what the second head writes
when it reads that. Since patterns are frozen, order 1 already holds what an induction head does; what an earlier head
did for its pattern is in no term.

Feed-forward sublayers are no sums over what they read: losses of orders are defined with them (they are computed anew
in every run), single paths are not.

Shapes: B batch, T positions, D d_model, H heads, K d_head.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from induction_bump.measures.batches import batches
from induction_bump.measures.ranks import ALONE, Ranks
from induction_bump.measures.reading import token_losses
from induction_bump.measures.statistics import Estimate, clustered_mean
from induction_bump.model.attention import mix
from induction_bump.model.clamps import held_at_zero
from induction_bump.model.transformer import Attention, Site, Tap, Transformer

Add = Callable[["Path", str, Tensor], None]


@dataclass(frozen=True)
class Path:
    """A row of the table `paths`: a path or all paths up to an order, and what was done with it."""

    name: str
    """`direct`, `L0H1`, `L0H1→L1H2`; `all` for the losses of orders."""
    order: int
    """Heads on the path."""
    how: str
    """`up_to`: the loss itself; `added`, `removed`: the change of the loss when the path alone is added to `direct`
    (`direct` itself: to nothing), or taken from all."""


@torch.no_grad()
def path_order(
    model: Transformer, tokens: npt.NDArray[np.int64], documents: npt.NDArray[np.integer], ranks: Ranks = ALONE
) -> dict[Path, Estimate]:
    """Losses of all orders, and where the model is attention-only the change that each path makes, in nats.

    Args: tokens N × (T + 1), and the document of each of the N examples, by which standard errors are clustered;
    ranks, each of which follows the paths of a share of the examples.
    Raises NotFiniteError for losses that are not finite.
    """

    def of_share(here: slice) -> dict[Path, npt.NDArray[np.float64]]:
        per_example: dict[Path, list[npt.NDArray[np.float64]]] = {}
        for windows in batches(model, tokens[here], patterns=True):
            for path, losses in _of_batch(model, windows):
                per_example.setdefault(path, []).append(losses)
        return {path: np.concatenate(parts) for path, parts in per_example.items()}

    per_example = ranks.whole(len(tokens), of_share)
    return {path: clustered_mean(losses, documents) for path, losses in per_example.items()}


def _of_batch(model: Transformer, windows: Tensor) -> Iterator[tuple[Path, npt.NDArray[np.float64]]]:
    frozen = _Frozen.of(model, windows[:, :-1])

    def loss(residual: Tensor) -> npt.NDArray[np.float64]:
        losses = token_losses(model, residual, windows[:, 1:], frozen.tap())
        return losses.double().mean(1).cpu().numpy()

    embedded = model.embed(windows[:, :-1])
    layers = list(model.attention_sublayers())
    writes = [torch.zeros_like(frozen.z[layer.layer]) for layer in layers]
    first_order: list[Tensor] = []
    alone = end = embedded  # what `direct` adds to the last residual stream
    for order in range(len(layers) + 1):
        end, would = frozen.run(embedded, writes)
        if order == 0:
            alone, first_order = end, would
        yield Path("all", order, "up_to"), loss(end)
        writes = would
    if set(model.options.sublayers) <= {"s"}:
        terms = [(Path("direct", 0, ""), alone), *_terms(frozen, layers, first_order)]
        of_direct, of_all = loss(alone), loss(end)
        nothing = loss(torch.zeros_like(alone))
        for path, term in terms:
            direct = path.name == "direct"
            added = of_direct - nothing if direct else loss(alone + term) - of_direct
            yield Path(path.name, path.order, "added"), added
            yield Path(path.name, path.order, "removed"), loss(end - term) - of_all


def _terms(frozen: "_Frozen", layers: list[Attention], z: list[Tensor]) -> Iterator[tuple[Path, Tensor]]:
    """Each head and each virtual head with what it adds to the last residual stream, in an attention-only model."""
    for layer, mixed in zip(layers, z, strict=True):
        for head in range(mixed.shape[2]):
            term = mixed[:, :, head] @ layer.W_O[head]
            yield Path(f"L{layer.layer}H{head}", 1, ""), term
            for later in layers[layer.layer + 1 :]:
                for reader, further in enumerate(frozen.read_by(later, term)):
                    yield Path(f"L{layer.layer}H{head}→L{later.layer}H{reader}", 2, ""), further


@dataclass
class _Frozen:
    """Patterns and norm scales of an intact pass, and runs that keep to them."""

    model: Transformer
    pattern: dict[int, Float[Tensor, "B H T T"]] = field(default_factory=dict)
    """By attention layer."""
    scale: dict[int, Float[Tensor, "B T 1"]] = field(default_factory=dict)
    """By sublayer; the final norm's at the number of sublayers."""
    z: dict[int, Float[Tensor, "B T H K"]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Transformer, tokens: Tensor) -> "_Frozen":
        frozen = cls(model)

        def at(site: Site, tensor: Tensor) -> None:
            kept = {"pattern": frozen.pattern, "z": frozen.z, "scale": frozen.scale}[site.name]
            kept[site.sublayer if site.name == "scale" else site.layer] = tensor

        tap = Tap(frozenset({"pattern", "z", "scale"}), at)
        model.norm(model.run(model.embed(tokens), tap), tap, len(model.sublayers))
        return frozen

    def tap(self, at: Callable[[Site, Tensor], Tensor | None] = lambda site, tensor: None) -> Tap:
        """Keeps to the frozen patterns and scales; `at` is asked about z."""

        def replace(site: Site, tensor: Tensor) -> Tensor | None:
            return self.scale[site.sublayer] if site.name == "scale" else at(site, tensor)

        return Tap(frozenset({"z", "scale"}), replace, lambda site: self.pattern[site.layer])

    def run(self, embedded: Tensor, writes: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The last residual stream when heads mix `writes`, and what they would have mixed."""
        would: list[Tensor] = []

        def at(site: Site, z: Tensor) -> Tensor:
            would.append(z)
            return writes[site.layer]

        return self.model.run(embedded, self.tap(at)), would

    def read_by(self, layer: Attention, term: Float[Tensor, "B T D"]) -> Iterator[Float[Tensor, "B T D"]]:
        """What each head of a layer writes because of one term of what it reads; biases belong to no term.

        A head that a clamp holds at zero writes none of it.
        """
        read = layer.norm.centred(term)
        if layer.norm.kind != "none":
            read = read * self.scale[layer.sublayer] * layer.norm.gain
        values = torch.einsum("btd,dhk->bthk", read, layer.W_V)
        mixed = mix(self.pattern[layer.layer], values)
        held = held_at_zero(self.model.options).get(layer.layer, ())
        for head in range(values.shape[2]):
            yield torch.zeros_like(term) if head in held else mixed[:, :, head] @ layer.W_O[head]
