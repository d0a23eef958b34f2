// What the evidence of one line says, in words: the verdict on its card, the remark below its maps, the label of its map.

import { adviceText, ESTIMATORS, gainText, number, VERDICTS, verdictText } from "../base/text.js";

/** The evidence of a line, or undefined. */
export function evidenceOf(run, line) {
  return run.evidence?.lines.find((one) => one.line === line);
}

/** Doubts about a line's map, each a sentence. */
export function doubtsOf(evidence) {
  const doubts = [];
  if (evidence.residual_flag) {
    const worst = worstOf(evidence);
    doubts.push(`residual shows structure${worst ? ` near row ${worst.row}, col ${worst.col}` : ""}`);
  }
  for (const [detector, why] of Object.entries(evidence.excluded_detectors ?? {}))
    doubts.push(`without ${detector}: ${why}`);
  return doubts;
}

/** The pixel around which raw and denoised differ most, or null. */
export function worstOf({ residual_worst_row: row, residual_worst_col: col }) {
  return Number.isInteger(row) && Number.isInteger(col) ? { row, col } : null;
}

/**
 * {shownRaw, verdict, headline: [[text, style]], doubts, brief, sentence, facts, told}.
 * `verdict` is that of the evidence: improved, kept_raw or not_tested; null without evidence.
 */
export function judge(run, line) {
  const evidence = evidenceOf(run, line);
  const shownRaw = !evidence || evidence.estimator === "raw";
  const nothing = { doubts: "", brief: "", sentence: "", facts: "", told: [] };
  if (!evidence) return { shownRaw, verdict: null, headline: [["no evidence yet", ""]], ...nothing };
  const { verdict } = evidence;
  const name = ESTIMATORS[evidence.estimator] ?? evidence.estimator;
  const advice = adviceText(
    run.advice?.lines.find((one) => one.line === line),
    run.advice?.snr,
  );
  const doubts = doubtsOf(evidence);
  const mean = Number.isFinite(evidence.mean_counts) ? `${number(evidence.mean_counts)} counts` : "";
  return {
    shownRaw,
    verdict,
    headline: headline(evidence),
    doubts: doubts.length ? `▲ ${doubts.join("; ")}` : "",
    brief: advice.brief,
    sentence: advice.sentence,
    facts: [verdict === "improved" ? VERDICTS.improved : "", name, advice.brief || !mean ? "" : `${mean}/pixel`]
      .filter(Boolean)
      .join(" · "),
    told: [
      [VERDICTS[verdict], evidence.verdict_reason].filter(Boolean).join(": "),
      `estimator: ${name}${weightsText(evidence)}`,
      mean && `mean ${mean} a pixel, judged on ${run.evidence.rows} rows`,
      ...advice.told,
      resolution(evidence),
      ...doubts,
    ].filter(Boolean),
  };
}

function headline(evidence) {
  if (evidence.verdict !== "improved") return [[verdictText(evidence), "warn"]];
  const { figure, meaning } = gainText(evidence);
  return [...(figure ? [[figure, "gain"]] : []), [meaning, ""]];
}

/** " (0.7 fine-tuned network, 0.3 raw)" of a combination, else nothing. */
function weightsText({ weights }) {
  const parts = Object.entries(weights ?? {}).filter(([, weight]) => weight >= 0.005);
  if (parts.length < 2) return "";
  return ` (${parts.map(([name, weight]) => `${number(weight)} ${ESTIMATORS[name] ?? name}`).join(", ")})`;
}

/** Fourier ring correlation: the finest period (pixels) that is still there, where it was measured. */
export function resolution({ frc_pixels: denoised, frc_raw_pixels: raw }) {
  if (!Number.isFinite(denoised)) return "";
  return `resolves ${number(denoised)} pixels${Number.isFinite(raw) ? `, raw ${number(raw)}` : ""}`;
}

/** The permanent label of a map. */
export function labelOf(run, kind, { shownRaw, line, narrow = false, missing = false }) {
  if (kind === "chi2") return missing ? "no χ² kept" : "local χ²";
  const evidence = evidenceOf(run, line);
  const model = run.denoise.model || run.evidence?.model || "?";
  const by = evidence?.estimator === "smoother" ? "smoother" : narrow ? model : `model ${model}`;
  const denoised = shownRaw ? "raw shown, not denoised" : `denoised, ${by}, ${run.denoise.rows} rows`;
  if (kind === "denoised") return denoised;
  return kind === "swipe" ? `raw | ${denoised}` : kind;
}
