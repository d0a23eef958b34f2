// What all maps share: the shown part (zoom, pan) and the pixel under the pointer. In map pixels, rows downwards.

export class View {
  /** @param {() => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    /** @type {Pixel | null} */
    this.hover = null;
    this.divider = 0.5; // of a swipe map: raw lies left of it
    this.rows = 1; // of the map
    this.cols = 1;
    this.top = 0; // of the shown part
    this.left = 0;
    this.height = 1;
    this.width = 1;
  }

  /**
   * @param {number} rows
   * @param {number} cols
   */
  setShape(rows, cols) {
    this.rows = rows;
    this.cols = cols;
    this.hover = null;
    this.reset();
  }

  get whole() {
    return this.height === this.rows && this.width === this.cols;
  }

  reset() {
    [this.top, this.left, this.height, this.width] = [0, 0, this.rows, this.cols];
    this.onChange();
  }

  /**
   * Zoom by `factor` (> 1 is closer) around a map position.
   * @param {number} factor
   * @param {number} [row]
   * @param {number} [col]
   */
  zoom(factor, row = this.top + this.height / 2, col = this.left + this.width / 2) {
    const limit = Math.min(this.rows, this.cols, 4);
    const size = Math.min(1, Math.max(limit / Math.min(this.rows, this.cols), this.height / this.rows / factor));
    const [height, width] = [this.rows * size, this.cols * size];
    this.top = row - ((row - this.top) * height) / this.height;
    this.left = col - ((col - this.left) * width) / this.width;
    [this.height, this.width] = [height, width];
    this.#keepInside();
  }

  /**
   * @param {number} rows
   * @param {number} cols
   */
  pan(rows, cols) {
    this.top += rows;
    this.left += cols;
    this.#keepInside();
  }

  /** @param {Pixel | null} hover */
  point(hover) {
    if (hover?.row === this.hover?.row && hover?.col === this.hover?.col) return;
    this.hover = hover;
    this.onChange();
  }

  /**
   * Move the crosshair by keyboard: it begins in the middle of the shown part, and the shown part follows it.
   * @param {number} rows
   * @param {number} cols
   */
  step(rows, cols) {
    const from = this.hover ?? {
      row: Math.floor(this.top + this.height / 2) - rows,
      col: Math.floor(this.left + this.width / 2) - cols,
    };
    const row = Math.max(0, Math.min(this.rows - 1, from.row + rows));
    const col = Math.max(0, Math.min(this.cols - 1, from.col + cols));
    this.hover = { row, col };
    this.pan(outside(row, this.top, this.height), outside(col, this.left, this.width));
  }

  /** @param {number} part of the width */
  divide(part) {
    this.divider = Math.max(0, Math.min(1, part));
    this.onChange();
  }

  #keepInside() {
    this.top = Math.max(0, Math.min(this.rows - this.height, this.top));
    this.left = Math.max(0, Math.min(this.cols - this.width, this.left));
    this.onChange();
  }
}

/**
 * How far a pixel lies outside of a stretch.
 * @param {number} pixel
 * @param {number} first
 * @param {number} size
 */
function outside(pixel, first, size) {
  return Math.min(0, pixel - first) + Math.max(0, pixel + 1 - first - size);
}
