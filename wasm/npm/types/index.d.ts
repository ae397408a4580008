// The API of the npm package `hopmq`, written by hand. `slim.d.ts` adds what `hopmq/slim` exports.

/// <reference lib="esnext.disposable" />

/** A value of a header or an argument. Integers beyond 2^53 are `bigint`; a `Date` is sent in whole seconds. */
export type FieldValue =
  | string | number | bigint | boolean | null | undefined | Date | Uint8Array | FieldValue[] | FieldTable;

/** Headers or arguments. */
export interface FieldTable { [key: string]: FieldValue }

/** The properties of a message. */
export interface Properties {
  contentType?: string;
  contentEncoding?: string;
  headers?: FieldTable;
  /** 2 is persistent, 1 is not. `Queue` and `Exchange` publish persistent messages by default. */
  deliveryMode?: number;
  /** 0 to 255. */
  priority?: number;
  correlationId?: string;
  replyTo?: string;
  /** Milliseconds that the message may stay in a queue, as text. */
  expiration?: string;
  messageId?: string;
  timestamp?: Date;
  type?: string;
  /** RabbitMQ refuses any user but the one that is logged in. */
  userId?: string;
  appId?: string;
  clusterId?: string;
}

/** A property that is text. */
export type TextProperty = {
  [K in keyof Properties]-?: Required<Properties>[K] extends string ? K : never;
}[keyof Properties];

export interface PublishOptions extends Properties {
  /** Returns the message if no queue takes it: the publish rejects with code 312. */
  mandatory?: boolean;
}

/** What went wrong: see `AmqpError.kind`. */
export type ErrorKind =
  /** The URL or an option is invalid. */
  | "config"
  /** The network or the gateway failed. */
  | "io" | "tls" | "websocket" | "heartbeat"
  /** The broker refused the credentials (403). */
  | "authentication"
  /** The broker closed the connection or the channel: `code` says why. */
  | "connection-closed" | "channel-closed"
  /** This program closed the session, channel or consumer. */
  | "closed"
  /** The consumer's queue was deleted. */
  | "consumer-cancelled"
  /** The peer broke the protocol. */
  | "protocol"
  /** The call is invalid: nothing was sent. */
  | "usage"
  /** The timeout passed. */
  | "timeout"
  /** The broker could not store the message: publish it again. */
  | "nacked"
  /** No queue took the mandatory message. */
  | "returned"
  /** The connection was lost before the reply: the request may or may not have been carried out. */
  | "outcome-unknown"
  /** The session is reconnecting. */
  | "recovering"
  /** An `AbortSignal` was aborted. */
  | "aborted"
  | "other";

/** How far an error reaches. */
export type ErrorScope = "message" | "channel" | "connection" | "transport" | "caller";

export class AmqpError extends Error {
  constructor(message: string, options: { kind: ErrorKind; scope?: ErrorScope; code?: number; cause?: unknown });
  /** AMQP's reply code: 404 not found, 406 precondition failed, …; 0 if there is none. */
  readonly code: number;
  readonly scope: ErrorScope;
  readonly kind: ErrorKind;
}

/** Converts values to bodies and back. */
export interface Codec<T> {
  encode(value: T): { body: Uint8Array; contentType?: string; contentEncoding?: string };
  /** `queue` is the queue that the message was taken from, for error texts. */
  decode(raw: Uint8Array, message: { readonly properties: Properties; readonly queue?: string }): T;
}

/** Leaves bodies as bytes. */
export const bytes: Codec<Uint8Array>;
/** UTF-8 text. */
export const text: Codec<string>;
/** JSON, whatever the content type. The type is not checked at run time. */
export function json<T>(): Codec<T>;

export interface Credentials {
  username?: string;
  password?: string;
  /** Replaces the password: for OAuth 2 and for gateways that take tokens. */
  token?: string;
  /** Seconds until they expire. Shortly before, `auth` is called again and the broker receives the new ones. */
  expiresIn?: number;
}

export interface ReconnectOptions {
  /**
   * Longest delay after the first failed attempts, in milliseconds (100). Later delays are at most half of the total
   * delay so far. A connection that worked for a second is replaced within a tenth of this.
   */
  minMs?: number;
  /** Longest delay of all, in milliseconds (5,000). */
  maxMs?: number;
  /** Failed attempts after which the session closes (no limit). */
  retries?: number;
}

export interface Options {
  /** The virtual host (`/`). */
  vhost?: string;
  /** The credentials; a function is called for each connection (guest, guest). */
  auth?: Credentials | (() => Credentials | Promise<Credentials>);
  /** WebSocket subprotocols to offer (none). LavinMQ takes `amqp091`. */
  protocols?: string[];
  /** Heartbeat interval in seconds; 0 turns heartbeats off (the broker's: 60). */
  heartbeat?: number;
  /** Largest frame in bytes (131,072). */
  frameMax?: number;
  /** Largest number of channels (2,047). */
  channelMax?: number;
  /** Connection name, shown by the broker's tools. */
  name?: string;
  /** How to reconnect when the connection is lost; `false` closes the session instead. */
  reconnect?: false | ReconnectOptions;
  /**
   * Milliseconds to retry the first connect while the broker or the gateway can't be reached (0: the first attempt
   * decides). The delays are those of `reconnect`. Refused credentials and virtual hosts reject at once.
   */
  waitForBroker?: number;
  /** Whether declared queues, exchanges and bindings are declared again after a reconnect ("recover"). */
  topology?: "recover" | "none";
  /**
   * Whether each message without a `messageId` gets a unique one (false). The message keeps it when it is republished
   * after a reconnect, so that consumers can drop duplicates.
   */
  messageIds?: boolean;
  /** Unsent bytes from which on publishing waits (1 MiB). */
  highWaterMark?: number;
  /** Largest message to receive, in bytes (128 MiB). */
  maxMessageSize?: number;
  /** Timeout of each attempt to connect, in milliseconds (10,000). */
  connectTimeout?: number;
  /** Timeout of a request, in milliseconds (30,000). */
  requestTimeout?: number;
  /** Timeout of a publisher confirm, in milliseconds (60,000). */
  confirmTimeout?: number;
  /** Timeout of closing, in milliseconds (10,000). */
  closeTimeout?: number;
  /** Aborts connecting, and closes the session once it is open. */
  signal?: AbortSignal;
}

/**
 * Connects to a broker through a gateway, for example `wss://example.com/ws/amqp`.
 *
 * Rejects with the reason if the first attempt fails, or with `waitForBroker` when that time has passed. An open
 * session reconnects automatically.
 */
export function connect(url: string, options?: Options): Promise<Session>;

export interface Events {
  /** The connection was lost; the session reconnects. */
  disconnected: AmqpError;
  /** An attempt failed; the next one follows after `delayMs`. */
  reconnecting: { attempt: number; delayMs: number; error: AmqpError };
  /** The session is connected again, its topology is declared again, and its consumers continue. */
  reconnected: { attempts: number };
  /** The broker blocks publishing for this reason; publishes wait. */
  blocked: string;
  unblocked: void;
  /** A mandatory message that was published without a confirm was returned. */
  returned: ReturnedMessage;
  /** An error that no promise reports: a handler threw, or a queue could not be declared again. */
  error: Error;
  /** The session has ended; `undefined` if this program closed it. */
  closed: AmqpError | undefined;
}

export interface ReturnedMessage {
  readonly code: number;
  readonly reason: string;
  readonly message: Message<Uint8Array>;
}

export interface Session extends AsyncDisposable {
  readonly state: "open" | "reconnecting" | "closed";
  /** The broker's reason for blocking publishes, while it blocks them. */
  readonly blocked: string | undefined;
  /** Bytes that the browser has not sent yet. */
  readonly bufferedAmount: number;
  /** The values negotiated with the broker, and the broker's own properties. */
  readonly agreed: { frameMax: number; channelMax: number; heartbeat: number; server: FieldTable };
  /** Counters since the session was opened. */
  readonly stats: Stats;
  /** Declares a queue. With an empty name the broker generates one. */
  queue<T = unknown>(name: string, options?: QueueOptions, codec?: Codec<T>): Promise<Queue<T>>;
  /** Declares an exchange. */
  exchange<T = unknown>(
    name: string, type: ExchangeType, options?: ExchangeOptions, codec?: Codec<T>,
  ): Promise<Exchange<T>>;
  /** Opens a channel, for the full AMQP API. */
  channel(): Promise<Channel>;
  /** Returns a client for a service that reads requests from `queue`. Replies use RabbitMQ's direct reply-to. */
  rpc<Q = unknown, R = unknown>(queue: string, options?: RpcOptions<Q, R>): Rpc<Q, R>;
  /** Adds a listener. Returns a function that removes it. */
  on<K extends keyof Events>(event: K, listener: (value: Events[K]) => void): () => void;
  /** Sends the broker a new secret for the same user. */
  updateSecret(secret: string): Promise<void>;
  /** Sends all accepted messages, awaits their confirms, and closes. */
  close(): Promise<void>;
}

export interface Stats {
  published: number; confirmed: number; nacked: number; delivered: number; acked: number; rejected: number;
  bytesSent: number; bytesReceived: number;
}

export interface QueueOptions {
  durable?: boolean;
  /** Only this connection may use the queue. After a reconnect it is declared again, empty. */
  exclusive?: boolean;
  autoDelete?: boolean;
  /**
   * Checks that the queue exists instead of declaring it: rejects with 404 if it does not. The other options are
   * ignored, and no permission to configure is needed.
   */
  passive?: boolean;
  arguments?: FieldTable;
}

export type ExchangeType = "direct" | "fanout" | "topic" | "headers" | (string & {});

export interface ExchangeOptions {
  durable?: boolean;
  autoDelete?: boolean;
  internal?: boolean;
  /** Checks that the exchange exists instead of declaring it: rejects with 404 if it does not. */
  passive?: boolean;
  arguments?: FieldTable;
}

export interface Queue<T> {
  /** Changes after a reconnect if the broker generated it. */
  readonly name: string;
  /** Messages ready when the queue was declared. */
  readonly messageCount: number;
  /** Consumers when the queue was declared. */
  readonly consumerCount: number;
  /**
   * Publishes to the queue. Resolves when the broker has confirmed the message; rejects with the reason if the broker
   * did not take it. Waits while the send buffer is full, while the broker blocks publishing, and during a reconnect.
   * Messages that were unconfirmed when the connection was lost are published again: the broker may get them twice.
   */
  publish(body: T, options?: PublishOptions): Promise<void>;
  /** Publishes without a confirm. Returns false, and sends nothing, if the message would have to wait. */
  tryPublish(body: T, options?: PublishOptions): boolean;
  /** Consumes with an async iterable that holds at most `prefetch` messages. */
  consume(options?: ConsumeOptions): Consumer<T>;
  /** Consumes with a handler, called for up to `prefetch` messages at once; with `noAck` for one after the other. */
  subscribe(handler: (message: Message<T>) => unknown, options?: ConsumeOptions): Promise<Subscription>;
  /** Replies to the requests of `Session.rpc` with the handler's results, and acknowledges them. */
  serve<R>(
    handler: (request: T, message: Message<T>) => R | Promise<R>, options?: ConsumeOptions & { codec?: Codec<R> },
  ): Promise<Subscription>;
  /** Fetches one message; resolves with `undefined` if the queue is empty. */
  get(options?: { noAck?: boolean }): Promise<(Message<T> & { readonly messageCount: number }) | undefined>;
  bind(exchange: string | Exchange<unknown>, routingKey?: string, args?: FieldTable): Promise<void>;
  unbind(exchange: string | Exchange<unknown>, routingKey?: string, args?: FieldTable): Promise<void>;
  /** Deletes the messages that are ready. Resolves with their number. */
  purge(): Promise<number>;
  /** Deletes the queue. Resolves with the number of messages deleted with it. */
  delete(options?: { ifUnused?: boolean; ifEmpty?: boolean }): Promise<number>;
}

export interface Exchange<T> {
  readonly name: string;
  /** Publishes to the exchange, with the guarantees of `Queue.publish`. */
  publish(routingKey: string, body: T, options?: PublishOptions): Promise<void>;
  /** Publishes without a confirm. Returns false, and sends nothing, if the message would have to wait. */
  tryPublish(routingKey: string, body: T, options?: PublishOptions): boolean;
  /** Binds this exchange to `source`, so that it receives what `source` routes by `routingKey`. */
  bind(source: string | Exchange<unknown>, routingKey?: string, args?: FieldTable): Promise<void>;
  unbind(source: string | Exchange<unknown>, routingKey?: string, args?: FieldTable): Promise<void>;
  delete(options?: { ifUnused?: boolean }): Promise<void>;
}

export interface ConsumeOptions {
  /** Largest number of unacknowledged messages (256). */
  prefetch?: number;
  /** Messages count as acknowledged once they are sent: fastest, but messages may be lost. */
  noAck?: boolean;
  exclusive?: boolean;
  /** Consumer tag, shown by the broker's tools. */
  tag?: string;
  /** `x-priority`, `x-stream-offset`, … */
  arguments?: FieldTable;
  /** Cancels the consumer. */
  signal?: AbortSignal;
}

/**
 * The messages of a queue. Leaving a `for await` loop cancels the consumer and requeues undelivered messages.
 *
 * The consumer continues after a reconnect: unacknowledged messages are redelivered, and acks of earlier deliveries
 * have no effect.
 */
export interface Consumer<T> extends AsyncIterableIterator<Message<T>>, AsyncDisposable {
  /** Resolves when the broker has started the consumer; rejects if the broker refuses. */
  readonly ready: Promise<void>;
  /** Asks the broker to stop delivering. Messages that were received are still yielded, then the iteration ends. */
  cancel(): Promise<void>;
  return(): Promise<IteratorResult<Message<T>>>;
}

/** The error of `publishMany`, with `kind`, `scope` and `code` of the first message that failed. */
export class PublishManyError extends AmqpError {
  constructor(count: number, failed: { index: number; error: Error }[]);
  /** How many messages were published. All but the failed ones are confirmed. */
  readonly count: number;
  /** The messages that failed, by their index, with the reasons: those of `publish`. */
  readonly failed: readonly { index: number; error: Error }[];
}

/**
 * Publishes a message for each body, in order, to a queue, or to anything else with a `publish`:
 * `{ publish: (body) => exchange.publish("order.new", body) }`. Up to 1000 messages wait for their confirms at a time.
 * Resolves when the broker has confirmed all messages. Rejects with a `PublishManyError` if some failed; the others are
 * published nevertheless.
 */
export function publishMany<T>(
  target: { publish(body: T, options?: PublishOptions): Promise<void> }, bodies: Iterable<T>, options?: PublishOptions,
): Promise<void>;

/** The limits of a batch. A batch has one message at least. */
export interface BatchOptions {
  /** Most messages (no limit but the prefetch, which should be twice as large or larger). */
  maxCount?: number;
  /** Bytes of bodies with which a batch is full (no limit). */
  maxSize?: number;
  /** Longest wait for more messages after the first, in milliseconds (0). */
  wait?: number;
}

/** Messages of one consumer, in their order. */
export interface Deliveries<T> extends Array<Message<T>> {
  /** Acknowledges all messages of the batch, and no other. */
  ackAll(): void;
  /** Rejects all messages of the batch: see `Message.nack`. */
  nackAll(options?: { requeue?: boolean }): void;
}

/**
 * Iterates over batches of whatever has arrived. Leaving the loop cancels the consumer, and requeues the messages that
 * are in no batch yet; messages of a batch that are not settled stay unacknowledged until the channel closes.
 */
export function batches<T>(consumer: Consumer<T>, options?: BatchOptions): AsyncGenerator<Deliveries<T>, void>;

export interface Subscription extends AsyncDisposable {
  cancel(): Promise<void>;
  /** Resolves once this program cancelled the subscription; rejects if it ended for another reason. */
  readonly closed: Promise<void>;
}

export interface Message<T> {
  /** The decoded body. Decoding happens on first access. */
  readonly body: T;
  /** The bytes of the body. Small bodies share one buffer with others: copy what you keep for long. */
  readonly raw: Uint8Array;
  readonly properties: Properties;
  readonly exchange: string;
  readonly routingKey: string;
  readonly redelivered: boolean;
  readonly deliveryTag: number;
  /**
   * Returns the bytes of a name or of a text property; `undefined` if the property is not set. Other clients may send
   * bytes that are not UTF-8, which read as U+FFFD elsewhere.
   */
  bytesOf(name: "exchange" | "routingKey" | TextProperty): Uint8Array | undefined;
  /** Acknowledges the message; with `multiple` also all earlier ones on its channel. */
  ack(multiple?: boolean): void;
  /** Requeues the message; with `requeue: false` dead-letters or drops it. */
  nack(options?: { requeue?: boolean; multiple?: boolean }): void;
  /** Dead-letters or drops the message; with `requeue: true` requeues it. */
  reject(options?: { requeue?: boolean }): void;
}

export interface RpcOptions<Q, R> {
  request?: Codec<Q>;
  response?: Codec<R>;
  /** Milliseconds to wait for a reply (30,000). */
  timeoutMs?: number;
}

export interface Rpc<Q, R> extends AsyncDisposable {
  /**
   * Sends a request and resolves with its reply. Rejects with 312 if the queue does not exist, with `timeout` if no
   * reply arrives, and if the connection is lost.
   */
  call(request: Q, options?: Properties & { signal?: AbortSignal; timeoutMs?: number }): Promise<R>;
  close(): Promise<void>;
}

/** A plain AMQP channel. A refused request closes it. Bodies are bytes or text. */
export interface Channel extends AsyncDisposable {
  readonly id: number;
  readonly isOpen: boolean;
  declareQueue(
    name: string, options?: QueueOptions,
  ): Promise<{ name: string; messageCount: number; consumerCount: number }>;
  deleteQueue(name: string, options?: { ifUnused?: boolean; ifEmpty?: boolean }): Promise<number>;
  purgeQueue(name: string): Promise<number>;
  bindQueue(queue: string, exchange: string, routingKey?: string, args?: FieldTable): Promise<void>;
  unbindQueue(queue: string, exchange: string, routingKey?: string, args?: FieldTable): Promise<void>;
  declareExchange(name: string, type: ExchangeType, options?: ExchangeOptions): Promise<void>;
  deleteExchange(name: string, options?: { ifUnused?: boolean }): Promise<void>;
  bindExchange(destination: string, source: string, routingKey?: string, args?: FieldTable): Promise<void>;
  unbindExchange(destination: string, source: string, routingKey?: string, args?: FieldTable): Promise<void>;
  /** Publishes. Resolves when the broker has confirmed the message. */
  publish(exchange: string, routingKey: string, body: Uint8Array | string, options?: PublishOptions): Promise<void>;
  /** Publishes without a confirm. Resolves when the message is in the send buffer. */
  send(exchange: string, routingKey: string, body: Uint8Array | string, options?: PublishOptions): Promise<void>;
  /** Publishes without a confirm. Returns false, and sends nothing, if the message would have to wait. */
  trySend(exchange: string, routingKey: string, body: Uint8Array | string, options?: PublishOptions): boolean;
  consume(queue: string, options?: ConsumeOptions): Promise<Consumer<Uint8Array> & { readonly tag: string }>;
  get(
    queue: string, options?: { noAck?: boolean },
  ): Promise<(Message<Uint8Array> & { readonly messageCount: number }) | undefined>;
  /** Sets the prefetch of each consumer started later, or with `shared` of all consumers together. */
  prefetch(count: number, options?: { shared?: boolean }): Promise<void>;
  /** Calls `listener` for each returned mandatory message that was published without a confirm. */
  onReturn(listener: (returned: ReturnedMessage) => void): void;
  recover(): Promise<void>;
  txSelect(): Promise<void>;
  txCommit(): Promise<void>;
  txRollback(): Promise<void>;
  flow(active: boolean): Promise<boolean>;
  close(): Promise<void>;
}
