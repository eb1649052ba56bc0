"""Train small transformers, measure every head while they train, and locate the induction bump.

Importing this package loads nothing else; `induction_bump.records.load` is where most scripts start.
"""

__version__ = "0.1.0"
