// Means along a line and in a box, with their errors. Rows and columns are map pixels.
//
// Raw counts are independent: the error of a mean is sqrt(sum) / n. Errors of neighbouring denoised pixels are not
// independent (one network saw both), so the error of their mean is taken as the mean of their errors: an upper bound.

/** @typedef {Pick<Stack, "data" | "rows" | "cols" | "stride">} Values */
/** @typedef {{raw: Values, denoised: Values, uncertainty: Values}} ValueStacks */

/**
 * The value of a line at a map pixel, of a stack that is thinned out by `stride`.
 * @param {Values} stack
 * @param {number} index of the line
 */
function lineValues({ data, rows, cols, stride }, index) {
  const values = data.subarray(index * rows * cols, (index + 1) * rows * cols);
  return (/** @type {Pixel} */ { row, col }) => values[Math.floor(row / stride) * cols + Math.floor(col / stride)];
}

/**
 * Pixels of a profile: one step a pixel from one end to the other, each with the pixels `across` it.
 * @param {[Pixel, Pixel]} ends
 * @param {number} width pixels across, odd
 * @param {number} rows
 * @param {number} cols
 */
export function profilePixels([a, b], width, rows, cols) {
  const [dr, dc] = [b.row - a.row, b.col - a.col];
  const length = Math.hypot(dr, dc);
  const n = Math.max(1, Math.round(length));
  const [ar, ac] = [-dc / (length || 1), dr / (length || 1)]; // unit vector across the line
  return Array.from({ length: n + 1 }, (_, i) => {
    const [row, col] = [a.row + (dr * i) / n, a.col + (dc * i) / n];
    /** @type {Pixel[]} */
    const across = [];
    for (let k = -(width - 1) / 2; k <= (width - 1) / 2; k++) {
      const pixel = { row: Math.round(row + k * ar), col: Math.round(col + k * ac) };
      if (pixel.row >= 0 && pixel.col >= 0 && pixel.row < rows && pixel.col < cols) across.push(pixel);
    }
    return { row: Math.round(row), col: Math.round(col), across };
  });
}

class Sums {
  constructor() {
    this.measured = 0; // pixels
    this.raw = 0;
    this.estimated = 0; // pixels
    this.denoised = 0;
    this.error = 0;
  }

  /**
   * @param {number} raw
   * @param {number} denoised
   * @param {number} error
   */
  add(raw, denoised, error) {
    if (Number.isNaN(raw)) return;
    this.measured += 1;
    this.raw += raw;
    if (Number.isNaN(denoised)) return;
    this.estimated += 1;
    this.denoised += denoised;
    this.error += error;
  }

  /**
   * Means over `n` measured pixels; null where nothing is measured or denoised, or an error is not known.
   * @param {boolean} isCounts
   */
  means(isCounts) {
    const { measured: n, raw, estimated, denoised, error } = this;
    return {
      n,
      raw: n ? raw / n : null,
      rawError: n && isCounts ? Math.sqrt(Math.max(raw, 1)) / n : null,
      denoised: estimated ? denoised / estimated : null,
      error: estimated && Number.isFinite(error) ? error / estimated : null,
    };
  }
}

/** @typedef {ReturnType<Sums["means"]>} Means */

/**
 * Means of a line over some pixels.
 * @param {ValueStacks} stacks
 * @param {number} index of the line
 * @param {Pixel[]} pixels
 * @param {boolean} isCounts
 */
export function pixelMeans({ raw, denoised, uncertainty }, index, pixels, isCounts) {
  const [rawAt, denoisedAt, errorAt] = [raw, denoised, uncertainty].map((stack) => lineValues(stack, index));
  const sums = new Sums();
  for (const pixel of pixels) sums.add(rawAt(pixel), denoisedAt(pixel), errorAt(pixel));
  return sums.means(isCounts);
}

/**
 * Means of a line in a box; of a thinned-out map over its pixels in the box.
 * @param {ValueStacks} stacks
 * @param {number} index of the line
 * @param {Box} box
 * @param {boolean} isCounts
 */
export function boxMeans({ raw, denoised, uncertainty }, index, box, isCounts) {
  const { rows, cols, stride } = raw;
  const [top, bottom] = [Math.floor(box.top / stride), Math.min(rows, Math.ceil(box.bottom / stride))];
  const [left, right] = [Math.floor(box.left / stride), Math.min(cols, Math.ceil(box.right / stride))];
  const sums = new Sums();
  for (let row = top; row < bottom; row++) {
    const first = (index * rows + row) * cols;
    for (let i = first + left; i < first + right; i++) {
      sums.add(raw.data[i], denoised.data[i], uncertainty.data[i]);
    }
  }
  return sums.means(isCounts);
}
