// The line of a profile or the box of a region that a person draws, the same on every map.
// Both are two pixels; a box includes both.

/** @typedef {"line" | "box"} Tool */
/** @typedef {[Pixel, Pixel]} Shape */
/** @typedef {(to: Pixel) => void} Move */

const REACH = 9; // CSS pixels in which an end is taken hold of

export class Drawing {
  /** @param {() => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    /** @type {Tool | null} */
    this.tool = null;
    /** @type {Record<Tool, Shape | null>} */
    this.shapes = { line: null, box: null };
    /** @type {Pixel | null} the first end, while the second is not set by key */
    this.open = null;
  }

  get shape() {
    return this.tool && this.shapes[this.tool];
  }

  /** @param {Tool | null} tool */
  use(tool) {
    this.tool = tool;
    this.open = null;
    this.onChange();
  }

  clear() {
    if (this.tool) this.#set(this.tool, null);
  }

  /** Forget all shapes: the maps have another shape now. */
  reset() {
    this.shapes = { line: null, box: null };
  }

  /**
   * Begin a drag at a map position; returns the function to call with every further position.
   * @param {Pixel} from
   * @param {Pixel} perScreen map pixels a CSS pixel
   * @param {{rows: number, cols: number}} limits
   * @returns {Move}
   */
  begin(from, perScreen, limits) {
    const { tool, shape } = this;
    if (!tool) return () => {};
    const inside = (/** @type {Pixel} */ { row, col }) => ({
      row: clamp(Math.floor(row), limits.rows),
      col: clamp(Math.floor(col), limits.cols),
    });
    const distance = (/** @type {Pixel} */ { row, col }) =>
      Math.hypot((row + 0.5 - from.row) / perScreen.row, (col + 0.5 - from.col) / perScreen.col);
    const near = shape && handles(tool, shape).find(({ end }) => distance(end) <= REACH);
    if (near) return (to) => this.#set(tool, [near.opposite, inside(to)]);
    if (tool === "box" && shape && contains(shape, from)) return this.#moveBox(shape, from, limits);
    const first = inside(from);
    return (to) => this.#set(tool, [first, inside(to)]);
  }

  /**
   * By keyboard: the first call sets one end, the second the other.
   * @param {Pixel | null} pixel
   */
  mark(pixel) {
    if (!this.tool || !pixel) return;
    const first = this.open ?? pixel;
    this.open = this.open ? null : pixel;
    this.#set(this.tool, [first, pixel]);
  }

  /**
   * @param {Shape} shape
   * @param {Pixel} from
   * @param {{rows: number, cols: number}} limits
   * @returns {Move}
   */
  #moveBox([a, b], from, { rows, cols }) {
    const { top, bottom, left, right } = extent([a, b]);
    return (to) => {
      const dr = Math.max(-top, Math.min(rows - bottom, Math.round(to.row - from.row)));
      const dc = Math.max(-left, Math.min(cols - right, Math.round(to.col - from.col)));
      const moved = (/** @type {Pixel} */ { row, col }) => ({ row: row + dr, col: col + dc });
      this.#set("box", [moved(a), moved(b)]);
    };
  }

  /**
   * @param {Tool} tool
   * @param {Shape | null} shape
   */
  #set(tool, shape) {
    this.shapes[tool] = shape;
    this.onChange();
  }

  /**
   * Draw the shape on a map; `toCanvas` turns a map position into canvas pixels.
   * @param {CanvasRenderingContext2D} c
   * @param {(position: [row: number, col: number]) => [x: number, y: number]} toCanvas
   * @param {number} ratio canvas pixels a CSS pixel
   */
  draw(c, toCanvas, ratio) {
    if (!this.shape) return;
    const isLine = this.tool === "line";
    const points = (isLine ? this.shape.map(centre) : corners(this.shape)).map(toCanvas);
    c.lineJoin = "round";
    for (const { style, width } of [
      { style: "#000b", width: 3.5 },
      { style: "#fff", width: 1.5 },
    ]) {
      c.strokeStyle = style;
      c.lineWidth = width * ratio;
      c.beginPath();
      points.forEach(([x, y]) => c.lineTo(x, y));
      if (!isLine) c.closePath();
      c.stroke();
    }
    if (isLine) drawEnds(c, points, ratio);
  }
}

/**
 * The ends of a line; the profile begins at the dark end.
 * @param {CanvasRenderingContext2D} c
 * @param {[x: number, y: number][]} points
 * @param {number} ratio
 */
function drawEnds(c, points, ratio) {
  points.forEach(([x, y], i) => {
    c.beginPath();
    c.arc(x, y, 3.5 * ratio, 0, 2 * Math.PI);
    c.fillStyle = i ? "#fff" : "#0b0e13";
    c.strokeStyle = i ? "#0b0e13" : "#fff";
    c.lineWidth = 1.5 * ratio;
    c.fill();
    c.stroke();
  });
}

/**
 * The rows and columns of a box.
 * @param {Shape} shape
 * @returns {Box}
 */
export function extent([a, b]) {
  return {
    top: Math.min(a.row, b.row),
    bottom: Math.max(a.row, b.row) + 1,
    left: Math.min(a.col, b.col),
    right: Math.max(a.col, b.col) + 1,
  };
}

/**
 * The ends that can be dragged, each with the one that stays.
 * @param {Tool} tool
 * @param {Shape} shape
 */
function handles(tool, [a, b]) {
  const ends = [
    { end: a, opposite: b },
    { end: b, opposite: a },
  ];
  if (tool === "line") return ends;
  const [c, d] = [
    { row: a.row, col: b.col },
    { row: b.row, col: a.col },
  ];
  return [...ends, { end: c, opposite: d }, { end: d, opposite: c }];
}

/**
 * @param {Shape} shape
 * @param {Pixel} position
 */
function contains(shape, { row, col }) {
  const { top, bottom, left, right } = extent(shape);
  return row >= top && row < bottom && col >= left && col < right;
}

/**
 * @param {Pixel} pixel
 * @returns {[row: number, col: number]}
 */
const centre = ({ row, col }) => [row + 0.5, col + 0.5];

/**
 * @param {Shape} shape
 * @returns {[row: number, col: number][]}
 */
function corners(shape) {
  const { top, bottom, left, right } = extent(shape);
  return [
    [top, left],
    [top, right],
    [bottom, right],
    [bottom, left],
  ];
}

/**
 * @param {number} value
 * @param {number} size
 */
const clamp = (value, size) => Math.max(0, Math.min(size - 1, value));
