// The list of runs to choose from.

import { getRuns } from "../data/api.js";
import { clock, STATES } from "../base/text.js";

const byId = (id) => document.getElementById(id);

export class RunList {
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.runs = [];
    this.count = 0;
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
    const { runs, count } = await getRuns();
    const newest = new Set(runs.map((run) => run.uid));
    this.runs = [...runs, ...this.runs.filter((run) => !newest.has(run.uid))];
    this.count = count;
    this.#fill();
  }

  async #more() {
    const known = new Set(this.runs.map((run) => run.uid));
    const { runs, count } = await getRuns(200, this.runs.length);
    this.runs.push(...runs.filter((run) => !known.has(run.uid)));
    this.count = runs.length ? count : this.runs.length;
    this.#fill();
  }

  #fill() {
    const words = byId("runs-search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (run) =>
      `scan ${run.scan_id} ${run.sample} ${run.plan} ${STATES[run.state]} ${run.uid} ${clock(run.time_start)}`.toLowerCase();
    const shown = this.runs.filter((run) => words.every((word) => text(run).includes(word)));
    byId("runs-list").replaceChildren(...shown.map((run) => this.#item(run)));
    if (this.count > this.runs.length) {
      const more = Object.assign(document.createElement("button"), {
        className: "more",
        textContent: `Search older runs too (${this.count - this.runs.length})`,
      });
      more.addEventListener("click", () => this.#more());
      const item = document.createElement("li");
      item.append(more);
      byId("runs-list").append(item);
    } else if (!shown.length)
      byId("runs-list").append(Object.assign(document.createElement("li"), { textContent: "no such run" }));
  }

  #item(run) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.dataset.uid = run.uid;
    button.setAttribute("aria-current", String(run.uid === this.current));
    const percent = run.progress.fraction === undefined ? "" : `, ${Math.floor(100 * run.progress.fraction)} %`;
    const cells = [
      [run.scan_id === null ? run.uid.slice(0, 8) : `Scan ${run.scan_id}`, ""],
      [
        [run.sample, run.plan, `${run.lines.length} lines`, run.shape && `${run.shape[0]} × ${run.shape[1]}`]
          .filter(Boolean)
          .join(" · "),
        "soft",
      ],
      [`${STATES[run.state] ?? run.state}${percent}`, ""],
      [clock(run.time_start), "soft"],
    ];
    button.title = [...cells.map(([text]) => text), run.reason, `run ${run.uid}`].filter(Boolean).join("\n");
    button.append(
      ...cells.map(([text, style]) =>
        Object.assign(document.createElement("span"), { textContent: text, className: style }),
      ),
    );
    button.addEventListener("click", () => {
      this.dialog.close();
      this.onChoose(run.uid);
    });
    item.append(button);
    return item;
  }
}
