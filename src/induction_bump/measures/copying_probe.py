"""The probe of `copying_logit`."""

from induction_bump.measures.probes import FEWEST_TOKENS, CopyingProbe, copying_probe

__all__ = ["FEWEST_TOKENS", "CopyingProbe", "copying_probe"]
