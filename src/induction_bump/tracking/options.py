"""How records are mirrored to Weights & Biases."""

from typing import Literal

from induction_bump.options import Text, options


@options
class TrackingOptions:
    """Weights & Biases is a mirror: it can fail without harm to a run."""

    mode: Literal["auto", "offline", "online", "none"] = "auto"
    """`auto` is online where the user has logged in and offline elsewhere; `none` imports no wandb."""
    project: Text = "induction-bump"
    """W&B project."""
    entity: Text | None = None
    """W&B user or team; null takes the account's default."""
    tags: tuple[str, ...] = ()
    """W&B tags."""
