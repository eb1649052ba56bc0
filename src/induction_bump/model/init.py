"""The one place where parameters get their first values."""

import math

import torch
from torch import Tensor, nn

from induction_bump.model.options import ModelOptions

VERSION = 1
"""Of the distributions below: what is cached about untrained models is cached per version."""


@torch.no_grad()
def initialise(parameters: dict[str, Tensor], options: ModelOptions, seed: int) -> None:
    """Fill every parameter in place, from a generator of its own seeded with `seed`.

    | parameter | distribution |
    |---|---|
    | W_E (V×D), learned positions (T×D) | N(0, 1); N(0, 1/(4D)) where W_U is W_E transposed |
    | W_Q, W_K, W_V (D×H×K), W_in (D×M) | N(0, 1/D): unit-variance activations stay so |
    | W_O (H×K×D) | N(0, 1/(H·K·2L)), L sublayers: the sum of all writes keeps the scale of one |
    | W_out (M×D) | N(0, 1/(M·2L)) |
    | W_U (D×V) | N(0, 1/(4D)): logits start within about half a nat |
    | norm gains | 1 |
    | all biases | 0 |
    | smear α (H) | options.smear_init |

    The embedding is that large so that what a first layer writes does not drown the token's identity: with 0.02 the
    two-layer model of the `repeats` corpus did not form induction heads within 10M tokens, with 1 it does by 8M.

    Raises ValueError for a parameter that is not in this table.
    """
    generator = torch.Generator().manual_seed(seed)
    writes = max(1, 2 * len(options.sublayers))
    d_model, d_inner = options.d_model, options.n_heads * options.width_of_head
    embedding = 0.5 / math.sqrt(d_model) if options.tied else 1.0
    deviations = {
        "W_E": embedding,
        "W_pos": embedding,
        "W_Q": 1 / math.sqrt(d_model),
        "W_K": 1 / math.sqrt(d_model),
        "W_V": 1 / math.sqrt(d_model),
        "W_in": 1 / math.sqrt(d_model),
        "W_O": 1 / math.sqrt(d_inner * writes),
        "W_out": 1 / math.sqrt(options.width_of_mlp * writes),
        "W_U": 0.5 / math.sqrt(d_model),
    }
    constants = {"gain": 1.0, "alpha": options.smear_init}
    for path, parameter in parameters.items():
        name = path.rsplit(".", 1)[-1]
        if name in deviations:
            # drawn on the CPU in float32, so that every device starts from the same weights
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviations[name])
        elif name in constants:
            parameter.fill_(constants[name])
        elif name.startswith("b_") or name == "bias":
            parameter.zero_()
        else:
            raise ValueError(f"no initial distribution is defined for parameter {path}")


def decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay belongs on a parameter: on matrices that multiply activations and the token embedding."""
    return name.rsplit(".", 1)[-1].startswith("W_") and not name.endswith("W_pos") and parameter.ndim >= 2
