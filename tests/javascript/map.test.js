import assert from "node:assert/strict";
import { test } from "node:test";

import { module, stack } from "./dashboard.js";

const { axesOf } = await module("map/axes.js");
const { barTexts, distinctBars } = await module("map/colour_bars.js");
const { extents, positionText } = await module("map/reading.js");
const { scaleBar } = await module("map/scale_bar.js");
const { colouringOf, residualOf, sharedRange, unitOf, valuesOf, valuesOfKind } = await module("map/values.js");

const WHOLE = { top: 0, left: 0, height: 10, width: 20 };

test("axes are in the run's units, the first pixel's centre at the origin", () => {
  const run = { step: [2, -0.5], origin: [100, 5], units: "um" };
  const { unit, rows, cols } = axesOf(run, WHOLE, 5);
  assert.equal(unit, "µm");
  assert.deepEqual(rows[0], [100, 0.05], "half a row below the edge");
  assert.ok(cols.every(([, part]) => part >= 0 && part <= 1));
  assert.ok(cols[0][1] > cols.at(-1)[1], "an axis that runs backwards");
});

test("without steps axes count pixels; of an axis without length there are no ticks", () => {
  const pixels = axesOf({ step: null, origin: null, units: "" }, WHOLE, 5);
  assert.equal(pixels.unit, "pixel");
  assert.deepEqual(
    pixels.rows.map(([value]) => value),
    [0, 2, 4, 6, 8],
  );
  assert.deepEqual(axesOf({ step: [0, 1], origin: [0, 0], units: "um" }, WHOLE, 5).rows, []);
});

test("ticks far from the origin lie where their values are", () => {
  const run = { step: [1, 1], origin: [1234567, 0], units: "nm" };
  for (const [value, part] of axesOf(run, WHOLE, 5).rows) {
    assert.ok(part >= 0 && part <= 1, `${value} at ${part}`);
    assert.ok(Math.abs(part - (value - 1234566.5) / 10) < 1e-6);
  }
});

test("a scale bar has a round length, at most a third of the map and 100 CSS pixels", () => {
  for (const step of [1e-3, 0.03, 0.7, 1, 12, 4e4]) {
    for (const mapWidth of [60, 300, 1500]) {
      const bar = scaleBar({ step: [step, step], units: "um" }, { width: 128 }, mapWidth);
      const shown = (bar.length / 128) * mapWidth;
      assert.ok(bar.length <= 128 / 3 + 1e-9 && shown <= 100 + 1e-9, `${bar.label}: ${shown}`);
      assert.match(bar.label, /^[125]0* (µm|nm)$|^0\.\d+ µm$/);
    }
  }
  assert.equal(scaleBar({ step: [1, -0.001], units: "um" }, { width: 100 }, 300).label, "20 nm");
});

test("without a step along the columns there is no scale bar", () => {
  for (const step of [null, [1, 0]]) assert.equal(scaleBar({ step, units: "um" }, WHOLE, 300), null);
});

test("a round grain is round: rows count by their step", () => {
  assert.deepEqual(extents({ shape: [10, 20], step: [2, -1] }), [20, 20]);
  assert.deepEqual(extents({ shape: [10, 20], step: null }), [10, 20]);
  for (const step of [
    [0, 1],
    [1, 0],
    [0, 0],
    [100, 1],
  ]) {
    assert.deepEqual(extents({ shape: [10, 20], step }), [10, 20], String(step));
  }
});

test("a map of one row is high enough to be seen", () => {
  assert.deepEqual(extents({ shape: [1, 240], step: [1, 1] }), [20, 240]);
  assert.deepEqual(extents({ shape: [240, 1], step: null }), [240, 20]);
  assert.deepEqual(extents({ shape: [1, 5], step: null }), [1, 5]);
});

test("the position under the crosshair", () => {
  const run = { step: [2, 0.5], origin: [100, 5], units: "um" };
  assert.equal(positionText(run, { row: 3, col: 4 }), "row 3, col 4   slow 106.00 µm, fast 7.00 µm");
  assert.equal(positionText({ ...run, step: null }, { row: 0, col: 0 }), "row 0, col 0");
});

test("residuals of counts are in units of the counting noise, of areas as they are", () => {
  const [raw, denoised] = [Float32Array.of(9, 1, NaN, 5), Float32Array.of(4, 0, 2, NaN)];
  assert.deepEqual([...residualOf(raw, denoised, "counts")], [2.5, 1, NaN, NaN]);
  assert.deepEqual([...residualOf(raw, denoised, "areas")], [5, 1, NaN, NaN]);
});

const STACKS = {
  raw: stack(2, 1, 2, [1, 2, 30, NaN]),
  denoised: stack(2, 1, 2, [1, 1, 20, 20]),
  uncertainty: stack(2, 1, 2, [1, 1, 4, 5]),
  chi2: null,
};
const RUN = { kind: "counts" };
const OPTIONS = { cmap: "inferno", scale: "log", clip: 0, sameRange: true, swipe: false };

test("a line's values; of residual and chi-square only where they are shown", () => {
  const values = valuesOf(STACKS, 1, "counts", new Set(["raw"]));
  assert.deepEqual([...values.denoised], [20, 20]);
  assert.deepEqual(Object.keys(values), ["raw", "denoised", "uncertainty"]);
  assert.throws(() => valuesOfKind(values, "residual"), RangeError);
  const more = valuesOf(STACKS, 1, "counts", new Set(["residual", "chi2"]));
  assert.ok(more.chi2.every(Number.isNaN), "a run without chi-square");
  assert.ok(Math.abs(more.residual[0] - 10 / Math.sqrt(20)) < 1e-6);
});

test("raw and denoised share a range where that is wished, and always while swiping", () => {
  const values = valuesOf(STACKS, 1, "counts", new Set());
  assert.deepEqual(sharedRange(values, OPTIONS), [0, 30]);
  assert.deepEqual(sharedRange(values, { ...OPTIONS, sameRange: false, swipe: true }), [0, 30]);
  assert.equal(sharedRange(values, { ...OPTIONS, sameRange: false }), null);
});

test("each kind has its colours, scale, range and unit", () => {
  const values = valuesOf(STACKS, 1, "counts", new Set(["residual", "chi2"]));
  const colouring = (kind, shared = null) => colouringOf(kind, values, RUN, OPTIONS, shared);
  const brief = ({ name, scale, range, unit }) => [name, scale, range, unit];
  assert.deepEqual(brief(colouring("raw")), ["inferno", "log", [0, 30], "counts"]);
  assert.deepEqual(brief(colouring("denoised", [0, 30])), ["inferno", "log", [0, 30], "counts"]);
  assert.deepEqual(brief(colouring("uncertainty", [0, 30])), ["inferno", "linear", [0, 5], "counts"]);
  assert.deepEqual(brief(colouring("residual", [0, 30])), ["difference", "linear", [-4, 4], "σ"]);
  assert.deepEqual(brief(colouring("chi2", [0, 30])), ["inferno", "linear", [0, 9], "χ²"]);
  const areas = valuesOf(STACKS, 1, "areas", new Set(["residual"]));
  assert.deepEqual(brief(colouringOf("residual", areas, { kind: "areas" }, OPTIONS, null)), [
    "difference",
    "linear",
    [-10, 10],
    "",
  ]);
  assert.equal(unitOf("raw", { kind: "areas" }), "area");
});

test("maps with a shared range have one colour bar", () => {
  const bar = (kind, shared) => ({ kind, shared });
  const kinds = (bars) => distinctBars(bars).map(({ kind }) => kind);
  assert.deepEqual(kinds([bar("raw", true), bar("denoised", true), bar("chi2", false)]), ["raw", "chi2"]);
  assert.deepEqual(kinds([bar("raw", false), bar("denoised", false)]), ["raw", "denoised"]);
  assert.deepEqual(kinds([bar("uncertainty", false), bar("denoised", true)]), ["uncertainty", "denoised"]);
});

test("the middle of a colour bar is the value of its middle colour", () => {
  assert.deepEqual(barTexts({ range: [0, 100], scale: "linear", unit: "counts" }), ["0", "50", "100 counts"]);
  assert.deepEqual(barTexts({ range: [0, 100], scale: "sqrt", unit: "counts" }), ["0", "25", "100 counts"]);
});
