// One line: its maps, colour bars, evidence in words, values under the pointer.

import { paint } from "../base/colour.js";
import { create, find, fromTemplate } from "../base/dom.js";
import { fillHoles } from "../base/holes.js";
import { lineName, number } from "../base/text.js";
import { conversionOf, inUnit } from "../data/units.js";
import { barElements, distinctBars } from "./colour_bars.js";
import { MapCanvas } from "./map.js";
import { colouringOf, sharedRange, unitOf, valuesOf, valuesOfKind } from "./values.js";
import { judge, labelOf } from "./verdict.js";

/** @import { Colours } from "../base/colour.js" */
/** @import { View } from "../base/view.js" */
/** @import { Drawing } from "./drawing.js" */
/** @import { LineValues } from "./values.js" */

/** @typedef {OptionValues & {shown: ShownKind[]}} ShownOptions */

const SHORT = ["raw", "uncertainty", "residual", "chi2"]; // kinds whose label always fits

export class LineCard {
  /**
   * `onName()` is called when the name is pressed.
   * @param {string} line
   * @param {number} index of the line in the run
   * @param {{view: View, drawing: Drawing, onName: () => void}} shared
   */
  constructor(line, index, { view, drawing, onName }) {
    this.line = line;
    this.index = index;
    this.view = view;
    this.drawing = drawing;
    this.element = fromTemplate("card");
    this.element.dataset.line = line;
    this.name = find(this.element, ".line-name");
    this.name.textContent = lineName(line);
    this.name.addEventListener("click", onName);
    this.verdict = find(this.element, ".verdict");
    this.mapsBox = find(this.element, ".maps");
    this.barsBox = find(this.element, ".bars");
    this.valuesBox = find(this.element, ".values");
    /** @type {Map<ShownKind, MapCanvas>} */
    this.maps = new Map();
    /** @type {ColourBar[]} */
    this.bars = [];
    this.width = 0;
    /** @type {{run: MappedRun, stacks: Stacks, values: LineValues, judged: ReturnType<typeof judge>} | null} */
    this.content = null;
  }

  /** The part of the card that has the focus; its kind is null for the name. Null where no part has. */
  get focused() {
    const { activeElement } = document;
    if (!activeElement || !this.element.contains(activeElement)) return null;
    const figure = activeElement.closest("figure");
    return { line: this.line, kind: /** @type {ShownKind | undefined} */ (figure?.dataset.kind) ?? null };
  }

  /**
   * Give the focus to the map of a kind, to the first map where there is none of it, or to the name.
   * @param {ShownKind | null} kind
   */
  focus(kind) {
    const map = kind && (this.maps.get(kind) ?? this.maps.values().next().value);
    (map ? map.canvas : this.name).focus({ preventScroll: true });
  }

  /**
   * Show these kinds, in this order.
   * @param {ShownKind[]} kinds
   */
  setKinds(kinds) {
    this.maps.clear();
    for (const kind of kinds) this.maps.set(kind, new MapCanvas(fromTemplate("map"), kind, this.view, this.drawing));
    this.mapsBox.replaceChildren(...[...this.maps.values()].map((map) => map.figure));
  }

  /**
   * @param {number} width of a map in CSS pixels
   * @param {number} height
   * @param {boolean} stacked
   */
  resize(width, height, stacked) {
    this.mapsBox.classList.toggle("stacked", stacked);
    this.width = width;
    for (const map of this.maps.values()) map.resize(width, height);
    this.#label();
  }

  /**
   * Take over a new frame, and colour all maps.
   * @param {MappedRun} run
   * @param {Stacks} stacks
   * @param {ShownOptions} options
   * @param {Colours} colours
   */
  update(run, stacks, options, colours) {
    const counted = valuesOf(stacks, this.index, run.kind, new Set(this.maps.keys()));
    const values = inUnit(counted, conversionOf(run, this.line));
    const judged = judge(run, this.line);
    this.content = { run, stacks, values, judged };
    const shared = sharedRange(values, options);
    const colourings = [...this.maps.values()].map((map) => {
      const colouring = colouringOf(map.kind, values, run, options, shared);
      paintMap(map, values, colouring, { stacks, options, colours });
      return colouring;
    });
    this.bars = distinctBars(colourings);
    this.barsBox.replaceChildren(...barElements(this.bars, colours));
    this.element.dataset.verdict = judged.verdict ?? "";
    const headline = judged.headline.map(([textContent, className]) => create("span", { textContent, className }));
    this.verdict.replaceChildren(...headline);
    this.verdict.title = this.verdict.textContent ?? "";
    this.valuesBox.title = judged.details.join("\n");
    this.#label();
    const measured = `${run.progress.rows_measured} of ${run.progress.rows} rows measured`;
    for (const map of this.maps.values()) map.describe(this.line, measured);
  }

  /** The permanent label of each map, the long form where there is room for it. */
  #label() {
    if (!this.content) return;
    const { run, stacks, judged } = this.content;
    for (const [kind, map] of this.maps) {
      const about = { shownRaw: judged.shownRaw, line: this.line, missing: stacks.chi2 === null };
      map.figure.dataset.shown = kind === "denoised" && judged.shownRaw ? "raw" : kind;
      const label = labelOf(run, kind, about);
      const wanted = `${label} ${this.width}`;
      if (map.labelled === wanted) continue; // measuring whether it fits costs a layout
      map.labelled = wanted;
      map.caption.textContent = map.caption.title = label;
      if (!SHORT.includes(kind) && map.caption.scrollWidth > map.caption.clientWidth) {
        map.caption.textContent = labelOf(run, kind, { ...about, narrow: true });
      }
    }
  }

  /**
   * @param {ScaleBar | null} bar
   * @param {MapAxes} axes
   */
  draw(bar, axes) {
    [...this.maps.values()].forEach((map, i) => map.draw(bar, axes, i === 0));
    this.#showValues();
  }

  /**
   * The card as `drawFigure` takes it.
   * @returns {import("./figure.js").FigureCard}
   */
  get forFigure() {
    const { headline = [], verdict = null } = this.content?.judged ?? {};
    return {
      title: lineName(this.line),
      headline: headline.map(([text]) => text).join(""),
      doubtful: verdict !== null && verdict !== "improved",
      maps: [...this.maps.values()],
      bars: this.bars,
    };
  }

  /**
   * The values at a pixel, of residual and chi-square where they are shown; none where nothing is measured.
   * @param {Pixel} pixel
   * @returns {{name: string, value: string, suffix?: string}[]}
   */
  #valuesAt({ row, col }) {
    if (!this.content) return [];
    const { run, stacks, values } = this.content;
    const { cols, stride } = stacks.raw;
    const i = Math.floor(row / stride) * cols + Math.floor(col / stride);
    const { raw, denoised, uncertainty, residual, chi2 } = values;
    if (Number.isNaN(raw[i])) return [];
    const found = [{ name: "raw", value: number(raw[i]) }];
    if (Number.isNaN(denoised[i])) return [...found, { name: "denoised", value: "not yet" }];
    const unit = unitOf("residual", run);
    return [
      ...found,
      { name: "denoised", value: number(denoised[i]), suffix: ` ± ${number(uncertainty[i])}` },
      ...(residual ? [{ name: "residual", value: number(residual[i]), suffix: unit && ` ${unit}` }] : []),
      ...(chi2 ? [{ name: "χ²", value: number(chi2[i]) }] : []),
    ];
  }

  /**
   * The values at a pixel as a sentence.
   * @param {Pixel} pixel
   */
  read(pixel) {
    const texts = this.#valuesAt(pixel).map(({ name, value, suffix = "" }) => `${name} ${value}${suffix}`);
    return texts.join(", ") || "not measured yet";
  }

  #showValues() {
    const { hover } = this.view;
    const box = this.valuesBox;
    box.classList.toggle("reading", Boolean(hover));
    box.classList.toggle("in-parts", !hover && !this.content?.judged.doubts);
    if (!this.content) return;
    if (!hover) {
      const { doubts, brief, sentence, facts: always } = this.content.judged;
      const facts = [box.closest(".roomy") ? sentence : brief, always].filter(Boolean).join(" · ");
      const warning = create("span", { textContent: doubts, className: "warn" });
      if (doubts) box.replaceChildren(warning, facts && ` · ${facts}`);
      else box.replaceChildren(...inParts(facts));
      return;
    }
    const parts = this.#valuesAt(hover).flatMap(({ name, value, suffix = "" }) => [
      `${name} `,
      create("b", { textContent: value }),
      `${suffix}   `,
    ]);
    box.replaceChildren(...(parts.length ? parts : ["not measured yet"]));
  }
}

/**
 * Facts as parts that are shown whole or, where there is no room, not at all.
 * @param {string} facts
 */
function inParts(facts) {
  const texts = facts.split(" · ").map((text, i) => (i ? `· ${text}` : text));
  return texts.flatMap((textContent) => [create("span", { textContent, className: "part" }), " "]);
}

/**
 * @param {MapCanvas} map
 * @param {LineValues} values
 * @param {ColourBar} colouring
 * @param {{stacks: Stacks, options: OptionValues, colours: Colours}} frame
 */
function paintMap(map, values, { name, scale, range }, { stacks, options, colours }) {
  const { rows, cols } = stacks.raw;
  const table = colours.table(name, scale);
  const paintInto = (/** @type {import("./picture.js").Picture} */ picture, /** @type {Float32Array} */ data) => {
    const shown = options.fillHoles && stacks.holes ? fillHoles(data, rows, cols) : data;
    picture.fill(rows, cols, (pixels) => paint(shown, ...range, table, pixels));
  };
  paintInto(map.picture, valuesOfKind(values, map.kind));
  if (map.before) paintInto(map.before, values.raw);
  map.range = range;
  map.scale = scale;
}
