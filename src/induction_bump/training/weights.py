"""Weights of a snapshot on disk: the plain module's parameters in float32, as safetensors."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from induction_bump.model.transformer import Transformer


def save_weights(model: Transformer, path: Path) -> None:
    """Write every parameter under the name it has in the plain module."""
    tensors = {name: p.detach().to("cpu", torch.float32).contiguous() for name, p in model.named_parameters()}
    save_file(tensors, path)


def load_weights(model: Transformer, path: Path) -> None:
    """Read them back. Raises RuntimeError where names or shapes are not the model's."""
    model.load_state_dict(load_file(path))
