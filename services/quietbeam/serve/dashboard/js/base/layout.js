// Fits all cards on the screen: the number of columns and the order of a card's maps that make the maps largest.

const GAP = 8;
const CARD_WIDTH_EXTRA = 18;
const CARD_HEIGHT_EXTRA = 22 + 24 + 17 + 9 + 13;
const CAPTION = 15;
const LINE = 17;
const SMALLEST = { width: 96, height: 24 };
const CARD_SMALLEST = 268; // narrower, and the evidence does not fit

/**
 * @typedef {object} Room
 * @property {number} width of the grid in CSS pixels
 * @property {number} height
 * @property {number} [type] how much larger than usual the text is
 */

/**
 * @typedef {object} Placing
 * @property {number} columns cards beside each other
 * @property {number} width of a map in CSS pixels
 * @property {number} height
 * @property {boolean} stacked whether the maps of a card are below each other
 */

/**
 * @typedef {object} Content
 * @property {number} cards
 * @property {number} maps of a card
 * @property {number} rows height of a map, in the same unit as its width
 * @property {number} cols
 */

/**
 * The placing with the largest maps; `roomy` where a second line of text costs no map size.
 * @param {Room} room
 * @param {number} cards
 * @param {number} maps
 * @param {number} rows
 * @param {number} cols
 * @returns {Placing & {cardWidth: number, roomy: boolean}}
 */
export function fit(room, cards, maps, rows, cols) {
  const content = { cards, maps, rows, cols };
  const most = Math.max(1, Math.min(cards, Math.floor((room.width - GAP) / (CARD_SMALLEST + GAP))));
  let best = placing(room, content, 1, false);
  for (const stacked of maps > 1 ? [false, true] : [false]) {
    for (let columns = 1; columns <= most; columns++) {
      const next = placing(room, content, columns, stacked);
      if (next.width > best.width) best = next;
    }
  }
  if (best.width < SMALLEST.width || best.height < SMALLEST.height) best = scrolling(room, content, most);
  const [across, down] = best.stacked ? [1, maps] : [maps, 1];
  const type = room.type ?? 1;
  const lines = Math.ceil(cards / best.columns);
  const used = lines * (CARD_HEIGHT_EXTRA * type + down * (best.height + CAPTION * type) + GAP) + GAP;
  return {
    ...best,
    cardWidth: Math.max(CARD_SMALLEST, best.width * across + 6 * (across - 1) + CARD_WIDTH_EXTRA),
    roomy: room.height - used >= lines * LINE,
  };
}

/**
 * The largest maps with so many columns.
 * @param {Room} room
 * @param {Content} content
 * @param {number} columns
 * @param {boolean} stacked
 * @returns {Placing}
 */
function placing(room, { cards, maps, rows, cols }, columns, stacked) {
  const type = room.type ?? 1;
  const [across, down] = stacked ? [1, maps] : [maps, 1];
  const lines = Math.ceil(cards / columns);
  const cardWidth = (room.width - GAP * (columns + 1)) / columns;
  const cardHeight = (room.height - GAP * (lines + 1)) / lines;
  const high = (cardHeight - CARD_HEIGHT_EXTRA * type - down * CAPTION * type - 2 * (down - 1)) / down;
  const width = Math.floor(Math.min(mapWidth(cardWidth, across), (high * cols) / rows));
  return { columns, width, height: Math.floor((width * rows) / cols), stacked };
}

/**
 * Where not all maps fit, the page scrolls: as many columns as leave each map a fair width.
 * @param {Room} room
 * @param {Content} content
 * @param {number} most columns
 * @returns {Placing}
 */
function scrolling(room, { maps, rows, cols }, most) {
  for (let columns = most; ; columns--) {
    const width = Math.floor(mapWidth((room.width - 16 - GAP * (columns + 1)) / columns, maps));
    if (width >= 1.3 * SMALLEST.width || columns <= 1) {
      const height = Math.max(8, Math.floor((width * rows) / cols));
      return { columns, width: Math.max(16, width), height, stacked: false };
    }
  }
}

/**
 * @param {number} cardWidth
 * @param {number} across maps beside each other
 */
function mapWidth(cardWidth, across) {
  return (cardWidth - CARD_WIDTH_EXTRA - 6 * (across - 1)) / across;
}
