// A chat. Each room is a routing key of a topic exchange. A stream per room keeps the messages of a day, and each page
// reads the last hour. Presence and typing are transient messages.

import { type Queue, type Session, connect, json } from "hopmq";

interface ChatMessage {
  id: string;
  who: string;
  text: string;
  at: number;
}

interface Presence {
  who: string;
  typing: boolean;
}

const ROOMS = ["general", "releases", "rabbits"];
const NAMES = ["Hazel", "Fiver", "Bigwig", "Clover", "Pipkin", "Holly", "Dandelion", "Strawberry"];

const query = new URLSearchParams(location.search);
const me = query.get("name") ?? NAMES[Math.floor(Math.random() * NAMES.length)]!;
const token = query.get("token");
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

/** Shows a message, or updates the state of one that is shown already. */
function show(message: ChatMessage, state: "pending" | "confirmed" | "failed"): void {
  let item = shown.get(message.id);
  if (item === undefined) {
    const { content } = $<HTMLTemplateElement>("message");
    item = (content.cloneNode(true) as DocumentFragment).firstElementChild as HTMLElement;
    avatar(item.querySelector(".avatar")!, message.who);
    item.querySelector("b")!.textContent = message.who;
    item.querySelector("time")!.textContent = new Date(message.at).toLocaleTimeString([], { timeStyle: "short" });
    item.querySelector(".said")!.textContent = message.text;
    shown.set(message.id, item);
    $("messages").append(item);
    item.scrollIntoView({ block: "end" });
  }
  item.className = state;
  item.querySelector(".tick")!.textContent = state === "confirmed" && message.who === me ? "✓" : "";
}

function showPeople(): void {
  const now = Date.now();
  const here = [...people].filter(([, { seen }]) => now - seen < 15_000).sort();
  $("people").replaceChildren(
    ...here.map(([name]) => {
      const item = document.createElement("li");
      const picture = document.createElement("span");
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

/** Enters a room, and shows its messages since an hour ago. */
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
  const stream = { durable: true, arguments: { "x-queue-type": "stream", "x-max-age": "1D" } };
  const log = await session.queue(`hopmq-chat-${name}`, stream, json<ChatMessage>());
  await log.bind("hopmq-chat", name);
  const from = new Date(Date.now() - 3_600_000);
  const messages = log.consume({ prefetch: 100, signal: reading.signal, arguments: { "x-stream-offset": from } });
  for await (const message of messages) {
    if (message.body.at >= from.getTime()) show(message.body, "confirmed");
    message.ack();
  }
}

async function start(): Promise<void> {
  const session = await connect(url, { name: `chat of ${me}`, auth: token === null ? undefined : { token } });
  const state = $("state");
  const showState = (text: string): void => {
    state.textContent = text;
    state.dataset["state"] = session.state;
  };
  showState(`connected as ${me}`);
  session.on("reconnecting", ({ delayMs }) => showState(`connection lost; retry in ${Math.ceil(delayMs / 1000)} s`));
  session.on("reconnected", () => showState(`connected as ${me}`));
  session.on("closed", (error) => showState(error?.message ?? "closed"));

  const chat = await session.exchange<ChatMessage>("hopmq-chat", "topic", { durable: true });
  const presence = await session.exchange<Presence>("hopmq-chat-presence", "fanout");
  const inbox: Queue<Presence> = await session.queue("", { exclusive: true }, json<Presence>());
  await inbox.bind(presence);
  await inbox.subscribe(
    ({ body }) => {
      people.set(body.who, { seen: Date.now(), typing: body.typing ? Date.now() : 0 });
      showPeople();
    },
    { noAck: true },
  );
  const announce = (typing: boolean): void => void presence.tryPublish("", { who: me, typing }, { deliveryMode: 1 });
  await presence.publish("", { who: me, typing: false }, { deliveryMode: 1 });
  setInterval(() => announce(false), 5_000);
  setInterval(showPeople, 1_000);

  $("rooms").append(
    ...ROOMS.map((name) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      const onclick = () => void enter(session, name).catch(console.error);
      Object.assign(button, { textContent: `# ${name}`, onclick });
      button.dataset["room"] = name;
      item.append(button);
      return item;
    }),
  );
  $("text").addEventListener("input", () => announce(true));
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const input = $<HTMLInputElement>("text");
    const text = input.value.trim();
    if (text === "") return;
    input.value = "";
    const message: ChatMessage = { id: crypto.randomUUID(), who: me, text, at: Date.now() };
    show(message, "pending");
    chat.publish(room, message).then(
      () => show(message, "confirmed"),
      () => show(message, "failed"),
    );
  });
  await enter(session, room);
}

start().catch((error: Error) => {
  $("state").textContent = error.message;
  $("state").dataset["state"] = "closed";
});
