// Data that an open panel shows beside the maps: fetched again when the run has changed, at most every other second.

import { messageOf } from "./api.js";

const REST_MS = 2000;

/** @template T */
export class Fetched {
  /**
   * `get(uid)` fetches; `onChange()` is called when there is a new value or problem.
   * @param {(uid: string) => Promise<T>} get
   * @param {() => void} onChange
   */
  constructor(get, onChange) {
    this.get = get;
    this.onChange = onChange;
    this.uid = "";
    this.key = "";
    this.fetchedAt = -REST_MS;
    /** @type {T | null} */
    this.value = null;
    this.problem = "";
    this.busy = false;
  }

  /**
   * Fetch `value` of a run unless it is the one of this `key` already.
   * @param {string} uid
   * @param {string} key
   */
  request(uid, key) {
    if (this.busy || (uid === this.uid && key === this.key)) return;
    this.busy = true;
    const wait = uid === this.uid ? Math.max(0, this.fetchedAt + REST_MS - performance.now()) : 0;
    setTimeout(() => this.#fetch(uid, key), wait);
  }

  /**
   * @param {string} uid
   * @param {string} key
   */
  async #fetch(uid, key) {
    try {
      this.value = await this.get(uid);
      this.problem = "";
    } catch (error) {
      this.value = null;
      this.problem = messageOf(error);
    }
    [this.uid, this.key, this.fetchedAt, this.busy] = [uid, key, performance.now(), false];
    this.onChange();
  }
}
