// Renews the panel; keeps still while a person reads by keyboard in it, or has paused it.
const panel = document.getElementById("panel");
const state = document.getElementById("state");
const pause = document.getElementById("pause");
let isPaused = false;

pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.setAttribute("aria-pressed", String(isPaused));
  pause.textContent = isPaused ? "Go on" : "Pause";
  state.textContent = isPaused ? "Paused." : "Live: renewed every five seconds.";
});

async function renew() {
  if (isPaused || panel.contains(document.activeElement) && document.activeElement !== panel) return;
  try {
    const answer = await fetch("/panel" + location.search);
    if (!answer.ok) throw new Error(String(answer.status));
    panel.innerHTML = await answer.text();
    state.textContent = "Live: renewed every five seconds.";
  } catch {
    state.textContent = "The monitor does not answer; trying again.";
  }
}
setInterval(renew, 5000);
