// Fetches what changed, one load at a time; while a load is under way the newest request wins.

import { getAdvice, getRun, getRuns, getStack, getUnits, isNotFound, messageOf } from "./api.js";
import { maskLaterRows, runInState } from "./earlier.js";
import { firstPixel, shownRun, shownStack } from "./orientation.js";

const MAX_VALUES = 6e6; // a kind, all lines; larger maps are thinned out
const REST_MS = 60;

export class Loader {
  /**
   * Each load reads the options anew: the wanted SNR, the unit, and whether local chi-square is shown.
   * @param {Pick<OptionValues, "snr" | "kinds" | "unit">} options
   * @param {(frame: LoadedFrame) => void} onFrame
   * @param {(error: unknown) => void} onError
   */
  constructor(options, onFrame, onError) {
    this.options = options;
    this.onFrame = onFrame;
    this.onError = onError;
    this.busy = false;
    /** @type {string | null} uid of the next load */
    this.pending = null;
    this.loaded = ""; // key of the maps that were fetched last
    this.adviceKey = "";
    /** @type {RunAdvice | null} */
    this.advice = null;
    this.unitKey = "";
    /** @type {UnitInfo | null} */
    this.unit = null;
    this.hasRun = false;
    this.runsMayVanish = false;
    /** @type {MapState | null} */
    this.earlier = null;
  }

  /**
   * Show an earlier state of a run, or null for the newest.
   * @param {MapState | null} earlier
   * @param {string} uid
   */
  showState(earlier, uid) {
    this.earlier = earlier;
    this.request(uid, { force: true });
  }

  /** Runs are being deleted: from now on check that there is a run before requesting the latest. */
  expectDeletion() {
    this.runsMayVanish = true;
  }

  /**
   * Load the newest state of a run; its maps only when they changed, or by `force`.
   * @param {string} uid or "latest"
   * @param {{force?: boolean}} [options]
   */
  request(uid, { force = false } = {}) {
    if (force) this.loaded = "";
    this.pending = uid;
    if (!this.busy) this.#run();
  }

  async #run() {
    this.busy = true;
    while (this.pending !== null) {
      const uid = this.pending;
      this.pending = null;
      try {
        const frame = await this.#load(uid);
        if (this.pending === null || this.pending === uid) this.onFrame(frame);
      } catch (error) {
        this.onError(error);
      }
      await new Promise((resolve) => setTimeout(resolve, REST_MS));
    }
    this.busy = false;
  }

  /**
   * @param {string} uid
   * @returns {Promise<LoadedFrame>}
   */
  async #load(uid) {
    if (uid === "latest" && !(await this.#anyRun())) return { run: null, stacks: null };
    const run = await getRun(uid);
    if (this.earlier && this.earlier.uid !== run.uid) this.earlier = null;
    const { earlier } = this; // another state may be chosen while this one loads
    run.advice = earlier ? null : await this.#getAdvice(run);
    run.unit = earlier ? null : await this.#getUnit(run);
    const newest = shownRun(run);
    const frame = { run: earlier ? runInState(newest, earlier) : newest, earlier, newest };
    try {
      return { ...frame, stacks: await this.#getStacks(run, earlier) };
    } catch (error) {
      if (!isNotFound(error)) throw error;
      if (!earlier) return { ...frame, stacks: null, missing: messageOf(error) };
      this.earlier = null; // the server dropped this state meanwhile
      this.pending ??= uid;
      return { run: newest, stacks: null };
    }
  }

  /**
   * The maps of a run; null where nothing is measured, or nothing changed.
   * @param {Run} run
   * @param {MapState | null} earlier
   */
  async #getStacks(run, earlier) {
    const withChi2 = !earlier && this.options.kinds.includes("chi2");
    const shown = `${run.step} ${JSON.stringify(run.display)}`;
    const key = earlier ? `${run.uid} state ${earlier.version} ${shown}` : `${newestKey(run, withChi2)} ${shown}`;
    if (!run.shape || !run.progress.pixels_measured || key === this.loaded) return null;
    const stacks = await getStacks(run, strideOf(run.shape, run.lines.length), earlier, withChi2);
    this.loaded = key;
    return stacks;
  }

  /** `latest` without any run would be a 404, which browsers log as an error of the page: check the list before. */
  async #anyRun() {
    if (this.runsMayVanish || !this.hasRun) this.hasRun = (await getRuns(1)).count > 0;
    return this.hasRun;
  }

  /**
   * The wanted unit, fetched when maps or unit changed; null for counts.
   * @param {Run} run
   */
  async #getUnit(run) {
    const { unit } = this.options;
    if (unit === "counts" || !run.shape) return null;
    const key = `${run.uid} ${run.maps_version} ${unit}`;
    if (key === this.unitKey) return this.unit;
    try {
      this.unit = (await getUnits(run.uid)).find(({ units }) => units === unit) ?? null;
      this.unitKey = key;
    } catch (error) {
      this.unit = { units: unit, available: false, reason: messageOf(error), lines: [], notes: [] };
    }
    return this.unit;
  }

  /**
   * Advice for the wanted SNR, fetched when maps or SNR changed; null where it fails: the maps do not wait for it.
   * @param {Run} run
   */
  async #getAdvice(run) {
    const { snr } = this.options;
    const key = `${run.uid} ${run.maps_version} ${snr}`;
    if (key === this.adviceKey) return this.advice;
    try {
      this.advice = run.evidence ? await getAdvice(run.uid, snr) : null;
      this.adviceKey = key;
    } catch {
      this.advice = null;
    }
    return this.advice;
  }
}

/**
 * What the newest maps depend on.
 * @param {Run} run
 * @param {boolean} withChi2
 */
function newestKey(run, withChi2) {
  return `${run.uid} ${run.maps_version} ${run.progress.pixels_measured} ${withChi2}`;
}

/**
 * Every how many pixels are fetched, so that a kind is at most 6 million values.
 * @param {[number, number]} shape
 * @param {number} lines
 */
export function strideOf([rows, cols], lines) {
  return Math.max(1, Math.ceil(Math.sqrt((rows * cols * lines) / MAX_VALUES)));
}

/**
 * @param {Run} run as the server sends it
 * @param {number} stride
 * @param {MapState | null} earlier
 * @param {boolean} withChi2
 * @returns {Promise<Stacks>}
 */
async function getStacks(run, stride, earlier, withChi2) {
  const version = earlier?.version ?? null;
  const first = firstPixel(run, stride);
  const get = async (/** @type {MapKind} */ kind, /** @type {number | null} */ ofVersion) =>
    shownStack(await getStack(run.uid, kind, stride, ofVersion, first), run.display);
  const [raw, denoised, uncertainty, chi2] = await Promise.all([
    get("raw", null),
    get("denoised", version),
    get("uncertainty", version),
    withChi2 ? orNone(get("chi2", null)) : undefined,
  ]);
  if (!earlier) return { raw, denoised, uncertainty, chi2 };
  maskLaterRows({ raw, denoised, uncertainty });
  return { raw, denoised, uncertainty, chi2: null }; // earlier states keep no chi-square
}

/**
 * Local chi-square; null for runs of older versions, which have none.
 * @param {Promise<Stack>} stack
 */
async function orNone(stack) {
  try {
    return await stack;
  } catch (error) {
    if (isNotFound(error)) return null;
    throw error;
  }
}
