// The shared event stream with a stand-in for the browser's SharedWorker, and a clock of its own.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { module } from "./dashboard.js";

const { followEvents } = await module("data/shared_events.js");

let worker;
let tick;
let streams;
let hidden;
class FakeWorker {
  constructor(url, options) {
    Object.assign(this, { url: String(url), options, asked: [] });
    this.port = { postMessage: (text) => this.asked.push(text), close: () => (this.closed = true) };
    worker = this;
  }

  send(message) {
    this.port.onmessage({ data: message });
  }
}

const real = { setInterval: globalThis.setInterval, clearInterval: globalThis.clearInterval };
beforeEach(() => {
  streams = [];
  globalThis.SharedWorker = FakeWorker;
  globalThis.EventSource = class extends EventTarget {
    constructor(url) {
      super();
      streams.push(url);
    }
  };
  globalThis.setInterval = (run) => ((tick ??= run), 1);
  globalThis.clearInterval = () => {};
  globalThis.addEventListener = (type, listener) => (hidden = listener);
  tick = undefined;
});
afterEach(() => {
  Object.assign(globalThis, real);
  delete globalThis.SharedWorker;
});

function follow() {
  const [events, states] = [[], []];
  followEvents(
    (type, data) => events.push([type, data]),
    (state) => states.push(state),
  );
  return { events, states };
}

test("what the worker tells is an event or a state", () => {
  const { events, states } = follow();
  assert.match(worker.url, /data\/events_worker\.js$/);
  worker.send({ state: "live" });
  worker.send({ type: "row", data: { run: "a", row: 3 } });
  worker.send({});
  assert.deepEqual(states, ["connecting", "live"]);
  assert.deepEqual(events, [["row", { run: "a", row: 3 }]]);
  assert.deepEqual(streams, []);
});

test("a worker that is silent is asked, and one that answers is kept", () => {
  follow();
  for (let i = 0; i < 100; i++) {
    tick();
    if (worker.asked.length > Math.floor(i / 20) - 1 && i % 20 === 19) worker.send({});
  }
  assert.ok(worker.asked.length >= 4);
  assert.deepEqual(streams, []);
});

test("a worker that does not answer is replaced, once", () => {
  const { events } = follow();
  for (let i = 0; i < 60; i++) tick();
  assert.deepEqual(streams, ["api/v1/events"]);
  assert.ok(worker.closed);
  worker.send({ type: "row", data: {} });
  assert.deepEqual(events, []);
});

test("without workers, or with one that cannot start, the tab has its own stream", () => {
  follow();
  worker.onerror();
  worker.onerror();
  assert.equal(streams.length, 1);
  delete globalThis.SharedWorker;
  follow();
  assert.equal(streams.length, 2);
});

test("a tab that closes says so; one that may come back does not", () => {
  follow();
  hidden({ persisted: true });
  assert.deepEqual(worker.asked, []);
  hidden({ persisted: false });
  assert.deepEqual(worker.asked, ["bye"]);
});
