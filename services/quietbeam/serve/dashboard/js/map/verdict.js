// The evidence of one line in words: the headline of its card, the remark below its maps, the label of its map.

import { isNumber, number } from "../base/text.js";
import { adviceText, ESTIMATORS, gainText, VERDICTS, verdictText } from "../data/wording.js";

/**
 * @typedef {object} Judged
 * @property {boolean} shownRaw whether raw is shown in place of a denoised map
 * @property {Verdict | null} verdict of the evidence; null without evidence
 * @property {[text: string, style: string][]} headline
 * @property {string} doubts
 * @property {string} brief advice in few words
 * @property {string} sentence advice as a sentence
 * @property {string} facts
 * @property {string[]} details for the tooltip
 */

/**
 * The evidence of a line, or undefined.
 * @param {Pick<Run, "evidence">} run
 * @param {string} line
 */
export function evidenceOf(run, line) {
  return run.evidence?.lines.find((evidence) => evidence.line === line);
}

/**
 * Doubts about a line's map, each a sentence.
 * @param {LineEvidence} evidence
 */
export function doubtsOf(evidence) {
  const doubts = [];
  if (evidence.residual_flag) {
    const worst = worstOf(evidence);
    doubts.push(`residual shows structure${worst ? ` near row ${worst.row}, col ${worst.col}` : ""}`);
  }
  for (const [detector, reason] of Object.entries(evidence.excluded_detectors ?? {})) {
    doubts.push(`without ${detector}: ${reason}`);
  }
  return doubts;
}

/**
 * The pixel around which raw and denoised differ most, or null.
 * @param {Pick<LineEvidence, "residual_worst_row" | "residual_worst_col">} evidence
 * @returns {Pixel | null}
 */
export function worstOf({ residual_worst_row: row, residual_worst_col: col }) {
  return isNumber(row) && isNumber(col) ? { row, col } : null;
}

/**
 * What the card of a line says.
 * @param {Pick<Run, "evidence" | "advice">} run
 * @param {string} line
 * @returns {Judged}
 */
export function judge(run, line) {
  const evidence = evidenceOf(run, line);
  if (!evidence) {
    const headline = /** @type {[string, string][]} */ ([["no evidence yet", ""]]);
    const none = { doubts: "", brief: "", sentence: "", facts: "", details: [] };
    return { shownRaw: true, verdict: null, headline, ...none };
  }
  const advice = adviceText(
    run.advice?.lines.find((candidate) => candidate.line === line),
    run.advice?.snr,
  );
  const doubts = doubtsOf(evidence);
  const mean = isNumber(evidence.mean_counts) ? `${number(evidence.mean_counts)} counts` : "";
  const rows = run.evidence?.rows;
  const facts = [
    evidence.verdict === "improved" ? VERDICTS.improved : "",
    estimatorName(evidence),
    mean && !advice.brief ? `${mean}/pixel` : "",
  ];
  const details = [
    [VERDICTS[evidence.verdict], evidence.verdict_reason].filter(Boolean).join(": "),
    `estimator: ${estimatorName(evidence)}${weightsText(evidence)}`,
    mean && `mean ${mean} a pixel, judged on ${rows} rows`,
    ...advice.details,
    resolution(evidence),
    ...doubts,
  ];
  return {
    shownRaw: evidence.estimator === "raw",
    verdict: evidence.verdict,
    headline: headlineOf(evidence),
    doubts: doubts.length ? `▲ ${doubts.join("; ")}` : "",
    brief: advice.brief,
    sentence: advice.sentence,
    facts: facts.filter(Boolean).join(" · "),
    details: details.flatMap((text) => text || []),
  };
}

/** @param {Pick<LineEvidence, "estimator">} evidence */
function estimatorName({ estimator }) {
  return ESTIMATORS[estimator] ?? estimator;
}

/**
 * @param {LineEvidence} evidence
 * @returns {[text: string, style: string][]}
 */
function headlineOf(evidence) {
  if (evidence.verdict !== "improved") return [[verdictText(evidence), "warn"]];
  const { figure, meaning } = gainText(evidence);
  return figure
    ? [
        [figure, "gain"],
        [meaning, ""],
      ]
    : [[meaning, ""]];
}

/**
 * " (0.7 fine-tuned network, 0.3 raw)" of a combination, else nothing.
 * @param {Pick<LineEvidence, "weights">} evidence
 */
function weightsText({ weights }) {
  const parts = Object.entries(weights ?? {}).filter(([, weight]) => weight >= 0.005);
  if (parts.length < 2) return "";
  return ` (${parts.map(([name, weight]) => `${number(weight)} ${ESTIMATORS[name] ?? name}`).join(", ")})`;
}

/**
 * Fourier ring correlation: the finest period (pixels) that is resolved; empty where it was not measured.
 * @param {Pick<LineEvidence, "frc_pixels" | "frc_raw_pixels">} evidence
 */
export function resolution({ frc_pixels: denoised, frc_raw_pixels: raw }) {
  if (!isNumber(denoised)) return "";
  return `resolves ${number(denoised)} pixels${isNumber(raw) ? `, raw ${number(raw)}` : ""}`;
}

/**
 * The permanent label of a map; `missing` where the run has no chi-square.
 * @param {Pick<Run, "evidence" | "denoise">} run
 * @param {ShownKind} kind
 * @param {{shownRaw: boolean, line: string, narrow?: boolean, missing?: boolean}} about
 */
export function labelOf(run, kind, { shownRaw, line, narrow = false, missing = false }) {
  if (kind === "chi2") return missing ? "no χ² kept" : "local χ²";
  if (kind !== "denoised" && kind !== "swipe") return kind;
  const denoised = shownRaw
    ? "raw shown, not denoised"
    : `denoised, ${denoiserOf(run, line, narrow)}, ${run.denoise.rows} rows`;
  return kind === "swipe" ? `raw | ${denoised}` : denoised;
}

/**
 * @param {Pick<Run, "evidence" | "denoise">} run
 * @param {string} line
 * @param {boolean} narrow
 */
function denoiserOf(run, line, narrow) {
  if (evidenceOf(run, line)?.estimator === "smoother") return "smoother";
  const model = run.denoise.model || run.evidence?.model || "?";
  return narrow ? model : `model ${model}`;
}
