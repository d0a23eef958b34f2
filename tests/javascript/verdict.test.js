import assert from "node:assert/strict";
import { test } from "node:test";

import { module } from "./dashboard.js";

const { doubtsOf, judge, labelOf, resolution, worstOf } = await module("map/verdict.js");

const EVIDENCE = {
  line: "Fe_Ka",
  estimator: "fine_tuned",
  verdict: "improved",
  verdict_reason: "the interval begins above 1",
  dwell_gain: 8.12,
  dwell_gain_low: 6,
  dwell_gain_high: 11.2,
  mean_counts: 3.2,
};
const run = (evidence, more = {}) => ({
  evidence: evidence && { rows: 40, lines: [evidence], model: "quietbeam-4", final: false },
  denoise: { state: "live", reason: "", rows: 31, lag_s: null, model: "quietbeam-4" },
  advice: null,
  ...more,
});
const headline = (judged) => judged.headline.map(([text]) => text).join("");

test("without evidence a card says so and shows raw", () => {
  for (const none of [run(null), run({ ...EVIDENCE, line: "Ni_Ka" })]) {
    const judged = judge(none, "Fe_Ka");
    assert.deepEqual([judged.shownRaw, judged.verdict, headline(judged)], [true, null, "no evidence yet"]);
  }
});

test("an improved line has its dwell gain as headline", () => {
  const judged = judge(run(EVIDENCE), "Fe_Ka");
  assert.deepEqual(judged.headline[0], ["×8.1", "gain"]);
  assert.equal(headline(judged), "×8.1 dwell gain (6.0–11.2)");
  assert.equal(judged.shownRaw, false);
  assert.equal(judged.facts, "improved · fine-tuned network · 3.2 counts/pixel");
  assert.ok(judged.details.includes("improved: the interval begins above 1"));
  const unmeasured = judge(run({ ...EVIDENCE, dwell_gain: null }), "Fe_Ka");
  assert.equal(headline(unmeasured), "improved; dwell gain not measured");
});

test("a line that is not improved has a warning", () => {
  const kept = judge(run({ ...EVIDENCE, estimator: "raw", verdict: "kept_raw" }), "Fe_Ka");
  assert.deepEqual(kept.headline, [["▲ kept raw: no proven gain", "warn"]]);
  assert.equal(kept.shownRaw, true);
  const untested = judge(run({ ...EVIDENCE, estimator: "smoother", verdict: "not_tested" }), "Fe_Ka");
  assert.deepEqual(untested.headline, [["▲ not tested: smoother shown", "warn"]]);
  assert.equal(untested.shownRaw, false);
});

test("advice takes the place of the mean counts", () => {
  const advice = {
    snr: 10,
    lines: [{ line: "Fe_Ka", snr_raw: 3, snr_denoised: null, factor_raw: 12, dwell_raw_s: null, reason: "" }],
  };
  const judged = judge(run(EVIDENCE, { advice }), "Fe_Ka");
  assert.equal(judged.brief, "SNR 3; for 10: ×12");
  assert.equal(judged.facts, "improved · fine-tuned network");
});

test("the weights of a combination, without those that do not count", () => {
  const weights = { raw: 0.3, fine_tuned: 0.699, smoother: 0.001 };
  const combined = judge(run({ ...EVIDENCE, estimator: "combined", weights }), "Fe_Ka");
  assert.ok(combined.details.includes("estimator: combination (0.3 raw, 0.7 fine-tuned network)"));
  const single = judge(run({ ...EVIDENCE, estimator: "combined", weights: { raw: 1 } }), "Fe_Ka");
  assert.ok(single.details.includes("estimator: combination"));
});

test("doubts: structure in the residual with its place where it is known, detectors that are left out", () => {
  assert.deepEqual(doubtsOf(EVIDENCE), []);
  const flagged = { ...EVIDENCE, residual_flag: true };
  assert.deepEqual(doubtsOf(flagged), ["residual shows structure"]);
  const placed = { ...flagged, residual_worst_row: 0, residual_worst_col: 12, excluded_detectors: { det3: "drifts" } };
  assert.deepEqual(doubtsOf(placed), ["residual shows structure near row 0, col 12", "without det3: drifts"]);
  assert.equal(
    judge(run(placed), "Fe_Ka").doubts,
    "▲ residual shows structure near row 0, col 12; without det3: drifts",
  );
  assert.deepEqual(worstOf(placed), { row: 0, col: 12 });
  for (const row of [null, undefined, NaN])
    assert.equal(worstOf({ residual_worst_row: row, residual_worst_col: 1 }), null);
});

test("resolution is told where it was measured", () => {
  assert.equal(resolution({ frc_pixels: 2.4, frc_raw_pixels: 5 }), "resolves 2.4 pixels, raw 5");
  assert.equal(resolution({ frc_pixels: 2.4, frc_raw_pixels: null }), "resolves 2.4 pixels");
  assert.equal(resolution({ frc_pixels: null, frc_raw_pixels: 5 }), "");
});

test("a denoised map always says so, with model and rows", () => {
  const about = { shownRaw: false, line: "Fe_Ka" };
  const label = (kind, more) => labelOf(run(EVIDENCE), kind, { ...about, ...more });
  assert.equal(label("denoised"), "denoised, model quietbeam-4, 31 rows");
  assert.equal(label("denoised", { narrow: true }), "denoised, quietbeam-4, 31 rows");
  assert.equal(label("swipe"), "raw | denoised, model quietbeam-4, 31 rows");
  assert.equal(label("denoised", { shownRaw: true }), "raw shown, not denoised");
  assert.deepEqual(
    ["raw", "uncertainty", "residual"].map((kind) => label(kind)),
    ["raw", "uncertainty", "residual"],
  );
  assert.deepEqual([label("chi2"), label("chi2", { missing: true })], ["local χ²", "no χ² kept"]);
  const smoothed = run({ ...EVIDENCE, estimator: "smoother" });
  assert.equal(labelOf(smoothed, "denoised", about), "denoised, smoother, 31 rows");
});
