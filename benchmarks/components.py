"""How often the search in principal components of token losses sees a change that is not there, and one that is.

    python -m benchmarks.components --out docs/locating

draws token losses of several kinds and searches them as `bump locate` searches a stretch of a run; writes
`components.csv`, a line a kind, with a 95 % Clopper–Pearson interval.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from benchmarks.in_processes import in_processes
from benchmarks.simulated_curves import Setting, random_of, times
from induction_bump.locate.curve import Array
from induction_bump.locate.further import search_components, strongest

TOKENS = 512
_FACTORS = 12
_CHUNK = 20


def random_walk(x: Array, random: np.random.Generator) -> Array:
    """S × TOKENS: the losses do a random walk in ln tokens along a few directions, and jitter."""
    steps = np.sqrt(np.diff(x, prepend=x[0]))[:, None] * random.standard_normal((len(x), _FACTORS))
    walked = 0.3 * np.cumsum(steps, axis=0) @ random.standard_normal((_FACTORS, TOKENS)) / np.sqrt(_FACTORS)
    return random.gamma(4.0, 1.0, TOKENS) + walked + 0.05 * random.standard_normal((len(x), TOKENS))


def power_laws(x: Array, random: np.random.Generator) -> Array:
    """Each token is learned by a power law of its own; jitter is partly common to all."""
    gone = random.gamma(2.0, 1.0, TOKENS) * np.exp(-random.uniform(0.0, 1.0, TOKENS) * (x - x[0])[:, None])
    jitter = 0.02 * random.standard_normal((len(x), 1)) * random.standard_normal(TOKENS)
    return 2.0 + gone + jitter + 0.05 * random.standard_normal((len(x), TOKENS))


def one_by_one(x: Array, random: np.random.Generator) -> Array:
    """Each token is learned within a fifth of an e-fold, at a time of its own: there is no time that they share."""
    when = random.uniform(x[0] - 1, x[-1] + 1, TOKENS)
    learned = 1 / (1 + np.exp(-(x[:, None] - when) / 0.05))
    return 4.0 - random.gamma(2.0, 0.5, TOKENS) * learned + 0.05 * random.standard_normal((len(x), TOKENS))


def together(x: Array, random: np.random.Generator) -> Array:
    """A tenth of the tokens of a random walk lose 2 nats over a third of an e-fold: a change that is to be found."""
    when = random.uniform(*np.quantile(x, [0.3, 0.7]))
    learned = np.clip((x - when) / 0.3 + 0.5, 0, 1)[:, None] * (random.random(TOKENS) < 0.1)
    return random_walk(x, random) - 2.0 * learned


KINDS: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "random walk": random_walk,
    "power laws": power_laws,
    "one by one": one_by_one,
    "together": together,
}


def found(job: tuple[str, int, int]) -> tuple[str, int, int]:
    """In how many of some draws of a kind a change is found: the kind, that, and how many there were."""
    name, first, last = job
    tokens = times(Setting())
    alarms = 0
    for number in range(first, last):
        random = random_of(name, number)
        losses = KINDS[name](np.log(tokens.astype(np.float64)), random)
        searches = search_components(losses, np.arange(1, len(tokens) + 1), tokens, random)
        alarms += strongest("components_further", list(searches)) is not None
    return name, alarms, last - first


def main() -> None:
    """Draw, search and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=1000, help="of each kind")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    jobs = [(name, i, min(i + _CHUNK, arguments.draws)) for i in range(0, arguments.draws, _CHUNK) for name in KINDS]
    counts = {name: np.zeros(2, np.int64) for name in KINDS}
    for name, alarms, n in in_processes(found, jobs, arguments.processes):
        counts[name] += (alarms, n)
        print(f"{name}: {counts[name][0]} of {counts[name][1]}", flush=True)
    rows: list[dict[str, Any]] = []
    for name, (alarms, n) in counts.items():
        interval = binomtest(int(alarms), int(n)).proportion_ci(method="exact")
        rows.append({"kind": name, "searches": n, "found": alarms, "share": alarms / n})
        rows[-1] |= {"low": interval.low, "high": interval.high}
    arguments.out.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).round(4).to_csv(arguments.out / "components.csv", index=False)


if __name__ == "__main__":
    main()
