// Words for what the server sends: states of runs, estimators, dwell gains, advice on how long to count.

import { number, twoDigits } from "../base/text.js";

/** @typedef {"raw" | "denoised"} Way */

/** @type {Record<string, string>} */
export const STATES = {
  running: "measuring",
  paused: "paused",
  complete: "complete",
  incomplete: "incomplete",
  aborted: "aborted",
  failed: "failed",
  stale: "no data (stalled)",
  unusable: "not a map",
};

/**
 * Whether a run is known to be no map: a count, an alignment scan.
 * @param {Pick<RunSummary, "state" | "shape">} run
 */
export function isNoMap({ state, shape }) {
  return state === "unusable" && !shape;
}

/** @type {Record<string, string>} */
export const ESTIMATORS = {
  raw: "raw",
  smoother: "smoother",
  pretrained: "network",
  fine_tuned: "fine-tuned network",
  nonlocal: "non-local means",
  combined: "combination",
};

/** @type {Record<Verdict, string>} */
export const VERDICTS = { improved: "improved", kept_raw: "kept raw", not_tested: "not tested" };

/**
 * The verdict of a line that is not improved, with what is shown: "▲ not tested: network shown".
 * @param {Pick<LineEvidence, "verdict" | "estimator">} evidence
 */
export function verdictText({ verdict, estimator }) {
  const shown = verdict === "kept_raw" ? "no proven gain" : `${ESTIMATORS[estimator] ?? estimator} shown`;
  return `▲ ${VERDICTS[verdict]}: ${shown}`;
}

/**
 * "Scan 12", or "Run 1a2b3c4d" where the run has no number.
 * @param {RunSummary} run
 */
export function runName({ scan_id: scan, uid }) {
  return scan === null ? `Run ${uid.slice(0, 8)}` : `Scan ${scan}`;
}

/**
 * Begin of the name of a file with data of a run.
 * @param {RunSummary} run
 */
export function fileName({ scan_id: scan, uid }) {
  return `scan-${scan ?? uid.slice(0, 8)}`;
}

/**
 * A dwell gain with its interval: "×8.1" and " dwell gain (6.0–11.2)"; the lower bound alone where the upper is open.
 * @param {Pick<LineEvidence, "dwell_gain" | "dwell_gain_low" | "dwell_gain_high">} evidence
 */
export function gainText({ dwell_gain: value, dwell_gain_low: low, dwell_gain_high: high }) {
  const times = (/** @type {number} */ gain) => `×${gain.toFixed(gain >= 100 ? 0 : 1)}`;
  if (value === null) return { figure: "", meaning: "improved; dwell gain not measured" };
  if (low === null) return { figure: times(value), meaning: " dwell gain, interval not known" };
  if (high === null) return { figure: `at least ${times(low)}`, meaning: " dwell gain" };
  return { figure: times(value), meaning: ` dwell gain (${low.toFixed(1)}–${high.toFixed(1)})` };
}

/**
 * The maps for which the advice on a line holds.
 * @param {LineAdvice} line
 * @returns {Way[]}
 */
export function waysOf(line) {
  return line.snr_denoised === null ? ["raw"] : ["raw", "denoised"];
}

/**
 * [likely, safe]: how many times the present dwell a line's map takes for the wanted SNR.
 * @param {LineAdvice} line
 * @param {Way} way
 * @returns {[likely: number, safe: number]}
 */
export function factorsOf(line, way) {
  const safe = (way === "raw" ? line.factor_raw : line.factor_denoised) ?? NaN;
  const likely = way === "raw" ? safe : (line.factor_denoised_likely ?? safe);
  return [Math.max(1, likely), safe];
}

/**
 * "×4.6–14", or "reached".
 * @param {[likely: number, safe: number]} factors
 */
export function factorText([likely, safe]) {
  if (safe <= 1) return "reached";
  const [low, high] = [twoDigits(likely), twoDigits(safe)];
  return low === high ? `×${high}` : `×${low}–${high}`;
}

/**
 * The SNR of a line now, and the dwell for the wanted SNR: in few words, in a sentence, and line by line for a tooltip.
 * @param {LineAdvice | undefined} line
 * @param {number | undefined} snr
 * @returns {{brief: string, sentence: string, details: string[]}}
 */
export function adviceText(line, snr) {
  if (!line) return { brief: "", sentence: "", details: [] };
  if (line.snr_raw === null) {
    const short = line.reason.split(":")[0];
    return { brief: short, sentence: short, details: [line.reason] };
  }
  const ways = waysOf(line);
  const wanted = number(snr);
  const now = ways.map((way) => twoDigits(line[`snr_${way}`]));
  const factors = ways.map((way) => factorText(factorsOf(line, way)));
  const inFull = ways.map((way, i) => factors[i] + (factors[i] === "reached" ? "" : dwellText(line[`dwell_${way}_s`])));
  const each = (/** @type {string[]} */ values) => values.map((value, i) => `${value} ${ways[i]}`).join(", ");
  return {
    brief: `SNR ${now.join(" → ")}; for ${wanted}: ${factors.join(" → ")}`,
    sentence: `SNR ${each(now)}; for ${wanted}: dwell ${each(factors)}`,
    details: [`SNR now ${each(now)}`, `for ${wanted}: dwell ${each(inFull)}`, line.reason],
  };
}

/** @param {number | null} seconds */
function dwellText(seconds) {
  return seconds === null ? "" : ` (${twoDigits(seconds)} s a pixel)`;
}
