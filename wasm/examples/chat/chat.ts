// A chat. Each room is a routing key of a topic exchange; what was said last is kept in a stream, which everybody reads
// from a while ago; who is here and who types is said in messages that are not kept.

import { type Queue, type Session, connect } from "hopmq";

interface Said {
  id: string;
  who: string;
  text: string;
  at: number;
}

interface Sign {
  who: string;
  typing: boolean;
}

const ROOMS = ["general", "releases", "rabbits"];
const NAMES = ["Hazel", "Fiver", "Bigwig", "Clover", "Pipkin", "Holly", "Dandelion", "Strawberry"];

const query = new URLSearchParams(location.search);
const me = query.get("name") ?? NAMES[Math.floor(Math.random() * NAMES.length)]!;
const url = query.get("url") ?? `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/amqp`;

const $ = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const shown = new Map<string, HTMLElement>();
const people = new Map<string, { seen: number; typing: number }>();
let room = query.get("room") ?? ROOMS[0]!;
let reading: AbortController | undefined;

function colour(name: string): string {
  const hue = [...name].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 360, 7);
  return `hsl(${hue} 55% 48%)`;
}

function avatar(element: HTMLElement, name: string): void {
  element.textContent = name.slice(0, 1);
  element.style.background = colour(name);
}

/** Shows a message, or marks it as confirmed if it is shown already. */
function show(said: Said, state: "pending" | "confirmed" | "failed"): void {
  let item = shown.get(said.id);
  if (item === undefined) {
    const { content } = $<HTMLTemplateElement>("message");
    item = (content.cloneNode(true) as DocumentFragment).firstElementChild as HTMLElement;
    avatar(item.querySelector(".avatar")!, said.who);
    item.querySelector("b")!.textContent = said.who;
    item.querySelector("time")!.textContent = new Date(said.at).toLocaleTimeString([], { timeStyle: "short" });
    item.querySelector(".said")!.textContent = said.text;
    shown.set(said.id, item);
    $("messages").append(item);
    item.scrollIntoView({ block: "end" });
  }
  item.className = state;
  item.querySelector(".tick")!.textContent = state === "confirmed" && said.who === me ? "✓" : "";
}

function showPeople(): void {
  const now = Date.now();
  const here = [...people].filter(([, { seen }]) => now - seen < 15_000).sort();
  $("people").replaceChildren(
    ...here.map(([name]) => {
      const [item, picture] = [document.createElement("li"), document.createElement("span")];
      picture.className = "avatar";
      avatar(picture, name);
      item.append(picture, name === me ? `${name} (you)` : name);
      return item;
    }),
  );
  const typing = here.filter(([name, { typing }]) => name !== me && now - typing < 3_000).map(([name]) => name);
  const are = typing.length > 1 ? "are" : "is";
  $("typing").textContent = typing.length === 0 ? "" : `${typing.join(", ")} ${are} typing…`;
}

/** Reads a room, from what was said in the last hour on. */
async function enter(session: Session, name: string): Promise<void> {
  room = name;
  reading?.abort();
  reading = new AbortController();
  shown.clear();
  $("messages").replaceChildren();
  $<HTMLInputElement>("text").placeholder = `Say something to #${name}`;
  for (const button of $("rooms").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(button.dataset["room"] === name));
  }
  const log = await session.queue<Said>(`hopmq-chat-${name}`, {
    durable: true,
    arguments: { "x-queue-type": "stream", "x-max-age": "1D" },
  });
  await log.bind("hopmq-chat", name);
  const from = new Date(Date.now() - 3_600_000);
  const messages = log.consume({ prefetch: 100, signal: reading.signal, arguments: { "x-stream-offset": from } });
  for await (const message of messages) {
    if (message.body.at >= from.getTime()) show(message.body, "confirmed");
    message.ack();
  }
}

async function start(): Promise<void> {
  const session = await connect(url, { name: `chat of ${me}` });
  const state = $("state");
  const tell = (text: string): void => {
    state.textContent = text;
    state.dataset["state"] = session.state;
  };
  tell(`connected as ${me}`);
  session.on("reconnecting", ({ delayMs }) => tell(`lost; again in ${Math.ceil(delayMs / 1000)} s`));
  session.on("reconnected", () => tell(`connected as ${me}`));
  session.on("closed", (error) => tell(error?.message ?? "closed"));

  const chat = await session.exchange<Said>("hopmq-chat", "topic", { durable: true });
  const signs = await session.exchange<Sign>("hopmq-chat-signs", "fanout");
  const heard: Queue<Sign> = await session.queue<Sign>("", { exclusive: true });
  await heard.bind(signs);
  await heard.subscribe(
    ({ body }) => {
      people.set(body.who, { seen: Date.now(), typing: body.typing ? Date.now() : 0 });
      showPeople();
    },
    { noAck: true },
  );
  const sign = (typing: boolean): void => void signs.tryPublish("", { who: me, typing }, { deliveryMode: 1 });
  await signs.publish("", { who: me, typing: false }, { deliveryMode: 1 });
  setInterval(() => sign(false), 5_000);
  setInterval(showPeople, 1_000);

  $("rooms").append(
    ...ROOMS.map((name) => {
      const [item, button] = [document.createElement("li"), document.createElement("button")];
      const onclick = () => void enter(session, name).catch(console.error);
      Object.assign(button, { textContent: `# ${name}`, onclick });
      button.dataset["room"] = name;
      item.append(button);
      return item;
    }),
  );
  $("text").addEventListener("input", () => sign(true));
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const input = $<HTMLInputElement>("text");
    const text = input.value.trim();
    if (text === "") return;
    input.value = "";
    const said: Said = { id: crypto.randomUUID(), who: me, text, at: Date.now() };
    show(said, "pending");
    chat.publish(room, said).then(
      () => show(said, "confirmed"),
      () => show(said, "failed"),
    );
  });
  await enter(session, room);
}

start().catch((error: Error) => {
  $("state").textContent = error.message;
  $("state").dataset["state"] = "closed";
});
