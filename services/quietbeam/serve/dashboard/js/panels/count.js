// The panel "count": how much longer each line must be counted for the wanted SNR, raw and denoised.

import { table } from "../base/dom.js";
import { duration, factorsOf, factorText, lineName, number, two } from "../base/text.js";

const byId = (id) => document.getElementById(id);

export class CountPanel {
  draw({ run, number: frameNumber }) {
    if (this.drawn === frameNumber) return;
    this.drawn = frameNumber;
    const { advice } = run;
    byId("count-table").replaceChildren();
    if (!advice) {
      byId("count-facts").textContent =
        "There is nothing to say yet: it takes some denoised rows, and the newest state of the maps.";
      return;
    }
    const counted = run.dwell_s ? run.progress.pixels_measured * run.dwell_s : null;
    const body = advice.lines.flatMap((line) => rowsOf(line, counted));
    byId("count-table").append(
      table(["Line", "SNR now", "Raw: still", "Denoised: still"], body, "What the wanted SNR takes by line"),
    );
    byId("count-facts").textContent = summary(advice, counted);
  }
}

function rowsOf(line, counted) {
  const ways = line.snr_denoised === null ? ["raw"] : ["raw", "denoised"];
  const takes = (way) => ({
    text: ways.includes(way) && line.snr_raw !== null ? inWords(factorsOf(line, way), counted) : "–",
  });
  const now = line.snr_raw === null ? "–" : ways.map((way) => two(line[`snr_${way}`])).join(" → ");
  const row = [{ text: lineName(line.line), head: true }, { text: now }, takes("raw"), takes("denoised")];
  return line.reason
    ? [
        row,
        [
          { text: "", style: "under" },
          { text: line.reason, style: "under", span: 3 },
        ],
      ]
    : [row];
}

/** "11 min – 23 min (×6.7–13)": beyond what is `counted` [s] so far, where that is known. */
function inWords([likely, most], counted) {
  const factor = factorText([likely, most]);
  if (counted === null || most <= 1) return factor;
  const times = [likely, most]
    .map((factor) => (factor - 1) * counted)
    .map((time) => duration(time < 60 ? time : 60 * Math.round(time / 60)));
  return `${[...new Set(times)].join(" – ")} (${factor})`;
}

function summary({ snr, lines }, counted) {
  const known = lines.filter((line) => line.snr_raw !== null);
  const longest = (way) => {
    const all = known.map((line) => factorsOf(line, way(line)));
    return inWords(
      [0, 1].map((i) => Math.max(...all.map((factors) => factors[i]))),
      counted,
    );
  };
  const without = lines.filter((line) => line.snr_raw === null).map((line) => lineName(line.line));
  const raw = known.length ? longest(() => "raw") : "";
  const shown = known.length ? longest((line) => (line.snr_denoised === null ? "raw" : "denoised")) : "";
  return [
    `Still to count for SNR ${number(snr)} in every line: `,
    known.length ? `${raw} raw, ${shown} as the maps are shown` : "no line has counts enough for an answer",
    without.length && known.length ? `; without ${without.join(", ")}` : "",
    ".",
  ].join("");
}
