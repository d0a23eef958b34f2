// A real HTTP server on this machine, which answers the page's requests as a test says.

import { createServer } from "node:http";
import { after, before, beforeEach } from "node:test";

const API = "/api/v1/";

/** The answers by path without query, and the requests so far; both are empty at the begin of each test. */
export const api = { routes: {}, requests: [] };

const realFetch = globalThis.fetch;
const server = createServer((request, response) => {
  const url = new URL(request.url, "http://localhost");
  const path = url.pathname.replace(API, "");
  api.requests.push(`${request.method} ${path}${url.search}`);
  const answer = api.routes[path] ?? json({ detail: `no ${path}` }, 404);
  answer(request, response);
});

/** An answer in JSON. */
export function json(body, status = 200) {
  return (_request, response) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(body));
  };
}

/** The maps of one line of 2 x 2 pixels. */
export function maps(values, version) {
  return (_request, response) => {
    response.writeHead(200, { "x-shape": "1,2,2", "x-version": String(version) });
    response.end(Buffer.from(Float32Array.from(values).buffer));
  };
}

/** A run as the API describes it. */
export function runOf(uid, more = {}) {
  return {
    ...{ uid, shape: [2, 2], lines: ["Fe_Ka"], kind: "counts", maps_version: 3, evidence: null, state: "running" },
    progress: { rows: 2, rows_measured: 1, pixels: 4, pixels_measured: 2 },
    denoise: { state: "live", reason: "", rows: 1, lag_s: null, model: "m" },
    ...more,
  };
}

/** Serve the API during the tests of a file. */
export function serve() {
  before(async () => {
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const base = `http://127.0.0.1:${server.address().port}/`;
    globalThis.fetch = (path, options) => realFetch(new URL(path, base), options); // addresses of the page are relative
  });
  after(() => {
    globalThis.fetch = realFetch;
    server.close();
    server.closeAllConnections();
  });
  beforeEach(() => {
    api.requests = [];
    api.routes = {};
  });
}
