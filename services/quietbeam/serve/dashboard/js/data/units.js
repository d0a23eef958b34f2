// The unit in which maps are shown: counts, counts per second, or areal density by the server's factors.

/** @typedef {import("../base/stats.js").Means} Means */
/** @typedef {Pick<UnitLine, "factor" | "background" | "relative_error">} Conversion */

/**
 * "µg/cm²" for "ug/cm2".
 * @param {UnitName} unit
 */
export function unitText(unit) {
  return unit === "ug/cm2" ? "µg/cm²" : unit;
}

/**
 * How a line is shown; null as it was counted.
 * @param {Pick<Run, "unit">} run
 * @param {string} line
 * @returns {Conversion | null}
 */
export function conversionOf({ unit }, line) {
  if (!unit?.available) return null;
  return unit.lines.find((one) => one.line === line) ?? { factor: null, background: 0, relative_error: 0 };
}

/**
 * Values and their standard errors in another unit; the error of the factor is in theirs. NaN where the worker has not
 * come yet: plain sums have no other unit.
 * @template {{raw: Float32Array, denoised: Float32Array, uncertainty: Float32Array}} V
 * @param {V} values
 * @param {Conversion | null} by
 * @returns {V}
 */
export function inUnit(values, by) {
  if (!by) return values;
  const { denoised: counted, uncertainty: errors } = values;
  const factor = by.factor ?? NaN;
  const convert = (/** @type {number} */ value) => (value - by.background) * factor;
  const raw = values.raw.map((value, i) => (Number.isNaN(counted[i]) ? NaN : convert(value)));
  const denoised = counted.map(convert);
  const uncertainty = errors.map((error, i) => Math.hypot(error * factor, by.relative_error * denoised[i]));
  return { ...values, raw, denoised, uncertainty };
}

/**
 * Means in another unit; null for a line that has none.
 * @param {Means} means
 * @param {Conversion | null} by
 * @returns {Means}
 */
export function meansInUnit(means, by) {
  if (!by) return means;
  const { factor, background, relative_error: shared } = by;
  if (factor === null) return { n: means.n, raw: null, rawError: null, denoised: null, error: null };
  const value = (/** @type {number | null} */ mean) => (mean === null ? null : (mean - background) * factor);
  const error = (/** @type {number | null} */ own, /** @type {number | null} */ mean) =>
    own === null || mean === null ? null : Math.hypot(own * factor, shared * mean);
  const [raw, denoised] = [value(means.raw), value(means.denoised)];
  return { n: means.n, raw, rawError: error(means.rawError, raw), denoised, error: error(means.error, denoised) };
}

/**
 * What must be read beside the maps: why there is no such unit, else the urgent warnings; and all of them.
 * @param {UnitInfo | null | undefined} unit
 * @returns {{text: string, title: string}}
 */
export function unitNotes(unit) {
  if (!unit) return { text: "", title: "" };
  const name = unitText(unit.units);
  if (!unit.available) return { text: `No ${name}: ${unit.reason}`, title: unit.reason };
  const urgent = unit.notes.filter((note) => /^(WRONG|NOT|BELOW) [A-Z]+/.test(note));
  const without = unit.lines.filter((line) => line.factor === null).map(({ line, reason }) => `${line}: ${reason}`);
  return {
    text: urgent.join(" ") || unit.notes.at(-1) || "",
    title: [...unit.notes, ...without].join("\n"),
  };
}
