"use strict";
// The page's data, and what its reader has chosen: kept in the tab across reloads, also from file://.

const page = JSON.parse(document.getElementById("page-data").textContent);

const view = (() => {
  const key = `induction-bump:${page.id}`;
  const fresh = {
    scale: "linear", // or "log"
    hidden: [], // keys of legend entries that are switched off
    zoom: {}, // by figure: {x: [low, high] in tokens, y: [low, high]}
    step: null, // snapshot that the figures of one snapshot show; null follows the latest
    measure: null,
    sort: { key: null, descending: true }, // of the table of heads
    more: false, // whether the table shows its optional columns
    scrolls: {}, // by id of what is scrolled inside the page: [left, top]
    mode: "loss", // of the loss by position; or "relative"
    scroll: 0,
    focus: null,
  };

  function stored() {
    try {
      const text = sessionStorage.getItem(key);
      if (text) return JSON.parse(text);
    } catch {
      // Storage may be forbidden; the window's name is not.
    }
    try {
      return JSON.parse(window.name)[key] || {};
    } catch {
      return {};
    }
  }

  function save() {
    const text = JSON.stringify(chosen);
    try {
      sessionStorage.setItem(key, text);
    } catch {
      window.name = JSON.stringify({ [key]: chosen });
    }
  }

  const chosen = { ...fresh, ...stored() };
  return {
    chosen,
    save,
    /** Change choices and keep them. */
    set(changes) {
      Object.assign(chosen, changes);
      save();
    },
    isHidden: (entry) => chosen.hidden.includes(entry),
    toggle(entry) {
      const hidden = chosen.hidden.includes(entry)
        ? chosen.hidden.filter((other) => other !== entry)
        : [...chosen.hidden, entry];
      this.set({ hidden });
    },
    /** Show one of `entries` alone, or all of them where it is alone already. */
    isolate(entry, entries) {
      const others = entries.filter((other) => other !== entry);
      const alone = others.every((other) => chosen.hidden.includes(other));
      const outside = chosen.hidden.filter((other) => !entries.includes(other));
      this.set({ hidden: alone ? outside : [...outside, ...others] });
    },
  };
})();
