// The view "Two photos": as soon as both are there, they are compared.

import { clear, showProblem } from "./alerts.js";
import { read, send, sendJson, sleep } from "./api.js";
import { announce, byId } from "./dom.js";
import { filesFromPaste } from "./files.js";
import { forgetHeat, showHeat, startHeat } from "./heat.js";
import { isCancelled } from "./problem.js";
import { Slot } from "./slot.js";
import { isOpen } from "./tabs.js";
import { forgetVerdict, showVerdict, spoken } from "./verdict.js";

const problems = byId("two-problem");
let slots = [];
let work = new AbortController();

/** Builds the two slots. */
export function startCompare() {
  slots = ["A", "B"].map((letter, here) => new Slot(letter, (files) => take(files, here), refresh));
  byId("pair").replaceChildren(...slots.map((slot) => slot.element));
  document.addEventListener("paste", paste);
  byId("two-samples").addEventListener("click", takeSamples);
  startHeat();
  refresh();
}

/** Compares these two, whatever was there before. */
export function comparePhotos(a, b) {
  slots[0].set(a);
  slots[1].set(b);
  refresh();
}

/**
 * Two drawn photos that come with the page, of one invented animal: `photo(coat(21, 1, "right"), default_rng((31, 1,
 * k)), size=(540, 360))` of training.coats, k = 2 and 5, on white.
 */
async function takeSamples() {
  try {
    const names = ["drawn-1.jpg", "drawn-2.jpg"];
    const blobs = await Promise.all(names.map(async (name) => read(await send(`static/samples/${name}`), "blob")));
    comparePhotos(...blobs.map((blob, index) => new File([blob], names[index], { type: "image/jpeg" })));
  } catch (error) {
    showProblem(problems, error, { retry: takeSamples });
  }
}

/** One photo goes where it was dropped, two go into both slots; more are refused. */
function take(files, here) {
  if (files.length === 1) slots[here].set(files[0]);
  else if (files.length === 2) files.forEach((file, index) => slots[index].set(file));
  else {
    announce("Two photos at a time. For more, open the view A folder.");
    forgetVerdict(`${files.length} photos came at once; this view takes two.`, "“A folder” takes as many as you like.");
    return;
  }
  refresh();
}

/** A pasted photo goes into the slot that has the focus, or else into the first that is free, or else into B. */
function paste(event) {
  const { files } = filesFromPaste(event);
  if (!files.length || !isOpen("two")) return;
  event.preventDefault();
  const focused = slots.findIndex((slot) => slot.element.contains(document.activeElement));
  const free = slots.findIndex((slot) => slot.file === null);
  take(files.map(({ file }) => file), [focused, free, 1].find((here) => here >= 0));
}

async function refresh() {
  work.abort();
  work = new AbortController();
  const { signal } = work;
  clear(problems);
  slots.forEach((slot) => slot.hideMap());
  forgetHeat();
  const missing = slots.filter((slot) => slot.file === null);
  if (missing.length) {
    forgetVerdict(...(missing.length === 1 ? [`Photo ${missing[0].letter} is still missing.`] : []));
    return;
  }
  forgetVerdict("Comparing …");
  try {
    await compare(signal);
  } catch (error) {
    if (isCancelled(error)) return;
    forgetVerdict("There is no score; the message above says why.");
    showProblem(problems, error, { retry: refresh, about: whose(error) });
  }
}

/** The service names a photo by its part of the request; the page calls it A or B. */
function whose({ detail = "" }) {
  if (detail.startsWith("query_image")) return "– photo A";
  return detail.startsWith("gallery_image") ? "– photo B" : "";
}

async function compare(signal) {
  await sleep(0, signal); // two photos that come one right after the other are one comparison
  const form = new FormData();
  form.append("query_image", slots[0].file, slots[0].file.name);
  form.append("gallery_image", slots[1].file, slots[1].file.name);
  const began = performance.now();
  const onWait = (seconds) => forgetVerdict(`The service is busy; trying again in ${seconds} s.`);
  const [answer, response] = await sendJson("similarity", { method: "POST", body: form, signal, onWait });
  showVerdict(answer, response.headers.get("Server-Timing"), (performance.now() - began) / 1000);
  announce(spoken(answer));
  await showHeat(slots, signal);
}
