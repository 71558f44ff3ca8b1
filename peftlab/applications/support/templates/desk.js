"use strict";
const at = (name) => document.getElementById(name);
const drafts = {};  // what was written to others, and not sent yet
let chosen = null, seen = null;

function element(tag, text, parent, name) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (name) made.className = name;
  if (parent) parent.append(made);
  return made;
}

function button(text, small, parent, action) {
  const made = element("button", text, element("li", "", parent));
  made.type = "button";
  if (small) element("small", small, made);
  made.addEventListener("click", action);
  return made;
}

async function get(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer.json();
}

function short(text) { const signs = [...text]; return signs.length > 120 ? signs.slice(0, 119).join("") + "…" : text; }

function percent(value) { return value === null ? "–" : (100 * value).toFixed(1) + " %"; }

async function refresh() {
  try {
    draw(await get("/api/desk"));
    at("lost").hidden = true;
  } catch (problem) {
    at("lost").textContent = "These lists are not up to date: " + problem.message + ". They are tried again every few seconds.";
    at("lost").hidden = false;
  }
}

function draw(desk) {
  const figures = at("figures");
  figures.replaceChildren();
  const all = desk.figures;
  for (const [what, value] of [["questions", all.questions], ["answered without a person", percent(all.share_answered)],
    ["corrected as wrong", percent(all.share_wrong)], ["did not help", all.did_not_help], ["seconds, median", all.median_seconds === null ? "–" : all.median_seconds.toFixed(2)]]) {
    const box = element("div", "", figures);
    element("strong", String(value), box);
    box.append(what);
  }
  for (const [list, rows] of [["queue", desk.queue], ["latest", desk.latest]]) {
    // A list is only made anew when it has changed, so that the keyboard stays where it is.
    const state = JSON.stringify(rows);
    if (at(list).dataset.state === state) continue;
    at(list).dataset.state = state;
    at(list).replaceChildren();
    if (!rows.length) element("li", "nothing", at(list), "hint");
    for (const row of rows) button(short((row.summary || row.text).split("\n")[0]), new Date(1000 * (row.since || row.sent)).toLocaleString(), at(list), () => choose(row.id));
  }
}

async function choose(id) {
  try {
    await open(id);
  } catch (problem) {
    at("lost").textContent = "This conversation could not be opened: " + problem.message;
    at("lost").hidden = false;
  }
}

async function open(id) {
  const found = await get("/api/desk/conversations/" + encodeURIComponent(id));
  if (chosen !== null) drafts[chosen] = at("text").value;
  chosen = id;
  seen = found.messages.length ? found.messages[found.messages.length - 1].id : null;
  at("nothing").hidden = true;
  at("open").hidden = false;
  at("done").textContent = "";
  at("summary").textContent = found.summary || "Answered without a person.";
  at("messages").replaceChildren();
  for (const message of found.messages) {
    const made = element("div", "", at("messages"), "message " + message.role);
    element("span", message.role + (message.kind ? " (" + message.kind + ")" : ""), made, "who");
    element("span", message.text, made);
  }
  at("candidates").replaceChildren();
  for (const each of found.candidates) button(each.question, each.answer, at("candidates"), () => { at("text").value = each.answer; at("entry").value = each.id; at("text").focus(); });
  at("past").replaceChildren();
  if (!found.past.length) element("li", "none", at("past"), "hint");
  for (const each of found.past) button(each.question, each.answer, at("past"), () => { at("text").value = each.answer; at("text").focus(); });
  at("text").value = drafts[id] || "";
  at("entry").value = "";
  at("wrong").checked = false;
  at("wrong").disabled = !found.messages.some((each) => each.kind === "entry" || each.kind === "written");
  at("text").focus({ preventScroll: true });
  at("summary").scrollIntoView();
}

at("reply").addEventListener("submit", async (event) => {
  event.preventDefault();
  const id = chosen, submit = at("reply").querySelector("[type=submit]");
  submit.disabled = true;  // a second click would send it twice
  const body = JSON.stringify({ text: at("text").value, entry: at("entry").value || null, was_wrong: at("wrong").checked, seen });
  try {
    const answer = await fetch("/api/desk/conversations/" + encodeURIComponent(id) + "/reply", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
  } catch (problem) {
    at("done").textContent = "Not sent: " + problem.message;
    return;
  } finally {
    submit.disabled = false;
  }
  if (chosen === id) {  // else another one was opened meanwhile, whose draft stays
    at("text").value = "";
    await choose(id);
    at("done").textContent = "Sent.";
  } else delete drafts[id];
  refresh();
});
refresh();
setInterval(refresh, 5000);
