// Fetches what changed, one fetch of each kind at a time; while it is busy the newest request wins.

import { ApiError, getAdvice, getRun, getRuns, getStack } from "./api.js";

const KINDS = ["raw", "denoised", "uncertainty"];
const MAX_VALUES = 6e6; // a kind, all lines; larger maps are thinned out
const REST_MS = 60;

export class Loader {
  /** `options` are looked at with every load: the wanted SNR, and whether local chi-square is shown. */
  constructor(options, onFrame, onError) {
    this.options = options;
    this.onFrame = onFrame;
    this.onError = onError;
    this.busy = false;
    this.pending = null;
    this.seen = "";
    this.advised = "";
    this.advice = null;
    this.anyRun = false;
    this.doubts = false;
    this.earlier = null;
  }

  /** Show an earlier state of a run ({uid, version, ...}), or null for the newest. */
  showState(earlier, uid) {
    this.earlier = earlier;
    this.request(uid, { force: true });
  }

  /** Runs are deleted: ask from now on whether there is one before asking for the latest. */
  doubt() {
    this.doubts = true;
  }

  /** Ask for the newest state of a run. */
  request(uid, { force = false } = {}) {
    if (force) this.seen = "";
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
        this.onError(error, uid);
      }
      await new Promise((resolve) => setTimeout(resolve, REST_MS));
    }
    this.busy = false;
  }

  async #load(uid) {
    if (uid === "latest" && (this.doubts || !this.anyRun)) {
      // The list may be empty; `latest` without a run would be a 404, which browsers log as an error.
      this.anyRun = (await getRuns(1)).count > 0;
      if (!this.anyRun) return { run: null, stacks: null };
    }
    const run = await getRun(uid);
    if (this.earlier && this.earlier.uid !== run.uid) this.earlier = null;
    const earlier = this.earlier ?? undefined;
    run.advice = earlier ? null : await this.#advise(run);
    const chi2 = !earlier && this.options.kinds.includes("chi2");
    const seen = earlier
      ? `${run.uid} state ${earlier.version}`
      : `${run.uid} ${run.maps_version} ${run.progress.pixels_measured} ${chi2}`;
    const frame = { run: earlier ? asItWas(run, earlier) : run, stacks: null, earlier, newest: run };
    if (!run.shape || !run.progress.pixels_measured || seen === this.seen) return frame;
    const [rows, cols] = run.shape;
    const stride = Math.max(1, Math.ceil(Math.sqrt((rows * cols * run.lines.length) / MAX_VALUES)));
    const version = (kind) => (kind === "raw" ? null : (earlier?.version ?? null));
    try {
      const more = chi2 ? kept(run.uid, "chi2", stride) : earlier && null; // null: there is none; undefined: nobody looks
      const found = await Promise.all([...KINDS.map((kind) => getStack(run.uid, kind, stride, version(kind))), more]);
      this.seen = seen;
      const stacks = Object.fromEntries([...KINDS, "chi2"].map((kind, i) => [kind, found[i]]));
      if (earlier) onlyWhere(stacks.raw.data, stacks.denoised.data);
      return { ...frame, stacks };
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 404)) throw error;
      if (!earlier) return { ...frame, missing: error.message };
      this.earlier = null; // thinned out meanwhile
      this.pending ??= uid;
      return { run, stacks: null };
    }
  }

  async #advise(run) {
    const snr = this.options.snr;
    const wanted = `${run.uid} ${run.maps_version} ${snr}`;
    if (wanted === this.advised) return this.advice;
    try {
      this.advice = run.evidence ? await getAdvice(run.uid, snr) : null;
      this.advised = wanted;
    } catch {
      this.advice = null; // the maps do not wait for it
    }
    return this.advice;
  }
}

/** Maps that runs of older versions do not have: null there. */
async function kept(uid, kind, stride) {
  try {
    return await getStack(uid, kind, stride);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

/** The run as its maps say it was: what is known of an earlier state, nothing of what is known only now. */
function asItWas(run, { rows, version, lines, state }) {
  const was = Object.entries(lines ?? {}).map(([line, { dwell_gain, low, high, estimator, verdict }]) => ({
    line,
    estimator,
    verdict,
    dwell_gain,
    dwell_gain_low: low,
    dwell_gain_high: high,
  }));
  const evidence = was.length
    ? { model: run.evidence?.model, rows, lines: was, final: state === "final", notes: [] }
    : null;
  return { ...run, evidence, maps_version: version, denoise: { ...run.denoise, rows } };
}

/** Rows that came later than the state are not shown in raw either. */
function onlyWhere(raw, denoised) {
  for (let i = 0; i < raw.length; i++) if (denoised[i] !== denoised[i]) raw[i] = NaN;
}
