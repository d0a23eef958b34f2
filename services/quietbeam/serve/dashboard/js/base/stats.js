// Means along a line and in a box, with their errors. Rows and columns are map pixels.
//
// Raw counts are independent: the error of a mean is sqrt(sum) / n. Errors of neighbouring denoised pixels are not
// independent (one network saw both), so the error of their mean is taken as the mean of their errors: an upper bound.

/** One line's values of a stack (line, row, col), thinned out by `stride`. */
function lineValues({ data, rows, cols, stride }, index) {
  const values = data.subarray(index * rows * cols, (index + 1) * rows * cols);
  return (row, col) => values[Math.floor(row / stride) * cols + Math.floor(col / stride)];
}

/** Pixels of a profile: one step a pixel from `a` to `b`, each with the pixels across it. */
export function profilePixels([a, b], width, rows, cols) {
  const [dr, dc] = [b.row - a.row, b.col - a.col];
  const n = Math.max(1, Math.round(Math.hypot(dr, dc)));
  const [ar, ac] = [-dc / (Math.hypot(dr, dc) || 1), dr / (Math.hypot(dr, dc) || 1)];
  return Array.from({ length: n + 1 }, (_, i) => {
    const [row, col] = [a.row + (dr * i) / n, a.col + (dc * i) / n];
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
    [this.n, this.raw, this.m, this.denoised, this.error] = [0, 0, 0, 0, 0];
  }

  add(raw, denoised, error) {
    if (raw !== raw) return;
    this.n += 1;
    this.raw += raw;
    if (denoised !== denoised) return;
    this.m += 1;
    this.denoised += denoised;
    this.error += error;
  }

  /** {n, raw, rawError, denoised, error}; null where nothing is measured or denoised. */
  means(isCounts) {
    const { n, raw, m, denoised, error } = this;
    return {
      n,
      raw: n ? raw / n : null,
      rawError: n && isCounts ? Math.sqrt(Math.max(raw, 1)) / n : null,
      denoised: m ? denoised / m : null,
      error: m && Number.isFinite(error) ? error / m : null,
    };
  }
}

/** Means of a line over some pixels. */
export function pixelMeans(stacks, index, pixels, isCounts) {
  const [raw, denoised, error] = ["raw", "denoised", "uncertainty"].map((kind) => lineValues(stacks[kind], index));
  const sums = new Sums();
  for (const { row, col } of pixels) sums.add(raw(row, col), denoised(row, col), error(row, col));
  return sums.means(isCounts);
}

/** Means of a line in a box {top, bottom, left, right}; of a thinned-out map over the pixels that there are. */
export function boxMeans({ raw, denoised, uncertainty }, index, box, isCounts) {
  const { rows, cols, stride } = raw;
  const [top, bottom] = [Math.floor(box.top / stride), Math.ceil(box.bottom / stride)];
  const [left, right] = [Math.floor(box.left / stride), Math.ceil(box.right / stride)];
  const sums = new Sums();
  for (let row = top; row < Math.min(bottom, rows); row++) {
    const first = (index * rows + row) * cols;
    for (let i = first + left; i < first + Math.min(right, cols); i++)
      sums.add(raw.data[i], denoised.data[i], uncertainty.data[i]);
  }
  return sums.means(isCounts);
}
