// Holes: cells of a spiral or of irregular points that no sample fell into. The maps can show the nearest value there.

const REACH = [1, 2]; // cells
/** @type {[number, number][]} offsets of the cells around one, the nearest first */
const AROUND = [];
for (let row = -2; row <= 2; row++) for (let col = -2; col <= 2; col++) if (row || col) AROUND.push([row, col]);
AROUND.sort((a, b) => a[0] ** 2 + a[1] ** 2 - b[0] ** 2 - b[1] ** 2);

class Grid {
  /**
   * @param {Float32Array} values
   * @param {number} rows
   * @param {number} cols
   */
  constructor(values, rows, cols) {
    this.values = values;
    this.rows = rows;
    this.cols = cols;
  }

  /**
   * The value of a cell; NaN outside of the map.
   * @param {number} row
   * @param {number} col
   */
  at(row, col) {
    return row >= 0 && row < this.rows && col >= 0 && col < this.cols ? this.values[row * this.cols + col] : NaN;
  }

  /**
   * True for a cell without a value between cells with a value. Rows that are not measured yet are no holes.
   * @param {number} row
   * @param {number} col
   */
  isHole(row, col) {
    if (!Number.isNaN(this.at(row, col))) return false;
    const isMeasured = (/** @type {number} */ dr, /** @type {number} */ dc) =>
      REACH.some((n) => !Number.isNaN(this.at(row + n * dr, col + n * dc)));
    return (isMeasured(0, 1) && isMeasured(0, -1)) || (isMeasured(1, 0) && isMeasured(-1, 0));
  }
}

/**
 * @param {Float32Array} values
 * @param {number} rows
 * @param {number} cols
 */
export function hasHoles(values, rows, cols) {
  const grid = new Grid(values, rows, cols);
  for (let row = 0; row < rows; row++) for (let col = 0; col < cols; col++) if (grid.isHole(row, col)) return true;
  return false;
}

/**
 * A copy whose holes have the nearest value.
 * @param {Float32Array} values
 * @param {number} rows
 * @param {number} cols
 */
export function fillHoles(values, rows, cols) {
  const grid = new Grid(values, rows, cols);
  const filled = values.slice();
  for (let i = 0; i < values.length; i++) {
    const [row, col] = [Math.floor(i / cols), i % cols];
    if (!grid.isHole(row, col)) continue;
    const nearest = AROUND.find(([dr, dc]) => !Number.isNaN(grid.at(row + dr, col + dc)));
    if (nearest) filled[i] = grid.at(row + nearest[0], col + nearest[1]);
  }
  return filled;
}
