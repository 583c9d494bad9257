// Runs before the first paint, and so is no module.
(() => {
  const root = document.documentElement;
  try {
    // The theme that was chosen here; without one, the system's.
    const chosen = localStorage.getItem("jaguar-theme");
    if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  } catch {
    // A browser that keeps nothing for this page follows the system.
  }
  // The views are shown once main.js has built them, so that nothing jumps; whatever happens to it, not much later.
  root.dataset.starting = "";
  setTimeout(() => delete root.dataset.starting, 3000);
})();
