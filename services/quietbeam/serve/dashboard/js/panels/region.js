// The panel "region": means of every line in the box drawn on a map.

import { buttonById, byId, saveText, table } from "../base/dom.js";
import { boxMeans } from "../base/stats.js";
import { lineName, number, plusMinus, signed, unitName } from "../base/text.js";
import { scanPixel } from "../data/orientation.js";
import { conversionOf, meansInUnit } from "../data/units.js";
import { extent } from "../map/drawing.js";
import { unitOf } from "../map/values.js";

/** @import { Means } from "../base/stats.js" */
/** @import { Drawing, Tool } from "../map/drawing.js" */

const ODD = 4; // standard errors between raw and denoised mean from which the row is marked
const CSV_HEAD = ["line", "pixels", "raw_mean", "raw_error", "denoised_mean", "denoised_error", "raw_sum", "unit"];

/** @typedef {Means & {line: string}} LineMeans */

export class RegionPanel {
  /** @param {{drawing: Drawing}} shared */
  constructor({ drawing }) {
    this.drawing = drawing;
    /** @type {Tool} */
    this.tool = "box";
    /** @type {{name: string, rows: CsvValue[][]} | null} */
    this.csv = null;
    this.drawn = "";
    byId("region-clear").addEventListener("click", () => drawing.clear());
    byId("region-csv").addEventListener("click", () => this.csv && saveText(this.csv.name, this.csv.rows));
  }

  /** @param {Frame} frame */
  draw({ run, stacks, number: frameNumber }) {
    const corners = this.drawing.shapes.box;
    const wanted = `${frameNumber} ${JSON.stringify(corners)}`;
    if (wanted === this.drawn) return;
    this.drawn = wanted;
    byId("region-hint").hidden = corners !== null;
    buttonById("region-csv").disabled = buttonById("region-clear").disabled = !corners;
    if (!corners) {
      this.csv = null;
      byId("region-facts").textContent = "";
      byId("region-table").replaceChildren();
      return;
    }
    const box = extent(corners);
    const isCounts = run.kind === "counts";
    const found = run.lines.map((line, index) => ({
      line,
      ...meansInUnit(boxMeans(stacks, index, box, isCounts), conversionOf(run, line)),
    }));
    this.csv = {
      name: `region-${run.scan_id ?? run.uid}.csv`,
      rows: [CSV_HEAD, ...found.map((means) => [...csvRow(means), unitOf("raw", run)])],
    };
    byId("region-facts").textContent = describe(run, box, found[0]?.n ?? 0, stacks.raw.stride);
    const head = ["Line", `Raw mean, ${unitOf("raw", run)}`, "Denoised mean", "Difference (σ)"];
    byId("region-table").replaceChildren(table(head, found.map(tableRow), "Means in the region"));
  }
}

/** @param {LineMeans} means */
function csvRow({ line, n, raw, rawError, denoised, error }) {
  return [line, n, raw, rawError, denoised, error, raw === null ? null : raw * n];
}

/**
 * @param {LineMeans} means
 * @returns {Cell[]}
 */
function tableRow({ line, n, raw, rawError, denoised, error }) {
  const difference = raw !== null && rawError && denoised !== null ? (denoised - raw) / rawError : null;
  const odd = difference !== null && Math.abs(difference) > ODD;
  return [
    { text: lineName(line), head: true },
    { text: n ? plusMinus(raw, rawError) : "not measured" },
    { text: plusMinus(denoised, error) },
    { text: difference === null ? "–" : `${odd ? "▲ " : ""}${signed(difference)} σ`, style: odd ? "warn" : "" },
  ];
}

/**
 * @param {Pick<Run, "step" | "units" | "shape" | "display">} run
 * @param {Box} box
 * @param {number} measured pixels
 * @param {number} stride
 */
export function describe(run, { top, bottom, left, right }, measured, stride) {
  const { step, units } = run;
  const along = (/** @type {number} */ from, /** @type {number} */ to) =>
    Math.ceil(to / stride) - Math.floor(from / stride);
  const all = along(top, bottom) * along(left, right);
  const pixels = measured === all ? number(all) : `${number(measured)} of ${number(all)}`;
  const thinned = stride > 1 ? ` (one of ${stride} each way)` : "";
  const scan = extent([scanPixel(run, { row: top, col: left }), scanPixel(run, { row: bottom - 1, col: right - 1 })]);
  const place = `rows ${scan.top}–${scan.bottom - 1}, columns ${scan.left}–${scan.right - 1}`;
  const text = `${place}: ${pixels} pixels${thinned} measured`;
  if (!step) return text;
  const [high, wide] = [(bottom - top) * Math.abs(step[0]), (right - left) * Math.abs(step[1])];
  return `${text}, ${number(wide)} × ${number(high)} ${unitName(units)}`;
}
