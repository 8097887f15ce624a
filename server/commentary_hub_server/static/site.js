// Everything works without this file. It remembers light or dark, copies snippets, and moves the threshold at once.
(() => {
  const root = document.documentElement;
  const kept = localStorage.getItem("theme");
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;

  const say = (text) => { document.getElementById("said").textContent = text; };

  const toggleTheme = () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
    say(dark ? "Light" : "Dark");
  };

  const copy = async (button) => {
    const code = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(code.textContent.trim());
      button.firstChild.textContent = "Copied";
      say("Copied");
    } catch {
      getSelection().selectAllChildren(code);
      say("Selected: copy it with the keyboard");
    }
    setTimeout(() => { button.firstChild.textContent = "Copy"; }, 2000);
  };

  const moveThreshold = (slider) => {
    const at = Number(slider.value);
    const bars = [...document.querySelectorAll(".histogram .bar")];
    bars.forEach((bar, i) => bar.classList.toggle("low", (i + 0.5) / bars.length < at));
    document.querySelector(".histogram .mark").setAttribute("d", `M${at * 100} 0V100`);
    document.getElementById("threshold-now").textContent = at.toFixed(2);
  };

  const prepare = () => {
    document.querySelectorAll("[data-needs-script]").forEach((part) => { part.hidden = false; });
    document.querySelectorAll("[data-needs-none]").forEach((part) => { part.hidden = true; });
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.copy) copy(button);
    if (button?.hasAttribute("data-theme-toggle")) toggleTheme();
  });
  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-threshold]")) moveThreshold(event.target);
  });
  document.addEventListener("DOMContentLoaded", prepare);
  document.addEventListener("htmx:afterSwap", prepare);
})();
