// The page: asks where the vehicles are every second, and who drives when one is chosen.

const $ = (id) => document.getElementById(id);
const POLL = 1000;
const PATIENCE = 15000;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const map = new MapView($("map"));
const vehicles = new Map();
let picked = chosenByAddress() ?? "City Truck";
let following = true;
let asked = 0;

// The chosen vehicle is part of the address. A page that was reached by a prefix of its own, such as
// /experimental, stays there: under another path a mesh may answer with another version.
function chosenByAddress() {
  const named = location.pathname.match(/^\/vehicle\/([^/]+)/)?.[1] ?? location.hash.slice(1);
  try { return decodeURIComponent(named) || null; } catch { return null; }
}
function addressOf(name) {
  const own = location.pathname === "/" || location.pathname.startsWith("/vehicle/");
  return own ? `/vehicle/${encodeURIComponent(name)}` : `#${encodeURIComponent(name)}`;
}

async function ask(path, signal) {
  const limit = AbortSignal.timeout(PATIENCE);
  const response = await fetch(path, { cache: "no-store", signal: signal ? AbortSignal.any([signal, limit]) : limit });
  const text = await response.text();
  if (response.ok) return JSON.parse(text);
  let message = text.slice(0, 300);
  try { message = JSON.parse(text).message ?? message; } catch { message = response.statusText; }
  throw Object.assign(new Error(message), { status: response.status });
}

let toastTimer;
function complain(error) {
  const toast = $("toast");
  toast.textContent = error.status
    ? `Error code ${error.status} occured. ${error.message}`
    : `The server did not answer. ${error.message}`;
  toast.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { toast.hidden = true; }, 5000);
}

function state(now, text) {
  const live = $("live");
  if (live.dataset.state !== now) Object.assign(live, { textContent: text }).dataset.state = now;
}

// Where a vehicle is on the map at this moment: on its way from the place before to the latest one.
function placeOf(vehicle, time = performance.now()) {
  const share = still.matches ? 1 : Math.min(1, (time - vehicle.since) / POLL);
  return vehicle.to.map((to, i) => vehicle.from[i] + (to - vehicle.from[i]) * share);
}

function take(report) {
  const to = project(report.lat, report.lng);
  let vehicle = vehicles.get(report.name);
  if (!vehicle) {
    vehicle = { from: to, to, since: 0, marker: marker(report.name), row: row(report.name), seen: Date.now() };
    vehicles.set(report.name, vehicle);
    if (report.name === picked && following) [map.x, map.y] = to;
  }
  if (vehicle.to[0] !== to[0] || vehicle.to[1] !== to[1]) {
    const from = placeOf(vehicle);
    Object.assign(vehicle, { from, to, since: performance.now() });
    if (report.name === picked) extendTrail(to);
  }
  vehicle.report = report;
  vehicle.seen = Date.now();
}

async function poll() {
  try {
    const reports = await ask("/api/vehicles/");
    reports.forEach(take);
    for (const [name, vehicle] of vehicles) if (!reports.some((report) => report.name === name)) {
      vehicle.marker.remove();
      vehicle.row.remove();
      vehicles.delete(name);
    }
    state("live", "Live");
    renderList();
    renderPlace();
    animate();
  } catch (error) {
    state("lost", "No answer");
    complain(error);
  }
  setTimeout(poll, document.hidden ? 5 * POLL : POLL);
}

// One animation at a time, and none once every vehicle has arrived.
let animating = false;
function animate() {
  if (animating) return;
  animating = true;
  requestAnimationFrame(function frame(time) {
    const chosen = vehicles.get(picked);
    if (following && chosen) [map.x, map.y] = placeOf(chosen, time);
    map.draw();
    animating = !still.matches && [...vehicles.values()].some((vehicle) => time - vehicle.since < POLL);
    if (animating) requestAnimationFrame(frame);
  });
}
map.crowded = (x, y) => [...vehicles.values()].some((vehicle) => {
  const [left, top] = map.onScreen(placeOf(vehicle));
  return x > left - 60 && x < left + 200 && Math.abs(y - top) < 26;
});
map.onDraw = () => {
  const time = performance.now();
  for (const vehicle of vehicles.values()) {
    vehicle.marker.setAttribute("transform", `translate(${map.onScreen(placeOf(vehicle, time)).map(round).join(" ")})`);
  }
};

function marker(name) {
  const group = element("g", { class: "truck" }, $("trucks"));
  const sign = element("rect", { x: 20, y: -12, height: 24, rx: 7 }, group);
  const text = element("text", { x: 30, y: 0 }, group);
  text.textContent = name;
  sign.setAttribute("width", text.getComputedTextLength() + 19);
  element("circle", { r: 17 }, group);
  element("use", { href: "#truck", x: -11, y: -11.5, width: 22, height: 22 }, group);
  group.addEventListener("click", () => pick(name));
  return group;
}

function row(name) {
  const line = document.createElement("tr");
  line.innerHTML = '<td><button type="button" class="pick"><svg viewBox="0 0 24 24" aria-hidden="true"><use href="#truck"/></svg><span></span></button></td><td></td><td></td>';
  line.querySelector("span").textContent = name;
  line.addEventListener("click", () => pick(name));
  return line;
}

const clock = (timestamp) => new Date(timestamp).toLocaleTimeString("en-GB", { hour12: false });
const nobody = $("rows").firstElementChild;
function renderList() {
  const sorted = [...vehicles].sort(([a], [b]) => a.localeCompare(b));
  const body = $("rows");
  if (!sorted.length) return body.replaceChildren(nobody);
  if (body.children.length !== sorted.length || sorted.some(([, { row }], i) => body.children[i] !== row)) {
    const focused = document.activeElement;
    body.replaceChildren(...sorted.map(([, vehicle]) => vehicle.row));
    if (body.contains(focused)) focused.focus();
  }
  for (const [name, { row, marker, report }] of sorted) {
    row.cells[1].textContent = clock(report.timestamp);
    row.cells[2].textContent = report.speed === null ? "--" : Math.round(report.speed);
    row.classList.toggle("picked", name === picked);
    row.querySelector("button").setAttribute("aria-pressed", name === picked);
    marker.classList.toggle("picked", name === picked);
  }
  const chosen = vehicles.get(picked)?.marker;
  if (chosen && chosen !== $("trucks").lastChild) $("trucks").append(chosen);
}

function renderPlace() {
  const report = vehicles.get(picked)?.report;
  $("place").textContent = report ? `Last seen at ${+report.lat.toFixed(6)}, ${+report.lng.toFixed(6)}` : "Not seen yet";
}

let trail = "";
function drawTrail(positions) {
  trail = positions.map(({ lat, lng }) => project(lat, lng).map(round).join(" ")).join("L");
  $("trail").setAttribute("d", trail && `M${trail}`);
}
function extendTrail(to) {
  trail += (trail && "L") + to.map(round).join(" ");
  $("trail").setAttribute("d", `M${trail}`);
}

let controller = new AbortController();
async function pick(name) {
  picked = name;
  following = true;
  $("follow").setAttribute("aria-pressed", true);
  history.replaceState(null, "", addressOf(name));
  if (map.zoom < 13.2) map.zoom = 16;
  renderList();
  renderPlace();
  animate();
  controller.abort();
  controller = new AbortController();
  drawTrail([]);
  const { signal } = controller;
  ask(`/api/history/${encodeURIComponent(name)}`, signal).then((positions) => {
    if (!signal.aborted) drawTrail(positions);
  }).catch((error) => signal.aborted || complain(error));
  await askDriver(name, signal);
}

async function askDriver(name, signal) {
  const started = performance.now();
  const seconds = () => ((performance.now() - started) / 1000).toFixed(2);
  const [card, took] = [$("card"), $("took")];
  $("vehicle").textContent = name;
  $("driver").textContent = "Driver: …";
  card.setAttribute("aria-busy", true);
  const waiting = setInterval(() => { took.textContent = `asking for the driver, ${seconds().slice(0, -1)} s`; }, 100);
  signal.addEventListener("abort", () => clearInterval(waiting));
  let answer = { name: null, photo: null }, how = "answered";
  try {
    answer = await ask(`/api/vehicles/driver/${encodeURIComponent(name)}`, signal);
  } catch (error) {
    if (signal.aborted) return;
    complain(error);
    how = error.status ? `error ${error.status}` : "no answer";
  }
  clearInterval(waiting);
  if (signal.aborted) return;
  took.textContent = `${how} after ${seconds()} s`;
  took.classList.toggle("slow", how !== "answered" || seconds() > 1);
  $("driver").textContent = `Driver: ${answer.name ?? "unknown"}`;
  // The photos' own addresses are on another network; their pictures are ours.
  const picture = answer.photo?.match(/([1-5])\.jpg$/)?.[1] ?? "placeholder";
  $("photo").src = `/photos/${picture}.svg`;
  $("photo").alt = answer.name ? (picture === "placeholder" ? "No photo" : `Photo of ${answer.name}`) : "";
  card.setAttribute("aria-busy", false);
}

function letGo() {
  following = false;
  $("follow").setAttribute("aria-pressed", false);
}
map.listen(letGo);
$("closer").addEventListener("click", () => map.zoomAt(map.zoom + 1));
$("farther").addEventListener("click", () => map.zoomAt(map.zoom - 1));
$("follow").addEventListener("click", () => {
  following = !following;
  $("follow").setAttribute("aria-pressed", following);
  if (following && map.zoom < 13.2) map.zoom = 16;
  animate();
});
$("whole").addEventListener("click", () => {
  letGo();
  map.fit([...vehicles.values()].map((vehicle) => vehicle.to));
});
addEventListener("popstate", () => pick(chosenByAddress() ?? picked));
addEventListener("hashchange", () => pick(chosenByAddress() ?? picked));
pick(picked);
poll();
