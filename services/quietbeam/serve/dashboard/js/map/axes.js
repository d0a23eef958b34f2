// Ticks in the run's units (pixels where its steps are not known) along the shown part of a map.

import { roundTicks } from "../base/chart.js";
import { number, unitName } from "../base/text.js";

const ROOM = 190; // CSS pixels of a map below which numbers would cover it

/** {unit, rows, cols}: about `count` ticks an axis, each [value, part of the shown height or width]. */
export function axesOf(run, view, count) {
  const known = run.step && run.origin;
  const along = (axis, from, size) => {
    const value = (index) => (known ? run.origin[axis] + (index - 0.5) * run.step[axis] : index - 0.5);
    const [a, b] = [value(from), value(from + size)];
    return roundTicks(Math.min(a, b), Math.max(a, b), count).map((tick) => [tick, (tick - a) / (b - a)]);
  };
  return {
    unit: known ? unitName(run.units) : "pixel",
    rows: along(0, view.top, view.height),
    cols: along(1, view.left, view.width),
  };
}

/** Draw ticks at the left and lower edge of a map of `width` x `height` canvas pixels; numbers where there is room. Return the height they take. */
export function drawAxes(c, axes, width, height, ratio, withRows) {
  const roomy = width / ratio >= ROOM;
  c.font = `${10 * ratio}px system-ui, "DejaVu Sans", sans-serif`;
  c.lineWidth = 3 * ratio;
  c.lineJoin = "round";
  const mark = (x, y, w, h) => {
    c.fillStyle = "#000a";
    c.fillRect(x - ratio, y - ratio, w + 2 * ratio, h + 2 * ratio);
    c.fillStyle = "#ffffffd8";
    c.fillRect(x, y, w, h);
  };
  const words = (text, x, y, align) => {
    c.textAlign = align;
    c.strokeStyle = "#000b";
    c.strokeText(text, x, y);
    c.fillStyle = "#fff";
    c.fillText(text, x, y);
  };
  axes.cols.forEach(([value, part], i) => {
    const x = Math.round(part * width);
    mark(x, height - 4 * ratio, ratio, 4 * ratio);
    const unit = i === axes.cols.length - 1 ? ` ${axes.unit}` : "";
    if (roomy && part > 0.04 && part < 0.9) words(`${number(value)}${unit}`, x, height - 7 * ratio, "center");
  });
  for (const [value, part] of axes.rows) {
    const y = Math.round(part * height);
    mark(0, y, 4 * ratio, ratio);
    if (roomy && withRows && part > 0.04 && part < 0.85) words(number(value), 7 * ratio, y + 3.5 * ratio, "left");
  }
  c.textAlign = "left";
  return roomy ? 16 * ratio : 0;
}
