"use strict";
const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function tellTimes(root) {
  for (const element of root.querySelectorAll("time[data-time]")) {
    const then = Number(element.dataset.time), ago = Math.max(0, Date.now() / 1000 - then);
    const [size, name] = units.find(([seconds]) => ago >= seconds) || [1, "s"];
    element.textContent = `${Math.floor(ago / size)} ${name} ago`;
    element.title = new Date(then * 1000).toLocaleString();
    element.dateTime = new Date(then * 1000).toISOString();
  }
}

function lossTeller(place) {
  const told = document.createElement("p");
  told.className = "note";
  told.setAttribute("role", "status");
  place.before(told);
  return (lost) => { told.textContent = lost ? "The board does not answer: this may be old. It is asked again." : ""; };
}

function follow(place) {
  const address = place.dataset.follow, source = new EventSource(address + "/events"), tell = lossTeller(place);
  source.addEventListener("open", () => tell(false));
  source.addEventListener("error", () => tell(true));
  source.addEventListener("changed", async () => {
    const answer = await fetch(address + "/progress").catch(() => null);
    // The server has escaped all that a run says; scripts in a page that is put in this way never run.
    if (answer && answer.ok) { place.innerHTML = await answer.text(); tellTimes(place); }
  });
  source.addEventListener("ended", () => { source.close(); location.reload(); });
}

function poll(place) {
  const tell = lossTeller(place);
  const timer = setInterval(async () => {
    const answer = await fetch(place.dataset.poll).catch(() => null);
    tell(!answer);
    if (!answer || !answer.ok) return;
    place.innerHTML = await answer.text();
    if (answer.headers.get("X-Begun")) location.replace(answer.headers.get("X-Begun"));
    else if (answer.headers.get("X-Ended")) { clearInterval(timer); location.reload(); }
  }, 1000);
}

tellTimes(document);
setInterval(() => tellTimes(document), 5000);
document.querySelectorAll("[data-follow]").forEach(follow);
document.querySelectorAll("[data-poll]").forEach(poll);
