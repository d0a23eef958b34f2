import assert from "node:assert/strict";
import { test } from "node:test";

import { module } from "./dashboard.js";
import { api, json, maps, runOf, serve } from "./server.js";

const { getRun, getRuns, getStack, requestChange } = await module("data/api.js");
const { Fetched } = await module("data/fetched.js");

serve();

test("stacks: shape and version of the headers, slice and version in the request", async () => {
  api.routes["runs/a%2Fb/maps/raw"] = maps([1, NaN, -0, 3e38], 17);
  const stack = await getStack("a/b", "raw", 3, 5);
  assert.deepEqual([stack.lines, stack.rows, stack.cols, stack.stride, stack.version], [1, 2, 2, 3, 17]);
  assert.deepEqual([...stack.data], [1, NaN, -0, Math.fround(3e38)]);
  assert.deepEqual(api.requests, ["GET runs/a%2Fb/maps/raw?format=octet-stream&slice=:,::3,::3&version=5"]);
});

test("an error that is no JSON has the status as its message", async () => {
  api.routes["runs/a"] = (_request, response) => {
    response.writeHead(502, "Bad Gateway", { "content-type": "text/html" });
    response.end("<h1>proxy</h1>");
  };
  await assert.rejects(getRun("a"), { status: 502, message: "Bad Gateway" });
});

test("a run has the actions that are not finished; lists are paged", async () => {
  const action = { action: "pin", state: "queued", reason: "", by: "somebody", run: "a" };
  api.routes["runs/a"] = json({ data: { attributes: runOf("a") }, meta: { actions: [{ attributes: action }] } });
  assert.deepEqual((await getRun("a")).actions, [action]);
  api.routes.runs = json({ data: [{ attributes: { uid: "a" } }], meta: { count: 300 } });
  assert.deepEqual(await getRuns(1, 7), { runs: [{ uid: "a" }], count: 300 });
  assert.equal(api.requests.at(-1), "GET runs?page[limit]=1&page[offset]=7");
});

test("changes carry the token, and a body as JSON only where there is one", async () => {
  const seen = [];
  api.routes["runs/a/denoise"] = api.routes["runs/a/pin"] = (request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      seen.push([request.method, request.headers["x-csrf"], request.headers["content-type"], body]);
      json({ data: {} })(request, response);
    });
  };
  await requestChange("POST", "runs/a/denoise", { budget_s: null }, "token");
  await requestChange("DELETE", "runs/a/pin", undefined, null);
  assert.deepEqual(seen, [
    ["POST", "token", "application/json", '{"budget_s":null}'],
    ["DELETE", "", undefined, ""],
  ]);
});

test("data of a panel are fetched once a key, and of another run at once", async () => {
  let calls = 0;
  const get = async (uid) => {
    calls += 1;
    if (uid === "bad") throw new Error("no history");
    return `history of ${uid}`;
  };
  let notify;
  const changed = () => new Promise((resolve) => (notify = resolve));
  const fetched = new Fetched(get, () => notify());
  let next = changed();
  fetched.request("a", "1");
  fetched.request("a", "2");
  await next;
  assert.deepEqual([calls, fetched.value, fetched.key], [1, "history of a", "1"]);
  fetched.request("a", "1");
  next = changed();
  fetched.request("bad", "1");
  await next;
  assert.deepEqual([calls, fetched.value, fetched.problem], [2, null, "no history"]);
});
