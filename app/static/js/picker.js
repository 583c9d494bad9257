// A place to hand files over: drop them there, or choose them with its buttons.

import { el } from "./dom.js";
import { filesFromDrop, filesFromInput, hasFiles } from "./files.js";

/** Has an element take what is dropped on it; `take({files, leftOut})`. */
export function takeDrops(element, take) {
  let depth = 0; // a drag enters each child anew
  const mark = (change) => {
    depth = Math.max(0, depth + change);
    element.classList.toggle("over", depth > 0);
  };
  element.addEventListener("dragenter", (event) => hasFiles(event) && mark(1));
  element.addEventListener("dragleave", (event) => hasFiles(event) && mark(-1));
  element.addEventListener("drop", (event) => {
    mark(-depth);
    if (!hasFiles(event)) return;
    event.preventDefault();
    filesFromDrop(event).then(take);
  });
}

/** A file that is dropped beside all places for it would otherwise replace the page. */
export function refuseStrayDrops() {
  for (const kind of ["dragover", "drop"]) {
    window.addEventListener(kind, (event) => hasFiles(event) && event.preventDefault());
  }
}

/** A file input opens at Space; as the button that it looks like, at Enter as well. */
export function openAtEnter(input) {
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    input.click();
  });
}

/** A button that is a file input: the label is what one sees, the input what has the focus. */
export function fileButton(text, { accept, multiple = false, folder = false, primary = false }, take) {
  const kind = folder ? { webkitdirectory: true } : { accept, multiple };
  const input = el("input", { type: "file", class: "unseen", ...kind });
  openAtEnter(input);
  input.addEventListener("change", () => {
    const chosen = filesFromInput(input);
    input.value = ""; // the same file can be chosen again
    if (chosen.files.length || chosen.leftOut) take(chosen);
  });
  return el("label", { class: primary ? "button primary" : "button" }, text, input);
}

/**
 * Builds a drop zone in `place`. `buttons`: [text, options] of `fileButton`. Returns {say(text), element}: what is said
 * in it of the files that it has.
 */
export function dropZone(place, { title, buttons, take, extra = null }) {
  const words = el("p", { class: "said", text: title });
  const choices = buttons.map(([text, options]) => fileButton(text, options, take));
  const row = el("div", { class: "buttons" }, ...choices, extra);
  const element = el("div", { class: "drop" }, words, row);
  takeDrops(element, take);
  place.replaceChildren(element);
  return {
    element,
    say(text, filled = true) {
      words.textContent = text;
      element.classList.toggle("filled", filled);
    },
  };
}
