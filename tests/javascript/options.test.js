import assert from "node:assert/strict";
import { test } from "node:test";

import { module } from "./dashboard.js";

const { isSnr, Options, validOptions } = await module("base/options.js");
const MAPS = ["viridis", "inferno"];

/** A storage as browsers have it. */
function memory(text) {
  const items = new Map(text === undefined ? [] : [["quietbeam.options", text]]);
  return { items, getItem: (key) => items.get(key) ?? null, setItem: (key, value) => items.set(key, value) };
}

const DEFAULTS = {
  kinds: ["raw", "denoised"],
  unit: "counts",
  scale: "linear",
  cmap: "viridis",
  clip: 0.5,
  sameRange: true,
  fillHoles: false,
  snr: 10,
  swipe: false,
  panel: "",
};

test("what is not valid is replaced by the default", () => {
  const wrong = {
    kinds: ["spectrum"],
    unit: "kg",
    scale: "cubic",
    cmap: "jet",
    clip: 3,
    sameRange: "no",
    fillHoles: 1,
    snr: "10",
    swipe: null,
    panel: 7,
  };
  for (const stored of [undefined, null, {}, [], 3, "text", wrong, { kinds: "raw" }, { kinds: [] }]) {
    assert.deepEqual(validOptions(stored, MAPS), DEFAULTS, JSON.stringify(stored));
  }
});

test("valid options stay, kinds in the order of the page", () => {
  const stored = {
    kinds: ["chi2", "raw", "unknown"],
    scale: "log",
    cmap: "inferno",
    clip: 0,
    sameRange: false,
    snr: 0.1,
  };
  const values = validOptions(stored, MAPS);
  assert.deepEqual(values.kinds, ["raw", "chi2"]);
  assert.deepEqual(
    [values.scale, values.cmap, values.clip, values.sameRange, values.snr],
    ["log", "inferno", 0, false, 0.1],
  );
});

test("an SNR is a number from 0.1 to 1000, as the API takes it", () => {
  for (const value of [0.1, 10, 1000]) assert.ok(isSnr(value));
  for (const value of [0, -1, 0.09, 1000.1, NaN, Infinity, "10", null, undefined])
    assert.ok(!isSnr(value), String(value));
});

test("options are read from the storage and written to it", () => {
  const storage = memory('{"scale": "sqrt", "swipe": true}');
  const options = new Options(MAPS, () => storage);
  assert.equal(options.scale, "sqrt");
  options.set({ clip: 2 });
  const again = new Options(MAPS, () => storage);
  assert.deepEqual([again.scale, again.swipe, again.clip], ["sqrt", true, 2]);
});

test("without a storage, or with a broken one, options last as long as the page", () => {
  const off = () => {
    throw new Error("denied");
  };
  for (const storage of [off, () => memory("{broken"), () => memory("null")]) {
    const options = new Options(MAPS, storage);
    assert.equal(options.cmap, "viridis");
    options.set({ cmap: "inferno" });
    assert.equal(options.cmap, "inferno");
  }
});

test("every listener hears of each change", () => {
  const options = new Options(MAPS, () => memory());
  const heard = [];
  options.subscribe(() => heard.push(["first", options.scale]));
  options.subscribe(() => heard.push(["second", options.scale]));
  options.nextScale();
  assert.deepEqual(heard, [
    ["first", "sqrt"],
    ["second", "sqrt"],
  ]);
  options.nextScale();
  options.nextScale();
  assert.equal(options.scale, "linear", "after the last scale comes the first");
});

test("kinds are switched on and off; the last one stays", () => {
  const options = new Options(MAPS, () => memory());
  options.toggle("chi2");
  assert.deepEqual(options.kinds, ["raw", "denoised", "chi2"]);
  for (const kind of ["raw", "chi2", "denoised"]) options.toggle(kind);
  assert.deepEqual(options.kinds, ["denoised"]);
  options.toggle("spectrum");
  assert.deepEqual(options.kinds, ["denoised"]);
});

test("swiping, one map takes the place of raw and denoised", () => {
  const options = new Options(MAPS, () => memory());
  options.set({ swipe: true, kinds: ["raw", "residual"] });
  assert.deepEqual(options.shown, ["swipe", "residual"]);
  options.set({ swipe: false });
  assert.deepEqual(options.shown, ["raw", "residual"]);
});
