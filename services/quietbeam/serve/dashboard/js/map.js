// One map on a 2-D canvas: pixels, crosshair, scale bar; wheel, drag and double click move the shared view.

import { paint } from "./colour.js";
import { number } from "./text.js";

export class MapCanvas {
  constructor(figure, kind, view) {
    this.figure = figure;
    this.kind = kind;
    this.view = view;
    this.caption = figure.querySelector("figcaption");
    this.canvas = figure.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.picture = document.createElement("canvas");
    figure.dataset.kind = kind;
    this.#listen();
  }

  resize(width, height) {
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) [this.canvas.width, this.canvas.height] = [w, h];
    this.canvas.style.width = this.figure.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
  }

  /** Colour the values (row, col) of `rows` x `cols`. */
  colour(values, rows, cols, [low, high], table) {
    if (this.picture.width !== cols || this.picture.height !== rows || !this.image) {
      [this.picture.width, this.picture.height] = [cols, rows];
      this.image = new ImageData(cols, rows);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    paint(values, low, high, table, this.pixels);
    this.picture.getContext("2d").putImageData(this.image, 0, 0);
  }

  /** Draw the shown part; `bar` is {length (map columns), label} or null. */
  draw(bar) {
    const { context: c, canvas, view, picture } = this;
    const [sx, sy] = [picture.width / view.cols, picture.height / view.rows];
    c.imageSmoothingEnabled = false;
    c.drawImage(picture, view.left * sx, view.top * sy, view.width * sx, view.height * sy, 0, 0, canvas.width, canvas.height);
    const ratio = window.devicePixelRatio || 1;
    if (view.hover) {
      const x = ((view.hover.col + 0.5 - view.left) / view.width) * canvas.width;
      const y = ((view.hover.row + 0.5 - view.top) / view.height) * canvas.height;
      c.lineWidth = ratio;
      for (const [style, shift] of [["#000a", ratio], ["#fffc", 0]]) {
        c.strokeStyle = style;
        c.beginPath();
        c.moveTo(x + shift, 0);
        c.lineTo(x + shift, canvas.height);
        c.moveTo(0, y + shift);
        c.lineTo(canvas.width, y + shift);
        c.stroke();
      }
    }
    if (bar) this.#scaleBar(bar, ratio);
  }

  #scaleBar({ length, label }, ratio) {
    const { context: c, canvas, view } = this;
    const width = (length / view.width) * canvas.width;
    const [x, y] = [7 * ratio, canvas.height - 8 * ratio];
    c.font = `${11 * ratio}px system-ui, sans-serif`;
    const wide = Math.max(width, c.measureText(label).width);
    c.fillStyle = "#0009";
    c.fillRect(x - 4 * ratio, y - 16 * ratio, wide + 8 * ratio, 21 * ratio);
    c.fillStyle = "#fff";
    c.fillRect(x, y, width, 2 * ratio);
    c.fillText(label, x, y - 4 * ratio);
  }

  describe(line, range, scale, measured) {
    this.canvas.setAttribute(
      "aria-label",
      `${line} ${this.caption.textContent}: ${number(range[0])} to ${number(range[1])}, ${scale} scale, ${measured}`,
    );
  }

  #position(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      row: this.view.top + ((event.clientY - box.top) / box.height) * this.view.height,
      col: this.view.left + ((event.clientX - box.left) / box.width) * this.view.width,
      perPixel: this.view.width / box.width,
    };
  }

  #listen() {
    const { canvas, view } = this;
    let drag = null;
    canvas.addEventListener("pointermove", (event) => {
      if (drag) {
        const { perPixel } = this.#position(event);
        view.pan((drag.y - event.clientY) * perPixel, (drag.x - event.clientX) * perPixel);
        drag = { x: event.clientX, y: event.clientY };
      }
      const { row, col } = this.#position(event);
      const inside = row >= 0 && col >= 0 && row < view.rows && col < view.cols;
      view.point(inside ? { row: Math.floor(row), col: Math.floor(col) } : null);
    });
    canvas.addEventListener("pointerleave", () => view.point(null));
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || view.whole) return;
      drag = { x: event.clientX, y: event.clientY };
      canvas.setPointerCapture(event.pointerId);
    });
    const release = () => (drag = null);
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("dblclick", () => view.reset());
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const { row, col } = this.#position(event);
        view.zoom(Math.exp(-event.deltaY / 400), row, col);
      },
      { passive: false },
    );
  }
}
