// Positions and lengths in the run's units: the scale bar, the read-out of the crosshair, the same for screen readers.

import { lineName, unitName } from "../base/text.js";

const byId = (id) => document.getElementById(id);

/** A round length {length (map columns), label, type (size of the text)}, at most a third of the shown width and 100 CSS pixels; null without units. */
export function scaleBar(run, view, mapWidth, type = 1) {
  if (!run.step) return null;
  const step = Math.abs(run.step[1]);
  if (!step) return null;
  const about = view.width * step * Math.min(1 / 3, 100 / mapWidth);
  const power = 10 ** Math.floor(Math.log10(about));
  const length = [5, 2, 1].find((n) => n * power <= about) * power;
  const [value, unit] = run.units === "um" && length < 1 ? [length * 1000, "nm"] : [length, unitName(run.units)];
  return { length: length / step, label: `${Number(value.toPrecision(3))} ${unit}`, type };
}

/** Height and width of a map in equal units, so that a round grain is round; pixels where the steps are not known. */
export function extents({ shape: [rows, cols], step }) {
  const [high, wide] = (step ?? [1, 1]).map(Math.abs);
  const ratio = high / wide;
  return ratio >= 0.05 && ratio <= 20 ? [rows * ratio, cols] : [rows, cols]; // one axis may have no length at all
}

function position(run, { row, col }) {
  const text = `row ${row}, col ${col}`;
  if (!run.step || !run.origin) return text;
  const unit = unitName(run.units);
  const at = (axis, index) => (run.origin[axis] + index * run.step[axis]).toFixed(2);
  return `${text}   slow ${at(0, row)} ${unit}, fast ${at(1, col)} ${unit}`;
}

export function readout(run, hover) {
  byId("readout").textContent = hover ? position(run, hover) : "Point at a map to read values in all of them";
}

/** Say the values under the crosshair, of the line whose map has the focus first. */
export function speak(run, hover, cards) {
  if (!run || !hover || !cards.length) return;
  const focused = cards.find((card) => card.element.contains(document.activeElement));
  const told = focused ? [focused] : cards.slice(0, 3);
  byId("spoken").textContent =
    `${position(run, hover)}. ${told.map((card) => `${lineName(card.line)}: ${card.read(hover)}`).join(". ")}`;
}
