"""A model wired by hand: a previous-token head and an induction head that solve repeated sequences exactly."""

import torch

from induction_bump.model.options import ModelOptions
from induction_bump.model.transformer import Transformer

SHARP = 200.0
"""Factor on scores that makes the softmax a choice."""


def induction_model(vocab_size: int, context: int, n_heads: int = 2) -> Transformer:
    """Two layers without norms. L0H1 attends to the previous token, L1H0 is the induction head; the others do nothing.

    The residual stream holds, in this order: the token (V), the position (T), the previous token (V), the answer (V).
    """
    V, T = vocab_size, context
    D, K = 3 * V + T, max(V, T)
    options = ModelOptions(
        sublayers="ss", d_model=D, n_heads=n_heads, d_head=K, norm="none", positions="learned", biases=False
    )
    model = Transformer(options, V, T)
    token, position = slice(0, V), slice(V, V + T)
    previous, answer = slice(V + T, 2 * V + T), slice(2 * V + T, D)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.W_E[:, token] = torch.eye(V)
        model.W_pos[:, position] = torch.eye(T)
        first, second = model.attention_sublayers()
        first.W_Q[position, 1, :T] = SHARP * torch.eye(T)
        first.W_K[position, 1, 1:T] = torch.eye(T)[:, : T - 1]  # the key of position j answers the query of j + 1
        first.W_V[token, 1, :V] = torch.eye(V)
        first.W_O[1, :V, previous] = torch.eye(V)
        second.W_Q[token, 0, :V] = SHARP * torch.eye(V)
        second.W_K[previous, 0, :V] = torch.eye(V)
        second.W_V[token, 0, :V] = torch.eye(V)
        second.W_O[0, :V, answer] = torch.eye(V)
        model.W_U[answer] = 20.0 * torch.eye(V)
    return model
