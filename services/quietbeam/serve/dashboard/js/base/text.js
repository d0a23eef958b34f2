// Numbers, times and names as people read them.

const GREEK = { a: "α", b: "β", g: "γ", l: "ℓ", n: "η" };
const LOW = "₀₁₂₃₄₅₆₇₈₉";

/** "Fe_Ka" -> "Fe Kα", "Pb_La1" -> "Pb Lα₁"; what is not a line stays as it is. */
export function lineName(line) {
  const match = /^([A-Z][a-z]?)_([KLMN])([abgln]?)(\d*)$/.exec(line);
  if (!match) return line;
  const [, element, shell, letter, digits] = match;
  return `${element} ${shell}${GREEK[letter] ?? letter}${[...digits].map((d) => LOW[+d]).join("")}`;
}

/** Three significant digits, thousands grouped; "–" for no value. */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return value.toExponential(2).replace("e+", "e");
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  if (size >= 100) return value.toFixed(0);
  if (size >= 0.01) return String(Number(value.toFixed(size >= 10 ? 1 : 2)));
  if (size === 0) return "0";
  return value.toExponential(1);
}

/** "12.3 ± 0.4": the value to the digits that its error leaves. */
export function plusMinus(value, error) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (!error || !Number.isFinite(error)) return number(value);
  const digits = Math.max(0, Math.min(6, 1 - Math.floor(Math.log10(error))));
  return `${value.toFixed(digits)} ± ${error.toFixed(digits)}`;
}

/** The unit of a run's steps as it is printed. */
export function unitName(units) {
  return units === "um" ? "µm" : units;
}

/** The verdicts of the evidence as people read them. */
export const VERDICTS = { improved: "improved", kept_raw: "kept raw", not_tested: "not tested" };

/** The verdict of a line that is not improved, with what is shown: "▲ not tested: network shown". */
export function verdictText({ verdict, estimator }) {
  const why = verdict === "kept_raw" ? "no proven gain" : `${ESTIMATORS[estimator] ?? estimator} shown`;
  return `▲ ${VERDICTS[verdict]}: ${why}`;
}

/** A dwell gain with what is known of it: "×8.1" and " dwell gain (6.0–11.2)"; the lower bound alone where the upper is open. */
export function gainText({ dwell_gain: value, dwell_gain_low: low, dwell_gain_high: high }) {
  const times = (gain) => (gain >= 100 ? `×${gain.toFixed(0)}` : `×${gain.toFixed(1)}`);
  if (value === null) return { figure: "", meaning: "improved; dwell gain not measured" };
  if (low === null) return { figure: times(value), meaning: " dwell gain, interval not known" };
  if (high === null) return { figure: `at least ${times(low)}`, meaning: " dwell gain" };
  return { figure: times(value), meaning: ` dwell gain (${low.toFixed(1)}–${high.toFixed(1)})` };
}

/** A number with two digits. */
export function two(value) {
  return number(Number(value.toPrecision(2)));
}

/** [likely, most]: how many times the present dwell a line's map takes for the wanted SNR. */
export function factorsOf(line, way) {
  const most = line[`factor_${way}`];
  return [Math.max(1, line[`factor_${way}_likely`] ?? most), most];
}

/** "×4.6–14", or "reached". */
export function factorText([likely, most]) {
  if (most <= 1) return "reached";
  return two(likely) === two(most) ? `×${two(most)}` : `×${two(likely)}–${two(most)}`;
}

/** What a wanted SNR takes: in few words, in a sentence, and in full for the tooltip. */
export function adviceText(line, snr) {
  if (!line) return { brief: "", sentence: "", told: [] };
  if (line.snr_raw === null) {
    const short = line.reason.split(":")[0];
    return { brief: short, sentence: short, told: [line.reason] };
  }
  const ways = line.snr_denoised === null ? ["raw"] : ["raw", "denoised"];
  const now = ways.map((way) => two(line[`snr_${way}`]));
  const takes = ways.map((way) => factorText(factorsOf(line, way)));
  const seconds = ways.map((way) =>
    line[`dwell_${way}_s`] === null ? "" : ` (${two(line[`dwell_${way}_s`])} s a pixel)`,
  );
  const each = (values) => values.map((value, i) => `${value} ${ways[i]}`).join(", ");
  return {
    brief: `SNR ${now.join(" → ")}; for ${number(snr)}: ${takes.join(" → ")}`,
    sentence: `SNR ${each(now)}; for ${number(snr)}: dwell ${each(takes)}`,
    told: [
      `SNR now ${each(now)}`,
      `for ${number(snr)}: dwell ${each(takes.map((text, i) => text + (text === "reached" ? "" : seconds[i])))}`,
      line.reason,
    ],
  };
}

/** Seconds as "12 s", "3 min 20 s", "2 h 05 min". */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min${s % 60 && s < 600 ? ` ${s % 60} s` : ""}`;
  return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
}

/** Seconds since 1970 as local time, with the date when it is not today. */
export function clock(time) {
  if (!time) return "";
  const date = new Date(time * 1000);
  const hour = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return date.toDateString() === new Date().toDateString() ? hour : `${date.toISOString().slice(0, 10)} ${hour}`;
}

export const STATES = {
  running: "measuring",
  paused: "paused",
  complete: "complete",
  incomplete: "ended, pixels missing",
  aborted: "aborted",
  failed: "failed",
  stale: "silent",
  unusable: "cannot be mapped",
};

export const ESTIMATORS = {
  raw: "raw",
  smoother: "smoother",
  pretrained: "network",
  fine_tuned: "fine-tuned network",
  nonlocal: "non-local means",
  combined: "combination",
};
