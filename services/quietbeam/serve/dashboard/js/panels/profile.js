// The panel "profile": raw and denoised of every line along the line drawn on a map.

import { Chart } from "../base/chart.js";
import { buttonById, byId, saveText, selectById } from "../base/dom.js";
import { pixelMeans, profilePixels } from "../base/stats.js";
import { lineName, number, unitName } from "../base/text.js";
import { scanPixel } from "../data/orientation.js";
import { conversionOf, meansInUnit } from "../data/units.js";
import { unitOf } from "../map/values.js";

/** @import { Means } from "../base/stats.js" */
/** @import { View } from "../base/view.js" */
/** @import { Drawing, Shape, Tool } from "../map/drawing.js" */

const RAW = "#b9c4d1";
const DENOISED = "#6fd3c7";

/**
 * What is drawn: the pixels along the line, one every `step` units, and the means of every line there.
 * @typedef {object} Profile
 * @property {ReturnType<typeof profilePixels>} pixels
 * @property {number} step
 * @property {string} unit
 * @property {{line: string, means: Means[]}[]} lines
 * @property {{name: string, rows: CsvValue[][]}} csv
 */

export class ProfilePanel {
  /** @param {{view: View, drawing: Drawing, redraw: () => void}} shared */
  constructor({ view, drawing, redraw }) {
    this.view = view;
    this.drawing = drawing;
    /** @type {Tool} */
    this.tool = "line";
    /** @type {Map<string, Chart>} by line */
    this.charts = new Map();
    this.unit = "";
    /** @type {Profile | null} */
    this.profile = null;
    this.profileKey = "";
    this.drawn = "";
    byId("profile-width").addEventListener("change", redraw);
    byId("profile-clear").addEventListener("click", () => drawing.clear());
    byId("profile-csv").addEventListener("click", () => {
      if (this.profile) saveText(this.profile.csv.name, this.profile.csv.rows);
    });
  }

  /** @param {Frame} frame */
  draw({ run, stacks, number: frameNumber }) {
    const ends = this.drawing.shapes.line;
    byId("profile-hint").hidden = ends !== null;
    buttonById("profile-csv").disabled = buttonById("profile-clear").disabled = !ends;
    byId("profile-charts").hidden = !ends;
    if (!ends) {
      byId("profile-facts").textContent = "";
      return;
    }
    const width = Number(selectById("profile-width").value);
    const key = `${frameNumber} ${width} ${JSON.stringify(ends)}`;
    if (!this.profile || key !== this.profileKey) {
      this.profile = profileOf(run, stacks, ends, width);
      this.profileKey = key;
      this.#matchCharts(run);
      const [first, last] = ends;
      const scanned = /** @type {Shape} */ ([scanPixel(run, first), scanPixel(run, last)]);
      byId("profile-facts").textContent = describe(this.profile, scanned, width);
    }
    const { pixels, step, unit, lines } = this.profile;
    const { hover } = this.view;
    const index = hover ? pixels.findIndex(({ row, col }) => row === hover.row && col === hover.col) : -1;
    if (this.drawn === `${key} ${index}`) return;
    this.drawn = `${key} ${index}`;
    const mark = index < 0 ? null : index * step;
    for (const { line, means } of lines) {
      this.charts.get(line)?.draw({ series: seriesOf(means, step), unit, mark, from: 0 });
    }
  }

  /**
   * One chart for each line of the run.
   * @param {Run} run
   */
  #matchCharts(run) {
    const { lines } = run;
    const unit = unitOf("raw", run);
    if ([...this.charts.keys()].join() === lines.join() && unit === this.unit) return;
    this.unit = unit;
    const onPoint = (/** @type {number | null} */ x) => {
      const pixel = x === null ? undefined : this.profile?.pixels[Math.round(x / this.profile.step)];
      this.view.point(pixel ? { row: pixel.row, col: pixel.col } : null);
    };
    const charts = lines.map((line) => new Chart({ height: 92, label: `${lineName(line)}, ${unit}`, onPoint }));
    this.charts = new Map(lines.map((line, i) => [line, charts[i]]));
    byId("profile-charts").replaceChildren(...charts.map((chart) => chart.element));
  }
}

/**
 * @param {MappedRun} run
 * @param {Stacks} stacks
 * @param {Shape} ends
 * @param {number} width pixels across
 * @returns {Profile}
 */
function profileOf(run, stacks, ends, width) {
  const pixels = profilePixels(ends, width, ...run.shape);
  const { step, unit, csvUnit } = stepOf(run, ends, pixels.length);
  const lines = run.lines.map((line, index) => ({
    line,
    means: pixels.map(({ across }) =>
      meansInUnit(pixelMeans(stacks, index, across, run.kind === "counts"), conversionOf(run, line)),
    ),
  }));
  const head = [`distance_${csvUnit}`, "row", "col", "line", "raw", "raw_error", "denoised", "denoised_error", "unit"];
  const rows = lines.flatMap(({ line, means }) =>
    means.map(({ raw, rawError, denoised, error }, i) => {
      const { row, col } = scanPixel(run, pixels[i]);
      return [i * step, row, col, line, raw, rawError, denoised, error, unitOf("raw", run)];
    }),
  );
  return { pixels, step, unit, lines, csv: { name: `profile-${run.scan_id ?? run.uid}.csv`, rows: [head, ...rows] } };
}

/**
 * Raw and denoised along the line, with their errors.
 * @param {Means[]} means
 * @param {number} step
 * @returns {Series[]}
 */
function seriesOf(means, step) {
  const point = (/** @type {number} */ i, /** @type {number | null} */ y, /** @type {number | null} */ error) => {
    const bounds = y !== null && error !== null ? { low: y - error, high: y + error } : { low: null, high: null };
    return { x: i * step, y: y ?? NaN, ...bounds };
  };
  return [
    { kind: "dots", points: means.map(({ raw, rawError }, i) => point(i, raw, rawError)), colour: RAW },
    { kind: "line", points: means.map(({ denoised, error }, i) => point(i, denoised, error)), colour: DENOISED },
  ];
}

/**
 * "from row 1, col 2 to row 3, col 4: 12 µm, mean over 3 pixels across".
 * @param {Profile} profile
 * @param {Shape} ends in rows and cols of the scan
 * @param {number} width pixels across
 */
function describe({ pixels, step, unit }, [a, b], width) {
  const length = `${number((pixels.length - 1) * step)} ${unit}`;
  const across = width === 1 ? "1 pixel" : `${width} pixels`;
  return `from row ${a.row}, col ${a.col} to row ${b.row}, col ${b.col}: ${length}, mean over ${across} across`;
}

/**
 * Length of one step along the line, in the run's units where its steps are known.
 * @param {Run} run
 * @param {Shape} ends
 * @param {number} n pixels along the line
 */
function stepOf(run, [a, b], n) {
  if (!run.step) return { step: 1, unit: "pixels", csvUnit: "pixels" };
  const length = Math.hypot((b.row - a.row) * run.step[0], (b.col - a.col) * run.step[1]);
  const step = length / Math.max(1, n - 1) || Math.abs(run.step[1]);
  return { step, unit: unitName(run.units), csvUnit: run.units ?? "unknown_unit" };
}
