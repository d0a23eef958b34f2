import assert from "node:assert/strict";
import { test } from "node:test";

import { module, stack } from "./dashboard.js";

const { boxMeans, pixelMeans, profilePixels } = await module("base/stats.js");

const stacks = (raw, denoised, uncertainty, rows, cols, stride = 1) => ({
  raw: stack(raw.length / rows / cols, rows, cols, raw, stride),
  denoised: stack(raw.length / rows / cols, rows, cols, denoised, stride),
  uncertainty: stack(raw.length / rows / cols, rows, cols, uncertainty, stride),
});

test("the mean of counts has the error of a Poisson sum; errors of denoised pixels are averaged", () => {
  const maps = stacks([1, 2, 3, 10], [2, 2, 2, 9], [0.5, 0.5, 1, 1], 2, 2);
  const means = boxMeans(maps, 0, { top: 0, bottom: 2, left: 0, right: 2 }, true);
  assert.deepEqual(means, { n: 4, raw: 4, rawError: Math.sqrt(16) / 4, denoised: 15 / 4, error: 0.75 });
  assert.equal(boxMeans(maps, 0, { top: 0, bottom: 2, left: 0, right: 2 }, false).rawError, null, "of areas");
});

test("pixels that are not measured or not denoised are left out", () => {
  const maps = stacks([NaN, 4, 6, 8], [NaN, 5, NaN, 7], [NaN, 1, NaN, NaN], 2, 2);
  const means = boxMeans(maps, 0, { top: 0, bottom: 2, left: 0, right: 2 }, true);
  assert.equal(means.n, 3);
  assert.equal(means.raw, 6);
  assert.equal(means.denoised, 6);
  assert.equal(means.error, null, "one error is not known");
});

test("where nothing is measured there are no means", () => {
  const maps = stacks([NaN], [NaN], [NaN], 1, 1);
  const none = { n: 0, raw: null, rawError: null, denoised: null, error: null };
  assert.deepEqual(boxMeans(maps, 0, { top: 0, bottom: 1, left: 0, right: 1 }, true), none);
  assert.deepEqual(pixelMeans(maps, 0, [], true), none);
});

test("one pixel without a count has an error of one count", () => {
  const maps = stacks([0], [0.1], [0.2], 1, 1);
  assert.equal(boxMeans(maps, 0, { top: 0, bottom: 1, left: 0, right: 1 }, true).rawError, 1);
});

test("each line has its own values; a box may reach over the edge", () => {
  const maps = stacks([1, 1, 5, 5], [1, 1, 5, 5], [1, 1, 1, 1], 1, 2);
  assert.equal(boxMeans(maps, 1, { top: 0, bottom: 9, left: 1, right: 9 }, true).raw, 5);
  assert.equal(pixelMeans(maps, 1, [{ row: 0, col: 0 }], true).raw, 5);
});

test("a thinned-out map is read at the pixels that it has", () => {
  const maps = stacks([1, 2, 3, 4], [1, 2, 3, 4], [0, 0, 0, 0], 2, 2, 3); // 6 x 6 pixels
  assert.equal(pixelMeans(maps, 0, [{ row: 5, col: 2 }], true).raw, 3);
  const means = boxMeans(maps, 0, { top: 3, bottom: 6, left: 3, right: 6 }, true);
  assert.deepEqual([means.n, means.raw], [1, 4]);
});

test("sums of large counts keep every count", () => {
  const n = 100_000;
  const raw = new Float32Array(n).fill(16_000_001); // more than 2**24: Float32 adds no single count to the sum
  const maps = stacks(raw, raw, new Float32Array(n), 1, n);
  const means = boxMeans(maps, 0, { top: 0, bottom: 1, left: 0, right: n }, true);
  assert.equal(means.raw, Math.fround(16_000_001));
});

test("a profile has one step a pixel, its ends included", () => {
  const pixels = profilePixels(
    [
      { row: 0, col: 0 },
      { row: 0, col: 4 },
    ],
    1,
    5,
    5,
  );
  assert.deepEqual(
    pixels.map(({ row, col }) => [row, col]),
    [
      [0, 0],
      [0, 1],
      [0, 2],
      [0, 3],
      [0, 4],
    ],
  );
  const slanted = profilePixels(
    [
      { row: 0, col: 0 },
      { row: 3, col: 4 },
    ],
    1,
    5,
    5,
  );
  assert.equal(slanted.length, 6, "3-4-5 triangle");
  assert.deepEqual([slanted[5].row, slanted[5].col], [3, 4]);
});

test("the pixels across a profile lie at right angles to it, those outside of the map are left out", () => {
  const [, second] = profilePixels(
    [
      { row: 2, col: 0 },
      { row: 2, col: 4 },
    ],
    3,
    5,
    5,
  );
  assert.ok(second.across.every(({ col }) => col === 1));
  assert.deepEqual(second.across.map(({ row }) => row).sort(), [1, 2, 3]);
  const [edge] = profilePixels(
    [
      { row: 0, col: 0 },
      { row: 0, col: 4 },
    ],
    5,
    5,
    5,
  );
  assert.deepEqual(edge.across.map(({ row }) => row).sort(), [0, 1, 2]);
});

test("a profile of no length is one pixel, drawn as two ends", () => {
  const pixels = profilePixels(
    [
      { row: 1, col: 1 },
      { row: 1, col: 1 },
    ],
    3,
    3,
    3,
  );
  assert.equal(pixels.length, 2);
  for (const { row, col, across } of pixels) {
    assert.deepEqual([row, col], [1, 1]);
    assert.ok(across.every((pixel) => pixel.row === 1 && pixel.col === 1));
  }
});
