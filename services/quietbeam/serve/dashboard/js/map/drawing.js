// What a person draws on the maps: the line of a profile or the box of a region, the same on every map.
// Both are two pixels {row, col}; a box includes both.

const REACH = 9; // CSS pixels in which an end is taken hold of

export class Drawing {
  constructor(onChange) {
    this.onChange = onChange;
    this.tool = null; // "line" | "box" | null
    this.shapes = { line: null, box: null };
  }

  get shape() {
    return this.tool && this.shapes[this.tool];
  }

  use(tool) {
    this.tool = tool;
    this.open = null;
    this.onChange();
  }

  clear() {
    if (this.tool) this.#set(null);
  }

  forget() {
    this.shapes = { line: null, box: null };
  }

  /** Begin a drag at a map position; returns what to call with every further position. */
  begin(at, perScreen, limits) {
    const ends = this.shape;
    const inside = (point) => ({
      row: clamp(Math.floor(point.row), limits.rows),
      col: clamp(Math.floor(point.col), limits.cols),
    });
    const near =
      ends &&
      handles(this.tool, ends).find(
        ({ row, col }) =>
          Math.hypot((row + 0.5 - at.row) / perScreen.row, (col + 0.5 - at.col) / perScreen.col) <= REACH,
      );
    if (near) return (to) => this.#set([near.other, inside(to)]);
    if (this.tool === "box" && ends && contains(ends, at)) return this.#carry(ends, at, limits);
    const first = inside(at);
    return (to) => this.#set([first, inside(to)]);
  }

  /** By keyboard: the first call sets one end, the second the other. */
  mark(pixel) {
    if (!this.tool || !pixel) return;
    const first = this.open ?? pixel;
    this.open = this.open ? null : pixel;
    this.#set([first, pixel]);
  }

  #carry([a, b], from, { rows, cols }) {
    const move = (by, low, high, size) => Math.max(-low, Math.min(size - 1 - high, by));
    return (to) => {
      const dr = move(Math.round(to.row - from.row), Math.min(a.row, b.row), Math.max(a.row, b.row), rows);
      const dc = move(Math.round(to.col - from.col), Math.min(a.col, b.col), Math.max(a.col, b.col), cols);
      this.#set([a, b].map(({ row, col }) => ({ row: row + dr, col: col + dc })));
    };
  }

  #set(shape) {
    this.shapes[this.tool] = shape;
    this.onChange();
  }

  /** Draw the shape on a map whose `place` turns a map position into canvas pixels. */
  draw(c, place, ratio) {
    if (!this.shape) return;
    const [a, b] = this.shape;
    const corners = this.tool === "line" ? [centre(a), centre(b)] : outline(a, b);
    const points = corners.map(place);
    c.lineJoin = "round";
    for (const [style, width] of [
      ["#000b", 3.5],
      ["#fff", 1.5],
    ]) {
      c.strokeStyle = style;
      c.lineWidth = width * ratio;
      c.beginPath();
      points.forEach(([x, y]) => c.lineTo(x, y));
      if (this.tool === "box") c.closePath();
      c.stroke();
    }
    if (this.tool === "box") return;
    points.forEach(([x, y], end) => {
      c.beginPath();
      c.arc(x, y, 3.5 * ratio, 0, 2 * Math.PI);
      c.fillStyle = end ? "#fff" : "#0b0e13"; // the dark end is where the profile begins
      c.strokeStyle = end ? "#0b0e13" : "#fff";
      c.lineWidth = 1.5 * ratio;
      c.fill();
      c.stroke();
    });
  }
}

/** The rows and columns of a box, half open: {top, bottom, left, right}. */
export function extent([a, b]) {
  return {
    top: Math.min(a.row, b.row),
    bottom: Math.max(a.row, b.row) + 1,
    left: Math.min(a.col, b.col),
    right: Math.max(a.col, b.col) + 1,
  };
}

function handles(tool, [a, b]) {
  const ends = [
    { ...a, other: b },
    { ...b, other: a },
  ];
  if (tool === "line") return ends;
  return [
    ...ends,
    { row: a.row, col: b.col, other: { row: b.row, col: a.col } },
    { row: b.row, col: a.col, other: { row: a.row, col: b.col } },
  ];
}

function contains(ends, { row, col }) {
  const { top, bottom, left, right } = extent(ends);
  return row >= top && row < bottom && col >= left && col < right;
}

const centre = ({ row, col }) => [row + 0.5, col + 0.5];
const clamp = (value, size) => Math.max(0, Math.min(size - 1, value));

function outline(a, b) {
  const { top, bottom, left, right } = extent([a, b]);
  return [
    [top, left],
    [top, right],
    [bottom, right],
    [bottom, left],
  ];
}
