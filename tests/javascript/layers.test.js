// The folders are layers: a module imports from its own folder and from those below, and imports make no circle.

import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { test } from "node:test";

import { MODULES } from "./dashboard.js";

// from the lowest: base knows nothing of runs, main puts everything together
const LAYERS = ["base", "data", "map", "panels", "page", "main"];

const files = (await readdir(MODULES, { recursive: true })).filter((path) => path.endsWith(".js")).sort();
const layerOf = (path) => (path.includes("/") ? path.split("/")[0] : "main");

/** Modules that each module imports, by path below js/. Imports of types alone (`@import`) count too. */
const imports = new Map();
for (const path of files) {
  const text = await readFile(new URL(path, MODULES), "utf-8");
  const found = [...text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*"(\.[^"]+)"/g)].map(([, target]) => {
    return new URL(target, new URL(path, MODULES)).href.slice(MODULES.href.length);
  });
  imports.set(path, [...new Set(found)]);
}

test("every folder is a layer, and every import names a module", () => {
  assert.ok(files.length > 30, "the modules are found");
  for (const [path, targets] of imports) {
    assert.ok(LAYERS.includes(layerOf(path)), path);
    for (const target of targets) assert.ok(files.includes(target), `${path} imports ${target}`);
  }
});

test("no module imports from a layer above its own", () => {
  for (const [path, targets] of imports) {
    for (const target of targets) {
      const [from, to] = [path, target].map((name) => LAYERS.indexOf(layerOf(name)));
      assert.ok(to <= from, `${path} imports ${target}`);
    }
  }
});

test("imports make no circle", () => {
  const done = new Set();
  const visit = (path, trail) => {
    assert.ok(!trail.includes(path), [...trail, path].join(" -> "));
    if (done.has(path)) return;
    for (const target of imports.get(path)) visit(target, [...trail, path]);
    done.add(path);
  };
  for (const path of files) visit(path, []);
});
