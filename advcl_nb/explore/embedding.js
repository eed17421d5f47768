// A map of many small images: drag to move it, turn the wheel to zoom, point at a dot to see its image, draw a loop
// around dots to select them. Python sends places and colours; the selection goes back as a list of row numbers.

const INK = "#333333", REACH = 12, HEIGHT = 440; // pixels: how near the pointer must be, how high the map is
const HELP = "Drag moves, the wheel zooms, Shift and drag selects. Keys: arrows, + and -, 0 shows all, " +
  "Enter selects what is in view, Escape nothing.";

function floats(view) {
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

function element(parent, kind, style, text = "") {
  const made = parent.appendChild(document.createElement(kind));
  made.style.cssText = style;
  made.textContent = text;
  return made;
}

function inside(loop, x, y) {
  let odd = false;
  for (let i = 0, j = loop.length - 1; i < loop.length; j = i++) {
    const [xi, yi] = loop[i], [xj, yj] = loop[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}

function render({ model, el }) {
  const bar = element(el, "div", "display:flex;gap:.5em;margin-bottom:4px");
  const box = element(el, "div", "position:relative;width:100%");
  const canvas = element(box, "canvas", `width:100%;height:${HEIGHT}px;border:1px solid #999;` +
    "box-sizing:border-box;background:#fff;touch-action:none");
  const tip = element(box, "div", `position:absolute;display:none;pointer-events:none;background:#fff;color:${INK};` +
    "border:1px solid #999;padding:4px;font:12px sans-serif;max-width:180px");
  const picture = element(tip, "canvas", "width:112px;height:112px;image-rendering:pixelated;display:block");
  const words = element(tip, "div", "");
  const legend = element(el, "div", "display:flex;flex-wrap:wrap;gap:.1em 1em;font-size:12px");
  element(el, "div", "font-size:12px;opacity:.75", HELP);
  const pen = canvas.getContext("2d"), sheet = new Image();
  let scale = 1, left = 0, top = 0, width = 1, selecting = false, loop = null, last = null, over = -1, due = 0;
  let points, moved, groups, chosen;

  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "Map of images. " + HELP);
  const modes = ["Move", "Select"].map((name, place) => {
    const button = element(bar, "button", "", name);
    button.onclick = () => { selecting = place === 1; press(); };
    return button;
  });
  element(bar, "button", "", "Show all").onclick = all;
  function press() {
    modes.forEach((button, place) => button.setAttribute("aria-pressed", selecting === (place === 1)));
    modes.forEach((button) => { button.style.fontWeight = button.ariaPressed === "true" ? "bold" : "normal"; });
  }

  const size = () => Math.min(width, HEIGHT) - 24; // pixels that the whole map takes unzoomed
  const x = (places, row) => left + places[2 * row] * size() * scale;
  const y = (places, row) => top + (1 - places[2 * row + 1]) * size() * scale;
  const copies = () => model.get("copies") && moved.length > 0;

  function read() {
    points = floats(model.get("points"));
    moved = floats(model.get("moved"));
    groups = new Uint8Array(model.get("groups").buffer, model.get("groups").byteOffset, model.get("groups").byteLength);
    chosen = new Set(model.get("value"));
    legend.replaceChildren();
    model.get("names").forEach((name, k) => {
      const item = element(legend, "span", "", " " + name);
      item.prepend(element(item, "span", `color:${model.get("colors")[k]}`, "\u25a0"));
    });
    draw();
  }

  function all() {
    [scale, left, top] = [1, (width - size()) / 2, 12];
    draw();
  }

  function zoom(factor, atX, atY) {
    factor = Math.min(Math.max(scale * factor, 0.5), 500) / scale;
    scale *= factor;
    left = atX - (atX - left) * factor;
    top = atY - (atY - top) * factor;
    draw();
  }

  function draw() { // at most once a frame
    due = due || requestAnimationFrame(() => { due = 0; paint(); });
  }

  function paint() {
    const dots = window.devicePixelRatio || 1;
    pen.setTransform(dots, 0, 0, dots, 0, 0);
    pen.clearRect(0, 0, width, HEIGHT);
    const side = Math.min(3 + Math.log2(Math.max(scale, 1)), 8);
    const rows = points.length / 2;
    if (copies()) arrows(rows);
    model.get("colors").forEach((color, k) => {
      pen.fillStyle = pen.strokeStyle = color;
      for (let row = 0; row < rows; row++) {
        if (groups[row] !== k) continue;
        pen.globalAlpha = chosen.size && !chosen.has(row) ? 0.15 : 0.85;
        pen.fillRect(x(points, row) - side / 2, y(points, row) - side / 2, side, side);
      }
    });
    pen.globalAlpha = 1;
    pen.strokeStyle = INK;
    if (over >= 0) pen.strokeRect(x(points, over) - side, y(points, over) - side, 2 * side, 2 * side);
    if (loop) {
      pen.beginPath();
      loop.forEach(([a, b]) => pen.lineTo(a, b));
      pen.setLineDash([4, 3]);
      pen.stroke();
      pen.setLineDash([]);
    }
    canvas.dataset.drawn = Number(canvas.dataset.drawn || 0) + 1; // for tests
  }

  function arrows(rows) { // from an image to its copy: two strokes in all, for a stroke each is slow
    pen.strokeStyle = INK;
    for (const faded of [false, true]) {
      pen.globalAlpha = faded ? 0.05 : 0.35;
      pen.beginPath();
      for (let row = 0; row < rows; row++) {
        if ((chosen.size > 0 && !chosen.has(row)) !== faded) continue;
        arrow(x(points, row), y(points, row), x(moved, row), y(moved, row));
      }
      pen.stroke();
    }
  }

  function arrow(a, b, c, d) {
    const turn = Math.atan2(d - b, c - a), head = Math.min(6, Math.hypot(c - a, d - b) / 2);
    pen.moveTo(a, b);
    pen.lineTo(c, d);
    for (const side of [-0.4, 0.4]) {
      pen.moveTo(c, d);
      pen.lineTo(c - head * Math.cos(turn + side), d - head * Math.sin(turn + side));
    }
  }

  function nearest(atX, atY) {
    let best = -1, least = REACH * REACH;
    for (const places of copies() ? [points, moved] : [points]) {
      for (let row = 0; row < places.length / 2; row++) {
        const far = (x(places, row) - atX) ** 2 + (y(places, row) - atY) ** 2;
        if (far < least) [best, least] = [row, far];
      }
    }
    return best;
  }

  function point(atX, atY) {
    const found = nearest(atX, atY);
    if (found !== over) {
      over = found;
      draw();
      if (over >= 0) show(over);
    }
    tip.style.display = over >= 0 ? "block" : "none";
    tip.style.left = (atX > width / 2 ? atX - 140 : atX + 16) + "px";
    tip.style.top = Math.max(Math.min(atY - 40, HEIGHT - 170), 0) + "px";
  }

  function show(row) {
    const [columns, w, h] = model.get("sheet_shape");
    [picture.width, picture.height] = [w, h];
    const shape = w > h ? [112, (112 * h) / w] : [(112 * w) / h, 112];
    [picture.style.width, picture.style.height] = shape.map((length) => length + "px");
    picture.getContext("2d").drawImage(sheet, (row % columns) * w, Math.floor(row / columns) * h, w, h, 0, 0, w, h);
    words.textContent = model.get("captions")[row];
    canvas.dataset.over = row;
  }

  function select(test) {
    const rows = [];
    for (let row = 0; row < points.length / 2; row++) if (test(x(points, row), y(points, row))) rows.push(row);
    model.set("value", rows);
    model.save_changes();
  }

  canvas.onpointerdown = (event) => {
    canvas.focus();
    canvas.setPointerCapture(event.pointerId);
    last = [event.offsetX, event.offsetY];
    loop = selecting || event.shiftKey ? [last] : null;
  };
  canvas.onpointermove = (event) => {
    const now = [event.offsetX, event.offsetY];
    if (!last) return point(...now);
    if (loop) loop.push(now);
    else [left, top] = [left + now[0] - last[0], top + now[1] - last[1]];
    last = now;
    draw();
  };
  canvas.onpointerup = canvas.onpointercancel = () => {
    if (loop && loop.length > 2) select((a, b) => inside(loop, a, b));
    last = loop = null;
    draw();
  };
  canvas.onpointerleave = () => { over = -1; tip.style.display = "none"; draw(); };
  canvas.ondblclick = all;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.onkeydown = (event) => {
    const step = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
    if (step) { left += step[0]; top += step[1]; draw(); }
    else if (event.key === "+" || event.key === "=") zoom(1.25, width / 2, HEIGHT / 2);
    else if (event.key === "-") zoom(0.8, width / 2, HEIGHT / 2);
    else if (event.key === "0") all();
    else if (event.key === "Enter") select((a, b) => a >= 0 && a <= width && b >= 0 && b <= HEIGHT);
    else if (event.key === "Escape") select(() => false);
    else return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab has its own use for these keys
  };

  const watcher = new ResizeObserver(() => {
    const before = width, dots = window.devicePixelRatio || 1;
    width = Math.max(canvas.clientWidth, 1);
    [canvas.width, canvas.height] = [width * dots, HEIGHT * dots];
    if (before === 1) all();
    draw();
  });
  watcher.observe(canvas);
  const load = () => { sheet.src = URL.createObjectURL(new Blob([model.get("sheet")], { type: "image/jpeg" })); };
  const changed = "change:points change:moved change:groups change:colors change:names change:copies change:value";
  model.on(changed, read);
  press();
  load();
  read();
  return () => { model.off(changed, read); watcher.disconnect(); URL.revokeObjectURL(sheet.src); };
}

export default { render };
