// Runs before the first paint, and so is no module: the theme that was chosen here; without one, the system's.
(() => {
  try {
    const chosen = localStorage.getItem("jaguar-theme");
    if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  } catch {
    // A browser that keeps nothing for this page follows the system.
  }
})();
