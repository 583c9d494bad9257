// The best matches of one photo, as a list with small pictures.

import { byId, el } from "./dom.js";
import { thumbnail } from "./thumbs.js";
import { score } from "./words.js";

const AT_A_TIME = 12;
const list = byId("ranks");
const select = byId("ranks-photo");
const more = byId("ranks-more");

let show = null; // {photos, rankedOf(query), valueOf(query, other), compare(query, other)}
let length = AT_A_TIME;

/** Makes the choice of a photo and "Show more" work. */
export function startRanks() {
  select.addEventListener("change", () => {
    length = AT_A_TIME;
    fill();
  });
  more.addEventListener("click", () => {
    const first = length;
    length += AT_A_TIME;
    fill();
    list.children[first]?.querySelector("button").focus();
  });
}

/** Takes photos to show matches among; `order` is that of the choice. `choosePhoto` then shows some. */
export function showRanks(what, order) {
  show = what;
  const option = (index) => el("option", { value: String(index), text: show.photos[index].name });
  select.replaceChildren(...order.map(option));
}

/** Lists the matches of this photo. */
export function choosePhoto(index) {
  select.value = String(index);
  length = AT_A_TIME;
  fill();
}

function fill() {
  const query = Number(select.value);
  const all = show.rankedOf(query);
  list.replaceChildren(...all.slice(0, length).map((other) => row(query, other)));
  more.hidden = all.length <= length;
}

function row(query, other) {
  const { photos, valueOf, compare } = show;
  const value = valueOf(query, other);
  const { name } = photos[other];
  const bar = el("i", { class: "level", "aria-hidden": "true" });
  bar.style.setProperty("--value", String(value));
  const button = el(
    "button",
    { type: "button", class: "match", title: name, "aria-label": `${name}, ${score(value)}: compare in Two photos` },
    thumbnail(photos[other]),
    el("span", { class: "name", text: name }),
    el("span", { class: "value", text: score(value) }),
    bar,
  );
  button.addEventListener("click", () => compare(query, other));
  return el("li", {}, button);
}
