// Cells of a spiral or of irregular points that no sample fell into: for looking at, they can show the nearest value.

const REACH = [1, 2]; // cells
const AROUND = [];
for (let row = -2; row <= 2; row++) for (let col = -2; col <= 2; col++) if (row || col) AROUND.push([row, col]);
AROUND.sort((a, b) => a[0] ** 2 + a[1] ** 2 - b[0] ** 2 - b[1] ** 2);

class Grid {
  constructor(values, rows, cols) {
    Object.assign(this, { values, rows, cols });
  }

  at(row, col) {
    return row >= 0 && row < this.rows && col >= 0 && col < this.cols ? this.values[row * this.cols + col] : NaN;
  }

  /** True for a cell without a value between cells with one: rows that are still to come are no holes. */
  isHole(row, col) {
    if (!Number.isNaN(this.at(row, col))) return false;
    const lit = (dr, dc) => REACH.some((n) => !Number.isNaN(this.at(row + n * dr, col + n * dc)));
    return (lit(0, 1) && lit(0, -1)) || (lit(1, 0) && lit(-1, 0));
  }
}

export function hasHoles(values, rows, cols) {
  const grid = new Grid(values, rows, cols);
  for (let row = 0; row < rows; row++) for (let col = 0; col < cols; col++) if (grid.isHole(row, col)) return true;
  return false;
}

/** A copy whose holes show the nearest value. */
export function fillHoles(values, rows, cols) {
  const grid = new Grid(values, rows, cols);
  const out = values.slice();
  for (let row = 0; row < rows; row++)
    for (let col = 0; col < cols; col++) {
      if (!grid.isHole(row, col)) continue;
      const near = AROUND.find(([dr, dc]) => !Number.isNaN(grid.at(row + dr, col + dc)));
      out[row * cols + col] = grid.at(row + near[0], col + near[1]);
    }
  return out;
}
