// One event stream for all tabs of a browser: HTTP/1.1 allows six connections to a server, and a stream keeps one.
// This file is the script of a SharedWorker; each tab has a port to it (see shared_events.js).

import { EVENTS_URL } from "./api.js";
import { Events } from "./events.js";

const url = new URL(`../../../${EVENTS_URL}`, import.meta.url).href;

/** @type {Set<MessagePort>} */
const ports = new Set();
/** @type {ConnectionState} */
let state = "connecting";
/** @type {Record<string, any> | null} */
let hello = null;

/** @param {object} message */
function tell(message) {
  for (const port of ports) port.postMessage(message);
}

globalThis.addEventListener("connect", (/** @type {any} */ { ports: [port] }) => {
  ports.add(port);
  port.onmessage = (/** @type {MessageEvent} */ { data }) => {
    if (data === "bye") ports.delete(port);
    else port.postMessage({}); // "are you there?"
  };
  port.postMessage({ state });
  if (hello) port.postMessage({ type: "hello", data: hello });
});

new Events(
  (type, data) => {
    if (type === "hello") hello = data;
    tell({ type, data });
  },
  (now) => {
    state = now;
    if (now === "lost") hello = null;
    tell({ state });
  },
  url,
);
