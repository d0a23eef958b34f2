// The loader against a real HTTP server.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { module } from "./dashboard.js";
import { api, json, maps, runOf, serve } from "./server.js";

const { ApiError } = await module("data/api.js");
const { Loader, strideOf } = await module("data/loader.js");

serve();

function serveRun(uid, more) {
  api.routes[`runs/${uid}`] = json({ data: { attributes: runOf(uid, more) }, links: {} });
  for (const kind of ["raw", "denoised", "uncertainty"]) api.routes[`runs/${uid}/maps/${kind}`] = maps([1, 2, 3, 4], 3);
}

/** A loader whose frames and errors can be awaited. */
function loaderOf(options = { snr: 10, kinds: ["raw"] }) {
  const [frames, errors, waiting] = [[], [], []];
  const notify = () => waiting.splice(0).forEach((check) => check());
  const loader = new Loader(
    options,
    (frame) => (frames.push(frame), notify()),
    (error) => (errors.push(error), notify()),
  );
  const until = (condition) =>
    new Promise((resolve) => {
      const check = () => (condition() ? resolve() : waiting.push(check));
      check();
    });
  return { loader, frames, errors, until };
}

const settled = () => new Promise((resolve) => setTimeout(resolve, 150)); // more than the rest between two loads
afterEach(settled);

test("a run is loaded with its maps, which are fetched again only when they changed", async () => {
  serveRun("a");
  const { loader, frames, until } = loaderOf();
  loader.request("a");
  await until(() => frames.length === 1);
  assert.equal(frames[0].run.uid, "a");
  assert.deepEqual([...frames[0].stacks.raw.data], [1, 2, 3, 4]);
  assert.equal(frames[0].stacks.chi2, undefined, "nobody looks at chi-square");
  loader.request("a");
  await until(() => frames.length === 2);
  assert.equal(frames[1].stacks, null, "nothing changed");
  serveRun("a", { maps_version: 4 });
  loader.request("a");
  await until(() => frames.length === 3);
  assert.ok(frames[2].stacks);
  assert.equal(api.requests.filter((path) => path.includes("/maps/raw")).length, 2);
});

test("by force the same maps are fetched again", async () => {
  serveRun("a");
  const { loader, frames, until } = loaderOf();
  loader.request("a");
  await until(() => frames.length === 1);
  await settled();
  loader.request("a", { force: true });
  await until(() => frames.length === 2);
  assert.ok(frames[1].stacks);
});

test("while a load is under way the newest request wins, and those between are never made", async () => {
  serveRun("slow");
  serveRun("last");
  const answerSlow = api.routes["runs/slow"];
  let release;
  api.routes["runs/slow"] = (request, response) => (release = () => answerSlow(request, response));
  const { loader, frames, until } = loaderOf();
  loader.request("slow");
  while (!release) await new Promise((resolve) => setTimeout(resolve, 5));
  for (const uid of ["b", "c", "d", "last"]) loader.request(uid);
  release();
  await until(() => frames.length === 1);
  assert.equal(frames[0].run.uid, "last", "the run that nobody wants any more is not shown");
  assert.ok(!api.requests.some((path) => /runs\/[bcd]/.test(path)), api.requests.join());
});

test("only one load is under way at a time", async () => {
  serveRun("a");
  let [open, most] = [0, 0];
  const answer = api.routes["runs/a"];
  api.routes["runs/a"] = (request, response) => {
    most = Math.max(most, (open += 1));
    setTimeout(() => ((open -= 1), answer(request, response)), 20);
  };
  const { loader, frames, until } = loaderOf();
  for (let i = 0; i < 10; i++) loader.request("a");
  await until(() => frames.length >= 1);
  for (let i = 0; i < 10; i++) loader.request("a");
  await until(() => frames.length >= 2);
  assert.equal(most, 1);
});

test("an error is told, and the next request is served", async () => {
  api.routes["runs/a"] = json({ detail: "Redis does not answer" }, 503);
  const { loader, frames, errors, until } = loaderOf();
  loader.request("a");
  await until(() => errors.length === 1);
  assert.ok(errors[0] instanceof ApiError);
  assert.deepEqual([errors[0].status, errors[0].message], [503, "Redis does not answer"]);
  serveRun("a");
  loader.request("a");
  await until(() => frames.length === 1);
});

test("a server that is gone is an error too", async () => {
  const { loader, errors, until } = loaderOf();
  api.routes["runs/a"] = (request) => request.socket.destroy();
  loader.request("a");
  await until(() => errors.length === 1);
  assert.ok(errors[0] instanceof Error);
});

test("without maps the frame says what the server said", async () => {
  serveRun("a");
  api.routes["runs/a/maps/raw"] = json({ detail: "run a has no maps yet" }, 404);
  const { loader, frames, until } = loaderOf();
  loader.request("a");
  await until(() => frames.length === 1);
  assert.deepEqual([frames[0].stacks, frames[0].missing], [null, "run a has no maps yet"]);
});

test("of a run without a measured pixel or without a shape no maps are requested", async () => {
  const { loader, frames, until } = loaderOf();
  serveRun("a", { progress: { rows_measured: 0, pixels_measured: 0 } });
  loader.request("a");
  await until(() => frames.length === 1);
  serveRun("a", { shape: null });
  loader.request("a");
  await until(() => frames.length === 2);
  assert.ok(!api.requests.some((path) => path.includes("maps")));
});

test("the latest run is requested only when there is one", async () => {
  api.routes.runs = json({ data: [], meta: { count: 0 } });
  const { loader, frames, until } = loaderOf();
  loader.request("latest");
  await until(() => frames.length === 1);
  assert.deepEqual(frames[0], { run: null, stacks: null });
  serveRun("latest");
  api.routes.runs = json({ data: [], meta: { count: 1 } });
  loader.request("latest");
  await until(() => frames.length === 2);
  loader.request("latest");
  await until(() => frames.length === 3);
  const lists = () => api.requests.filter((path) => path.startsWith("GET runs?")).length;
  assert.equal(lists(), 2, "once there is a run the list is not needed");
  loader.expectDeletion();
  loader.request("latest");
  await until(() => frames.length === 4);
  assert.equal(lists(), 3, "it may have been deleted");
});

test("an earlier state: its version, its evidence, raw only where it was denoised, no advice", async () => {
  serveRun("a", { evidence: { rows: 9, lines: [], final: true } });
  api.routes["runs/a/maps/denoised"] = maps([1, 2, NaN, NaN], 2);
  const lines = { Fe_Ka: { estimator: "pretrained", verdict: "improved", dwell_gain: 3, low: 2, high: null } };
  const { loader, frames, until } = loaderOf({ snr: 10, kinds: ["raw", "chi2"] });
  loader.showState({ uid: "a", version: 2, rows: 1, lines }, "a");
  await until(() => frames.length === 1);
  const [{ run, stacks, newest, earlier }] = frames;
  assert.deepEqual([...stacks.raw.data], [1, 2, NaN, NaN], "rows that came later");
  assert.equal(stacks.chi2, null);
  assert.deepEqual([run.maps_version, run.denoise.rows, newest.maps_version, earlier.version], [2, 1, 3, 2]);
  assert.deepEqual([run.evidence.lines[0].verdict, run.evidence.lines[0].dwell_gain_high], ["improved", null]);
  assert.equal(run.advice, null);
  const versions = api.requests.filter((path) => path.includes("/maps/")).map((path) => path.includes("version=2"));
  assert.deepEqual(versions.sort(), [false, true, true], "raw has no versions");
});

test("when the server has dropped an earlier state, the newest is shown", async () => {
  serveRun("a");
  const answer = api.routes["runs/a/maps/denoised"];
  api.routes["runs/a/maps/denoised"] = (request, response) =>
    request.url.includes("version=1") ? json({ detail: "gone" }, 404)(request, response) : answer(request, response);
  const { loader, frames, until } = loaderOf();
  loader.showState({ uid: "a", version: 1, rows: 1 }, "a");
  await until(() => frames.some((frame) => frame.stacks));
  assert.equal(loader.earlier, null);
  assert.equal(frames.at(-1).run.maps_version, 3);
});

test("an earlier state is left when another run is shown", async () => {
  serveRun("a");
  serveRun("b");
  const { loader, frames, until } = loaderOf();
  loader.showState({ uid: "a", version: 1, rows: 1 }, "b");
  await until(() => frames.length === 1);
  assert.equal(frames[0].earlier, null);
});

test("local chi-square is fetched while it is shown; null for a run that has none", async () => {
  serveRun("a");
  const options = { snr: 10, kinds: ["raw", "chi2"] };
  const { loader, frames, until } = loaderOf(options);
  loader.request("a");
  await until(() => frames.length === 1);
  assert.equal(frames[0].stacks.chi2, null);
  api.routes["runs/a/maps/chi2"] = maps([1, 1, 1, 1], 3);
  loader.request("a", { force: true });
  await until(() => frames.length === 2);
  assert.deepEqual([...frames[1].stacks.chi2.data], [1, 1, 1, 1]);
});

test("advice follows maps and SNR; the maps do not wait for advice that fails", async () => {
  serveRun("a", { evidence: { rows: 1, lines: [], final: false } });
  api.routes["runs/a/advice"] = json({ data: { snr: 10, lines: [] } });
  const options = { snr: 10, kinds: ["raw"] };
  const { loader, frames, until } = loaderOf(options);
  loader.request("a");
  await until(() => frames.length === 1);
  assert.deepEqual(frames[0].run.advice, { snr: 10, lines: [] });
  loader.request("a");
  await until(() => frames.length === 2);
  options.snr = 20;
  api.routes["runs/a/advice"] = json({ detail: "broken" }, 500);
  loader.request("a");
  await until(() => frames.length === 3);
  assert.equal(frames[2].run.advice, null);
  assert.deepEqual(
    api.requests.filter((path) => path.includes("advice")),
    ["GET runs/a/advice?snr=10", "GET runs/a/advice?snr=20"],
  );
});

test("large maps are thinned out to at most six million values", () => {
  assert.equal(strideOf([1, 1], 1), 1);
  assert.equal(strideOf([1000, 1000], 6), 1);
  assert.equal(strideOf([1000, 1000], 7), 2);
  for (const [rows, cols, lines] of [
    [2048, 2048, 12],
    [100_000, 3, 40],
    [1, 1e9, 1],
  ]) {
    const stride = strideOf([rows, cols], lines);
    assert.ok((rows * cols * lines) / stride ** 2 <= 6e6);
  }
});
