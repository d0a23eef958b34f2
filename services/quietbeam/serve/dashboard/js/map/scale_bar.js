// The scale bar of a map.

import { unitName } from "../base/text.js";

/**
 * A round length, at most a third of the shown width and 100 CSS pixels; null without units.
 * @param {Pick<Run, "step" | "units">} run
 * @param {{width: number}} view map columns that are shown
 * @param {number} mapWidth in CSS pixels
 * @param {number} [type] size of the text, 1 as usual
 * @returns {ScaleBar | null}
 */
export function scaleBar(run, view, mapWidth, type = 1) {
  const step = Math.abs(run.step?.[1] ?? 0);
  if (!step) return null;
  const most = view.width * step * Math.min(1 / 3, 100 / mapWidth);
  const power = 10 ** Math.floor(Math.log10(most));
  const length = ([5, 2].find((n) => n * power <= most) ?? 1) * power;
  const [value, unit] = run.units === "um" && length < 1 ? [length * 1000, "nm"] : [length, unitName(run.units)];
  return { length: length / step, label: `${Number(value.toPrecision(3))} ${unit}`, type };
}

/**
 * Draw a bar that ends at `right`, because the numbers of the rows are at the left.
 * @param {CanvasRenderingContext2D} c
 * @param {string} label
 * @param {number} width in canvas pixels
 * @param {number} right
 * @param {number} y
 * @param {number} ratio canvas pixels a CSS pixel
 */
export function drawScaleBar(c, label, width, right, y, ratio) {
  c.font = `${11 * ratio}px system-ui, "DejaVu Sans", sans-serif`;
  const wide = Math.max(width, c.measureText(label).width);
  const x = right - wide;
  c.fillStyle = "#0009";
  c.fillRect(x - 4 * ratio, y - 16 * ratio, wide + 8 * ratio, 21 * ratio);
  c.fillStyle = "#fff";
  c.fillRect(right - width, y, width, 2 * ratio);
  c.fillText(label, x, y - 4 * ratio);
}
