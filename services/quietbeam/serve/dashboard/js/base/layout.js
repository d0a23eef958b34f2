// Fits all cards on the screen: the number of columns and the order of a card's maps that make the maps largest.

const GAP = 8;
const CARD_WIDTH_EXTRA = 18;
const CARD_HEIGHT_EXTRA = 22 + 24 + 17 + 9 + 13;
const CAPTION = 15;
const SMALLEST = 96;
const CARD_SMALLEST = 268; // narrower, and the evidence does not fit

/** `box` is {width, height, type}: the room there is, and how much larger than usual its text is.
 * `rows` and `cols` are the height and width of a map in equal units.
 * Return {columns, width, height, stacked, cardWidth, roomy}: sizes of one map in CSS pixels. */
export function fit(box, cards, maps, rows, cols) {
  const type = box.type ?? 1;
  const [extra, caption] = [CARD_HEIGHT_EXTRA * type, CAPTION * type];
  const most = Math.max(1, Math.min(cards, Math.floor((box.width - GAP) / (CARD_SMALLEST + GAP))));
  let best = null;
  for (const stacked of maps > 1 ? [false, true] : [false]) {
    for (let columns = 1; columns <= most; columns++) {
      const lines = Math.ceil(cards / columns);
      const cardWidth = (box.width - GAP * (columns + 1)) / columns;
      const cardHeight = (box.height - GAP * (lines + 1)) / lines;
      const wide = mapWidth(cardWidth, stacked ? 1 : maps);
      const down = stacked ? maps : 1;
      const high = (cardHeight - extra - down * caption - 2 * (down - 1)) / down;
      const width = Math.floor(Math.min(wide, (high * cols) / rows));
      const height = Math.floor((width * rows) / cols);
      if (!best || width > best.width) best = { columns, width, height, stacked };
    }
  }
  if (best.width < SMALLEST || best.height < 24) best = scrolling(box, most, maps, rows, cols);
  const across = best.stacked ? 1 : maps;
  const down = best.stacked ? maps : 1;
  const lines = Math.ceil(cards / best.columns);
  const used = lines * (extra + down * (best.height + caption) + GAP) + GAP;
  best.roomy = box.height - used >= lines * 17; // a second line of text costs no map size
  best.cardWidth = Math.max(CARD_SMALLEST, best.width * across + 6 * (across - 1) + CARD_WIDTH_EXTRA);
  return best;
}

/** What does not fit is kept readable: as many columns as leave each map a fair width; the page scrolls. */
function scrolling(box, most, maps, rows, cols) {
  for (let columns = most; ; columns--) {
    const width = Math.floor(mapWidth((box.width - 16 - GAP * (columns + 1)) / columns, maps));
    if (width >= 1.3 * SMALLEST || columns === 1) {
      return {
        columns,
        width: Math.max(16, width),
        height: Math.max(8, Math.floor((width * rows) / cols)),
        stacked: false,
      };
    }
  }
}

function mapWidth(cardWidth, across) {
  return (cardWidth - CARD_WIDTH_EXTRA - 6 * (across - 1)) / across;
}
