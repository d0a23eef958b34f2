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

/** A dwell gain with what is known of it: "×8.1" and " dwell gain (6.0–11.2)"; the lower bound alone where the upper is open. */
export function gainText({ dwell_gain: value, dwell_gain_low: low, dwell_gain_high: high }) {
  const times = (gain) => (gain >= 100 ? `×${gain.toFixed(0)}` : `×${gain.toFixed(1)}`);
  if (value === null) return { figure: "", meaning: "proven; dwell gain not measured" };
  if (low === null) return { figure: times(value), meaning: " dwell gain, interval not known" };
  if (high === null) return { figure: `at least ${times(low)}`, meaning: " dwell gain" };
  return { figure: times(value), meaning: ` dwell gain (${low.toFixed(1)}–${high.toFixed(1)})` };
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
  combined: "network + smoother",
};
