import assert from "node:assert/strict";
import { test } from "node:test";

import { module, stack } from "./dashboard.js";

const { axisNames, firstPixel, pixelAxes, scanPixel, shownPixel, shownRun, shownStack } =
  await module("data/orientation.js");
const { axesOf } = await module("map/axes.js");
const { positionText } = await module("map/reading.js");
const { describe } = await module("panels/region.js");

const FLAGS = [false, true];
const DISPLAYS = FLAGS.flatMap((transpose) =>
  FLAGS.flatMap((flip_rows) => FLAGS.map((flip_cols) => ({ transpose, flip_rows, flip_cols }))),
);
const [ROWS, COLS] = [3, 5];
const SCAN = { shape: [ROWS, COLS], step: [2, -0.5], origin: [100, 7], units: "um", axes: ["my", "mx"] };
const MAPS = stack(
  2,
  ROWS,
  COLS,
  Array.from({ length: 2 * ROWS * COLS }, (_, i) => i),
);

/** Each row and col of the scan. */
const everyPixel = () => Array.from({ length: ROWS * COLS }, (_, i) => ({ row: Math.floor(i / COLS), col: i % COLS }));

test("every pixel of the scan has one place in the picture, with its value and its position", () => {
  for (const display of DISPLAYS) {
    const name = JSON.stringify(display);
    const run = shownRun({ ...SCAN, display });
    const shown = shownStack(MAPS, display);
    assert.deepEqual(run.shape, display.transpose ? [COLS, ROWS] : [ROWS, COLS], name);
    assert.deepEqual([shown.rows, shown.cols], run.shape, name);
    for (const pixel of everyPixel()) {
      const at = shownPixel(run, pixel);
      assert.deepEqual(scanPixel(run, at), pixel, name);
      for (const line of [0, 1]) {
        const value = shown.data[(line * shown.rows + at.row) * shown.cols + at.col];
        assert.equal(value, (line * ROWS + pixel.row) * COLS + pixel.col, name);
      }
      const [slow, fast] = [100 + 2 * pixel.row, 7 - 0.5 * pixel.col].map((value) => value.toFixed(2));
      const words = `row ${pixel.row}, col ${pixel.col}   my ${slow} µm, mx ${fast} µm`;
      assert.equal(positionText(run, at), words, name);
    }
  }
});

test("positions rise to the right and as the profile says when the scan ran backwards", () => {
  const run = shownRun({ ...SCAN, display: { transpose: false, flip_rows: false, flip_cols: true } });
  assert.deepEqual([run.step, run.origin], [[2, 0.5], [100, 5]]); // prettier-ignore
  const whole = { top: 0, left: 0, height: ROWS, width: COLS };
  const { cols } = axesOf(run, whole, 5);
  assert.ok(cols.length > 1);
  assert.ok(cols.every(([value, part], i) => !i || (value > cols[i - 1][0] && part > cols[i - 1][1])));
});

test("where positions are not known the axes count the pixels of the scan", () => {
  const run = { ...SCAN, step: null, origin: null, display: { transpose: true, flip_rows: true, flip_cols: false } };
  const shown = shownRun(run);
  assert.deepEqual(pixelAxes(shown), { origin: [0, ROWS - 1], step: [1, -1] });
  const { unit, cols } = axesOf(shown, { top: 0, left: 0, height: COLS, width: ROWS }, 3);
  assert.equal(unit, "pixel");
  for (const [value, part] of cols) assert.ok(Math.abs(ROWS - 1 - (part * ROWS - 0.5) - value) < 1e-9);
  const uneven = { ...run, row_positions: [1, 2, 4], col_positions: null };
  assert.equal(positionText(shownRun(uneven), { row: 1, col: 0 }), "row 2, col 1   my 4.00 µm");
});

test("axes are named after their motors", () => {
  const display = { transpose: true, flip_rows: false, flip_cols: false };
  assert.deepEqual(axisNames({ ...SCAN, display }), ["mx", "my"]);
  assert.deepEqual(axisNames({ display: null, axes: [] }), ["slow axis", "fast axis"]);
  assert.deepEqual(axisNames({ display: null, axes: ["", "mx"] }), ["slow axis", "mx"]);
});

test("thinned out maps begin with the pixel that is drawn first", () => {
  const display = { transpose: false, flip_rows: true, flip_cols: true };
  assert.deepEqual(firstPixel({ ...SCAN, display }, 3), [2, 1]);
  assert.deepEqual(firstPixel({ ...SCAN, display: null }, 3), [0, 0]);
});

test("a region is described in rows and cols of the scan", () => {
  const run = shownRun({ ...SCAN, display: { transpose: true, flip_rows: true, flip_cols: false } });
  const text = describe(run, { top: 0, bottom: 2, left: 0, right: 1 }, 2, 1);
  assert.match(text, /^rows 2–2, columns 0–1: 2 pixels measured, 2 × 1 µm$/);
});
