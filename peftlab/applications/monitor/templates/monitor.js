// Renews the panel; keeps still while a person reads by keyboard in it, or has paused it.
const panel = document.getElementById("panel");
const state = document.getElementById("state");
const pause = document.getElementById("pause");
let isPaused = false;
let isAsking = false;

pause.addEventListener("click", () => {
  isPaused = !isPaused;
  pause.setAttribute("aria-pressed", String(isPaused));
  pause.textContent = isPaused ? "Go on" : "Pause";
  state.textContent = isPaused ? "Paused." : "Live: renewed every five seconds.";
});

function isReadBy() {
  return panel.contains(document.activeElement) && document.activeElement !== panel;
}

async function renew() {
  if (isAsking || isPaused || isReadBy()) return;
  isAsking = true; // a slow answer is waited for: several at once would make it slower, and an old one could come last
  try {
    const answer = await fetch("/panel" + location.search, { signal: AbortSignal.timeout(30000) });
    if (!answer.ok) throw new Error(String(answer.status));
    const text = await answer.text();
    if (!isPaused && !isReadBy()) { // since it was asked
      panel.innerHTML = text;
      state.textContent = "Live: renewed every five seconds.";
    }
  } catch {
    if (!isPaused) state.textContent = "The monitor does not answer; trying again.";
  }
  isAsking = false;
}
setInterval(renew, 5000);
