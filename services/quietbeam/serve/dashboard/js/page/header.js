// The run in words: name, state, progress, age of the data, connection.

import { clock, duration, STATES } from "../base/text.js";

const OLD_S = 10;
const byId = (id) => document.getElementById(id);

export class Header {
  constructor() {
    this.run = null;
    this.at = performance.now();
    setInterval(() => this.#age(), 500);
  }

  /** `earlier` is the state of the maps that is shown, null for the newest. */
  update(run, earlier = null) {
    this.run = run;
    byId("earlier").hidden = !earlier;
    if (earlier) {
      const time = earlier.time ? ` of ${new Date(earlier.time * 1000).toLocaleTimeString("en-GB")}` : "";
      byId("earlier-text").textContent = `◀ Earlier state${time}: the maps after ${earlier.rows} rows, not the newest`;
    }
    this.at = performance.now();
    byId("run-name").textContent = run.scan_id === null ? `Run ${run.uid.slice(0, 8)}` : `Scan ${run.scan_id}`;
    byId("run-plan").textContent = run.sample || run.plan;
    byId("run-button").title = [byId("run-name").textContent, run.sample, run.plan, `run ${run.uid}`]
      .filter(Boolean)
      .join(", ");
    byId("run-state").dataset.state = run.state;
    byId("run-state-text").textContent = STATES[run.state] ?? run.state;
    document.title = `${byId("run-name").textContent} · quietbeam`;
    const { progress, denoise } = run;
    const percent = 100 * (progress.fraction ?? 0);
    byId("progress").setAttribute("aria-valuenow", percent.toFixed(0));
    byId("progress-fill").style.width = `${percent}%`;
    byId("progress-denoised").style.width =
      `${progress.rows ? Math.min(percent, (100 * denoise.rows) / progress.rows) : 0}%`;
    let text = progress.rows ? `${progress.rows_measured} of ${progress.rows} rows` : "";
    if (progress.eta_s !== null && progress.eta_s !== undefined) text += `, ${duration(progress.eta_s)} left`;
    byId("progress-text").textContent = text;
    byId("progress").setAttribute("aria-valuetext", text);
    for (const [id, words] of [
      ["denoiser", denoiserText(run)],
      ["published", publishedText(run.publish)],
    ]) {
      byId(id).textContent = byId(id).title = words;
    }
    this.#notice(run);
    this.#age();
  }

  #notice(run) {
    const notices = [run.reason, run.denoise.reason, ...(run.warnings ?? []), ...(run.evidence?.notes ?? [])].filter(
      Boolean,
    );
    const box = byId("notice");
    box.hidden = !notices.length;
    const shown = notices
      .slice(0, 6)
      .map((text) => Object.assign(document.createElement("span"), { textContent: text }));
    if (box.textContent !== shown.map((span) => span.textContent).join("")) {
      box.replaceChildren(...shown);
    }
  }

  #age() {
    const box = byId("age");
    const { run } = this;
    if (!run) return;
    if (run.ended) {
      box.dataset.old = "false";
      box.textContent = run.time_stop ? `ended ${clock(run.time_stop)}` : "ended";
      return;
    }
    if (run.data_age_s === null) {
      box.textContent = "";
      return;
    }
    const age = run.data_age_s + (performance.now() - this.at) / 1000;
    const old = age > OLD_S && run.state !== "paused";
    box.dataset.old = String(old);
    box.textContent = old ? `no data for ${duration(age)}` : `data ${age < 1.5 ? "now" : `${duration(age)} ago`}`;
  }

  connection(state) {
    const texts = { live: "live", connecting: "connecting", lost: "connection lost", stalled: "no live updates" };
    byId("connection").dataset.state = state === "stalled" ? "connecting" : state;
    byId("connection-text").textContent = texts[state];
  }
}

function denoiserText({ denoise, evidence }) {
  if (denoise.state === "waiting") return "denoiser: waiting for rows";
  const steps = evidence?.fine_tune_steps ? `, ${evidence.fine_tune_steps} steps on this run` : "";
  if (denoise.state === "live") {
    return `denoiser: live${denoise.lag_s === null ? "" : `, ${denoise.lag_s.toFixed(1)} s a row`}${steps}`;
  }
  return `denoiser: ${denoise.state.replace("_", " ")}${steps}`;
}

function publishedText(publish) {
  if (!publish || (publish.state === "waiting" && !publish.reason)) return "";
  return `Tiled: ${[publish.state, publish.reason || publish.tiled_path].filter(Boolean).join(", ")}`;
}
