"use strict";
// Which snapshot the figures of one snapshot show. Their sliders move together, each over the snapshots it holds.

const moments = (() => {
  const byId = (id) => document.getElementById(id);

  /** Index of the snapshot that a figure shows: its latest, or the one nearest to what was chosen. */
  function shown(figure) {
    const { step } = view.chosen;
    const last = figure.steps.length - 1;
    if (step === null) return last;
    const away = figure.steps.map((other) => Math.abs(other - step));
    return away.indexOf(Math.min(...away));
  }

  function text(figure, at) {
    return `step ${figure.steps[at].toLocaleString("en")}, ${axes.tokensText(figure.tokens[at])} tokens`;
  }

  function show(figure) {
    const at = shown(figure);
    const slider = byId(`${figure.id}-snapshot`);
    byId(`${figure.id}-when`).textContent = text(figure, at);
    slider.value = at;
    slider.setAttribute("aria-valuetext", text(figure, at));
  }

  /** Make the sliders of the figures work; `draw` draws a figure. */
  function wire(figures, draw) {
    const sliding = figures.filter((figure) => figure.steps);
    let pending;
    for (const figure of sliding) {
      const slider = byId(`${figure.id}-snapshot`);
      slider.disabled = figure.steps.length < 2;
      slider.addEventListener("input", () => {
        const at = Number(slider.value);
        view.set({ step: at === figure.steps.length - 1 ? null : figure.steps[at] });
        sliding.forEach(show);
        draw(figure);
        // The figure in hand follows at once, the others when it comes to rest.
        clearTimeout(pending);
        pending = setTimeout(() => sliding.filter((other) => other !== figure).forEach(draw), 150);
      });
      show(figure);
    }
  }

  return { shown, wire };
})();
