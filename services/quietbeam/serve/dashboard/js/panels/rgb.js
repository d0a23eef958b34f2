// The panel "RGB": three lines as the three colours of one map.

import { axesOf } from "../map/axes.js";
import { rangeOf, scaled } from "../base/colour.js";
import { saveFigure } from "./export.js";
import { MapCanvas } from "../map/map.js";
import { extents, scaleBar } from "../map/reading.js";
import { lineName, number } from "../base/text.js";
import { judge } from "../map/verdict.js";

const byId = (id) => document.getElementById(id);
const STEPS = 256;
const PALETTES = {
  rgb: { letters: "RGB", names: ["red", "green", "blue"], mix: (r, g, b) => [r, g, b] },
  cmy: { letters: "CMY", names: ["cyan", "magenta", "yellow"], mix: (c, m, y) => [255 - c, 255 - m, 255 - y] },
};
const GREY = 0xff4a413c;

export class RgbPanel {
  constructor({ view, options, redraw, shown }) {
    this.options = options;
    this.redraw = redraw;
    this.lines = [];
    this.chosen = [];
    this.kind = "denoised";
    this.palette = "rgb";
    this.painted = "";
    this.map = new MapCanvas(byId("rgb-map"), "rgb", view, null);
    byId("rgb-save").addEventListener(
      "click",
      () => this.map.range && saveFigure({ ...shown(), cards: [this.#asCard()], columns: 1 }, "three-lines"),
    );
    this.selects = [0, 1, 2].map((i) => byId(`rgb-${i}`));
    this.selects.forEach((select, i) => select.addEventListener("change", () => this.#choose(i, select.value)));
    for (const [group, key] of [
      ["rgb-kinds", "kind"],
      ["rgb-palettes", "palette"],
    ]) {
      byId(group).addEventListener("click", (event) => {
        if (!event.target.dataset[key]) return;
        this[key] = event.target.dataset[key];
        for (const button of byId(group).children) button.setAttribute("aria-pressed", String(button === event.target));
        redraw();
      });
    }
  }

  /** The composite as `drawFigure` takes it. */
  #asCard() {
    const words = this.map.figure.title;
    return { title: words, maps: new Map([["rgb", this.map]]), bars: [], judged: { verdict: null, headline: [] } };
  }

  #choose(i, line) {
    this.chosen[i] = line;
    this.redraw();
  }

  #offer(lines) {
    if (lines.join() === this.lines.join()) return;
    this.lines = lines;
    this.chosen = [0, 1, 2].map((i) =>
      lines.includes(this.chosen[i]) ? this.chosen[i] : lines[Math.min(i, lines.length - 1)],
    );
    for (const select of this.selects) {
      select.replaceChildren(...lines.map((line) => new Option(lineName(line), line)), new Option("none", ""));
    }
  }

  draw({ run, stacks, number: frameNumber }) {
    this.#offer(run.lines);
    this.selects.forEach((select, i) => (select.value = this.chosen[i]));
    const { letters, names } = PALETTES[this.palette];
    [...document.querySelectorAll(".rgb-choice b")].forEach((b, i) => {
      b.textContent = letters[i];
      b.className = `rgb-${letters[i].toLowerCase()}`;
    });
    const [high, wide] = extents(run);
    const box = byId("rgb-map").parentElement;
    const width = Math.floor(Math.min(box.clientWidth - 24, ((box.clientHeight - 210) * wide) / high));
    this.map.resize(Math.max(60, width), Math.max(20, Math.floor((width * high) / wide)));
    const wanted = [frameNumber, this.kind, this.palette, this.options.clip, this.options.scale, ...this.chosen].join();
    if (wanted !== this.painted) {
      this.#paint(run, stacks);
      this.painted = wanted;
    }
    this.map.draw(scaleBar(run, this.map.view, width), axesOf(run, this.map.view, 5));
    byId("rgb-values").textContent = this.#values(names);
  }

  #paint(run, { [this.kind]: stack }) {
    const { rows, cols, data, stride } = stack;
    const { scale, clip } = this.options;
    this.shown = this.chosen.map((line) => {
      if (!line) return null;
      const index = run.lines.indexOf(line);
      const values = data.subarray(index * rows * cols, (index + 1) * rows * cols);
      return { line, values, range: rangeOf([values], clip), stride, cols };
    });
    const table = Uint8Array.from({ length: STEPS }, (_, i) => Math.round(scaled(i / (STEPS - 1), scale) * 255));
    const level = (one, i) => {
      const part = (one.values[i] - one.range[0]) / (one.range[1] - one.range[0]);
      return table[Math.max(0, Math.min(STEPS - 1, Math.round(part * (STEPS - 1))))];
    };
    const { mix } = PALETTES[this.palette];
    const some = this.shown.find(Boolean);
    this.map.picture.fill(rows, cols, (pixels) => {
      for (let i = 0; i < pixels.length; i++) {
        if (!some || some.values[i] !== some.values[i]) {
          pixels[i] = GREY;
          continue;
        }
        const [r, g, b] = mix(...this.shown.map((one) => (one ? level(one, i) : 0)));
        pixels[i] = (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
      }
    });
    const { names } = PALETTES[this.palette];
    const parts = this.shown.map((one, i) => one && `${names[i]} ${lineName(one.line)}`).filter(Boolean);
    const doubt =
      this.kind === "denoised" && this.shown.some((one) => one && judge(run, one.line).shownRaw) ? ", in part raw" : "";
    const model = run.denoise.model || "?";
    this.map.caption.textContent =
      this.kind === "raw" ? "raw" : `denoised, model ${model}, ${run.denoise.rows} rows${doubt}`;
    this.map.figure.dataset.shown = this.kind;
    this.map.range = [0, 1];
    const ranges = this.shown
      .map((one) => one && `${lineName(one.line)} up to ${number(one.range[1])}`)
      .filter(Boolean);
    this.map.canvas.setAttribute(
      "aria-label",
      `${this.map.caption.textContent}: ${parts.join(", ")}; ${ranges.join(", ")}, ${scale} scale`,
    );
    byId("rgb-map").title = parts.join(", ");
  }

  #values(names) {
    const { hover } = this.map.view;
    return this.shown
      .map((one, i) => {
        if (!one) return "";
        const { stride, cols, values, range } = one;
        const value = hover && values[Math.floor(hover.row / stride) * cols + Math.floor(hover.col / stride)];
        return `${names[i]} ${lineName(one.line)}: ${hover ? number(value) : `${number(range[0])} to ${number(range[1])}`}`;
      })
      .filter(Boolean)
      .join(" · ");
  }
}
