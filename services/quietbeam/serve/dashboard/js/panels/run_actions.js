// What may be done with a run, and how its actions go, in words.

/** @type {Record<string, string>} */
const ACTIONS = {
  ...{ denoise: "denoise again", pin: "pin", unpin: "unpin", delete: "delete" },
  choose_weights: "choose weights",
};

const NO_WRITE = "your key may not change anything (it lacks the scope write:data)";
const NO_DELETE = "your key may not delete runs";

/** @param {string} action */
export function actionName(action) {
  return ACTIONS[action] ?? action;
}

/**
 * Why each change is not possible now; empty where it is.
 * @param {Pick<Run, "ended" | "state" | "pinned" | "actions">} run
 * @param {string[]} scopes of the key
 */
export function refusals(run, scopes) {
  const noWrite = scopes.includes("write:data") ? "" : NO_WRITE;
  const noDelete = scopes.includes("delete:data") ? "" : `${NO_DELETE} (it lacks the scope delete:data)`;
  const measured = run.ended || run.state === "stale" ? "" : "the run is still measured";
  const requested = (/** @type {string[]} */ ...names) =>
    run.actions.some(({ action }) => names.includes(action)) ? "it was asked for already" : "";
  const pinned = run.pinned ? "Run is pinned. Unpin it first." : "";
  const busy = run.actions.length ? "Another action is running." : "";
  const first = (/** @type {string[]} */ ...reasons) => reasons.find(Boolean) ?? "";
  return {
    denoise: first(noWrite, measured, requested("denoise")),
    choose: noWrite,
    pin: first(noWrite, requested("pin", "unpin")),
    delete: first(noDelete, measured, pinned, busy),
  };
}

/**
 * What the key may not do, in a sentence; empty where it may do everything.
 * @param {string[]} scopes of the key
 */
export function limitsText(scopes) {
  if (!scopes.includes("write:data")) return `${NO_WRITE}.`;
  return scopes.includes("delete:data") ? "" : `${NO_DELETE}.`;
}

/**
 * "denoise again: running, reason (asked by somebody)".
 * @param {Action} action
 */
export function actionText({ action, state, reason, by }) {
  return `${actionName(action)}: ${state}${reason ? `, ${reason}` : ""} (asked by ${by})`;
}

/**
 * How an action ended; empty while it goes on.
 * @param {{action: string, state: string, reason?: string}} event
 */
export function outcomeText({ action, state, reason }) {
  if (state === "failed") return `${actionName(action)} failed: ${reason}`;
  return state === "done" ? `${actionName(action)}: done` : "";
}
