// The position and the values under the crosshair in words, for the foot of the page and for screen readers.

import { byId } from "../base/dom.js";
import { lineName, unitName } from "../base/text.js";

/** @import { LineCard } from "./card.js" */

const NO_POSITION = "Point at a map to read values in all of them";

/**
 * Height and width of a map in equal units, so that a round grain is round; pixels where the steps are not known.
 * @param {Pick<MappedRun, "shape" | "step">} run
 * @returns {[height: number, width: number]}
 */
export function extents({ shape: [rows, cols], step }) {
  const ratio = step ? Math.abs(step[0]) / Math.abs(step[1]) : 1;
  return ratio >= 0.05 && ratio <= 20 ? [rows * ratio, cols] : [rows, cols]; // one axis may have no length at all
}

/**
 * "row 3, col 5   slow 1.50 µm, fast 2.50 µm"; pixels alone where the steps are not known.
 * @param {Pick<Run, "step" | "origin" | "units">} run
 * @param {Pixel} pixel
 */
export function positionText({ step, origin, units }, { row, col }) {
  const pixel = `row ${row}, col ${col}`;
  if (!step || !origin) return pixel;
  const [slow, fast] = [origin[0] + row * step[0], origin[1] + col * step[1]].map((value) => value.toFixed(2));
  const unit = unitName(units);
  return `${pixel}   slow ${slow} ${unit}, fast ${fast} ${unit}`;
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
