import assert from "node:assert/strict";
import { test } from "node:test";

import { module } from "./dashboard.js";

const { logTicks, plotScale, roundTicks } = await module("base/ticks.js");
const { contiguous, movedApart } = await module("base/chart.js");

test("ticks are round and lie in the range", () => {
  assert.deepEqual(roundTicks(0, 10, 5), [0, 2, 4, 6, 8, 10]);
  assert.deepEqual(roundTicks(0.3, 0.9, 3), [0.4, 0.6, 0.8]);
  assert.deepEqual(roundTicks(-1.2, 1.2, 4), [-1, 0, 1]);
  assert.deepEqual(roundTicks(0, 0.3, 3), [0, 0.1, 0.2, 0.3], "no 0.30000000000000004");
});

test("ticks of small and of large numbers", () => {
  assert.deepEqual(roundTicks(0, 4e-12, 4), [0, 1e-12, 2e-12, 3e-12, 4e-12]);
  assert.deepEqual(roundTicks(0, 4e15, 4), [0, 1e15, 2e15, 3e15, 4e15]);
  assert.deepEqual(roundTicks(1234567, 1234571, 4), [1234567, 1234568, 1234569, 1234570, 1234571], "far from zero");
});

test("an empty, reversed or infinite range has no ticks", () => {
  for (const [low, high] of [
    [3, 3],
    [0, 0],
    [2, 1],
    [NaN, 1],
    [0, Infinity],
    [-1.7e308, 1.7e308],
  ]) {
    assert.deepEqual(roundTicks(low, high, 4), [], `${low} to ${high}`);
  }
});

test("there are about as many ticks as wished, whatever the range", () => {
  for (let power = -20; power <= 20; power++) {
    for (const factor of [1, 1.7, 3.3, 9.9]) {
      const ticks = roundTicks(0, factor * 10 ** power, 5);
      assert.ok(ticks.length >= 2 && ticks.length <= 7, `${factor}e${power}: ${ticks}`);
    }
  }
});

test("logarithmic ticks are powers of ten, with 2 and 5 in short ranges", () => {
  assert.deepEqual(logTicks(1, 1000), [1, 10, 100, 1000]);
  assert.deepEqual(logTicks(1, 12), [1, 2, 5, 10]);
  assert.deepEqual(logTicks(3, 4), [3, 4], "the ends, where no round value lies between");
});

const AREA = { left: 40, right: 140, top: 0, bottom: 100 };

test("a chart's ends lie at the ends of its area, error bars included", () => {
  const scale = plotScale(
    [
      { x: 0, y: 1, low: -1, high: 2 },
      { x: 10, y: 3, low: 2, high: 9 },
    ],
    AREA,
  );
  assert.deepEqual([scale.low, scale.high, scale.first, scale.last], [-1, 9, 0, 10]);
  assert.deepEqual([scale.x(0), scale.x(10), scale.y(-1), scale.y(9)], [40, 140, 100, 0]);
  assert.equal(scale.value(90), 5);
  assert.deepEqual([scale.value(-1000), scale.value(1000)], [0, 10], "beyond the ends");
});

test("one point, equal points and unknown error bars have a range too", () => {
  const single = plotScale([{ x: 3, y: 7 }], AREA);
  assert.ok(Number.isFinite(single.x(3)) && Number.isFinite(single.y(7)));
  assert.equal(single.x(3), 90, "in the middle");
  const unknown = plotScale(
    [
      { x: 0, y: 2, low: NaN, high: null },
      { x: 1, y: 4, low: 1, high: 5 },
    ],
    AREA,
  );
  assert.deepEqual([unknown.low, unknown.high], [1, 5]);
});

test("the y axis includes a wished value; a logarithmic one stays above zero", () => {
  assert.equal(
    plotScale(
      [
        { x: 0, y: 5 },
        { x: 1, y: 6 },
      ],
      AREA,
      { from: 0 },
    ).low,
    0,
  );
  assert.equal(
    plotScale(
      [
        { x: 0, y: -5 },
        { x: 1, y: 6 },
      ],
      AREA,
      { from: 0 },
    ).low,
    -5,
  );
  const log = plotScale(
    [
      { x: 0, y: 0 },
      { x: 1, y: 100 },
    ],
    AREA,
    { log: true, from: 1 },
  );
  assert.ok(log.low > 0);
  assert.ok(Number.isFinite(log.y(0)) && Number.isFinite(log.y(-3)));
});

test("a line is broken where values are missing", () => {
  const points = [NaN, 1, 2, NaN, NaN, 3, NaN].map((y, x) => ({ x, y }));
  assert.deepEqual(
    contiguous(points).map((part) => part.map(({ y }) => y)),
    [[1, 2], [3]],
  );
  assert.deepEqual(contiguous([]), []);
  assert.deepEqual(contiguous([{ x: 0, y: Infinity }]), []);
});

test("names at the ends of lines are moved apart", () => {
  const moved = movedApart([10, 10, 10, 80], 0, 100);
  for (let i = 1; i < moved.length; i++) assert.ok(moved[i] - moved[i - 1] >= 11 - 1e-9, String(moved));
  assert.equal(moved[3], 80, "what has room stays");
  const crowded = movedApart(new Array(40).fill(99), 0, 100);
  assert.ok(Math.min(...crowded) >= -5 && Math.max(...crowded) <= 100, "more names than fit stay in the chart");
  assert.deepEqual(movedApart([], 0, 100), []);
});
