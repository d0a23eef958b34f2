// The wall screen (?wall=1): no controls, large type; where there are many lines, they are shown in turns.
// ?wall=1&lines=3&every=12 shows three lines for twelve seconds each.

const MOST = 4;
const EVERY_S = 10;

export class Wall {
  /**
   * `onNext()` is called when other lines are to be shown.
   * @param {URLSearchParams} query
   * @param {() => void} onNext
   */
  constructor(query, onNext) {
    this.on = query.get("wall") === "1";
    this.most = integer(query.get("lines"), 1, 40, MOST);
    this.type = this.on ? 1.5 : 1; // size of the text, 1 as usual
    this.page = 0;
    document.body.classList.toggle("wall", this.on);
    if (!this.on) return;
    const next = () => {
      this.page += 1;
      onNext();
    };
    setInterval(next, 1000 * integer(query.get("every"), 1, 3600, EVERY_S));
  }

  /**
   * The lines to show now.
   * @param {string[]} lines
   */
  choose(lines) {
    return this.on ? pageOf(lines, this.most, this.page) : lines;
  }

  /**
   * "lines 5–8 of 8", empty where all are shown.
   * @param {string[]} lines
   * @param {string[]} shown
   */
  describe(lines, shown) {
    if (!this.on || shown.length === lines.length) return "";
    const first = lines.indexOf(shown[0]) + 1;
    return `lines ${first}–${first + shown.length - 1} of ${lines.length}`;
  }
}

/**
 * A page of at most `most` lines, all pages about equally long; after the last page comes the first.
 * @param {string[]} lines
 * @param {number} most
 * @param {number} page
 */
export function pageOf(lines, most, page) {
  if (lines.length <= most) return lines;
  const pages = Math.ceil(lines.length / most);
  const size = Math.ceil(lines.length / pages);
  const first = (page % pages) * size;
  return lines.slice(first, first + size);
}

/**
 * @param {string | null} text
 * @param {number} low
 * @param {number} high
 * @param {number} otherwise
 */
function integer(text, low, high, otherwise) {
  const value = Number.parseInt(text ?? "", 10);
  return value >= low && value <= high ? value : otherwise;
}
