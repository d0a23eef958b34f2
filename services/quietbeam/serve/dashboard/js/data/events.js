// The event stream of the server (SSE). It reconnects by itself, also after silence.

import { EVENTS_URL } from "./api.js";

const TYPES = ["hello", "heartbeat", "reset", "run", "row", "map", "evidence", "warning", "action"];
const SILENCE_MS = 16000; // the server sends a heartbeat every five seconds
const WAIT_MS = { first: 500, most: 8000 };

/**
 * The data of an event; events without data have an empty object.
 * @param {{data?: string}} message
 * @returns {Record<string, any>}
 */
export function eventData({ data }) {
  return data ? JSON.parse(data) : {};
}

export class Events {
  /**
   * @param {(type: string, data: Record<string, any>) => void} onEvent
   * @param {(state: ConnectionState) => void} onState
   * @param {string} [url]
   */
  constructor(onEvent, onState, url = EVENTS_URL) {
    this.url = url;
    this.onEvent = onEvent;
    this.onState = onState;
    this.wait = WAIT_MS.first;
    this.heardAt = performance.now();
    /** @type {EventSource | null} */
    this.source = null;
    setInterval(() => this.#watch(), 1000);
    this.#connect();
  }

  #connect() {
    this.source?.close();
    const source = new EventSource(this.url);
    this.source = source;
    this.heardAt = performance.now();
    this.onState("connecting");
    for (const type of TYPES) source.addEventListener(type, (message) => this.#receive(message));
    source.onerror = () => {
      if (source !== this.source) return;
      this.onState("lost");
      if (source.readyState === EventSource.CLOSED) this.#reconnect();
    };
  }

  /** @param {MessageEvent} message */
  #receive(message) {
    this.heardAt = performance.now();
    this.wait = WAIT_MS.first;
    const data = eventData(message);
    if (message.type === "hello" || message.type === "heartbeat") this.onState(data.redis ? "live" : "stalled");
    this.onEvent(message.type, data);
  }

  #reconnect() {
    this.source?.close();
    this.source = null;
    setTimeout(() => this.#connect(), this.wait);
    this.wait = Math.min(WAIT_MS.most, this.wait * 2);
  }

  #watch() {
    if (!this.source || performance.now() - this.heardAt <= SILENCE_MS) return;
    this.onState("lost");
    this.#reconnect();
  }
}
