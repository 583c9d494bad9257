// The few lines that a page without a framework needs.

/** The element with this id, which is in index.html. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no #${id}`);
  return found;
}

/**
 * A new element. `props`: `class`, `text`, `on` {event: handler}; whatever else is an attribute, where `true` sets an
 * empty one and `false` or null none.
 */
export function el(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "class") made.className = value;
    else if (name === "text") made.textContent = value;
    else if (name === "on") for (const [event, handler] of Object.entries(value)) made.addEventListener(event, handler);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Says a sentence to those who do not see the page. */
export function announce(text) {
  const region = byId("announcer");
  region.textContent = "";
  // The same sentence twice is no change, and would not be said again.
  requestAnimationFrame(() => {
    region.textContent = text;
  });
}

/** What runs before the next frame, once, however often it is asked for. */
export function oncePerFrame(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}
