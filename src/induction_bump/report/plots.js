"use strict";
// Drawing: figure specs (see figures.py) become Plotly figures.

const plots = (() => {
  const { SMALL, base, colorbar, css, diverging, faded, firstAfterStart, frame, fromAxis, isLog, last, place } = axes;
  const { plain, titled, toAxis, tokenAxis, tokenRange, tokensText, touch, zeroAt } = axes;
  const ROW = 15; // height of a row of event labels, px
  const ALONE = 2; // measurements that are not joined: a line between two would tell of a way that nobody has seen
  const MARKED = 8; // measurements up to which each is marked on its line
  const canvas = document.createElement("canvas").getContext("2d");

  // Labels start at their column and lie above those of later columns that they would cover: a column's stem then
  // never runs through another's label. In the right half of the figure all is mirrored.
  function stackLabels(marks, width) {
    const mirrored = marks.length > 0 && marks.reduce((sum, mark) => sum + mark.at, 0) / marks.length > width * 0.55;
    canvas.font = `600 ${SMALL}px ${css("--font")}`;
    const ordered = [...marks].sort((a, b) => (mirrored ? a.at - b.at : b.at - a.at));
    const widthOf = (text) => canvas.measureText(text).width + 8;
    ordered.forEach((mark, i) => {
      const whole = mark.labels.join(" · ");
      const room = mirrored ? mark.at : width - mark.at;
      // Names of events that share a column stand below each other where a line has no room for them.
      mark.lines = widthOf(whole) <= room ? [whole] : mark.labels;
      mark.width = Math.max(...mark.lines.map(widthOf));
      mark.mirrored = mirrored;
      const gap = (other) => (mirrored ? mark.at - other.to : other.from - mark.at);
      const covered = ordered.slice(0, i).filter((other) => gap(other) < mark.width);
      mark.row = covered.reduce((row, other) => Math.max(row, other.row + other.lines.length), 0);
    });
    return ordered;
  }

  function eventMarks(id, width) {
    const [low, high] = tokenRange(id);
    const groups = new Map();
    for (const event of page.events) {
      const key = `${event.low}-${event.high}`;
      const group = groups.get(key) || { low: event.low, high: event.high, labels: [], titles: [] };
      group.labels.push(event.label);
      group.titles.push(event.title);
      groups.set(key, group);
    }
    const scaled = (tokens) => ((toAxis(tokens) - low) / (high - low)) * width;
    const seen = [...groups.values()]
      .map((mark) => ({ ...mark, from: scaled(mark.low), to: scaled(mark.high) }))
      .filter((mark) => mark.to > 0 && mark.from < width)
      .map((mark) => ({ ...mark, at: Math.min(width, Math.max(0, (mark.from + mark.to) / 2)) }));
    return stackLabels(seen, width);
  }

  // Columns of located events, with their labels in rows above the plot.
  function eventLayout(id, div, onTop) {
    const margin = base().margin;
    const width = Math.max(40, div.clientWidth - margin.l - margin.r - (onTop ? 60 : 0));
    const marks = eventMarks(id, width);
    const rows = marks.reduce((most, mark) => Math.max(most, mark.row + mark.lines.length), 0);
    const top = margin.t + rows * ROW;
    const height = Math.max(40, div.clientHeight - top - margin.b);
    const shapes = marks.map((mark) => ({
      type: "rect",
      xref: "x",
      yref: "paper",
      x0: place(mark.low),
      x1: place(mark.high),
      y0: 0,
      y1: 1 + (mark.row * ROW + 1) / height,
      fillcolor: faded("--event", onTop ? 0.12 : 0.16),
      line: { color: faded("--event", onTop ? 0.9 : 0.55), width: 1 },
      layer: onTop ? "above" : "below",
    }));
    const annotations = marks.map((mark) => ({
      xref: "paper",
      yref: "paper",
      x: mark.at / width,
      y: 1 + (mark.row * ROW + 1) / height,
      xanchor: mark.mirrored ? "right" : "left",
      yanchor: "bottom",
      text: mark.lines.map(plain).join("<br>"),
      align: mark.mirrored ? "right" : "left",
      hovertext: `${plain(mark.titles.join(", "))}: ${tokensText(mark.low)} – ${tokensText(mark.high)} tokens`,
      showarrow: false,
      font: { size: SMALL, weight: 600, color: css("--event-text") },
      borderpad: 0,
    }));
    return { shapes, annotations, width, margin: { ...margin, t: top } };
  }

  function levelLines(lines) {
    return lines.map((line, i) => ({
      type: "line",
      xref: "paper",
      x0: 0,
      x1: 1,
      y0: line.y,
      y1: line.y,
      line: { color: css("--text-3"), width: 1.2, dash: line.dash },
      label: {
        text: line.label,
        textposition: i % 2 ? "start" : "end",
        yanchor: i === lines.length - 1 ? "top" : "bottom",
        padding: 2,
        font: { size: 10, color: css("--text-2") },
      },
    }));
  }

  // A column a run; where runs are many, only marks at the foot.
  function intervals(figure) {
    const shown = (figure.intervals || []).filter((one) => !view.isHidden(one.key));
    const few = shown.length <= 6;
    return shown.map((one) => ({
      type: "rect",
      xref: "x",
      yref: "paper",
      x0: place(one.low),
      x1: place(one.high),
      y0: 0,
      y1: few ? 1 : 0.05,
      fillcolor: faded(one.color, few ? 0.13 : 0.5),
      line: { color: faded(one.color, few ? 0.45 : 0.8), width: 1 },
      layer: "below",
    }));
  }

  // Lower and upper edge of a curve's band.
  function edges(trace) {
    if (trace.between) return trace.between;
    if (!trace.band) return [null, null];
    const edge = (sign) => trace.y.map((y, i) => (y === null || trace.band[i] === null ? null : y + sign * trace.band[i]));
    return [edge(-1), edge(1)];
  }

  function lineTraces(trace) {
    const tokens = page.axes[trace.x];
    const x = tokens.map(place);
    const visible = !view.isHidden(trace.legendgroup);
    const known = trace.y.map((_, i) => i).filter((i) => trace.y[i] !== null);
    const lonely = known.some((i) => (trace.y[i - 1] ?? null) === null && (trace.y[i + 1] ?? null) === null);
    const alone = known.length <= ALONE;
    const marked = alone || lonely || known.length <= MARKED;
    const line = {
      ...trace,
      x,
      visible,
      name: plain(trace.name),
      line: { ...trace.line, color: css(trace.line.color) },
      mode: alone ? "markers" : marked ? "lines+markers" : "lines",
      cliponaxis: !alone, // a mark at the end is seen whole
      marker: { color: css(trace.line.color), size: alone ? 7 : 5 },
      opacity: trace.line.color === "--quiet" && trace.legendgroup !== "training" ? 0.55 : 1,
      customdata: tokens.map(tokensText),
      hovertemplate: `%{y:.4~g}${trace.text ? " (%{text})" : ""} at %{customdata} tokens<extra>%{fullData.name}</extra>`,
    };
    delete line.band;
    delete line.between;
    const [lower, upper] = edges(trace);
    if (!lower) return [line];
    if (alone) return [{ ...line, error_y: bar(trace, lower, upper) }];
    const inside = x.map((_, i) => i).filter((i) => lower[i] !== null);
    const band = {
      type: "scatter",
      mode: "lines",
      x: [...inside.map((i) => x[i]), ...[...inside].reverse().map((i) => x[i])],
      y: [...inside.map((i) => upper[i]), ...[...inside].reverse().map((i) => lower[i])],
      visible,
      legendgroup: trace.legendgroup,
      fill: "toself",
      fillcolor: faded(trace.line.color, 0.2),
      line: { width: 0 },
      hoverinfo: "skip",
    };
    return [band, line];
  }

  // From the lower to the upper edge of a band, where there is no room for one.
  function bar(trace, lower, upper) {
    const away = (edge) => trace.y.map((y, i) => (y === null || edge[i] === null ? 0 : Math.abs(edge[i] - y)));
    const color = css(trace.line.color);
    return { type: "data", symmetric: false, array: away(upper), arrayminus: away(lower), color, thickness: 1.5, width: 4 };
  }

  function drawTime(figure, div) {
    const { shapes, annotations, width, margin } = eventLayout(figure.id, div, false);
    const zoomed = view.chosen.zoom[figure.id]?.y;
    const layout = {
      ...base(),
      margin,
      xaxis: tokenAxis(figure.id, width),
      yaxis: { ...frame(), title: titled(figure.y), ...(zoomed ? { range: zoomed } : { autorange: true }) },
      shapes: [...shapes, ...intervals(figure), ...levelLines(figure.lines || []), ...breakLine()],
      annotations,
    };
    return [figure.traces.flatMap(lineTraces), layout];
  }

  // Left of this line of a log axis lies step 0, which is not to scale.
  function breakLine() {
    if (!isLog()) return [];
    const x = Math.sqrt(zeroAt * firstAfterStart);
    return [
      { type: "line", xref: "x", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line: { color: css("--line"), width: 1, dash: "dot" } },
    ];
  }

  // Edges of the columns of a field: half-way between snapshots on the axis as it is drawn.
  function columnEdges(tokens) {
    const at = tokens.map(toAxis);
    const halves = at.slice(1).map((value, i) => (value + at[i]) / 2);
    const lastHalf = at.length > 1 ? (at.at(-1) - at.at(-2)) / 2 : isLog() ? 0.2 : last / 50;
    const firstHalf = isLog() ? (at.length > 1 ? (at[1] - at[0]) / 2 : 0.2) : 0;
    return [at[0] - firstHalf, ...halves, at.at(-1) + lastHalf].map((value) => (isLog() ? 10 ** value : value));
  }

  function drawField(figure, div) {
    const tokens = page.axes[figure.x];
    const relative = view.chosen.mode === "relative" && figure.relative_range !== null;
    const z = relative
      ? figure.z.map((row) => row.map((loss, i) => (loss === null ? null : loss - figure.reference[i])))
      : figure.z;
    const [low, high] = relative ? [-figure.relative_range, figure.relative_range] : figure.range;
    const shown = tokens.map(tokensText);
    const { shapes, annotations, width, margin } = eventLayout(figure.id, div, true);
    const trace = {
      type: "heatmap",
      x: columnEdges(tokens),
      y: figure.edges,
      z,
      zmin: low,
      zmax: high > low ? high : low + 1,
      colorscale: relative ? diverging() : "Cividis",
      customdata: z.map(() => shown),
      text: figure.labels.map((label) => tokens.map(() => label)),
      hovertemplate: `%{z:.3f} nats<br>position %{text}, %{customdata} tokens<extra></extra>`,
      colorbar: colorbar({ title: { text: "nats", side: "top", font: { size: SMALL } }, nticks: 6 }),
    };
    const zoomed = view.chosen.zoom[figure.id]?.y || [figure.edges[0], figure.edges.at(-1)];
    const layout = {
      ...base(),
      margin: { ...margin, r: margin.r + 60 },
      xaxis: { ...tokenAxis(figure.id, width), showgrid: false },
      yaxis: { ...frame(), showgrid: false, range: zoomed, title: titled("position in the window") },
      shapes,
      annotations,
    };
    return [[trace], layout];
  }

  const kinds = { time: drawTime, field: drawField, composition: composition.draw, ...pictures.draw };
  const heights = { composition: composition.height, ...pictures.height };
  const config = {
    displaylogo: false,
    doubleClick: false,
    responsive: false,
    displayModeBar: touch.matches ? false : "hover",
    modeBarButtons: [["toImage"]],
    locale: "en",
  };

  /** Give a figure the room it will need, so that the page does not move when it is drawn. */
  function size(figure) {
    if (figure.kind === "table") return table.draw(figure);
    const div = document.getElementById(`plot-${figure.id}`);
    const height = heights[figure.kind];
    if (height) div.style.height = `${height(figure, div.clientWidth)}px`;
  }

  function draw(figure) {
    size(figure);
    if (figure.kind === "table" || !window.Plotly) return; // all are drawn once it is there
    const div = document.getElementById(`plot-${figure.id}`);
    const [data, layout] = kinds[figure.kind](figure, div);
    const named = { filename: `${page.id} ${figure.id}`.replace(/[^\w.-]+/g, "-"), format: "png", scale: 2 };
    const before = div.data !== undefined;
    Plotly.react(div, data, { ...layout, width: div.clientWidth, height: div.clientHeight }, { ...config, toImageButtonOptions: named });
    if (!before) {
      div.on("plotly_relayout", (changes) => zoomed(figure, changes));
      div.on("plotly_doubleclick", () => resetZoom(figure));
    }
    const reset = document.querySelector(`#figure-${CSS.escape(figure.id)} .reset`);
    if (reset) reset.hidden = !view.chosen.zoom[figure.id];
  }

  function zoomed(figure, changes) {
    const zoom = { ...view.chosen.zoom[figure.id] };
    for (const [axis, key] of [["xaxis", "x"], ["yaxis", "y"]]) {
      if (!(`${axis}.range[0]` in changes)) continue;
      const range = [changes[`${axis}.range[0]`], changes[`${axis}.range[1]`]];
      zoom[key] = axis === "xaxis" ? range.map(fromAxis) : range;
    }
    if (!Object.keys(zoom).length) return;
    view.set({ zoom: { ...view.chosen.zoom, [figure.id]: zoom } });
    draw(figure);
  }

  function resetZoom(figure) {
    const { [figure.id]: _, ...zoom } = view.chosen.zoom;
    view.set({ zoom });
    draw(figure);
  }

  return { draw, resetZoom, size };
})();
