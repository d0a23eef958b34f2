// The panel "RGB": three lines as the three colours of one map.

import { rangeOf } from "../base/colour.js";
import { byId, listenToGroup, pressInGroup, selectById } from "../base/dom.js";
import { lineName, number } from "../base/text.js";
import { axesOf } from "../map/axes.js";
import { MapCanvas } from "../map/map.js";
import { extents } from "../map/reading.js";
import { scaleBar } from "../map/scale_bar.js";
import { judge } from "../map/verdict.js";
import { saveFigure } from "./export.js";
import { PALETTES, paintComposite } from "./rgb_paint.js";

/** @import { Options } from "../base/options.js" */
/** @import { View } from "../base/view.js" */
/** @import { FigureCard, FigureContent } from "../map/figure.js" */
/** @import { PaletteName, ColourLayer } from "./rgb_paint.js" */

const CHANNELS = [0, 1, 2];

export class RgbPanel {
  /**
   * `content()` returns the maps as they are shown, for the figure.
   * @param {{view: View, options: Options, redraw: () => void, content: () => FigureContent | null}} shared
   */
  constructor({ view, options, redraw, content }) {
    this.options = options;
    /** @type {string[]} */
    this.lines = [];
    /** @type {string[]} line of each channel, empty for none */
    this.chosen = [];
    /** @type {"raw" | "denoised"} */
    this.kind = "denoised";
    /** @type {PaletteName} */
    this.palette = "rgb";
    /** @type {(ColourLayer | null)[]} */
    this.layers = [];
    this.painted = "";
    this.map = new MapCanvas(byId("rgb-map"), "rgb", view, null);
    this.letters = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".rgb-choice b"));
    this.selects = CHANNELS.map((i) => selectById(`rgb-${i}`));
    this.selects.forEach((select, i) => {
      select.addEventListener("change", () => {
        this.chosen[i] = select.value;
        redraw();
      });
    });
    byId("rgb-save").addEventListener("click", () => {
      const figure = content();
      if (figure && this.map.range) saveFigure({ ...figure, cards: [this.#forFigure()], columns: 1 }, "three-lines");
    });
    listenToGroup("rgb-kinds", "kind", (kind) => {
      this.kind = kind === "raw" ? "raw" : "denoised";
      pressInGroup("rgb-kinds", "kind", (other) => other === kind);
      redraw();
    });
    listenToGroup("rgb-palettes", "palette", (palette) => {
      this.palette = palette === "cmy" ? "cmy" : "rgb";
      pressInGroup("rgb-palettes", "palette", (other) => other === palette);
      redraw();
    });
  }

  /**
   * The composite as `drawFigure` takes it.
   * @returns {FigureCard}
   */
  #forFigure() {
    return { title: this.map.figure.title, headline: "", doubtful: false, maps: [this.map], bars: [] };
  }

  /** @param {Frame} frame */
  draw({ run, stacks, number: frameNumber }) {
    this.#offer(run.lines);
    const { letters } = PALETTES[this.palette];
    this.letters.forEach((element, i) => {
      element.textContent = letters[i];
      element.className = `rgb-${letters[i].toLowerCase()}`;
    });
    const width = this.#resize(run);
    const wanted = [frameNumber, this.kind, this.palette, this.options.clip, this.options.scale, ...this.chosen].join();
    if (wanted !== this.painted) {
      this.#paint(run, stacks[this.kind]);
      this.#describe(run);
      this.painted = wanted;
    }
    this.map.draw(scaleBar(run, this.map.view, width), axesOf(run, this.map.view, 5));
    byId("rgb-values").textContent = this.#values();
  }

  /**
   * Offer these lines for each channel; a chosen line stays where the run has it.
   * @param {string[]} lines
   */
  #offer(lines) {
    if (lines.join() !== this.lines.join()) {
      this.lines = lines;
      this.chosen = CHANNELS.map((i) =>
        lines.includes(this.chosen[i]) ? this.chosen[i] : lines[Math.min(i, lines.length - 1)],
      );
      for (const select of this.selects) {
        const options = lines.map((line) => new Option(lineName(line), line));
        select.replaceChildren(...options, new Option("none", ""));
      }
    }
    this.selects.forEach((select, i) => (select.value = this.chosen[i]));
  }

  /**
   * Make the map as large as the panel allows; returns its width in CSS pixels.
   * @param {MappedRun} run
   */
  #resize(run) {
    const [high, wide] = extents(run);
    const panel = /** @type {HTMLElement} */ (this.map.figure.parentElement);
    const width = Math.floor(Math.min(panel.clientWidth - 24, ((panel.clientHeight - 210) * wide) / high));
    this.map.resize(Math.max(60, width), Math.max(20, Math.floor((width * high) / wide)));
    return width;
  }

  /**
   * @param {Run} run
   * @param {Stack} stack
   */
  #paint(run, { rows, cols, data, stride }) {
    this.layers = this.chosen.map((line) => {
      if (!line) return null;
      const index = run.lines.indexOf(line);
      const values = data.subarray(index * rows * cols, (index + 1) * rows * cols);
      return { line, values, range: rangeOf([values], this.options.clip), stride, cols };
    });
    this.map.picture.fill(rows, cols, (pixels) => {
      paintComposite(pixels, this.layers, this.palette, this.options.scale);
    });
    this.map.range = [0, 1];
  }

  /** @param {Run} run */
  #describe(run) {
    const { names } = PALETTES[this.palette];
    const layers = this.layers.flatMap((layer, i) => (layer ? [{ ...layer, name: names[i] }] : []));
    const partlyRaw = layers.some(({ line }) => judge(run, line).shownRaw);
    const denoised = `denoised, model ${run.denoise.model || "?"}, ${run.denoise.rows} rows`;
    const caption = this.kind === "raw" ? "raw" : `${denoised}${partlyRaw ? ", in part raw" : ""}`;
    const parts = layers.map(({ name, line }) => `${name} ${lineName(line)}`).join(", ");
    const ranges = layers.map(({ line, range }) => `${lineName(line)} up to ${number(range[1])}`).join(", ");
    const { figure, canvas } = this.map;
    this.map.caption.textContent = caption;
    figure.dataset.shown = this.kind;
    figure.title = parts;
    canvas.setAttribute("aria-label", `${caption}: ${parts}; ${ranges}, ${this.options.scale} scale`);
  }

  /** The value under the crosshair, or the range, of each channel. */
  #values() {
    const { hover } = this.map.view;
    const { names } = PALETTES[this.palette];
    const texts = this.layers.flatMap((layer, i) => {
      if (!layer) return [];
      const { stride, cols, values, range, line } = layer;
      const text = hover
        ? number(values[Math.floor(hover.row / stride) * cols + Math.floor(hover.col / stride)])
        : `${number(range[0])} to ${number(range[1])}`;
      return [`${names[i]} ${lineName(line)}: ${text}`];
    });
    return texts.join(" · ");
  }
}
