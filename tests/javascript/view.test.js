import assert from "node:assert/strict";
import { test } from "node:test";

import { module } from "./dashboard.js";

const { View } = await module("base/view.js");
const { Drawing, extent } = await module("map/drawing.js");

function viewOf(rows, cols) {
  const view = new View(() => (view.changes = (view.changes ?? 0) + 1));
  view.setShape(rows, cols);
  return view;
}

test("zooming keeps the position under the pointer where it is", () => {
  const view = viewOf(100, 200);
  view.zoom(2, 30, 50);
  assert.deepEqual([view.height, view.width], [50, 100]);
  assert.equal((30 - view.top) / view.height, 0.3);
  assert.equal((50 - view.left) / view.width, 0.25);
  assert.ok(!view.whole);
  view.zoom(0.001);
  assert.ok(view.whole, "nothing beyond the map");
});

test("zoom ends at four pixels; a map of one pixel cannot be zoomed", () => {
  const view = viewOf(100, 200);
  for (let i = 0; i < 40; i++) view.zoom(1.5);
  assert.equal(Math.min(view.height, view.width), 4);
  const single = viewOf(1, 1);
  single.zoom(10);
  assert.ok(single.whole);
});

test("the shown part stays on the map", () => {
  const view = viewOf(100, 100);
  view.zoom(4);
  view.pan(-1000, 1000);
  assert.deepEqual([view.top, view.left], [0, 75]);
});

test("the crosshair begins in the middle, stays on the map, and the shown part follows it", () => {
  const view = viewOf(9, 9);
  view.step(0, 1);
  assert.deepEqual(view.hover, { row: 4, col: 4 });
  view.step(-100, 100);
  assert.deepEqual(view.hover, { row: 0, col: 8 });
  const zoomed = viewOf(100, 100);
  zoomed.zoom(10, 0, 0);
  zoomed.point({ row: 0, col: 9 });
  zoomed.step(0, 1);
  assert.equal(zoomed.left, 1);
});

test("pointing at the same pixel again changes nothing", () => {
  const view = viewOf(9, 9);
  view.point({ row: 1, col: 1 });
  const { changes } = view;
  view.point({ row: 1, col: 1 });
  assert.equal(view.changes, changes);
  view.point(null);
  assert.equal(view.changes, changes + 1);
});

test("the divider stays between the edges", () => {
  const view = viewOf(9, 9);
  view.divide(7);
  assert.equal(view.divider, 1);
  view.divide(-7);
  assert.equal(view.divider, 0);
});

const LIMITS = { rows: 10, cols: 10 };
const SCREEN = { row: 0.1, col: 0.1 }; // ten CSS pixels a map pixel

function drawingWith(tool) {
  const drawing = new Drawing(() => {});
  drawing.use(tool);
  return drawing;
}

test("a drag draws from pixel to pixel and stays on the map", () => {
  const drawing = drawingWith("line");
  drawing.begin({ row: 2.7, col: 3.2 }, SCREEN, LIMITS)({ row: 40, col: -3 });
  assert.deepEqual(drawing.shape, [
    { row: 2, col: 3 },
    { row: 9, col: 0 },
  ]);
});

test("an end near the pointer is moved, the other stays", () => {
  const drawing = drawingWith("line");
  drawing.begin({ row: 1, col: 1 }, SCREEN, LIMITS)({ row: 8, col: 8 });
  drawing.begin({ row: 8.4, col: 8.9 }, SCREEN, LIMITS)({ row: 3, col: 3 });
  assert.deepEqual(drawing.shape, [
    { row: 1, col: 1 },
    { row: 3, col: 3 },
  ]);
});

test("a box is changed at any corner and moved by its middle, never beyond the map", () => {
  const drawing = drawingWith("box");
  drawing.begin({ row: 2, col: 2 }, SCREEN, LIMITS)({ row: 6, col: 6 });
  drawing.begin({ row: 2.5, col: 6.5 }, SCREEN, LIMITS)({ row: 1, col: 7 });
  assert.deepEqual(extent(drawing.shape), { top: 1, bottom: 7, left: 2, right: 8 });
  drawing.begin({ row: 4, col: 5 }, SCREEN, LIMITS)({ row: -50, col: 50 });
  assert.deepEqual(extent(drawing.shape), { top: 0, bottom: 6, left: 4, right: 10 });
});

test("by key the first pixel begins and the second ends", () => {
  const drawing = drawingWith("box");
  drawing.mark(null);
  assert.equal(drawing.shape, null);
  drawing.mark({ row: 1, col: 1 });
  drawing.mark({ row: 3, col: 4 });
  assert.deepEqual(extent(drawing.shape), { top: 1, bottom: 4, left: 1, right: 5 });
});

test("line and box are kept apart; clearing takes the one of the tool", () => {
  const drawing = drawingWith("line");
  drawing.mark({ row: 1, col: 1 });
  drawing.use("box");
  assert.equal(drawing.shape, null);
  drawing.clear();
  drawing.use("line");
  assert.ok(drawing.shape);
  drawing.clear();
  assert.equal(drawing.shape, null);
  drawing.use(null);
  assert.equal(drawing.shape, null);
});
