import assert from "node:assert/strict";
import { test } from "node:test";

import { module, stack } from "./dashboard.js";

const { oncePerFrame } = await module("base/schedule.js");
const { csvText } = await module("base/dom.js");
const { concerns, frameOf, nextState, NOTHING, whyNoMap } = await module("data/page_state.js");
const { presentState } = await module("data/earlier.js");
const { ageText } = await module("page/header.js");
const { matches, troubleOf } = await module("page/runs.js");
const { pageOf } = await module("page/wall.js");

const RUN = { uid: "a", lines: ["Fe_Ka"], shape: [2, 2], step: null, maps_version: 1, denoise: { rows: 3 } };
const STACKS = { raw: stack(1, 2, 2, [1, 2, 3, 4]) };

test("maps stay until newer ones come", () => {
  const first = nextState(NOTHING, { run: RUN, stacks: STACKS });
  assert.equal(first.number, 1);
  const second = nextState(first, { run: { ...RUN, maps_version: 2 }, stacks: null });
  assert.equal(second.stacks, STACKS);
  assert.equal(frameOf(second).run.maps_version, 2);
});

test("maps of another run, shape, step or of other lines are not kept", () => {
  const first = nextState(NOTHING, { run: RUN, stacks: STACKS });
  for (const other of [{ uid: "b" }, { shape: [3, 2] }, { step: [1, 2] }, { lines: ["Fe_Ka", "Ni_Ka"] }]) {
    const state = nextState(first, { run: { ...RUN, ...other }, stacks: null });
    assert.deepEqual([state.stacks, frameOf(state)], [null, null], JSON.stringify(other));
  }
});

test("without maps there is no frame, and a reason", () => {
  assert.equal(frameOf(NOTHING), null);
  assert.equal(frameOf({ ...NOTHING, run: { ...RUN, shape: null }, stacks: STACKS }), null);
  assert.deepEqual(whyNoMap({ ended: false, reason: "" }), [
    "Waiting for the first row",
    "The maps appear here with the first measured row.",
  ]);
  assert.deepEqual(whyNoMap({ ended: true, reason: "" }), ["This run has no measured row", ""]);
  assert.equal(whyNoMap({ ended: true, reason: "no profile" })[0], "no profile");
  assert.equal(whyNoMap({ ended: true, reason: "no profile" }, "no maps")[0], "no maps");
  const count = { uid: "a", scan_id: 7, plan: "count", state: "unusable", ended: true, reason: "no shape" };
  assert.deepEqual(whyNoMap(count, "run a has no maps: no shape"), ["Scan 7, count: not a map", "no shape"]);
});

test("which events concern the run that is shown", () => {
  assert.ok(concerns("run", { run: "new" }, "latest", "a"), "a new run may be the latest");
  assert.ok(concerns("row", { run: "a" }, "latest", "a"));
  assert.ok(!concerns("row", { run: "b" }, "latest", "a"));
  assert.ok(concerns("row", { run: "b" }, "latest", undefined), "nothing is shown yet");
  assert.ok(concerns("row", { run: "a" }, "a", undefined));
  assert.ok(!concerns("run", { run: "b" }, "a", "a"));
});

test("the newest maps are a state like the earlier ones", () => {
  const line = { line: "Fe_Ka", estimator: "raw", verdict: "kept_raw", dwell_gain: 1 };
  const evidence = { lines: [{ ...line, dwell_gain_low: null, dwell_gain_high: null }], fine_tune_steps: 7, loss: 0.5 };
  const state = presentState({ ...RUN, evidence });
  assert.deepEqual([state.rows, state.fine_tune_steps, state.loss, state.maps], [3, 7, 0.5, true]);
  assert.deepEqual(state.lines.Fe_Ka, { estimator: "raw", verdict: "kept_raw", dwell_gain: 1, low: null, high: null });
  assert.deepEqual(presentState({ ...RUN, evidence: null }).lines, {});
});

test("work is done once in the next animation frame", () => {
  const frames = [];
  globalThis.requestAnimationFrame = (callback) => frames.push(callback);
  const done = [];
  const schedule = oncePerFrame((work) => {
    done.push([...work]);
    if (done.length === 1) schedule("draw"); // work that work asks for comes in the frame after
  });
  schedule("layout", "draw");
  schedule("draw");
  assert.deepEqual([frames.length, done.length], [1, 0]);
  frames.shift()();
  assert.deepEqual([done, frames.length], [[["layout", "draw"]], 1]);
  frames.shift()();
  assert.deepEqual(done[1], ["draw"]);
});

test("the age of the data", () => {
  const run = { ended: false, time_stop: null, data_age_s: 0.2, state: "running" };
  assert.deepEqual(ageText(run, 1), { old: false, text: "data now" });
  assert.deepEqual(ageText(run, 8), { old: false, text: "data 8 s ago" });
  assert.deepEqual(ageText(run, 75), { old: true, text: "no data for 1 min 15 s" });
  assert.equal(ageText({ ...run, state: "paused" }, 75).old, false, "a pause is wanted");
  assert.deepEqual(ageText({ ...run, data_age_s: null }, 75), { old: false, text: "" });
  assert.equal(ageText({ ...run, ended: true }, 75).text, "ended");
});

test("runs are found by words of their number, sample, plan, state, uid and time", () => {
  const run = {
    ...{ scan_id: 1042, sample: "frozen cell 7", plan: "fly_raster", state: "stale", uid: "0f3a" },
    time_start: new Date(2024, 2, 9, 8, 5).getTime() / 1000,
    denoise: { state: "failed" },
  };
  for (const search of ["", "  ", "1042", "cell FROZEN", "fly stalled", "0f3", "2024-03-09 08:05", "not denoised"]) {
    assert.ok(matches(run, search), search);
  }
  for (const search of ["1043", "frozen fish", "2025"]) assert.ok(!matches(run, search), search);
  assert.equal(troubleOf({ damage: "", denoise: { state: "final" } }), "");
  assert.equal(troubleOf({ damage: "a chunk is torn", denoise: { state: "failed" } }), ", damaged");
});

test("lines come in turns of about equal length, each of them once", () => {
  for (const count of [1, 3, 4, 5, 8, 9, 40]) {
    const lines = Array.from({ length: count }, (_, i) => `line ${i}`);
    const pages = Math.ceil(count / 4);
    const shown = Array.from({ length: pages }, (_, page) => pageOf(lines, 4, page));
    assert.deepEqual(shown.flat(), lines);
    assert.ok(shown.every((page) => page.length >= 1 && page.length <= 4));
    assert.deepEqual(pageOf(lines, 4, pages), shown[0], "after the last page comes the first");
  }
});

test("CSV: seven significant digits, no value as an empty cell", () => {
  const rows = [
    ["line", "raw"],
    ["Fe_Ka", 0.1 + 0.2],
    ["Ni_Ka", null],
    [undefined, 123456789],
  ];
  assert.equal(csvText(rows), "line,raw\nFe_Ka,0.3\nNi_Ka,\n,123456800\n");
});
