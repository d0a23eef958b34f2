import assert from "node:assert/strict";
import { test } from "node:test";

import { module } from "./dashboard.js";

const { clock, duration, lineName, number, plusMinus, signed, twoDigits, unitName } = await module("base/text.js");

test("lines are written with Greek letters and subscripts; other names stay as they are", () => {
  assert.equal(lineName("Fe_Ka"), "Fe Kα");
  assert.equal(lineName("Pb_La1"), "Pb Lα₁");
  assert.equal(lineName("Au_Lb12"), "Au Lβ₁₂");
  assert.equal(lineName("Ar_K"), "Ar K");
  for (const name of ["", "Compton", "Fe_Kx", "fe_Ka", "Fe Ka", "Uuo_Ka"]) assert.equal(lineName(name), name);
});

test("numbers have three significant digits and grouped thousands", () => {
  const texts = {
    0: "0",
    0.004: "4.0e-3",
    0.01: "0.01",
    0.256: "0.26",
    1.5: "1.5",
    12.34: "12.3",
    123.4: "123",
    1234.5: "1,235",
    999999: "999,999",
    1000000: "1.00e6",
  };
  for (const [value, text] of Object.entries(texts)) assert.equal(number(Number(value)), text);
  assert.equal(number(-1234.4), "-1,234");
  assert.equal(number(-0), "0");
  assert.equal(number(1.2e300), "1.20e300");
  assert.equal(number(Number.MIN_VALUE), "4.9e-324");
});

test("no value is a dash", () => {
  for (const value of [null, undefined, NaN, Infinity, -Infinity]) {
    assert.equal(number(value), "–");
    assert.equal(twoDigits(value), "–");
    assert.equal(plusMinus(value, 1), "–");
  }
});

test("a value has the digits that its error leaves", () => {
  assert.equal(plusMinus(12.345, 0.42), "12.35 ± 0.42");
  assert.equal(plusMinus(1234.5, 35), "1235 ± 35");
  assert.equal(plusMinus(0.5, 1e-9), "0.500000 ± 0.000000", "at most six digits");
  for (const error of [null, undefined, 0, NaN, Infinity]) assert.equal(plusMinus(12.34, error), "12.3");
});

test("two digits, signs and units", () => {
  assert.equal(twoDigits(1234), "1,200");
  assert.equal(twoDigits(0.0123), "0.01");
  assert.deepEqual([1.26, -1.26, 0].map(signed), ["+1.3", "−1.3", "0.0"]);
  assert.deepEqual(["um", "mm", "", null].map(unitName), ["µm", "mm", "", ""]);
});

test("durations are seconds, minutes, or hours", () => {
  const texts = {
    "-5": "0 s",
    0.4: "0 s",
    59.4: "59 s",
    59.6: "1 min",
    200: "3 min 20 s",
    599: "9 min 59 s",
    601: "10 min",
    3599: "59 min",
    3600: "1 h 00 min",
    7500: "2 h 05 min",
    360000: "100 h 00 min",
  };
  for (const [seconds, text] of Object.entries(texts)) assert.equal(duration(Number(seconds)), text, seconds);
});

test("times of another day have the local date, also in the hours when the date in Greenwich is another", () => {
  const late = new Date(2024, 2, 9, 23, 30).getTime() / 1000; // the month begins at 0
  const early = new Date(2024, 2, 9, 0, 30).getTime() / 1000;
  assert.equal(clock(late), "2024-03-09 23:30");
  assert.equal(clock(early), "2024-03-09 00:30");
  assert.match(clock(Date.now() / 1000), /^\d\d:\d\d$/);
  assert.deepEqual([null, undefined, 0].map(clock), ["", "", ""]);
});
