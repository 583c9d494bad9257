// The card "Where the score comes from": asks for the heat map, and rules how strong it is.

import { sendJson } from "./api.js";
import { byId, el } from "./dom.js";
import { largestOf, linkLine } from "./heatmap.js";
import { hintFor } from "./hints.js";
import { asProblem, isCancelled } from "./problem.js";

// As many links as a person looks at.
const LINKS = 5;
const WAITING =
  "The score is a sum over the places of both photos. Colours will show what each place adds: red makes the score" +
  " higher, blue lower, grey does nothing.";

const toggle = byId("heat-switch");
const opacity = byId("heat-opacity");
const words = byId("heat-words");
const list = byId("heat-links");
const pair = byId("pair");

/** Makes the switch and the slider work. */
export function startHeat() {
  toggle.addEventListener("click", () => {
    toggle.setAttribute("aria-checked", String(!isOn()));
    apply();
  });
  opacity.addEventListener("input", apply);
  apply();
}

/** Asks where the score of two filled slots comes from, and shows it. A bundle that cannot tell is no error. */
export async function showHeat([a, b], signal) {
  const form = new FormData();
  form.append("query_image", a.file, a.file.name);
  form.append("gallery_image", b.file, b.file.name);
  words.textContent = "Taking the score apart …";
  try {
    const [explained] = await sendJson(`similarity/explain?links=${LINKS}`, { method: "POST", body: form, signal });
    show([a, b], explained);
  } catch (error) {
    if (isCancelled(error)) throw error;
    const problem = asProblem(error);
    forgetHeat(`${problem.title}. ${problem.detail} ${hintFor(problem)}`);
  }
}

/** No map, and why. */
export function forgetHeat(why = WAITING) {
  toggle.disabled = opacity.disabled = true;
  byId("heat-low").textContent = "takes away";
  byId("heat-high").textContent = "adds";
  list.replaceChildren(...Array.from({ length: LINKS }, () => el("li")));
  list.setAttribute("aria-hidden", "true");
  words.textContent = why;
}

function show([a, b], explained) {
  const { query, gallery, links, cosine } = explained;
  const largest = largestOf(query, gallery);
  a.showMap(query, largest, links, "query");
  b.showMap(gallery, largest, links, "gallery");
  byId("heat-low").textContent = `takes away ${largest.toFixed(3)}`;
  byId("heat-high").textContent = `adds ${largest.toFixed(3)}`;
  list.replaceChildren(...links.map(linkLine));
  list.removeAttribute("aria-hidden");
  const [rows, columns] = explained.grid_shape;
  words.textContent =
    `The model looks at ${rows} × ${columns} places. Over each photo their colours add up to the cosine,` +
    ` ${cosine.toFixed(4)}; nothing is estimated. Equal numbers mark the pairs of places that add most:`;
  toggle.disabled = opacity.disabled = false;
  apply();
}

const isOn = () => toggle.getAttribute("aria-checked") === "true";

function apply() {
  pair.classList.toggle("without-map", !isOn());
  pair.style.setProperty("--strength", String(opacity.valueAsNumber / 100));
  opacity.setAttribute("aria-valuetext", `${opacity.value} percent`);
}
