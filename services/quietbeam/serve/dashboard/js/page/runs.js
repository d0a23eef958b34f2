// The list of runs to choose from.

import { byId, create, inputById } from "../base/dom.js";
import { clock } from "../base/text.js";
import { getRuns } from "../data/api.js";
import { isNoMap, runName, STATES } from "../data/wording.js";

const PAGE = 200;

export class RunList {
  /** @param {(uid: string) => void} onChoose */
  constructor(onChoose) {
    this.onChoose = onChoose;
    /** @type {RunSummary[]} */
    this.runs = [];
    this.count = 0;
    /** @type {string | null} uid */
    this.current = null;
    this.dialog = byId("runs", HTMLDialogElement);
    this.search = inputById("runs-search");
    byId("run-button").addEventListener("click", () => this.open());
    byId("runs-close").addEventListener("click", () => this.dialog.close());
    this.search.addEventListener("input", () => this.#fill());
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("close", () => byId("run-button").setAttribute("aria-expanded", "false"));
  }

  async open() {
    if (this.dialog.open) return;
    this.dialog.showModal();
    byId("run-button").setAttribute("aria-expanded", "true");
    this.search.focus();
    await this.refresh();
  }

  /** Fetch the newest runs again. */
  async refresh() {
    const { runs, count } = await getRuns(PAGE);
    const newest = new Set(runs.map((run) => run.uid));
    this.runs = [...runs, ...this.runs.filter((run) => !newest.has(run.uid))];
    this.count = count;
    this.#fill();
  }

  async #loadOlder() {
    const known = new Set(this.runs.map((run) => run.uid));
    const { runs, count } = await getRuns(PAGE, this.runs.length);
    this.runs.push(...runs.filter((run) => !known.has(run.uid)));
    this.count = runs.length ? count : this.runs.length;
    this.#fill();
  }

  #fill() {
    const shown = this.runs.filter((run) => matches(run, this.search.value));
    const items = shown.map((run) => this.#item(run));
    if (this.count > this.runs.length) items.push(this.#olderItem(this.count - this.runs.length));
    else if (!shown.length) items.push(create("li", { textContent: "no such run" }));
    byId("runs-list").replaceChildren(...items);
  }

  /** @param {number} count */
  #olderItem(count) {
    const button = create("button", { className: "more", textContent: `Search older runs too (${count})` });
    button.addEventListener("click", () => this.#loadOlder());
    const item = create("li");
    item.append(button);
    return item;
  }

  /** @param {RunSummary} run */
  #item(run) {
    const button = create("button");
    button.dataset.uid = run.uid;
    button.setAttribute("aria-current", String(run.uid === this.current));
    const cells = cellsOf(run);
    const failure = run.denoise.state === "failed" ? run.denoise.reason : "";
    const reason = run.damage || (isNoMap(run) ? "" : [run.reason, failure].filter(Boolean).join("\n"));
    button.className = isNoMap(run) ? "no-map" : "";
    button.title = [...cells.map(({ text }) => text), reason, `run ${run.uid}`].filter(Boolean).join("\n");
    button.append(...cells.map(({ text, style }) => create("span", { textContent: text, className: style })));
    button.addEventListener("click", () => {
      this.dialog.close();
      this.onChoose(run.uid);
    });
    const item = create("li");
    item.append(button);
    return item;
  }
}

/**
 * What went wrong with the run itself or its maps, for the list.
 * @param {Pick<RunSummary, "damage" | "denoise">} run
 */
export function troubleOf({ damage, denoise }) {
  if (damage) return ", damaged";
  return denoise.state === "failed" ? ", not denoised" : "";
}

/** @param {RunSummary} run */
function cellsOf(run) {
  const { fraction } = run.progress;
  const percent = fraction === undefined || isNoMap(run) ? "" : `, ${Math.floor(100 * fraction)} %`;
  const lines = isNoMap(run) ? "" : `${run.lines.length} lines`;
  const size = run.shape && `${run.shape[0]} × ${run.shape[1]}`;
  return [
    { text: run.scan_id === null ? run.uid.slice(0, 8) : runName(run), style: "" },
    { text: [run.sample, run.plan, lines, size].filter(Boolean).join(" · "), style: "soft" },
    { text: `${STATES[run.state] ?? run.state}${percent}${troubleOf(run)}`, style: "" },
    { text: clock(run.time_start), style: "soft" },
  ];
}

/**
 * Whether all words of a search stand in what the list says of a run.
 * @param {RunSummary} run
 * @param {string} search
 */
export function matches({ scan_id: scan, sample, plan, state, uid, time_start: start, damage, denoise }, search) {
  const kind = troubleOf({ damage, denoise });
  const text = `scan ${scan} ${sample} ${plan} ${STATES[state]} ${kind} ${uid} ${clock(start)}`.toLowerCase();
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((word) => text.includes(word));
}
