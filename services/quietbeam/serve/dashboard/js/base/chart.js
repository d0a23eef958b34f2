// A small chart on a 2-D canvas: points with error bars, lines with an error band, ticks, a mark under the pointer.

import { number } from "./text.js";

const MARGIN = { left: 44, right: 10, top: 6, bottom: 18 };
const SOFT = "#8d9aab";
const GRID = "#232c38";

export class Chart {
  /** `onPoint(x)` is called with the value pointed at, or null; `onChoose(x)` with the one clicked. */
  constructor({ height, label, onPoint, onChoose, right = MARGIN.right }) {
    this.height = height;
    this.margin = { ...MARGIN, right };
    this.element = document.createElement("figure");
    this.element.className = "chart";
    this.caption = this.element.appendChild(document.createElement("figcaption"));
    this.caption.textContent = label;
    this.canvas = this.element.appendChild(document.createElement("canvas"));
    this.canvas.setAttribute("role", "img");
    const value = (event) => this.place && this.place.value(event.clientX - this.canvas.getBoundingClientRect().left);
    this.canvas.addEventListener("pointermove", (event) => onPoint?.(value(event)));
    this.canvas.addEventListener("pointerleave", () => onPoint?.(null));
    this.canvas.addEventListener("click", (event) => onChoose?.(value(event)));
    if (onChoose) this.canvas.style.cursor = "pointer";
  }

  /** Draw `series` [{kind: "dots" | "line", points: [{x, y, low, high}], colour, dash, end}]; `mark` is an x value. */
  draw({ series, log = false, mark = null, unit = "", from = null }) {
    const ratio = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth || 340;
    [this.canvas.width, this.canvas.height] = [Math.round(width * ratio), Math.round(this.height * ratio)];
    this.canvas.style.height = `${this.height}px`;
    const c = this.canvas.getContext("2d");
    c.scale(ratio, ratio);
    c.font = '10.5px system-ui, "DejaVu Sans", sans-serif';
    const points = series.flatMap((one) => one.points).filter(({ y }) => Number.isFinite(y));
    this.place = null;
    if (!points.length) {
      c.fillStyle = SOFT;
      c.fillText("nothing measured here yet", this.margin.left, this.height / 2);
      this.canvas.setAttribute("aria-label", `${this.caption.textContent}: nothing measured yet`);
      return;
    }
    const place = axes(points, { width, height: this.height, margin: this.margin, log, from });
    this.place = place;
    ticks(c, place, unit);
    c.save();
    c.beginPath();
    c.rect(place.left, place.top - 3, place.right - place.left, place.bottom - place.top + 6);
    c.clip();
    for (const one of series) (one.kind === "dots" ? dots : line)(c, place, one);
    if (mark !== null) {
      c.fillStyle = "#fffc";
      c.fillRect(place.x(mark) - 0.5, place.top, 1, place.bottom - place.top);
    }
    c.restore();
    labels(c, place, series);
    const [low, high] = [place.low, place.high].map(number);
    this.canvas.setAttribute(
      "aria-label",
      `${this.caption.textContent}: ${points.length} values from ${low} to ${high}`,
    );
  }
}

function axes(points, { width, height, margin, log, from }) {
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const { x, y, low, high } of points) {
    [x0, x1] = [Math.min(x0, x), Math.max(x1, x)];
    [y0, y1] = [Math.min(y0, low ?? y), Math.max(y1, high ?? y)];
  }
  if (from !== null) y0 = Math.min(from, y0);
  if (log) y0 = Math.max(y0, 1e-6);
  if (!(y1 > y0)) y1 = log ? y0 * 2 : y0 + 1;
  if (x1 === x0) [x0, x1] = [x0 - 0.5, x1 + 0.5];
  const by = log ? Math.log : (value) => value;
  const [left, right, top, bottom] = [margin.left, width - margin.right, margin.top, height - margin.bottom];
  const [b0, b1] = [by(y0), by(y1)];
  return {
    left,
    right,
    top,
    bottom,
    log,
    low: y0,
    high: y1,
    first: x0,
    last: x1,
    x: (value) => left + ((value - x0) / (x1 - x0)) * (right - left),
    y: (value) => bottom - ((by(Math.max(value, log ? 1e-9 : -Infinity)) - b0) / (b1 - b0)) * (bottom - top),
    value: (px) => Math.max(x0, Math.min(x1, x0 + ((px - left) / (right - left)) * (x1 - x0))),
  };
}

/** Round values that span a range, about `n` of them. */
export function roundTicks(low, high, n) {
  const step = (high - low) / Math.max(1, n);
  const power = 10 ** Math.floor(Math.log10(step));
  const size = [1, 2, 5, 10].find((k) => k * power >= step) * power;
  const found = [];
  for (let k = Math.ceil(low / size - 1e-9); k * size <= high + 1e-9 * size; k++)
    found.push(Number((k * size).toPrecision(6)));
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const k of high / low > 30 ? [1] : [1, 2, 5])
      if (k * 10 ** power >= low && k * 10 ** power <= high) found.push(k * 10 ** power);
  }
  return found.length > 1 ? found : [low, high];
}

function ticks(c, place, unit) {
  c.fillStyle = SOFT;
  c.textBaseline = "middle";
  c.textAlign = "right";
  for (const value of place.log ? logTicks(place.low, place.high) : roundTicks(place.low, place.high, 3)) {
    const y = Math.round(place.y(value));
    c.fillStyle = GRID;
    c.fillRect(place.left, y, place.right - place.left, 1);
    c.fillStyle = SOFT;
    c.fillText(number(value), place.left - 5, y);
  }
  c.textBaseline = "alphabetic";
  const across = roundTicks(place.first, place.last, 4);
  across.forEach((value, i) => {
    const last = i === across.length - 1;
    c.textAlign = "center";
    c.fillText(
      last && unit ? `${number(value)} ${unit}` : number(value),
      Math.min(place.x(value), place.right - (last && unit ? 14 : 0)),
      place.bottom + 13,
    );
  });
  c.textAlign = "left";
}

function dots(c, place, { points, colour }) {
  c.fillStyle = c.strokeStyle = colour;
  c.lineWidth = 1;
  for (const { x, y, low, high } of points) {
    if (!Number.isFinite(y)) continue;
    const [px, py] = [place.x(x), place.y(y)];
    c.fillRect(px - 1.25, py - 1.25, 2.5, 2.5);
    if (low === null || low === undefined || high === null || high === undefined) continue;
    c.globalAlpha = 0.5;
    c.fillRect(px - 0.5, place.y(high), 1, place.y(low) - place.y(high));
    c.globalAlpha = 1;
  }
}

function line(c, place, { points, colour, dash = [] }) {
  for (const part of parts(points)) {
    const bounded = part.filter(({ low, high }) => Number.isFinite(low) && Number.isFinite(high));
    if (bounded.length > 1) {
      c.fillStyle = colour;
      c.globalAlpha = 0.22;
      c.beginPath();
      for (const { x, high } of bounded) c.lineTo(place.x(x), place.y(high));
      for (const { x, low } of [...bounded].reverse()) c.lineTo(place.x(x), place.y(low));
      c.fill();
      c.globalAlpha = 1;
    }
    c.strokeStyle = colour;
    c.lineWidth = 1.5;
    c.setLineDash(dash);
    c.beginPath();
    for (const { x, y } of part) c.lineTo(place.x(x), place.y(y));
    if (part.length === 1) c.arc(place.x(part[0].x), place.y(part[0].y), 1, 0, 7);
    c.stroke();
    c.setLineDash([]);
  }
}

/** Runs of points that have a value. */
function parts(points) {
  const found = [[]];
  for (const point of points) {
    if (Number.isFinite(point.y)) found.at(-1).push(point);
    else if (found.at(-1).length) found.push([]);
  }
  return found.filter((part) => part.length);
}

/** Names at the right ends of the lines, moved apart where they would overlap. */
function labels(c, place, series) {
  const named = series
    .filter((one) => one.end && one.points.some(({ y }) => Number.isFinite(y)))
    .map((one) => ({ ...one, y: place.y(one.points.findLast(({ y }) => Number.isFinite(y)).y) }))
    .sort((a, b) => a.y - b.y);
  const gap = Math.min(11, (place.bottom - place.top + 8) / Math.max(1, named.length));
  named.forEach((one, i) => (one.y = Math.max(one.y, i ? named[i - 1].y + gap : place.top)));
  for (let i = named.length - 1; i >= 0; i--) {
    named[i].y = Math.min(named[i].y, i === named.length - 1 ? place.bottom + 4 : named[i + 1].y - gap);
  }
  c.textBaseline = "middle";
  for (const { end, y, colour } of named) {
    c.fillStyle = colour;
    c.fillText(end, place.right + 5, y);
  }
  c.textBaseline = "alphabetic";
}
