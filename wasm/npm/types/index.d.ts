// The API of the npm package `hopmq`, written by hand. `slim.d.ts` adds what `hopmq/slim` has.

/** A value of a header or an argument. Integers beyond 2^53 are `bigint`; a `Date` counts whole seconds. */
export type FieldValue =
  | string | number | bigint | boolean | null | undefined | Date | Uint8Array | FieldValue[] | FieldTable;

/** Headers or arguments. */
export interface FieldTable { [key: string]: FieldValue }

/** What a message carries beside its body. */
export interface Properties {
  contentType?: string;
  contentEncoding?: string;
  headers?: FieldTable;
  /** 2 is persistent, 1 is not. `Queue` and `Exchange` publish persistent messages unless told otherwise. */
  deliveryMode?: number;
  /** 0 to 255. */
  priority?: number;
  correlationId?: string;
  replyTo?: string;
  /** Milliseconds that the message may wait in a queue, as text. */
  expiration?: string;
  messageId?: string;
  timestamp?: Date;
  type?: string;
  /** RabbitMQ refuses any but the user who is logged in. */
  userId?: string;
  appId?: string;
  clusterId?: string;
}

export interface PublishOptions extends Properties {
  /** Has the message come back, as a rejection with code 312, if no queue takes it. */
  mandatory?: boolean;
}

/** What went wrong: see `AmqpError.kind`. */
export type ErrorKind =
  /** The URL or an option makes no sense. */
  | "config"
  /** The network or the gateway failed. */
  | "io" | "tls" | "websocket" | "heartbeat"
  /** The broker refused the credentials (403). */
  | "authentication"
  /** The broker closed the connection or the channel, and said why: see `code`. */
  | "connection-closed" | "channel-closed"
  /** This program closed it before. */
  | "closed"
  /** The queue of the consumer is gone. */
  | "consumer-cancelled"
  /** The peer broke the protocol. */
  | "protocol"
  /** The caller asked for what can't be done. */
  | "usage"
  /** The deadline passed. */
  | "timeout"
  /** The broker could not store the message: publish it again. */
  | "nacked"
  /** No queue took the mandatory message. */
  | "returned"
  /** The connection was lost before the answer came: it may have been done or not. */
  | "outcome-unknown"
  /** The connection is away. */
  | "recovering"
  /** An `AbortSignal` was aborted. */
  | "aborted"
  | "other";

/** How far an error reaches. */
export type ErrorScope = "message" | "channel" | "connection" | "transport" | "caller";

export class AmqpError extends Error {
  constructor(message: string, o: { kind: ErrorKind; scope?: ErrorScope; code?: number; cause?: unknown });
  /** AMQP's reply code: 404 not found, 406 precondition failed, …; 0 where there is none. */
  readonly code: number;
  readonly scope: ErrorScope;
  readonly kind: ErrorKind;
}

/** How values become bodies. */
export interface Codec<T> {
  encode(value: T): { body: Uint8Array; contentType?: string; contentEncoding?: string };
  decode(raw: Uint8Array, message: { readonly properties: Properties }): T;
}

/** Bodies as they are. */
export const bytes: Codec<Uint8Array>;
/** UTF-8. */
export const text: Codec<string>;
/** JSON, whatever its content type. Nothing is checked at run time. */
export function json<T>(): Codec<T>;

export interface Credentials {
  username?: string;
  password?: string;
  /** In place of a password: for OAuth 2 and for gateways that take tokens. */
  token?: string;
  /** Seconds after which they expire. Shortly before, they are asked for again, and the broker gets the new ones. */
  expiresIn?: number;
}

export interface ReconnectOptions {
  /**
   * Longest wait after the first attempts in vain, in milliseconds (100); later ones last up to half of the time that
   * has been waited so far. A connection that worked for a second is replaced at once, within a tenth of this.
   */
  minMs?: number;
  /** Longest wait of all, in milliseconds (5,000). */
  maxMs?: number;
  /** Attempts before the session is given up (no limit). */
  retries?: number;
}

export interface Options {
  /** The virtual host (`/`). */
  vhost?: string;
  /** Who you are; a function is called for each connection anew (guest, guest). */
  auth?: Credentials | (() => Credentials | Promise<Credentials>);
  /** WebSocket subprotocols to offer (none). LavinMQ takes `amqp091`. */
  protocols?: string[];
  /** Seconds between signs of life; 0 for none (the broker's: 60). */
  heartbeat?: number;
  /** Largest frame in bytes (131,072). */
  frameMax?: number;
  /** Channels that the connection may have (2,047). */
  channelMax?: number;
  /** A name for the broker's tools. */
  name?: string;
  /** Whether and how to come back when the connection is lost (it does). */
  reconnect?: false | ReconnectOptions;
  /** Whether what was declared and bound is declared again after a reconnect ("recover"). */
  topology?: "recover" | "none";
  /**
   * Whether each message without a `messageId` gets one that no other has, and that it keeps when it is published again
   * after a reconnect: for consumers that drop what they have seen (false).
   */
  messageIds?: boolean;
  /** Bytes that may wait to be sent before publishing waits (1 MiB). */
  highWaterMark?: number;
  /** Largest message that is received, in bytes (128 MiB). */
  maxMessageSize?: number;
  /** Milliseconds for connecting (10,000), for an answer (30,000), for a confirm (60,000), for closing (10,000). */
  connectTimeout?: number;
  requestTimeout?: number;
  confirmTimeout?: number;
  closeTimeout?: number;
  /** Gives connecting up, and closes the session if it is open. */
  signal?: AbortSignal;
}

/**
 * Connects to a broker through a gateway: `wss://example.com/ws/amqp`.
 *
 * Rejects with the reason if the first attempt fails; from then on the session comes back by itself.
 */
export function connect(url: string, o?: Options): Promise<Session>;

export interface Events {
  /** The connection was lost, and will be tried again. */
  disconnected: AmqpError;
  /** An attempt failed; in `delayMs`, the next is made. */
  reconnecting: { attempt: number; delayMs: number; error: AmqpError };
  /** Connected again; what was declared is back, and consumers go on. */
  reconnected: { attempts: number };
  /** The broker takes no publishes, and says why; publishing waits. */
  blocked: string;
  unblocked: void;
  /** A mandatory message that was published without a confirm came back. */
  returned: ReturnedMessage;
  /** Something that no promise tells of: a handler that threw, a queue that could not be declared again. */
  error: Error;
  /** The end; `undefined` if this program closed the session. */
  closed: AmqpError | undefined;
}

export interface ReturnedMessage {
  readonly code: number;
  readonly reason: string;
  readonly message: Message<Uint8Array>;
}

export interface Session extends AsyncDisposable {
  readonly state: "open" | "reconnecting" | "closed";
  /** The broker's reason for taking no publishes now, if it takes none. */
  readonly blocked: string | undefined;
  /** Bytes that the browser has not sent yet. */
  readonly bufferedAmount: number;
  /** What the broker and this side agreed on, and what the broker says of itself. */
  readonly agreed: { frameMax: number; channelMax: number; heartbeat: number; server: FieldTable };
  /** What the connection has done since it was made. */
  readonly stats: Stats;
  /** Declares a queue. An empty name lets the broker make one. */
  queue<T = unknown>(name: string, o?: QueueOptions, codec?: Codec<T>): Promise<Queue<T>>;
  /** Declares an exchange. */
  exchange<T = unknown>(name: string, type: ExchangeType, o?: ExchangeOptions, codec?: Codec<T>): Promise<Exchange<T>>;
  /** A channel, for everything that AMQP has. */
  channel(): Promise<Channel>;
  /** Calls a service by its queue. Answers come by RabbitMQ's direct reply-to. */
  rpc<Q = unknown, R = unknown>(queue: string, o?: RpcOptions<Q, R>): Rpc<Q, R>;
  /** Listens; returns what ends the listening. */
  on<K extends keyof Events>(event: K, listener: (value: Events[K]) => void): () => void;
  /** Gives the broker a new secret for the same user. */
  updateSecret(secret: string): Promise<void>;
  /** Sends what was accepted, awaits its confirms, and closes. */
  close(): Promise<void>;
}

export interface Stats {
  published: number; confirmed: number; nacked: number; delivered: number; acked: number; rejected: number;
  bytesSent: number; bytesReceived: number;
}

export interface QueueOptions {
  durable?: boolean;
  /** For this connection alone. It is declared again after a reconnect, empty. */
  exclusive?: boolean;
  autoDelete?: boolean;
  /** Only looks whether it is there. */
  passive?: boolean;
  arguments?: FieldTable;
}

export type ExchangeType = "direct" | "fanout" | "topic" | "headers" | (string & {});

export interface ExchangeOptions {
  durable?: boolean;
  autoDelete?: boolean;
  internal?: boolean;
  passive?: boolean;
  arguments?: FieldTable;
}

export interface Queue<T> {
  /** Changes at a reconnect if the broker made it. */
  readonly name: string;
  /** As of when it was declared. */
  readonly messageCount: number;
  readonly consumerCount: number;
  /**
   * Publishes to the queue. Resolves when the broker has the message; rejects if it has not, with the reason.
   * Waits while there is no room, while the broker blocks publishing, and while the connection is away.
   * What was not confirmed when the connection was lost is published again: the broker may get it twice.
   */
  publish(body: T, o?: PublishOptions): Promise<void>;
  /** Publishes without a confirm if there is room now; otherwise returns false, and nothing was sent. */
  tryPublish(body: T, o?: PublishOptions): boolean;
  /** Consumes: an async iterable that holds `prefetch` messages at most. */
  consume(o?: ConsumeOptions): Consumer<T>;
  /** Consumes: calls `f` for each message, up to `prefetch` at once; with `noAck` one after the other. */
  subscribe(f: (message: Message<T>) => unknown, o?: ConsumeOptions): Promise<Subscription>;
  /** Answers requests of `Session.rpc` and its like, and acknowledges them. */
  serve<R>(f: (request: T, message: Message<T>) => R | Promise<R>, o?: ConsumeOptions & { codec?: Codec<R> }):
    Promise<Subscription>;
  /** Fetches one message, if there is one. */
  get(o?: { noAck?: boolean }): Promise<(Message<T> & { readonly messageCount: number }) | undefined>;
  bind(exchange: string | Exchange<unknown>, routingKey?: string, args?: FieldTable): Promise<void>;
  unbind(exchange: string | Exchange<unknown>, routingKey?: string, args?: FieldTable): Promise<void>;
  /** Deletes the messages that are ready. Resolves with their number. */
  purge(): Promise<number>;
  /** Resolves with the number of messages that went with it. */
  delete(o?: { ifUnused?: boolean; ifEmpty?: boolean }): Promise<number>;
}

export interface Exchange<T> {
  readonly name: string;
  /** As `Queue.publish`. */
  publish(routingKey: string, body: T, o?: PublishOptions): Promise<void>;
  /** As `Queue.tryPublish`. */
  tryPublish(routingKey: string, body: T, o?: PublishOptions): boolean;
  /** Takes what `source` routes by `routingKey`. */
  bind(source: string | Exchange<unknown>, routingKey?: string, args?: FieldTable): Promise<void>;
  unbind(source: string | Exchange<unknown>, routingKey?: string, args?: FieldTable): Promise<void>;
  delete(o?: { ifUnused?: boolean }): Promise<void>;
}

export interface ConsumeOptions {
  /** Messages that may be unacknowledged at once (256). */
  prefetch?: number;
  /** Messages count as acknowledged when they are sent: fastest, and lossy. */
  noAck?: boolean;
  exclusive?: boolean;
  /** A name for the broker's tools. */
  tag?: string;
  /** `x-priority`, `x-stream-offset`, … */
  arguments?: FieldTable;
  /** Cancels the consumer. */
  signal?: AbortSignal;
}

/**
 * Messages of a queue. Leaving a `for await` loop cancels it, and what it did not hand out goes back to the queue.
 * After a reconnect it goes on; what was not acknowledged comes again, and acks of the old deliveries do nothing.
 */
export interface Consumer<T> extends AsyncIterableIterator<Message<T>>, AsyncDisposable {
  /** Resolves when the broker has begun; rejects if it refuses. */
  readonly ready: Promise<void>;
  /** Asks the broker to stop; what was delivered can still be taken, then it ends. */
  cancel(): Promise<void>;
  return(): Promise<IteratorResult<Message<T>>>;
}

export interface Subscription extends AsyncDisposable {
  cancel(): Promise<void>;
  /** Resolves at the end; rejects if the end was not this program's. */
  readonly closed: Promise<void>;
}

export interface Message<T> {
  /** Decoded when it is first asked for. */
  readonly body: T;
  /** The bytes of the body. Small ones share memory with their neighbours: copy what you keep for long. */
  readonly raw: Uint8Array;
  readonly properties: Properties;
  readonly exchange: string;
  readonly routingKey: string;
  readonly redelivered: boolean;
  readonly deliveryTag: number;
  /** The work is done; with `multiple` also that of all before it on its channel. */
  ack(multiple?: boolean): void;
  /** Gives it back: to its queue, or with `requeue: false` to the dead-letter exchange or into nothing. */
  nack(o?: { requeue?: boolean; multiple?: boolean }): void;
  /** Refuses it: to the dead-letter exchange or into nothing, or with `requeue: true` to its queue. */
  reject(o?: { requeue?: boolean }): void;
}

export interface RpcOptions<Q, R> {
  request?: Codec<Q>;
  response?: Codec<R>;
  /** Milliseconds to wait for an answer (30,000). */
  timeoutMs?: number;
}

export interface Rpc<Q, R> extends AsyncDisposable {
  /** Rejects with 312 if nobody has the queue, with `timeout` if nobody answers, and if the connection is lost. */
  call(request: Q, o?: Properties & { signal?: AbortSignal; timeoutMs?: number }): Promise<R>;
  close(): Promise<void>;
}

/** A channel as AMQP has it. A refused request closes it; bodies are bytes or text. */
export interface Channel extends AsyncDisposable {
  readonly id: number;
  readonly isOpen: boolean;
  declareQueue(name: string, o?: QueueOptions): Promise<{ name: string; messageCount: number; consumerCount: number }>;
  deleteQueue(name: string, o?: { ifUnused?: boolean; ifEmpty?: boolean }): Promise<number>;
  purgeQueue(name: string): Promise<number>;
  bindQueue(queue: string, exchange: string, routingKey?: string, args?: FieldTable): Promise<void>;
  unbindQueue(queue: string, exchange: string, routingKey?: string, args?: FieldTable): Promise<void>;
  declareExchange(name: string, type: ExchangeType, o?: ExchangeOptions): Promise<void>;
  deleteExchange(name: string, o?: { ifUnused?: boolean }): Promise<void>;
  bindExchange(destination: string, source: string, routingKey?: string, args?: FieldTable): Promise<void>;
  unbindExchange(destination: string, source: string, routingKey?: string, args?: FieldTable): Promise<void>;
  /** Resolves when the broker has the message. */
  publish(exchange: string, routingKey: string, body: Uint8Array | string, o?: PublishOptions): Promise<void>;
  /** Resolves when the message is on its way, and knows nothing of its fate. */
  send(exchange: string, routingKey: string, body: Uint8Array | string, o?: PublishOptions): Promise<void>;
  /** As `send`, or returns false if there is no room now. */
  trySend(exchange: string, routingKey: string, body: Uint8Array | string, o?: PublishOptions): boolean;
  consume(queue: string, o?: ConsumeOptions): Promise<Consumer<Uint8Array> & { readonly tag: string }>;
  get(queue: string, o?: { noAck?: boolean }):
    Promise<(Message<Uint8Array> & { readonly messageCount: number }) | undefined>;
  /** For each consumer that is started later, or with `shared` for all together. */
  prefetch(count: number, o?: { shared?: boolean }): Promise<void>;
  /** Mandatory messages that were sent without a confirm and came back. */
  onReturn(f: (returned: ReturnedMessage) => void): void;
  recover(): Promise<void>;
  txSelect(): Promise<void>;
  txCommit(): Promise<void>;
  txRollback(): Promise<void>;
  flow(active: boolean): Promise<boolean>;
  close(): Promise<void>;
}
