"""Weights of a snapshot on disk: the plain module's parameters in float32, as safetensors."""

import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from induction_bump.model.transformer import Transformer


def save_weights(model: Transformer, path: Path) -> None:
    """Write every parameter under its name in the plain module. Raises OSError where the disk does not take it."""
    tensors = {name: p.detach().to("cpu", torch.float32).contiguous() for name, p in model.named_parameters()}
    try:
        save_file(tensors, path)
    except SafetensorError as error:  # its I/O errors name the number in their text only
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(path)) from None


def load_weights(model: Transformer, path: Path) -> None:
    """Read them back. Raises RuntimeError where names or shapes are not the model's."""
    model.load_state_dict(load_file(path))
