// One line: its maps, colour bars, evidence in words, values under the pointer.

import { paint, rangeOf, unscaled } from "../base/colour.js";
import { fillHoles } from "../base/holes.js";
import { MapCanvas } from "./map.js";
import { lineName, number } from "../base/text.js";
import { judge, labelOf } from "./verdict.js";

const SHORT = ["raw", "uncertainty", "residual", "chi2"]; // kinds whose label always fits
const make = (tag, values) => Object.assign(document.createElement(tag), values);

export class LineCard {
  /** `onName()` is called when the name is pressed. */
  constructor(line, index, { view, drawing, onName }) {
    this.line = line;
    this.index = index;
    this.view = view;
    this.drawing = drawing;
    this.element = document.getElementById("card").content.firstElementChild.cloneNode(true);
    this.element.dataset.line = line;
    const name = this.element.querySelector(".line-name");
    name.textContent = lineName(line);
    name.addEventListener("click", onName);
    this.verdict = this.element.querySelector(".verdict");
    this.mapsBox = this.element.querySelector(".maps");
    this.barsBox = this.element.querySelector(".bars");
    this.valuesBox = this.element.querySelector(".values");
    this.maps = new Map();
    this.bars = [];
    this.judged = null;
  }

  /** What of the card has the focus, as {line, kind}; kind is null for its name. Null where nothing has. */
  get focused() {
    if (!this.element.contains(document.activeElement)) return null;
    const figure = document.activeElement.closest("figure");
    return { line: this.line, kind: figure?.dataset.kind ?? null };
  }

  /** Give the focus to the map of a kind, to the first map where there is none of it, or to the name. */
  focus(kind) {
    const map = kind && (this.maps.get(kind) ?? this.maps.values().next().value);
    (map ? map.canvas : this.element.querySelector(".line-name")).focus({ preventScroll: true });
  }

  /** Show these kinds, in this order. */
  setKinds(kinds) {
    this.maps.clear();
    this.mapsBox.replaceChildren();
    for (const kind of kinds) {
      const figure = document.getElementById("map").content.firstElementChild.cloneNode(true);
      this.maps.set(kind, new MapCanvas(figure, kind, this.view, this.drawing));
      this.mapsBox.append(figure);
    }
  }

  resize(width, height, stacked) {
    this.mapsBox.classList.toggle("stacked", stacked);
    this.width = width;
    for (const map of this.maps.values()) map.resize(width, height);
    this.#label();
  }

  /** Take a new frame; colours everything. */
  update(run, stacks, options, colours) {
    this.run = run;
    this.stacks = stacks;
    this.values = valuesOf(stacks, this.index, run.kind, this.maps);
    const { rows, cols } = stacks.raw;
    const shared =
      options.sameRange || options.swipe ? rangeOf([this.values.raw, this.values.denoised], options.clip) : null;
    this.bars = [];
    for (const [kind, map] of this.maps) {
      const name = kind === "residual" ? "difference" : options.cmap;
      const scale = ["uncertainty", "residual", "chi2"].includes(kind) ? "linear" : options.scale;
      let range = shared;
      if (kind === "residual") range = run.kind === "counts" ? [-4, 4] : symmetric(this.values.residual, options.clip);
      else if (kind === "chi2")
        range = [0, 9]; // noise alone goes beyond 3 sigma almost nowhere
      else if (kind === "uncertainty" || !shared) range = rangeOf([this.values[kind]], options.clip);
      const fill = (picture, values) => {
        const shown = options.fillHoles && stacks.holes ? fillHoles(values, rows, cols) : values;
        picture.fill(rows, cols, (pixels) => paint(shown, ...range, colours.table(name, scale), pixels));
      };
      fill(map.picture, this.values[kind === "swipe" ? "denoised" : kind]);
      if (map.before) fill(map.before, this.values.raw);
      const joins = shared && (kind === "denoised" || kind === "raw") && this.bars.some((bar) => bar.shared);
      if (!joins) this.bars.push({ kind, name, scale, range, shared: shared === range, unit: unitOf(kind, run) });
      map.range = range;
      map.scale = scale;
    }
    this.#evidence(run);
    this.#bars(colours);
    const measured = `${run.progress.rows_measured} of ${run.progress.rows} rows measured`;
    for (const map of this.maps.values()) map.describe(this.line, map.range, map.scale, measured);
  }

  #evidence(run) {
    const judged = judge(run, this.line);
    this.judged = judged;
    this.element.dataset.verdict = judged.verdict ?? "";
    this.verdict.replaceChildren(
      ...judged.headline.map(([textContent, className]) => make("span", { textContent, className })),
    );
    this.verdict.title = this.verdict.textContent;
    this.valuesBox.title = judged.told.join("\n");
    this.#label();
  }

  /** The permanent label of each map, the long form where it is wholly seen. */
  #label() {
    if (!this.judged) return;
    for (const [kind, map] of this.maps) {
      const label = (narrow) =>
        labelOf(this.run, kind, { ...this.judged, line: this.line, narrow, missing: this.stacks.chi2 === null });
      map.figure.dataset.shown = kind === "denoised" && this.judged.shownRaw ? "raw" : kind;
      const wanted = `${label(false)} ${this.width}`;
      if (map.labelled === wanted) continue; // to see whether it fits costs a layout
      map.labelled = wanted;
      map.caption.textContent = map.caption.title = label(false);
      if (!SHORT.includes(kind) && map.caption.scrollWidth > map.caption.clientWidth)
        map.caption.textContent = label(true);
    }
  }

  #bars(colours) {
    this.barsBox.replaceChildren(
      ...this.bars.map(({ kind, name, scale, range, unit }) => {
        const bar = make("div", { className: "bar" });
        const ticks = make("div", { className: "bar-ticks" });
        const texts = barTexts(range, scale, unit);
        if (this.bars.length > 2) texts.splice(1, 1);
        ticks.append(...texts.map((textContent) => make("span", { textContent })));
        bar.title = `${kind}: ${texts.join(", ")}, ${scale} scale`;
        bar.append(colours.strip(name), ticks);
        return bar;
      }),
    );
  }

  draw(bar, axes) {
    let first = true;
    for (const map of this.maps.values()) {
      map.draw(bar, axes, first);
      first = false;
    }
    this.#showValues();
  }

  /** What is read at a pixel, as [name, value, what follows it]; of residual and chi-square where they are shown. Empty where nothing is measured. */
  #at({ row, col }) {
    const { cols, stride } = this.stacks.raw;
    const i = Math.floor(row / stride) * cols + Math.floor(col / stride);
    const { raw, denoised, uncertainty, residual, chi2 } = this.values;
    if (Number.isNaN(raw[i])) return [];
    const told = [["raw", number(raw[i]), ""]];
    if (Number.isNaN(denoised[i])) return [...told, ["denoised", "not yet", ""]];
    told.push(["denoised", number(denoised[i]), ` ± ${number(uncertainty[i])}`]);
    if (this.maps.has("residual"))
      told.push(["residual", number(residual[i]), ` ${unitOf("residual", this.run)}`.trimEnd()]);
    if (this.maps.has("chi2")) told.push(["χ²", number(chi2[i]), ""]);
    return told;
  }

  /** The values at a pixel as a sentence. */
  read(pixel) {
    const told = this.#at(pixel).map(([name, value, more]) => `${name} ${value}${more}`);
    return told.join(", ") || "not measured yet";
  }

  #showValues() {
    const { hover } = this.view;
    const box = this.valuesBox;
    box.classList.toggle("reading", Boolean(hover));
    if (!hover || !this.values) {
      const { doubts, brief, sentence, facts: always } = this.judged;
      const facts = [box.closest(".roomy") ? sentence : brief, always].filter(Boolean).join(" · ");
      box.replaceChildren(
        make("span", { textContent: doubts, className: "warn" }),
        doubts && facts ? ` · ${facts}` : facts,
      );
      return;
    }
    const told = this.#at(hover).flatMap(([name, textContent, more]) => [
      `${name} `,
      make("b", { textContent }),
      `${more}   `,
    ]);
    box.replaceChildren(...(told.length ? told : ["not measured yet"]));
  }
}

/** One line's values of each kind, as flat arrays (row, col); of residual and chi-square where they are `shown`. */
function valuesOf(stacks, index, kind, shown) {
  const { rows, cols } = stacks.raw;
  const of = (name) => stacks[name].data.subarray(index * rows * cols, (index + 1) * rows * cols);
  const values = { raw: of("raw"), denoised: of("denoised"), uncertainty: of("uncertainty") };
  if (shown.has("residual")) values.residual = residual(values.raw, values.denoised, kind);
  if (shown.has("chi2")) values.chi2 = stacks.chi2 ? of("chi2") : new Float32Array(rows * cols).fill(NaN);
  return values;
}

/** The ends and the middle of a colour bar. */
export function barTexts([low, high], scale, unit) {
  return [number(low), number(low + unscaled(0.5, scale) * (high - low)), `${number(high)} ${unit}`];
}

function unitOf(kind, run) {
  if (kind === "chi2") return "χ²";
  if (run.kind !== "counts") return kind === "residual" ? "" : "area";
  return kind === "residual" ? "σ" : "counts";
}

/** (raw - denoised), for counts in units of the counting noise. */
function residual(raw, denoised, kind) {
  return Float32Array.from(raw, (value, i) =>
    kind === "counts" ? (value - denoised[i]) / Math.sqrt(Math.max(denoised[i], 1)) : value - denoised[i],
  );
}

function symmetric(values, clip) {
  const [low, high] = rangeOf([values], clip);
  const size = Math.max(Math.abs(low), Math.abs(high)) || 1;
  return [-size, size];
}
