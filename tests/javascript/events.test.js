// The event stream with a stand-in for the browser's EventSource, which node does not have, and a clock of its own.

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { module } from "./dashboard.js";

const { eventData, Events } = await module("data/events.js");

let sources;
let timers;
let now;
class FakeSource extends EventTarget {
  static CLOSED = 2;

  constructor(url) {
    super();
    this.url = url;
    this.readyState = 0;
    sources.push(this);
  }

  close() {
    this.readyState = FakeSource.CLOSED;
  }

  send(type, data) {
    this.dispatchEvent(new MessageEvent(type, { data: data === undefined ? "" : JSON.stringify(data) }));
  }

  fail(readyState) {
    this.readyState = readyState;
    this.onerror();
  }
}

/** Let time pass; timers that are due run in steps of 100 ms, those that they start too. */
function pass(ms) {
  for (const end = now + ms; now < end;) {
    now += 100;
    for (const timer of timers.filter(({ at }) => at <= now)) {
      if (timer.every) timer.at += timer.every;
      else timers.splice(timers.indexOf(timer), 1);
      timer.run();
    }
  }
}

const real = { setTimeout: globalThis.setTimeout, setInterval: globalThis.setInterval };
beforeEach(() => {
  sources = [];
  timers = [];
  now = 0;
  globalThis.EventSource = FakeSource;
  globalThis.setTimeout = (run, ms) => timers.push({ run, at: now + ms });
  globalThis.setInterval = (run, ms) => timers.push({ run, at: now + ms, every: ms });
  mock.method(performance, "now", () => now);
});
afterEach(() => {
  Object.assign(globalThis, real);
  mock.restoreAll();
});

function follow() {
  const [events, states] = [[], []];
  new Events(
    (type, data) => events.push([type, data]),
    (state) => states.push(state),
  );
  return { events, states };
}

test("events have their data; without data an empty object", () => {
  assert.deepEqual(eventData({ data: '{"run": "a", "row": 0}' }), { run: "a", row: 0 });
  for (const message of [{}, { data: "" }]) assert.deepEqual(eventData(message), {});
});

test("hello and heartbeat tell whether the server has its Redis", () => {
  const { events, states } = follow();
  assert.equal(sources[0].url, "api/v1/events");
  sources[0].send("hello", { redis: true });
  sources[0].send("heartbeat", { redis: false });
  sources[0].send("row", { run: "a", row: 3 });
  sources[0].send("reset");
  sources[0].send("unknown", {});
  assert.deepEqual(states, ["connecting", "live", "stalled"]);
  assert.deepEqual(events.slice(2), [
    ["row", { run: "a", row: 3 }],
    ["reset", {}],
  ]);
});

test("an error that the browser mends itself opens no second stream", () => {
  const { states } = follow();
  sources[0].fail(0);
  pass(5000);
  assert.equal(sources.length, 1);
  assert.deepEqual(states, ["connecting", "lost"]);
});

test("a closed stream is opened again, ever later, at most after eight seconds", () => {
  follow();
  const opened = [];
  for (const wait of [500, 1000, 2000, 4000, 8000, 8000, 8000]) {
    sources.at(-1).fail(FakeSource.CLOSED);
    const before = sources.length;
    pass(wait - 100);
    assert.equal(sources.length, before, `not before ${wait} ms`);
    pass(100);
    assert.equal(sources.length, before + 1, `after ${wait} ms`);
    opened.push(wait);
  }
});

test("after an event the waits begin anew", () => {
  follow();
  for (let i = 0; i < 4; i++) {
    sources.at(-1).fail(FakeSource.CLOSED);
    pass(8000);
  }
  sources.at(-1).send("hello", { redis: true });
  const before = sources.length;
  sources.at(-1).fail(FakeSource.CLOSED);
  pass(500);
  assert.equal(sources.length, before + 1);
});

test("a stream that falls silent is closed and opened again; heartbeats keep it", () => {
  const { states } = follow();
  for (let i = 0; i < 6; i++) {
    sources[0].send("heartbeat", { redis: true });
    pass(5000);
  }
  assert.equal(sources.length, 1);
  pass(18000);
  assert.equal(sources[0].readyState, FakeSource.CLOSED);
  assert.equal(sources.length, 2);
  assert.equal(states.filter((state) => state === "lost").length, 1);
});

test("errors of a stream that was given up are not heard", () => {
  const { states } = follow();
  const [first] = sources;
  first.fail(FakeSource.CLOSED);
  pass(500);
  const before = states.length;
  first.fail(FakeSource.CLOSED);
  assert.equal(states.length, before);
});
