// Something that an open panel shows beside the maps: fetched again when the run has changed, at most every other second.

const REST_MS = 2000;

export class Fetched {
  /** `get(uid)` fetches; `redraw()` is called when there is something new. */
  constructor(get, redraw) {
    this.get = get;
    this.redraw = redraw;
    this.uid = "";
    this.key = "";
    this.at = -REST_MS;
    this.value = null;
    this.problem = "";
    this.busy = false;
  }

  /** Ask for what belongs to `key` of a run; `value` follows later. */
  want(uid, key) {
    if (this.busy || (uid === this.uid && key === this.key)) return;
    this.busy = true;
    const wait = uid === this.uid ? Math.max(0, this.at + REST_MS - performance.now()) : 0;
    setTimeout(() => this.#fetch(uid, key), wait);
  }

  async #fetch(uid, key) {
    try {
      this.value = await this.get(uid);
      this.problem = "";
    } catch (error) {
      this.value = null;
      this.problem = error.message;
    }
    [this.uid, this.key, this.at, this.busy] = [uid, key, performance.now(), false];
    this.redraw();
  }
}
