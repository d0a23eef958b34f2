// One map on a 2-D canvas: pixels, crosshair, what is drawn on it, scale bar; wheel, drag and double click move the shared view.

import { drawAxes } from "./axes.js";
import { number } from "../base/text.js";

/** Colours of all pixels of a map, one canvas pixel each. */
export class Picture {
  constructor() {
    this.canvas = document.createElement("canvas");
  }

  /** `paint` fills ABGR pixels (row, col). */
  fill(rows, cols, paint) {
    if (this.canvas.width !== cols || this.canvas.height !== rows || !this.image) {
      [this.canvas.width, this.canvas.height] = [cols, rows];
      this.image = new ImageData(cols, rows);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    paint(this.pixels);
    this.canvas.getContext("2d").putImageData(this.image, 0, 0);
  }

  /** Draw the part that `view` shows into a box. */
  draw(c, view, x, y, width, height) {
    const [sx, sy] = [this.canvas.width / view.cols, this.canvas.height / view.rows];
    c.imageSmoothingEnabled = false;
    c.drawImage(this.canvas, view.left * sx, view.top * sy, view.width * sx, view.height * sy, x, y, width, height);
  }
}

export class MapCanvas {
  constructor(figure, kind, view, drawing) {
    this.figure = figure;
    this.kind = kind;
    this.view = view;
    this.drawing = drawing;
    this.caption = figure.querySelector("figcaption");
    this.canvas = figure.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.picture = new Picture();
    this.before = kind === "swipe" ? new Picture() : null; // what lies left of the divider
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

  /** The pixels alone, into any context: for the page and for the saved figure. */
  drawPixels(c, x, y, width, height) {
    if (!this.before) return this.picture.draw(c, this.view, x, y, width, height);
    const at = this.view.divider * width;
    this.before.draw(c, this.view, x, y, width, height);
    c.save();
    c.beginPath();
    c.rect(x + at, y, width - at, height);
    c.clip();
    this.picture.draw(c, this.view, x, y, width, height);
    c.restore();
    c.fillStyle = "#fff";
    c.fillRect(x + at - 1, y, 2, height);
    return undefined;
  }

  /** Draw the shown part with its axes; `bar` is {length (map columns), label} or null. The `first` map of a line has the bar and the rows' numbers. */
  draw(bar, axes, first = true) {
    const { context: c, canvas, view } = this;
    const ratio = window.devicePixelRatio || 1;
    this.drawPixels(c, 0, 0, canvas.width, canvas.height);
    const below = axes ? drawAxes(c, axes, canvas.width, canvas.height, ratio * (axes.type ?? 1), first) : 0;
    if (this.before) this.#handle(ratio);
    const place = ([row, col]) => [
      ((col - view.left) / view.width) * canvas.width,
      ((row - view.top) / view.height) * canvas.height,
    ];
    this.drawing?.draw(c, place, ratio);
    if (view.hover) {
      const [x, y] = place([view.hover.row + 0.5, view.hover.col + 0.5]);
      c.lineWidth = ratio;
      for (const [style, shift] of [
        ["#000a", ratio],
        ["#fffc", 0],
      ]) {
        c.strokeStyle = style;
        c.beginPath();
        c.moveTo(x + shift, 0);
        c.lineTo(x + shift, canvas.height);
        c.moveTo(0, y + shift);
        c.lineTo(canvas.width, y + shift);
        c.stroke();
      }
    }
    if (bar && first)
      drawScaleBar(
        c,
        bar,
        (bar.length / view.width) * canvas.width,
        canvas.width - 7 * ratio,
        canvas.height - 8 * ratio - below,
        ratio * bar.type,
      );
  }

  #handle(ratio) {
    const { context: c, canvas, view } = this;
    const [x, y] = [view.divider * canvas.width, canvas.height / 2];
    c.beginPath();
    c.arc(x, y, 9 * ratio, 0, 2 * Math.PI);
    c.fillStyle = "#0b0e13d0";
    c.strokeStyle = "#fff";
    c.lineWidth = 1.5 * ratio;
    c.fill();
    c.stroke();
    c.fillStyle = "#fff";
    c.font = `${11 * ratio}px system-ui, "DejaVu Sans", sans-serif`;
    c.textAlign = "center";
    c.textBaseline = "middle";
    c.fillText("‹›", x, y);
    c.textAlign = "left";
    c.textBaseline = "alphabetic";
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
      perScreen: { row: this.view.height / box.height, col: this.view.width / box.width }, // map pixels a CSS pixel
      fromDivider: Math.abs(event.clientX - box.left - this.view.divider * box.width),
      across: (event.clientX - box.left) / box.width,
    };
  }

  /** What a drag that begins here does: move the divider, draw, or move the map. */
  #dragFrom(event) {
    const { view, drawing } = this;
    const from = this.#position(event);
    if (this.before && from.fromDivider <= 12) return (next) => view.divide(this.#position(next).across);
    if (drawing?.tool && !event.shiftKey) {
      const move = drawing.begin(from, from.perScreen, view);
      return (next) => move(this.#position(next));
    }
    if (view.whole) return null;
    let last = event;
    return (next) => {
      view.pan((last.clientY - next.clientY) * from.perScreen.row, (last.clientX - next.clientX) * from.perScreen.col);
      last = next;
    };
  }

  #listen() {
    const { canvas, view } = this;
    let drag = null;
    canvas.addEventListener("pointermove", (event) => {
      drag?.(event);
      const { row, col, fromDivider } = this.#position(event);
      canvas.style.cursor = this.before && fromDivider <= 12 ? "ew-resize" : "";
      const inside = row >= 0 && col >= 0 && row < view.rows && col < view.cols;
      view.point(inside ? { row: Math.floor(row), col: Math.floor(col) } : null);
    });
    canvas.addEventListener("pointerleave", () => view.point(null));
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      drag = this.#dragFrom(event);
      if (drag) canvas.setPointerCapture(event.pointerId);
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

/** A bar of `width` canvas pixels with its length in words, ending at `right`: left are the numbers of the rows. */
export function drawScaleBar(c, { label }, width, right, y, ratio) {
  c.font = `${11 * ratio}px system-ui, "DejaVu Sans", sans-serif`;
  const wide = Math.max(width, c.measureText(label).width);
  const x = right - wide;
  c.fillStyle = "#0009";
  c.fillRect(x - 4 * ratio, y - 16 * ratio, wide + 8 * ratio, 21 * ratio);
  c.fillStyle = "#fff";
  c.fillRect(right - width, y, width, 2 * ratio);
  c.fillText(label, x, y - 4 * ratio);
}
