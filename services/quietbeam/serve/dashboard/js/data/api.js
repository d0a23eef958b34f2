// Requests to the REST API, and its answers as plain objects.

const API = "api/v1";
export const EVENTS_URL = `${API}/events`;

/** An answer that is not a success; `status` is the HTTP status. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} detail
   */
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/**
 * True for the error of something that is not there.
 * @param {unknown} error
 */
export function isNotFound(error) {
  return error instanceof ApiError && error.status === 404;
}

/**
 * The message of a caught error.
 * @param {unknown} error
 */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/**
 * @param {string} path
 * @param {RequestInit} [options]
 */
async function request(path, options = {}) {
  const response = await fetch(`${API}/${path}`, { cache: "no-cache", ...options });
  if (response.ok) return response;
  if (response.status === 401) location.reload(); // the session ended: the server shows its sign-in page
  let detail = response.statusText;
  try {
    detail = (await response.json()).detail ?? detail;
  } catch {
    // the page of a proxy, no answer of the API
  }
  throw new ApiError(response.status, detail);
}

/**
 * @param {string} path
 * @returns {Promise<any>}
 */
async function getJson(path) {
  return (await request(path)).json();
}

/** @param {string} uid */
const runPath = (uid) => `runs/${encodeURIComponent(uid)}`;

/**
 * A run with the links of the server's answer and the actions that are not finished.
 * @param {string} uid or "latest"
 * @returns {Promise<Run>}
 */
export async function getRun(uid) {
  const { data, links, meta } = await getJson(runPath(uid));
  const actions = (meta?.actions ?? []).map((/** @type {any} */ action) => action.attributes ?? action);
  return { ...data.attributes, links: links ?? {}, actions };
}

/**
 * Whose key this is, what it may do, and the token for changes.
 * @returns {Promise<Principal>}
 */
export async function getWhoami() {
  return (await getJson("auth/whoami")).data.attributes;
}

/**
 * The installed weights, and which of them new runs start from (null: the newest).
 * @returns {Promise<{models: {id: string}[], chosen: string | null}>}
 */
export async function getModels() {
  const { data, meta } = await getJson("models");
  return { models: data, chosen: meta.chosen };
}

/**
 * Request a change; `csrf` is the token of `getWhoami`. Returns the answer.
 * @param {string} method
 * @param {string} path
 * @param {object | undefined} body
 * @param {string | null} csrf
 * @returns {Promise<any>}
 */
export async function requestChange(method, path, body, csrf) {
  /** @type {Record<string, string>} */
  const headers = { "x-csrf": csrf ?? "" };
  if (body === undefined) return (await request(path, { method, headers })).json();
  headers["content-type"] = "application/json";
  return (await request(path, { method, headers, body: JSON.stringify(body) })).json();
}

/**
 * How long to count for a wanted SNR, per line; null before there is evidence.
 * @param {string} uid
 * @param {number} snr
 * @returns {Promise<RunAdvice | null>}
 */
export async function getAdvice(uid, snr) {
  return (await getJson(`${runPath(uid)}/advice?snr=${snr}`)).data;
}

/**
 * How the counts of a run's maps become other units.
 * @param {string} uid
 * @returns {Promise<UnitInfo[]>}
 */
export async function getUnits(uid) {
  return (await getJson(`${runPath(uid)}/units`)).data;
}

/**
 * Runs, newest first, from `offset` on; `count` is the number of all runs.
 * @param {number} [limit]
 * @param {number} [offset]
 * @returns {Promise<{runs: RunSummary[], count: number}>}
 */
export async function getRuns(limit = 200, offset = 0) {
  const body = await getJson(`runs?page[limit]=${limit}&page[offset]=${offset}`);
  return { runs: body.data.map((/** @type {any} */ run) => run.attributes), count: body.meta.count };
}

/**
 * The states of a run's maps so far, oldest first.
 * @param {string} uid
 * @returns {Promise<MapState[]>}
 */
export async function getHistory(uid) {
  return (await getJson(`${runPath(uid)}/history`)).data.map((/** @type {any} */ state) => state.attributes);
}

/**
 * The health of every detector element, with its position where that is known.
 * @param {string} uid
 * @returns {Promise<Detector[]>}
 */
export async function getDetectors(uid) {
  const { data } = await getJson(`${runPath(uid)}/detectors`);
  return data.map((/** @type {any} */ { id, attributes }) => ({ name: id, ...attributes }));
}

/**
 * The maps of all lines of a kind: every `stride`-th pixel, of an earlier version where one is given.
 * `first` is the (row, col) of the first of these pixels.
 * @param {string} uid
 * @param {MapKind} kind
 * @param {number} stride
 * @param {number | null} [version]
 * @param {[row: number, col: number]} [first]
 * @returns {Promise<Stack>}
 */
export async function getStack(uid, kind, stride, version = null, first = [0, 0]) {
  const slice = stride > 1 ? `&slice=:,${first[0] || ""}::${stride},${first[1] || ""}::${stride}` : "";
  const state = version === null ? "" : `&version=${version}`;
  const response = await request(`${runPath(uid)}/maps/${kind}?format=octet-stream${slice}${state}`);
  const [lines, rows, cols] = (response.headers.get("x-shape") ?? "").split(",").map(Number);
  const data = new Float32Array(await response.arrayBuffer());
  return { lines, rows, cols, data, stride, version: Number(response.headers.get("x-version")) };
}
