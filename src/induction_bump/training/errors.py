"""How training ends where it cannot go on."""


class LossNotFiniteError(RuntimeError):
    """Training cannot go on: the loss, its gradient or the model became NaN or infinite."""


class FirstRankFailedError(RuntimeError):
    """The first rank could not do its part; it says why."""
