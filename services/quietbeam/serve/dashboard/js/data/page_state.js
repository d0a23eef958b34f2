// What the page shows after each load.

import { isNoMap, runName } from "./wording.js";

/** @type {PageState} */
export const NOTHING = { run: null, stacks: null, earlier: null, newest: null, number: 0, key: "" };

/**
 * The state after a load: the maps stay until newer ones come, unless their shape, lines or steps changed.
 * @param {PageState} before
 * @param {LoadedFrame & {run: Run}} loaded
 * @returns {PageState}
 */
export function nextState(before, { run, stacks, earlier = null, newest = run }) {
  const key = `${run.uid} ${run.lines} ${run.shape} ${run.step} ${JSON.stringify(run.display)}`;
  const shown = stacks ?? (key === before.key ? before.stacks : null);
  return { run, earlier, newest, stacks: shown, number: before.number + 1, key };
}

/**
 * The frame that cards and panels show; null while there is no map.
 * @param {PageState} state
 * @returns {Frame | null}
 */
export function frameOf({ run, stacks, earlier, newest, number }) {
  if (!run?.shape || !stacks) return null;
  const mapped = /** @type {MappedRun} */ (run);
  return { run: mapped, stacks, earlier, newest: newest ?? run, number };
}

/**
 * Why there is no map, in a title and a sentence.
 * @param {Run} run
 * @param {string} [missing] what the server said
 * @returns {[title: string, text: string]}
 */
export function whyNoMap(run, missing) {
  if (isNoMap(run)) return [[runName(run), run.plan].filter(Boolean).join(", ") + ": not a map", run.reason];
  const waiting = run.ended ? "This run has no measured row" : "Waiting for the first row";
  return [missing || run.reason || waiting, run.ended ? "" : "The maps appear here with the first measured row."];
}

/**
 * Whether an event concerns the run that is shown.
 * @param {string} type
 * @param {{run?: string}} data
 * @param {string} wanted uid or "latest"
 * @param {string | undefined} shown uid
 */
export function concerns(type, { run }, wanted, shown) {
  return wanted === "latest" ? type === "run" || run === shown || !shown : run === wanted;
}
