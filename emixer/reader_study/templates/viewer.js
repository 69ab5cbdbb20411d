"use strict";

// The radiograph on a canvas: zoom, pan, window and level, by mouse, keyboard and touch.
class Viewer {
  static MAX_ZOOM = 16;

  constructor(canvas, onView) {
    this.canvas = canvas;
    this.onView = onView;
    this.context = canvas.getContext("2d", { alpha: false });
    this.pointers = new Map();
    this.gray = null;
    this.lookup = null;
    this.resetView();
    new ResizeObserver(() => this.fitCanvas()).observe(canvas);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), this.at(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => this.pointers.delete(event.pointerId));
    }
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => this.resetView());
  }

  // image: an ImageBitmap, or null for an empty canvas
  show(image) {
    this.gray = null;
    if (image) {
      this.source = new OffscreenCanvas(image.width, image.height);
      const context = this.source.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      this.pixels = context.getImageData(0, 0, image.width, image.height);
      this.gray = new Uint8Array(image.width * image.height);
      for (let i = 0; i < this.gray.length; i++) this.gray[i] = this.pixels.data[4 * i];
    }
    this.resetView();
  }

  resetView() {
    Object.assign(this, { magnification: 1, x: 0, y: 0, window: 256, level: 128, inverted: false });
    this.changed(true);
  }

  // factor: of the magnification; point: the fixed point, in canvas pixels from the centre
  zoom(factor, point = { x: 0, y: 0 }) {
    const before = this.magnification;
    this.magnification = Math.min(Viewer.MAX_ZOOM, Math.max(1, before * factor));
    const ratio = this.magnification / before;
    this.x = point.x + (this.x - point.x) * ratio;
    this.y = point.y + (this.y - point.y) * ratio;
    this.changed();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.changed();
  }

  setWindow(window, level) {
    this.window = Math.min(512, Math.max(2, window));
    this.level = Math.min(255, Math.max(0, level));
    this.changed(true);
  }

  invert() {
    this.inverted = !this.inverted;
    this.changed(true);
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const dots = this.canvas.width / box.width || 1;
    return { x: (event.clientX - box.left - box.width / 2) * dots, y: (event.clientY - box.top - box.height / 2) * dots };
  }

  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { ...this.at(event), windows: event.button === 2 || event.shiftKey });
    this.canvas.focus({ preventScroll: true });
  }

  move(event) {
    const held = this.pointers.get(event.pointerId);
    if (!held) return;
    const point = this.at(event);
    const [dx, dy] = [point.x - held.x, point.y - held.y];
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      // pinch: the point between the fingers stays fixed
      const [before, after] = [held, point].map((p) => Math.hypot(p.x - other.x, p.y - other.y));
      this.zoom(after / Math.max(1, before), { x: (held.x + other.x) / 2, y: (held.y + other.y) / 2 });
      this.pan(dx / 2, dy / 2);
    } else if (held.windows) {
      this.setWindow(this.window + dx * 0.6, this.level - dy * 0.4);
    } else {
      this.pan(dx, dy);
    }
    Object.assign(held, point);
  }

  fitCanvas() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const dots = window.devicePixelRatio || 1;
    Object.assign(this.canvas, { width: Math.round(width * dots), height: Math.round(height * dots) });
    this.changed();
  }

  changed(grays = false) {
    if (grays) this.lookup = null;
    this.onView(this);
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  draw() {
    const { canvas, context } = this;
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!this.gray) return;
    this.applyWindow();
    const fit = Math.min(canvas.width / this.source.width, canvas.height / this.source.height);
    const [width, height] = [this.source.width, this.source.height].map((side) => side * fit * this.magnification);
    // the middle of the canvas always shows a part of the image
    this.x = Math.min(width / 2, Math.max(-width / 2, this.x));
    this.y = Math.min(height / 2, Math.max(-height / 2, this.y));
    context.imageSmoothingQuality = "high";
    context.drawImage(this.source, (canvas.width - width) / 2 + this.x, (canvas.height - height) / 2 + this.y, width, height);
  }

  applyWindow() {
    if (this.lookup) return;
    const lowest = this.level - this.window / 2;
    this.lookup = Uint8ClampedArray.from({ length: 256 }, (_, gray) => {
      const shown = Math.min(1, Math.max(0, (gray - lowest) / (this.window - 1)));
      return 255 * (this.inverted ? 1 - shown : shown);
    });
    const { data } = this.pixels;
    for (let i = 0; i < this.gray.length; i++) data[4 * i] = data[4 * i + 1] = data[4 * i + 2] = this.lookup[this.gray[i]];
    this.source.getContext("2d").putImageData(this.pixels, 0, 0);
  }
}
