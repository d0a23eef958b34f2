// The run in words: name, state, progress, age of the data, connection.

import { byId, create } from "../base/dom.js";
import { clock, clockWithSeconds, duration, isNumber } from "../base/text.js";
import { isNoMap, runName, STATES } from "../data/wording.js";

const OLD_S = 10;
const MOST_NOTICES = 6;
const CONNECTIONS = {
  live: "live",
  connecting: "connecting",
  lost: "connection lost",
  stalled: "no live updates",
};

export class Header {
  constructor() {
    /** @type {Run | null} */
    this.run = null;
    this.updatedAt = performance.now();
    setInterval(() => this.#showAge(), 500);
  }

  /**
   * `earlier` is the state of the maps that is shown, null for the newest.
   * @param {Run} run
   * @param {MapState | null} earlier
   */
  update(run, earlier) {
    this.run = run;
    this.updatedAt = performance.now();
    showRun(run);
    showEarlier(earlier);
    showProgress(run);
    showNotices(run);
    for (const { id, text } of [
      { id: "denoiser", text: denoiserText(run) },
      { id: "published", text: publishedText(run.publish) },
    ]) {
      byId(id).textContent = byId(id).title = text;
    }
    this.#showAge();
  }

  #showAge() {
    if (!this.run) return;
    const { text, old } = ageText(this.run, (performance.now() - this.updatedAt) / 1000);
    byId("age").dataset.old = String(old);
    byId("age").textContent = text;
  }

  /** @param {ConnectionState} state */
  showConnection(state) {
    byId("connection").dataset.state = state === "stalled" ? "connecting" : state;
    byId("connection-text").textContent = CONNECTIONS[state];
  }
}

/** @param {Run} run */
function showRun(run) {
  const name = runName(run);
  byId("run-name").textContent = name;
  byId("run-plan").textContent = run.sample || run.plan;
  byId("run-button").title = [name, run.sample, run.plan, `run ${run.uid}`].filter(Boolean).join(", ");
  byId("run-state").dataset.state = run.state;
  byId("run-state-text").textContent = STATES[run.state] ?? run.state;
  document.title = `${name} · quietbeam`;
}

/** @param {MapState | null} earlier */
function showEarlier(earlier) {
  byId("earlier").hidden = !earlier;
  if (!earlier) return;
  const time = earlier.time ? ` of ${clockWithSeconds(earlier.time)}` : "";
  byId("earlier-text").textContent = `◀ Earlier state${time}: the maps after ${earlier.rows} rows, not the newest`;
}

/** @param {Run} run */
function showProgress({ progress, denoise }) {
  const { rows, rows_measured: measured, eta_s: left } = progress;
  const percent = 100 * (progress.fraction ?? 0);
  const denoised = rows ? Math.min(percent, (100 * denoise.rows) / rows) : 0;
  const text = (rows ? `${measured} of ${rows} rows` : "") + (isNumber(left) ? `, ${duration(left)} left` : "");
  byId("progress").setAttribute("aria-valuenow", percent.toFixed(0));
  byId("progress").setAttribute("aria-valuetext", text);
  byId("progress-fill").style.width = `${percent}%`;
  byId("progress-denoised").style.width = `${denoised}%`;
  byId("progress-text").textContent = text;
}

/** @param {Run} run */
function showNotices(run) {
  const { denoise, warnings = [], evidence, damage = "" } = run;
  const reason = isNoMap(run) ? "" : run.reason; // it stands where the maps would be
  const sentences = [damage, reason, denoise.reason, ...warnings, ...(evidence?.notes ?? [])].filter(Boolean);
  const notices = [...new Set(sentences)];
  const box = byId("notice");
  box.hidden = !notices.length;
  const shown = notices.slice(0, MOST_NOTICES);
  if (box.textContent === shown.join("")) return; // screen readers would say it again
  box.replaceChildren(...shown.map((textContent) => create("span", { textContent })));
}

/**
 * The age of the data, or when the run ended; `old` where data are missing.
 * @param {Pick<Run, "ended" | "time_stop" | "data_age_s" | "state">} run
 * @param {number} since seconds since the run was loaded
 */
export function ageText(run, since) {
  if (run.ended) return { old: false, text: run.time_stop ? `ended ${clock(run.time_stop)}` : "ended" };
  if (run.data_age_s === null) return { old: false, text: "" };
  const age = run.data_age_s + since;
  if (age > OLD_S && run.state !== "paused") return { old: true, text: `no data for ${duration(age)}` };
  return { old: false, text: `data ${age < 1.5 ? "now" : `${duration(age)} ago`}` };
}

/** @param {Run} run */
function denoiserText({ denoise, evidence }) {
  if (denoise.state === "waiting") return "denoiser: waiting for rows";
  const steps = evidence?.fine_tune_steps ? `, ${evidence.fine_tune_steps} steps on this run` : "";
  const lag = denoise.state === "live" && denoise.lag_s !== null ? `, ${denoise.lag_s.toFixed(1)} s a row` : "";
  return `denoiser: ${denoise.state.replace("_", " ")}${lag}${steps}`;
}

/** @param {Publish | undefined} publish */
function publishedText(publish) {
  if (!publish || (publish.state === "waiting" && !publish.reason)) return "";
  return `Tiled: ${[publish.state, publish.reason || publish.tiled_path].filter(Boolean).join(", ")}`;
}
