// The panel "evidence": the result of the validation on held-out photons for every line, in one table.

import { byId, create, sizedContext, table } from "../base/dom.js";
import { isNumber, lineName, number, signed } from "../base/text.js";
import { shownPixel } from "../data/orientation.js";
import { MEANINGS, meaningsIn } from "../data/meanings.js";
import { ESTIMATORS, gainText, VERDICTS } from "../data/wording.js";
import { doubtsOf, worstOf } from "../map/verdict.js";

/** @import { View } from "../base/view.js" */

const WIDTH = 96;
const HEIGHT = 14;

export class EvidencePanel {
  /** @param {{view: View}} shared */
  constructor({ view }) {
    this.drawn = -1; // number of the frame
    /** @type {MappedRun | null} */
    this.run = null;
    byId("evidence-words").append(
      ...Object.entries(MEANINGS).flatMap(([word, meaning]) => [
        create("dt", { textContent: word }),
        create("dd", { textContent: meaning }),
      ]),
    );
    byId("evidence-table").addEventListener("click", ({ target }) => {
      const { row, col } = target instanceof HTMLElement ? target.dataset : {};
      if (row && col && this.run) view.point(shownPixel(this.run, { row: Number(row), col: Number(col) }));
    });
  }

  /** @param {Frame} frame */
  draw({ run, number: frameNumber }) {
    if (this.drawn === frameNumber) return;
    this.drawn = frameNumber;
    this.run = run;
    const { evidence } = run;
    if (!evidence) {
      byId("evidence-table").replaceChildren();
      byId("evidence-facts").textContent = "There is no evidence yet: the first rows are still being measured.";
      return;
    }
    const most = Math.max(10, ...evidence.lines.map((line) => line.dwell_gain_high ?? line.dwell_gain ?? 1));
    const body = evidence.lines.flatMap((line) => [mainRow(line, most), factsRow(line)]);
    const head = ["Line", "Dwell gain", "95 % interval", "Bias"];
    byId("evidence-table").replaceChildren(table(head, body, "Evidence by line", meaningsIn));
    const state = evidence.refined ? "Refined" : evidence.final ? "Final" : "So far";
    byId("evidence-facts").textContent =
      `${state}: ${evidence.rows} rows, model ${evidence.model || "?"}, ` +
      `${evidence.fine_tune_steps ?? 0} steps on this run. ` +
      "Point at a number to read what it means.";
  }
}

/**
 * @param {LineEvidence} line
 * @param {number} most the largest dwell gain of the table
 * @returns {Cell[]}
 */
function mainRow(line, most) {
  const improved = line.verdict === "improved";
  const { figure, meaning } = gainText(line);
  const gain = improved ? `${figure}${meaning.replace(" dwell gain", "")}` : `▲ ${VERDICTS[line.verdict]}`;
  const bias = isNumber(line.total_ratio) ? `${signed(100 * (line.total_ratio - 1))} %` : "–";
  return [
    { text: lineName(line.line), head: true },
    { text: gain, style: improved ? "good" : "warn", title: meaningsIn(VERDICTS[line.verdict]) },
    line.estimator === "raw" ? { text: "raw shown" } : { node: whisker(line, most) },
    { text: bias },
  ];
}

/**
 * The second row of a line, with everything else that is known of it.
 * @param {LineEvidence} line
 * @returns {Cell[]}
 */
function factsRow(line) {
  const doubts = doubtsOf(line);
  const reason = line.verdict === "improved" ? "" : (line.verdict_reason ?? "");
  const facts = factsOf(line).map((fact) => fact.replaceAll(" ", "\u00a0"));
  const text = [...facts, reason, ...doubts.map((doubt) => `▲ ${doubt}`)].filter(Boolean).join(" · ");
  const node = line.residual_flag ? showButton(worstOf(line)) : null;
  return [
    { text: "", style: "under" },
    { text, style: `under${doubts.length ? " warn" : ""}`, title: meaningsIn(factsOf(line).join(" ")), span: 3, node },
  ];
}

/**
 * The estimator and the measures of a line; measures that are not known are absent.
 * @param {LineEvidence} line
 */
export function factsOf(line) {
  const fact = (/** @type {number | null | undefined} */ value, /** @type {(value: number) => string} */ text) =>
    isNumber(value) ? [text(value)] : [];
  const { frc_raw_pixels: frcRaw } = line;
  return [
    ESTIMATORS[line.estimator] ?? line.estimator,
    ...fact(line.mean_counts, (value) => `${number(value)} counts/pixel`),
    ...fact(line.slope, (value) => `slope ${value.toFixed(2)}`),
    ...fact(line.residual_chi2, (value) => `χ² ${value.toFixed(2)}`),
    ...fact(line.frc_pixels, (value) => `FRC ${number(value)} px${isNumber(frcRaw) ? ` (raw ${number(frcRaw)})` : ""}`),
    ...fact(line.coverage_68, (value) => `${(100 * value).toFixed(0)} % within 1 σ`),
  ];
}

/**
 * A button that puts the crosshair on a pixel.
 * @param {Pixel | null} pixel
 */
function showButton(pixel) {
  if (!pixel) return null;
  const button = create("button", { textContent: "show", className: "small", title: "Put the crosshair there" });
  button.dataset.row = String(pixel.row);
  button.dataset.col = String(pixel.col);
  return button;
}

/**
 * The interval of a dwell gain on a logarithmic axis that begins at 1/2; open to the right where it has no upper end.
 * @param {LineEvidence} line
 * @param {number} most value at the right end of the axis
 */
function whisker({ line, dwell_gain: value, dwell_gain_low: low, dwell_gain_high: high }, most) {
  const canvas = create("canvas", { className: "whisker" });
  const c = sizedContext(canvas, WIDTH, HEIGHT);
  const x = (/** @type {number} */ gain) =>
    (WIDTH - 6) * Math.max(0, Math.min(1, Math.log(gain * 2) / Math.log(most * 2))) + 3;
  c.fillStyle = "#3a4656";
  c.fillRect(Math.round(x(1)), 0, 1, HEIGHT);
  c.fillStyle = "#7ccf9a";
  if (low !== null) {
    c.fillRect(x(low), HEIGHT / 2 - 1, x(high ?? most) - x(low), 2);
    c.fillRect(x(low), HEIGHT / 2 - 4, 1.5, 8);
    if (high !== null) c.fillRect(x(high), HEIGHT / 2 - 4, 1.5, 8);
  }
  if (value !== null) {
    c.beginPath();
    c.arc(x(value), HEIGHT / 2, 3.2, 0, 7);
    c.fill();
  }
  const interval = low === null ? "not known" : `${number(low)} to ${high === null ? "open" : number(high)}`;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${lineName(line)}: dwell gain ${number(value)}, interval ${interval}`);
  return canvas;
}
