// Means along a line and in a box, with their errors. Rows and columns are map pixels.
//
// Raw counts are independent: the error of a mean is sqrt(sum) / n. Errors of neighbouring denoised pixels are not
// independent (one network saw both), so the error of their mean is taken as the mean of their errors: an upper bound.

/** One line's values of a stack (line, row, col), thinned out by `stride`. */
export function lineValues({ data, rows, cols, stride }, index) {
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

/** All pixels of a box. */
export function* boxPixels({ top, bottom, left, right }) {
  for (let row = top; row < bottom; row++) for (let col = left; col < right; col++) yield { row, col };
}

/** Means over pixels: {n, raw, rawError, denoised, error}; null where nothing is measured or denoised. */
export function means(pixels, { raw, denoised, uncertainty }, isCounts) {
  let [n, sum, m, sumDenoised, sumError] = [0, 0, 0, 0, 0];
  for (const { row, col } of pixels) {
    const value = raw(row, col);
    if (value !== value) continue;
    n += 1;
    sum += value;
    const estimate = denoised(row, col);
    if (estimate !== estimate) continue;
    m += 1;
    sumDenoised += estimate;
    sumError += uncertainty(row, col);
  }
  return {
    n,
    raw: n ? sum / n : null,
    rawError: n && isCounts ? Math.sqrt(Math.max(sum, 1)) / n : null,
    denoised: m ? sumDenoised / m : null,
    error: m && Number.isFinite(sumError) ? sumError / m : null,
  };
}
