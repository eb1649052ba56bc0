"""What can be wrong with a corpus because of how it was asked for."""


class CorpusError(ValueError):
    """A corpus, tokenizer or probe that cannot be had as configured; one line naming key, value and what is allowed."""
