"""Models wired by hand, of which theory says what every measure must find.

All are without norms, so that what a head writes is what the next one reads. The residual stream is cut into subspaces
with a name (`token`, `position`, `answer`, …); W_E writes `token`, W_U reads `answer`, and no head maps a subspace to
itself: a transposed W_QK or W_OV reads what nothing has written.

V vocabulary, T context, D d_model, K d_head.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from induction_bump.model.options import ModelOptions
from induction_bump.model.transformer import Attention, Transformer

SHARP = 2000.0
"""Factor on scores, before they are divided by √K: the softmax is a choice, and gives what it leaves out exactly 0."""
CERTAIN = 20.0
"""Logit of a token that a head has copied to the answer; all others have 0."""


@torch.no_grad()
def induction_model(vocab_size: int, context: int, n_heads: int = 2) -> Transformer:
    """L0H1 attends to the previous token, L1H0 is the induction head; they solve repeated sequences exactly.

    `token` → L0H1 → `previous`, where the keys of L1H0 are read (K-composition); its queries and values read `token`.
    The other heads do nothing.
    """
    V, T = vocab_size, context
    model, at = _blank(
        V, T, {"token": V, "position": T, "previous": V, "answer": V}, sublayers="ss", n_heads=n_heads, d_head=max(V, T)
    )
    first, second = model.attention_sublayers()
    _attend_back(first, 1, at["position"], 1)
    _move(first, 1, at["token"], at["previous"], torch.eye(V))
    second.W_Q[at["token"], 0, :V] = SHARP * torch.eye(V)
    second.W_K[at["previous"], 0, :V] = torch.eye(V)
    _move(second, 0, at["token"], at["answer"], torch.eye(V))
    return model


@torch.no_grad()
def smeared_induction_model(vocab_size: int, context: int, alpha: float = -20.0) -> Transformer:
    """One layer and no positions: an induction head from smeared keys alone.

    With σ(α) near 0 the key at j is that of t_{j−1}, and the query at i is t_i: attention goes to the tokens that
    followed the earlier occurrences of t_i. W_QK matches a token with itself.
    """
    V = vocab_size
    model, at = _blank(V, context, {"token": V, "answer": V}, sublayers="s", n_heads=1, d_head=V, smeared_keys=True)
    (only,) = model.attention_sublayers()
    assert only.alpha is not None
    only.alpha.fill_(alpha)
    only.W_Q[at["token"], 0] = SHARP * torch.eye(V)
    only.W_K[at["token"], 0] = torch.eye(V)
    _move(only, 0, at["token"], at["answer"], torch.eye(V))
    return model


@torch.no_grad()
def copying_model(vocab_size: int, context: int) -> Transformer:
    """One layer: H0 copies the token at i − 1, H1 anti-copies (lowers the logit of) the token at i − 2."""
    V, T = vocab_size, context
    model, at = _blank(V, T, {"token": V, "position": T, "answer": V}, sublayers="s", n_heads=2, d_head=max(V, T))
    (only,) = model.attention_sublayers()
    for head, by, sign in ((0, 1, 1.0), (1, 2, -1.0)):
        _attend_back(only, head, at["position"], by)
        _move(only, head, at["token"], at["answer"], sign * torch.eye(V))
    return model


def follower(token: int, vocab_size: int) -> int:
    """C of the skip-trigram A … B → C, as a function of A: a cycle through all tokens but BOS, which is 0."""
    return token % (vocab_size - 1) + 1


@torch.no_grad()
def skip_trigram_model(vocab_size: int, context: int, cues: Mapping[int, int]) -> Transformer:
    """One head of one layer knows skip-trigrams A … B → C, with the cue A = cues[B] and C = follower(A).

    At B it attends to A. At other tokens, and at B without A before it, it rests on BOS (token 0), of which it writes
    nothing: the logits are then all equal.
    """
    V = vocab_size
    model, at = _blank(V, context, {"token": V, "answer": V}, sublayers="s", n_heads=1, d_head=V)
    (only,) = model.attention_sublayers()
    queries = torch.zeros(V, V)
    queries[:, 0] = 0.5  # BOS is preferred to everything but a cue
    for trigger, cue in cues.items():
        queries[trigger, cue] = 1.0
    only.W_Q[at["token"], 0] = SHARP * queries
    only.W_K[at["token"], 0] = torch.eye(V)
    follows = torch.zeros(V, V)
    for token in range(1, V):
        follows[token, follower(token, V)] = 1.0
    _move(only, 0, at["token"], at["answer"], follows)
    return model


WRITES = torch.tensor([1.0, 2.0, 3.0, 4.0])
"""Singular values of the W_OV of L0H1 in `composing_model`."""
READS = torch.tensor([2.0, 1.0, 5.0, 3.0])
"""Singular values of the W_QK or W_OV that composes with it, along the same directions."""


@torch.no_grad()
def composing_model() -> Transformer:
    """L0H1 writes a subspace that L1H0 reads with its queries, L1H1 with its keys and L1H2 with its values alone.

    D = 64, K = 4. Every head has a W_QK and a W_OV; L0H0 and L0H2 write where nobody reads. The other sides of the
    second layer's matrices read tokens and write apart, so that a product in the wrong order is 0 or another number.
    """
    widths = {"token": 16, "written": 4, "unread": 4, "apart": 4, "answer": 16, "empty": 20}
    model, at = _blank(16, 8, widths, sublayers="ss", n_heads=3, d_head=4)
    first, second = model.attention_sublayers()
    some = [slice(start, start + 4) for start in range(0, 16, 4)]  # directions of `token`
    for head in range(3):
        _match(first, head, some[0], some[1], torch.tensor([1.0, 1.0, 2.0, 1.0]))
        _move(first, head, some[2], at["written" if head == 1 else "unread"], WRITES.roll(head - 1).diag())
    ones = torch.ones(4)
    for head, (query, key, value, strengths) in enumerate(
        (
            (at["written"], some[0], some[1], (READS, ones)),
            (some[0], at["written"], some[1], (READS, ones)),
            (some[0], some[1], at["written"], (ones, READS)),
        )
    ):
        _match(second, head, query, key, strengths[0])
        _move(second, head, value, at["apart"], strengths[1].diag())
    return model


@torch.no_grad()
def virtual_head_model(vocab_size: int, context: int) -> Transformer:
    """L0H1 moves the previous token to `moved`, L1H0 moves `moved` of two tokens ago to the answer: V-composition.

    Neither says anything alone; together they predict t_{i+1} = t_{i−3}, and so sequences of period 4, exactly. Where
    a head finds no token that far back it takes position 0.
    """
    V, T = vocab_size, context
    model, at = _blank(
        V, T, {"token": V, "position": T, "moved": V, "answer": V}, sublayers="ss", n_heads=2, d_head=max(V, T)
    )
    first, second = model.attention_sublayers()
    _attend_back(first, 1, at["position"], 1)
    _move(first, 1, at["token"], at["moved"], torch.eye(V))
    _attend_back(second, 0, at["position"], 2)
    _move(second, 0, at["moved"], at["answer"], torch.eye(V))
    return model


def _blank(vocab_size: int, context: int, widths: dict[str, int], **options) -> tuple[Transformer, dict[str, slice]]:
    """A model whose attention layers are all zeros, and its subspaces by name."""
    at: dict[str, slice] = {}
    D = 0
    for name, width in widths.items():
        at[name] = slice(D, D + width)
        D += width
    positions = "learned" if "position" in at else "none"
    model = Transformer(
        ModelOptions(d_model=D, norm="none", positions=positions, biases=False, **options), vocab_size, context
    )
    for parameter in model.parameters():
        parameter.zero_()
    model.W_E[:, at["token"]] = torch.eye(vocab_size)
    model.W_U[at["answer"]] = CERTAIN * torch.eye(vocab_size)
    if positions == "learned":
        model.W_pos[:, at["position"]] = torch.eye(context)
    return model, at


def _attend_back(sublayer: Attention, head: int, position: slice, by: int) -> None:
    """Attend from i to i − by, and to position 0 where that does not exist."""
    T = position.stop - position.start
    sublayer.W_Q[position, head, :T] = SHARP * torch.eye(T)
    keys = torch.eye(T).roll(by, 1)  # the key of position j answers the query of j + by
    keys[:, :by] = 0
    keys[0, :by] = 1
    sublayer.W_K[position, head, :T] = keys


def _match(sublayer: Attention, head: int, query: slice, key: slice, strengths: Tensor) -> None:
    """W_QK with `strengths` as singular values: direction m of `query` asks for direction m of `key`."""
    width = len(strengths)
    sublayer.W_Q[query, head, :width] = strengths.diag()
    sublayer.W_K[key, head, :width] = torch.eye(width)


def _move(sublayer: Attention, head: int, source: slice, target: slice, matrix: Tensor) -> None:
    """W_OV that maps `source` to `target` by `matrix`."""
    width = len(matrix)
    sublayer.W_V[source, head, :width] = matrix
    sublayer.W_O[head, :width, target] = torch.eye(width)
