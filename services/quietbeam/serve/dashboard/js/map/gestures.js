// Pointer and wheel on a map: crosshair, zoom, and drags that move the map or the divider, or draw.

/** @import { View } from "../base/view.js" */
/** @import { Drawing } from "./drawing.js" */

const DIVIDER_REACH = 12; // CSS pixels in which the divider is taken hold of

/** @typedef {(event: PointerEvent) => void} Drag */

/**
 * @param {HTMLCanvasElement} canvas
 * @param {View} view
 * @param {Drawing | null} drawing
 * @param {boolean} hasDivider
 */
export function listenToPointer(canvas, view, drawing, hasDivider) {
  /** @type {Drag | null} */
  let drag = null;
  const onDivider = (/** @type {Position} */ position) => hasDivider && position.fromDivider <= DIVIDER_REACH;
  canvas.addEventListener("pointermove", (event) => {
    drag?.(event);
    const position = positionOf(event, canvas, view);
    const { row, col } = position;
    canvas.style.cursor = onDivider(position) ? "ew-resize" : "";
    const inside = row >= 0 && col >= 0 && row < view.rows && col < view.cols;
    view.point(inside ? { row: Math.floor(row), col: Math.floor(col) } : null);
  });
  canvas.addEventListener("pointerleave", () => view.point(null));
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const from = positionOf(event, canvas, view);
    if (onDivider(from)) drag = (next) => view.divide(positionOf(next, canvas, view).across);
    else if (drawing?.tool && !event.shiftKey) drag = drawFrom(from, canvas, view, drawing);
    else drag = view.whole ? null : panFrom(event, from, view);
    if (drag) canvas.setPointerCapture(event.pointerId);
  });
  const release = () => (drag = null);
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("dblclick", () => view.reset());
  const onWheel = (/** @type {WheelEvent} */ event) => {
    event.preventDefault();
    const { row, col } = positionOf(event, canvas, view);
    view.zoom(Math.exp(-event.deltaY / 400), row, col);
  };
  canvas.addEventListener("wheel", onWheel, { passive: false });
}

/** @typedef {ReturnType<typeof positionOf>} Position */

/**
 * Where the pointer is: map position, map pixels a CSS pixel, CSS pixels from the divider, part of the width.
 * @param {MouseEvent} event
 * @param {HTMLCanvasElement} canvas
 * @param {View} view
 */
function positionOf(event, canvas, view) {
  const box = canvas.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  return {
    row: view.top + (y / box.height) * view.height,
    col: view.left + (x / box.width) * view.width,
    perScreen: { row: view.height / box.height, col: view.width / box.width },
    fromDivider: Math.abs(x - view.divider * box.width),
    across: x / box.width,
  };
}

/**
 * @param {Position} from
 * @param {HTMLCanvasElement} canvas
 * @param {View} view
 * @param {Drawing} drawing
 * @returns {Drag}
 */
function drawFrom(from, canvas, view, drawing) {
  const move = drawing.begin(from, from.perScreen, view);
  return (next) => move(positionOf(next, canvas, view));
}

/**
 * @param {PointerEvent} event
 * @param {Position} from
 * @param {View} view
 * @returns {Drag}
 */
function panFrom(event, { perScreen }, view) {
  let last = event;
  return (next) => {
    view.pan((last.clientY - next.clientY) * perScreen.row, (last.clientX - next.clientX) * perScreen.col);
    last = next;
  };
}
