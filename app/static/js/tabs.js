// Three views as ARIA tabs: arrow keys, Home and End move between them; the address keeps the one that is open.

const tabs = [...document.querySelectorAll('[role="tab"]')];
const panelOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));
const listeners = [];

/** Opens the view that the address names, and whichever is asked for from then on. */
export function startTabs() {
  for (const tab of tabs) {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", (event) => move(event, tab));
  }
  window.addEventListener("hashchange", fromAddress);
  fromAddress();
}

/** Opens the view with this id and moves there. */
export function openView(id) {
  const tab = tabs.find((one) => panelOf(one).id === id);
  open(tab);
  tab.focus();
}

/** `listener(id)` hears whenever a view is opened. */
export const onView = (listener) => listeners.push(listener);

/** Whether the view with this id is open. */
export const isOpen = (id) => !document.getElementById(id).hidden;

function open(tab) {
  for (const one of tabs) {
    const chosen = one === tab;
    one.setAttribute("aria-selected", String(chosen));
    one.tabIndex = chosen ? 0 : -1;
    panelOf(one).hidden = !chosen;
  }
  const { id } = panelOf(tab);
  // Not location.hash: it would scroll to the view.
  if (location.hash.slice(1) !== id) history.replaceState(null, "", `#${id}`);
  for (const listener of listeners) listener(id);
}

function move(event, tab) {
  const here = tabs.indexOf(tab);
  const last = tabs.length - 1;
  const next = {
    ArrowRight: here === last ? 0 : here + 1,
    ArrowLeft: here === 0 ? last : here - 1,
    Home: 0,
    End: last,
  }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  open(tabs[next]);
  tabs[next].focus();
}

function fromAddress() {
  open(tabs.find((tab) => `#${panelOf(tab).id}` === location.hash) ?? tabs[0]);
}
