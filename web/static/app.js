// Keeps pages live and shows times in the reader's own zone. Every page works without it.
"use strict";

(() => {
  const main = document.querySelector("main");
  const two = (n) => String(n).padStart(2, "0");
  const clock = (d) => `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "your time";
  const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

  const span = (seconds) => {
    const s = Math.max(0, Math.round(seconds));
    if (s < 90) return `${s} s`;
    if (s < 5400) return `${Math.round(s / 60)} min`;
    if (s < 172800) return `${Math.round(s / 3600)} h`;
    return `${Math.round(s / 86400)} days`;
  };

  // words writes one <time>: the absolute time binds, the relative one helps.
  const words = (time) => {
    const at = new Date(time.dateTime);
    const now = new Date();
    const today = at.toDateString() === now.toDateString();
    const day = today ? "" : `${at.getDate()} ${months[at.getMonth()]}${at.getFullYear() === now.getFullYear() ? "" : ` ${at.getFullYear()}`}, `;
    switch (time.dataset.show) {
      case "since": return `${day}${clock(at)}, ${span((now - at) / 1000)}`;
      case "left": return at > now ? `${day}${clock(at)}, ${span((at - now) / 1000)} left` : `${day}${clock(at)}`;
      default: return day + clock(at);
    }
  };

  const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };

  // show brings times and ends up to date, in place.
  const show = (root) => {
    for (const time of root.querySelectorAll("time[data-show]")) {
      set(time, words(time));
      const utc = new Date(time.dateTime).toISOString().slice(0, 19).replace("T", " ");
      if (!time.title) time.title = `${zone}; ${utc} UTC`;
    }
    const picked = main.querySelector("select[name=for] option:checked[data-seconds]");
    for (const end of root.querySelectorAll("[data-until]")) {
      const seconds = picked ? Number(picked.dataset.seconds) : Number(end.dataset.until);
      set(end, clock(new Date(Date.now() + seconds * 1000)));
    }
  };

  // What the server last sent for each live part, before times were rewritten in it.
  const sent = new Map();
  const parts = (root) => root.querySelectorAll("[data-live][id]");
  for (const part of parts(document)) sent.set(part.id, part.innerHTML);

  const replace = (part, fresh) => {
    const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    part.className = fresh.className;
    part.replaceChildren(...document.importNode(fresh, true).childNodes);
    sent.set(part.id, fresh.innerHTML);
    if (focused) for (const a of part.querySelectorAll("a")) if (a.getAttribute("href") === focused) a.focus();
  };

  // merge puts what changed in its place. A page that became another one (asked for,
  // answered) is taken whole, unless somebody is typing in it.
  const merge = (page) => {
    const fresh = page.querySelector("main");
    if (!fresh) return location.reload();
    const gone = [...parts(main)].some((part) => !page.getElementById(part.id));
    const form = main.querySelector("#form");
    if (gone || (form && !fresh.querySelector("#form") && !page.getElementById("decide"))) {
      main.replaceChildren(...document.importNode(fresh, true).childNodes);
      for (const part of parts(page)) sent.set(part.id, part.innerHTML);
    } else {
      for (const part of parts(document)) {
        const other = page.getElementById(part.id);
        if (other && other.innerHTML !== sent.get(part.id)) replace(part, other);
      }
      const narrow = main.querySelector("[data-live-disabled]");
      if (narrow && !fresh.querySelector("[data-live-disabled]")) narrow.disabled = true;
    }
    document.title = page.title;
    show(document);
  };

  let reading = false;
  let again = false;
  const refresh = async () => {
    if (reading) { again = true; return; }
    reading = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin", redirect: "manual", cache: "no-store" });
      if (answer.type === "opaqueredirect") { location.reload(); return; }
      if (answer.ok) merge(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      // The gate is away for a moment; the socket's return reads the page again.
    } finally {
      reading = false;
      if (again) { again = false; setTimeout(refresh, 250); }
    }
  };

  const topics = (main?.dataset.topics || "").split(" ").filter(Boolean);
  let pause = 500;
  const connect = () => {
    const socket = new WebSocket(`wss://${location.host}/live`);
    socket.onopen = () => {
      pause = 500;
      refresh(); // what happened before the socket was open
    };
    socket.onmessage = (event) => {
      if (event.data.split(" ").some((kind) => topics.includes(kind))) refresh();
    };
    socket.onclose = (event) => {
      if (event.code === 1008) { location.reload(); return; }
      setTimeout(connect, pause + Math.random() * 250);
      pause = Math.min(pause * 2, 15000);
    };
  };

  if (!main) return;
  show(document);
  setInterval(() => show(document), 1000);
  main.addEventListener("change", () => show(document));
  // A form goes once: a second press of the same button changes nothing anyway.
  main.addEventListener("submit", (event) => {
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "yes";
    setTimeout(() => delete event.target.dataset.sent, 5000);
  });
  if (topics.length > 0) connect();
})();
