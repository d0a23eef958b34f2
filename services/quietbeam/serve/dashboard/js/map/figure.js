// The maps as they are shown, drawn once more as one figure with axes, colour bars and labels.

import { axesOf } from "./axes.js";
import { barTexts } from "./card.js";
import { drawScaleBar } from "./map.js";
import { clock, lineName, number } from "../base/text.js";

const PAPERS = {
  white: { back: "#ffffff", text: "#14181f", soft: "#4c5663", warn: "#8a5a00" },
  dark: { back: "#0b0e13", text: "#d5dde7", soft: "#8d9aab", warn: "#e6b34d" },
};
const FONT = 'system-ui, "DejaVu Sans", sans-serif';
const PAD = 14;
const AXIS = { left: 46, bottom: 32 };
const BETWEEN = 12; // maps of one line
const TITLE = 22;
const CAPTION = 16;
const BAR = 34;
const FOOT = 34;

/** A canvas with the figure; `columns` cards a line. */
export function drawFigure({ run, cards, view, options, columns, bar, colours, scale, paper }) {
  const parts = cards.map((card) => [...card.maps.values()]);
  const size = parts[0][0].canvas.getBoundingClientRect();
  const [w, h] = [Math.max(150, size.width), Math.max(150, size.width) * (size.height / size.width)];
  const perCard = parts[0].length;
  const inner = perCard * (w + BETWEEN) - BETWEEN;
  const cardWidth = AXIS.left + inner + 2 * PAD;
  const cardHeight = TITLE + CAPTION + h + AXIS.bottom + BAR + PAD;
  const lines = Math.ceil(cards.length / columns);
  const canvas = document.createElement("canvas");
  canvas.width = Math.round((Math.min(columns, cards.length) * cardWidth + PAD) * scale);
  canvas.height = Math.round((lines * cardHeight + PAD + FOOT + TITLE) * scale);
  const c = canvas.getContext("2d");
  const theme = PAPERS[paper];
  c.scale(scale, scale);
  c.fillStyle = theme.back;
  c.fillRect(0, 0, canvas.width, canvas.height);
  const name = run.scan_id === null ? `Run ${run.uid.slice(0, 8)}` : `Scan ${run.scan_id}`;
  text(c, [name, run.sample, run.plan].filter(Boolean).join(" · "), PAD, 22, {
    size: 15,
    bold: true,
    colour: theme.text,
  });
  cards.forEach((card, i) => {
    const x = PAD + (i % columns) * cardWidth;
    const y = PAD + TITLE + Math.floor(i / columns) * cardHeight;
    drawCard(c, card, { x, y, w, h, inner, view, run, bar, theme, colours });
  });
  footer(c, run, options, theme, canvas.height / scale);
  return canvas;
}

function drawCard(c, card, { x, y, w, h, inner, view, run, bar, theme, colours }) {
  const { judged } = card;
  text(c, card.title ?? lineName(card.line), x + AXIS.left, y + 14, { size: 14, bold: true, colour: theme.text });
  const headline = judged.headline.map(([words]) => words).join("");
  const doubtful = judged.verdict !== null && judged.verdict !== "improved";
  const full = x + AXIS.left + inner;
  text(c, headline, full, y + 14, {
    size: 11,
    align: "right",
    colour: doubtful ? theme.warn : theme.soft,
    most: full - x - AXIS.left - 60,
  });
  let left = x + AXIS.left;
  let first = true;
  for (const map of card.maps.values()) {
    const top = y + TITLE + CAPTION;
    text(c, map.caption.textContent, left, top - 5, { size: 10.5, colour: theme.soft, most: w });
    map.drawPixels(c, left, top, w, h);
    if (bar && first) drawScaleBar(c, bar, (bar.length / view.width) * w, left + w - 7, top + h - 8, 1);
    mapAxes(c, run, view, { left, top, w, h }, theme, first);
    left += w + BETWEEN;
    first = false;
  }
  const span = inner / card.bars.length;
  card.bars.forEach(({ name, range, scale, unit }, i) => {
    const at = {
      x: x + AXIS.left + i * span,
      y: y + TITLE + CAPTION + h + AXIS.bottom + 4,
      w: span - (i < card.bars.length - 1 ? 12 : 0),
    };
    c.imageSmoothingEnabled = true;
    c.drawImage(colours.strip(name), at.x, at.y, at.w, 9);
    barTexts(range, scale, unit).forEach((words, k) =>
      text(c, words, at.x + (k * at.w) / 2, at.y + 21, {
        size: 10.5,
        align: ["left", "center", "right"][k],
        colour: theme.soft,
      }),
    );
  });
}

function mapAxes(c, run, view, { left, top, w, h }, theme, withRows) {
  const { unit, rows, cols } = axesOf(run, view, 4);
  c.strokeStyle = theme.soft;
  c.lineWidth = 0.8;
  c.strokeRect(left, top, w, h);
  c.fillStyle = theme.soft;
  for (const [tick, part] of cols) {
    c.fillRect(left + part * w - 0.4, top + h, 0.8, 4);
    text(c, number(tick), left + part * w, top + h + 14, { size: 10, align: "center", colour: theme.soft });
  }
  if (withRows)
    for (const [tick, part] of rows) {
      c.fillRect(left - 4, top + part * h - 0.4, 4, 0.8);
      text(c, number(tick), left - 6, top + part * h + 3.5, { size: 10, align: "right", colour: theme.soft });
    }
  text(c, `fast axis, ${unit}`, left + w / 2, top + h + 27, { size: 10, align: "center", colour: theme.soft });
  if (!withRows) return;
  c.save();
  c.translate(left - 36, top + h / 2);
  c.rotate(-Math.PI / 2);
  text(c, `slow axis, ${unit}`, 0, 0, { size: 10, align: "center", colour: theme.soft });
  c.restore();
}

function footer(c, run, { scale, clip }, theme, height) {
  const { progress, denoise } = run;
  const first = `run ${run.uid} · ${clock(run.time_start)} · ${progress.rows_measured} of ${progress.rows} rows measured · model ${denoise.model || "none"}, ${denoise.rows} rows denoised${denoise.state === "final" ? " (final)" : ""}`;
  text(c, first, PAD, height - 22, { size: 10.5, colour: theme.soft });
  text(c, `${scale} scale, ${clip} % clipped · grey: not measured · quietbeam`, PAD, height - 8, {
    size: 10.5,
    colour: theme.soft,
  });
}

function text(c, words, x, y, { size, bold, align = "left", colour, most }) {
  c.font = `${bold ? "600 " : ""}${size}px ${FONT}`;
  c.textAlign = align;
  c.textBaseline = "alphabetic";
  c.fillStyle = colour;
  if (most && c.measureText(words).width > most) c.fillText(words, x, y, most);
  else c.fillText(words, x, y);
  c.textAlign = "left";
}
