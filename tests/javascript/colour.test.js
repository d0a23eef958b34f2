import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { module, MODULES } from "./dashboard.js";

const { abgr, Colours, GREY, paint, rangeOf, scaled, symmetricRange, unscaled } = await module("base/colour.js");
const texts = JSON.parse(await readFile(new URL("../colormaps.json", MODULES), "utf-8"));

test("scales begin at 0, end at 1 and have an inverse", () => {
  for (const scale of ["linear", "sqrt", "log"]) {
    assert.equal(scaled(0, scale), 0);
    assert.ok(Math.abs(scaled(1, scale) - 1) < 1e-12);
    for (const part of [0.001, 0.25, 0.5, 0.999]) {
      assert.ok(Math.abs(unscaled(scaled(part, scale), scale) - part) < 1e-9, `${scale} at ${part}`);
    }
  }
  assert.ok(scaled(0.1, "log") > scaled(0.1, "sqrt"), "log shows faint pixels brighter than sqrt");
});

test("colours are opaque, in the byte order of a canvas", () => {
  assert.equal(abgr(1, 2, 3), 0xff030201);
  assert.equal(abgr(60, 65, 74), GREY);
});

test("every colour map begins and ends with its own colours", () => {
  const colours = new Colours(texts);
  for (const [name, text] of Object.entries(texts)) {
    const table = colours.table(name, "log");
    const first = [0, 2, 4].map((i) => parseInt(text.slice(i, i + 2), 16));
    const last = [6, 4, 2].map((i) => parseInt(text.slice(text.length - i, text.length - i + 2), 16));
    assert.equal(table[0], abgr(...first), name);
    assert.equal(table.at(-1), abgr(...last), name);
  }
  assert.equal(colours.table("viridis", "log"), colours.table("viridis", "log"), "tables are made once");
  assert.throws(() => colours.table("jet", "linear"), /no colour map jet/);
});

test("values beyond the range get its ends, NaN is grey", () => {
  const table = Uint32Array.from({ length: 4096 }, (_, i) => i);
  const pixels = new Uint32Array(7);
  paint(Float32Array.of(-5, 0, 1, 2, 9, NaN, Infinity), 0, 2, table, pixels);
  assert.deepEqual([...pixels], [0, 0, 2047, 4095, 4095, GREY, 4095]);
  paint(Float32Array.of(-1e38, 3, 3.4e38), 3, 3, table, pixels);
  assert.deepEqual([...pixels.slice(0, 3)], [0, 0, 4095], "a range of no size");
});

test("the range begins at 0 or below and is never empty", () => {
  assert.deepEqual(rangeOf([Float32Array.of(1, 2, 3)], 0), [0, 3]);
  assert.deepEqual(rangeOf([Float32Array.of(-2, NaN), Float32Array.of(5)], 0), [-2, 5]);
  assert.deepEqual(rangeOf([], 0), [0, 1]);
  assert.deepEqual(rangeOf([Float32Array.of(NaN, NaN)], 0.5), [0, 1]);
  assert.deepEqual(rangeOf([new Float32Array(1)], 0.5), [0, 1], "one pixel without a count");
  assert.deepEqual(rangeOf([Float32Array.of(-4)], 2), [-4, -3], "one negative pixel");
});

test("clipping takes the brightest pixels out, unless nothing else has counts", () => {
  const values = new Float32Array(1000).fill(1);
  values.fill(1000, 0, 10);
  assert.deepEqual(rangeOf([values], 2), [0, 1]);
  assert.deepEqual(rangeOf([values], 0.5), [0, 1000]);
  const sparse = new Float32Array(1000);
  sparse[3] = 7;
  assert.deepEqual(rangeOf([sparse], 2), [0, 7]);
});

test("the sample of a large map meets all columns", () => {
  for (const cols of [100, 500, 1999, 2000, 4000]) {
    const values = new Float32Array(4_000_000).map((_, i) => i % cols);
    const [low, high] = rangeOf([values], 0.5);
    assert.equal(low, 0);
    assert.ok(high >= 0.98 * cols && high < cols, `${high} of ${cols} columns`);
  }
});

test("a symmetric range holds both signs", () => {
  assert.deepEqual(symmetricRange(Float32Array.of(-3, 1), 0), [-3, 3]);
  assert.deepEqual(symmetricRange(Float32Array.of(0, NaN), 0), [-1, 1]);
  assert.deepEqual(symmetricRange(new Float32Array(0), 0), [-1, 1]);
});
