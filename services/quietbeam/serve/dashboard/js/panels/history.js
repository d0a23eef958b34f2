// The panel "history": loss and dwell gain over the scan, and the way back to earlier states of the maps.

import { getHistory } from "../data/api.js";
import { Chart } from "../base/chart.js";
import { Fetched } from "../data/fetched.js";
import { ESTIMATORS, lineName, number } from "../base/text.js";

const byId = (id) => document.getElementById(id);
const COLOURS = ["#6fd3c7", "#e6b34d", "#8fb4f5", "#f0787a", "#b7d96a", "#d59bea", "#f2a06b", "#9aa7b8"];
const DASHES = [[], [5, 3], [2, 2], [8, 3, 2, 3]];

export class HistoryPanel {
  /** `onChoose(state | null)` shows an earlier state, null the newest; `onOpen()` opens the panel. */
  constructor({ onChoose, onOpen, redraw }) {
    this.onChoose = onChoose;
    this.onOpen = onOpen;
    this.fetched = new Fetched(getHistory, redraw);
    this.all = [];
    this.chosen = null;
    this.charts = [
      new Chart({ height: 190, label: "Dwell gain", right: 46, onChoose: (rows) => this.#goTo("rows", rows) }),
      new Chart({
        height: 96,
        label: "Loss of the fine-tuning",
        onChoose: (steps) => this.#goTo("fine_tune_steps", steps),
      }),
    ];
    byId("history-charts").append(...this.charts.map((chart) => chart.element));
    byId("state").addEventListener("input", (event) => this.#pick(Number(event.target.value)));
    byId("state-before").addEventListener("click", () => this.step(-1));
    byId("state-after").addEventListener("click", () => this.step(1));
    byId("earlier-back").addEventListener("click", () => this.#show(null));
  }

  /** States that can be shown; the last of them is now. */
  get kept() {
    return this.all.filter((state) => state.maps);
  }

  step(by) {
    this.onOpen();
    const at = this.#index() + by;
    if (at >= 0 && at < this.kept.length) this.#pick(at);
  }

  draw({ run, earlier, newest }) {
    this.chosen = earlier;
    this.fetched.want(run.uid, String(newest.maps_version));
    const { uid, key, value, problem } = this.fetched;
    const drawn = [run.uid, newest.maps_version, key, earlier?.version, problem].join();
    if (uid !== run.uid || drawn === this.drawn) return;
    this.drawn = drawn;
    const before = (value ?? [])
      .filter(({ version }) => version < newest.maps_version)
      .map((state) => ({ ...state, uid }));
    this.all = [...before, present(newest)];
    const { kept } = this;
    const at = this.#index();
    Object.assign(byId("state"), {
      max: String(Math.max(0, kept.length - 1)),
      value: String(Math.max(0, at)),
      disabled: kept.length < 2,
    });
    byId("state-before").disabled = at <= 0;
    byId("state-after").disabled = at < 0 || at >= kept.length - 1;
    const told = describe(kept[at], at, kept.length);
    byId("state").setAttribute("aria-valuetext", told);
    byId("state-facts").textContent = problem || told;
    this.#curves(run, kept[at]);
  }

  #curves(run, state) {
    const gains = run.lines.map((line, i) => ({
      kind: "line",
      colour: COLOURS[i % COLOURS.length],
      dash: DASHES[Math.floor(i / COLOURS.length) % DASHES.length],
      end: lineName(line),
      points: this.all.map(({ rows, lines }) => ({ x: rows, y: shownGain(lines?.[line]) })),
    }));
    this.charts[0].draw({ series: gains, log: true, unit: "rows", mark: state?.rows ?? null, from: 1 });
    const loss = this.all.map(({ fine_tune_steps: x, loss: y }) => ({ x: x ?? 0, y: y ?? NaN }));
    const series = [{ kind: "line", colour: COLOURS[0], points: loss }];
    this.charts[1].draw({ series, unit: "steps", mark: state?.fine_tune_steps ?? null });
  }

  #index() {
    const { kept } = this;
    if (!this.chosen) return kept.length - 1;
    return kept.findIndex(({ version }) => version === this.chosen.version);
  }

  #goTo(axis, value) {
    if (value === null || !this.kept.length) return;
    const far = this.kept.map((state) => Math.abs((state[axis] ?? 0) - value));
    this.#pick(far.lastIndexOf(Math.min(...far)));
  }

  #pick(at) {
    this.#show(at >= this.kept.length - 1 ? null : this.kept[at]);
  }

  #show(state) {
    this.chosen = state;
    this.onChoose(state);
  }
}

/** The gain as the cards say it: the lower bound where the interval has no upper end, as it is after a few rows. */
function shownGain(gain) {
  if (!gain) return NaN;
  return (gain.high === null && gain.low !== null ? gain.low : gain.dwell_gain) ?? NaN;
}

/** The newest maps as a state like the others. */
function present({ uid, maps_version: version, denoise, evidence }) {
  const lines = Object.fromEntries(
    (evidence?.lines ?? []).map((line) => {
      const { estimator, verdict, dwell_gain, dwell_gain_low: low, dwell_gain_high: high } = line;
      return [line.line, { estimator, verdict, dwell_gain, low, high }];
    }),
  );
  return {
    uid,
    version,
    rows: denoise.rows,
    fine_tune_steps: evidence?.fine_tune_steps,
    loss: evidence?.loss,
    lines,
    maps: true,
  };
}

/** "state 3 of 24: 12 rows, 11:43:02". */
function describe(state, at, n) {
  if (!state) return "No earlier state is kept for this run yet.";
  const time = state.time ? `, ${new Date(state.time * 1000).toLocaleTimeString("en-GB")}` : "";
  const loss = Number.isFinite(state.loss) ? `, loss ${number(state.loss)}` : "";
  const count = {};
  for (const { estimator } of Object.values(state.lines ?? {})) count[estimator] = (count[estimator] ?? 0) + 1;
  const by = Object.entries(count)
    .map(([name, k]) => `${k} by ${ESTIMATORS[name] ?? name}`)
    .join(", ");
  return `${at === n - 1 ? "now" : "earlier"}: state ${at + 1} of ${n}, ${state.rows} rows${time}, ${state.fine_tune_steps ?? 0} steps${loss}${by ? `; ${by}` : ""}`;
}
