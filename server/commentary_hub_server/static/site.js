// Everything works without this file. It remembers light or dark, copies snippets, and moves the threshold at once.
(() => {
  const root = document.documentElement;
  const kept = localStorage.getItem("theme");
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  document.addEventListener("DOMContentLoaded", () => {
    const toggle = document.querySelector("[data-toggle-theme]");
    if (toggle) {
      toggle.hidden = false;
      toggle.addEventListener("click", () => {
        const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
        root.dataset.theme = dark ? "light" : "dark";
        localStorage.setItem("theme", root.dataset.theme);
      });
    }
    const said = document.getElementById("said");
    document.querySelectorAll("[data-copy]").forEach((button) => {
      button.hidden = false;
      button.addEventListener("click", async () => {
        const code = document.getElementById(button.dataset.copy);
        try {
          await navigator.clipboard.writeText(code.textContent.trim());
          button.textContent = "Copied";
          said.textContent = "Copied";
        } catch {
          getSelection().selectAllChildren(code);
          said.textContent = "Selected: copy it with the keyboard";
        }
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      });
    });
    const slider = document.querySelector("[data-threshold]");
    if (slider) {
      const mark = document.querySelector(".histogram .mark");
      const bars = [...document.querySelectorAll(".histogram .bar")];
      slider.addEventListener("input", () => {
        const at = slider.value * 640;
        mark.setAttribute("x1", at);
        mark.setAttribute("x2", at);
        bars.forEach((bar, i) => bar.classList.toggle("low", (i + 0.5) / bars.length < slider.value));
        document.getElementById("threshold-now").textContent = Number(slider.value).toFixed(2);
      });
      slider.addEventListener("change", () => slider.form.requestSubmit());
    }
  });
})();
