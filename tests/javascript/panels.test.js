import assert from "node:assert/strict";
import { test } from "node:test";

import { module } from "./dashboard.js";

const { summary, timeText } = await module("panels/count.js");
const { healthOf } = await module("panels/detector_health.js");
const { arrange } = await module("panels/detector_layout.js");
const { factsOf } = await module("panels/evidence.js");
const { MEANINGS, meaningsIn } = await module("data/meanings.js");
const { ESTIMATORS, VERDICTS } = await module("data/wording.js");
const { describe: describeState, shownGain } = await module("panels/history.js");
const { describe: describeBox } = await module("panels/region.js");
const { paintComposite } = await module("panels/rgb_paint.js");
const { actionText, limitsText, outcomeText, refusals } = await module("panels/run_actions.js");
const { abgr, GREY } = await module("base/colour.js");

test("the time still to count comes from the factor and the time counted so far", () => {
  assert.equal(timeText([2, 3], 600), "10 min – 20 min (×2–3)");
  assert.equal(timeText([2, 2], 30), "30 s (×2)");
  assert.equal(timeText([2, 3], null), "×2–3", "the dwell is not known");
  assert.equal(timeText([1, 0.4], 600), "reached");
});

const ADVICE = {
  ...{ snr_raw: 3, snr_denoised: 9, factor_raw: 11, factor_denoised: 2, factor_denoised_likely: 1.5 },
  ...{ dwell_raw_s: null, dwell_denoised_s: null, reason: "" },
};

test("the slowest line decides; lines without an estimate are named", () => {
  const lines = [
    { ...ADVICE, line: "Fe_Ka" },
    { ...ADVICE, line: "Ni_Ka", factor_raw: 21, snr_denoised: null },
    { ...ADVICE, line: "Pb_La", snr_raw: null },
  ];
  const text = summary({ snr: 10, lines }, 60);
  assert.equal(
    text,
    "Still to count for SNR 10 in every line: 20 min (×21) raw, 20 min (×21) as the maps are shown; without Pb Lα.",
  );
  assert.equal(summary({ snr: 10, lines: lines.slice(2) }, 60), "Too few counts for an estimate.");
  assert.equal(summary({ snr: 10, lines: [] }, 60), "Too few counts for an estimate.");
});

const health = (gain, excluded = null) => ({ gain, excluded });
const DETECTORS = [
  { name: "det1", total_counts: 300, drift: 0.01, position: null, lines: { Fe_Ka: health(1), Ni_Ka: health(2) } },
  {
    name: "det2",
    total_counts: 100,
    drift: null,
    position: null,
    lines: { Fe_Ka: health(3), Ni_Ka: health(2, "no peak") },
  },
  {
    name: "det3",
    total_counts: 0,
    drift: null,
    position: null,
    lines: { Fe_Ka: health(null, "dead"), Ni_Ka: health(null, "dead") },
  },
];

test("the health of detectors for one line: gains relative to their mean, why one is left out", () => {
  const [first, second, third] = healthOf(DETECTORS, "Fe_Ka");
  assert.deepEqual([first.gain, second.gain, third.gain], ["0.50", "1.50", "–"]);
  assert.deepEqual([first.share, second.share, third.share], [0.75, 0.25, 0]);
  assert.deepEqual(third.excluded, ["dead"]);
  assert.deepEqual([first.leftOut, third.leftOut, third.mean], [false, true, null]);
});

test("for all lines: the range of gains, one reason where it is the same for all", () => {
  const [first, second, third] = healthOf(DETECTORS, "");
  assert.equal(first.gain, "0.50–1.00");
  assert.deepEqual([second.excluded, second.leftOut], [["Ni Kα: no peak"], false]);
  assert.deepEqual([third.excluded, third.leftOut], [["all lines: dead"], true]);
});

test("detectors whose counts are not known have no share, those without lines no gain", () => {
  const unknown = { name: "det4", total_counts: null, drift: null, position: null, lines: {} };
  const [alone] = healthOf([unknown], "");
  assert.deepEqual([alone.share, alone.gain, alone.mean, alone.leftOut], [null, "–", null, false]);
  assert.deepEqual(
    healthOf([...DETECTORS, unknown], "").map(({ share }) => share),
    [0.75, 0.25, 0, null],
  );
  assert.deepEqual(healthOf([], ""), []);
});

test("circles lie in their box and do not touch, at known positions and in a ring", () => {
  const known = [
    [0, 0],
    [1, 0],
    [0, 1],
    [5, 5],
  ].map((position) => ({ position }));
  for (const detectors of [known, known.slice(0, 1), new Array(7).fill({ position: null }), [{ position: null }]]) {
    const { points, radius } = arrange(detectors, 300, 210);
    assert.ok(radius > 0);
    points.forEach(([x, y], i) => {
      assert.ok(x - radius >= 0 && x + radius <= 300 && y - radius >= 0 && y + radius <= 210, `${x}, ${y}, ${radius}`);
      for (const [u, v] of points.slice(i + 1)) assert.ok(Math.hypot(x - u, y - v) > 2 * radius);
    });
  }
  const { points } = arrange(known, 300, 210);
  assert.ok(points[2][1] < points[0][1], "y points upwards");
});

test("two detectors at the same place do not break the layout", () => {
  const { points, radius } = arrange([{ position: [1, 1] }, { position: [1, 1] }], 300, 210);
  assert.ok(points.flat().every(Number.isFinite) && Number.isFinite(radius));
});

test("measures of a line that are not known are absent", () => {
  assert.deepEqual(factsOf({ estimator: "smoother", slope: null, frc_pixels: NaN }), ["smoother"]);
  const line = {
    estimator: "combined",
    mean_counts: 0,
    slope: 1,
    frc_pixels: 2,
    frc_raw_pixels: 8,
    coverage_68: 0.675,
  };
  assert.deepEqual(factsOf(line), [
    "combination",
    "0 counts/pixel",
    "slope 1.00",
    "FRC 2 px (raw 8)",
    "68 % within 1 σ",
  ]);
});

test("the gain of a state is the lower bound where the interval is open", () => {
  const gain = { estimator: "pretrained", verdict: "improved" };
  assert.equal(shownGain({ ...gain, dwell_gain: 70, low: 5, high: null }), 5);
  assert.equal(shownGain({ ...gain, dwell_gain: 7, low: 5, high: 9 }), 7);
  assert.equal(shownGain({ ...gain, dwell_gain: 7, low: null, high: null }), 7);
  assert.ok(Number.isNaN(shownGain({ ...gain, dwell_gain: null, low: null, high: null })));
  assert.ok(Number.isNaN(shownGain(undefined)));
});

test("a state in words", () => {
  const lines = { Fe_Ka: { estimator: "pretrained" }, Ni_Ka: { estimator: "raw" }, Pb_La: { estimator: "raw" } };
  const state = { uid: "a", version: 3, rows: 12, fine_tune_steps: 200, loss: 0.312, lines };
  assert.equal(
    describeState(state, 2, 24),
    "earlier: state 3 of 24, 12 rows, 200 steps, loss 0.31; 1 by network, 2 by raw",
  );
  assert.equal(
    describeState({ uid: "a", version: 1, rows: 0, loss: null }, 0, 1),
    "now: state 1 of 1, 0 rows, 0 steps",
  );
  assert.equal(describeState(undefined, -1, 0), "No earlier state is kept for this run yet.");
});

test("a region in words, in pixels and in the run's units", () => {
  const box = { top: 2, bottom: 5, left: 0, right: 10 };
  assert.equal(describeBox({ step: null }, box, 30, 1), "rows 2–4, columns 0–9: 30 pixels measured");
  const run = { step: [-2, 0.5], units: "um" };
  assert.equal(describeBox(run, box, 7, 1), "rows 2–4, columns 0–9: 7 of 30 pixels measured, 5 × 6 µm");
  assert.match(describeBox(run, box, 4, 4), /4 of 6 pixels \(one of 4 each way\) measured/);
});

const layer = (values, range) => ({ line: "Fe_Ka", values: Float32Array.from(values), range, stride: 1, cols: 3 });

test("three lines are the colours of one map; not measured is grey, values beyond the range are its ends", () => {
  const pixels = new Uint32Array(3);
  const layers = [layer([0, 10, NaN], [0, 10]), null, layer([-5, 99, NaN], [0, 10])];
  paintComposite(pixels, layers, "rgb", "linear");
  assert.deepEqual([...pixels], [abgr(0, 0, 0), abgr(255, 0, 255), GREY]);
  paintComposite(pixels, layers, "cmy", "linear");
  assert.deepEqual([...pixels], [abgr(255, 255, 255), abgr(0, 255, 0), GREY]);
  paintComposite(pixels, [null, null, null], "rgb", "log");
  assert.deepEqual([...pixels], [GREY, GREY, GREY], "no line is chosen");
});

const ENDED = { ended: true, state: "complete", pinned: false, actions: [] };
const ALL = ["write:data", "delete:data"];
const NONE = { denoise: "", choose: "", pin: "", delete: "" };

test("a key with all scopes may do everything with an ended run that nobody works on", () => {
  assert.deepEqual(refusals(ENDED, ALL), NONE);
  assert.deepEqual(refusals({ ...ENDED, ended: false, state: "stale" }, ALL), NONE, "a stalled run counts as ended");
  assert.equal(limitsText(ALL), "");
});

test("each refusal has its reason", () => {
  const measured = refusals({ ...ENDED, ended: false, state: "running" }, ALL);
  assert.deepEqual(
    [measured.denoise, measured.delete, measured.pin],
    ["the run is still measured", "the run is still measured", ""],
  );
  assert.equal(refusals({ ...ENDED, pinned: true }, ALL).delete, "Run is pinned. Unpin it first.");
  const busy = refusals({ ...ENDED, actions: [{ action: "unpin" }] }, ALL);
  assert.deepEqual(
    [busy.pin, busy.denoise, busy.delete],
    ["it was asked for already", "", "Another action is running."],
  );
  const reader = refusals(ENDED, []);
  for (const change of ["denoise", "choose", "pin"]) assert.match(reader[change], /write:data/);
  assert.match(reader.delete, /delete:data/);
  assert.match(limitsText([]), /may not change anything/);
  assert.equal(limitsText(["write:data"]), "your key may not delete runs.");
});

test("how actions go and how they ended", () => {
  const action = { action: "choose_weights", state: "running", reason: "", by: "ada" };
  assert.equal(actionText(action), "choose weights: running (asked by ada)");
  assert.equal(outcomeText(action), "");
  assert.equal(outcomeText({ ...action, state: "done" }), "choose weights: done");
  assert.equal(outcomeText({ action: "new", state: "failed", reason: "no disk" }), "new failed: no disk");
});

test("every word of the evidence has a meaning", () => {
  for (const word of [...Object.values(ESTIMATORS), ...Object.values(VERDICTS)]) assert.ok(MEANINGS[word], word);
  const facts = factsOf({ estimator: "fine_tuned", slope: 1, residual_chi2: 1, frc_pixels: 2, coverage_68: 0.7 });
  const meanings = meaningsIn(facts.join(" ")).split("\n");
  const words = meanings.map((line) => line.split(":")[0]);
  assert.deepEqual(words, ["fine-tuned network", "slope", "χ²", "FRC", "within 1 σ"]);
  assert.equal(meaningsIn("Line"), "");
});
