// The panel "profile": raw and denoised of every line along the line drawn on a map.

import { Chart } from "./chart.js";
import { saveText } from "./dom.js";
import { lineValues, means, profilePixels } from "./stats.js";
import { lineName, number, unitName } from "./text.js";

const byId = (id) => document.getElementById(id);
const RAW = "#b9c4d1";
const DENOISED = "#6fd3c7";

export class ProfilePanel {
  constructor({ view, drawing, redraw }) {
    this.view = view;
    this.drawing = drawing;
    this.tool = "line";
    this.charts = new Map();
    this.table = null;
    byId("profile-width").addEventListener("change", redraw);
    byId("profile-clear").addEventListener("click", () => drawing.clear());
    byId("profile-csv").addEventListener("click", () => this.table && saveText(this.table.name, this.table.rows));
  }

  draw({ run, stacks }) {
    const ends = this.drawing.shapes.line;
    byId("profile-hint").hidden = Boolean(ends);
    byId("profile-csv").disabled = byId("profile-clear").disabled = !ends;
    byId("profile-charts").hidden = !ends;
    if (!ends) {
      byId("profile-facts").textContent = "";
      return;
    }
    const width = Number(byId("profile-width").value);
    const [rows, cols] = run.shape;
    const pixels = profilePixels(ends, width, rows, cols);
    const scale = axis(run, ends, pixels.length);
    const { hover } = this.view;
    const mark = hover ? pixels.findIndex(({ row, col }) => row === hover.row && col === hover.col) : -1;
    this.table = {
      name: `profile-${run.scan_id ?? run.uid}.csv`,
      rows: [[`distance_${scale.csv}`, "row", "col", "line", "raw", "raw_error", "denoised", "denoised_error"]],
    };
    this.#match(run.lines);
    run.lines.forEach((line, index) => {
      const values = Object.fromEntries(["raw", "denoised", "uncertainty"].map((kind) => [kind, lineValues(stacks[kind], index)]));
      const found = pixels.map(({ across }) => means(across, values, run.kind === "counts"));
      const series = (kind, error) =>
        found.map((mean, i) => {
          const [y, e] = [mean[kind], mean[error]];
          const known = y !== null && e !== null;
          return { x: i * scale.step, y: y ?? NaN, low: known ? y - e : null, high: known ? y + e : null };
        });
      this.charts.get(line).draw({
        series: [
          { kind: "dots", points: series("raw", "rawError"), colour: RAW },
          { kind: "line", points: series("denoised", "error"), colour: DENOISED },
        ],
        unit: scale.unit,
        mark: mark < 0 ? null : mark * scale.step,
        from: 0,
      });
      found.forEach((mean, i) => {
        const { row, col } = pixels[i];
        this.table.rows.push([i * scale.step, row, col, line, mean.raw, mean.rawError, mean.denoised, mean.error]);
      });
    });
    this.pixels = pixels;
    this.step = scale.step;
    const [a, b] = ends;
    byId("profile-facts").textContent =
      `from row ${a.row}, col ${a.col} to row ${b.row}, col ${b.col}: ${number((pixels.length - 1) * scale.step)} ${scale.unit}` +
      `, mean over ${width === 1 ? "1 pixel" : `${width} pixels`} across`;
  }

  #match(lines) {
    if ([...this.charts.keys()].join() === lines.join()) return;
    const point = (x) => {
      const pixel = x === null ? null : this.pixels?.[Math.round(x / this.step)];
      this.view.point(pixel ? { row: pixel.row, col: pixel.col } : null);
    };
    this.charts = new Map(lines.map((line) => [line, new Chart({ height: 92, label: lineName(line), onPoint: point })]));
    byId("profile-charts").replaceChildren(...[...this.charts.values()].map((chart) => chart.element));
  }
}

/** Length of one step along the line, in the run's units where its steps are known. */
function axis(run, [a, b], n) {
  if (!run.step) return { step: 1, unit: "pixels", csv: "pixels" };
  const length = Math.hypot((b.row - a.row) * run.step[0], (b.col - a.col) * run.step[1]);
  return { step: length / Math.max(1, n - 1) || Math.abs(run.step[1]), unit: unitName(run.units), csv: run.units };
}
