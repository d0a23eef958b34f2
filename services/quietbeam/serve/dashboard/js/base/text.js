// Numbers, times and names as people read them.

/** @type {Record<string, string>} */
const GREEK = { a: "α", b: "β", g: "γ", l: "ℓ", n: "η" };
const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";

/**
 * "Fe_Ka" -> "Fe Kα", "Pb_La1" -> "Pb Lα₁"; other names stay as they are.
 * @param {string} line
 */
export function lineName(line) {
  const match = /^([A-Z][a-z]?)_([KLMN])([abgln]?)(\d*)$/.exec(line);
  if (!match) return line;
  const [, element, shell, letter, digits] = match;
  return `${element} ${shell}${GREEK[letter] ?? letter}${[...digits].map((digit) => SUBSCRIPTS[+digit]).join("")}`;
}

/**
 * Three significant digits, thousands grouped; "–" for no value.
 * @param {number | null | undefined} value
 */
export function number(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return value.toExponential(2).replace("e+", "e");
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  if (size >= 100) return value.toFixed(0);
  if (size >= 0.01) return String(Number(value.toFixed(size >= 10 ? 1 : 2)));
  if (size === 0) return "0";
  return value.toExponential(1);
}

/**
 * A number with two significant digits.
 * @param {number | null | undefined} value
 */
export function twoDigits(value) {
  return number(isNumber(value) ? Number(value.toPrecision(2)) : null);
}

/**
 * "12.3 ± 0.4": the value to the digits that its error leaves.
 * @param {number | null | undefined} value
 * @param {number | null | undefined} error
 */
export function plusMinus(value, error) {
  if (!isNumber(value)) return "–";
  if (!isNumber(error) || !error) return number(value);
  const digits = Math.max(0, Math.min(6, 1 - Math.floor(Math.log10(error))));
  return `${value.toFixed(digits)} ± ${error.toFixed(digits)}`;
}

/**
 * "+1.2" or "−1.2"; zero without a sign.
 * @param {number} value
 */
export function signed(value) {
  return `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(1)}`;
}

/**
 * True for a finite number.
 * @param {unknown} value
 * @returns {value is number}
 */
export function isNumber(value) {
  return Number.isFinite(value);
}

/**
 * The unit of a run's steps as it is printed; empty where it is not known.
 * @param {string | null} units
 */
export function unitName(units) {
  return units === "um" ? "µm" : (units ?? "");
}

/**
 * Seconds as "12 s", "3 min 20 s", "2 h 05 min".
 * @param {number} seconds
 */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min${s % 60 && s < 600 ? ` ${s % 60} s` : ""}`;
  return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
}

/**
 * Seconds since 1970 as local time, with the local date when it is not today.
 * @param {number | null | undefined} time
 */
export function clock(time) {
  if (!time) return "";
  const date = new Date(time * 1000);
  const hour = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (date.toDateString() === new Date().toDateString()) return hour;
  return `${date.toLocaleDateString("sv-SE")} ${hour}`; // Sweden writes 2026-03-09
}

/**
 * Seconds since 1970 as local time with seconds.
 * @param {number} time
 */
export function clockWithSeconds(time) {
  return new Date(time * 1000).toLocaleTimeString("en-GB");
}
