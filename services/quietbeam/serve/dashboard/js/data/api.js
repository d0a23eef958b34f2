// The conversation with the server: JSON, stacked maps, and one event stream that comes back by itself.

const API = "api/v1";
const SILENCE_MS = 16000;

export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function ask(path, more = {}) {
  const response = await fetch(`${API}/${path}`, { cache: "no-cache", ...more });
  if (response.ok) return response;
  if (response.status === 401) location.reload(); // the session ended: the server shows its sign-in page
  let detail = response.statusText;
  try {
    detail = (await response.json()).detail ?? detail;
  } catch {
    // a proxy's page, not ours
  }
  throw new ApiError(response.status, detail);
}

/** A run's attributes, with the links of the server's answer. */
export async function getRun(uid) {
  const { data, links, meta } = await (await ask(`runs/${encodeURIComponent(uid)}`)).json();
  const actions = (meta?.actions ?? []).map((action) => action.attributes ?? action);
  return { ...data.attributes, links: links ?? {}, actions };
}

/** Whose key this is: {name, scopes, csrf}. */
export async function getWhoami() {
  return (await (await ask("auth/whoami")).json()).data.attributes;
}

/** The installed weights, and which of them new runs start from (null: the newest). */
export async function getModels() {
  const { data, meta } = await (await ask("models")).json();
  return { models: data, chosen: meta.chosen };
}

/** Ask for a change; `csrf` is the token of `getWhoami`. Return the answer. */
export async function change(method, path, body, csrf) {
  const headers = { "x-csrf": csrf ?? "", ...(body === undefined ? {} : { "content-type": "application/json" }) };
  return (await ask(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) })).json();
}

/** What the wanted SNR takes, per line; null before there is evidence. */
export async function getAdvice(uid, snr) {
  return (await (await ask(`runs/${encodeURIComponent(uid)}/advice?snr=${snr}`)).json()).data;
}

/** Runs, newest first, from `offset` on: {runs, count}; `count` is how many there are in all. */
export async function getRuns(limit = 200, offset = 0) {
  const body = await (await ask(`runs?page[limit]=${limit}&page[offset]=${offset}`)).json();
  return { runs: body.data.map((run) => run.attributes), count: body.meta.count };
}

/** The states of a run's maps so far, oldest first. */
export async function getHistory(uid) {
  return (await (await ask(`runs/${encodeURIComponent(uid)}/history`)).json()).data.map((state) => state.attributes);
}

/** The health of every detector, with its place on the detector where that is known. */
export async function getDetectors(uid) {
  return (await (await ask(`runs/${encodeURIComponent(uid)}/detectors`)).json()).data.map(({ id, attributes }) => ({
    name: id,
    ...attributes,
  }));
}

/** All lines of a kind: {lines, rows, cols, data: Float32Array, version}; every `stride`-th pixel; of an earlier version. */
export async function getStack(uid, kind, stride, version = null) {
  const slice = stride > 1 ? `&slice=:,::${stride},::${stride}` : "";
  const state = version === null ? "" : `&version=${version}`;
  const response = await ask(`runs/${encodeURIComponent(uid)}/maps/${kind}?format=octet-stream${slice}${state}`);
  const [lines, rows, cols] = response.headers.get("x-shape").split(",").map(Number);
  const data = new Float32Array(await response.arrayBuffer());
  return { lines, rows, cols, data, stride, version: Number(response.headers.get("x-version")) };
}

/** Calls `onEvent(type, data)` and `onState("connecting" | "live" | "lost")`; reconnects for ever. */
export class Events {
  constructor(onEvent, onState) {
    this.onEvent = onEvent;
    this.onState = onState;
    this.wait = 500;
    this.lastAt = performance.now();
    setInterval(() => this.#watch(), 1000);
    this.#open();
  }

  #open() {
    this.source?.close();
    const source = new EventSource(`${API}/events`);
    this.source = source;
    this.lastAt = performance.now();
    this.onState("connecting");
    const take = (message) => {
      this.lastAt = performance.now();
      this.wait = 500;
      const data = message.data ? JSON.parse(message.data) : {};
      if (message.type === "hello" || message.type === "heartbeat") this.onState(data.redis ? "live" : "stalled");
      this.onEvent(message.type, data);
    };
    for (const type of ["hello", "heartbeat", "reset", "run", "row", "map", "evidence", "warning", "action"]) {
      source.addEventListener(type, take);
    }
    source.onerror = () => {
      if (source !== this.source) return;
      this.onState("lost");
      if (source.readyState === EventSource.CLOSED) this.#later();
    };
  }

  #later() {
    this.source?.close();
    this.source = null;
    setTimeout(() => this.#open(), this.wait);
    this.wait = Math.min(8000, this.wait * 2);
  }

  #watch() {
    if (this.source && performance.now() - this.lastAt > SILENCE_MS) {
      this.onState("lost");
      this.#later();
    }
  }
}
