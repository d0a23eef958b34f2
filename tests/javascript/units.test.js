import assert from "node:assert/strict";
import { test } from "node:test";

import { module } from "./dashboard.js";

const { conversionOf, inUnit, meansInUnit, unitNotes, unitText } = await module("data/units.js");
const { unitOf } = await module("map/values.js");

const BY = { factor: 0.5, background: 2, relative_error: 0.1 };
const UNIT = {
  units: "ug/cm2",
  available: true,
  reason: "",
  lines: [
    { line: "Ca_Ka", ...BY, reason: "" },
    { line: "Zn_Ka", factor: null, background: 0, relative_error: 0, reason: "not excited" },
  ],
  notes: ["NOT THIN: much is absorbed.", "Self-absorption is not corrected."],
};

test("values and their errors become another unit, and plain sums none", () => {
  const values = {
    raw: Float32Array.of(12, 4, 7),
    denoised: Float32Array.of(10, 2, NaN),
    uncertainty: Float32Array.of(1, 1, NaN),
    residual: Float32Array.of(1, 2, 3),
  };
  const found = inUnit(values, BY);
  assert.deepEqual([...found.raw], [5, 1, NaN]);
  assert.deepEqual([...found.denoised], [4, 0, NaN]);
  assert.ok(Math.abs(found.uncertainty[0] - Math.hypot(0.5, 0.4)) < 1e-6);
  assert.equal(found.uncertainty[1], 0.5);
  assert.equal(found.residual, values.residual, "in standard errors");
  assert.equal(inUnit(values, null), values);
  const none = inUnit(values, { factor: null, background: 0, relative_error: 0 });
  assert.ok(none.raw.every(Number.isNaN) && none.denoised.every(Number.isNaN));
});

test("means have the error of the factor in theirs", () => {
  const means = { n: 4, raw: 12, rawError: 2, denoised: null, error: null };
  assert.deepEqual(meansInUnit(means, BY), { n: 4, raw: 5, rawError: Math.hypot(1, 0.5), denoised: null, error: null });
  assert.equal(meansInUnit(means, { ...BY, factor: null }).raw, null);
  assert.equal(meansInUnit(means, null), means);
});

test("a run says how its lines are shown", () => {
  assert.equal(conversionOf({ unit: null }, "Ca_Ka"), null);
  assert.equal(conversionOf({ unit: { ...UNIT, available: false } }, "Ca_Ka"), null, "as counted");
  assert.equal(conversionOf({ unit: UNIT }, "Ca_Ka").factor, 0.5);
  assert.equal(conversionOf({ unit: UNIT }, "Fe_Ka").factor, null);
  assert.equal(unitText("counts/s"), "counts/s");
  assert.equal(unitOf("denoised", { kind: "counts", unit: UNIT }), "µg/cm²");
  assert.equal(unitOf("residual", { kind: "counts", unit: UNIT }), "σ");
  assert.equal(unitOf("raw", { kind: "counts", unit: { ...UNIT, available: false } }), "counts");
});

test("what must be read stands beside the maps", () => {
  const { text, title } = unitNotes(UNIT);
  assert.equal(text, "NOT THIN: much is absorbed.");
  assert.match(title, /Self-absorption[^]*Zn_Ka: not excited/);
  const below = "BELOW ZERO: Fe_Ka reaches -0.2.";
  assert.equal(unitNotes({ ...UNIT, notes: [below, ...UNIT.notes] }).text, `${below} ${UNIT.notes[0]}`);
  assert.equal(unitNotes({ ...UNIT, notes: UNIT.notes.slice(1) }).text, "Self-absorption is not corrected.");
  assert.equal(unitNotes({ ...UNIT, available: false, reason: "no calibration" }).text, "No µg/cm²: no calibration");
  assert.deepEqual(unitNotes(null), { text: "", title: "" });
});
