"use strict";
(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const experiment = JSON.parse(one("#experiment").textContent);
  const [patchHeight, patchWidth] = experiment.patch;
  const [strideY, strideX] = experiment.stride;
  const [inputHeight, inputWidth] = experiment.input;
  const grid = one("#cards");
  const cards = all(".card");
  document.documentElement.classList.add("js");

  const spoken = (value) => {
    if (!Number.isFinite(value)) return "–";
    const text = Math.abs(value) >= 1e-3 || value === 0 ? value.toFixed(4) : value.toExponential(2);
    return text.replace("-", "−");
  };

  // The numbers behind the colors. Those of the last few maps are kept: a page may hold hundreds.
  const decoded = new Map();
  const cellsOf = (layer) => {
    let cells = decoded.get(layer);
    if (!cells) {
      const bytes = Uint8Array.from(atob(layer.dataset.cells), (character) => character.charCodeAt(0));
      const view = new DataView(bytes.buffer);
      cells = Float32Array.from({ length: bytes.length / 4 }, (_, index) => view.getFloat32(4 * index, true));
      decoded.set(layer, cells);
      if (decoded.size > 8) decoded.delete(decoded.keys().next().value);
    }
    return cells;
  };

  const shownLayer = (card) => one(".layer:not([hidden])", card);
  const size = (layer) => ({ rows: +layer.dataset.rows, cols: +layer.dataset.cols });
  const places = new WeakMap(); // card -> { row, col } of the patch, while it stands there

  const covered = (row, col) => {
    const y = row * strideY, x = col * strideX;
    const bottom = Math.min(y + patchHeight, inputHeight) - 1, right = Math.min(x + patchWidth, inputWidth) - 1;
    const from = (first, last) => (first === last ? `${first}` : `${first}–${last}`);
    return `y ${from(y, bottom)}, x ${from(x, right)}`;
  };

  const show = (card, row, col) => {
    const layer = shownLayer(card);
    const { cols } = size(layer);
    const [top, left, height, width] = card.dataset.window.split(",").map(Number);
    const drop = cellsOf(layer)[row * cols + col];
    places.set(card, { row, col });
    for (const patch of all(".patch", card)) {
      patch.removeAttribute("hidden");
      for (const rect of patch.children) {
        rect.setAttribute("x", left + (col * strideX * width) / inputWidth);
        rect.setAttribute("y", top + (row * strideY * height) / inputHeight);
        rect.setAttribute("width", (Math.min(patchWidth, inputWidth - col * strideX) * width) / inputWidth);
        rect.setAttribute("height", (Math.min(patchHeight, inputHeight - row * strideY) * height) / inputHeight);
      }
    }
    const known = Number.isFinite(drop);
    say(card, "score", known ? spoken(layer.dataset.base - drop) : "not computed");
    say(card, "drop", known ? spoken(drop) : "–", "drop");
    say(card, "place", covered(row, col));
  };

  const say = (card, what, text, heading) => {
    const place = one(`.readout .${what}`, card);
    place.textContent = text;
    if (heading) place.previousElementSibling.textContent = heading;
  };

  const rest = (card) => {
    const layer = shownLayer(card);
    const cells = cellsOf(layer);
    const top = largest(cells), { cols } = size(layer);
    places.delete(card);
    for (const patch of all(".patch", card)) patch.setAttribute("hidden", "");
    say(card, "score", spoken(+layer.dataset.base));
    say(card, "drop", top < 0 ? "–" : spoken(cells[top]), "largest drop");
    say(card, "place", top < 0 ? "–" : covered(Math.floor(top / cols), top % cols));
  };

  const largest = (cells) => {
    let best = -1;
    cells.forEach((drop, index) => { if (Number.isFinite(drop) && (best < 0 || drop > cells[best])) best = index; });
    return best;
  };

  const showLargest = (card) => {
    const layer = shownLayer(card);
    const index = largest(cellsOf(layer));
    if (index >= 0) show(card, Math.floor(index / size(layer).cols), index % size(layer).cols);
  };

  // Where the pointer is: picture pixels, then model input, then the patch whose middle is nearest.
  const under = (view, event) => {
    const card = view.closest(".card");
    const { rows, cols } = size(shownLayer(card));
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(view.getScreenCTM().inverse());
    const [top, left, height, width] = card.dataset.window.split(",").map(Number);
    const y = ((at.y - top) * inputHeight) / height, x = ((at.x - left) * inputWidth) / width;
    const inside = y >= 0 && x >= 0 && y < (rows - 1) * strideY + patchHeight && x < (cols - 1) * strideX + patchWidth;
    const nearest = (value, patch, stride, count) => Math.min(Math.max(Math.round((value - patch / 2) / stride), 0), count - 1);
    return inside ? { row: nearest(y, patchHeight, strideY, rows), col: nearest(x, patchWidth, strideX, cols) } : null;
  };

  grid.addEventListener("pointermove", (event) => {
    const view = event.target.closest(".view");
    if (!view) return;
    const found = under(view, event), card = view.closest(".card");
    if (found) show(card, found.row, found.col);
    else if (places.has(card)) rest(card);
  });
  grid.addEventListener("pointerout", (event) => {
    const panes = event.target.closest(".panes");
    if (panes && !panes.contains(event.relatedTarget) && document.activeElement !== one(".map", panes)) rest(panes.closest(".card"));
  });
  grid.addEventListener("focusin", (event) => {
    const card = event.target.closest(".card");
    if (event.target.matches(".map") && !places.has(card)) showLargest(card);
  });
  grid.addEventListener("focusout", (event) => {
    if (event.target.matches(".map")) rest(event.target.closest(".card"));
  });

  // Classes and size of a card
  grid.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const card = button.closest(".card");
    if (button.matches(".enlarge")) return enlarge(card);
    const buttons = all(".classes button", card), layers = all(".layer", card);
    buttons.forEach((other, index) => {
      other.setAttribute("aria-pressed", String(other === button));
      layers[index].toggleAttribute("hidden", other !== button);
    });
    const layer = shownLayer(card);
    one(".low", card).textContent = layer.dataset.low;
    one(".high", card).textContent = layer.dataset.high;
    one(".map", card).setAttribute("aria-label", `Heat map of ${layer.dataset.name} over ${one("h2", card).textContent}`);
    rest(card);
  });
  const enlarge = (card) => {
    const large = card.classList.toggle("large");
    one(".enlarge", card).setAttribute("aria-pressed", String(large));
    card.scrollIntoView({ block: "nearest" });
  };

  // Sort and filter
  const controls = Object.fromEntries(["find", "label", "least", "most", "sort", "opacity"].map((id) => [id, one(`#${id}`)]));
  const collator = new Intl.Collator(undefined, { numeric: true });
  const counts = new Map();
  for (const card of cards) counts.set(card.dataset.label, (counts.get(card.dataset.label) || 0) + 1);
  for (const [label, count] of [...counts].sort(([a], [b]) => collator.compare(a, b))) {
    controls.label.add(new Option(`${label} (${count})`, label));
  }

  const sort = () => {
    const [key, direction] = controls.sort.value.split("-");
    const sign = direction === "down" ? -1 : 1;
    const compare = key === "label" || key === "name"
      ? (a, b) => collator.compare(a.dataset[key], b.dataset[key])
      : (a, b) => a.dataset[key] - b.dataset[key];
    cards.sort((a, b) => sign * compare(a, b) || a.dataset.number - b.dataset.number);
    grid.append(...cards);
  };
  const percent = (input, otherwise) => (input.value === "" || Number.isNaN(+input.value) ? otherwise : +input.value);
  const filter = () => {
    const words = controls.find.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    const least = percent(controls.least, 0), most = percent(controls.most, 100);
    let shown = 0;
    for (const card of cards) {
      const { name, label, confidence } = card.dataset;
      const text = `${name} ${label}`.toLocaleLowerCase();
      const share = 100 * confidence;
      const fits = (!controls.label.value || label === controls.label.value)
        && !(share < least - 1e-9 || share > most + 1e-9) && words.every((word) => text.includes(word));
      card.toggleAttribute("hidden", !fits);
      shown += fits;
    }
    one("#count").textContent = shown === cards.length
      ? `${cards.length} image${cards.length === 1 ? "" : "s"}` : `${shown} of ${cards.length} images`;
    one("#nothing").toggleAttribute("hidden", shown > 0 || cards.length === 0);
  };
  const fade = () => {
    document.body.style.setProperty("--opacity", controls.opacity.value / 100);
    one("#opacity-value").textContent = `${controls.opacity.value} %`;
  };
  controls.sort.addEventListener("change", sort);
  controls.opacity.addEventListener("input", fade);
  for (const id of ["find", "label", "least", "most"]) controls[id].addEventListener("input", filter);
  one("#tools").addEventListener("submit", (event) => event.preventDefault());
  one("#clear").addEventListener("click", () => {
    const { find, label, least, most } = controls;
    [find.value, label.value, least.value, most.value] = ["", "", 0, 100];
    filter();
    find.focus();
  });

  // Keys
  const help = one("#help");
  one("#help-button").addEventListener("click", () => help.showModal());
  const step = (by) => {
    const shown = cards.filter((card) => !card.hasAttribute("hidden"));
    if (!shown.length) return;
    const now = shown.indexOf(document.activeElement.closest(".card"));
    const next = now < 0 ? 0 : Math.min(Math.max(now + by, 0), shown.length - 1);
    const map = one(".map", shown[next]);
    map.focus({ preventScroll: true });
    shown[next].scrollIntoView({ block: "nearest" });
  };
  const arrows = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const onMap = (event, map) => {
    const card = map.closest(".card");
    if (event.key === "Home") { showLargest(card); return true; }
    if (event.key === "Escape" && places.has(card)) { rest(card); return true; }
    if (!arrows[event.key]) return false;
    const { rows, cols } = size(shownLayer(card));
    const { row, col } = places.get(card) || { row: 0, col: 0 };
    const [down, right] = arrows[event.key].map((sign) => sign * (event.shiftKey ? 5 : 1));
    const clamp = (value, count) => Math.min(Math.max(value, 0), count - 1);
    show(card, clamp(row + down, rows), clamp(col + right, cols));
    return true;
  };
  const anywhere = {
    j: () => step(1),
    k: () => step(-1),
    e: () => { const card = document.activeElement.closest(".card"); if (card) enlarge(card); },
    "[": () => { controls.opacity.stepDown(2); fade(); },
    "]": () => { controls.opacity.stepUp(2); fade(); },
    "/": () => controls.find.focus(),
    "?": () => help.showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const map = event.target.closest(".map");
    if (map && onMap(event, map)) event.preventDefault();
    else if (Object.hasOwn(anywhere, event.key)) { event.preventDefault(); anywhere[event.key](); }
  });

  sort();
  filter();
  fade();
})();
