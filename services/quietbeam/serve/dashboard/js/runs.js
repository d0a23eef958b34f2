// The list of runs to choose from.

import { getRuns } from "./api.js";
import { clock, STATES } from "./text.js";

const byId = (id) => document.getElementById(id);

export class RunList {
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.runs = [];
    this.current = null;
    this.dialog = byId("runs");
    byId("run-button").addEventListener("click", () => this.open());
    byId("runs-close").addEventListener("click", () => this.dialog.close());
    byId("runs-search").addEventListener("input", () => this.#fill());
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("close", () => byId("run-button").setAttribute("aria-expanded", "false"));
  }

  async open() {
    if (this.dialog.open) return;
    this.dialog.showModal();
    byId("run-button").setAttribute("aria-expanded", "true");
    byId("runs-search").focus();
    await this.refresh();
  }

  async refresh() {
    this.runs = await getRuns();
    this.#fill();
  }

  #fill() {
    const words = byId("runs-search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (run) => `${run.scan_id} ${run.plan} ${STATES[run.state]} ${run.uid} ${clock(run.time_start)}`.toLowerCase();
    const shown = this.runs.filter((run) => words.every((word) => text(run).includes(word)));
    byId("runs-list").replaceChildren(...shown.map((run) => this.#item(run)));
    if (!shown.length) byId("runs-list").append(Object.assign(document.createElement("li"), { textContent: "no such run" }));
  }

  #item(run) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.dataset.uid = run.uid;
    button.setAttribute("aria-current", String(run.uid === this.current));
    const percent = run.progress.fraction === undefined ? "" : `, ${Math.floor(100 * run.progress.fraction)} %`;
    const cells = [
      [run.scan_id === null ? run.uid.slice(0, 8) : `Scan ${run.scan_id}`, ""],
      [`${run.plan} · ${run.lines.length} lines${run.shape ? ` · ${run.shape[0]} × ${run.shape[1]}` : ""}`, "soft"],
      [`${STATES[run.state] ?? run.state}${percent}`, ""],
      [clock(run.time_start), "soft"],
    ];
    button.title = [...cells.map(([text]) => text), run.reason, `run ${run.uid}`].filter(Boolean).join("\n");
    button.append(...cells.map(([text, style]) => Object.assign(document.createElement("span"), { textContent: text, className: style })));
    button.addEventListener("click", () => {
      this.dialog.close();
      this.onChoose(run.uid);
    });
    item.append(button);
    return item;
  }
}
