// The maps as they are shown, drawn once more as one figure with axes, colour bars and labels.

import { context2d, create } from "../base/dom.js";
import { clock, number } from "../base/text.js";
import { axisNames } from "../data/orientation.js";
import { runName } from "../data/wording.js";
import { axesOf } from "./axes.js";
import { barTexts } from "./colour_bars.js";
import { drawScaleBar } from "./scale_bar.js";

/** @import { Colours } from "../base/colour.js" */
/** @import { View } from "../base/view.js" */
/** @import { MapCanvas } from "./map.js" */

/**
 * @typedef {object} FigureCard
 * @property {string} title
 * @property {string} headline
 * @property {boolean} doubtful whether the headline is a warning
 * @property {MapCanvas[]} maps
 * @property {ColourBar[]} bars
 */

/**
 * What the page shows.
 * @typedef {object} FigureContent
 * @property {MappedRun} run
 * @property {FigureCard[]} cards
 * @property {View} view
 * @property {OptionValues} options
 * @property {Colours} colours
 * @property {number} columns cards beside each other
 * @property {ScaleBar | null} bar
 */

const PAPERS = {
  white: { back: "#ffffff", text: "#14181f", soft: "#4c5663", warn: "#8a5a00" },
  dark: { back: "#0b0e13", text: "#d5dde7", soft: "#8d9aab", warn: "#e6b34d" },
};
/** @typedef {typeof PAPERS.white} Paper */

const FONT = 'system-ui, "DejaVu Sans", sans-serif';
const PAD = 14;
const AXIS = { left: 46, bottom: 32 };
const BETWEEN = 12; // maps of one line
const TITLE = 22;
const CAPTION = 16;
const BAR = 34;
const FOOT = 34;
const SMALLEST = 150; // width of a map

/**
 * A canvas with the figure, `scale` canvas pixels a CSS pixel.
 * @param {FigureContent & {scale: number, paper: string}} content
 */
export function drawFigure({ run, cards, view, options, columns, bar, colours, scale, paper }) {
  const shown = cards[0].maps[0].canvas.getBoundingClientRect();
  const w = Math.max(SMALLEST, shown.width);
  const h = w * (shown.height / shown.width);
  const inner = cards[0].maps.length * (w + BETWEEN) - BETWEEN;
  const cardWidth = AXIS.left + inner + 2 * PAD;
  const cardHeight = TITLE + CAPTION + h + AXIS.bottom + BAR + PAD;
  const width = Math.min(columns, cards.length) * cardWidth + PAD;
  const height = Math.ceil(cards.length / columns) * cardHeight + PAD + FOOT + TITLE;
  const canvas = create("canvas", { width: Math.round(width * scale), height: Math.round(height * scale) });
  const c = context2d(canvas);
  const theme = paper === "dark" ? PAPERS.dark : PAPERS.white;
  c.scale(scale, scale);
  c.fillStyle = theme.back;
  c.fillRect(0, 0, canvas.width, canvas.height);
  const title = [runName(run), run.sample, run.plan].filter(Boolean).join(" · ");
  text(c, title, PAD, 22, { size: 15, bold: true, colour: theme.text });
  cards.forEach((card, i) => {
    const x = PAD + AXIS.left + (i % columns) * cardWidth;
    const y = PAD + TITLE + Math.floor(i / columns) * cardHeight;
    drawCard(c, card, { x, y, w, h, inner, view, run, bar, theme, colours });
  });
  footer(c, run, options, theme, canvas.height / scale);
  return canvas;
}

/**
 * @param {CanvasRenderingContext2D} c
 * @param {FigureCard} card
 * @param {{x: number, y: number, w: number, h: number, inner: number, view: View, run: MappedRun,
 *   bar: ScaleBar | null, theme: Paper, colours: Colours}} place `w` and `h` of a map, `inner` width of all maps
 */
function drawCard(c, { title, headline, doubtful, maps, bars }, { x, y, w, h, inner, view, run, bar, theme, colours }) {
  text(c, title, x, y + 14, { size: 14, bold: true, colour: theme.text });
  const colour = doubtful ? theme.warn : theme.soft;
  text(c, headline, x + inner, y + 14, { size: 11, align: "right", colour, most: inner - 60 });
  const top = y + TITLE + CAPTION;
  maps.forEach((map, i) => {
    const left = x + i * (w + BETWEEN);
    text(c, map.caption.textContent ?? "", left, top - 5, { size: 10.5, colour: theme.soft, most: w });
    map.drawPixels(c, left, top, w, h);
    if (bar && i === 0) drawScaleBar(c, bar.label, (bar.length / view.width) * w, left + w - 7, top + h - 8, 1);
    drawMapAxes(c, axesOf(run, view, 4), axisNames(run), { left, top, w, h }, theme, i === 0);
  });
  drawBars(c, bars, colours, { x, y: top + h + AXIS.bottom + 4, width: inner }, theme);
}

/**
 * @param {CanvasRenderingContext2D} c
 * @param {ColourBar[]} bars
 * @param {Colours} colours
 * @param {{x: number, y: number, width: number}} place
 * @param {Paper} theme
 */
function drawBars(c, bars, colours, { x, y, width }, theme) {
  const span = width / bars.length;
  /** @type {CanvasTextAlign[]} */
  const aligns = ["left", "center", "right"];
  bars.forEach((bar, i) => {
    const left = x + i * span;
    const w = span - (i < bars.length - 1 ? 12 : 0);
    c.imageSmoothingEnabled = true;
    c.drawImage(colours.strip(bar.name), left, y, w, 9);
    barTexts(bar).forEach((words, k) => {
      text(c, words, left + (k * w) / 2, y + 21, { size: 10.5, align: aligns[k], colour: theme.soft });
    });
  });
}

/**
 * @param {CanvasRenderingContext2D} c
 * @param {MapAxes} axes
 * @param {[vertical: string, horizontal: string]} names
 * @param {{left: number, top: number, w: number, h: number}} box
 * @param {Paper} theme
 * @param {boolean} withRows
 */
function drawMapAxes(c, { unit, rows, cols }, [vertical, horizontal], { left, top, w, h }, theme, withRows) {
  const colour = theme.soft;
  c.strokeStyle = colour;
  c.lineWidth = 0.8;
  c.strokeRect(left, top, w, h);
  for (const [tick, part] of cols) {
    c.fillStyle = colour;
    c.fillRect(left + part * w - 0.4, top + h, 0.8, 4);
    text(c, number(tick), left + part * w, top + h + 14, { size: 10, align: "center", colour });
  }
  text(c, `${horizontal}, ${unit}`, left + w / 2, top + h + 27, { size: 10, align: "center", colour });
  if (!withRows) return;
  for (const [tick, part] of rows) {
    c.fillRect(left - 4, top + part * h - 0.4, 4, 0.8);
    text(c, number(tick), left - 6, top + part * h + 3.5, { size: 10, align: "right", colour });
  }
  c.save();
  c.translate(left - 36, top + h / 2);
  c.rotate(-Math.PI / 2);
  text(c, `${vertical}, ${unit}`, 0, 0, { size: 10, align: "center", colour });
  c.restore();
}

/**
 * @param {CanvasRenderingContext2D} c
 * @param {MappedRun} run
 * @param {OptionValues} options
 * @param {Paper} theme
 * @param {number} height of the figure
 */
function footer(c, { uid, time_start: start, progress, denoise }, { scale, clip }, theme, height) {
  const about = [
    `run ${uid}`,
    clock(start),
    `${progress.rows_measured} of ${progress.rows} rows measured`,
    `model ${denoise.model || "none"}, ${denoise.rows} rows denoised${denoise.state === "final" ? " (final)" : ""}`,
  ].join(" · ");
  text(c, about, PAD, height - 22, { size: 10.5, colour: theme.soft });
  const drawn = `${scale} scale, ${clip} % clipped · grey: not measured · quietbeam`;
  text(c, drawn, PAD, height - 8, { size: 10.5, colour: theme.soft });
}

/**
 * @param {CanvasRenderingContext2D} c
 * @param {string} words
 * @param {number} x
 * @param {number} y
 * @param {{size: number, colour: string, bold?: boolean, align?: CanvasTextAlign, most?: number}} style `most`: width
 */
function text(c, words, x, y, { size, colour, bold = false, align = "left", most = Infinity }) {
  c.font = `${bold ? "600 " : ""}${size}px ${FONT}`;
  c.textAlign = align;
  c.textBaseline = "alphabetic";
  c.fillStyle = colour;
  if (c.measureText(words).width > most) c.fillText(words, x, y, most);
  else c.fillText(words, x, y);
  c.textAlign = "left";
}
