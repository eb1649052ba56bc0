"use strict";
// The table of all heads: built from its columns, sorted by a heading, redrawn with the snapshot.

const table = (() => {
  const made = (tag, values = {}) => Object.assign(document.createElement(tag), values);
  const MOST_SHADE = 38; // per cent of the colour behind the largest value
  const holderOf = (figure) => document.getElementById(`plot-${figure.id}`);

  function shownColumns(figure) {
    return figure.columns.filter((column) => view.chosen.more || !column.optional);
  }

  // The column and direction in force; where a stored one is gone or hidden, the first.
  function sorting(figure) {
    const columns = shownColumns(figure);
    const { key, descending } = view.chosen.sort;
    if (key === "head") return { key, descending };
    const column = columns.find((one) => one.key === key);
    return column ? { key, descending } : { key: columns[0]?.key ?? "head", descending: true };
  }

  function number(value, decimals) {
    const text = value.toFixed(decimals);
    return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
  }

  function order(figure, at) {
    const { key, descending } = sorting(figure);
    const heads = figure.heads.map((_, i) => i);
    if (key === "head") return descending ? heads.reverse() : heads;
    const values = figure.columns.find((column) => column.key === key).values[at];
    // Heads without a value stay at the foot, whichever way the others run.
    return heads.sort((a, b) => {
      if (values[a] === null || values[b] === null) return (values[a] === null) - (values[b] === null) || a - b;
      return (descending ? values[b] - values[a] : values[a] - values[b]) || a - b;
    });
  }

  function heading(figure, key, label, unit, about) {
    const cell = made("th", { scope: "col" });
    cell.dataset.key = key;
    const button = made("button", { type: "button", title: about, id: `${figure.id}-by-${key}` });
    button.append(made("span", { textContent: label }));
    if (unit) button.append(made("small", { textContent: unit }));
    button.addEventListener("click", () => {
      const now = sorting(figure);
      // Names run upwards first, numbers downwards.
      const descending = now.key === key ? !now.descending : key !== "head";
      view.set({ sort: { key, descending } });
      draw(figure);
    });
    cell.append(button);
    return cell;
  }

  function head(figure, holder) {
    const columns = shownColumns(figure);
    const wanted = columns.map((column) => column.key).join(" ");
    if (holder.dataset.columns === wanted) return;
    holder.dataset.columns = wanted;
    const line = made("tr");
    line.append(heading(figure, "head", "head", "", "The head's layer and number"));
    for (const { key, label, unit, about } of columns) line.append(heading(figure, key, label, unit, about));
    holder.querySelector("thead").replaceChildren(line);
  }

  function cell(column, at, place) {
    const value = column.values[at][place];
    if (value === null) return made("td", { textContent: "–", className: "absent" });
    const stderr = column.stderr?.[at][place] ?? null;
    const text = number(value, column.decimals);
    const before = column.texts ? `${column.texts[at][place]} ` : "";
    const error = stderr === null ? "" : ` ± ${number(stderr, Math.max(column.decimals, 4))} (standard error)`;
    const filled = made("td", { title: `${column.label}: ${before}${number(value, column.decimals + 1)}${error} ${column.unit}`.trim() });
    filled.classList.toggle("pale", stderr !== null && column.key.includes(".") && Math.abs(value) < 2 * stderr);
    if (before) filled.append(made("span", { className: "partner", textContent: before }));
    filled.append(text);
    const away = value - column.middle;
    const shade = column.most ? Math.round((MOST_SHADE * Math.abs(away)) / column.most) : 0;
    if (shade) {
      const colour = column.signed ? (away < 0 ? "--cold" : "--warm") : "--accent";
      filled.style.backgroundColor = `color-mix(in srgb, var(${colour}) ${Math.min(MOST_SHADE, shade)}%, transparent)`;
    }
    return filled;
  }

  function lacking(figure, at) {
    const empty = shownColumns(figure).filter((column) => column.values[at].every((value) => value === null));
    const reading = document.getElementById(`${figure.id}-reading`);
    reading.textContent = empty.length
      ? `Not measured at this snapshot: ${empty.map((column) => column.label).join("; ")}.`
      : "";
  }

  function draw(figure) {
    const holder = holderOf(figure);
    const at = moments.shown(figure);
    const columns = shownColumns(figure);
    head(figure, holder);
    const now = sorting(figure);
    for (const cell of holder.querySelectorAll("thead th")) {
      const sorted = cell.dataset.key === now.key;
      if (sorted) cell.setAttribute("aria-sort", now.descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    const lines = order(figure, at).map((place) => {
      const line = made("tr");
      line.append(made("th", { scope: "row", textContent: figure.heads[place] }));
      line.append(...columns.map((column) => cell(column, at, place)));
      return line;
    });
    holder.querySelector("tbody").replaceChildren(...lines);
    lacking(figure, at);
  }

  /** Make the switch for further columns work. */
  function wire(figure) {
    const more = document.getElementById(`${figure.id}-more`);
    if (!more) return;
    more.checked = view.chosen.more;
    more.addEventListener("change", () => {
      view.set({ more: more.checked });
      draw(figure);
    });
  }

  return { draw, wire };
})();
