"use strict";
// What figures have in common: the token axis, linear or logarithmic, and the colours of the style sheet.

const axes = (() => {
  const SMALL = 11; // px
  const moments = Object.values(page.axes).flat().filter((tokens) => tokens > 0);
  const last = moments.reduce((most, tokens) => Math.max(most, tokens), 0) || page.planned || 1;
  const firstAfterStart = moments.reduce((least, tokens) => Math.min(least, tokens), last);
  // Step 0 has no place on a log axis; it is drawn apart, left of the first positive moment.
  const zeroAt = firstAfterStart / 2.5;
  const touch = matchMedia("(pointer: coarse)");

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function faded(name, alpha) {
    const [red, green, blue] = css(name).match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
    return `rgba(${red},${green},${blue},${alpha})`;
  }

  // Plotly reads a little markup in texts; names are shown as they are.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function tokensText(tokens) {
    for (const [size, unit] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
      if (tokens >= size * 0.9995) return `${Number((tokens / size).toPrecision(3))}${unit}`;
    }
    return String(Math.round(tokens));
  }

  const isLog = () => view.chosen.scale === "log";
  const place = (tokens) => (isLog() ? Math.max(tokens, zeroAt) : tokens);
  const toAxis = (tokens) => (isLog() ? Math.log10(place(tokens)) : tokens);
  const fromAxis = (value) => (isLog() ? 10 ** value : Math.max(0, value));

  function tokenRange(id) {
    const zoomed = view.chosen.zoom[id]?.x;
    if (zoomed) return zoomed.map(toAxis);
    return isLog() ? [Math.log10(zeroAt) - 0.06, Math.log10(last) + 0.05] : [-0.012 * last, 1.012 * last];
  }

  function logTicks([low, high], width) {
    const marks = [];
    const nice = high - low > Math.max(1, width / 140) ? [1] : high - low > 0.9 ? [1, 2, 5] : null;
    if (nice) {
      for (let decade = Math.floor(low); decade <= high; decade += 1) {
        for (const factor of nice) marks.push(factor * 10 ** decade);
      }
    } else {
      const span = 10 ** high - 10 ** low;
      const raw = span / 4;
      const size = 10 ** Math.floor(Math.log10(raw));
      const step = [1, 2, 5, 10].map((factor) => factor * size).find((candidate) => candidate >= raw);
      for (let tokens = Math.ceil(10 ** low / step) * step; tokens <= 10 ** high; tokens += step) marks.push(tokens);
    }
    const there = marks.filter((tokens) => tokens >= 0.99 * firstAfterStart);
    return { tickvals: [zeroAt, ...there], ticktext: ["0", ...there.map(tokensText)] };
  }

  function tokenAxis(id, width) {
    const range = tokenRange(id);
    const axis = { range, title: { text: "training tokens", standoff: 8, font: { size: 12 } }, ...frame() };
    if (!isLog()) return { ...axis, type: "linear", exponentformat: "B", nticks: Math.max(3, Math.floor(width / 70)) };
    return { ...axis, type: "log", tickmode: "array", ...logTicks(range, width) };
  }

  function frame() {
    return {
      gridcolor: css("--grid"),
      linecolor: css("--line"),
      zeroline: false,
      automargin: true,
      tickfont: { size: SMALL },
      ticks: "",
    };
  }

  function base() {
    return {
      font: { family: css("--font"), size: 12, color: css("--text-2") },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      showlegend: false,
      hovermode: "closest",
      dragmode: touch.matches ? false : "zoom",
      hoverlabel: {
        bgcolor: css("--surface-2"),
        bordercolor: css("--line"),
        font: { family: css("--font"), size: 12, color: css("--text") },
        namelength: -1,
      },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--text-3"), activecolor: css("--text") },
      margin: { l: 52, r: 14, t: 10, b: 44 },
    };
  }

  const titled = (text) => ({ text, standoff: 8, font: { size: 12 } });

  function colorbar(more) {
    return { thickness: 10, outlinewidth: 0, tickfont: { size: SMALL }, x: 1.01, xpad: 4, nticks: 5, ...more };
  }

  /** Colours around a value that means nothing. */
  const diverging = () => [[0, css("--cold")], [0.5, css("--middle")], [1, css("--warm")]];

  return {
    SMALL, base, colorbar, css, diverging, faded, firstAfterStart, frame, fromAxis, isLog, last, place, plain,
    titled, toAxis, tokenAxis, tokenRange, tokensText, touch, zeroAt,
  };
})();
