// The events of the server in this tab: from the stream that all tabs share, or, where there is none, from its own.

import { Events } from "./events.js";

const TICK_MS = 1000;
const ASK_TICKS = 20; // the worker has told nothing for so long: ask it
const GONE_TICKS = 30; // it does not answer either

/**
 * Follow the events. Time is counted in ticks, for a tab in the background may stand still for minutes.
 * @param {(type: string, data: Record<string, any>) => void} onEvent
 * @param {(state: ConnectionState) => void} onState
 */
export function followEvents(onEvent, onState) {
  if (typeof SharedWorker === "undefined") {
    new Events(onEvent, onState);
    return;
  }
  const worker = new SharedWorker(new URL("events_worker.js", import.meta.url), { type: "module" });
  const { port } = worker;
  let silent = 0;
  let alone = false;

  const goAlone = () => {
    if (alone) return;
    alone = true;
    port.close();
    clearInterval(timer);
    new Events(onEvent, onState);
  };
  const timer = setInterval(() => {
    silent += 1;
    if (silent === ASK_TICKS) port.postMessage("are you there?");
    if (silent >= GONE_TICKS) goAlone();
  }, TICK_MS);
  worker.onerror = goAlone; // the browser cannot run it
  port.onmessage = ({ data: message }) => {
    silent = 0;
    if (alone) return;
    if (message.state) onState(message.state);
    if (message.type) onEvent(message.type, message.data);
  };
  onState("connecting");
  addEventListener("pagehide", ({ persisted }) => persisted || port.postMessage("bye"));
}
