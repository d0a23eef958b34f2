// The panel "count": how much longer each line must be counted for the wanted SNR, raw and denoised.

import { byId, table } from "../base/dom.js";
import { duration, lineName, number, twoDigits } from "../base/text.js";
import { factorsOf, factorText, waysOf } from "../data/wording.js";

/** @import { Way } from "../data/wording.js" */

export class CountPanel {
  constructor() {
    this.drawn = -1; // number of the frame
  }

  /** @param {Frame} frame */
  draw({ run, number: frameNumber }) {
    if (this.drawn === frameNumber) return;
    this.drawn = frameNumber;
    const { advice } = run;
    byId("count-table").replaceChildren();
    if (!advice) {
      byId("count-facts").textContent = "No estimate yet. Wait for the first denoised rows and select the newest map.";
      return;
    }
    const counted = run.dwell_s ? run.progress.pixels_measured * run.dwell_s : null;
    const body = advice.lines.flatMap((line) => rowsOf(line, counted));
    const head = ["Line", "SNR now", "Raw: still", "Denoised: still"];
    byId("count-table").append(table(head, body, "What the wanted SNR takes by line"));
    byId("count-facts").textContent = summary(advice, counted);
  }
}

/**
 * @param {LineAdvice} line
 * @param {number | null} counted seconds
 * @returns {Cell[][]}
 */
function rowsOf(line, counted) {
  const ways = waysOf(line);
  const known = line.snr_raw !== null;
  const still = (/** @type {Way} */ way) => ({
    text: known && ways.includes(way) ? timeText(factorsOf(line, way), counted) : "–",
  });
  const now = known ? ways.map((way) => twoDigits(line[`snr_${way}`])).join(" → ") : "–";
  const row = [{ text: lineName(line.line), head: true }, { text: now }, still("raw"), still("denoised")];
  if (!line.reason) return [row];
  return [
    row,
    [
      { text: "", style: "under" },
      { text: line.reason, style: "under", span: 3 },
    ],
  ];
}

/**
 * "11 min – 23 min (×6.7–13)": beyond the seconds `counted` so far, where they are known.
 * @param {[likely: number, safe: number]} factors
 * @param {number | null} counted
 */
export function timeText(factors, counted) {
  const text = factorText(factors);
  if (counted === null || factors[1] <= 1) return text;
  const seconds = factors.map((factor) => (factor - 1) * counted);
  const times = seconds.map((time) => duration(time < 60 ? time : 60 * Math.round(time / 60)));
  return `${[...new Set(times)].join(" – ")} (${text})`;
}

/**
 * @param {RunAdvice} advice
 * @param {number | null} counted seconds
 */
export function summary({ snr, lines }, counted) {
  const known = lines.filter((line) => line.snr_raw !== null);
  if (!known.length) return "Too few counts for an estimate.";
  const longest = (/** @type {(line: LineAdvice) => Way} */ way) => {
    const all = known.map((line) => factorsOf(line, way(line)));
    return timeText([Math.max(...all.map(([likely]) => likely)), Math.max(...all.map(([, safe]) => safe))], counted);
  };
  const raw = longest(() => "raw");
  const shown = longest((line) => (line.snr_denoised === null ? "raw" : "denoised"));
  const without = lines.filter((line) => line.snr_raw === null).map((line) => lineName(line.line));
  const rest = without.length ? `; without ${without.join(", ")}` : "";
  return `Still to count for SNR ${number(snr)} in every line: ${raw} raw, ${shown} as the maps are shown${rest}.`;
}
