// A map of many small images: drag to move it, turn the wheel to zoom, point at a dot to see its image, draw a loop
// around dots to select them. Python sends places and colours; the selection goes back as a list of row numbers.

const INK = "#333333", REACH = 12, HEIGHT = 440, SHOWN = 112; // pixels: pointer to dot, map, image under the pointer
const HELP = "Drag moves; after a click the wheel zooms; Shift and drag selects. Keys: arrows, + and -, 0 shows all, " +
  "N and P step from image to image, Enter selects what is in view, Escape nothing.";
const MOVES = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };

function element(parent, kind, style, text = "") {
  const made = parent.appendChild(document.createElement(kind));
  made.style.cssText = style;
  made.textContent = text;
  return made;
}

function bytes(view) { // of their own: a view may begin anywhere in its buffer
  return view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
}

function inside(loop, x, y) {
  let odd = false;
  for (let i = 0, j = loop.length - 1; i < loop.length; j = i++) {
    const [xi, yi] = loop[i], [xj, yj] = loop[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}

class ImageMap {
  constructor(model, el) {
    Object.assign(this, { model, scale: 1, left: 0, top: 0, width: 0, due: 0 });
    Object.assign(this, { over: -1, copy: false, loop: null, last: null, selecting: false });
    this.build(el);
    this.listen();
    this.sheet = new Image();
    this.sheet.src = URL.createObjectURL(new Blob([model.get("sheet")], { type: "image/jpeg" }));
    this.changed = () => this.read();
    model.on(ImageMap.TRAITS, this.changed);
    this.watcher = new ResizeObserver(() => this.fit());
    this.watcher.observe(this.canvas);
    this.choose(false);
    this.read();
  }

  remove() {
    this.model.off(ImageMap.TRAITS, this.changed);
    this.watcher.disconnect();
    URL.revokeObjectURL(this.sheet.src);
  }

  build(el) {
    this.bar = element(el, "div", "display:flex;gap:.5em;margin-bottom:4px");
    const box = element(el, "div", "position:relative;width:100%");
    this.canvas = element(box, "canvas", `width:100%;height:${HEIGHT}px;display:block;background:#fff;box-shadow:0 0 0 1px #999`);
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", "Map of images. " + HELP);
    this.pen = this.canvas.getContext("2d");
    this.tip = element(box, "div", "position:absolute;display:none;pointer-events:none;background:#fff;padding:4px;" +
      `border:1px solid #999;color:${INK};font:12px sans-serif;max-width:180px`);
    this.picture = element(this.tip, "canvas", "image-rendering:pixelated;display:block");
    this.words = element(this.tip, "div", "");
    this.words.setAttribute("aria-live", "polite");
    this.legend = element(el, "div", "display:flex;flex-wrap:wrap;gap:.1em 1em;font-size:12px;margin-top:4px");
    element(el, "div", "font-size:12px;opacity:.75", HELP);
    this.modes = ["Move", "Select"].map((name, place) => this.button(name, () => this.choose(place === 1)));
    this.button("Show all", () => this.all());
  }

  button(name, action) {
    const made = element(this.bar, "button", "", name);
    made.onclick = action;
    return made;
  }

  choose(selecting) { // what a drag does
    this.selecting = selecting;
    this.canvas.style.touchAction = selecting ? "none" : "pan-y"; // a finger may scroll past the map
    this.modes.forEach((button, place) => {
      const pressed = selecting === (place === 1);
      button.setAttribute("aria-pressed", pressed);
      button.style.fontWeight = pressed ? "bold" : "normal";
    });
  }

  listen() {
    const { canvas } = this;
    canvas.onpointerdown = (event) => this.press(event);
    canvas.onpointermove = (event) => this.move(event);
    canvas.onpointerup = canvas.onpointercancel = () => this.release();
    canvas.onpointerleave = () => this.point(-1, false);
    canvas.ondblclick = () => this.all();
    canvas.onkeydown = (event) => this.key(event);
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas) return; // the reader scrolls past
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
    }, { passive: false });
  }

  read() { // what Python says
    const { model } = this;
    this.points = new Float32Array(bytes(model.get("points")));
    this.moved = new Float32Array(bytes(model.get("moved")));
    this.groups = new Uint8Array(bytes(model.get("groups")));
    this.chosen = new Set(model.get("value"));
    this.legend.replaceChildren();
    model.get("names").forEach((name, k) => {
      const item = element(this.legend, "span", "", " " + name);
      item.prepend(element(item, "span", `color:${model.get("colors")[k]}`, "\u25a0"));
    });
    this.draw();
  }

  get rows() { return this.points.length / 2; }
  get copies() { return this.model.get("copies") && this.moved.length > 0; }
  get size() { return (Math.min(this.width, HEIGHT) - 24) * this.scale; } // pixels that the whole map takes
  x(places, row) { return this.left + places[2 * row] * this.size; }
  y(places, row) { return this.top + (1 - places[2 * row + 1]) * this.size; }
  faded(row) { return this.chosen.size > 0 && !this.chosen.has(row); }

  fit() { // the place on the screen has changed
    const first = this.width === 0, dots = window.devicePixelRatio || 1;
    this.width = this.canvas.clientWidth;
    [this.canvas.width, this.canvas.height] = [this.width * dots, HEIGHT * dots];
    if (first) this.all();
    this.draw();
  }

  all() {
    this.scale = 1;
    [this.left, this.top] = [(this.width - this.size) / 2, (HEIGHT - this.size) / 2];
    this.draw();
  }

  zoom(factor, atX, atY) {
    factor = Math.min(Math.max(this.scale * factor, 0.5), 500) / this.scale;
    this.scale *= factor;
    this.left = atX - (atX - this.left) * factor;
    this.top = atY - (atY - this.top) * factor;
    this.draw();
  }

  draw() { // at most once a frame
    this.due = this.due || requestAnimationFrame(() => { this.due = 0; this.paint(); });
  }

  paint() {
    const { pen, points } = this, dots = window.devicePixelRatio || 1, colors = this.model.get("colors");
    const side = Math.min(3 + Math.log2(Math.max(this.scale, 1)), 8), step = this.rows % 7919 ? 7919 : 1;
    pen.setTransform(dots, 0, 0, dots, 0, 0);
    pen.clearRect(0, 0, this.width, HEIGHT);
    if (this.copies) this.arrows();
    for (let k = 0; k < this.rows; k++) { // in mixed order, so that no class lies on top
      const row = (k * step) % this.rows;
      pen.fillStyle = colors[this.groups[row]];
      pen.globalAlpha = this.faded(row) ? 0.15 : 0.85;
      pen.fillRect(this.x(points, row) - side / 2, this.y(points, row) - side / 2, side, side);
    }
    pen.globalAlpha = 1;
    this.marks(side);
    this.canvas.dataset.drawn = Number(this.canvas.dataset.drawn || 0) + 1; // for tests
  }

  arrows() { // from an image to its copy: two strokes in all, for a stroke each is slow
    this.pen.strokeStyle = INK;
    for (const faded of [false, true]) {
      this.pen.globalAlpha = faded ? 0.05 : 0.35;
      this.pen.beginPath();
      for (let row = 0; row < this.rows; row++) if (this.faded(row) === faded) this.arrow(row);
      this.pen.stroke();
    }
  }

  arrow(row) {
    const { pen, points, moved } = this;
    const [a, b, c, d] = [this.x(points, row), this.y(points, row), this.x(moved, row), this.y(moved, row)];
    const turn = Math.atan2(d - b, c - a), head = Math.min(6, Math.hypot(c - a, d - b) / 2);
    pen.moveTo(a, b);
    pen.lineTo(c, d);
    for (const side of [-0.4, 0.4]) {
      pen.moveTo(c, d);
      pen.lineTo(c - head * Math.cos(turn + side), d - head * Math.sin(turn + side));
    }
  }

  marks(side) { // the dot under the pointer, and the loop that is being drawn
    const { pen, over } = this, places = this.copy ? this.moved : this.points;
    pen.strokeStyle = INK;
    if (over >= 0) pen.strokeRect(this.x(places, over) - side, this.y(places, over) - side, 2 * side, 2 * side);
    if (!this.loop) return;
    pen.beginPath();
    this.loop.forEach(([a, b]) => pen.lineTo(a, b));
    pen.setLineDash([4, 3]);
    pen.stroke();
    pen.setLineDash([]);
  }

  nearest(atX, atY) {
    let found = [-1, false], least = REACH * REACH;
    for (const copy of this.copies ? [false, true] : [false]) {
      const places = copy ? this.moved : this.points;
      for (let row = 0; row < this.rows; row++) {
        const far = (this.x(places, row) - atX) ** 2 + (this.y(places, row) - atY) ** 2;
        if (far < least) [found, least] = [[row, copy], far];
      }
    }
    return found;
  }

  point(row, copy) { // show an image, or none
    if (row === this.over && copy === this.copy) return;
    [this.over, this.copy] = [row, copy];
    this.tip.style.display = row >= 0 ? "block" : "none";
    if (row >= 0) this.show(row, copy);
    this.draw();
  }

  show(row, copy) {
    const [columns, w, h] = this.model.get("sheet_shape"), places = copy ? this.moved : this.points;
    const [x, y] = [this.x(places, row), this.y(places, row)];
    [this.picture.width, this.picture.height] = [w, h];
    this.picture.style.width = (SHOWN * w) / Math.max(w, h) + "px";
    this.picture.style.height = (SHOWN * h) / Math.max(w, h) + "px";
    const from = [(row % columns) * w, Math.floor(row / columns) * h];
    this.picture.getContext("2d").drawImage(this.sheet, ...from, w, h, 0, 0, w, h);
    this.words.textContent = (copy ? "adversarial copy of " : "") + this.model.get("captions")[row];
    this.tip.style.left = (x > this.width / 2 ? x - SHOWN - 30 : x + 16) + "px";
    this.tip.style.top = Math.max(Math.min(y - 40, HEIGHT - SHOWN - 60), 0) + "px";
    this.canvas.dataset.over = row;
  }

  inView(row) {
    const [x, y] = [this.x(this.points, row), this.y(this.points, row)];
    return x >= 0 && x <= this.width && y >= 0 && y <= HEIGHT;
  }

  next(step) { // from image to image, among those in view
    for (let k = 1; k <= this.rows; k++) {
      const row = (((this.over + step * k) % this.rows) + this.rows) % this.rows;
      if (this.inView(row)) return this.point(row, false);
    }
  }

  select(test) {
    this.model.set("value", Array.from({ length: this.rows }, (_, row) => row).filter(test));
    this.model.save_changes();
  }

  press(event) {
    if (event.button || !event.isPrimary) return;
    this.canvas.focus();
    this.canvas.setPointerCapture(event.pointerId);
    this.last = [event.offsetX, event.offsetY];
    this.loop = this.selecting || event.shiftKey ? [this.last] : null;
  }

  move(event) {
    if (!event.isPrimary) return;
    const now = [event.offsetX, event.offsetY];
    if (!this.last) return this.point(...this.nearest(...now));
    if (this.loop) this.loop.push(now);
    else [this.left, this.top] = [this.left + now[0] - this.last[0], this.top + now[1] - this.last[1]];
    this.last = now;
    this.draw();
  }

  release() {
    const { loop } = this;
    this.last = this.loop = null;
    if (loop?.length > 2) this.select((row) => inside(loop, this.x(this.points, row), this.y(this.points, row)));
    this.draw();
  }

  key(event) {
    const { key } = event, step = MOVES[key];
    if (step) [this.left, this.top] = [this.left + step[0], this.top + step[1]];
    else if (key === "+" || key === "=") this.zoom(1.25, this.width / 2, HEIGHT / 2);
    else if (key === "-") this.zoom(0.8, this.width / 2, HEIGHT / 2);
    else if (key === "0") this.all();
    else if (key === "n" || key === "p") this.next(key === "n" ? 1 : -1);
    else if (key === "Enter") this.select((row) => this.inView(row));
    else if (key === "Escape") this.select(() => false);
    else return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab has its own use for these keys
    this.draw();
  }
}

ImageMap.TRAITS = "change:points change:moved change:groups change:colors change:names change:copies change:value";

function render({ model, el }) {
  const map = new ImageMap(model, el);
  return () => map.remove();
}

export default { render };
