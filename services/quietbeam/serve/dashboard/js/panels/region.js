// The panel "region": means of every line in the box drawn on a map.

import { saveText, table } from "../base/dom.js";
import { extent } from "../map/drawing.js";
import { boxMeans } from "../base/stats.js";
import { lineName, number, plusMinus, unitName } from "../base/text.js";

const byId = (id) => document.getElementById(id);
const ODD = 4; // standard errors between raw and denoised mean that are worth a look

export class RegionPanel {
  constructor({ drawing }) {
    this.drawing = drawing;
    this.tool = "box";
    this.rows = null;
    byId("region-clear").addEventListener("click", () => drawing.clear());
    byId("region-csv").addEventListener("click", () => this.rows && saveText(this.name, this.rows));
  }

  draw({ run, stacks, number: frameNumber }) {
    const corners = this.drawing.shapes.box;
    const wanted = `${frameNumber} ${JSON.stringify(corners)}`;
    if (wanted === this.drawn) return;
    this.drawn = wanted;
    byId("region-hint").hidden = Boolean(corners);
    byId("region-csv").disabled = byId("region-clear").disabled = !corners;
    if (!corners) {
      byId("region-facts").textContent = "";
      byId("region-table").replaceChildren();
      return;
    }
    const box = extent(corners);
    const counts = run.kind === "counts";
    const found = run.lines.map((line, index) => ({ line, ...boxMeans(stacks, index, box, counts) }));
    this.name = `region-${run.scan_id ?? run.uid}.csv`;
    this.rows = [["line", "pixels", "raw_mean", "raw_error", "denoised_mean", "denoised_error", "raw_sum"]];
    for (const { line, n, raw, rawError, denoised, error } of found) {
      this.rows.push([line, n, raw, rawError, denoised, error, raw === null ? null : raw * n]);
    }
    byId("region-facts").textContent = describe(run, box, found[0]?.n ?? 0, stacks.raw.stride);
    const unit = counts ? "counts" : "area";
    const body = found.map(({ line, n, raw, rawError, denoised, error }) => {
      const apart = rawError && denoised !== null ? (denoised - raw) / rawError : null;
      const odd = apart !== null && Math.abs(apart) > ODD;
      return [
        { text: lineName(line), head: true },
        { text: n ? plusMinus(raw, rawError) : "not measured" },
        { text: denoised === null ? "–" : plusMinus(denoised, error) },
        {
          text:
            apart === null
              ? "–"
              : `${odd ? "▲ " : ""}${apart > 0 ? "+" : apart < 0 ? "−" : ""}${Math.abs(apart).toFixed(1)} σ`,
          style: odd ? "warn" : "",
        },
      ];
    });
    byId("region-table").replaceChildren(
      table(["Line", `Raw mean, ${unit}`, "Denoised mean", "Apart"], body, "Means in the region"),
    );
  }
}

function describe(run, { top, bottom, left, right }, measured, stride) {
  const all =
    (Math.ceil(bottom / stride) - Math.floor(top / stride)) * (Math.ceil(right / stride) - Math.floor(left / stride));
  const thinned = stride > 1 ? ` (one of ${stride} each way)` : "";
  let text = `rows ${top}–${bottom - 1}, columns ${left}–${right - 1}: ${measured === all ? number(all) : `${number(measured)} of ${number(all)}`} pixels${thinned} measured`;
  if (run.step) {
    const [high, wide] = [(bottom - top) * Math.abs(run.step[0]), (right - left) * Math.abs(run.step[1])];
    text += `, ${number(wide)} × ${number(high)} ${unitName(run.units)}`;
  }
  return text;
}
