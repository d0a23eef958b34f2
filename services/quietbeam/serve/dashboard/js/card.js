// One line: its maps, colour bars, evidence in words, values under the pointer.

import { rangeOf, unscaled } from "./colour.js";
import { MapCanvas } from "./map.js";
import { adviceText, ESTIMATORS, gainText, lineName, number } from "./text.js";

export class LineCard {
  constructor(line, index, view) {
    this.line = line;
    this.index = index;
    this.view = view;
    this.element = document.getElementById("card").content.firstElementChild.cloneNode(true);
    this.element.dataset.line = line;
    const title = this.element.querySelector("h2");
    title.textContent = lineName(line);
    title.title = line;
    this.verdict = this.element.querySelector(".verdict");
    this.mapsBox = this.element.querySelector(".maps");
    this.barsBox = this.element.querySelector(".bars");
    this.valuesBox = this.element.querySelector(".values");
    this.maps = new Map();
    this.remark = { doubts: "", brief: "", sentence: "", facts: "" };
  }

  /** Show these kinds, in this order. */
  setKinds(kinds) {
    this.maps.clear();
    this.mapsBox.replaceChildren();
    for (const kind of kinds) {
      const figure = document.getElementById("map").content.firstElementChild.cloneNode(true);
      this.maps.set(kind, new MapCanvas(figure, kind, this.view));
      this.mapsBox.append(figure);
    }
  }

  resize(width, height, stacked) {
    this.mapsBox.classList.toggle("stacked", stacked);
    this.narrow = width < 118;
    for (const map of this.maps.values()) map.resize(width, height);
  }

  /** Take a new frame; colours everything. */
  update(run, stacks, options, colours) {
    this.stacks = stacks;
    const { rows, cols } = stacks.raw;
    const of = (kind) => stacks[kind].data.subarray(this.index * rows * cols, (this.index + 1) * rows * cols);
    const values = { raw: of("raw"), denoised: of("denoised"), uncertainty: of("uncertainty") };
    if (this.maps.has("residual")) values.residual = residual(values.raw, values.denoised, run.kind);
    const shared = options.sameRange ? rangeOf([values.raw, values.denoised], options.clip) : null;
    const bars = [];
    for (const [kind, map] of this.maps) {
      const isDifference = kind === "residual";
      const name = isDifference ? "difference" : options.cmap;
      const scale = isDifference || kind === "uncertainty" ? "linear" : options.scale;
      let range = shared;
      if (isDifference) range = run.kind === "counts" ? [-4, 4] : symmetric(values.residual, options.clip);
      else if (kind === "uncertainty" || !shared) range = rangeOf([values[kind]], options.clip);
      map.colour(values[kind], rows, cols, range, colours.table(name, scale));
      const joins = shared && (kind === "denoised" || kind === "raw") && bars.some((bar) => bar.shared);
      if (!joins) bars.push({ kind, name, scale, range, shared: shared === range, unit: unitOf(kind, run) });
      map.range = range;
      map.scale = scale;
    }
    this.values = values;
    this.#evidence(run);
    this.#bars(bars, colours);
    const measured = `${run.progress.rows_measured} of ${run.progress.rows} rows measured`;
    for (const map of this.maps.values()) map.describe(this.line, map.range, map.scale, measured);
  }

  #evidence(run) {
    const evidence = run.evidence?.lines.find((one) => one.line === this.line);
    const shownRaw = !evidence || evidence.estimator === "raw";
    this.element.dataset.proven = evidence ? String(evidence.proven && !shownRaw) : "";
    this.verdict.replaceChildren();
    const add = (text, style) => {
      const span = document.createElement("span");
      span.textContent = text;
      if (style) span.className = style;
      this.verdict.append(span);
    };
    this.remark = { doubts: "", brief: "", sentence: "", facts: "" };
    let told = [];
    if (!evidence) add("no evidence yet");
    else if (shownRaw || !evidence.proven) {
      add(shownRaw ? "▲ not proven: raw shown" : "▲ not proven", "warn");
    } else {
      const { figure, meaning } = gainText(evidence);
      if (figure) add(figure, "gain");
      add(meaning);
    }
    if (evidence) {
      const proven = evidence.proven && !shownRaw;
      const name = ESTIMATORS[evidence.estimator] ?? evidence.estimator;
      const mean = number(evidence.mean_counts);
      const advice = adviceText(run.advice?.lines.find((one) => one.line === this.line), run.advice?.snr);
      const doubts = [];
      if (evidence.residual_flag) doubts.push("residual shows structure");
      for (const [detector, why] of Object.entries(evidence.excluded_detectors ?? {})) doubts.push(`without ${detector}: ${why}`);
      this.remark = {
        doubts: doubts.length ? `▲ ${doubts.join("; ")}` : "",
        brief: advice.brief,
        sentence: advice.sentence,
        facts: [proven ? "proven" : "", name, advice.brief ? "" : `${mean} counts/pixel`].filter(Boolean).join(" · "),
      };
      told = [proven ? "proven on held-out photons" : "", `estimator: ${name}`, `mean ${mean} counts a pixel, judged on ${run.evidence.rows} rows`, ...advice.told, ...doubts];
    }
    this.valuesBox.title = told.filter(Boolean).join("\n");
    this.verdict.title = this.verdict.textContent;
    const rows = run.denoise.rows;
    const model = run.denoise.model || run.evidence?.model || "?";
    const by = evidence?.estimator === "smoother" ? "smoother" : this.narrow ? model : `model ${model}`;
    for (const [kind, map] of this.maps) {
      map.figure.dataset.shown = kind === "denoised" && shownRaw ? "raw" : kind;
      map.caption.textContent =
        kind !== "denoised" ? kind : shownRaw ? "raw shown, not denoised" : `denoised, ${by}, ${rows} rows`;
      map.caption.title = map.caption.textContent;
    }
  }

  #bars(bars, colours) {
    this.barsBox.replaceChildren(
      ...bars.map(({ kind, name, scale, range: [low, high], unit }) => {
        const bar = document.createElement("div");
        bar.className = "bar";
        const canvas = colours.strip(name);
        const ticks = document.createElement("div");
        ticks.className = "bar-ticks";
        const middle = low + unscaled(0.5, scale) * (high - low);
        const texts = [number(low), number(middle), `${number(high)} ${unit}`];
        if (bars.length > 2) texts.splice(1, 1);
        ticks.append(...texts.map((text) => Object.assign(document.createElement("span"), { textContent: text })));
        bar.title = `${kind}: ${texts.join(", ")}, ${scale} scale`;
        bar.append(canvas, ticks);
        return bar;
      }),
    );
  }

  draw(bar) {
    let first = true;
    for (const map of this.maps.values()) {
      map.draw(first ? bar : null);
      first = false;
    }
    this.#values();
  }

  #values() {
    const { hover } = this.view;
    const box = this.valuesBox;
    box.classList.toggle("reading", Boolean(hover));
    if (!hover || !this.values) {
      const { doubts, brief, sentence } = this.remark;
      const facts = [box.closest(".roomy") ? sentence : brief, this.remark.facts].filter(Boolean).join(" · ");
      const warning = Object.assign(document.createElement("span"), { textContent: doubts, className: "warn" });
      box.replaceChildren(warning, doubts && facts ? ` · ${facts}` : facts);
      return;
    }
    const { cols, stride } = this.stacks.raw;
    const at = Math.floor(hover.row / stride) * cols + Math.floor(hover.col / stride);
    const [raw, denoised, error] = ["raw", "denoised", "uncertainty"].map((kind) => this.values[kind][at]);
    if (Number.isNaN(raw)) {
      box.textContent = "not measured yet";
      return;
    }
    const bold = (text) => Object.assign(document.createElement("b"), { textContent: text });
    box.replaceChildren("raw ", bold(number(raw)), "   denoised ");
    if (Number.isNaN(denoised)) box.append("not yet");
    else box.append(bold(number(denoised)), ` ± ${number(error)}`);
  }
}

function unitOf(kind, run) {
  if (run.kind !== "counts") return kind === "residual" ? "" : "area";
  return kind === "residual" ? "σ" : "counts";
}

/** (raw - denoised), for counts in units of the counting noise. */
function residual(raw, denoised, kind) {
  return Float32Array.from(raw, (value, i) =>
    kind === "counts" ? (value - denoised[i]) / Math.sqrt(Math.max(denoised[i], 1)) : value - denoised[i],
  );
}

function symmetric(values, clip) {
  const [low, high] = rangeOf([values], clip);
  const size = Math.max(Math.abs(low), Math.abs(high)) || 1;
  return [-size, size];
}
