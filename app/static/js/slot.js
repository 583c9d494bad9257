// One of the two photos: a place to drop it, its picture, the heat map over it.

import { el } from "./dom.js";
import { PHOTO_TYPES } from "./files.js";
import { drawMap, marks } from "./heatmap.js";
import { openAtEnter, takeDrops } from "./picker.js";
import { bytes } from "./words.js";

/** A slot called "A" or "B". `take(files)` gets what is dropped or chosen here; `cleared()` hears of its removal. */
export class Slot {
  constructor(letter, take, cleared) {
    this.letter = letter;
    this.file = null;
    this.input = el("input", { type: "file", class: "unseen", accept: PHOTO_TYPES, multiple: true });
    this.image = el("img", { alt: "", decoding: "async" });
    this.map = el("canvas", { class: "map", "aria-hidden": "true" });
    this.marks = el("div", { class: "marks", "aria-hidden": "true" });
    this.photo = el("div", { class: "photo", hidden: true }, this.image, this.map, this.marks);
    this.blind = el("p", { class: "blind", hidden: true, text: "This browser cannot show it." });
    this.invitation = el(
      "span",
      { class: "invitation" },
      el("b", { text: `Photo ${letter}` }),
      el("span", { class: "wide", text: "drop it, paste it or " }),
      el("u", { text: "choose it" }),
    );
    this.name = el("span", { class: "name" });
    const whose = { "aria-label": `Remove photo ${letter}` };
    this.remove = el("button", { type: "button", class: "quiet", text: "Remove", ...whose });
    this.frame = el("label", { class: "frame" }, this.input, this.invitation, this.photo, this.blind);
    this.element = el("figure", { class: "slot" }, this.frame, el("figcaption", {}, this.name, this.remove));
    this.#listen(take, cleared);
    this.set(null);
  }

  #listen(take, cleared) {
    openAtEnter(this.input);
    this.input.addEventListener("change", () => {
      const files = [...this.input.files];
      this.input.value = "";
      if (files.length) take(files);
    });
    takeDrops(this.frame, ({ files }) => files.length && take(files.map(({ file }) => file)));
    this.remove.addEventListener("click", () => {
      this.set(null);
      this.input.focus();
      cleared();
    });
    this.image.addEventListener("load", () => {
      this.photo.style.setProperty("--ratio", String(this.image.naturalWidth / this.image.naturalHeight));
      this.photo.hidden = false;
    });
    this.image.addEventListener("error", () => {
      this.blind.hidden = this.file === null;
    });
  }

  /** Shows another photo, or with null none. */
  set(file) {
    if (this.image.src) URL.revokeObjectURL(this.image.src);
    this.file = file;
    this.photo.hidden = this.blind.hidden = true;
    this.hideMap();
    this.frame.classList.toggle("filled", file !== null);
    this.remove.hidden = file === null;
    this.name.title = file?.name ?? "";
    this.name.textContent = file ? `${file.name} · ${bytes(file.size)}` : "";
    const has = file ? `${file.name}. Choose another one` : "choose a file";
    this.input.setAttribute("aria-label", `Photo ${this.letter}: ${has}`);
    if (file) this.image.src = URL.createObjectURL(file);
    else this.image.removeAttribute("src");
  }

  /** Lays a map over the photo, with the ends of the links on it. `end` is `query` or `gallery`. */
  showMap(explained, largest, links, end) {
    drawMap(this.map, explained, largest);
    this.marks.replaceChildren(...marks(links, end));
    this.photo.classList.add("mapped");
  }

  /** Takes it away. */
  hideMap() {
    this.photo.classList.remove("mapped");
    this.marks.replaceChildren();
  }
}
