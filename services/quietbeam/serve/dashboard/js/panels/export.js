// The panel "save": the figure as PNG, the data as files of the API.

import { saveBlob } from "../base/dom.js";
import { drawFigure } from "../map/figure.js";
import { KINDS } from "../base/options.js";
import { lineName } from "../base/text.js";

const byId = (id) => document.getElementById(id);
const MOST_PIXELS = 120e6; // of a canvas that every browser makes
const STACKS = [
  ["npy", "all lines"],
  ["hdf5", "all lines"],
];
const SINGLE = [
  ["csv", "text"],
  ["tiff", "image"],
];

export class ExportPanel {
  /** `shown()` returns what `drawFigure` needs. */
  constructor({ shown }) {
    byId("figure-save").addEventListener("click", () => {
      const now = shown();
      saveFigure(now, now.options.shown.join("-"));
    });
  }

  draw({ run }) {
    const key = `${run.uid} ${run.lines} ${run.links.report}`;
    if (key === this.drawn) return;
    this.drawn = key;
    const here = `api/v1/runs/${encodeURIComponent(run.uid)}`;
    const name = `scan-${run.scan_id ?? run.uid.slice(0, 8)}`;
    const rows = KINDS.map((kind) => {
      const stacks = STACKS.map(([form]) =>
        link(form, `${here}/maps/${kind}?format=${form}`, `${name}-${kind}.${form === "hdf5" ? "h5" : form}`),
      );
      const parts = SINGLE.map(([form]) =>
        byLine(run.lines, form, (line) => [
          `${here}/maps/${kind}/${line}?format=${form}`,
          `${name}-${kind}-${line}.${form}`,
        ]),
      );
      const row = document.createElement("p");
      row.append(Object.assign(document.createElement("b"), { textContent: kind }), ...stacks, ...parts);
      return row;
    });
    const more = document.createElement("p");
    more.append(
      link("evidence", `${here}/evidence`, `${name}-evidence.json`),
      link("run as JSON", here, `${name}.json`),
    );
    if (run.links.report) more.prepend(link("report", `${here}/report`, `${name}-report.html`));
    byId("export-links").replaceChildren(...rows, more);
  }
}

function link(textContent, href, download) {
  return Object.assign(document.createElement("a"), { textContent, href, download });
}

/** A menu of lines, each of which saves one file. */
function byLine(lines, form, address) {
  const menu = Object.assign(document.createElement("select"), {
    title: `${form} of one line`,
    ariaLabel: `${form} of one line`,
  });
  menu.append(new Option(`${form} of…`, ""), ...lines.map((line) => new Option(lineName(line), line)));
  menu.addEventListener("change", () => {
    if (menu.value) link("", ...address(menu.value)).click();
    menu.value = "";
  });
  return menu;
}

/** Draw what is shown and give it to the browser to save. */
export async function saveFigure(shown, name) {
  let scale = Number(byId("figure-scale").value);
  let canvas = drawFigure({ ...shown, scale, paper: byId("figure-paper").value });
  while (canvas.width * canvas.height > MOST_PIXELS && scale > 1) {
    scale /= 2;
    canvas = drawFigure({ ...shown, scale, paper: byId("figure-paper").value });
  }
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const { run } = shown;
  saveBlob(`scan-${run.scan_id ?? run.uid.slice(0, 8)}-${name}.png`, blob);
}
