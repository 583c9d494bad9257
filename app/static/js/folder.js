// The view "A folder": many photos, each with each.

import { clear, describe, showProblem } from "./alerts.js";
import { comparePhotos } from "./compare.js";
import { alikeTogether, range, ranked, similarities } from "./cosines.js";
import { pairsCsv, save } from "./csv.js";
import { announce, byId, el } from "./dom.js";
import { embed } from "./embedding.js";
import { PHOTO_TYPES, looksLikePhoto } from "./files.js";
import { showMatrix, startMatrix } from "./matrix.js";
import { dropZone } from "./picker.js";
import { isCancelled } from "./problem.js";
import { Progress } from "./progress.js";
import { choosePhoto, showRanks, startRanks } from "./ranks.js";
import { openView } from "./tabs.js";
import { thumbnail } from "./thumbs.js";
import { byName, many, score } from "./words.js";

const problems = byId("folder-problem");
const order = byId("matrix-order");
const progress = new Progress("folder");
const empty = () => ({ photos: new Map(), version: null, values: null, shown: [] });

// photos: name -> {file, name, vector or undefined}; shown: those that have one, in the order of `values`.
let folder = empty();
let zone = null;
let pair = null;

/** Builds the view. */
export function startFolder() {
  const again = el("button", { type: "button", class: "quiet", text: "Start over", hidden: true });
  again.addEventListener("click", startOver);
  zone = dropZone(byId("folder-drop"), {
    title: "Drop photos or a folder here",
    buttons: [
      ["Choose a folder", { folder: true, primary: true }],
      ["Choose photos", { accept: PHOTO_TYPES, multiple: true }],
    ],
    take: add,
    extra: again,
  });
  zone.again = again;
  startMatrix(showPair, choosePhoto);
  startRanks();
  order.addEventListener("change", drawMatrix);
  byId("pair-compare").addEventListener("click", () => openPair(...pair));
  byId("folder-csv").addEventListener("click", saveCsv);
}

/** Adds photos to those that are there. A name that is there already is left out: the CSV tells photos by names. */
function add({ files, leftOut }) {
  // What else was chosen on purpose goes to the service, which says what is wrong with it.
  const photos = files.filter(({ name, file }) => looksLikePhoto(name) || isImage(file) || files.length === 1);
  const fresh = photos.filter(({ name }) => !folder.photos.has(name));
  fresh.sort((a, b) => byName(a.name, b.name));
  for (const photo of fresh) folder.photos.set(photo.name, photo);
  const said = [many(folder.photos.size, "photo")];
  const others = leftOut + files.length - photos.length;
  if (others) said.push(`${many(others, "other file")} left out`);
  const known = photos.length - fresh.length;
  if (known) said.push(`${known} left out whose names were there already`);
  zone.say(said.join(" · "));
  zone.again.hidden = false;
  work();
}

const isImage = (file) => file.type.startsWith("image/");

function startOver() {
  progress.cancel();
  folder = empty();
  clear(problems);
  byId("folder-left-out").replaceChildren();
  byId("folder-result").hidden = true;
  zone.say("Drop photos or a folder here", false);
  zone.again.hidden = true;
}

/** Embeds what is not embedded yet, then shows all. */
async function work() {
  clear(problems);
  const mine = folder;
  const todo = [...mine.photos.values()].filter((photo) => !photo.vector);
  if (!todo.length) return;
  const run = progress.begin(todo.length, "Looking at the photos");
  try {
    mine.version = await embed(todo, {
      version: mine.version,
      signal: run.signal,
      onResult: (photo, vector) => {
        photo.vector = vector;
        run.advance();
      },
      onRefused: (photo, problem) => {
        mine.photos.delete(photo.name);
        byId("folder-left-out").append(leftOut(photo, problem));
        run.advance();
      },
      onWait: (seconds) => run.say(`The service is busy; trying again in ${seconds} s`),
    });
  } catch (error) {
    if (error.slug === "other-version") forgetVectors(mine);
    if (!isCancelled(error)) showProblem(problems, error, { retry: work });
  } finally {
    run.end();
  }
  if (mine === folder) compute();
}

const leftOut = (photo, problem) => el("div", { role: "alert" }, describe(problem, `– ${photo.name} was left out`));

function forgetVectors(mine) {
  mine.version = null;
  for (const photo of mine.photos.values()) delete photo.vector;
}

function compute() {
  folder.shown = [...folder.photos.values()].filter((photo) => photo.vector);
  const n = folder.shown.length;
  const missing = folder.photos.size - n;
  byId("folder-result").hidden = n < 2;
  if (n < 2) {
    if (n === 1 && !missing) announce("One photo. Add at least one more.");
    zone.say(n === 1 && !missing ? "1 photo · add at least one more" : many(folder.photos.size, "photo"));
    return;
  }
  folder.values = similarities(folder.shown.map((photo) => photo.vector));
  const pairs = (n * (n - 1)) / 2;
  zone.say(missing ? `${n} of ${many(folder.photos.size, "photo")} compared` : many(n, "photo"));
  byId("folder-facts").textContent = `${many(n, "photo")}, ${many(pairs, "pair")}; model ${folder.version}.`;
  showAll();
  announce(`${many(n, "photo")} compared.`);
}

function showAll() {
  const { shown, values } = folder;
  const rankedOf = (query) => ranked(values, shown.length, query);
  const valueOf = (query, other) => values[query * shown.length + other];
  showRanks({ photos: shown, rankedOf, valueOf, compare: openPair }, inNameOrder());
  drawMatrix();
  choosePhoto(pair[0]);
}

function drawMatrix() {
  const { shown, values } = folder;
  const [low, high] = range(values, shown.length);
  byId("ramp-low").textContent = score(low);
  byId("ramp-high").textContent = score(high);
  const names = shown.map((photo) => photo.name);
  showMatrix(names, values, [low, high], order.value === "alike" ? alikeTogether(values, shown.length) : inNameOrder());
}

function inNameOrder() {
  const { shown } = folder;
  return shown.map((_, index) => index).sort((a, b) => byName(shown[a].name, shown[b].name));
}

function showPair(row, column) {
  pair = [row, column];
  const { shown, values } = folder;
  const value = row === column ? "with itself" : score(values[row * shown.length + column]);
  byId("couple").replaceChildren(card(shown[row]), el("b", { class: "value", text: value }), card(shown[column]));
  byId("pair-compare").disabled = row === column;
}

function card(photo) {
  return el("figure", {}, thumbnail(photo), el("figcaption", { class: "name", title: photo.name, text: photo.name }));
}

function openPair(row, column) {
  comparePhotos(folder.shown[row].file, folder.shown[column].file);
  openView("two");
}

function saveCsv() {
  save(pairsCsv(folder.shown.map((photo) => photo.name), folder.values), "similarities.csv");
  announce("The CSV was saved.");
}
