// The position and the values under the crosshair in words, for the foot of the page and for screen readers.

import { byId } from "../base/dom.js";
import { lineName, unitName } from "../base/text.js";
import { scanPixel } from "../data/orientation.js";

/** @import { LineCard } from "./card.js" */

const LOWEST = 1 / 12; // height of a map of one row, as part of its width
const NO_POSITION = "Point at a map to read values in all of them";

/**
 * Height and width of a map in equal units, so that a round grain is round; pixels where the steps are not known.
 * A map of one row has no height of its own, and is as high as it takes to see it.
 * @param {Pick<MappedRun, "shape" | "step">} run
 * @returns {[height: number, width: number]}
 */
export function extents({ shape: [rows, cols], step }) {
  if (rows === 1 || cols === 1) return [Math.max(rows, cols * LOWEST), Math.max(cols, rows * LOWEST)];
  const ratio = step ? Math.abs(step[0]) / Math.abs(step[1]) : 1;
  return ratio >= 0.05 && ratio <= 20 ? [rows * ratio, cols] : [rows, cols]; // one axis may have no length at all
}

/**
 * "row 3, col 5   my 1.50 µm, mx 2.50 µm" of the scan; pixels alone where the positions are not known.
 * @param {Run} run
 * @param {Pixel} pixel of the picture
 */
export function positionText(run, pixel) {
  const { row, col } = scanPixel(run, pixel);
  const position = positionOf(run, pixel, { row, col });
  const unit = unitName(run.units);
  const named = ["slow", "fast"].flatMap((name, axis) => {
    const value = position[axis];
    return value === null ? [] : [`${run.axes?.[axis] || name} ${value.toFixed(2)} ${unit}`];
  });
  return [`row ${row}, col ${col}`, named.join(", ")].filter(Boolean).join("   ");
}

/**
 * The positions of the (row, col) motors; null where one is not known.
 * @param {Run} run
 * @param {Pixel} pixel of the picture
 * @param {Pixel} scanned the same of the scan
 * @returns {[number | null, number | null]}
 */
function positionOf({ step, origin, display, row_positions: rows, col_positions: cols }, pixel, { row, col }) {
  if (!step || !origin) return [rows?.[row] ?? null, cols?.[col] ?? null];
  const [vertical, horizontal] = [origin[0] + pixel.row * step[0], origin[1] + pixel.col * step[1]];
  return display?.transpose ? [horizontal, vertical] : [vertical, horizontal];
}

/**
 * Show the position under the crosshair at the foot of the page.
 * @param {Run} run
 * @param {Pixel | null} hover
 */
export function showPosition(run, hover) {
  byId("readout").textContent = hover ? positionText(run, hover) : NO_POSITION;
}

/**
 * Have screen readers say the values under the crosshair: of the line that has the focus, else of the first three.
 * @param {Run} run
 * @param {Pixel | null} hover
 * @param {LineCard[]} cards
 */
export function speak(run, hover, cards) {
  if (!hover || !cards.length) return;
  const focused = cards.filter((card) => card.focused);
  const spoken = focused.length ? focused : cards.slice(0, 3);
  const values = spoken.map((card) => `${lineName(card.line)}: ${card.read(hover)}`);
  byId("spoken").textContent = `${positionText(run, hover)}. ${values.join(". ")}`;
}
