"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const MOST = 12;
  const UNITS = { b: 1, kb: 1e3, mb: 1e6, gb: 1e9, tb: 1e12, kib: 2 ** 10, mib: 2 ** 20, gib: 2 ** 30 };

  // Which one for me? The same steps as peftlab/report/choice.py; a test holds the answers of both against each other.
  const tied = (text) => text.replace(/(\d) (?=(?:%|bytes|[kMGT]?B|[kMGT]|h|min|s|points?)(?!\w))/g, "$1\u00a0");
  const listing = (names) => {
    if (names.length > MOST) return `${names.slice(0, MOST - 1).join(", ")} and ${names.length - MOST + 1} more`;
    return names.length > 1 ? `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}` : names.join("");
  };
  const below = (value, limit) => limit === null || (value !== null && value <= limit);
  const cheapest = (methods, ofThese) => {
    if (methods.length < 2) return "";
    const least = (key) => methods.filter((m) => m[key] !== null).reduce((a, b) => (a && a[key] <= b[key] ? a : b), null);
    const parts = [];
    const small = least("memory"), fast = least("seconds");
    if (small) parts.push(`${small.name} takes the least memory (${small.memory_text})`);
    const time = fast && `the least time (${fast.seconds_text})`;
    if (fast) parts.push(small === fast ? time : `${fast.name} takes ${time}`);
    return parts.length ? `${ofThese}${parts.join(" and ")}.` : "";
  };
  const tiedSentence = (near, far, manyFar, distance) => {
    const lie = `${manyFar === 1 ? "lies" : "lie"} more than ${distance} behind`;
    if (!far) return `${near} cannot be told apart from it.`;
    return near ? `${near} cannot be told apart from it, nor can ${far}, which ${lie}.` : `${far} cannot be told apart from it, but ${lie}.`;
  };
  const choose = (comparison, limits) => {
    const all = comparison.methods, positions = all.map((_, at) => at);
    const fitting = positions.filter((at) => below(all[at].memory, limits.memory) && below(all[at].seconds, limits.seconds));
    const unknown = positions.filter((at) => {
      const pairs = [[all[at].memory, limits.memory], [all[at].seconds, limits.seconds]];
      return pairs.some(([value, limit]) => limit !== null && value === null)
        && pairs.every(([value, limit]) => limit === null || value === null || value <= limit);
    });
    const names = (list) => listing(list.map((at) => all[at].name));
    const rest = unknown.length ? ` Not measured, so left out: ${names(unknown)}.` : "";
    const answer = (text, named) => ({
      text: text + rest + (named.length ? comparison.caveat : ""),
      evidence: named.slice(0, MOST).map((at) => all[at].evidence),
    });
    if (!fitting.length) return answer(unknown.length ? "No method is known to fit these limits." : "No method fits these limits.", []);
    if (limits.loss === null) {
      const best = fitting[0], others = fitting.slice(1);
      const related = (wanted) => others.filter((at) => all[best].relations[at] === wanted);
      const near = related("0"), far = related("2"), untested = related("3");
      const limited = limits.memory !== null || limits.seconds !== null;
      const thatFit = limited ? " of the methods that fit" : "", label = all[best].name;
      const named = [best, ...near, ...far, ...untested].sort((a, b) => a - b);
      const undecided = `The data does not decide: ${label} has the best mean${thatFit}; `;
      if (near.length || far.length) {
        const distance = comparison.distance;
        const text = `${undecided}${tiedSentence(names(near), names(far), far.length, distance)}`;
        const cheap = near.length ? cheapest([best, ...near].map((at) => all[at]), far.length ? ` Of those within ${distance}, ` : " Of these, ") : "";
        return answer(text + cheap + (untested.length ? ` No test compares ${names(untested)} with ${label}.` : ""), named);
      }
      if (untested.length) return answer(`${undecided}no test compares ${names(untested)} with it.`, named);
      const only = `it is the only method${limited ? " that fits" : ""}.`;
      return answer(`${label}: ${fitting.length === 1 ? only : `it is the best${thatFit}, and every other one is worse.`}`, named);
    }
    const points = limits.loss, shownPoints = `${points} ${points === 1 ? "point" : "points"}`;
    const within = fitting.filter((at) => all[at].high !== null && all[at].high <= points);
    const perhaps = fitting.filter((at) => !within.includes(at) && (all[at].low === null || all[at].low <= points));
    if (within.length) {
      const verbs = within.length === 1 ? "fits, and loses" : "fit, and lose";
      let text = `${names(within)}: ${verbs} at most ${shownPoints}.${cheapest(within.map((at) => all[at]), " Of these, ")}`;
      if (perhaps.length) text += ` The data does not decide whether ${names(perhaps)} would do too.`;
      return answer(text, within.concat(perhaps));
    }
    if (perhaps.length) {
      const verb = perhaps.length === 1 ? "fits" : "fit";
      return answer(`The data does not decide: ${names(perhaps)} ${verb}, and may lose more or less than ${shownPoints}.`, perhaps);
    }
    return answer(`No method fits these limits: all that fit otherwise lose more than ${shownPoints}.`, []);
  };

  const parseSize = (text) => {
    const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/.exec(text.toLowerCase());
    return match && match[2] in UNITS && Number(match[1]) > 0 ? Number(match[1]) * UNITS[match[2]] : NaN;
  };
  const parseNumber = (text) => (/^\s*\d+(\.\d+)?\s*$/.test(text) ? Number(text) : NaN);
  const form = document.getElementById("limits");
  const fields = form ? { memory: parseSize, seconds: parseNumber, loss: parseNumber } : {};
  const readLimits = () => {
    const limits = {};
    for (const [name, parse] of Object.entries(fields)) {
      const input = form.elements[name], text = input.value.trim();
      const value = text ? parse(text) : null;
      const wrong = Number.isNaN(value);
      input.classList.toggle("wrong", wrong);
      input.setAttribute("aria-invalid", String(wrong));
      limits[name] = wrong ? null : value;
    }
    return limits;
  };
  const showAnswers = () => {
    const limits = readLimits();
    for (const box of document.querySelectorAll("[data-answer]")) {
      const found = choose(data.comparisons[Number(box.dataset.answer)], limits);
      box.querySelector(".verdict").textContent = tied(found.text);
      box.querySelector(".evidence").replaceChildren(...found.evidence.map((line) => {
        const item = document.createElement("li");
        item.textContent = tied(line);
        return item;
      }));
    }
  };
  if (form) {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const name of Object.keys(fields)) {
      form.elements[name].value = given.get(name) ?? data.limits[name];
    }
    form.addEventListener("input", showAnswers);
    form.addEventListener("reset", () => setTimeout(showAnswers));
    form.addEventListener("submit", (event) => event.preventDefault());
    showAnswers();
  }

  // One method through all figures of its comparison.
  const tip = document.getElementById("tip");
  let pinned = null;
  const mark = (section, method) => {
    section.classList.toggle("dimmed", method !== null);
    for (const element of section.querySelectorAll(".on")) element.classList.remove("on");
    if (method === null) return;
    for (const element of section.querySelectorAll(`[data-m="${method}"]`)) element.classList.add("on");
  };
  const showTip = (section, method, event) => {
    const found = data.comparisons[Number(section.dataset.comparison)].methods[Number(method)];
    const name = document.createElement("b");
    name.textContent = found.name;
    tip.replaceChildren(name, ...found.tip.flatMap((line, at) => (at ? [document.createElement("br"), line] : [line])));
    tip.hidden = false;
    const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const y = event.clientY + 16 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : event.clientY + 16;
    tip.style.left = `${Math.max(8, x)}px`;
    tip.style.top = `${Math.max(8, y)}px`;
  };
  for (const section of document.querySelectorAll("[data-comparison]")) {
    section.addEventListener("pointerover", (event) => {
      const target = event.target.closest("[data-m]");
      if (!target) return;
      if (!pinned) mark(section, target.dataset.m);
      if (target.closest("svg.chart")) showTip(section, target.dataset.m, event);
    });
    section.addEventListener("pointerout", (event) => {
      tip.hidden = true;
      if (!pinned && event.target.closest("[data-m]")) mark(section, null);
    });
    section.addEventListener("click", (event) => {
      const target = event.target.closest("[data-m]");
      if (pinned) mark(pinned.section, null);
      if (!target) { pinned = null; tip.hidden = true; return; }
      const same = pinned && pinned.section === section && pinned.method === target.dataset.m;
      pinned = same ? null : { section, method: target.dataset.m };
      if (pinned) mark(section, target.dataset.m);
      if (pinned && target.closest("svg.chart")) showTip(section, target.dataset.m, event); else tip.hidden = true;
    });
  }
})();
