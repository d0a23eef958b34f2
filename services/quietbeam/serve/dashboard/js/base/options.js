// How the maps are shown; kept in this browser.

const KEY = "quietbeam.options";
/** @type {MapKind[]} */
export const KINDS = ["raw", "denoised", "uncertainty", "residual", "chi2"];
/** @type {UnitName[]} */
const UNITS = ["counts", "counts/s", "ug/cm2"];
/** @type {ScaleName[]} */
const SCALES = ["linear", "sqrt", "log"];
const CLIPS = [0, 0.5, 1, 2, 5]; // percent
const DEFAULT_CMAP = "viridis";

/**
 * True for a signal-to-noise ratio that the API accepts.
 * @param {unknown} value
 * @returns {value is number}
 */
export function isSnr(value) {
  return typeof value === "number" && value >= 0.1 && value <= 1000;
}

/**
 * The options in `stored`, with the default in place of each that is absent or not valid.
 * @param {any} stored
 * @param {string[]} colourMaps
 * @returns {OptionValues}
 */
export function validOptions(stored, colourMaps) {
  const { kinds, unit, scale, cmap, clip, sameRange, fillHoles, snr, swipe, panel } = stored ?? {};
  const known = KINDS.filter((kind) => Array.isArray(kinds) && kinds.includes(kind));
  return {
    kinds: known.length ? known : ["raw", "denoised"],
    unit: oneOf(UNITS, unit, "counts"),
    scale: oneOf(SCALES, scale, "linear"),
    cmap: oneOf(colourMaps, cmap, DEFAULT_CMAP),
    clip: oneOf(CLIPS, clip, 0.5),
    sameRange: sameRange !== false,
    fillHoles: fillHoles === true,
    snr: isSnr(snr) ? snr : 10,
    swipe: swipe === true,
    panel: typeof panel === "string" ? panel : "",
  };
}

/**
 * @template T
 * @param {T[]} allowed
 * @param {unknown} value
 * @param {T} otherwise
 * @returns {T}
 */
function oneOf(allowed, value, otherwise) {
  return allowed.find((item) => item === value) ?? otherwise;
}

/** @implements {OptionValues} */
export class Options {
  /**
   * `storage()` returns where the options are kept; it may throw.
   * @param {string[]} colourMaps
   * @param {() => Pick<Storage, "getItem" | "setItem">} storage
   */
  constructor(colourMaps, storage) {
    this.storage = storage;
    /** @type {(() => void)[]} */
    this.listeners = [];
    const values = validOptions(this.#read(), colourMaps);
    this.kinds = values.kinds;
    this.unit = values.unit;
    this.scale = values.scale;
    this.cmap = values.cmap;
    this.clip = values.clip;
    this.sameRange = values.sameRange;
    this.fillHoles = values.fillHoles;
    this.snr = values.snr;
    this.swipe = values.swipe;
    this.panel = values.panel;
  }

  /**
   * Call `listener` after each change.
   * @param {() => void} listener
   */
  subscribe(listener) {
    this.listeners.push(listener);
  }

  /**
   * The maps of a card, in their order; in swipe mode one map takes the place of raw and denoised.
   * @returns {ShownKind[]}
   */
  get shown() {
    return this.swipe ? ["swipe", ...this.kinds.filter((kind) => kind !== "raw" && kind !== "denoised")] : this.kinds;
  }

  /**
   * Show maps of this kind, or no longer; the last kind stays.
   * @param {string} kind
   */
  toggle(kind) {
    const kinds = KINDS.filter((known) => (known === kind) !== this.kinds.includes(known));
    if (kinds.length) this.set({ kinds });
  }

  nextScale() {
    this.set({ scale: SCALES[(SCALES.indexOf(this.scale) + 1) % SCALES.length] });
  }

  /** @param {Partial<OptionValues>} values */
  set(values) {
    Object.assign(this, values);
    const { kinds, unit, scale, cmap, clip, sameRange, fillHoles, snr, swipe, panel } = this;
    try {
      const text = JSON.stringify({ kinds, unit, scale, cmap, clip, sameRange, fillHoles, snr, swipe, panel });
      this.storage().setItem(KEY, text);
    } catch {
      // storage may be off; the options then last as long as the page
    }
    for (const listener of this.listeners) listener();
  }

  #read() {
    try {
      return JSON.parse(this.storage().getItem(KEY) ?? "{}");
    } catch {
      return {};
    }
  }
}
