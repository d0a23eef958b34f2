// A small chart on a 2-D canvas: points with error bars, lines with an error band, ticks, a mark under the pointer.

import { create, sizedContext } from "./dom.js";
import { number } from "./text.js";
import { logTicks, plotScale, roundTicks } from "./ticks.js";

/** @import { PlotScale } from "./ticks.js" */

const MARGIN = { left: 44, right: 10, top: 6, bottom: 18 };
const SOFT = "#8d9aab";
const GRID = "#232c38";

export class Chart {
  /**
   * `onPoint(x)` is called with the value under the pointer, or null; `onChoose(x)` with the clicked value.
   * @param {object} options
   * @param {number} options.height
   * @param {string} options.label
   * @param {(x: number | null) => void} [options.onPoint]
   * @param {(x: number | null) => void} [options.onChoose]
   * @param {number} [options.right] margin for the names of the lines
   */
  constructor({ height, label, onPoint, onChoose, right = MARGIN.right }) {
    this.height = height;
    this.margin = { ...MARGIN, right };
    this.element = create("figure", { className: "chart" });
    this.caption = this.element.appendChild(create("figcaption", { textContent: label }));
    this.canvas = this.element.appendChild(create("canvas"));
    this.canvas.setAttribute("role", "img");
    /** @type {PlotScale | null} */
    this.scale = null;
    const value = (/** @type {MouseEvent} */ event) =>
      this.scale && this.scale.value(event.clientX - this.canvas.getBoundingClientRect().left);
    this.canvas.addEventListener("pointermove", (event) => onPoint?.(value(event)));
    this.canvas.addEventListener("pointerleave", () => onPoint?.(null));
    this.canvas.addEventListener("click", (event) => onChoose?.(value(event)));
    if (onChoose) this.canvas.style.cursor = "pointer";
  }

  /**
   * Draw `series`; `mark` is an x value, `from` a value that the y axis includes.
   * @param {object} content
   * @param {Series[]} content.series
   * @param {boolean} [content.log]
   * @param {number | null} [content.mark]
   * @param {string} [content.unit]
   * @param {number | null} [content.from]
   */
  draw({ series, log = false, mark = null, unit = "", from = null }) {
    const width = this.canvas.clientWidth || 340;
    const c = sizedContext(this.canvas, width, this.height);
    this.canvas.style.height = `${this.height}px`;
    c.font = '10.5px system-ui, "DejaVu Sans", sans-serif';
    const points = series.flatMap((curve) => curve.points).filter(hasValue);
    this.scale = null;
    if (!points.length) {
      c.fillStyle = SOFT;
      c.fillText("nothing measured here yet", this.margin.left, this.height / 2);
      this.canvas.setAttribute("aria-label", `${this.caption.textContent}: nothing measured yet`);
      return;
    }
    const { left, right, top, bottom } = this.margin;
    const area = { left, right: width - right, top, bottom: this.height - bottom };
    const scale = plotScale(points, area, { log, from });
    this.scale = scale;
    drawTicks(c, scale, unit);
    c.save();
    c.beginPath();
    c.rect(scale.left, scale.top - 3, scale.right - scale.left, scale.bottom - scale.top + 6);
    c.clip();
    for (const curve of series) (curve.kind === "dots" ? drawDots : drawLine)(c, scale, curve);
    if (mark !== null) {
      c.fillStyle = "#fffc";
      c.fillRect(scale.x(mark) - 0.5, scale.top, 1, scale.bottom - scale.top);
    }
    c.restore();
    drawEnds(c, scale, series);
    const range = `${number(scale.low)} to ${number(scale.high)}`;
    this.canvas.setAttribute("aria-label", `${this.caption.textContent}: ${points.length} values from ${range}`);
  }
}

/** @param {Point} point */
const hasValue = ({ y }) => Number.isFinite(y);

/**
 * @param {CanvasRenderingContext2D} c
 * @param {PlotScale} scale
 * @param {string} unit
 */
function drawTicks(c, scale, unit) {
  c.textBaseline = "middle";
  c.textAlign = "right";
  for (const value of scale.log ? logTicks(scale.low, scale.high) : roundTicks(scale.low, scale.high, 3)) {
    const y = Math.round(scale.y(value));
    c.fillStyle = GRID;
    c.fillRect(scale.left, y, scale.right - scale.left, 1);
    c.fillStyle = SOFT;
    c.fillText(number(value), scale.left - 5, y);
  }
  c.textBaseline = "alphabetic";
  c.textAlign = "center";
  const across = roundTicks(scale.first, scale.last, 4);
  across.forEach((value, i) => {
    const withUnit = unit && i === across.length - 1;
    const x = Math.min(scale.x(value), scale.right - (withUnit ? 14 : 0));
    c.fillText(withUnit ? `${number(value)} ${unit}` : number(value), x, scale.bottom + 13);
  });
  c.textAlign = "left";
}

/**
 * @param {CanvasRenderingContext2D} c
 * @param {PlotScale} scale
 * @param {Series} series
 */
function drawDots(c, scale, { points, colour }) {
  c.fillStyle = c.strokeStyle = colour;
  c.lineWidth = 1;
  for (const { x, y, low, high } of points) {
    if (!Number.isFinite(y)) continue;
    const [px, py] = [scale.x(x), scale.y(y)];
    c.fillRect(px - 1.25, py - 1.25, 2.5, 2.5);
    if (low === null || low === undefined || high === null || high === undefined) continue;
    c.globalAlpha = 0.5;
    c.fillRect(px - 0.5, scale.y(high), 1, scale.y(low) - scale.y(high));
    c.globalAlpha = 1;
  }
}

/**
 * @param {CanvasRenderingContext2D} c
 * @param {PlotScale} scale
 * @param {Series} series
 */
function drawLine(c, scale, { points, colour, dash = [] }) {
  for (const part of contiguous(points)) {
    drawBand(c, scale, part, colour);
    c.strokeStyle = colour;
    c.lineWidth = 1.5;
    c.setLineDash(dash);
    c.beginPath();
    for (const { x, y } of part) c.lineTo(scale.x(x), scale.y(y));
    if (part.length === 1) c.arc(scale.x(part[0].x), scale.y(part[0].y), 1, 0, 7);
    c.stroke();
    c.setLineDash([]);
  }
}

/**
 * The error band around a line, over the points that have both ends of it.
 * @param {CanvasRenderingContext2D} c
 * @param {PlotScale} scale
 * @param {Point[]} points
 * @param {string} colour
 */
function drawBand(c, scale, points, colour) {
  const bounded = points.filter(({ low, high }) => Number.isFinite(low) && Number.isFinite(high));
  if (bounded.length < 2) return;
  c.fillStyle = colour;
  c.globalAlpha = 0.22;
  c.beginPath();
  for (const { x, high } of bounded) c.lineTo(scale.x(x), scale.y(Number(high)));
  for (const { x, low } of [...bounded].reverse()) c.lineTo(scale.x(x), scale.y(Number(low)));
  c.fill();
  c.globalAlpha = 1;
}

/**
 * Stretches of neighbouring points that have a value.
 * @param {Point[]} points
 */
export function contiguous(points) {
  /** @type {Point[][]} */
  const parts = [];
  let open = false;
  for (const point of points) {
    if (hasValue(point) && open) parts[parts.length - 1].push(point);
    else if (hasValue(point)) parts.push([point]);
    open = hasValue(point);
  }
  return parts;
}

/**
 * Names at the right ends of the lines.
 * @param {CanvasRenderingContext2D} c
 * @param {PlotScale} scale
 * @param {Series[]} series
 */
function drawEnds(c, scale, series) {
  const named = series
    .map(({ end = "", colour, points }) => ({ end, colour, last: points.findLast(hasValue) }))
    .flatMap(({ end, colour, last }) => (end && last ? [{ end, colour, y: scale.y(last.y) }] : []))
    .sort((a, b) => a.y - b.y);
  const heights = movedApart(
    named.map(({ y }) => y),
    scale.top,
    scale.bottom + 4,
  );
  c.textBaseline = "middle";
  named.forEach(({ end, colour }, i) => {
    c.fillStyle = colour;
    c.fillText(end, scale.right + 5, heights[i]);
  });
  c.textBaseline = "alphabetic";
}

/**
 * Sorted heights of texts, moved apart where the texts would overlap, between `top` and `bottom` as far as they fit.
 * @param {number[]} heights
 * @param {number} top
 * @param {number} bottom
 */
export function movedApart(heights, top, bottom) {
  const gap = Math.min(11, (bottom - top + 4) / Math.max(1, heights.length));
  const moved = [...heights];
  for (let i = 0; i < moved.length; i++) moved[i] = Math.max(moved[i], i ? moved[i - 1] + gap : top);
  for (let i = moved.length - 1; i >= 0; i--) {
    moved[i] = Math.min(moved[i], i === moved.length - 1 ? bottom : moved[i + 1] - gap);
  }
  return moved;
}
