// The panel "evidence": what held-out photons say about every line, in one table.

import { table } from "../base/dom.js";
import { ESTIMATORS, gainText, lineName, number, VERDICTS } from "../base/text.js";
import { doubtsOf, worstOf } from "../map/verdict.js";

const byId = (id) => document.getElementById(id);
const WIDTH = 96;
const HEIGHT = 14;

export class EvidencePanel {
  constructor({ view }) {
    byId("evidence-table").addEventListener("click", ({ target }) => {
      if (target.dataset.row) view.point({ row: Number(target.dataset.row), col: Number(target.dataset.col) });
    });
  }

  draw({ run, number: frameNumber }) {
    if (this.drawn === frameNumber) return;
    this.drawn = frameNumber;
    const { evidence } = run;
    if (!evidence) {
      byId("evidence-table").replaceChildren();
      byId("evidence-facts").textContent = "There is no evidence yet: the first rows are still being measured.";
      return;
    }
    const most = Math.max(10, ...evidence.lines.map((line) => line.dwell_gain_high ?? line.dwell_gain ?? 1));
    const body = evidence.lines.flatMap((line) => rowsOf(line, most));
    byId("evidence-table").replaceChildren(
      table(["Line", "Dwell gain", "95 % interval", "Bias"], body, "Evidence by line"),
    );
    byId("evidence-facts").textContent =
      `${evidence.final ? "Final" : "So far"}: ${evidence.rows} rows, model ${evidence.model || "?"}, ` +
      `${evidence.fine_tune_steps ?? 0} steps on this run. Bias: how far the total of the map lies from held-out counts.`;
  }
}

/** The row of a line, and a second one with what else is known of it. */
function rowsOf(line, most) {
  const improved = line.verdict === "improved";
  const { figure, meaning } = gainText(line);
  const told = improved ? `${figure}${meaning.replace(" dwell gain", "")}` : `▲ ${VERDICTS[line.verdict]}`;
  const total = Number.isFinite(line.total_ratio) ? 100 * (line.total_ratio - 1) : null;
  const bias = total === null ? "–" : `${total > 0 ? "+" : total < 0 ? "−" : ""}${Math.abs(total).toFixed(1)} %`;
  const rest = [
    ESTIMATORS[line.estimator] ?? line.estimator,
    Number.isFinite(line.mean_counts) ? `${number(line.mean_counts)} counts/pixel` : "",
    Number.isFinite(line.slope) ? `slope ${line.slope.toFixed(2)}` : "",
    Number.isFinite(line.residual_chi2) ? `χ² ${line.residual_chi2.toFixed(2)}` : "",
    Number.isFinite(line.frc_pixels)
      ? `FRC ${number(line.frc_pixels)} px${Number.isFinite(line.frc_raw_pixels) ? ` (raw ${number(line.frc_raw_pixels)})` : ""}`
      : "",
    Number.isFinite(line.coverage_68) ? `${(100 * line.coverage_68).toFixed(0)} % within 1 σ` : "",
  ];
  const doubts = doubtsOf(line);
  const worst = doubts.length && line.residual_flag ? worstOf(line) : null;
  const look =
    worst &&
    Object.assign(document.createElement("button"), {
      textContent: "show",
      className: "small",
      title: "Put the crosshair there",
    });
  if (look) [look.dataset.row, look.dataset.col] = [worst.row, worst.col];
  return [
    [
      { text: lineName(line.line), head: true },
      { text: told, style: improved ? "good" : "warn" },
      line.estimator === "raw" ? { text: "raw shown" } : { node: whisker(line, most) },
      { text: bias },
    ],
    [
      { text: "", style: "under" },
      {
        text: [
          ...rest.filter(Boolean).map((fact) => fact.replaceAll(" ", "\u00a0")),
          ...(improved ? [] : [line.verdict_reason]).filter(Boolean),
          ...doubts.map((doubt) => `▲ ${doubt}`),
        ].join(" · "),
        style: `under${doubts.length ? " warn" : ""}`,
        span: 3,
        node: look,
      },
    ],
  ];
}

/** The interval of a dwell gain on a logarithmic axis that begins at 1/2; open to the right where it has no upper end. */
function whisker({ line, dwell_gain: value, dwell_gain_low: low, dwell_gain_high: high }, most) {
  const canvas = document.createElement("canvas");
  const ratio = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [WIDTH * ratio, HEIGHT * ratio];
  canvas.className = "whisker";
  const c = canvas.getContext("2d");
  c.scale(ratio, ratio);
  const x = (gain) => (WIDTH - 6) * Math.max(0, Math.min(1, Math.log(gain * 2) / Math.log(most * 2))) + 3;
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
  canvas.setAttribute("role", "img");
  canvas.setAttribute(
    "aria-label",
    `${lineName(line)}: dwell gain ${number(value)}, interval ${low === null ? "not known" : `${number(low)} to ${high === null ? "open" : number(high)}`}`,
  );
  return canvas;
}
