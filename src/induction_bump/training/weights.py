"""Weights of a snapshot on disk: the plain module's parameters in float32, as safetensors."""

import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from induction_bump.model.transformer import Transformer
from induction_bump.records.schema import RecordsError


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
    """Read them back. Raises RecordsError, in one line that names `path`, where they are damaged or another model's."""
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        # load_state_dict puts each parameter that does not fit on a line of its own, below a heading
        lines = str(error).strip().splitlines()
        raise RecordsError(f"{path}: {' '.join(line.strip() for line in lines[:2])}") from None
