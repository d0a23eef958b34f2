// The pixels of one map, one canvas pixel each.

import { context2d, create } from "../base/dom.js";

/** @import { View } from "../base/view.js" */

export class Picture {
  constructor() {
    this.canvas = create("canvas");
    /** @type {ImageData | null} */
    this.image = null;
  }

  /**
   * `paint` fills ABGR pixels (row, col).
   * @param {number} rows
   * @param {number} cols
   * @param {(pixels: Uint32Array) => void} paint
   */
  fill(rows, cols, paint) {
    let { image } = this;
    if (!image || image.width !== cols || image.height !== rows) {
      [this.canvas.width, this.canvas.height] = [cols, rows];
      image = this.image = new ImageData(cols, rows);
    }
    paint(new Uint32Array(image.data.buffer));
    context2d(this.canvas).putImageData(image, 0, 0);
  }

  /**
   * Draw the part that `view` shows into a box.
   * @param {CanvasRenderingContext2D} c
   * @param {View} view
   * @param {number} x
   * @param {number} y
   * @param {number} width
   * @param {number} height
   */
  draw(c, view, x, y, width, height) {
    const [sx, sy] = [this.canvas.width / view.cols, this.canvas.height / view.rows];
    c.imageSmoothingEnabled = false;
    c.drawImage(this.canvas, view.left * sx, view.top * sy, view.width * sx, view.height * sy, x, y, width, height);
  }
}
