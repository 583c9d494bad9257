// The colours of a heat map, as in the service's own picture of it: blue takes away, grey is nothing, red adds.
// Source: Moreland 2009, "Diverging Color Maps for Scientific Visualization", every second of its 33 sRGB values.

const STEPS = [
  [59, 76, 192], [77, 104, 215], [98, 130, 234], [119, 154, 247], [141, 176, 254], [163, 194, 255], [184, 208, 249],
  [204, 217, 238], [221, 221, 221], [236, 211, 197], [245, 196, 173], [247, 177, 148], [244, 154, 123], [236, 127, 99],
  [222, 96, 77], [203, 62, 56], [180, 4, 38],
];

/** A value in [-1, 1] -> a CSS colour. */
export const diverging = (value) => between(STEPS, (value + 1) / 2);

/** Where `share` (0 to 1) of the way along a list of [red, green, blue] leads, as a CSS colour. */
function between(steps, share) {
  const place = Math.min(1, Math.max(0, share)) * (steps.length - 1);
  const first = Math.min(steps.length - 2, Math.floor(place));
  const part = place - first;
  const mixed = steps[first].map((low, band) => Math.round(low + (steps[first + 1][band] - low) * part));
  return `rgb(${mixed.join(" ")})`;
}
