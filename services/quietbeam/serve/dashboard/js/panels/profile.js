// The panel "profile": raw and denoised of every line along the line drawn on a map.

import { Chart } from "../base/chart.js";
import { saveText } from "../base/dom.js";
import { pixelMeans, profilePixels } from "../base/stats.js";
import { lineName, number, unitName } from "../base/text.js";

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

  draw({ run, stacks, number: frameNumber }) {
    const ends = this.drawing.shapes.line;
    byId("profile-hint").hidden = Boolean(ends);
    byId("profile-csv").disabled = byId("profile-clear").disabled = !ends;
    byId("profile-charts").hidden = !ends;
    if (!ends) {
      byId("profile-facts").textContent = "";
      return;
    }
    const width = Number(byId("profile-width").value);
    const wanted = `${frameNumber} ${width} ${JSON.stringify(ends)}`;
    if (wanted !== this.wanted) this.#take(run, stacks, ends, width);
    const { hover } = this.view;
    const mark = hover ? this.pixels.findIndex(({ row, col }) => row === hover.row && col === hover.col) : -1;
    if (wanted === this.wanted && mark === this.mark) return;
    [this.wanted, this.mark] = [wanted, mark];
    for (const [line, series] of this.series) {
      this.charts.get(line).draw({ series, unit: this.unit, mark: mark < 0 ? null : mark * this.step, from: 0 });
    }
  }

  #take(run, stacks, ends, width) {
    const [a, b] = ends;
    this.pixels = profilePixels(ends, width, ...run.shape);
    const scale = axis(run, ends, this.pixels.length);
    [this.step, this.unit] = [scale.step, scale.unit];
    this.#match(run);
    this.table = {
      name: `profile-${run.scan_id ?? run.uid}.csv`,
      rows: [[`distance_${scale.csv}`, "row", "col", "line", "raw", "raw_error", "denoised", "denoised_error"]],
    };
    this.series = run.lines.map((line, index) => {
      const found = this.pixels.map(({ across }) => pixelMeans(stacks, index, across, run.kind === "counts"));
      const points = (kind, error) =>
        found.map((mean, i) => {
          const [y, e] = [mean[kind], mean[error]];
          const known = y !== null && e !== null;
          return { x: i * scale.step, y: y ?? NaN, low: known ? y - e : null, high: known ? y + e : null };
        });
      found.forEach((mean, i) => {
        const { row, col } = this.pixels[i];
        this.table.rows.push([i * scale.step, row, col, line, mean.raw, mean.rawError, mean.denoised, mean.error]);
      });
      return [
        line,
        [
          { kind: "dots", points: points("raw", "rawError"), colour: RAW },
          { kind: "line", points: points("denoised", "error"), colour: DENOISED },
        ],
      ];
    });
    byId("profile-facts").textContent =
      `from row ${a.row}, col ${a.col} to row ${b.row}, col ${b.col}: ${number((this.pixels.length - 1) * scale.step)} ${scale.unit}` +
      `, mean over ${width === 1 ? "1 pixel" : `${width} pixels`} across`;
  }

  #match({ lines, kind }) {
    if ([...this.charts.keys()].join() === lines.join()) return;
    const unit = kind === "counts" ? "counts" : "area";
    const point = (x) => {
      const pixel = x === null ? null : this.pixels?.[Math.round(x / this.step)];
      this.view.point(pixel ? { row: pixel.row, col: pixel.col } : null);
    };
    this.charts = new Map(
      lines.map((line) => [line, new Chart({ height: 92, label: `${lineName(line)}, ${unit}`, onPoint: point })]),
    );
    byId("profile-charts").replaceChildren(...[...this.charts.values()].map((chart) => chart.element));
  }
}

/** Length of one step along the line, in the run's units where its steps are known. */
function axis(run, [a, b], n) {
  if (!run.step) return { step: 1, unit: "pixels", csv: "pixels" };
  const length = Math.hypot((b.row - a.row) * run.step[0], (b.col - a.col) * run.step[1]);
  return { step: length / Math.max(1, n - 1) || Math.abs(run.step[1]), unit: unitName(run.units), csv: run.units };
}
