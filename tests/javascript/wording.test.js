import assert from "node:assert/strict";
import { test } from "node:test";

import { module } from "./dashboard.js";

const { adviceText, factorsOf, factorText, fileName, gainText, runName, verdictText } = await module("data/wording.js");

const gain = (value, low, high) => gainText({ dwell_gain: value, dwell_gain_low: low, dwell_gain_high: high });

test("a dwell gain with its interval; the lower bound alone where the upper is open", () => {
  assert.deepEqual(gain(8.12, 6, 11.2), { figure: "×8.1", meaning: " dwell gain (6.0–11.2)" });
  assert.deepEqual(gain(123.4, 100, null), { figure: "at least ×100", meaning: " dwell gain" });
  assert.deepEqual(gain(8.12, null, null), { figure: "×8.1", meaning: " dwell gain, interval not known" });
  assert.equal(gain(null, null, null).figure, "");
});

test("a verdict that is not improved says what is shown", () => {
  assert.equal(verdictText({ verdict: "kept_raw", estimator: "raw" }), "▲ kept raw: no proven gain");
  assert.equal(verdictText({ verdict: "not_tested", estimator: "pretrained" }), "▲ not tested: network shown");
  assert.equal(verdictText({ verdict: "not_tested", estimator: "new" }), "▲ not tested: new shown");
});

test("runs are named by their number, or by the begin of their uid", () => {
  const uid = "0123456789ab";
  assert.deepEqual([runName({ scan_id: 0, uid }), fileName({ scan_id: 0, uid })], ["Scan 0", "scan-0"]);
  assert.deepEqual(
    [runName({ scan_id: null, uid }), fileName({ scan_id: null, uid })],
    ["Run 01234567", "scan-01234567"],
  );
});

const LINE = {
  line: "Fe_Ka",
  snr_raw: 3.14,
  snr_denoised: 8.9,
  factor_raw: 10.1,
  factor_denoised: 1.6,
  factor_denoised_likely: 0.9,
  dwell_raw_s: 1.01,
  dwell_denoised_s: 0.16,
  reason: "",
};

test("factors: the likely one is at least 1, since the counts are there already", () => {
  assert.deepEqual(factorsOf(LINE, "raw"), [10.1, 10.1]);
  assert.deepEqual(factorsOf(LINE, "denoised"), [1, 1.6]);
  assert.deepEqual(factorsOf({ ...LINE, factor_denoised_likely: undefined }, "denoised"), [1.6, 1.6]);
  assert.deepEqual(
    [
      [1, 0.8],
      [1, 1],
      [1, 1.6],
      [14, 14.2],
      [120, 340],
    ].map(factorText),
    ["reached", "reached", "×1–1.6", "×14", "×120–340"],
  );
});

test("advice names raw and denoised, the dwell only where more is to be counted", () => {
  const { brief, sentence, details } = adviceText({ ...LINE, factor_denoised: 0.7 }, 10);
  assert.equal(brief, "SNR 3.1 → 8.9; for 10: ×10 → reached");
  assert.equal(sentence, "SNR 3.1 raw, 8.9 denoised; for 10: dwell ×10 raw, reached denoised");
  assert.equal(details[1], "for 10: dwell ×10 (1 s a pixel) raw, reached denoised");
  const rawOnly = adviceText({ ...LINE, snr_denoised: null, dwell_raw_s: null }, 10);
  assert.equal(rawOnly.brief, "SNR 3.1; for 10: ×10");
  assert.equal(rawOnly.details[1], "for 10: dwell ×10 raw");
});

test("without an SNR the reason stands in its place; without advice nothing", () => {
  const silent = adviceText({ ...LINE, snr_raw: null, reason: "too few counts: 12 of 100" }, 10);
  assert.deepEqual(silent, {
    brief: "too few counts",
    sentence: "too few counts",
    details: ["too few counts: 12 of 100"],
  });
  assert.deepEqual(adviceText(undefined, undefined), { brief: "", sentence: "", details: [] });
});
