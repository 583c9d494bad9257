// The matrix of all pairs: one canvas, a cursor that the arrow keys and the pointer move, and words for both.

import { announce, byId, el, oncePerFrame } from "./dom.js";
import { onTheme } from "./theme-button.js";
import { score } from "./words.js";

const place = byId("matrix");
const canvas = document.createElement("canvas");
const probe = el("i", { hidden: true });
const STEP = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
const PAGE = 10;

let shown = null; // {names, values, range, order}: order[row] is the photo in that row and in that column
let cursor = [0, 0];
let listeners = null;
let cells = null; // a picture of one pixel a cell

/** Makes it work. onMove(row photo, column photo) and onChoose(row photo) hear of the cursor. */
export function startMatrix(onMove, onChoose) {
  listeners = { onMove, onChoose };
  place.append(canvas, probe);
  const later = oncePerFrame(draw);
  new ResizeObserver(later).observe(place);
  onTheme(() => {
    cells = null;
    later();
  });
  place.addEventListener("keydown", press);
  place.addEventListener("focus", later);
  place.addEventListener("blur", later);
  place.addEventListener("pointermove", (event) => event.pointerType === "mouse" && point(event));
  place.addEventListener("click", (event) => {
    point(event);
    if (shown) onChoose(shown.order[cursor[0]]);
  });
}

/** Shows similarities of named photos in an order; the cursor goes to the most similar pair. */
export function showMatrix(names, values, range, order) {
  shown = { names, values, range, order };
  cells = null;
  cursor = bestPair();
  draw();
  moved();
}

function bestPair() {
  const { values, order } = shown;
  const n = order.length;
  let best = [0, Math.min(1, n - 1)];
  for (let row = 0; row < n; row++) {
    for (let column = row + 1; column < n; column++) {
      if (at(values, row, column) > at(values, ...best)) best = [row, column];
    }
  }
  return best;
}

const at = (values, row, column) => values[shown.order[row] * shown.order.length + shown.order[column]];

function press(event) {
  if (!shown) return;
  const last = shown.order.length - 1;
  const [row, column] = cursor;
  const step = STEP[event.key];
  let next = null;
  if (step) next = [row + step[0], column + step[1]];
  else if (event.key === "Home") next = event.ctrlKey ? [0, 0] : [row, 0];
  else if (event.key === "End") next = event.ctrlKey ? [last, last] : [row, last];
  else if (event.key === "PageUp") next = [row - PAGE, column];
  else if (event.key === "PageDown") next = [row + PAGE, column];
  else if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  if (next) {
    move(next.map((value) => Math.min(last, Math.max(0, value))));
    announce(spoken());
  } else {
    listeners.onChoose(shown.order[row]);
  }
}

function point(event) {
  if (!shown) return;
  const box = canvas.getBoundingClientRect();
  const n = shown.order.length;
  const cell = (offset, side) => Math.min(n - 1, Math.max(0, Math.floor((offset / side) * n)));
  move([cell(event.clientY - box.top, box.height), cell(event.clientX - box.left, box.width)]);
}

function move(next) {
  if (next[0] === cursor[0] && next[1] === cursor[1]) return;
  cursor = next;
  draw();
  moved();
}

function moved() {
  listeners.onMove(shown.order[cursor[0]], shown.order[cursor[1]]);
}

function spoken() {
  const [row, column] = cursor.map((index) => shown.names[shown.order[index]]);
  return cursor[0] === cursor[1] ? `${row} with itself` : `${row} and ${column}: ${score(at(shown.values, ...cursor))}`;
}

function draw() {
  if (!shown || !place.clientWidth) return;
  cells ??= paint();
  const side = Math.round(place.clientWidth * devicePixelRatio);
  if (canvas.width !== side) canvas.width = canvas.height = side;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(cells, 0, 0, side, side);
  drawCursor(pen, side / shown.order.length);
}

/** One pixel a cell, on a ramp from the least to the most similar pair; a photo with itself is left empty. */
function paint() {
  const { values, range, order } = shown;
  const n = order.length;
  const ramp = readRamp();
  const picture = new ImageData(n, n);
  for (let row = 0; row < n; row++) {
    for (let column = 0; column < n; column++) {
      if (row === column) continue;
      const share = (at(values, row, column) - range[0]) / (range[1] - range[0] || 1);
      picture.data.set(ramp[Math.round(share * 255)], 4 * (row * n + column));
    }
  }
  const small = new OffscreenCanvas(n, n);
  small.getContext("2d").putImageData(picture, 0, 0);
  return small;
}

/** The 256 colours of --ramp-1 to --ramp-5, which change with the theme. */
function readRamp() {
  const strip = new OffscreenCanvas(256, 1).getContext("2d", { willReadFrequently: true });
  const gradient = strip.createLinearGradient(0, 0, 256, 0);
  for (let step = 0; step < 5; step++) gradient.addColorStop(step / 4, colour(`--ramp-${step + 1}`));
  strip.fillStyle = gradient;
  strip.fillRect(0, 0, 256, 1);
  const { data } = strip.getImageData(0, 0, 256, 1);
  return Array.from({ length: 256 }, (_, step) => data.subarray(4 * step, 4 * step + 4));
}

/** What a custom property comes to in the present theme. */
function colour(name) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

function drawCursor(pen, cell) {
  const [row, column] = cursor;
  const thick = Math.max(2, 2 * devicePixelRatio);
  const side = Math.max(cell, 6 * devicePixelRatio);
  const [x, y] = [column, row].map((index) => (index + 0.5) * cell - side / 2);
  for (const [name, width] of [["--surface", thick * 2], ["--ink", thick]]) {
    pen.strokeStyle = colour(name);
    pen.lineWidth = width;
    pen.strokeRect(x, y, side, side);
  }
}
