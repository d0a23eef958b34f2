// The panel "detectors": how well each detector element does.

import { byId, selectById, table } from "../base/dom.js";
import { isNumber, lineName } from "../base/text.js";
import { getDetectors } from "../data/api.js";
import { Fetched } from "../data/fetched.js";
import { healthOf } from "./detector_health.js";
import { drawLayout } from "./detector_layout.js";

/** @import { DetectorHealth } from "./detector_health.js" */

export class DetectorsPanel {
  /** @param {{redraw: () => void}} shared */
  constructor({ redraw }) {
    this.fetched = new Fetched(getDetectors, redraw);
    this.line = ""; // empty for all lines
    this.lines = "";
    this.drawn = "";
    this.select = selectById("detectors-line");
    this.select.addEventListener("change", () => {
      this.line = this.select.value;
      redraw();
    });
  }

  /** @param {Frame} frame */
  draw({ run, newest }) {
    this.fetched.request(run.uid, String(newest.maps_version));
    this.#offer(run.lines);
    const { uid, key, value, problem } = this.fetched;
    const wanted = [run.uid, key, this.line, problem].join();
    if (uid !== run.uid || wanted === this.drawn) return;
    this.drawn = wanted;
    const detectors = healthOf(value ?? [], this.line);
    drawLayout(byId("detectors-map", HTMLCanvasElement), detectors);
    byId("detectors-facts").textContent = problem || this.#summary(detectors);
    const head = ["Detector", "Counts", "Gain", "Drift", "State"];
    byId("detectors-table").replaceChildren(table(head, detectors.map(tableRow), "Detectors"));
  }

  /** @param {string[]} lines */
  #offer(lines) {
    if (this.lines !== lines.join()) {
      this.lines = lines.join();
      const options = lines.map((line) => new Option(lineName(line), line));
      this.select.replaceChildren(new Option("all lines", ""), ...options);
      if (!lines.includes(this.line)) this.line = "";
    }
    this.select.value = this.line;
  }

  /** @param {DetectorHealth[]} detectors */
  #summary(detectors) {
    const leftOut = detectors.filter(({ excluded }) => excluded.length);
    if (leftOut.length) return `▲ ${leftOut.map(({ name }) => name).join(", ")} left out, see below`;
    return `all ${detectors.length} detectors are used for ${this.line ? lineName(this.line) : "every line"}`;
  }
}

/**
 * @param {DetectorHealth} detector
 * @returns {Cell[]}
 */
function tableRow({ name, gain, share, drift, excluded }) {
  return [
    { text: name, head: true },
    { text: percent(share) },
    { text: gain },
    { text: percent(drift) },
    { text: excluded.length ? `▲ ${excluded.join("; ")}` : "used", style: excluded.length ? "warn" : "" },
  ];
}

/** @param {number | null} part */
function percent(part) {
  return isNumber(part) ? `${(100 * part).toFixed(1)} %` : "–";
}
