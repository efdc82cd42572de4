// Live updates. Every page is whole without this: it only fetches again what the server would render anyway.
"use strict";

document.documentElement.classList.add("js");

const announce = (text) => {
  const place = document.getElementById("announce");
  if (place && text) place.textContent = text;
};

// Replaces the parts of the page marked data-live by their newer selves, keeping focus and open details.
async function refresh() {
  const response = await fetch(location.href, { headers: { "X-Refresh": "1" } });
  if (!response.ok || response.redirected) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const next = fresh.querySelector(`[data-live="${old.dataset.live}"]`);
    if (!next || next.innerHTML === old.innerHTML) continue;
    const active = old.contains(document.activeElement) ? document.activeElement : null;
    if (active && /^(INPUT|SELECT|TEXTAREA)$/.test(active.tagName)) continue;
    const open = [...old.querySelectorAll("details")].map((d) => d.open);
    const focused = active && [...old.querySelectorAll("a,button")].indexOf(active);
    old.replaceChildren(...next.childNodes);
    old.dataset.title = next.dataset.title || "";
    old.querySelectorAll("details").forEach((d, n) => { if (open[n]) d.open = true; });
    if (active) old.querySelectorAll("a,button")[focused]?.focus({ preventScroll: true });
  }
  if (document.title !== fresh.title) {
    document.title = fresh.title;
    announce(fresh.title);
  }
}

// One refresh at a time, and one more if something happened meanwhile.
let refreshing = false;
let again = false;
async function soon() {
  if (refreshing) { again = true; return; }
  refreshing = true;
  try { await refresh(); } catch { /* the next event or tick tries again */ }
  await new Promise((done) => setTimeout(done, 250));
  refreshing = false;
  if (again) { again = false; soon(); }
}

function watch() {
  const live = document.querySelector("[data-events]");
  if (live) {
    let source = null;
    let ended = false;
    const open = () => {
      source = new EventSource(live.dataset.events);
      source.addEventListener("run", soon);
      source.addEventListener("stage", soon);
      source.addEventListener("end", () => { ended = true; source.close(); soon(); });
    };
    open();
    // A hidden page holds no connection: browsers allow few to one server.
    document.addEventListener("visibilitychange", () => {
      if (ended) return;
      if (document.hidden) source.close(); else { soon(); open(); }
    });
    // Durations grow although nothing happens.
    setInterval(() => { if (!document.hidden && !ended) soon(); }, 10000);
  }
  const every = document.querySelector("[data-every]");
  if (every) setInterval(() => { if (!document.hidden) soon(); }, Number(every.dataset.every) * 1000);
}

// ---- The log ----

const log = document.getElementById("log");

async function load(gap) {
  if (!gap.classList.contains("gap") || gap.dataset.loading) return;
  gap.dataset.loading = "1";
  const { from, to } = gap.dataset;
  try {
    const address = `${log.dataset.base}/lines?attempt=${log.dataset.attempt}&from=${from}&to=${to}`;
    const response = await fetch(address);
    if (!response.ok) throw new Error(response.status);
    gap.innerHTML = await response.text(); // Rendered and escaped by the server.
    gap.classList.remove("gap");
  } catch {
    delete gap.dataset.loading;
  }
}

// Gaps near the window are filled at once, the others in idle time so that the browser's own search finds their text.
function fillGaps() {
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) load(entry.target);
  }, { rootMargin: "1500px" });
  const gaps = [...log.querySelectorAll(".gap")];
  gaps.forEach((gap) => near.observe(gap));
  const idle = gaps.slice(0, 40);
  const next = async () => {
    const gap = idle.shift();
    if (!gap) return;
    await load(gap);
    (window.requestIdleCallback || setTimeout)(next);
  };
  (window.requestIdleCallback || setTimeout)(next);
}

async function goToLine() {
  const number = /^#L(\d+)$/.exec(location.hash)?.[1];
  if (!number) return;
  const holds = (chunk) => Number(chunk.dataset.from) <= number && number <= Number(chunk.dataset.to || Infinity);
  const gap = [...log.querySelectorAll(".gap")].find(holds);
  if (gap) await load(gap);
  const line = document.getElementById(`L${number}`);
  if (!line) return;
  for (let d = line.closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
  line.scrollIntoView({ block: "center" });
  if (gap) { const to = location.hash; location.replace("#"); location.replace(to); }
}

function follow() {
  const button = document.getElementById("follow");
  const tail = document.getElementById("tail");
  let stick = !location.hash;
  const show = () => button.setAttribute("aria-pressed", String(stick));
  const toEnd = () => window.scrollTo({ top: document.documentElement.scrollHeight });
  const atEnd = () => window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 40;
  button.hidden = false;
  button.addEventListener("click", () => { stick = !stick; show(); if (stick) toEnd(); });
  // Only a person's own scrolling changes it: upwards lets go, to the very end takes hold again.
  let last = window.scrollY;
  addEventListener("scroll", () => {
    if (window.scrollY < last - 4) stick = false; else if (atEnd()) stick = true;
    last = window.scrollY;
    show();
  }, { passive: true });
  show();
  const source = new EventSource(log.dataset.follow);
  source.addEventListener("lines", (event) => {
    tail.insertAdjacentHTML("beforeend", event.data); // Rendered and escaped by the server.
    document.getElementById("total").textContent = event.lastEventId;
    if (stick) toEnd();
  });
  source.addEventListener("end", () => {
    source.close();
    document.getElementById("waiting").remove();
    button.hidden = true;
    soon();
  });
  if (stick && !log.querySelector(".gap")) toEnd();
}

function wrapping() {
  const button = document.getElementById("wrap");
  const apply = (wrap) => {
    log.classList.toggle("nowrap", !wrap);
    button.setAttribute("aria-pressed", String(wrap));
  };
  button.hidden = false;
  apply(localStorage.getItem("rivet-wrap") !== "no");
  button.addEventListener("click", () => {
    const wrap = log.classList.contains("nowrap");
    localStorage.setItem("rivet-wrap", wrap ? "yes" : "no");
    apply(wrap);
  });
}

watch();
if (log) {
  fillGaps();
  wrapping();
  if (log.dataset.follow) follow();
  addEventListener("hashchange", goToLine);
  goToLine();
}
