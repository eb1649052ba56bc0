"use strict";
// The page's controls, legends, colour scheme and, where a run is going, its refresh.

(() => {
  const { chosen } = view;
  const byId = (id) => document.getElementById(id);
  const figures = page.figures.filter((figure) => byId(`plot-${figure.id}`));
  const drawAll = () => figures.forEach(plots.draw);
  let drawnAt = null; // when all figures stood, ms

  // Legends

  function swatch(entry) {
    const dash = { dash: "5 3", dot: "2 3", dashdot: "6 3 2 3" }[entry.dash] || "";
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 18 8");
    svg.setAttribute("aria-hidden", "true");
    const line = document.createElementNS(svg.namespaceURI, "line");
    const placed = { x1: 0, x2: 18, y1: 4, y2: 4, "stroke-dasharray": dash };
    for (const [name, value] of Object.entries(placed)) line.setAttribute(name, value);
    line.style.stroke = `var(${entry.color})`;
    svg.append(line);
    return svg;
  }

  function legend(figure) {
    const holder = document.querySelector(`#figure-${CSS.escape(figure.id)} .legend`);
    if (!holder) return;
    const keys = figure.legend.map((entry) => entry.key);
    for (const entry of figure.legend) {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.key = entry.key;
      button.title = "Click: show or hide. Double click: this one alone.";
      const label = document.createElement("span");
      label.textContent = entry.label;
      button.append(swatch(entry), label);
      if (entry.value) {
        const value = document.createElement("span");
        value.className = "value";
        value.textContent = entry.value;
        button.append(value);
      }
      button.addEventListener("click", () => {
        view.toggle(entry.key);
        refreshLegends([entry.key]);
      });
      button.addEventListener("dblclick", () => {
        view.isolate(entry.key, keys);
        refreshLegends(keys);
      });
      holder.append(button);
    }
  }

  function refreshLegends(changed) {
    for (const button of document.querySelectorAll(".legend button")) {
      button.setAttribute("aria-pressed", String(!view.isHidden(button.dataset.key)));
    }
    for (const figure of figures) {
      if (figure.legend?.some((entry) => changed.includes(entry.key))) plots.draw(figure);
    }
  }

  // Controls

  function wireScale() {
    for (const input of document.querySelectorAll("#scale input")) {
      input.id = `scale-${input.value}`;
      input.checked = input.value === chosen.scale;
      input.addEventListener("change", () => {
        view.set({ scale: input.value });
        figures.filter((figure) => !figure.steps).forEach(plots.draw);
      });
    }
  }

  function wireField() {
    const figure = figures.find((one) => one.kind === "field");
    const select = byId("field-mode");
    if (!figure || !select) return;
    select.value = chosen.mode;
    select.addEventListener("change", () => {
      view.set({ mode: select.value });
      plots.draw(figure);
    });
  }

  function wireGrid() {
    const figure = figures.find((one) => one.kind === "grid");
    if (!figure) return;
    const measure = byId("grid-measure");
    measure.value = pictures.measureOf(figure).name;
    measure.addEventListener("change", () => {
      view.set({ measure: measure.value });
      plots.draw(figure);
    });
  }

  function wireZoom() {
    for (const figure of figures) {
      const button = document.querySelector(`#figure-${CSS.escape(figure.id)} .reset`);
      button?.addEventListener("click", () => plots.resetZoom(figure));
    }
  }

  // Following the window

  function followWindow() {
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
    const printed = (on) => () => {
      document.documentElement.toggleAttribute("data-print", on);
      drawAll();
    };
    addEventListener("beforeprint", printed(true));
    addEventListener("afterprint", printed(false));
    let width = innerWidth;
    let pending;
    addEventListener("resize", () => {
      if (innerWidth === width) return; // a phone's address bar comes and goes
      width = innerWidth;
      clearTimeout(pending);
      pending = setTimeout(drawAll, 120);
    });
  }

  // A hash is whatever somebody put into an address: no selector, and perhaps no encoded text either.
  function addressed() {
    try {
      return byId(decodeURIComponent(location.hash.slice(1)));
    } catch {
      return null;
    }
  }

  function keepScroll() {
    history.scrollRestoration = "manual";
    const arrived = performance.getEntriesByType("navigation")[0];
    const inside = [...document.querySelectorAll(".scroll[id]")];
    if (arrived?.type === "reload") {
      scrollTo(0, chosen.scroll);
      for (const box of inside) box.scrollTo(...(chosen.scrolls[box.id] || [0, 0]));
    } else addressed()?.scrollIntoView();
    if (chosen.focus) byId(chosen.focus)?.focus({ preventScroll: true });
    const remember = () => {
      const scrolls = Object.fromEntries(inside.map((box) => [box.id, [box.scrollLeft, box.scrollTop]]));
      view.set({ scroll: scrollY, scrolls, focus: document.activeElement?.id || null });
    };
    let pending;
    const later = () => {
      clearTimeout(pending);
      pending = setTimeout(remember, 100);
    };
    // Scrolling inside the page does not bubble.
    addEventListener("scroll", later, { capture: true });
    addEventListener("pagehide", remember);
  }

  // Refreshing

  function showTime() {
    const time = byId("refreshed");
    const written = new Date(time.dateTime);
    const clock = written.toLocaleTimeString();
    const today = written.toDateString() === new Date().toDateString();
    time.textContent = today ? clock : `${written.toLocaleDateString()} ${clock}`;
    time.classList.toggle("stale", page.refresh !== null && Date.now() - written > 12000 * page.refresh);
  }

  function refresh() {
    showTime();
    if (page.refresh === null) return;
    let touched = 0;
    let held = false;
    for (const name of ["pointerdown", "keydown", "wheel", "touchmove"]) {
      addEventListener(name, () => (touched = Date.now()), { passive: true });
    }
    addEventListener("pointerdown", () => (held = true));
    for (const name of ["pointerup", "pointercancel"]) addEventListener(name, () => (held = false));
    setInterval(() => {
      showTime();
      const busy = drawnAt === null || held || document.hidden || Date.now() - touched < 1500;
      if (!busy && Date.now() - drawnAt >= 1000 * page.refresh) location.reload();
    }, 500);
  }

  // The figures that the reader looks at come first, each in a task of its own so that the page stays responsive.
  function drawInTurn() {
    const middle = innerHeight / 2;
    const away = (figure) => {
      const box = byId(`plot-${figure.id}`).getBoundingClientRect();
      return Math.abs((box.top + box.bottom) / 2 - middle);
    };
    const waiting = [...figures].sort((a, b) => away(a) - away(b));
    const next = () => {
      const figure = waiting.shift();
      if (!figure) {
        document.documentElement.dataset.drawn = "true";
        drawnAt = Date.now();
        return;
      }
      plots.draw(figure);
      setTimeout(next);
    };
    next();
  }

  figures.forEach(legend);
  refreshLegends([]);
  wireScale();
  wireField();
  wireGrid();
  moments.wire(figures, plots.draw);
  figures.filter((figure) => figure.kind === "table").forEach(table.wire);
  wireZoom();
  followWindow();
  figures.forEach(plots.size);
  keepScroll();
  library.then(drawInTurn, () => (byId("too-old").hidden = false));
  refresh();
})();
