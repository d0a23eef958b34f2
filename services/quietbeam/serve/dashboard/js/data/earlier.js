// Earlier states of a run's maps.

/**
 * The run as it was in an earlier state of its maps: what was known then, nothing that is known only now.
 * @param {Run} run
 * @param {MapState} state
 * @returns {Run}
 */
export function runInState(run, { rows, version, lines, state }) {
  const was = Object.entries(lines ?? {}).map(([line, { dwell_gain, low, high, estimator, verdict }]) => ({
    ...{ line, estimator, verdict },
    ...{ dwell_gain, dwell_gain_low: low, dwell_gain_high: high },
  }));
  const evidence = was.length
    ? { model: run.evidence?.model, rows, lines: was, final: state === "final", notes: [] }
    : null;
  return { ...run, evidence, maps_version: version, denoise: { ...run.denoise, rows }, advice: null };
}

/**
 * Take out of the raw maps the pixels that were measured after the denoised maps of an earlier state.
 * @param {Stacks} stacks
 */
export function maskLaterRows({ raw, denoised }) {
  for (let i = 0; i < raw.data.length; i++) if (Number.isNaN(denoised.data[i])) raw.data[i] = NaN;
}

/**
 * The newest maps as a state like the earlier ones.
 * @param {Run} run
 * @returns {MapState}
 */
export function presentState({ uid, maps_version: version, denoise, evidence }) {
  /** @type {Record<string, LineState>} */
  const lines = {};
  for (const evidenceOfLine of evidence?.lines ?? []) {
    const { line, estimator, verdict, dwell_gain, dwell_gain_low: low, dwell_gain_high: high } = evidenceOfLine;
    lines[line] = { estimator, verdict, dwell_gain, low, high };
  }
  const { fine_tune_steps, loss } = evidence ?? {};
  return { uid, version, rows: denoise.rows, fine_tune_steps, loss, lines, maps: true };
}
