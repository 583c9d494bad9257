// What is computed in the browser: similarities of embeddings, as the service would, in double precision.

/** N embeddings (Float64Array each) -> the N × N similarities (cosine + 1) / 2, row by row. */
export function similarities(vectors) {
  const rows = vectors.map(unit);
  const n = rows.length;
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = i; j < n; j++) {
      out[i * n + j] = out[j * n + i] = (Math.min(1, Math.max(-1, dot(rows[i], rows[j]))) + 1) / 2;
    }
  }
  return out;
}

/** The lowest and the highest similarity of two different photos; [0, 1] where there are none. */
export function range(values, n) {
  let [low, high] = [Infinity, -Infinity];
  for (let i = 0; i < n; i++) {
    for (let j = i + 1; j < n; j++) {
      low = Math.min(low, values[i * n + j]);
      high = Math.max(high, values[i * n + j]);
    }
  }
  return low <= high ? [low, high] : [0, 1];
}

/** The other photos, the most similar to photo `query` first. */
export function ranked(values, n, query) {
  const others = Array.from({ length: n }, (_, index) => index).filter((index) => index !== query);
  return others.sort((a, b) => values[query * n + b] - values[query * n + a] || a - b);
}

/**
 * An order in which photos that are alike stand together: the groups of average linkage, joined so that the photos at
 * the seam are alike. O(N³) at worst, a moment for 500 photos.
 */
export function alikeTogether(values, n) {
  let groups = Array.from({ length: n }, (_, index) => [index]);
  // (groups × groups) mean similarity between groups; a group that was joined to another has -1.
  const mean = Float64Array.from(values);
  const nearest = groups.map((_, group) => nearestOf(group));
  for (let left = n; left > 1; left--) {
    const [a, b] = closest();
    join(a, b);
  }
  return groups.find((group) => group !== null) ?? [];

  function nearestOf(group) {
    let best = -1;
    for (let other = 0; other < n; other++) {
      if (other === group || groups[other] === null) continue;
      if (best < 0 || mean[group * n + other] > mean[group * n + best]) best = other;
    }
    return best;
  }

  function closest() {
    let best = -1;
    for (let group = 0; group < n; group++) {
      if (groups[group] === null) continue;
      if (best < 0 || mean[group * n + nearest[group]] > mean[best * n + nearest[best]]) best = group;
    }
    return [best, nearest[best]];
  }

  function join(a, b) {
    const [size, other] = [groups[a].length, groups[b].length];
    for (let group = 0; group < n; group++) {
      const value = (mean[a * n + group] * size + mean[b * n + group] * other) / (size + other);
      mean[a * n + group] = mean[group * n + a] = value;
    }
    groups[a] = seamed(groups[a], groups[b], values, n);
    groups[b] = null;
    for (let group = 0; group < n; group++) {
      if (groups[group] === null) continue;
      if (group === a || nearest[group] === a || nearest[group] === b) nearest[group] = nearestOf(group);
    }
  }
}

/** Two groups one after the other, each turned so that the two photos that meet are as alike as can be. */
function seamed(first, second, values, n) {
  const ends = [
    [first, second],
    [first, second.toReversed()],
    [first.toReversed(), second],
    [first.toReversed(), second.toReversed()],
  ];
  const seam = ([one, other]) => values[one.at(-1) * n + other[0]];
  const [one, other] = ends.reduce((best, next) => (seam(next) > seam(best) ? next : best));
  return [...one, ...other];
}

function unit(vector) {
  const norm = Math.sqrt(dot(vector, vector));
  return vector.map((value) => value / norm);
}

function dot(a, b) {
  let sum = 0;
  for (let index = 0; index < a.length; index++) sum += a[index] * b[index];
  return sum;
}
