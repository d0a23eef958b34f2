// The tested modules lie in another folder; tests import them through `module`.

const ROOT = new URL("../../services/quietbeam/serve/dashboard/js/", import.meta.url);

/** The folder of the dashboard's modules. */
export const MODULES = ROOT;

/** Import a module of the dashboard by its path below js/. */
export const module = (path) => import(new URL(path, ROOT));

/** A stack (line, row, col) as the API delivers it. */
export function stack(lines, rows, cols, values, stride = 1) {
  return { lines, rows, cols, data: Float32Array.from(values), stride, version: 1 };
}
