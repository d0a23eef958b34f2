// How well each detector element does, for one line or for all.

import { isNumber, lineName } from "../base/text.js";

/**
 * @typedef {object} DetectorHealth
 * @property {string} name
 * @property {[number, number] | null} position
 * @property {number | null} share of the counts of all detectors
 * @property {number | null} drift
 * @property {number | null} mean gain relative to the mean of the detectors; null where it is left out of all lines
 * @property {string} gain the same as text, a range for several lines
 * @property {string[]} excluded why it is left out, a sentence a line
 * @property {boolean} leftOut whether it is left out of all chosen lines
 */

/**
 * @param {Detector[]} detectors
 * @param {string} line empty for all lines
 * @returns {DetectorHealth[]}
 */
export function healthOf(detectors, line) {
  const total = detectors.reduce((sum, { total_counts: counts }) => sum + (counts ?? 0), 0);
  const means = meanGains(detectors);
  return detectors.map(({ name, position, drift, total_counts: counts, lines }) => {
    const chosen = Object.entries(lines).filter(([known]) => !line || known === line);
    const gains = chosen.flatMap(([known, { gain, excluded }]) =>
      isNumber(gain) && !excluded ? [gain / (means.get(known) ?? NaN)] : [],
    );
    const excluded = reasonsOf(chosen, line !== "");
    return {
      ...{ name, position, drift, excluded, gain: gainText(gains) },
      share: total > 0 && counts !== null ? counts / total : null,
      mean: gains.length ? mean(gains) : null,
      leftOut: chosen.length > 0 && chosen.every(([, health]) => health.excluded),
    };
  });
}

/**
 * The mean gain of the detectors that a line is summed over, by line.
 * @param {Detector[]} detectors
 */
function meanGains(detectors) {
  /** @type {Map<string, number[]>} */
  const gains = new Map();
  for (const { lines } of detectors) {
    for (const [line, { gain }] of Object.entries(lines)) {
      if (isNumber(gain)) gains.set(line, [...(gains.get(line) ?? []), gain]);
    }
  }
  return new Map([...gains].map(([line, values]) => [line, mean(values)]));
}

/**
 * Why a detector is left out; one sentence for all lines where there is one reason for all of several.
 * @param {[line: string, health: {excluded: string | null}][]} chosen
 * @param {boolean} isOneLine
 */
function reasonsOf(chosen, isOneLine) {
  const found = chosen.flatMap(([line, { excluded }]) => (excluded ? [{ line, excluded }] : []));
  const same = new Set(found.map(({ excluded }) => excluded)).size === 1;
  if (found.length > 1 && found.length === chosen.length && same) return [`all lines: ${found[0].excluded}`];
  return found.map(({ line, excluded }) => (isOneLine ? excluded : `${lineName(line)}: ${excluded}`));
}

/** @param {number[]} gains */
function gainText(gains) {
  if (!gains.length) return "–";
  const [low, high] = [Math.min(...gains), Math.max(...gains)];
  return high - low < 0.005 ? low.toFixed(2) : `${low.toFixed(2)}–${high.toFixed(2)}`;
}

/** @param {number[]} values */
function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
