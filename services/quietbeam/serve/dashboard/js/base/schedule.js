// Work that is done at most once an animation frame.

/**
 * A function that notes what has to be done; `run` is called with all of it in the next animation frame.
 * @template {string} Work
 * @param {(work: Set<Work>) => void} run
 * @returns {(...work: Work[]) => void}
 */
export function oncePerFrame(run) {
  /** @type {Set<Work>} */
  const pending = new Set();
  return (...work) => {
    if (!pending.size) {
      requestAnimationFrame(() => {
        const due = new Set(pending);
        pending.clear();
        run(due);
      });
    }
    for (const part of work) pending.add(part);
  };
}
