// The detector elements as circles, drawn where they sit.

import { sizedContext } from "../base/dom.js";

/** @import { DetectorHealth } from "./detector_health.js" */

const TEXT = "#d5dde7";
const SOFT = "#8d9aab";
const FONT = 'system-ui, "DejaVu Sans", sans-serif';
const HEIGHT = 210;
const SMALLEST = 12; // radius of a circle with text

/**
 * Circles in the detector's layout, or in a ring where it is not known; brightness is the gain, a cross means left out.
 * @param {HTMLCanvasElement} canvas
 * @param {DetectorHealth[]} detectors
 */
export function drawLayout(canvas, detectors) {
  const width = (canvas.parentElement?.clientWidth ?? 0) - 24;
  Object.assign(canvas.style, { width: `${width}px`, height: `${HEIGHT}px` });
  const c = sizedContext(canvas, width, HEIGHT);
  const { points, radius } = arrange(detectors, width, HEIGHT);
  c.textAlign = "center";
  detectors.forEach((detector, i) => {
    drawCircle(c, detector, points[i], radius);
    if (radius >= SMALLEST) drawTexts(c, detector, points[i], radius);
  });
  const states = detectors.map(
    ({ name, excluded, gain }) =>
      `${name} ${excluded.length ? `left out: ${excluded.join("; ")}` : `used, gain ${gain}`}`,
  );
  canvas.setAttribute("aria-label", `Layout of ${detectors.length} detectors. ${states.join(". ")}`);
}

/**
 * @param {CanvasRenderingContext2D} c
 * @param {DetectorHealth} detector
 * @param {[x: number, y: number]} centre
 * @param {number} radius
 */
function drawCircle(c, { mean, excluded, leftOut }, [x, y], radius) {
  const strength = mean === null ? 0 : Math.max(0, Math.min(1, mean / 2)); // gain 1 is the middle
  c.beginPath();
  c.arc(x, y, radius, 0, 2 * Math.PI);
  c.fillStyle = leftOut ? "#1b222c" : `hsl(174 40% ${Math.round(14 + 26 * strength)}%)`;
  c.strokeStyle = excluded.length ? "#e6b34d" : "#3d6a6c";
  c.lineWidth = excluded.length ? 2 : 1.2;
  c.setLineDash(excluded.length && !leftOut ? [4, 3] : []);
  c.fill();
  c.stroke();
  c.setLineDash([]);
  if (!leftOut) return;
  const arm = 0.7 * radius;
  c.beginPath();
  for (const side of [-1, 1]) {
    c.moveTo(x - arm, y + side * arm);
    c.lineTo(x + arm, y - side * arm);
  }
  c.stroke();
}

/**
 * @param {CanvasRenderingContext2D} c
 * @param {DetectorHealth} detector
 * @param {[x: number, y: number]} centre
 * @param {number} radius
 */
function drawTexts(c, { name, gain, excluded }, [x, y], radius) {
  c.fillStyle = TEXT;
  c.font = `600 ${Math.min(13, radius / 2.2)}px ${FONT}`;
  c.fillText(name, x, y, 1.8 * radius);
  c.fillStyle = SOFT;
  c.font = `${Math.min(11, radius / 2.6)}px ${FONT}`;
  c.fillText(gain === "–" ? "" : `× ${gain}`, x, y + Math.min(14, radius / 2), 1.8 * radius);
  if (excluded.length) c.fillText("▲", x, y - radius / 2.2);
}

/**
 * Centres and radius of the circles, as large as fit without touching.
 * @param {{position: [number, number] | null}[]} detectors
 * @param {number} width
 * @param {number} height
 * @returns {{points: [x: number, y: number][], radius: number}}
 */
export function arrange(detectors, width, height) {
  const places = placesOf(detectors);
  const distances = places.flatMap(([x, y], i) => places.slice(i + 1).map(([u, v]) => Math.hypot(x - u, y - v)));
  const nearest = Math.min(...distances, Infinity);
  const step = Number.isFinite(nearest) && nearest > 0 ? nearest : 1;
  const [x, y] = [extentOf(places.map((place) => place[0])), extentOf(places.map((place) => place[1]))];
  const scale = Math.min((width - 8) / (x.size + step), (height - 8) / (y.size + step), 96 / step);
  return {
    points: places.map(([u, v]) => [width / 2 + (u - x.middle) * scale, height / 2 + (v - y.middle) * scale]),
    radius: 0.44 * step * scale,
  };
}

/**
 * The positions with y downwards; a ring where not all are known.
 * @param {{position: [number, number] | null}[]} detectors
 * @returns {[x: number, y: number][]}
 */
function placesOf(detectors) {
  const known = detectors.flatMap(({ position }) => (Array.isArray(position) ? [position] : []));
  const n = detectors.length;
  if (known.length === n) return known.map(([x, y]) => [x, -y]);
  if (n < 3) return detectors.map((_, i) => [i, 0]);
  return detectors.map((_, i) => {
    const angle = (2 * Math.PI * i) / n - Math.PI / 2;
    return [Math.cos(angle), Math.sin(angle)];
  });
}

/** @param {number[]} values */
function extentOf(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return { size: high - low, middle: (low + high) / 2 };
}
