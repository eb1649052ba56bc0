"use strict";
// Plotly lies in the page compressed: a third of its size. It is unpacked while the page's text can be read already.

/** Resolves once Plotly can be called; rejects in a browser that cannot unpack it. */
const library = (async () => {
  const packed = document.getElementById("plotly");
  const bytes = Uint8Array.from(atob(packed.textContent), (character) => character.charCodeAt(0));
  packed.remove();
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
})();
library.catch(() => {}); // told where figures are drawn, which comes to it later
