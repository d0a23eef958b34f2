// Ticks in the run's units (pixels where its steps are not known) along the shown part of a map.

import { number, unitName } from "../base/text.js";
import { roundTicks } from "../base/ticks.js";
import { pixelAxes } from "../data/orientation.js";

/** @import { View } from "../base/view.js" */

const ROOM = 190; // CSS pixels of a map below which numbers would cover it

/**
 * About `count` ticks an axis for the part of a map that is shown.
 * @param {Pick<Run, "step" | "origin" | "units" | "shape" | "display">} run
 * @param {Pick<View, "top" | "left" | "height" | "width">} view
 * @param {number} count
 * @returns {MapAxes}
 */
export function axesOf(run, view, count) {
  const known = Boolean(run.step && run.origin);
  const { step, origin } = run.step && run.origin ? { step: run.step, origin: run.origin } : pixelAxes(run);
  const along = (/** @type {0 | 1} */ axis, /** @type {number} */ from, /** @type {number} */ size) => {
    const value = (/** @type {number} */ index) => origin[axis] + (index - 0.5) * step[axis];
    const [a, b] = [value(from), value(from + size)];
    const ticks = roundTicks(Math.min(a, b), Math.max(a, b), count);
    return ticks.map((tick) => /** @type {AxisTick} */ ([tick, (tick - a) / (b - a)]));
  };
  const [rows, cols] = [along(0, view.top, view.height), along(1, view.left, view.width)];
  return { unit: known ? unitName(run.units) : "pixel", rows, cols };
}

/**
 * Draw ticks at the left and lower edge of a map, numbers where there is room. Returns the height of the numbers.
 * @param {CanvasRenderingContext2D} c
 * @param {MapAxes} axes
 * @param {number} width in canvas pixels
 * @param {number} height
 * @param {number} ratio canvas pixels a CSS pixel
 * @param {boolean} withRows whether the rows have numbers
 */
export function drawAxes(c, axes, width, height, ratio, withRows) {
  const roomy = width / ratio >= ROOM;
  c.font = `${10 * ratio}px system-ui, "DejaVu Sans", sans-serif`;
  c.lineWidth = 3 * ratio;
  c.lineJoin = "round";
  axes.cols.forEach(([value, part], i) => {
    const x = Math.round(part * width);
    drawTick(c, x, height - 4 * ratio, ratio, 4 * ratio, ratio);
    const unit = i === axes.cols.length - 1 ? ` ${axes.unit}` : "";
    if (roomy && part > 0.04 && part < 0.9) {
      drawOutlined(c, `${number(value)}${unit}`, x, height - 7 * ratio, "center");
    }
  });
  for (const [value, part] of axes.rows) {
    const y = Math.round(part * height);
    drawTick(c, 0, y, 4 * ratio, ratio, ratio);
    if (roomy && withRows && part > 0.04 && part < 0.85) {
      drawOutlined(c, number(value), 7 * ratio, y + 3.5 * ratio, "left");
    }
  }
  c.textAlign = "left";
  return roomy ? 16 * ratio : 0;
}

/**
 * @param {CanvasRenderingContext2D} c
 * @param {number} x
 * @param {number} y
 * @param {number} w
 * @param {number} h
 * @param {number} border
 */
function drawTick(c, x, y, w, h, border) {
  c.fillStyle = "#000a";
  c.fillRect(x - border, y - border, w + 2 * border, h + 2 * border);
  c.fillStyle = "#ffffffd8";
  c.fillRect(x, y, w, h);
}

/**
 * @param {CanvasRenderingContext2D} c
 * @param {string} text
 * @param {number} x
 * @param {number} y
 * @param {CanvasTextAlign} align
 */
function drawOutlined(c, text, x, y, align) {
  c.textAlign = align;
  c.strokeStyle = "#000b";
  c.strokeText(text, x, y);
  c.fillStyle = "#fff";
  c.fillText(text, x, y);
}
