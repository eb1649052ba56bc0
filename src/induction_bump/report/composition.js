"use strict";
// Composition of heads as a picture: a heat map a kind, heads that write across, heads that read up.

const composition = (() => {
  const { SMALL, base, colorbar, css, diverging, faded, frame, plain, titled } = axes;

  const signed = (value, digits) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;

  // The strongest pairs of a snapshot over all kinds: at most so many, and at least half as strong as the first.
  function strongest(figure, at, count) {
    const pairs = figure.kinds.flatMap((kind, panel) =>
      kind.values[at].flatMap((row, y) => row.map((value, x) => ({ panel, kind: kind.name, x, y, value }))),
    );
    const sorted = pairs.filter((pair) => pair.value !== null).sort((a, b) => b.value - a.value);
    return sorted.slice(0, count).filter((pair) => pair.value > 0 && pair.value >= sorted[0].value / 2);
  }

  function nameStrongest(figure, pairs) {
    const named = pairs.map(
      ({ kind, x, y, value }) => `${figure.writers[x]} → ${figure.readers[y]} by ${kind} (${signed(value / 1000, 2)})`,
    );
    const text = named.length ? `Outlined, the strongest at this snapshot: ${named.join(", ")}.` : "";
    document.getElementById(`${figure.id}-reading`).textContent = text;
  }

  // Names where cells have room for them, else layers in the middle of their heads.
  function headTicks(names, heads, room) {
    if (room > 34) return { tickvals: names.map((_, i) => i), ticktext: names };
    const layers = Array.from({ length: names.length / heads }, (_, i) => i);
    return {
      tickvals: layers.map((i) => i * heads + (heads - 1) / 2),
      ticktext: layers.map((i) => names[i * heads].replace(/H.*/, "")),
    };
  }

  // Outlines of the strongest pairs of a panel, with their names where the axes name layers only.
  function outlines(figure, pairs, suffix, named) {
    const refs = { xref: `x${suffix}`, yref: `y${suffix}` };
    const shapes = pairs.map(({ x, y }) => ({
      type: "rect",
      ...refs,
      x0: x - 0.5,
      x1: x + 0.5,
      y0: y - 0.5,
      y1: y + 0.5,
      line: { color: css("--text"), width: 1.5 },
    }));
    const names = pairs.map(({ x, y }) => {
      const left = x > figure.writers.length / 2;
      const low = y > figure.readers.length / 2;
      return {
        ...refs,
        x: x + (left ? -0.5 : 0.5),
        y: y + (low ? -0.5 : 0.5),
        xanchor: left ? "right" : "left",
        yanchor: low ? "top" : "bottom",
        text: plain(`${figure.writers[x]} → ${figure.readers[y]}`),
        showarrow: false,
        bgcolor: faded("--surface", 0.85),
        borderpad: 1,
        font: { size: SMALL, color: css("--text") },
      };
    });
    return [shapes, named ? names : []];
  }

  function separators(figure, suffix) {
    const line = { color: css("--line"), width: 1 };
    const edges = (names) => names.map((_, i) => i).filter((i) => i && i % figure.heads === 0).map((i) => i - 0.5);
    const [width, height] = [figure.writers.length - 0.5, figure.readers.length - 0.5];
    const refs = { type: "line", xref: `x${suffix}`, yref: `y${suffix}`, line };
    return [
      ...edges(figure.writers).map((x) => ({ ...refs, x0: x, x1: x, y0: -0.5, y1: height })),
      ...edges(figure.readers).map((y) => ({ ...refs, x0: -0.5, x1: width, y0: y, y1: y })),
    ];
  }

  // Panels beside each other where there is room, else below each other; all in px.
  function arranged(figure, across) {
    const panels = figure.kinds.length;
    const beside = across >= 700;
    const margin = { l: 50, r: 62, t: 26, b: 46 };
    const gap = beside ? 34 : 60;
    const inner = across - margin.l - margin.r;
    const width = beside ? (inner - gap * (panels - 1)) / panels : inner;
    const height = Math.round(Math.min(width, Math.max(130, figure.readers.length * (beside ? 40 : 26))));
    const size = beside ? width : height;
    const whole = size * panels + gap * (panels - 1);
    /** Share of the figure that a panel takes, counted from the left or from below. */
    const domain = (panel) => {
      const from = (beside ? panel : panels - 1 - panel) * (size + gap);
      return [from / whole, (from + size) / whole];
    };
    return { beside, margin, width, height, domain, total: margin.t + margin.b + (beside ? height : whole) };
  }

  function draw(figure, div) {
    const { beside, margin, width, height, domain } = arranged(figure, div.clientWidth);
    const at = moments.shown(figure);
    const best = strongest(figure, at, 5);
    nameStrongest(figure, best);
    const cell = width / figure.writers.length;
    const blank = figure.writers.map(() => null);
    const layout = {
      ...base(),
      margin,
      dragmode: false,
      coloraxis: {
        cmin: -figure.range,
        cmax: figure.range,
        colorscale: diverging(),
        colorbar: colorbar({ len: 1, tickformat: ".2~f" }),
      },
      shapes: [],
      annotations: [],
    };
    const traces = figure.kinds.map((kind, panel) => {
      const suffix = panel ? String(panel + 1) : "";
      const spot = domain(panel);
      const axis = { ...frame(), showgrid: false, fixedrange: true, automargin: false };
      layout[`xaxis${suffix}`] = {
        ...axis,
        ...headTicks(figure.writers, figure.heads, cell),
        anchor: `y${suffix}`,
        domain: beside ? spot : [0, 1],
        range: [-0.5, figure.writers.length - 0.5],
        tickangle: 0,
        title: beside || panel === figure.kinds.length - 1 ? titled("earlier head, writes") : undefined,
      };
      layout[`yaxis${suffix}`] = {
        ...axis,
        ...headTicks(figure.readers, figure.heads, height / figure.readers.length + 16),
        anchor: `x${suffix}`,
        domain: beside ? [0, 1] : spot,
        range: [-0.5, figure.readers.length - 0.5],
        showticklabels: !beside || panel === 0,
        title: panel === 0 ? titled("later head, reads") : undefined,
      };
      layout.annotations.push({
        xref: `x${suffix} domain`,
        yref: `y${suffix} domain`,
        x: 0,
        y: 1,
        xanchor: "left",
        yanchor: "bottom",
        text: `<b>${plain(kind.name)}</b> · ${plain(kind.reads)}`,
        showarrow: false,
        font: { size: 12, color: css("--text-2") },
      });
      const here = best.filter((pair) => pair.panel === panel);
      const [frames, names] = outlines(figure, here, suffix, cell <= 34);
      layout.shapes.push(...separators(figure, suffix), ...frames);
      layout.annotations.push(...names);
      return {
        type: "heatmap",
        xaxis: `x${suffix}`,
        yaxis: `y${suffix}`,
        z: kind.values[at].map((row) => [...row.map((value) => (value === null ? null : value / 1000)), ...blank.slice(row.length)]),
        text: figure.readers.map((reader) => figure.writers.map((writer) => `${writer} → ${reader}`)),
        coloraxis: "coloraxis",
        xgap: cell > 12 ? 2 : 0,
        ygap: cell > 12 ? 2 : 0,
        texttemplate: cell > 40 ? "%{z:.2f}" : "",
        textfont: { size: SMALL },
        hoverongaps: false,
        hovertemplate: `%{text} by ${kind.name}: %{z:+.3f}<br>above ${kind.baseline.toFixed(3)} of random factors<extra></extra>`,
      };
    });
    return [traces, layout];
  }

  return { draw, height: (figure, width) => arranged(figure, width).total };
})();
