// The wall screen (?wall=1): no controls, large type; more lines than are well seen at once come in turns.
// ?wall=1&lines=3&every=12 shows three lines for twelve seconds each.

const MOST = 4;
const EVERY_S = 10;

export class Wall {
  constructor(query, onTurn) {
    this.on = query.get("wall") === "1";
    this.most = whole(query.get("lines"), 1, 40, MOST);
    this.type = this.on ? 1.5 : 1; // how much larger text is
    this.turn = 0;
    document.body.classList.toggle("wall", this.on);
    if (this.on) setInterval(() => ((this.turn += 1), onTurn()), 1000 * whole(query.get("every"), 1, 3600, EVERY_S));
  }

  /** The lines to show now. */
  choose(lines) {
    if (!this.on || lines.length <= this.most) return lines;
    const pages = Math.ceil(lines.length / this.most);
    const size = Math.ceil(lines.length / pages);
    const page = this.turn % pages;
    return lines.slice(page * size, (page + 1) * size);
  }

  /** "lines 5–8 of 8", empty where all are shown. */
  describe(lines, shown) {
    if (!this.on || shown.length === lines.length) return "";
    const first = lines.indexOf(shown[0]) + 1;
    return `lines ${first}–${first + shown.length - 1} of ${lines.length}`;
  }
}

function whole(text, low, high, otherwise) {
  const value = Number.parseInt(text ?? "", 10);
  return value >= low && value <= high ? value : otherwise;
}
