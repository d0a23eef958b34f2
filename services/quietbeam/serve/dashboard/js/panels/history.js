// The panel "history": loss and dwell gain over the scan, and the way back to earlier states of the maps.

import { Chart } from "../base/chart.js";
import { buttonById, byId, inputById } from "../base/dom.js";
import { clockWithSeconds, isNumber, lineName, number } from "../base/text.js";
import { getHistory } from "../data/api.js";
import { presentState } from "../data/earlier.js";
import { Fetched } from "../data/fetched.js";
import { ESTIMATORS } from "../data/wording.js";

const COLOURS = ["#6fd3c7", "#e6b34d", "#8fb4f5", "#f0787a", "#b7d96a", "#d59bea", "#f2a06b", "#9aa7b8"];
const DASHES = [[], [5, 3], [2, 2], [8, 3, 2, 3]];

export class HistoryPanel {
  /**
   * `onChoose(state)` shows an earlier state, null the newest; `onOpen()` opens the panel.
   * @param {{onChoose: (state: MapState | null) => void, onOpen: () => void, redraw: () => void}} shared
   */
  constructor({ onChoose, onOpen, redraw }) {
    this.onChoose = onChoose;
    this.onOpen = onOpen;
    this.fetched = new Fetched(getHistory, redraw);
    /** @type {MapState[]} */
    this.all = [];
    /** @type {MapState | null} */
    this.chosen = null;
    this.drawn = "";
    this.gains = new Chart({
      ...{ height: 190, label: "Dwell gain", right: 46 },
      onChoose: (rows) => this.#goTo((state) => state.rows, rows),
    });
    this.loss = new Chart({
      ...{ height: 96, label: "Loss of the fine-tuning" },
      onChoose: (steps) => this.#goTo((state) => state.fine_tune_steps ?? 0, steps),
    });
    byId("history-charts").append(this.gains.element, this.loss.element);
    this.slider = inputById("state");
    this.slider.addEventListener("input", () => this.#pick(Number(this.slider.value)));
    byId("state-before").addEventListener("click", () => this.step(-1));
    byId("state-after").addEventListener("click", () => this.step(1));
    byId("earlier-back").addEventListener("click", () => this.#choose(null));
  }

  /** States whose maps can be shown; the last of them is now. */
  get shown() {
    return this.all.filter((state) => state.maps);
  }

  /** @param {number} by states forward */
  step(by) {
    this.onOpen();
    const index = this.#index() + by;
    if (index >= 0 && index < this.shown.length) this.#pick(index);
  }

  /** @param {Frame} frame */
  draw({ run, earlier, newest }) {
    this.chosen = earlier;
    this.fetched.request(run.uid, String(newest.maps_version));
    const { uid, key, value, problem } = this.fetched;
    const wanted = [run.uid, newest.maps_version, key, earlier?.version, problem].join();
    if (uid !== run.uid || wanted === this.drawn) return;
    this.drawn = wanted;
    const before = (value ?? []).filter(({ version }) => version < newest.maps_version);
    this.all = [...before.map((state) => ({ ...state, uid })), presentState(newest)];
    const { shown } = this;
    const index = this.#index();
    Object.assign(this.slider, { max: String(Math.max(0, shown.length - 1)), disabled: shown.length < 2 });
    this.slider.value = String(Math.max(0, index));
    buttonById("state-before").disabled = index <= 0;
    buttonById("state-after").disabled = index < 0 || index >= shown.length - 1;
    const text = describe(shown[index], index, shown.length);
    this.slider.setAttribute("aria-valuetext", text);
    byId("state-facts").textContent = problem || text;
    this.#drawCurves(run.lines, shown[index]);
  }

  /**
   * @param {string[]} lines
   * @param {MapState | undefined} state
   */
  #drawCurves(lines, state) {
    /** @type {Series[]} */
    const gains = lines.map((line, i) => ({
      kind: "line",
      colour: COLOURS[i % COLOURS.length],
      dash: DASHES[Math.floor(i / COLOURS.length) % DASHES.length],
      end: lineName(line),
      points: this.all.map((known) => ({ x: known.rows, y: shownGain(known.lines?.[line]) })),
    }));
    this.gains.draw({ series: gains, log: true, unit: "rows", mark: state?.rows ?? null, from: 1 });
    const points = this.all.map(({ fine_tune_steps: x, loss: y }) => ({ x: x ?? 0, y: y ?? NaN }));
    const mark = state?.fine_tune_steps ?? null;
    this.loss.draw({ series: [{ kind: "line", colour: COLOURS[0], points }], unit: "steps", mark });
  }

  #index() {
    const { shown, chosen } = this;
    return chosen ? shown.findIndex(({ version }) => version === chosen.version) : shown.length - 1;
  }

  /**
   * Go to the last of the states that are nearest to a value on a chart's x axis.
   * @param {(state: MapState) => number} axis
   * @param {number | null} value
   */
  #goTo(axis, value) {
    if (value === null || !this.shown.length) return;
    const distances = this.shown.map((state) => Math.abs(axis(state) - value));
    this.#pick(distances.lastIndexOf(Math.min(...distances)));
  }

  /** @param {number} index */
  #pick(index) {
    this.#choose(index >= this.shown.length - 1 ? null : this.shown[index]);
  }

  /** @param {MapState | null} state */
  #choose(state) {
    this.chosen = state;
    this.onChoose(state);
  }
}

/**
 * The gain as on the cards: the lower bound where the interval has no upper end, as after a few rows. NaN for none.
 * @param {LineState | undefined} gain
 */
export function shownGain(gain) {
  if (!gain) return NaN;
  return (gain.high === null && gain.low !== null ? gain.low : gain.dwell_gain) ?? NaN;
}

/**
 * "earlier: state 3 of 24, 12 rows, 11:43:02, 200 steps, loss 0.31; 4 by fine-tuned network".
 * @param {MapState | undefined} state
 * @param {number} index
 * @param {number} n states
 */
export function describe(state, index, n) {
  if (!state) return "No earlier state is kept for this run yet.";
  const facts = [`state ${index + 1} of ${n}`, `${state.rows} rows`];
  if (state.time) facts.push(clockWithSeconds(state.time));
  facts.push(`${state.fine_tune_steps ?? 0} steps`);
  if (isNumber(state.loss)) facts.push(`loss ${number(state.loss)}`);
  const by = estimatorCounts(state);
  return `${index === n - 1 ? "now" : "earlier"}: ${facts.join(", ")}${by ? `; ${by}` : ""}`;
}

/**
 * "4 by fine-tuned network, 1 by raw".
 * @param {MapState} state
 */
function estimatorCounts({ lines = {} }) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const { estimator } of Object.values(lines)) counts.set(estimator, (counts.get(estimator) ?? 0) + 1);
  return [...counts].map(([name, count]) => `${count} by ${ESTIMATORS[name] ?? name}`).join(", ");
}
