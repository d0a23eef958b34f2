// The panel "run": what this run is, and what may be done with it, as far as the key allows.

import { change, getModels, getWhoami } from "../data/api.js";
import { clock, duration } from "../base/text.js";

const byId = (id) => document.getElementById(id);
const DOING = {
  denoise: "denoise again",
  pin: "keep",
  unpin: "let it go with its age",
  delete: "delete",
  choose_weights: "choose weights",
};

export class ManagePanel {
  /** `onGone(uid)` is called when a run was deleted. */
  constructor({ onGone }) {
    this.onGone = onGone;
    this.run = null;
    this.me = null;
    this.said = "";
    byId("manage-denoise").addEventListener("click", () => this.#denoise());
    byId("manage-pin").addEventListener("click", () =>
      this.#ask(this.run.pinned ? "DELETE" : "PUT", `runs/${this.#uid}/pin`),
    );
    byId("manage-chosen").addEventListener("change", (event) =>
      this.#ask("PUT", "models/chosen", { id: event.target.value }),
    );
    byId("manage-delete").addEventListener("click", () => this.#confirm());
    byId("delete-no").addEventListener("click", () => byId("delete").close());
    byId("delete-yes").addEventListener("click", () => {
      byId("delete").close();
      this.#ask("DELETE", `runs/${this.#uid}`);
    });
  }

  get #uid() {
    return encodeURIComponent(this.run.uid);
  }

  draw({ newest: run }) {
    const key = JSON.stringify([run.uid, run.state, run.pinned, run.actions, run.denoise.state, this.said]);
    this.run = run;
    if (!this.me) this.#begin();
    if (key === this.drawn || !this.me) return;
    this.drawn = key;
    this.#facts(run);
    const may = (scope) => this.me.scopes.includes(scope);
    const waits = (kind) => run.actions.some((action) => action.action === kind);
    const refuse = (button, ...reasons) => {
      const why = reasons.find(Boolean) || "";
      [byId(button).disabled, byId(button).title] = [Boolean(why), why];
      return why;
    };
    const noWrite = may("write:data") ? "" : "your key may not change anything (it lacks the scope write:data)";
    const going = run.ended || run.state === "stale" ? "" : "the run is still measured";
    refuse("manage-denoise", noWrite, going, waits("denoise") && "it was asked for already");
    refuse("manage-chosen", noWrite);
    refuse("manage-pin", noWrite, (waits("pin") || waits("unpin")) && "it was asked for already");
    refuse(
      "manage-delete",
      may("delete:data") ? "" : "your key may not delete runs (it lacks the scope delete:data)",
      going,
      run.pinned && "the run is kept: let it go first",
      run.actions.length > 0 && "something else was asked of this run; wait for it",
    );
    byId("manage-pin").textContent = run.pinned ? "Let it go with its age" : "Keep this run";
    const waiting = run.actions.map(
      ({ action, state, reason, by }) =>
        `${DOING[action] ?? action}: ${state}${reason ? `, ${reason}` : ""} (asked by ${by})`,
    );
    byId("manage-actions").textContent = [...waiting, this.said].filter(Boolean).join(" · ");
    const limits = [noWrite, !may("delete:data") && may("write:data") ? "your key may not delete runs" : ""].filter(
      Boolean,
    );
    byId("manage-limits").textContent = limits.length ? `${limits.join("; ")}.` : "";
  }

  /** An event of type "action". */
  take({ run, action, state, reason }) {
    if (action === "delete" && state === "done" && run === this.run?.uid) this.onGone(run);
    const failed = state === "failed" ? `${DOING[action] ?? action} failed: ${reason}` : "";
    if (run === this.run?.uid || action === "choose_weights")
      this.said = failed || (state === "done" ? `${DOING[action] ?? action}: done` : "");
    if (action === "choose_weights" && state === "done") this.#models();
  }

  async #begin() {
    if (this.asked) return;
    this.asked = true;
    try {
      this.me = await getWhoami();
      await this.#models();
    } catch (error) {
      this.said = error.message;
    }
    this.#redraw();
  }

  async #models() {
    const { models, chosen } = await getModels();
    const options = (first) => [new Option(first, ""), ...models.map(({ id }) => new Option(id, id))];
    byId("manage-weights").replaceChildren(...options("as chosen for new runs"));
    byId("manage-chosen").replaceChildren(...options("the newest"));
    byId("manage-chosen").value = chosen ?? "";
  }

  #redraw() {
    this.drawn = "";
    if (this.run && !byId("side").hidden) this.draw({ newest: this.run });
  }

  #facts(run) {
    const facts = [
      ["Run", run.uid],
      ["Plan", run.plan],
      ["Sample", run.sample],
      [
        "Map",
        run.shape &&
          `${run.shape[0]} × ${run.shape[1]} pixels, ${run.lines.length} lines, ${run.detectors.length} detectors`,
      ],
      ["Dwell", run.dwell_s && `${run.dwell_s} s a pixel`],
      ["Began", clock(run.time_start)],
      ["Took", run.time_stop && duration(run.time_stop - run.time_start)],
      ["Weights", run.denoise.model],
      ["Tiled", run.publish?.tiled_path],
      ["Kept", run.pinned ? "yes: deleted neither by its age nor by hand" : ""],
    ];
    const parts = facts
      .filter(([, value]) => value)
      .flatMap(([name, value]) => [
        Object.assign(document.createElement("dt"), { textContent: name }),
        Object.assign(document.createElement("dd"), { textContent: String(value) }),
      ]);
    byId("manage-facts").replaceChildren(...parts);
  }

  #denoise() {
    const budget = byId("manage-budget");
    if (!budget.checkValidity()) {
      this.said = "▲ seconds of fine-tuning: 0 to 3600, or nothing for what a live run gets";
      return this.#redraw();
    }
    const body = {
      weights: byId("manage-weights").value || null,
      budget_s: budget.value ? budget.valueAsNumber : null,
    };
    return this.#ask("POST", `runs/${this.#uid}/denoise`, body);
  }

  #confirm() {
    const { run } = this;
    const name = run.scan_id === null ? `run ${run.uid.slice(0, 8)}` : `scan ${run.scan_id}`;
    byId("delete-text").textContent =
      `Delete ${name} (${run.plan}, ${clock(run.time_start)}) for good? Its counts, maps, history and report here and its node in Tiled go. ` +
      "Files of the detector and other copies stay.";
    byId("delete").showModal();
    byId("delete-no").focus();
  }

  async #ask(method, path, body) {
    this.said = "";
    try {
      if (!this.me.csrf) this.me = await getWhoami();
      const { data } = await change(method, path, body, this.me.csrf);
      if (data.type === "action") this.said = `${DOING[data.attributes.action] ?? data.attributes.action}: asked`;
    } catch (error) {
      this.said = `▲ ${error.message}`;
    }
    this.#redraw();
  }
}
