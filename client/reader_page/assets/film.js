// One film on a canvas: 16-bit grey values, window, zoom, pan, and the box of the lesion.
const OVERVIEW = 1400; // pixels of the longer side, at first
const MOST = 3_500_000; // pixels of a part that is fetched in full resolution
const LEAST_BOX = 4;

export class Film {
  constructor(panel, changed, toggled) {
    this.panel = panel;
    this.changed = changed;
    this.toggled = toggled;
    this.canvas = panel.querySelector("canvas");
    this.stage = panel.querySelector(".stage");
    this.over = panel.querySelector(".over");
    this.trouble = panel.querySelector(".filmproblem");
    this.which = panel.querySelector(".which");
    this.inputs = [...panel.querySelectorAll("[data-part]")];
    this.view = panel.dataset.view;
    this.mode = "mark";
    this.level = 0.5;
    this.contrast = 0.5;
    this.box = null;
    this.map = null;
    this.hasMap = false;
    this.opacity = 0.5;
    this.parts = [];
    this.lut = new Uint8Array(65536);
    this.turn = 0;
    this.listen();
    new ResizeObserver(() => this.resize()).observe(this.stage);
    this.load();
  }

  get id() { return this.which.value; }

  async load() {
    const turn = ++this.turn;
    this.parts = [];
    this.box = null;
    this.showNumbers();
    this.trouble.textContent = "";
    this.columns = this.rows = 0;
    this.stage.removeAttribute("data-ready");
    this.draw();
    if (!this.id) return;
    const { rows, columns } = this.which.selectedOptions[0].dataset;
    const step = Math.min(64, Math.max(1, Math.ceil(Math.max(rows, columns) / OVERVIEW)));
    this.over.textContent = "Loading";
    try {
      const part = await this.fetchPart({ x: 0, y: 0, width: Number(columns), height: Number(rows), step });
      if (turn !== this.turn) return;
      [this.rows, this.columns, this.low, this.high] = [part.rows, part.columns, part.low, part.high];
      this.parts = [part];
      this.fit();
      this.stage.dataset.ready = "yes";
    } catch (error) {
      if (turn !== this.turn) return;
      this.trouble.textContent = error.message;
      this.over.textContent = "";
    }
  }

  async fetchPart({ x, y, width, height, step }) {
    const query = new URLSearchParams({ x, y, width, height, step });
    const answer = await fetch(`../films/${this.id}?${query}`);
    if (!answer.ok) throw new Error(await answer.text());
    const [w, h] = answer.headers.get("X-Part").split(",").map(Number);
    const [low, high] = answer.headers.get("X-Window").split(",").map(Number);
    const values = new Uint16Array(await answer.arrayBuffer());
    const canvas = new OffscreenCanvas(w, h);
    return {
      x, y, width, height, step, values, canvas, low, high, lit: "",
      rows: Number(answer.headers.get("X-Rows")), columns: Number(answer.headers.get("X-Columns")),
    };
  }

  // Screen pixels = (film pixels - left, top) * zoom.
  fit() {
    this.zoom = Math.min(this.canvas.width / this.columns, this.canvas.height / this.rows) || 1;
    this.left = (this.columns - this.canvas.width / this.zoom) / 2;
    this.top = (this.rows - this.canvas.height / this.zoom) / 2;
    this.draw();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(this.stage.clientWidth * ratio), Math.round(this.stage.clientHeight * ratio)];
    if (width === this.canvas.width && height === this.canvas.height) return;
    [this.canvas.width, this.canvas.height] = [width, height];
    if (this.columns) this.fit();
  }

  window() {
    // In the middle of both sliders the film's own window holds.
    const width = (this.high - this.low) * 4 ** (1 - 2 * this.contrast);
    const centre = (this.low + this.high) / 2 + (0.5 - this.level) * 2 * (this.high - this.low);
    return [centre - width / 2, Math.max(1, width)];
  }

  light(part) {
    const [start, width] = this.window();
    const key = `${start},${width}`;
    if (this.lit !== key) {
      for (let i = 0; i < 65536; i++) this.lut[i] = Math.max(0, Math.min(255, ((i - start) / width) * 255));
      this.lit = key;
    }
    if (part.lit === key) return;
    const context = part.canvas.getContext("2d");
    const image = context.createImageData(part.canvas.width, part.canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < pixels.length; i++) {
      const grey = this.lut[part.values[i]];
      pixels[i] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
    context.putImageData(image, 0, 0);
    part.lit = key;
  }

  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.paint(); });
  }

  paint() {
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.columns) return;
    context.setTransform(this.zoom, 0, 0, this.zoom, -this.left * this.zoom, -this.top * this.zoom);
    context.imageSmoothingEnabled = this.zoom < 3;
    for (const part of this.parts) {
      this.light(part);
      context.drawImage(part.canvas, part.x, part.y, part.width, part.height);
    }
    const isMapped = this.hasMap && this.map?.film === this.id;
    if (isMapped) {
      const { x, y, side, canvas } = this.map;
      context.imageSmoothingEnabled = true;
      context.globalAlpha = this.opacity;
      context.save();
      context.beginPath();
      context.rect(0, 0, this.columns, this.rows);
      context.clip();
      context.drawImage(canvas, x, y, side, side);
      context.restore();
      context.globalAlpha = 1;
    }
    if (this.box) {
      const { x, y, width, height } = this.box;
      const ratio = window.devicePixelRatio || 1;
      for (const [colour, thick] of [["#000", 4], ["#7ab8ff", 2]]) {
        context.strokeStyle = colour;
        context.lineWidth = (thick * ratio) / this.zoom;
        context.strokeRect(x, y, width, height);
      }
    }
    this.over.textContent = `${this.columns} × ${this.rows}, ${Math.round(this.zoom * 100)} %${isMapped ? "; map: a hint, no evidence" : ""}`;
    this.sharpen();
  }

  // Full resolution where somebody looks, once the view rests.
  sharpen() {
    clearTimeout(this.resting);
    if (this.zoom * this.parts[0].step <= 1.2) { this.parts.length = 1; return; }
    this.resting = setTimeout(() => this.fetchSharp().catch(() => {}), 150);
  }

  async fetchSharp() {
    const clamp = (value, most) => Math.max(0, Math.min(most, Math.round(value)));
    const x = clamp(this.left, this.columns - 1), y = clamp(this.top, this.rows - 1);
    const width = Math.max(1, clamp(this.left + this.canvas.width / this.zoom, this.columns) - x);
    const height = Math.max(1, clamp(this.top + this.canvas.height / this.zoom, this.rows) - y);
    const step = Math.max(1, Math.ceil(Math.sqrt((width * height) / MOST)));
    const last = this.parts[1];
    const isThere = last && last.step <= step && last.x <= x && last.y <= y
      && last.x + last.width >= x + width && last.y + last.height >= y + height;
    if (isThere || step >= this.parts[0].step) return;
    const turn = this.turn;
    const part = await this.fetchPart({ x, y, width, height, step });
    if (turn !== this.turn) return;
    this.parts = [this.parts[0], part];
    this.draw();
  }

  at(event) {
    const ratio = window.devicePixelRatio || 1;
    const place = this.canvas.getBoundingClientRect();
    return [
      this.left + ((event.clientX - place.left) * ratio) / this.zoom,
      this.top + ((event.clientY - place.top) * ratio) / this.zoom,
    ];
  }

  zoomBy(factor, x = this.left + this.canvas.width / this.zoom / 2, y = this.top + this.canvas.height / this.zoom / 2) {
    const least = Math.min(this.canvas.width / this.columns, this.canvas.height / this.rows) / 2;
    const zoom = Math.max(least, Math.min(16, this.zoom * factor));
    this.left = x - ((x - this.left) * this.zoom) / zoom;
    this.top = y - ((y - this.top) * this.zoom) / zoom;
    this.zoom = zoom;
    this.draw();
  }

  setBox(box) {
    if (box) {
      const width = Math.max(LEAST_BOX, Math.min(this.columns, Math.round(box.width)));
      const height = Math.max(LEAST_BOX, Math.min(this.rows, Math.round(box.height)));
      const x = Math.max(0, Math.min(this.columns - width, Math.round(box.x)));
      const y = Math.max(0, Math.min(this.rows - height, Math.round(box.y)));
      box = { x, y, width, height };
    }
    this.box = box;
    this.showNumbers();
    this.draw();
    this.changed();
  }

  // The map of a reading, whose values are bytes in hexadecimal; it is drawn on the film that was read and on no other.
  setMap(film, [x, y, side], values) {
    const count = Math.sqrt(values.length / 2);
    const canvas = new OffscreenCanvas(count, count);
    const image = new ImageData(count, count);
    for (let i = 0; i < count * count; i++) {
      const value = parseInt(values.slice(2 * i, 2 * i + 2), 16);
      // From clear over red to yellow.
      image.data.set([255, Math.max(0, 2 * value - 255), 0, value], 4 * i);
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
    this.map = { film, x, y, side, canvas };
    this.draw();
  }

  showNumbers() {
    for (const input of this.inputs) input.value = this.box ? this.box[input.dataset.part] : "";
  }

  readNumbers() {
    const values = Object.fromEntries(this.inputs.map((input) => [input.dataset.part, input.value.trim()]));
    if (Object.values(values).some((value) => !/^\d{1,5}$/.test(value))) return;
    const box = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, Number(value)]));
    if (box.width > 0 && box.height > 0) this.setBox(box);
  }

  listen() {
    this.which.addEventListener("change", () => { this.load(); this.changed(); });
    for (const input of this.inputs) input.addEventListener("change", () => this.readNumbers());
    this.panel.querySelector(".clear").addEventListener("click", () => this.setBox(null));
    this.canvas.addEventListener("wheel", (event) => {
      if (!this.columns) return;
      event.preventDefault();
      this.zoomBy(1.0015 ** -event.deltaY, ...this.at(event));
    }, { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  press(event) {
    if (!this.columns) return;
    const mode = event.button === 0 ? this.mode : "pan";
    const [x, y] = this.at(event);
    const begin = { left: this.left, top: this.top, level: this.level, contrast: this.contrast, box: this.box };
    const [startX, startY] = [event.clientX, event.clientY];
    this.canvas.setPointerCapture(event.pointerId);
    const move = (next) => {
      const ratio = (window.devicePixelRatio || 1) / this.zoom;
      const [dx, dy] = [next.clientX - startX, next.clientY - startY];
      if (mode === "pan") {
        [this.left, this.top] = [begin.left - dx * ratio, begin.top - dy * ratio];
        this.draw();
      } else if (mode === "window") {
        this.changed({ level: begin.level - dy / 400, contrast: begin.contrast + dx / 400 });
      } else if (Math.hypot(dx, dy) > 3) {
        const [toX, toY] = this.at(next).map((value, axis) => Math.max(0, Math.min(value, axis ? this.rows : this.columns)));
        const box = { x: Math.min(x, toX), y: Math.min(y, toY), width: Math.abs(toX - x), height: Math.abs(toY - y) };
        this.setBox(box);
      }
    };
    const end = () => {
      this.canvas.removeEventListener("pointermove", move);
      this.canvas.removeEventListener("pointerup", end);
      this.canvas.removeEventListener("pointercancel", end);
    };
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", end);
    this.canvas.addEventListener("pointercancel", end);
  }

  key(event) {
    if (!this.columns || event.altKey || event.metaKey) return;
    const step = event.ctrlKey ? 1 : Math.max(1, Math.round(10 / this.zoom));
    const arrow = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    const pan = { w: [0, -1], s: [0, 1], a: [-1, 0], d: [1, 0] }[event.key.toLowerCase()];
    const shown = { width: this.canvas.width / this.zoom, height: this.canvas.height / this.zoom };
    if (arrow) {
      if (this.box && event.shiftKey) {
        this.setBox({ ...this.box, width: this.box.width + arrow[0], height: this.box.height + arrow[1] });
      } else if (this.box) {
        this.setBox({ ...this.box, x: this.box.x + arrow[0], y: this.box.y + arrow[1] });
      }
    } else if (event.key === "Enter" && !this.box) {
      const side = Math.min(shown.width, shown.height, this.columns, this.rows) / 6;
      this.setBox({ x: this.left + (shown.width - side) / 2, y: this.top + (shown.height - side) / 2, width: side, height: side });
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.setBox(null);
    } else if (event.ctrlKey) {
      return;
    } else if (event.key === "+" || event.key === "=") {
      this.zoomBy(1.25, ...(this.box ? [this.box.x + this.box.width / 2, this.box.y + this.box.height / 2] : []));
    } else if (event.key === "-") {
      this.zoomBy(0.8);
    } else if (event.key === "0") {
      this.fit();
    } else if (event.key.toLowerCase() === "m" && this.map) {
      this.toggled();
    } else if (pan) {
      this.left += (pan[0] * shown.width) / 10;
      this.top += (pan[1] * shown.height) / 10;
      this.draw();
    } else {
      return;
    }
    event.preventDefault();
  }
}
