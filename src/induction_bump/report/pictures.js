"use strict";
// Figures of one snapshot: the grid of heads, their eigenvalues and path order, each as [traces, layout].

const pictures = (() => {
  const { SMALL, base, colorbar, css, diverging, faded, frame, plain, titled } = axes;
  const SPAN = 1.08; // of the axes of eigenvalue scores, which reach from −1 to 1

  function grid(figure, div) {
    const measure = measureOf(figure);
    const flat = measure.values[moments.shown(figure)];
    const rows = Array.from({ length: figure.layers }, (_, layer) =>
      flat.slice(layer * figure.heads, (layer + 1) * figure.heads),
    );
    const middle = measure.middle;
    const sizes = measure.values.flat().filter((value) => value !== null).map((value) => Math.abs(value - middle));
    const top = sizes.reduce((most, size) => Math.max(most, size), 0.05);
    const cell = (div.clientWidth - 110) / figure.heads;
    const trace = {
      type: "heatmap",
      x: Array.from({ length: figure.heads }, (_, head) => `H${head}`),
      y: rows.map((_, layer) => `L${layer}`),
      z: rows,
      zmin: measure.signed ? middle - top : 0,
      zmax: measure.signed ? middle + top : top,
      colorscale: measure.signed ? diverging() : "Cividis",
      xgap: 2,
      ygap: 2,
      texttemplate: cell > 30 ? (top >= 100 ? "%{z:.0f}" : "%{z:.2f}") : "",
      textfont: { size: SMALL },
      hoverongaps: false,
      hovertemplate: "%{y}%{x}: %{z:.3f}<extra></extra>",
      colorbar: colorbar(),
    };
    const axis = { ...frame(), showgrid: false, fixedrange: true, type: "category" };
    const layout = {
      ...base(),
      dragmode: false,
      margin: { l: 44, r: 66, t: 6, b: 44 },
      xaxis: { ...axis, title: titled("head") },
      yaxis: { ...axis, title: titled("layer") },
    };
    return [[trace], layout];
  }

  function measureOf(figure) {
    return figure.measures.find((one) => one.name === view.chosen.measure) || figure.measures[0];
  }

  // Eigenvalues

  // Names beside their points, moved down where they would lie on one another.
  function pointNames(points, width, height) {
    const canvas = document.createElement("canvas").getContext("2d");
    canvas.font = `${SMALL}px ${css("--font")}`;
    const scaled = (value, size) => ((value + SPAN) / (2 * SPAN)) * size;
    const ordered = points
      .map(({ name, x, y }) => ({ name, x, y, px: scaled(x, width), py: height - scaled(y, height) }))
      .sort((a, b) => a.py - b.py || b.px - a.px);
    const placed = ordered.map(({ px, py }) => ({ from: px - 7, size: 14, top: py }));
    return ordered.map(({ name, x, y, px, py }) => {
      const size = canvas.measureText(name).width + 4;
      const left = px + size + 14 > width;
      const from = left ? px - 12 - size : px + 12;
      const overlaps = (top) => placed.some((o) => from < o.from + o.size && o.from < from + size && Math.abs(o.top - top) < SMALL + 4);
      let top = py;
      while (overlaps(top)) top += 2;
      placed.push({ from, size, top });
      return {
        x,
        y,
        ax: left ? -12 : 12,
        ay: top - py,
        xanchor: left ? "right" : "left",
        text: plain(name),
        arrowhead: 0,
        arrowwidth: 1,
        arrowcolor: css("--text-3"),
        borderpad: 1,
        standoff: 5,
        font: { size: SMALL, color: css("--text") },
      };
    });
  }

  function scatter(figure, div) {
    const at = moments.shown(figure);
    const [x, y, colour] = [figure.x[at], figure.y[at], figure.colour[at]];
    const few = figure.names.length <= 16;
    const named = colour.map((value) => few || (value !== null && value >= figure.named_from));
    const coloured = colour.some((value) => value !== null);
    const trace = {
      type: "scatter",
      mode: "markers",
      x,
      y,
      customdata: figure.names.map((name, i) => [name, colour[i] === null ? "–" : colour[i].toFixed(2)]),
      cliponaxis: false,
      marker: {
        size: 11,
        color: coloured ? colour.map((value) => value ?? 0) : css("--series-0"),
        cmin: 0,
        cmax: figure.most,
        colorscale: "Cividis",
        line: { color: css("--text-3"), width: 1 },
        showscale: coloured,
        colorbar: colorbar({ title: { text: "prefix<br>matching", side: "top", font: { size: SMALL } } }),
      },
      hovertemplate:
        "%{customdata[0]}: copying %{x:.2f}, matching %{y:.2f}<br>prefix matching %{customdata[1]}<extra></extra>",
    };
    const axis = {
      ...frame(),
      fixedrange: true,
      range: [-SPAN, SPAN],
      tickvals: [-1, -0.5, 0, 0.5, 1],
      zeroline: true,
      zerolinecolor: css("--text-3"),
      zerolinewidth: 1,
    };
    const margin = { l: 52, r: div.clientWidth < 500 ? 66 : 80, t: 10, b: 46 };
    const points = figure.names.map((name, i) => ({ name, x: x[i], y: y[i] })).filter((one, i) => named[i] && one.x !== null);
    const inner = [div.clientWidth - margin.l - margin.r, div.clientHeight - margin.t - margin.b];
    const layout = {
      ...base(),
      dragmode: false,
      margin,
      annotations: pointNames(points, ...inner),
      xaxis: { ...axis, title: titled("copying eigenvalue (OV)") },
      yaxis: { ...axis, title: titled("QK eigenvalue (matching)") },
      shapes: [
        { type: "rect", x0: 0, x1: SPAN, y0: 0, y1: SPAN, fillcolor: faded("--event", 0.1), line: { width: 0 }, layer: "below" },
      ],
    };
    return [[trace], layout];
  }

  // Path order

  function bars(values, stderr, more) {
    const errors = stderr.map((value) => 2 * (value ?? 0));
    return { type: "bar", error: { type: "data", array: errors, thickness: 1, width: 2, color: css("--text-2") }, values, ...more };
  }

  // Heights of the bars by path and of the whole, and whether the bars by order stand beside or above them.
  function arranged(figure, width) {
    const rows = Math.max(0, ...figure.paths.map((single) => single.names.length));
    const beside = width >= 640;
    const tall = Math.max(230, rows * 27 + 72);
    return { beside, tall, total: rows && !beside ? 250 + tall : tall };
  }

  function paths(figure, div) {
    const at = moments.shown(figure);
    const single = figure.paths[at];
    const { beside, tall } = arranged(figure, div.clientWidth);
    const share = beside ? 0.3 : 200 / (250 + tall);
    const { error, values, ...byOrder } = bars(figure.loss[at], figure.loss_stderr[at], {
      x: figure.orders.map((order) => `order ≤ ${order}`),
      marker: { color: css("--series-6"), opacity: 0.75 },
      texttemplate: "%{y:.2f}",
      textposition: "inside",
      insidetextanchor: "end",
      textangle: 0,
      hovertemplate: "%{x}: %{y:.4f} nats<extra></extra>",
    });
    byOrder.x[0] = "direct";
    const traces = [{ ...byOrder, y: values, error_y: error }];
    const axis = { ...frame(), fixedrange: true, automargin: true };
    const layout = {
      ...base(),
      dragmode: false,
      barmode: "group",
      bargap: 0.25,
      margin: { l: 52, r: 16, t: 26, b: 44 },
      xaxis: { ...axis, type: "category", showgrid: false, domain: single && beside ? [0, share] : [0, 1], anchor: "y" },
      yaxis: { ...axis, rangemode: "tozero", domain: single && !beside ? [1 - share, 1] : [0, 1], anchor: "x", title: titled("loss (nats per token)") },
      annotations: [],
    };
    if (!single) return [traces, layout];
    const names = single.names.map(plain);
    for (const [key, label, color] of [["lost", "lost without it", "--series-1"], ["saved", "saved by it alone", "--series-0"]]) {
      const { error: error_x, values: x, ...bar } = bars(single[key], single[`${key}_stderr`], {
        orientation: "h",
        name: label,
        marker: { color: css(color) },
        xaxis: "x2",
        yaxis: "y2",
        hovertemplate: `%{y}, ${label}: %{x:.4f} nats<extra></extra>`,
      });
      traces.push({ ...bar, x, y: names, error_x });
    }
    const [low, high] = figure.ends;
    const pad = 0.06 * (high - low || 0.1);
    layout.xaxis2 = {
      ...axis,
      domain: beside ? [share + 0.16, 1] : [0, 1],
      anchor: "y2",
      range: [low - pad, high + pad],
      zeroline: true,
      zerolinecolor: css("--text-3"),
      title: titled("worth of a path (nats per token)"),
    };
    layout.yaxis2 = {
      ...axis,
      type: "category",
      showgrid: false,
      domain: beside ? [0, 1] : [0, 1 - share - 86 / (250 + tall)],
      anchor: "x2",
      autorange: "reversed",
    };
    layout.annotations.push({
      xref: "x2 domain",
      yref: "y2 domain",
      x: 0,
      y: 1,
      xanchor: "left",
      yanchor: "bottom",
      text: `<span style="color:${css("--series-1")}">■</span> lost without it  <span style="color:${css("--series-0")}">■</span> saved by it alone`,
      showarrow: false,
      font: { size: 12, color: css("--text-2") },
    });
    return [traces, layout];
  }

  const height = {
    grid: (figure) => Math.min(520, Math.max(150, figure.layers * 40 + 80)),
    paths: (figure, width) => arranged(figure, width).total,
  };
  return { draw: { grid, scatter, paths }, height, measureOf };
})();
