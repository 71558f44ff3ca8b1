"use strict";
// Sends what was chosen. The event's own name makes a second try harmless.
const said = document.getElementById("said");
for (const button of document.querySelectorAll(".choose")) {
  const id = crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2) + Date.now();
  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-disabled")) return;
    const list = button.closest("ol");
    const event = { id, user: list.dataset.user, item: button.dataset.item };
    if (list.dataset.list) event.list = list.dataset.list;
    button.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch("api/events", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ events: [event] }),
      });
      const told = await answer.json();
      if (!answer.ok) throw new Error(told.error);
      button.textContent = "Chosen";
      button.setAttribute("aria-disabled", "true"); // a button that is disabled loses the focus
      said.textContent = "Kept. The next list takes it into account.";
    } catch (error) {
      said.textContent = "It was not kept: " + error.message;
    }
    button.removeAttribute("aria-busy");
  });
}
