// The values of one line, and the colours and ranges in which its maps show them.

import { rangeOf, symmetricRange } from "../base/colour.js";
import { unitText } from "../data/units.js";

/** @typedef {"raw" | "denoised" | "uncertainty"} FetchedKind */
/** @typedef {Record<FetchedKind, Float32Array> & Partial<Record<MapKind, Float32Array>>} LineValues */

/** @type {ValueRange} chi-square: noise alone goes beyond 9 (3 sigma) almost nowhere */
const CHI2_RANGE = [0, 9];
/** @type {ValueRange} */
const SIGMA_RANGE = [-4, 4];

/**
 * One line's values of each kind, as flat arrays (row, col); of residual and chi-square where they are `shown`.
 * @param {Stacks} stacks
 * @param {number} index of the line
 * @param {Run["kind"]} kind of the run
 * @param {Set<ShownKind>} shown
 * @returns {LineValues}
 */
export function valuesOf(stacks, index, kind, shown) {
  const { rows, cols } = stacks.raw;
  const ofLine = (/** @type {Stack} */ stack) => stack.data.subarray(index * rows * cols, (index + 1) * rows * cols);
  const [raw, denoised, uncertainty] = [stacks.raw, stacks.denoised, stacks.uncertainty].map(ofLine);
  /** @type {LineValues} */
  const values = { raw, denoised, uncertainty };
  if (shown.has("residual")) values.residual = residualOf(raw, denoised, kind);
  if (shown.has("chi2")) values.chi2 = stacks.chi2 ? ofLine(stacks.chi2) : new Float32Array(rows * cols).fill(NaN);
  return values;
}

/**
 * Raw minus denoised, for counts in units of the counting noise.
 * @param {Float32Array} raw
 * @param {Float32Array} denoised
 * @param {Run["kind"]} kind of the run
 */
export function residualOf(raw, denoised, kind) {
  const noise = (/** @type {number} */ rate) => (kind === "counts" ? Math.sqrt(Math.max(rate, 1)) : 1);
  return Float32Array.from(raw, (value, i) => (value - denoised[i]) / noise(denoised[i]));
}

/**
 * The range of raw and denoised together, where both are to share one; else null.
 * @param {LineValues} values
 * @param {Pick<OptionValues, "sameRange" | "swipe" | "clip">} options
 */
export function sharedRange({ raw, denoised }, { sameRange, swipe, clip }) {
  return sameRange || swipe ? rangeOf([raw, denoised], clip) : null;
}

/**
 * In which colours, scale and range a kind of map is shown.
 * @param {ShownKind} kind
 * @param {LineValues} values
 * @param {Run} run
 * @param {Pick<OptionValues, "cmap" | "scale" | "clip">} options
 * @param {ValueRange | null} shared range of raw and denoised
 * @returns {ColourBar}
 */
export function colouringOf(kind, values, run, { cmap, scale, clip }, shared) {
  const unit = unitOf(kind, run);
  if (kind === "chi2") return { kind, name: cmap, scale: "linear", range: CHI2_RANGE, shared: false, unit };
  if (kind === "residual") {
    const range = run.kind === "counts" ? SIGMA_RANGE : symmetricRange(valuesOfKind(values, kind), clip);
    return { kind, name: "difference", scale: "linear", range, shared: false, unit };
  }
  if (kind === "uncertainty") {
    return { kind, name: cmap, scale: "linear", range: rangeOf([values.uncertainty], clip), shared: false, unit };
  }
  const range = shared ?? rangeOf([valuesOfKind(values, kind)], clip);
  return { kind, name: cmap, scale, range, shared: shared !== null, unit };
}

/**
 * The values that a map of this kind shows; a swipe map shows denoised right of its divider.
 * @param {LineValues} values
 * @param {ShownKind} kind
 */
export function valuesOfKind(values, kind) {
  const found = kind === "swipe" || kind === "rgb" ? values.denoised : values[kind];
  if (!found) throw new RangeError(`there are no values of ${kind}`);
  return found;
}

/**
 * @param {ShownKind} kind
 * @param {Pick<Run, "kind" | "unit">} run
 */
export function unitOf(kind, run) {
  if (kind === "chi2") return "χ²";
  if (kind !== "residual" && run.unit?.available) return unitText(run.unit.units);
  if (run.kind !== "counts") return kind === "residual" ? "" : "area";
  return kind === "residual" ? "σ" : "counts";
}
