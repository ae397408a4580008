// A live dashboard. A topic exchange, with one routing key per kind of order, feeds a queue of this page's own. The
// page consumes without acks, because a dashboard does not need orders that it missed.

import { connect, json } from "hopmq";

interface Order {
  id: number;
  city: string;
  dish: string;
  euros: number;
}

const KINDS = { pizza: "#e0662a", salad: "#2f8f5b", soup: "#4a7fd0" };
type Kind = keyof typeof KINDS;
const CITIES = ["Lisbon", "Kraków", "Lyon", "Göteborg", "Torino", "Ghent"];
const DISHES: Record<Kind, string[]> = {
  pizza: ["Margherita", "Funghi", "Diavola"],
  salad: ["Niçoise", "Greek salad", "Caprese"],
  soup: ["Caldo verde", "Żurek", "Minestrone"],
};
const SECONDS = 60;

const query = new URLSearchParams(location.search);
const token = query.get("token");
const url = query.get("url") ?? `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/amqp`;
const $ = <T extends Element>(id: string): T => document.getElementById(id) as unknown as T;
const pick = <T>(list: readonly T[]): T => list[Math.floor(Math.random() * list.length)]!;

const history = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, Array<number>(SECONDS).fill(0)]));
const cities = new Map<string, number>();
const latest: { order: Order; at: Date }[] = [];
let count = 0;
let euros = 0;

function take(kind: string, order: Order): void {
  count++;
  euros += order.euros;
  const seconds = history[kind];
  if (seconds !== undefined) seconds[SECONDS - 1]!++;
  cities.set(order.city, (cities.get(order.city) ?? 0) + 1);
  latest.unshift({ order, at: new Date() });
  latest.length = Math.min(latest.length, 6);
}

function element(name: string, text: string): HTMLElement {
  return Object.assign(document.createElement(name), { textContent: text });
}

function draw(lag: string): void {
  const total = Object.values(history).map((seconds) => seconds.slice(-11, -1).reduce((sum, n) => sum + n, 0));
  const rate = total.reduce((sum, n) => sum + n, 0) / 10;
  const tiles = {
    "orders so far": count.toLocaleString("en"),
    "orders a second": rate.toFixed(1),
    "turnover": `€ ${Math.round(euros).toLocaleString("en")}`,
    "waiting in the browser": lag,
  };
  $("tiles").replaceChildren(
    ...Object.entries(tiles).map(([name, value]) => {
      const tile = Object.assign(document.createElement("div"), { className: "tile" });
      tile.append(element("b", value), element("small", name));
      return tile;
    }),
  );
  const top = Math.max(5, ...Object.values(history).flat()) * 1.1;
  const grid = [0.25, 0.5, 0.75].map((part) => `<line x1="0" x2="600" y1="${160 * part}" y2="${160 * part}" />`);
  const lines = Object.entries(KINDS).map(([kind, colour]) => {
    const points = history[kind]!.slice(0, -1).map((n, i) => `${(i / (SECONDS - 2)) * 600},${155 - (n / top) * 150}`);
    return `<path stroke="${colour}" d="M${points.join("L")}" />`;
  });
  $("chart").innerHTML = [...grid, ...lines].join("");
  const ranked = [...cities].sort(([, a], [, b]) => b - a).slice(0, 6);
  $("cities").replaceChildren(
    ...ranked.map(([city, n]) => {
      const item = document.createElement("li");
      const bar = document.createElement("i");
      bar.style.width = `${(n / ranked[0]![1]) * 100}%`;
      item.append(element("span", city), bar, element("span", n.toLocaleString("en")));
      return item;
    }),
  );
  $("latest").replaceChildren(
    ...latest.map(({ order, at }) => {
      const row = document.createElement("tr");
      const time = at.toLocaleTimeString("en", { hour12: false });
      row.append(element("td", time), element("td", order.dish), element("td", order.city));
      row.append(element("td", `€ ${order.euros.toFixed(2)}`));
      return row;
    }),
  );
}

async function start(): Promise<void> {
  const session = await connect(url, { name: "dashboard", auth: token === null ? undefined : { token } });
  const state = $<HTMLElement>("state");
  const showState = (text: string): void => {
    state.textContent = text;
    state.dataset["state"] = session.state;
  };
  showState("live");
  session.on("reconnecting", ({ delayMs }) => showState(`connection lost; retry in ${Math.ceil(delayMs / 1000)} s`));
  session.on("reconnected", () => showState("live"));
  session.on("closed", (error) => showState(error?.message ?? "closed"));
  const { product, version } = session.agreed.server;
  $("connection").textContent = `${product} ${version}`;
  $("legend").replaceChildren(
    ...Object.entries(KINDS).map(([kind, colour]) => {
      const mark = document.createElement("i");
      mark.style.background = colour;
      const label = document.createElement("span");
      label.append(mark, kind);
      return label;
    }),
  );

  const orders = await session.exchange<Order>("hopmq-orders", "topic");
  const options = { exclusive: true, arguments: { "x-max-length": 10_000 } };
  const mine = await session.queue("", options, json<Order>());
  await mine.bind(orders, "order.#");
  await mine.subscribe((message) => take(message.routingKey.slice("order.".length), message.body), { noAck: true });

  const feed = $<HTMLInputElement>("feed");
  feed.checked = query.get("feed") !== "off";
  let id = 0;
  setInterval(() => {
    if (!feed.checked) return;
    const wave = 1 + Math.sin(Date.now() / 4000);
    for (const kind of Object.keys(KINDS) as Kind[]) {
      if (Math.random() > 0.25 + wave * 0.35) continue;
      const euros = 6 + Math.random() * 12;
      const order = { id: ++id, city: pick(CITIES.slice(0, 3 + (id % 4))), dish: pick(DISHES[kind]), euros };
      // Drops orders while the send buffer is full.
      orders.tryPublish(`order.${kind}`, order, { deliveryMode: 1 });
    }
  }, 60);
  const frame = (): void => draw(`${session.bufferedAmount} B`);
  setInterval(() => {
    for (const seconds of Object.values(history)) {
      seconds.shift();
      seconds.push(0);
    }
    frame();
  }, 1000);
  frame();
}

start().catch((error: Error) => {
  $<HTMLElement>("state").textContent = error.message;
  $<HTMLElement>("state").dataset["state"] = "closed";
});
