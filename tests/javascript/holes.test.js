import assert from "node:assert/strict";
import { test } from "node:test";

import { module } from "./dashboard.js";

const { fillHoles, hasHoles } = await module("base/holes.js");

const _ = NaN;
const filled = (values, rows, cols) => [...fillHoles(Float32Array.from(values), rows, cols)];
const isHoley = (values, rows, cols) => hasHoles(Float32Array.from(values), rows, cols);

test("a cell between two measured cells is a hole and shows the nearest value", () => {
  const values = [1, 2, 3, 4, _, 6, 7, 8, 9];
  assert.ok(isHoley(values, 3, 3));
  const result = filled(values, 3, 3);
  assert.ok([2, 4, 6, 8].includes(result[4]), "one of the four neighbours");
  assert.deepEqual(
    result.filter((value, i) => i !== 4),
    values.filter((value, i) => i !== 4),
  );
});

test("a gap of two cells is filled from both sides", () => {
  assert.deepEqual(filled([1, _, _, 4], 1, 4), [1, 1, 4, 4]);
});

test("rows that are still to come are no holes", () => {
  const values = [1, 2, 3, 4, _, _, _, _, _];
  assert.ok(!isHoley(values, 3, 3));
  assert.deepEqual(filled(values, 3, 3), values);
});

test("a wide gap stays: no sample is near", () => {
  const values = [1, _, _, _, _, _, 7];
  assert.ok(!isHoley(values, 1, 7));
  assert.deepEqual(filled(values, 1, 7), values);
});

test("neighbours in a row do not reach around the edge of the map", () => {
  assert.ok(!isHoley([_, 1, 1, _], 2, 2), "the last cell of a row and the first of the next are no neighbours");
});

test("maps without a hole: empty, one pixel, nothing measured, everything measured", () => {
  assert.ok(!isHoley([], 0, 0));
  for (const values of [[_], [3]]) assert.ok(!isHoley(values, 1, 1));
  assert.ok(!isHoley([_, _, _, _], 2, 2));
  assert.ok(!isHoley([1, 2, 3, 4], 2, 2));
  assert.deepEqual(filled([], 0, 0), []);
});

test("the values themselves are not changed", () => {
  const values = Float32Array.of(1, NaN, 3);
  fillHoles(values, 1, 3);
  assert.ok(Number.isNaN(values[1]));
});
