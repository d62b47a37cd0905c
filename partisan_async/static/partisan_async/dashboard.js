// Keeps the dashboard's live part up to date: asks for it, and changes what has changed, so that
// what is clicked, focused or unfolded stays what it is.
"use strict";

(() => {
  const EVERY_MILLISECONDS = 2000;
  const live = document.getElementById("partisan-live");
  const pulse = document.getElementById("partisan-pulse");
  const tip = document.getElementById("partisan-tip");
  let timer = null;
  let asking = false;
  let answeredAt = Date.now();

  function say(text, kind) {
    if (pulse.textContent !== text) pulse.textContent = text;
    pulse.className = kind || "partisan-quiet";
  }

  async function ask() {
    timer = null;
    if (document.hidden || asking) return;
    asking = true;
    try {
      const answer = await fetch(live.dataset.url, {
        credentials: "same-origin",
        headers: { Accept: "text/html" },
        signal: AbortSignal.timeout(15000),
      });
      // Who is signed out is sent to the page that asks for a password.
      if (answer.redirected || answer.status === 403) {
        say(pulse.dataset.signedOut, "partisan-lost");
        return;
      }
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      // In an element, since a parser drops the spaces that a body begins with, and then no node
      // would stand where its like does.
      const text = `<div>${await answer.text()}</div>`;
      changeChildren(live, new DOMParser().parseFromString(text, "text/html").body.firstChild);
      tellAgain();
      answeredAt = Date.now();
      say(pulse.dataset.live, "partisan-live");
    } catch {
      const seconds = Math.round((Date.now() - answeredAt) / 1000);
      say(pulse.dataset.silent.replace("…", seconds), "partisan-lost");
    } finally {
      asking = false;
    }
    askSoon();
  }

  function askSoon() {
    if (timer === null && !document.hidden) timer = setTimeout(ask, EVERY_MILLISECONDS);
  }

  // Make one node what another is.
  function change(node, fresh) {
    if (node.nodeType !== Node.ELEMENT_NODE) {
      if (node.data !== fresh.data) node.data = fresh.data;
      return;
    }
    for (const { name } of [...node.attributes]) {
      const isTheReaders = name === "open" || (name === "class" && node.matches(".partisan-told"));
      if (!isTheReaders && !fresh.hasAttribute(name)) node.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (node.getAttribute(name) !== value) node.setAttribute(name, value);
    }
    changeChildren(node, fresh);
  }

  function changeChildren(parent, freshParent) {
    let node = parent.firstChild;
    for (const fresh of [...freshParent.childNodes]) {
      const wanted = keyOf(fresh);
      if (wanted !== null && node !== null && keyOf(node) !== wanted) {
        const elsewhere = [...parent.children].find((child) => keyOf(child) === wanted);
        if (elsewhere && node.compareDocumentPosition(elsewhere) & Node.DOCUMENT_POSITION_FOLLOWING) {
          parent.insertBefore(elsewhere, node);
          node = elsewhere;
        }
      }
      if (node !== null && node.nodeName === fresh.nodeName && keyOf(node) === wanted) {
        change(node, fresh);
        node = node.nextSibling;
      } else {
        parent.insertBefore(fresh, node);
      }
    }
    while (node !== null) {
      const next = node.nextSibling;
      node.remove();
      node = next;
    }
  }

  function keyOf(node) {
    return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;
  }

  // What a plot tells of a minute, under the pointer or by the arrow keys.
  function tell(minute) {
    for (const other of live.querySelectorAll(".partisan-told")) other.removeAttribute("class");
    tip.hidden = !minute;
    if (!minute) return;
    minute.setAttribute("class", "partisan-told");
    tip.textContent = minute.dataset.tip;
    const place = minute.getBoundingClientRect();
    const left = place.left + place.width / 2 - tip.offsetWidth / 2;
    tip.style.left = `${Math.max(4, Math.min(left, window.innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(4, place.top - tip.offsetHeight - 6)}px`;
  }

  function tellAgain() {
    tell(live.querySelector(".partisan-told"));
  }

  live.addEventListener("pointerover", (event) => tell(event.target.closest("[data-tip]")));
  live.addEventListener("pointerleave", () => tell(null));
  live.addEventListener("focusout", () => tell(null));
  live.addEventListener("keydown", (event) => {
    const picture = event.target.closest(".partisan-picture");
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!picture || !step) return;
    const minutes = [...picture.querySelectorAll("[data-tip]")];
    const now = minutes.indexOf(picture.querySelector(".partisan-told"));
    tell(minutes[now < 0 ? minutes.length - 1 : Math.max(0, Math.min(minutes.length - 1, now + step))]);
    event.preventDefault();
  });

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearTimeout(timer);
      timer = null;
    } else if (timer === null) {
      ask();
    }
  });
  say(pulse.dataset.live, "partisan-live");
  askSoon();
})();
