// The map: a few outlines drawn as SVG in the coordinates of a Mercator map, and a view on them.
// One unit is a pixel at zoom 16. The origin is where the view starts, so that numbers stay small.

const SVG = "http://www.w3.org/2000/svg";
const WORLD = 256 * 2 ** 16;
const mercator = (lat) => Math.log(Math.tan(Math.PI / 4 + lat * Math.PI / 360)) / (2 * Math.PI);
const ORIGIN = { lat: 53.375564, lng: -1.506785 };
const ORIGIN_Y = mercator(ORIGIN.lat);
const project = (lat, lng) => [(lng - ORIGIN.lng) / 360 * WORLD, (ORIGIN_Y - mercator(lat)) * WORLD];
const metresToUnits = (lat) => WORLD / (40075017 * Math.cos(lat * Math.PI / 180));
const element = (name, attributes, parent) => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
};
const round = (number) => Math.round(number * 10) / 10;

// A smooth path through points: the same Catmull-Rom spline that the trucks drive along.
function smooth(points, closed) {
  const projected = points.map(([lat, lng]) => project(lat, lng));
  const count = projected.length;
  const beyond = (end, inner) => [2 * end[0] - inner[0], 2 * end[1] - inner[1]];
  const at = (i) => closed ? projected[(i + count) % count]
    : i < 0 ? beyond(projected[0], projected[1])
    : i < count ? projected[i] : beyond(projected[count - 1], projected[count - 2]);
  let path = `M${round(projected[0][0])} ${round(projected[0][1])}`;
  for (let i = 0; i < count - (closed ? 0 : 1); i++) {
    const [a, b, c, d] = [at(i - 1), at(i), at(i + 1), at(i + 2)];
    const control = (from, p, q, sign) => [from[0] + sign * (q[0] - p[0]) / 6, from[1] + sign * (q[1] - p[1]) / 6];
    path += "C" + [control(b, a, c, 1), control(c, b, d, -1), c].map((p) => p.map(round).join(" ")).join(",");
  }
  return path + (closed ? "Z" : "");
}

// A random sequence that is the same every time.
function sequence(seed) {
  return () => {
    seed = (seed * 1664525 + 1013904223) >>> 0;
    return seed / 4294967296;
  };
}

// Side streets of a road, and houses along them: what makes a line look like a town.
// `density` is the share of streets that are there.
function town(path, density, random) {
  const line = element("path", { d: path });
  const length = line.getTotalLength();
  let streets = "", houses = "";
  const street = (from, angle, far) => {
    const [along, across] = [[Math.cos(angle), Math.sin(angle)], [-Math.sin(angle), Math.cos(angle)]];
    const point = (forth, aside) => [0, 1].map((i) => round(from[i] + along[i] * forth + across[i] * aside)).join(" ");
    streets += `M${point(0, 0)}L${point(far, 0)}`;
    for (let at = 16; at < far - 14; at += 20 + random() * 14) for (const side of [-1, 1]) {
      if (random() < .3) continue;
      const [long, deep, gap] = [9 + random() * 9, 8 + random() * 9, 7];
      houses += `M${point(at, side * gap)}L${point(at + long, side * gap)}L${point(at + long, side * (gap + deep))}L${point(at, side * (gap + deep))}Z`;
    }
  };
  for (let at = 50; at < length; at += 60 + random() * 80) {
    const [p, q] = [line.getPointAtLength(at), line.getPointAtLength(at + 4)];
    for (const side of [-1, 1]) {
      if (random() > density) continue;
      const angle = Math.atan2(q.y - p.y, q.x - p.x) + side * (Math.PI / 2 + (random() - .5) * .3);
      const far = 110 + random() * 260;
      street([p.x, p.y], angle, far);
      for (let fork = 0; fork < 2; fork++) {
        const share = .3 + random() * .65;
        const from = [p.x + Math.cos(angle) * far * share, p.y + Math.sin(angle) * far * share];
        street(from, angle + (random() < .5 ? -1 : 1) * Math.PI / 2, 60 + random() * 130);
      }
    }
  }
  return { streets, houses };
}

// A green about a place: a circle drawn by a shaky hand.
function green(lat, lng, metres, random) {
  const points = [];
  for (let i = 0; i < 9; i++) {
    const far = metres / 111320 * (.7 + random() * .6), angle = i / 9 * 2 * Math.PI;
    points.push([lat + Math.sin(angle) * far, lng + Math.cos(angle) * far * 1.5]);
  }
  return smooth(points, true);
}

function drawLand(land) {
  const random = sequence(7);
  const draw = (kind, d, more) => element("path", { class: kind, d, ...more }, land);
  draw("ground", smooth(LAND.coast, true));
  for (const park of LAND.parks) draw("park", smooth(park.points, true));
  for (const [, lat, lng, metres] of LAND.greens) draw("park", green(lat, lng, metres, random));
  const roads = [...new Map(ROADS.map((road) => [JSON.stringify(road.points), road])).values()]
    .map((road) => ({ d: smooth(road.points, road.closed), density: road.vehicle.startsWith("Village") ? .12 : .8 }));
  const avenues = LAND.avenues.map((points) => ({ d: smooth(points, false), density: .8 }));
  for (const { d, density } of [...roads, ...avenues]) {
    const { streets, houses } = town(d, density, random);
    draw("house", houses);
    draw("lane", streets);
  }
  const avenue = avenues.map(({ d }) => d).join("");
  for (const river of LAND.rivers) {
    const d = smooth(river.points, false);
    draw("river", d);
    if (river.metres) draw("wide", d, { "stroke-width": river.metres * metresToUnits(river.points[0][0]) });
  }
  draw("casing thin", avenue);
  draw("road thin", avenue);
  for (const road of roads) draw("casing", road.d);
  for (const road of roads) draw("road", road.d);
}

const LABELS = [...LAND.places, ...LAND.greens.map(([name, lat, lng]) => [name, lat, lng, 14.2, 20, "nature"])];

// The view: which unit is in the middle, and how large a unit is.
class MapView {
  constructor(box) {
    this.box = box;
    this.land = document.getElementById("land");
    this.trail = document.getElementById("trail");
    this.x = 0;
    this.y = 0;
    this.zoom = 16;
    drawLand(this.land);
    this.labels = LABELS.map(([name, lat, lng, from, to, kind]) => {
      const text = element("text", { class: kind }, document.getElementById("labels"));
      text.textContent = name;
      return { text, place: project(lat, lng), from, to };
    });
    new ResizeObserver(() => this.resize()).observe(box);
    this.resize();
  }

  resize() {
    ({ clientWidth: this.width, clientHeight: this.height } = this.box);
    this.draw();
  }

  get unit() { return 2 ** (this.zoom - 16); }

  onScreen([x, y]) {
    return [this.width / 2 + (x - this.x) * this.unit, this.height / 2 + (y - this.y) * this.unit];
  }

  // Zooms so that what is at a point of the screen stays there.
  zoomAt(zoom, [px, py] = [this.width / 2, this.height / 2]) {
    const [dx, dy] = [px - this.width / 2, py - this.height / 2];
    const before = this.unit;
    this.zoom = Math.max(5, Math.min(18, zoom));
    this.x += dx / before - dx / this.unit;
    this.y += dy / before - dy / this.unit;
    this.draw();
  }

  fit(places) {
    if (!places.length) return;
    const [xs, ys] = [places.map((p) => p[0]), places.map((p) => p[1])];
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    [this.x, this.y] = [(left + right) / 2, (top + bottom) / 2];
    const room = Math.min((this.width - 160) / (right - left + 1), (this.height - 120) / (bottom - top + 1));
    this.zoom = Math.max(5, Math.min(16, 16 + Math.log2(Math.max(room, 1e-6))));
    this.draw();
  }

  // `crowded` says whether something more important is at a point of the screen, `onDraw` draws that.
  draw() {
    const unit = this.unit;
    const transform = `translate(${this.width / 2} ${this.height / 2}) scale(${unit}) translate(${-this.x} ${-this.y})`;
    // Painting the land anew is what costs; most of the time only trucks have moved.
    if (transform !== this.painted) {
      this.painted = transform;
      this.land.setAttribute("transform", transform);
      this.trail.setAttribute("transform", transform);
      this.box.toggleAttribute("data-far", this.zoom < 13.2);
      this.drawScale();
    }
    for (const label of this.labels) {
      const [x, y] = this.onScreen(label.place);
      const shown = this.zoom >= label.from && this.zoom < label.to && x > -80 && y > -20 && x < this.width + 80 && y < this.height + 20
        && !this.crowded?.(x, y);
      if (shown !== label.shown) label.text.style.display = shown ? "" : "none";
      label.shown = shown;
      if (shown) label.text.setAttribute("transform", `translate(${round(x)} ${round(y)})`);
    }
    this.onDraw?.();
  }

  drawScale() {
    const lat = Math.atan(Math.sinh((ORIGIN_Y - this.y / WORLD) * 2 * Math.PI)) * 180 / Math.PI;
    const pixelsPerMetre = metresToUnits(lat) * this.unit;
    const most = 130 / pixelsPerMetre;
    const power = 10 ** Math.floor(Math.log10(most));
    const metres = [5, 2, 1].find((step) => step * power <= most) * power;
    const scale = document.getElementById("scale");
    scale.textContent = metres >= 1000 ? `${metres / 1000} km` : `${metres} m`;
    scale.style.width = `${Math.round(metres * pixelsPerMetre)}px`;
  }

  // Moves by hand: mouse, fingers, wheel, keys. `letGo` is told that the view was moved.
  listen(letGo) {
    const fingers = new Map();
    const place = (event) => {
      const { left, top } = this.box.getBoundingClientRect();
      return [event.clientX - left, event.clientY - top];
    };
    this.box.addEventListener("pointerdown", (event) => {
      if (event.target.closest(".tools, .truck")) return;
      fingers.set(event.pointerId, place(event));
      this.box.setPointerCapture(event.pointerId);
      this.box.classList.add("held");
    });
    this.box.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const now = place(event);
      const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
      if (other) {
        const apart = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
        this.zoomAt(this.zoom + Math.log2(apart(now) / apart(before)), other);
      } else {
        this.x -= (now[0] - before[0]) / this.unit;
        this.y -= (now[1] - before[1]) / this.unit;
        this.draw();
      }
      letGo();
      fingers.set(event.pointerId, now);
    });
    for (const end of ["pointerup", "pointercancel"]) this.box.addEventListener(end, (event) => {
      fingers.delete(event.pointerId);
      if (!fingers.size) this.box.classList.remove("held");
    });
    this.box.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomAt(this.zoom - event.deltaY * (event.deltaMode ? .05 : .003), place(event));
    }, { passive: false });
    this.box.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-80, 0], ArrowRight: [80, 0], ArrowUp: [0, -80], ArrowDown: [0, 80] }[event.key];
      if (event.target !== this.box) return;
      if (step) {
        this.x += step[0] / this.unit;
        this.y += step[1] / this.unit;
        letGo();
        this.draw();
      } else if (event.key === "+" || event.key === "=") this.zoomAt(this.zoom + .5);
      else if (event.key === "-") this.zoomAt(this.zoom - .5);
      else return;
      event.preventDefault();
    });
  }
}
