// Light, dark, or what the system says. A plain script in the head: it runs before anything is drawn, so that a dark
// page does not flash white first.
(() => {
  const NAME = "dualtower.theme";
  const root = document.documentElement;

  function recalled() {
    try {
      return localStorage.getItem(NAME) ?? "auto";
    } catch {
      return "auto";
    }
  }

  function choose(theme) {
    root.dataset.theme = theme;
    try {
      localStorage.setItem(NAME, theme);
    } catch {
      // For this visit only.
    }
  }

  root.dataset.theme = recalled();
  document.addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll("input[name=theme]")) {
      button.checked = button.value === root.dataset.theme;
      button.addEventListener("change", () => choose(button.value));
    }
  });
})();
