"use strict";
// Texts are always set as text, never as markup.
const list = document.getElementById("messages"), form = document.getElementById("ask"), box = document.getElementById("text");
const names = { customer: "You", agent: "Colleague", assistant: "Assistant" };
let shown = new Set(), last = Promise.resolve(), waiting = 0;  // waiting: for an answer

function element(tag, text, parent, name) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (name) made.className = name;
  if (parent) parent.append(made);
  return made;
}

function bubble(role, text) {
  const made = element("div", "", list, "message " + role);
  element("span", names[role] || role, made, "who");
  element("span", text, made, "text");
  list.scrollTop = list.scrollHeight;
  return made;
}

function complete(made, answer) {
  made.querySelector(".text").textContent = answer.text;
  if (answer.kind === "written") made.querySelector(".who").textContent = "Assistant, written from the sources below";
  if (answer.sources && answer.sources.length) {
    const details = element("details", "", made);
    element("summary", "Sources", details);
    answer.sources.forEach((source, at) => element("p", "[" + (at + 1) + "] " + source.question + " " + source.answer, details));
  }
  if (answer.kind === "entry" || answer.kind === "written") {
    const row = element("div", "", made, "rate");
    for (const [words, helped] of [["This helped", true], ["That did not help", false]]) {
      const button = element("button", words, row);
      button.type = "button";
      button.addEventListener("click", async () => {
        row.remove();
        await fetch("/api/chat/answers/" + answer.id, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ helped }) });
        if (!helped) send("That did not help");
      });
    }
  }
  list.scrollTop = list.scrollHeight;
}

function show(message) {
  if (shown.has(message.id)) return;
  shown.add(message.id);
  const made = bubble(message.role, message.text);
  if (message.role !== "customer") complete(made, message);
}

async function refresh() {
  if (waiting) return;
  let answer = null;
  try { answer = await fetch("/api/chat"); } catch { /* the page says so below */ }
  document.getElementById("lost").hidden = answer !== null;
  if (answer && answer.ok && !waiting) (await answer.json()).messages.forEach(show);
}

function send(text) {
  // One message at a time: what is sent while an answer is written waits for its end.
  const sent = bubble("customer", text);
  waiting += 1;
  if (waiting > 1) sent.classList.add("waiting");
  last = last.then(async () => {
    sent.classList.remove("waiting");
    list.append(sent);
    await deliver(text);
    waiting -= 1;
  });
}

async function deliver(text) {
  const made = bubble("assistant", "…");
  const written = [];
  let accepted = false;
  try {
    const key = crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2) + Date.now();
    const answer = await fetch("/api/chat/messages", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ text, key }) });
    if (!answer.ok) throw new Error((await answer.json()).error || answer.statusText);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      rest += value;
      const lines = rest.split("\n");
      rest = lines.pop();
      for (const line of lines.filter(Boolean)) {
        const event = JSON.parse(line);
        if (event.event === "accepted") { accepted = true; shown.add(event.id); }
        if (event.event === "writing") made.querySelector(".text").textContent = "Writing, from: " + event.from.join(" · ");
        if (event.event === "sentence") { written.push(event.text); made.querySelector(".text").textContent = written.join(" "); }
        if (event.event === "answer") { shown.add(event.id); complete(made, event); }
        if (event.event === "error") throw new Error(event.error);
      }
    }
  } catch (problem) {
    made.querySelector(".text").textContent = "This could not be answered now: " + problem.message;
    made.classList.add("error");
    if (!accepted && !box.value) box.value = text;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = box.value.trim();
  if (!text) return;
  box.value = "";
  send(text);
});
box.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
});
document.getElementById("new").addEventListener("click", async () => {
  await fetch("/api/chat/new", { method: "POST" });
  location.reload();
});
refresh();
setInterval(refresh, 4000);
