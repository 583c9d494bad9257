// A heat map over a photo: each place's colour fills its cell, since nothing finer is known.

import { diverging } from "./coolwarm.js";
import { el } from "./dom.js";

const SIDE = 480;

/**
 * Draws what each place adds onto a canvas that lies over the photo. `box`: the photo's left, top, right and bottom
 * edge in the grid, in places; what is outside of it was padding, and is not shown. `largest`: the value that gets the
 * strongest colour.
 */
export function drawMap(canvas, { grid, box, size }, largest) {
  const [left, top, right, bottom] = box;
  const scale = SIDE / Math.max(...size);
  canvas.width = Math.max(1, Math.round(size[0] * scale));
  canvas.height = Math.max(1, Math.round(size[1] * scale));
  const pen = canvas.getContext("2d");
  // Whole pixels, so that no gap shows between cells.
  const across = (column) => Math.round(((column - left) / (right - left)) * canvas.width);
  const down = (row) => Math.round(((row - top) / (bottom - top)) * canvas.height);
  grid.forEach((values, row) =>
    values.forEach((value, column) => {
      pen.fillStyle = diverging(value / largest);
      const [x, y] = [across(column), down(row)];
      pen.fillRect(x, y, across(column + 1) - x, down(row + 1) - y);
    }),
  );
}

/** The largest absolute value in both maps: the one scale on which they can be compared; 1 where all is 0. */
export function largestOf(...photos) {
  const values = photos.flatMap(({ grid }) => grid.flat().map(Math.abs));
  return Math.max(...values) || 1;
}

/** The numbers of the links on a photo, each where its place is; links that end in one place share a mark. */
export function marks(links, end) {
  const places = new Map();
  links.forEach((link, index) => {
    const { x, y } = link[end];
    if (x === null) return;
    const key = `${x} ${y}`;
    const place = places.get(key) ?? { x, y, numbers: [] };
    place.numbers.push(index + 1);
    places.set(key, place);
  });
  return [...places.values()].map(({ x, y, numbers }) => {
    const mark = el("span", { class: "mark", text: numbers.join(" ") });
    mark.style.setProperty("left", `${x * 100}%`);
    mark.style.setProperty("top", `${y * 100}%`);
    return mark;
  });
}

/** A link as a line of text. */
export function linkLine({ value, query, gallery }) {
  const sign = value < 0 ? "−" : "+";
  return el(
    "li",
    {},
    el("span", { text: `A: ${placeName(query)}` }),
    el("span", { text: `B: ${placeName(gallery)}` }),
    el("b", { text: `${sign}${Math.abs(value).toFixed(4)}` }),
  );
}

/** People count from 1. A place that shows nothing of the photo adds as well, if little. */
const placeName = ({ row, column, x }) => `row ${row + 1}, column ${column + 1}${x === null ? " (padding)" : ""}`;
