// The panel "run": facts on this run, and the changes that the key allows.

import { buttonById, byId, create, inputById, selectById } from "../base/dom.js";
import { clock, duration } from "../base/text.js";
import { getModels, getWhoami, messageOf, requestChange } from "../data/api.js";
import { actionName, actionText, limitsText, outcomeText, refusals } from "./run_actions.js";

export class ManagePanel {
  /**
   * `onDeleted()` is called when the run that is shown was deleted.
   * @param {{onDeleted: () => void}} shared
   */
  constructor({ onDeleted }) {
    this.onDeleted = onDeleted;
    /** @type {Run | null} */
    this.run = null;
    /** @type {Principal | null} */
    this.principal = null;
    this.requested = false;
    this.message = "";
    this.drawn = "";
    this.dialog = byId("delete", HTMLDialogElement);
    this.chosen = selectById("manage-chosen");
    byId("manage-denoise").addEventListener("click", () => this.#denoise());
    byId("manage-pin").addEventListener("click", () => this.#requestOfRun(this.run?.pinned ? "DELETE" : "PUT", "/pin"));
    this.chosen.addEventListener("change", () => this.#request("PUT", "models/chosen", { id: this.chosen.value }));
    byId("manage-delete").addEventListener("click", () => this.#confirm());
    byId("delete-no").addEventListener("click", () => this.dialog.close());
    byId("delete-yes").addEventListener("click", () => {
      this.dialog.close();
      this.#requestOfRun("DELETE", "");
    });
  }

  /** @param {Pick<Frame, "newest">} frame */
  draw({ newest: run }) {
    const key = JSON.stringify([run.uid, run.state, run.pinned, run.actions, run.denoise.state, this.message]);
    this.run = run;
    if (!this.principal) this.#load();
    if (key === this.drawn || !this.principal) return;
    this.drawn = key;
    const { scopes } = this.principal;
    const reasons = refusals(run, scopes);
    disable(buttonById("manage-denoise"), reasons.denoise);
    disable(buttonById("manage-pin"), reasons.pin);
    disable(buttonById("manage-delete"), reasons.delete);
    disable(this.chosen, reasons.choose);
    byId("manage-pin").textContent = run.pinned ? "Unpin (allow automatic deletion)" : "Pin run";
    byId("manage-actions").textContent = [...run.actions.map(actionText), this.message].filter(Boolean).join(" · ");
    byId("manage-limits").textContent = limitsText(scopes);
    byId("manage-facts").replaceChildren(...factsOf(run));
  }

  /**
   * Show how an action ended, from an event of type "action".
   * @param {Record<string, any>} event
   */
  handleAction({ run, action, state, reason }) {
    const isShown = run === this.run?.uid;
    if (isShown && action === "delete" && state === "done") this.onDeleted();
    if (isShown || action === "choose_weights") this.message = outcomeText({ action, state, reason });
    if (action === "choose_weights" && state === "done") this.#loadModels();
  }

  /** Fetch once what the key allows, and the installed weights. */
  async #load() {
    if (this.requested) return;
    this.requested = true;
    try {
      this.principal = await getWhoami();
      await this.#loadModels();
    } catch (error) {
      this.message = messageOf(error);
    }
    this.#redraw();
  }

  async #loadModels() {
    const { models, chosen } = await getModels();
    const options = (/** @type {string} */ first) => [
      new Option(first, ""),
      ...models.map(({ id }) => new Option(id, id)),
    ];
    byId("manage-weights").replaceChildren(...options("as chosen for new runs"));
    this.chosen.replaceChildren(...options("the newest"));
    this.chosen.value = chosen ?? "";
  }

  #redraw() {
    this.drawn = "";
    if (this.run && !byId("side").hidden) this.draw({ newest: this.run });
  }

  #denoise() {
    const budget = inputById("manage-budget");
    if (!budget.checkValidity()) {
      this.message = "▲ seconds of fine-tuning: 0 to 3600, or nothing for what a live run gets";
      this.#redraw();
      return;
    }
    const weights = selectById("manage-weights").value || null;
    this.#requestOfRun("POST", "/denoise", { weights, budget_s: budget.value ? budget.valueAsNumber : null });
  }

  #confirm() {
    if (!this.run) return;
    const { scan_id: scan, uid, plan, time_start: start } = this.run;
    const name = scan === null ? `run ${uid.slice(0, 8)}` : `scan ${scan}`;
    byId("delete-text").textContent =
      `Delete ${name} (${plan}, ${clock(start)}) for good? ` +
      "This deletes the counts, maps, history, report and Tiled entry. Raw detector files are not touched.";
    this.dialog.showModal();
    byId("delete-no").focus();
  }

  /**
   * @param {string} method
   * @param {string} path below the run
   * @param {object} [body]
   */
  #requestOfRun(method, path, body) {
    if (this.run) this.#request(method, `runs/${encodeURIComponent(this.run.uid)}${path}`, body);
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   */
  async #request(method, path, body) {
    this.message = "";
    try {
      if (!this.principal?.csrf) this.principal = await getWhoami();
      const { data } = await requestChange(method, path, body, this.principal.csrf);
      if (data.type === "action") this.message = `${actionName(data.attributes.action)}: asked`;
    } catch (error) {
      this.message = `▲ ${messageOf(error)}`;
    }
    this.#redraw();
  }
}

/**
 * Disable a control and say why; enable it where there is no reason.
 * @param {HTMLButtonElement | HTMLSelectElement} control
 * @param {string} reason
 */
function disable(control, reason) {
  control.disabled = reason !== "";
  control.title = reason;
}

/** @type {Record<string, string>} */
const ORDERS = {
  verified: "as announced, confirmed by the motors' readings",
  from_positions: "from the motors' readings, which contradict the announced order",
  assumed: "as announced, not checked (no motor readings)",
};

/** @param {Run} run */
function factsOf(run) {
  const { shape, lines, detectors, dwell_s: dwell, time_start: start, time_stop: stop } = run;
  const size = shape && `${shape[0]} × ${shape[1]} pixels, ${lines.length} lines, ${detectors.length} detectors`;
  const facts = {
    Run: run.uid,
    Plan: run.plan,
    Sample: run.sample,
    Map: size,
    "Order of pixels": ORDERS[run.order ?? ""],
    Dwell: dwell && `${dwell} s a pixel`,
    Began: clock(start),
    Took: start && stop && duration(stop - start),
    Weights: run.denoise.model,
    Tiled: run.publish?.tiled_path,
    Pinned: run.pinned ? "yes: deleted neither by its age nor by hand" : "",
  };
  return Object.entries(facts).flatMap(([name, value]) =>
    value ? [create("dt", { textContent: name }), create("dd", { textContent: String(value) })] : [],
  );
}
