"use strict";
// Texts are always set as text, never as markup.
const list = document.getElementById("messages"), form = document.getElementById("ask"), box = document.getElementById("text");
const names = { customer: "You", agent: "Colleague", assistant: "Assistant" };
const OVERLAP = 20;  // so many of the last messages are asked for again: two may be stored at once
let shown = new Map(), last = Promise.resolve(), waiting = 0;  // what each message says; waiting: for an answer

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
  const who = made.querySelector(".who");
  made.querySelector(".text").textContent = answer.text;
  made.className = "message " + answer.role;
  who.textContent = names[answer.role] + (answer.kind === "written" ? ", written from the sources below" : "");
  // What was searched for, where it is not simply what was said: of several questions, or one that goes on.
  const said = shown.get(answer.answers);
  if (answer.question && said !== undefined && said.trim() !== answer.question) who.textContent += ", on: " + answer.question.slice(0, 200);
  if (answer.sources && answer.sources.length) {
    const details = element("details", "", made);
    element("summary", "Sources", details);
    answer.sources.forEach((source, at) => element("p", "[" + (at + 1) + "] " + source.question + " " + source.answer, details));
  }
  if ((answer.kind === "entry" || answer.kind === "written") && answer.helped === null) {
    const row = element("div", "", made, "rate");
    for (const [words, helped] of [["This helped", true], ["That did not help", false]]) {
      const button = element("button", words, row);
      button.type = "button";
      button.addEventListener("click", async () => {
        row.remove();
        if (!helped) send("That did not help", answer.id);
        try {
          await fetch("/api/chat/answers/" + answer.id, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ helped }) });
        } catch { /* the page says so below */ }
      });
    }
  }
  list.scrollTop = list.scrollHeight;
}

function show(message) {
  if (shown.has(message.id)) return;
  shown.set(message.id, message.text);
  const made = bubble(message.role, message.text);
  if (message.role !== "customer") complete(made, message);
}

async function refresh() {
  if (waiting) return;
  let found = [], isThere = true;
  const after = [...shown.keys()].sort((one, other) => other - one)[OVERLAP] || 0;
  try {
    const answer = await fetch("/api/chat?after=" + after);
    if (answer.ok) found = (await answer.json()).messages;
  } catch { isThere = false; /* the page says so below */ }
  document.getElementById("lost").hidden = isThere;
  if (!waiting) found.forEach(show);  // what is being sent shows itself
}

function send(text, about) {
  // One message at a time: what is sent while an answer is written waits for its end.
  const sent = bubble("customer", text);
  waiting += 1;
  if (waiting > 1) sent.classList.add("waiting");
  last = last.then(async () => {
    sent.classList.remove("waiting");
    list.append(sent);
    await deliver(text, about);
    waiting -= 1;
  });
}

async function deliver(text, about) {
  let made = bubble("assistant", "…"), accepted = false, answered = false;
  const written = [];
  try {
    const key = crypto.randomUUID ? crypto.randomUUID() : String(Math.random()).slice(2) + Date.now();
    const body = JSON.stringify({ text, key, about: about || null });
    const answer = await fetch("/api/chat/messages", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error || answer.status);
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
        if (event.event === "accepted") { accepted = true; shown.set(event.id, text); }
        if (event.event === "writing") made.querySelector(".text").textContent = "Writing, from: " + event.from.join(" · ");
        if (event.event === "sentence") { written.push(event.text); made.querySelector(".text").textContent = written.join(" "); }
        if (event.event === "answer") {  // several questions have several answers
          if (answered) made = bubble("assistant", "");
          answered = true;
          shown.set(event.id, event.text);
          complete(made, event);
        }
        if (event.event === "error") throw new Error(event.error);
      }
    }
    if (!answered) throw new Error("the connection was lost");
  } catch (problem) {
    if (answered) return;
    made.querySelector(".text").textContent = accepted
      ? "Your message is kept, and its answer will come here. It could not be answered now: " + problem.message + "."
      : "This was not sent: " + problem.message;
    made.classList.add("error");
    if (!accepted && !box.value) box.value = text;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = box.value.trim();
  if (!text) return;
  const most = Number(box.dataset.most), length = [...text].length;
  const long = document.getElementById("long");
  long.hidden = length <= most;
  if (length > most) {
    long.textContent = `Your message has ${length} characters; ${most} are read at most. Shorten it, or send it in parts.`;
    list.scrollTop = list.scrollHeight;  // there is less room now
    return;
  }
  box.value = "";
  send(text);
});
box.addEventListener("input", () => {
  if ([...box.value].length <= Number(box.dataset.most)) document.getElementById("long").hidden = true;
});
box.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
});
document.getElementById("new").addEventListener("click", async () => {
  try {
    await fetch("/api/chat/new", { method: "POST" });
    location.reload();
  } catch { document.getElementById("lost").hidden = false; }
});
refresh();
setInterval(refresh, 4000);
