// The panel "save": the figure as PNG, the data as files of the API.

import { byId, create, saveBlob, selectById } from "../base/dom.js";
import { KINDS } from "../base/options.js";
import { lineName } from "../base/text.js";
import { fileName } from "../data/wording.js";
import { drawFigure } from "../map/figure.js";

/** @import { FigureContent } from "../map/figure.js" */

const MOST_PIXELS = 120e6; // of a canvas that every browser makes
const EXTENSIONS = { npy: "npy", hdf5: "h5" }; // of all lines in one file
const SINGLE = ["csv", "tiff"]; // one line a file

export class ExportPanel {
  /**
   * `content()` returns the maps as they are shown.
   * @param {{content: () => FigureContent | null, shownKinds: () => string[]}} shared
   */
  constructor({ content, shownKinds }) {
    this.drawn = "";
    byId("figure-save").addEventListener("click", () => {
      const figure = content();
      if (figure) saveFigure(figure, shownKinds().join("-"));
    });
  }

  /** @param {Frame} frame */
  draw({ run }) {
    const key = `${run.uid} ${run.lines} ${run.links.report}`;
    if (key === this.drawn) return;
    this.drawn = key;
    const here = `api/v1/runs/${encodeURIComponent(run.uid)}`;
    const name = fileName(run);
    const more = create("p");
    if (run.links.report) more.append(link("report", `${here}/report`, `${name}-report.html`));
    more.append(
      link("evidence", `${here}/evidence`, `${name}-evidence.json`),
      link("run as JSON", here, `${name}.json`),
    );
    byId("export-links").replaceChildren(...KINDS.map((kind) => kindRow(kind, run.lines, here, name)), more);
  }
}

/**
 * @param {MapKind} kind
 * @param {string[]} lines
 * @param {string} here address of the run
 * @param {string} name begin of the files' names
 */
function kindRow(kind, lines, here, name) {
  const row = create("p");
  row.append(create("b", { textContent: kind }));
  for (const [format, extension] of Object.entries(EXTENSIONS)) {
    row.append(link(format, `${here}/maps/${kind}?format=${format}`, `${name}-${kind}.${extension}`));
  }
  for (const format of SINGLE) {
    const fileOf = (/** @type {string} */ line) =>
      link("", mapAddress(here, kind, line, format), `${name}-${kind}-${fileNamePart(line)}.${format}`);
    row.append(lineMenu(lines, format, fileOf));
  }
  return row;
}

/**
 * @param {string} textContent
 * @param {string} href
 * @param {string} download
 */
function link(textContent, href, download) {
  return create("a", { textContent, href, download });
}

/**
 * The address of one line's map; a name may hold any character.
 * @param {string} here address of the run
 * @param {string} kind
 * @param {string} line
 * @param {string} format
 */
export function mapAddress(here, kind, line, format) {
  return `${here}/maps/${kind}/${encodeURIComponent(line)}?format=${format}`;
}

/**
 * A name as a part of the name of a file, on any system.
 * @param {string} text
 */
export function fileNamePart(text) {
  return text.replace(/[\\/:*?"<>|\p{Cc}]/gu, "_");
}

/**
 * A menu of lines, each of which saves one file.
 * @param {string[]} lines
 * @param {string} format
 * @param {(line: string) => HTMLAnchorElement} fileOf
 */
function lineMenu(lines, format, fileOf) {
  const label = `${format} of one line`;
  const menu = create("select", { title: label, ariaLabel: label });
  menu.append(new Option(`${format} of…`, ""), ...lines.map((line) => new Option(lineName(line), line)));
  menu.addEventListener("change", () => {
    if (menu.value) fileOf(menu.value).click();
    menu.value = "";
  });
  return menu;
}

/**
 * Draw the maps as they are shown, and give the figure to the browser to save.
 * @param {FigureContent} content
 * @param {string} name end of the file's name
 */
export async function saveFigure(content, name) {
  const paper = selectById("figure-paper").value;
  let scale = Number(selectById("figure-scale").value);
  let canvas = drawFigure({ ...content, scale, paper });
  while (canvas.width * canvas.height > MOST_PIXELS && scale > 1) {
    scale /= 2;
    canvas = drawFigure({ ...content, scale, paper });
  }
  /** @type {Blob | null} */
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (blob) saveBlob(`${fileName(content.run)}-${name}.png`, blob);
}
