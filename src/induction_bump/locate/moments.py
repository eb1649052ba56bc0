"""A moment of training: where events and changes lie."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Moment:
    """A snapshot on the axis of training."""

    step: int
    tokens: int
