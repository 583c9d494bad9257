// The button that turns dark on and off. A choice that is the system's anyway is forgotten: the page follows it again.

import { byId } from "./dom.js";

const system = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;
const button = byId("theme-button");
const listeners = [];

/** Whether the page is dark now. */
export const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

/** `listener()` hears whenever colours change: a canvas has to be drawn anew. */
export const onTheme = (listener) => listeners.push(listener);

/** Makes the button work. */
export function startTheme() {
  button.addEventListener("click", () => {
    choose(isDark() ? "light" : "dark");
    show();
  });
  system.addEventListener("change", show);
  show();
}

function choose(theme) {
  const isSystems = system.matches === (theme === "dark");
  if (isSystems) delete root.dataset.theme;
  else root.dataset.theme = theme;
  try {
    if (isSystems) localStorage.removeItem("jaguar-theme");
    else localStorage.setItem("jaguar-theme", theme);
  } catch {
    // A browser that keeps nothing for this page forgets the choice when it is left.
  }
}

function show() {
  button.setAttribute("aria-pressed", String(isDark()));
  for (const listener of listeners) listener();
}
