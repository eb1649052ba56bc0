"""How many parameters a model has, without making it."""

from induction_bump.model.options import ModelOptions


def parameter_count(options: ModelOptions, vocab_size: int, context: int) -> int:
    """Closed formula for the number of trainable parameters."""
    D, H, K, M, V = options.d_model, options.n_heads, options.width_of_head, options.width_of_mlp, vocab_size
    bias = int(options.biases)
    norm = D * (options.norm != "none") + D * bias * (options.norm == "layernorm")
    attention = 4 * D * H * K + bias * (3 * H * K + D) + H * options.smeared_keys + norm
    feed_forward = 2 * D * M + bias * (M + D) + norm
    ends = V * D * (1 if options.tied else 2) + V * bias + norm + context * D * (options.positions == "learned")
    return ends + options.sublayers.count("s") * attention + options.sublayers.count("f") * feed_forward
