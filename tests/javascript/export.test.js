import assert from "node:assert/strict";
import { test } from "node:test";

import { module } from "./dashboard.js";

const { fileNamePart, mapAddress } = await module("panels/export.js");

test("a line of any name has an address of its own", () => {
  const address = (line) => mapAddress("api/v1/runs/a", "raw", line, "csv");
  assert.equal(address("Fe_Ka"), "api/v1/runs/a/maps/raw/Fe_Ka?format=csv");
  assert.equal(address("a/b?#"), "api/v1/runs/a/maps/raw/a%2Fb%3F%23?format=csv");
  assert.equal(address("Fe Kα"), "api/v1/runs/a/maps/raw/Fe%20K%CE%B1?format=csv");
  assert.equal(decodeURIComponent(new URL(address("鉄/%"), "http://x/").pathname.split("/").at(-1)), "鉄/%");
});

test("a name of a file has nothing that leads elsewhere", () => {
  assert.equal(fileNamePart("../a\\b:c\n"), ".._a_b_c_");
  assert.equal(fileNamePart("Fe Kα"), "Fe Kα");
});
