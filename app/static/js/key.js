// The API key: asked for when the service wants one, kept for this tab alone.

import { byId } from "./dom.js";

const NAME = "jaguar-api-key";
const dialog = byId("key-dialog");
const input = byId("key-input");
const button = byId("key-button");
let asked = null;
let inMemory = "";

/** Whether a key was entered. */
export const hasKey = () => read() !== "";

/** The header that carries the key; none without one. */
export const keyHeader = () => (hasKey() ? { "X-API-Key": read() } : {});

/**
 * Asks for a key after a 401 in reply to `sent`, the header that the request had. However many requests ask, there is
 * one dialog. Returns whether it is worth asking the service again.
 */
export function askForKey(sent) {
  if (read() !== (sent["X-API-Key"] ?? "")) return Promise.resolve(true); // another request has asked meanwhile
  asked ??= open(
    hasKey()
      ? "The service does not know the key that was entered. Enter another one."
      : "Whoever runs the service has given out keys. Enter yours to go on.",
  ).finally(() => {
    asked = null;
  });
  return asked;
}

/** The button in the head of the page, with which a key is changed or forgotten. */
export function startKey() {
  button.addEventListener("click", () => open("The key of this tab. Enter another one, or forget it."));
  byId("key-cancel").addEventListener("click", () => dialog.close("cancel"));
  byId("key-forget").addEventListener("click", () => dialog.close("forget"));
  show();
}

function open(detail) {
  byId("key-detail").textContent = detail;
  byId("key-forget").hidden = !hasKey();
  input.value = "";
  dialog.returnValue = "cancel";
  dialog.showModal();
  input.focus();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const key = input.value.trim();
        input.value = "";
        if (dialog.returnValue === "forget") write("");
        if (dialog.returnValue === "use" && key) write(key);
        resolve(dialog.returnValue === "use" && key !== "");
      },
      { once: true },
    );
  });
}

function read() {
  try {
    return sessionStorage.getItem(NAME) ?? inMemory;
  } catch {
    return inMemory; // a browser that keeps nothing for this page: the key lives until the page is left
  }
}

function write(key) {
  inMemory = key;
  try {
    if (key) sessionStorage.setItem(NAME, key);
    else sessionStorage.removeItem(NAME);
  } catch {
    // see read()
  }
  show();
}

function show() {
  button.hidden = !hasKey();
}
