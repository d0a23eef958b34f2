// Fetches what changed, one fetch of each kind at a time; while it is busy the newest request wins.

import { ApiError, getAdvice, getRun, getRuns, getStack } from "./api.js";

const KINDS = ["raw", "denoised", "uncertainty"];
const MAX_VALUES = 6e6; // a kind, all lines; larger maps are thinned out
const REST_MS = 60;

export class Loader {
  /** `wantedSnr()` is asked with every load. */
  constructor(wantedSnr, onFrame, onError) {
    this.wantedSnr = wantedSnr;
    this.onFrame = onFrame;
    this.onError = onError;
    this.busy = false;
    this.pending = null;
    this.seen = "";
    this.advised = "";
    this.advice = null;
    this.anyRun = false;
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
    if (uid === "latest" && !this.anyRun) {
      // The list may be empty; `latest` without a run would be a 404, which browsers log as an error.
      this.anyRun = (await getRuns(1)).length > 0;
      if (!this.anyRun) return { run: null, stacks: null };
    }
    const run = await getRun(uid);
    run.advice = await this.#advise(run);
    const seen = `${run.uid} ${run.maps_version} ${run.progress.pixels_measured}`;
    if (!run.shape || !run.progress.pixels_measured || seen === this.seen) return { run, stacks: null };
    const [rows, cols] = run.shape;
    const stride = Math.max(1, Math.ceil(Math.sqrt((rows * cols * run.lines.length) / MAX_VALUES)));
    try {
      const found = await Promise.all(KINDS.map((kind) => getStack(run.uid, kind, stride)));
      this.seen = seen;
      return { run, stacks: Object.fromEntries(KINDS.map((kind, i) => [kind, found[i]])) };
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return { run, stacks: null, missing: error.message };
      throw error;
    }
  }

  async #advise(run) {
    const snr = this.wantedSnr();
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
