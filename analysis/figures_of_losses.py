"""What a run's losses say: against n-grams, by the induction rule, by position, token by token, and on copies."""

import notation
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from measured_run import QUIET, MeasuredRun, by, legend_below, line, name_line, panels, titled
from token_components import principal_components

from induction_bump.locate.formats import format_tokens

BLUE, RED, GREEN = notation.COLOURS[:3]
_COLUMNS = ["run_id", "step", "tokens", "name", "value", "stderr"]


def ngrams(run: MeasuredRun) -> tuple[Figure, pd.DataFrame]:
    """Loss, gaps to the unigram and the bigram model, divergence from the bigram model."""
    rows = run.read("scalars", name=["loss", "unigram_gap", "bigram_gap", "bigram_kl"])
    named = {name: own for (name,), own in by(rows, "name").items()}
    figure, ((loss, gaps, kl),) = panels(1, 3)
    line(loss, named["loss"], BLUE)
    titled(loss, "loss", "nats")
    line(gaps, named["unigram_gap"], RED, "unigram_gap", linewidth=3.5, alpha=0.5)  # often the same as the other
    line(gaps, named["bigram_gap"], BLUE, "bigram_gap")
    gaps.axhline(0, color=QUIET, lw=0.8)
    gaps.legend()
    titled(gaps, "n-gram loss minus model loss")
    line(kl, named["bigram_kl"], BLUE)
    kl.set_ylim(bottom=0)
    titled(kl, "bigram_kl")
    for axes in (loss, gaps, kl):
        run.time_axis(axes)
    return figure, rows[_COLUMNS]


def rule(run: MeasuredRun) -> tuple[Figure, pd.DataFrame]:
    """Losses and gains of the tokens that the induction rule gets right and wrong."""
    sides = ("predictable", "unpredictable")
    rows = run.read("scalars", name=[f"{side}_{part}" for side in sides for part in ("loss", "gain", "share")])
    named = {name: own for (name,), own in by(rows, "name").items()}
    figure, ((loss, gain),) = panels(1, 2)
    for side, colour in zip(sides, (BLUE, RED), strict=True):
        share = named[f"{side}_share"]["value"].iloc[-1]
        line(loss, named[f"{side}_loss"], colour, f"{side}, {share:.0%} of tokens")
        line(gain, named[f"{side}_gain"], colour)
    gain.axhline(0, color=QUIET, lw=0.8)
    titled(loss, "loss", "nats")
    titled(gain, "gain over the bigram model")
    for axes in (loss, gain):
        run.time_axis(axes)
    legend_below(figure, loss.get_lines())
    return figure, rows[_COLUMNS]


def icl(run: MeasuredRun) -> tuple[Figure, pd.DataFrame]:
    """In-context-learning scores, and the loss by position before and after the bump."""
    scores = run.read("scalars", name=["icl_score", "icl_window_score"])
    positions = run.read("positions").rename(columns={"loss": "value"})
    figure, ((over_time, by_position),) = panels(1, 2, 2.4)
    for ((name,), own), colour in zip(by(scores, "name").items(), (QUIET, BLUE), strict=True):
        line(over_time, own, colour, str(name))
    over_time.axhline(0, color=QUIET, lw=0.8)
    over_time.legend()
    titled(over_time, "in-context-learning scores", "nats")
    run.time_axis(over_time)
    shown = []
    moments = dict(zip(run.before_and_after(positions), ((QUIET, "before"), (BLUE, "after")), strict=True))
    for step, (colour, when) in moments.items():
        own = positions[positions["step"] == step]
        place = own.assign(tokens=own["position"])
        line(by_position, place, colour, f"{when} the bump" if run.bump else f"step {step}", linewidth=1.1)
        shown.append(own.assign(name="loss_by_position"))
    by_position.legend()
    by_position.set_xlabel("position k of the predicted token")
    titled(by_position, "loss by position")
    return figure, pd.concat([scores, *shown])[[*_COLUMNS, "position"]]


def token_losses(run: MeasuredRun) -> tuple[Figure, pd.DataFrame]:
    """Principal components of the token-loss vectors over training, and each example before and after the bump."""
    rows = run.read("tokens")
    wide = rows.pivot(index=["step", "tokens"], columns="example", values="loss")
    places, shares = principal_components(wide.to_numpy(float))
    first, second = places.T
    tokens = wide.index.get_level_values("tokens").to_numpy()
    figure, ((plane, examples),) = panels(1, 2, 2.9)
    inside = np.zeros(len(tokens), bool) if run.bump is None else (tokens >= run.bump[0]) & (tokens <= run.bump[1])
    if len(first) > notation.ALONE:
        plane.plot(first, second, color=QUIET, lw=0.8)
    plane.scatter(first[~inside], second[~inside], s=14, color=BLUE, zorder=3)
    plane.scatter(first[inside], second[inside], s=22, color=RED, zorder=3, label="during the bump")
    plane.margins(0.15)
    for end, side in ((0, "left"), (-1, "right")):
        name_line(plane, first[end], second[end], format_tokens(int(tokens[end])), BLUE, side)
    if inside.any():
        plane.legend()
    plane.set_xlabel(f"first component, {shares[0]:.0%} of the variance")
    titled(plane, "token-loss vectors over training", f"second, {shares[1]:.0%}")
    before, after = (wide.xs(step, level="step").iloc[0] for step in run.before_and_after(rows))
    most = float(max(before.max(), after.max()))
    examples.plot([0, most], [0, most], color=QUIET, lw=0.8)
    examples.scatter(before, after, s=8, color=BLUE, alpha=0.7, lw=0)
    examples.set_xlabel("loss before the bump (nats)" if run.bump else "loss at the start (nats)")
    titled(examples, "a token of each example", "loss at the end (nats)")
    components = pd.DataFrame({"first": first, "second": second}, index=wide.index).reset_index()
    parts = [components.melt(["step", "tokens"], var_name="name")]
    for step in run.before_and_after(rows):
        own = rows[rows["step"] == step].rename(columns={"loss": "value"})
        parts.append(own.assign(name="token_loss")[["step", "tokens", "name", "value", "example"]])
    return figure, pd.concat(parts).assign(run_id=run.run_id)[["run_id", *_COLUMNS[1:5], "example"]]


def copies(run: MeasuredRun) -> tuple[Figure, pd.DataFrame]:
    """Losses on the copies of a block, and the two advantages."""
    losses = {"first_copy_loss": QUIET, "shuffled_copy_loss": RED, "second_copy_loss": BLUE}
    advantages = {"copy_advantage": QUIET, "ordered_copy_advantage": BLUE}
    rows = run.read("scalars", name=[*losses, *advantages])
    named = {name: own for (name,), own in by(rows, "name").items()}
    figure, axes = panels(1, 2)
    for panel, lines in zip(axes[0], (losses, advantages), strict=True):
        for name, colour in lines.items():
            line(panel, named[name], colour, name)
        panel.legend()
        run.time_axis(panel)
    axes[0, 1].axhline(0, color=QUIET, lw=0.8)
    titled(axes[0, 0], "loss on repeated random tokens", "nats")
    titled(axes[0, 1], "what a copy saves")
    plt.setp(axes[0, 0], ylim=(0, None))
    return figure, rows[_COLUMNS]
