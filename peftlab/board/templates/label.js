"use strict";
const find = document.getElementById("find");
const classes = [...document.querySelectorAll(".class")];
let sent = false;

function shown() { return classes.filter((each) => !each.hidden); }

if (find) {
  find.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase();
    for (const each of classes) each.hidden = !each.querySelector("span").textContent.toLowerCase().includes(wanted);
  });
  find.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { find.value = ""; find.dispatchEvent(new Event("input")); find.blur(); }
    if (event.key !== "Enter") return;
    event.preventDefault();
    event.stopPropagation();
    const first = find.value.trim() ? shown()[0] : null;
    if (!first) return;
    first.click();
    find.value = "";
    find.dispatchEvent(new Event("input"));
    find.blur();
  });
}

document.addEventListener("submit", (event) => {
  if (sent) event.preventDefault();  // a key that is pressed twice answers once
  sent = true;
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || document.activeElement === find) return;
  if (find && event.key === "/") { event.preventDefault(); find.focus(); return; }
  // Enter on a link or a button is that link's or button's own.
  if (event.key === "Enter" && document.activeElement.matches("a, button")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const target = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (!target || target.disabled) return;
  event.preventDefault();
  target.click();
});
