// Problems on the page: in their own words, with what to do, said aloud, until they are solved or put away.

import { el } from "./dom.js";
import { hintFor } from "./hints.js";
import { asProblem } from "./problem.js";

const SHOWN = 8;

/**
 * Shows an error in a region with role=alert, in place of what it showed before. `retry`: what the button does.
 * `about`: whose problem it is, where the detail does not say.
 */
export function showProblem(region, error, { retry, about = "" } = {}) {
  const problem = asProblem(error);
  const again = retry && el("button", { type: "button", text: "Try again" });
  again?.addEventListener("click", () => {
    clear(region);
    retry();
  });
  const away = el("button", { type: "button", class: "quiet", text: "Close", on: { click: () => clear(region) } });
  region.replaceChildren(describe(problem, about, el("div", { class: "buttons" }, again, away)));
}

/** A problem as a card. */
export function describe(problem, about = "", ...rest) {
  const hint = hintFor(problem);
  const shown = problem.problems.slice(0, SHOWN).map((line) => el("li", { text: line }));
  const more = problem.problems.slice(SHOWN).map((line) => el("li", { text: line }));
  return el(
    "div",
    { class: "problem" },
    el("p", { class: "title" }, el("strong", { text: problem.title }), about && el("span", { text: ` ${about}` })),
    el("p", { text: problem.detail }),
    shown.length ? el("ul", {}, ...shown) : null,
    more.length ? el("details", {}, el("summary", { text: `${more.length} more` }), el("ul", {}, ...more)) : null,
    hint ? el("p", { class: "hint", text: hint }) : null,
    ...rest,
    problem.requestId ? el("p", { class: "fine" }, "Request id ", el("code", { text: problem.requestId })) : null,
  );
}

/** Puts a problem away. */
export const clear = (region) => region.replaceChildren();
