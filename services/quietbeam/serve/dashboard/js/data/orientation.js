// How a run lies on the screen. The server sends maps in the order of the scan; cards and panels work with the picture.

/** @typedef {[vertical: number, horizontal: number]} Pair */
/** @typedef {{display?: Display | null, shape: Pair | null}} ShownRun */

/**
 * A (row, col) pair as (vertical, horizontal), or back.
 * @template T
 * @param {Display | null | undefined} display
 * @param {[T, T]} pair
 * @returns {[T, T]}
 */
const turned = (display, [a, b]) => (display?.transpose ? [b, a] : [a, b]);

/**
 * Whether the (row, col) axes of the scan are drawn backwards.
 * @param {Display | null | undefined} display
 * @returns {[rows: boolean, cols: boolean]}
 */
export const flipsOf = (display) => [display?.flip_rows ?? false, display?.flip_cols ?? false];

/**
 * A run with the shape, steps and origin of its picture, as (vertical, horizontal).
 * @template {Run} T
 * @param {T} run
 * @returns {T}
 */
export function shownRun(run) {
  const { display, shape, step, origin } = run;
  if (!display || !shape) return run;
  const flips = flipsOf(display);
  const along = (/** @type {(axis: 0 | 1) => number} */ value) => turned(display, [value(0), value(1)]);
  return {
    ...run,
    shape: turned(display, shape),
    step: step && along((axis) => (flips[axis] ? -step[axis] : step[axis])),
    origin: origin && along((axis) => origin[axis] + (flips[axis] && step ? (shape[axis] - 1) * step[axis] : 0)),
  };
}

/**
 * A stack of maps as it is shown.
 * @param {Stack} stack
 * @param {Display | null | undefined} display
 * @returns {Stack}
 */
export function shownStack(stack, display) {
  const [flipRows, flipCols] = flipsOf(display);
  if (!display || !(flipRows || flipCols || display.transpose)) return stack;
  const { lines, rows, cols, data } = stack;
  const [height, width] = turned(display, [rows, cols]);
  const [down, right] = turned(display, [flipRows ? -cols : cols, flipCols ? -1 : 1]); // from pixel to pixel in `data`
  const corner = (flipRows ? (rows - 1) * cols : 0) + (flipCols ? cols - 1 : 0);
  const out = new Float32Array(data.length);
  let i = 0;
  for (let line = 0; line < lines; line++) {
    for (let v = 0; v < height; v++) {
      let from = line * rows * cols + corner + v * down;
      for (let h = 0; h < width; h++, from += right) out[i++] = data[from];
    }
  }
  return { ...stack, rows: height, cols: width, data: out };
}

/**
 * The first row and col of every `stride`-th, so that an axis that is drawn backwards begins with its last pixel.
 * @param {Run} run as the server sends it
 * @param {number} stride
 * @returns {Pair}
 */
export function firstPixel({ shape, display }, stride) {
  const flips = flipsOf(display);
  const first = (/** @type {0 | 1} */ axis) => (shape && flips[axis] ? (shape[axis] - 1) % stride : 0);
  return [first(0), first(1)];
}

/**
 * Row and col of the scan of a pixel of the picture.
 * @param {ShownRun} run
 * @param {Pixel} pixel
 * @returns {Pixel}
 */
export function scanPixel({ display, shape }, pixel) {
  if (!display || !shape) return pixel;
  const [rows, cols] = turned(display, shape);
  const [row, col] = turned(display, [pixel.row, pixel.col]);
  const [flipRows, flipCols] = flipsOf(display);
  return { row: flipRows ? rows - 1 - row : row, col: flipCols ? cols - 1 - col : col };
}

/**
 * The pixel of the picture of a row and col of the scan.
 * @param {ShownRun} run
 * @param {Pixel} pixel
 * @returns {Pixel}
 */
export function shownPixel({ display, shape }, pixel) {
  if (!display || !shape) return pixel;
  const [rows, cols] = turned(display, shape);
  const [flipRows, flipCols] = flipsOf(display);
  const at = /** @type {Pair} */ ([
    flipRows ? rows - 1 - pixel.row : pixel.row,
    flipCols ? cols - 1 - pixel.col : pixel.col,
  ]);
  const [row, col] = turned(display, at);
  return { row, col };
}

/**
 * Origin and steps of the picture in pixels of the scan, for runs whose positions are not known.
 * @param {ShownRun} run
 * @returns {{origin: Pair, step: Pair}}
 */
export function pixelAxes(run) {
  const at = (/** @type {number} */ row, /** @type {number} */ col) => {
    const pixel = scanPixel(run, { row, col });
    return turned(run.display, [pixel.row, pixel.col]);
  };
  const [origin, next] = [at(0, 0), at(1, 1)];
  return { origin, step: [next[0] - origin[0], next[1] - origin[1]] };
}

/**
 * Names of the (vertical, horizontal) axis: of the motors, where they are known.
 * @param {{display?: Display | null, axes?: string[]}} run
 */
export function axisNames({ display, axes = [] }) {
  return turned(display, [axes[0] || "slow axis", axes[1] || "fast axis"]);
}
