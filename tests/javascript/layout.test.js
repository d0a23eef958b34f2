import assert from "node:assert/strict";
import { test } from "node:test";

import { module } from "./dashboard.js";

const { fit } = await module("base/layout.js");
const SCREEN = { width: 1920, height: 1000 };

/** Whether all maps are seen without scrolling. */
function fitsHeight({ columns, height, stacked }, cards, maps) {
  return Math.ceil(cards / columns) * height * (stacked ? maps : 1) <= SCREEN.height;
}

test("maps keep the shape of the scan and fit on the screen, or are large enough to scroll to", () => {
  for (const cards of [1, 2, 3, 5, 8, 12]) {
    for (const maps of [1, 2, 3]) {
      for (const [rows, cols] of [
        [100, 100],
        [50, 200],
        [200, 50],
      ]) {
        const placing = fit(SCREEN, cards, maps, rows, cols);
        const { columns, width, height, cardWidth } = placing;
        const what = `${cards} cards of ${maps} maps, ${rows} x ${cols}`;
        assert.ok(Math.abs(height - (width * rows) / cols) <= 1 + rows / cols, what);
        assert.ok(columns >= 1 && columns <= cards, what);
        assert.ok(columns * cardWidth <= SCREEN.width, `${what}: ${columns} x ${cardWidth}`);
        assert.ok(fitsHeight(placing, cards, maps) || width >= 1.3 * 96 - 1, what);
      }
    }
  }
});

test("one map takes the height or the width of the screen", () => {
  assert.ok(fit(SCREEN, 1, 1, 100, 100).height > 800);
  assert.ok(fit(SCREEN, 1, 1, 10, 1000).width > 1850);
});

test("wide maps of a card lie below each other", () => {
  assert.equal(fit(SCREEN, 1, 2, 20, 200).stacked, true);
  assert.equal(fit(SCREEN, 1, 2, 200, 200).stacked, false);
});

test("more cards never make the maps larger", () => {
  let last = Infinity;
  for (let cards = 1; cards <= 20; cards++) {
    const placing = fit(SCREEN, cards, 2, 100, 100);
    assert.ok(placing.width <= last, `${cards} cards`);
    last = placing.width;
  }
});

test("what does not fit stays readable: the page scrolls", () => {
  const { width, height, columns } = fit({ width: 1366, height: 600 }, 40, 2, 100, 100);
  assert.ok(width >= 1.3 * 96 && height >= 1.3 * 96);
  assert.ok(columns >= 2);
});

test("a window that is too small for anything still has a map of some pixels", () => {
  for (const room of [
    { width: 0, height: 0 },
    { width: 100, height: 50 },
    { width: 300, height: 1 },
  ]) {
    const { columns, width, height } = fit(room, 6, 3, 100, 100);
    assert.equal(columns, 1);
    assert.ok(width >= 16 && height >= 8, `${width} x ${height}`);
  }
});

test("maps of one pixel, one row and one column", () => {
  for (const [rows, cols] of [
    [1, 1],
    [1, 2000],
    [2000, 1],
  ]) {
    const { width, height } = fit(SCREEN, 4, 2, rows, cols);
    assert.ok(width >= 1 && height >= 1 && Number.isFinite(width * height), `${rows} x ${cols}: ${width} x ${height}`);
  }
});

test("larger text leaves less room for maps", () => {
  assert.ok(fit({ ...SCREEN, type: 1.5 }, 6, 2, 100, 100).width <= fit(SCREEN, 6, 2, 100, 100).width);
});
