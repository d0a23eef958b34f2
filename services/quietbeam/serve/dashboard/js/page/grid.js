// The cards of all lines, placed so that their maps are as large as the screen allows.

import { byId, create } from "../base/dom.js";
import { fit } from "../base/layout.js";
import { axesOf } from "../map/axes.js";
import { LineCard } from "../map/card.js";
import { extents } from "../map/reading.js";
import { scaleBar } from "../map/scale_bar.js";

/** @import { Colours } from "../base/colour.js" */
/** @import { Options } from "../base/options.js" */
/** @import { View } from "../base/view.js" */
/** @import { Drawing } from "../map/drawing.js" */
/** @import { Wall } from "./wall.js" */

/** @typedef {"cards" | "layout" | "colour" | "draw"} Work what has to be done again */

export class MapGrid {
  /**
   * `schedule(...work)` is called when something has to be done again.
   * @param {{view: View, drawing: Drawing, options: Options, colours: Colours, wall: Wall,
   *   schedule: (...work: Work[]) => void}} shared
   */
  constructor({ view, drawing, options, colours, wall, schedule }) {
    this.view = view;
    this.drawing = drawing;
    this.options = options;
    this.colours = colours;
    this.wall = wall;
    this.schedule = schedule;
    this.element = byId("grid");
    /** @type {LineCard[]} */
    this.cards = [];
    /** @type {string | null} the one line that is shown */
    this.single = null;
    this.placing = { width: 100, columns: 1 };
    new ResizeObserver(() => this.cards.length && schedule("layout", "draw")).observe(this.element);
  }

  /**
   * Show a message in place of the maps. Maps that are shown already stay; header and connection tell what is wrong.
   * @param {string} title
   * @param {string} text
   */
  showMessage(title, text) {
    if (this.cards.length) return;
    const box = create("div", { className: "empty" });
    box.append(create("strong", { textContent: title }), text);
    this.element.replaceChildren(box);
  }

  /** Take all maps away. */
  clear() {
    this.cards = [];
  }

  /** Show all lines again when there are other maps. */
  reset() {
    this.single = null;
    this.schedule("cards", "layout");
  }

  /**
   * Show one line alone, or all lines (null).
   * @param {string | null} line
   */
  showSingle(line) {
    this.single = line;
    this.schedule("cards", "layout");
  }

  /**
   * Do the scheduled work, and draw.
   * @param {Frame} frame
   * @param {Set<Work>} work
   */
  render({ run, stacks }, work) {
    if (work.has("cards")) this.#makeCards(run);
    if (work.has("layout") || work.has("cards")) this.#layout(run);
    if (work.has("colour") || work.has("cards")) {
      for (const card of this.cards) card.update(run, stacks, this.options, this.colours);
    }
    const bar = this.#scaleBar(run, this.wall.type);
    const axes = { ...axesOf(run, this.view, 5), type: this.wall.type };
    for (const card of this.cards) card.draw(bar, axes);
  }

  /**
   * The maps as `drawFigure` takes them.
   * @param {MappedRun} run
   * @returns {import("../map/figure.js").FigureContent}
   */
  forFigure(run) {
    const { view, options, colours } = this;
    const cards = this.cards.map((card) => card.forFigure);
    return { run, cards, view, options, colours, columns: this.placing.columns, bar: this.#scaleBar(run, 1) };
  }

  /**
   * @param {MappedRun} run
   * @param {number} type
   */
  #scaleBar(run, type) {
    return scaleBar(run, this.view, this.placing.width, type);
  }

  /** @param {MappedRun} run */
  #makeCards(run) {
    const { view, drawing, single } = this;
    const lines = single && run.lines.includes(single) ? [single] : this.wall.choose(run.lines);
    const focused = this.cards.map((card) => card.focused).find(Boolean); // the new cards take it over
    this.cards = lines.map((line) => {
      const onName = () => this.showSingle(this.single === line ? null : line);
      return new LineCard(line, run.lines.indexOf(line), { view, drawing, onName });
    });
    for (const card of this.cards) card.setKinds(this.options.shown);
    this.element.replaceChildren(...this.cards.map((card) => card.element));
    if (focused) this.cards.find((card) => card.line === focused.line)?.focus(focused.kind);
    byId("wall-lines").textContent = this.wall.describe(run.lines, lines);
  }

  /** @param {MappedRun} run */
  #layout(run) {
    const { element, cards } = this;
    const room = { width: element.clientWidth, height: element.clientHeight, type: this.wall.type };
    const placing = fit(room, cards.length, this.options.shown.length, ...extents(run));
    this.placing = placing;
    element.style.gridTemplateColumns = `repeat(${placing.columns}, ${placing.cardWidth}px)`;
    element.classList.toggle("roomy", placing.roomy);
    for (const card of cards) card.resize(placing.width, placing.height, placing.stacked);
  }
}
