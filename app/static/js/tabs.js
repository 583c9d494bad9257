// Three views as ARIA tabs: arrow keys, Home and End move between them; the address keeps the one that is open.

const tabs = [...document.querySelectorAll('[role="tab"]')];
// A view is called by the end of its tab's id. The address has that name and not the panel's id: a browser would take
// the panel for where the reader is, and Tab would begin there instead of at the head of the page.
const nameOf = (tab) => tab.id.slice("tab-".length);
const panelOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));

/** Opens the view that the address names, and whichever is asked for from then on. */
export function startTabs() {
  for (const tab of tabs) {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", (event) => move(event, tab));
  }
  window.addEventListener("hashchange", fromAddress);
  fromAddress();
}

/** Opens the view with this name and moves there. */
export function openView(name) {
  const tab = tabs.find((one) => nameOf(one) === name);
  open(tab);
  tab.focus();
}

/** Whether the view with this name is open. */
export const isOpen = (name) => tabs.some((tab) => nameOf(tab) === name && !panelOf(tab).hidden);

function open(tab) {
  for (const one of tabs) {
    const chosen = one === tab;
    one.setAttribute("aria-selected", String(chosen));
    one.tabIndex = chosen ? 0 : -1;
    panelOf(one).hidden = !chosen;
  }
  history.replaceState(null, "", `#${nameOf(tab)}`);
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
  open(tabs.find((tab) => `#${nameOf(tab)}` === location.hash) ?? tabs[0]);
}
