// The words of the panel "evidence", each with its meaning in a sentence.

/** @type {Record<string, string>} */
export const MEANINGS = {
  "dwell gain": "How many times longer the raw map would have to be counted to have the same error.",
  "95 % interval": "The true dwell gain lies in it with a probability of 95 %.",
  "held-out counts": "Photons that are set aside at random. The network does not see them; they test its map.",
  bias: "How far the total of the map lies from that of the held-out counts. 0 % is right.",
  improved: "Held-out counts prove that the map has a smaller error than the raw map.",
  "kept raw": "No estimate was proved better than the raw map, so the raw map is shown.",
  "not tested": "Nothing could be held out, so no estimate could be tested.",
  raw: "What was counted: the sum of the detectors, weighted by their sensitivity.",
  smoother: "Averages over neighbouring pixels, without a network.",
  network: "The network as it was pretrained.",
  "fine-tuned network": "The network after training on this run.",
  "non-local means": "Averages over places of the map that look alike.",
  combination: "A weighted mean of several of these estimates.",
  slope: "Slope of held-out counts against the map. 1 is right.",
  "χ²": "Mean squared difference of raw and denoised map, in units of the counting noise. Near 1 only noise is gone.",
  FRC: "Resolution by Fourier ring correlation, in pixels. Smaller is sharper; 2 is the best there can be.",
  "within 1 σ": "Share of held-out counts that lie within one standard error of the map. 68 % is right.",
};

/**
 * The meanings of the words that occur in a text, a line for each; "" where none does.
 * @param {string} text
 */
export function meaningsIn(text) {
  const low = text.toLowerCase();
  const words = Object.keys(MEANINGS).filter((word) => low.includes(word.toLowerCase()));
  const longest = words.filter((word) => !words.some((other) => other !== word && other.includes(word)));
  return longest.map((word) => `${word}: ${MEANINGS[word]}`).join("\n");
}
