// Fits all cards on the screen: the number of columns and the order of a card's maps that make the maps largest.

const GAP = 8;
const CARD_WIDTH_EXTRA = 18;
const CARD_HEIGHT_EXTRA = 22 + 24 + 17 + 9 + 13;
const CAPTION = 15;
const SMALLEST = 96;

/** Return {columns, width, height, stacked, cardWidth, roomy}: sizes of one map in CSS pixels. */
export function fit(box, cards, maps, rows, cols) {
  let best = null;
  for (const stacked of [false, true]) {
    if (maps === 1 && stacked) continue;
    for (let columns = 1; columns <= cards; columns++) {
      const lines = Math.ceil(cards / columns);
      const cardWidth = (box.width - GAP * (columns + 1)) / columns;
      const cardHeight = (box.height - GAP * (lines + 1)) / lines;
      const across = stacked ? 1 : maps;
      const down = stacked ? maps : 1;
      const wide = (cardWidth - CARD_WIDTH_EXTRA - 6 * (across - 1)) / across;
      const high = (cardHeight - CARD_HEIGHT_EXTRA - down * CAPTION - 2 * (down - 1)) / down;
      const width = Math.floor(Math.min(wide, (high * cols) / rows));
      const height = Math.floor((width * rows) / cols);
      if (!best || width > best.width) best = { columns, width, height, stacked };
    }
  }
  if (best.width < SMALLEST || best.height < 24) {
    // They do not fit: keep them readable and scroll.
    const width = Math.max(SMALLEST, Math.min(180, (box.width - 40) / maps));
    const columns = Math.max(1, Math.floor(box.width / (width * maps + CARD_WIDTH_EXTRA + 6 * maps + GAP)));
    best = { columns, width: Math.floor(width), height: Math.max(8, Math.floor((width * rows) / cols)), stacked: false };
  }
  const across = best.stacked ? 1 : maps;
  const down = best.stacked ? maps : 1;
  const lines = Math.ceil(cards / best.columns);
  const used = lines * (CARD_HEIGHT_EXTRA + down * (best.height + CAPTION) + GAP) + GAP;
  best.roomy = box.height - used >= lines * 17; // a second line of text costs no map size
  // Never narrower than the evidence needs.
  best.cardWidth = Math.max(268, best.width * across + 6 * (across - 1) + CARD_WIDTH_EXTRA);
  return best;
}
