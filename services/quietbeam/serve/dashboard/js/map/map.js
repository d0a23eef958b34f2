// One map on a 2-D canvas: pixels, axes, crosshair, what is drawn on it, scale bar.

import { context2d, find } from "../base/dom.js";
import { number } from "../base/text.js";
import { drawAxes } from "./axes.js";
import { listenToPointer } from "./gestures.js";
import { Picture } from "./picture.js";
import { drawScaleBar } from "./scale_bar.js";

/** @import { View } from "../base/view.js" */
/** @import { Drawing } from "./drawing.js" */

export class MapCanvas {
  /**
   * @param {HTMLElement} figure
   * @param {ShownKind} kind
   * @param {View} view
   * @param {Drawing | null} drawing
   */
  constructor(figure, kind, view, drawing) {
    this.figure = figure;
    this.kind = kind;
    this.view = view;
    this.drawing = drawing;
    this.caption = find(figure, "figcaption");
    this.canvas = find(figure, "canvas", HTMLCanvasElement);
    this.context = context2d(this.canvas);
    this.picture = new Picture();
    this.before = kind === "swipe" ? new Picture() : null; // left of the divider
    /** @type {ValueRange | null} */
    this.range = null;
    /** @type {ScaleName} */
    this.scale = "linear";
    this.labelled = ""; // label and width for which the caption was fitted
    figure.dataset.kind = kind;
    listenToPointer(this.canvas, view, drawing, this.before !== null);
  }

  /**
   * @param {number} width in CSS pixels
   * @param {number} height
   */
  resize(width, height) {
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) [this.canvas.width, this.canvas.height] = [w, h];
    this.canvas.style.width = this.figure.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
  }

  /**
   * Draw the pixels alone into any context: for the page and for the saved figure.
   * @param {CanvasRenderingContext2D} c
   * @param {number} x
   * @param {number} y
   * @param {number} width
   * @param {number} height
   */
  drawPixels(c, x, y, width, height) {
    if (!this.before) {
      this.picture.draw(c, this.view, x, y, width, height);
      return;
    }
    const left = this.view.divider * width;
    this.before.draw(c, this.view, x, y, width, height);
    c.save();
    c.beginPath();
    c.rect(x + left, y, width - left, height);
    c.clip();
    this.picture.draw(c, this.view, x, y, width, height);
    c.restore();
    c.fillStyle = "#fff";
    c.fillRect(x + left - 1, y, 2, height);
  }

  /**
   * Draw the shown part; the `first` map of a line has the scale bar and the numbers of the rows.
   * @param {ScaleBar | null} bar
   * @param {MapAxes | null} axes
   * @param {boolean} [first]
   */
  draw(bar, axes, first = true) {
    const { context: c, canvas, view } = this;
    const ratio = window.devicePixelRatio || 1;
    this.drawPixels(c, 0, 0, canvas.width, canvas.height);
    const below = axes ? drawAxes(c, axes, canvas.width, canvas.height, ratio * (axes.type ?? 1), first) : 0;
    if (this.before) this.#drawHandle(ratio);
    this.drawing?.draw(c, (position) => this.#toCanvas(position), ratio);
    if (view.hover) this.#drawCrosshair(view.hover, ratio);
    if (!bar || !first) return;
    const [right, y] = [canvas.width - 7 * ratio, canvas.height - 8 * ratio - below];
    drawScaleBar(c, bar.label, (bar.length / view.width) * canvas.width, right, y, ratio * bar.type);
  }

  /**
   * @param {[row: number, col: number]} position
   * @returns {[x: number, y: number]}
   */
  #toCanvas([row, col]) {
    const { canvas, view } = this;
    return [((col - view.left) / view.width) * canvas.width, ((row - view.top) / view.height) * canvas.height];
  }

  /**
   * @param {Pixel} pixel
   * @param {number} ratio
   */
  #drawCrosshair({ row, col }, ratio) {
    const { context: c, canvas } = this;
    const [x, y] = this.#toCanvas([row + 0.5, col + 0.5]);
    c.lineWidth = ratio;
    for (const { style, shift } of [
      { style: "#000a", shift: ratio },
      { style: "#fffc", shift: 0 },
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

  /** @param {number} ratio */
  #drawHandle(ratio) {
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

  /**
   * The map in words, for screen readers.
   * @param {string} line
   * @param {string} measured
   */
  describe(line, measured) {
    const [low, high] = this.range ?? [NaN, NaN];
    const range = `${number(low)} to ${number(high)}, ${this.scale} scale`;
    this.canvas.setAttribute("aria-label", `${line} ${this.caption.textContent}: ${range}, ${measured}`);
  }
}
