// Exchanges and bindings: routing.

import { body, drained, eq, ok, refused } from "./harness.js";

async function routed(channel, exchange, queue, keys) {
  for (const key of keys) await channel.publish(exchange, key, key);
  return drained(channel, queue);
}

async function declare(t, channel, type, o) {
  const name = t.name(type);
  await channel.declareExchange(name, type, o);
  return name;
}

export const scenarios = {
  async the_default_exchange_routes_by_the_name_of_the_queue(t) {
    const channel = await t.channel();
    const [one, two] = [await t.queueWith(channel, []), await t.queueWith(channel, [])];
    await channel.publish("", one, "one");
    await channel.publish("", two, "two");
    eq(await drained(channel, one), ["one"]);
    eq(await drained(channel, two), ["two"]);
  },

  async a_direct_exchange_routes_by_the_exact_key(t) {
    const channel = await t.channel();
    const [queue, name] = [await t.queueWith(channel, []), await declare(t, channel, "direct")];
    await channel.bindQueue(queue, name, "info");
    await channel.bindQueue(queue, name, "error");
    eq(await routed(channel, name, queue, ["info", "debug", "error", "info.x"]), ["info", "error"]);
  },

  async a_fanout_exchange_routes_to_all_its_queues(t) {
    const channel = await t.channel();
    const name = await declare(t, channel, "fanout");
    const [one, two] = [await t.queueWith(channel, []), await t.queueWith(channel, [])];
    await channel.bindQueue(one, name);
    await channel.bindQueue(two, name, "ignored");
    eq(await routed(channel, name, one, ["a", "b"]), ["a", "b"]);
    eq(await drained(channel, two), ["a", "b"]);
  },

  async a_star_in_a_topic_matches_one_word(t) {
    const channel = await t.channel();
    const [queue, name] = [await t.queueWith(channel, []), await declare(t, channel, "topic")];
    await channel.bindQueue(queue, name, "*.orange.*");
    const keys = ["quick.orange.rabbit", "orange", "quick.orange", "a.b.orange.c", "lazy.orange.elephant"];
    eq(await routed(channel, name, queue, keys), ["quick.orange.rabbit", "lazy.orange.elephant"]);
  },

  async a_hash_in_a_topic_matches_any_number_of_words(t) {
    const channel = await t.channel();
    const [queue, name] = [await t.queueWith(channel, []), await declare(t, channel, "topic")];
    await channel.bindQueue(queue, name, "lazy.#");
    const keys = await routed(channel, name, queue, ["lazy", "lazy.pink.rabbit", "lazier", "quick.lazy"]);
    eq(keys, ["lazy", "lazy.pink.rabbit"]);
  },

  async a_headers_exchange_routes_by_all_or_any_of_the_headers(t) {
    const channel = await t.channel();
    const name = await declare(t, channel, "headers");
    const [all, any] = [await t.queueWith(channel, []), await t.queueWith(channel, [])];
    const table = { format: "pdf", pages: 2 };
    await channel.bindQueue(all, name, "", { ...table, "x-match": "all" });
    await channel.bindQueue(any, name, "", { ...table, "x-match": "any" });
    await channel.publish(name, "", "both", { headers: table });
    await channel.publish(name, "", "one", { headers: { format: "pdf", pages: 3 } });
    await channel.publish(name, "", "none", { headers: { format: "zip" } });
    await channel.publish(name, "", "no headers");
    eq(await drained(channel, all), ["both"]);
    eq(await drained(channel, any), ["both", "one"]);
  },

  async an_alternate_exchange_receives_unroutable_messages(t) {
    const channel = await t.channel();
    const rest = await declare(t, channel, "fanout");
    const main = await declare(t, channel, "direct", { arguments: { "alternate-exchange": rest } });
    const [taken, left] = [await t.queueWith(channel, []), await t.queueWith(channel, [])];
    await channel.bindQueue(taken, main, "known");
    await channel.bindQueue(left, rest);
    await channel.publish(main, "unknown", "lost", { mandatory: true });
    await channel.publish(main, "known", "found", { mandatory: true });
    eq(await drained(channel, taken), ["found"]);
    eq(await drained(channel, left), ["lost"]);
  },

  async publishing_to_an_internal_exchange_is_refused(t) {
    const channel = await t.channel();
    const name = await declare(t, channel, "fanout", { internal: true });
    await refused(channel.publish(name, "", "no"), { kind: "channel-closed", code: 403 });
  },

  async an_exchange_receives_messages_of_another_until_it_is_unbound(t) {
    const channel = await t.channel();
    const source = await declare(t, channel, "topic");
    const destination = await declare(t, channel, "fanout", { internal: true });
    const queue = await t.queueWith(channel, []);
    await channel.bindQueue(queue, destination);
    await channel.bindExchange(destination, source, "eu.#");
    eq(await routed(channel, source, queue, ["eu.fr", "us.ny"]), ["eu.fr"]);
    await channel.unbindExchange(destination, source, "eu.#");
    eq(await routed(channel, source, queue, ["eu.de"]), []);
  },

  async an_unbound_queue_receives_no_more_messages(t) {
    const channel = await t.channel();
    const [queue, name] = [await t.queueWith(channel, []), await declare(t, channel, "direct")];
    await channel.bindQueue(queue, name, "key");
    eq(await routed(channel, name, queue, ["key"]), ["key"]);
    await channel.unbindQueue(queue, name, "key");
    eq(await routed(channel, name, queue, ["key"]), []);
    await channel.unbindQueue(queue, name, "key");
  },

  async a_binding_with_arguments_is_removed_by_the_same_arguments(t) {
    const channel = await t.channel();
    const [queue, name] = [await t.queueWith(channel, []), await declare(t, channel, "headers")];
    await channel.bindQueue(queue, name, "", { colour: "red" });
    await channel.bindQueue(queue, name, "", { colour: "blue" });
    await channel.unbindQueue(queue, name, "", { colour: "red" });
    await channel.publish(name, "", "red", { headers: { colour: "red" } });
    await channel.publish(name, "", "blue", { headers: { colour: "blue" } });
    eq(await drained(channel, queue), ["blue"]);
  },

  async binding_to_a_missing_exchange_fails_with_404(t) {
    const channel = await t.channel();
    const queue = await t.queueWith(channel, []);
    await refused(channel.bindQueue(queue, t.name("missing"), "key"), { code: 404 });
  },

  async an_exchange_in_use_is_not_deleted_if_unused(t) {
    const session = await t.connect();
    const [channel, other] = [await session.channel(), await session.channel()];
    const [queue, name] = [await t.queueWith(channel, []), await declare(t, channel, "fanout")];
    await channel.bindQueue(queue, name);
    await refused(other.deleteExchange(name, { ifUnused: true }), { code: 406 });
    await channel.unbindQueue(queue, name);
    await channel.deleteExchange(name, { ifUnused: true });
    await refused(channel.declareExchange(name, "fanout", { passive: true }), { code: 404 });
  },

  async an_auto_delete_exchange_is_deleted_with_its_last_binding(t) {
    const channel = await t.channel();
    const [queue, name] = [await t.queueWith(channel, []), await declare(t, channel, "fanout", { autoDelete: true })];
    await channel.bindQueue(queue, name);
    await channel.declareExchange(name, "fanout", { passive: true });
    await channel.unbindQueue(queue, name);
    await refused(channel.declareExchange(name, "fanout", { passive: true }), { code: 404 });
  },

  async an_exchange_can_be_declared_again_only_with_the_same_settings(t) {
    const channel = await t.channel();
    const name = await declare(t, channel, "topic", { durable: true });
    await channel.declareExchange(name, "topic", { durable: true });
    await refused(channel.declareExchange(name, "fanout", { durable: true }), { code: 406 });
  },

  async an_exchange_of_an_unknown_type_is_refused(t) {
    const error = await refused((await t.channel()).declareExchange(t.name("exchange"), "x-unheard-of"));
    ok([406, 503].includes(error.code), error.message);
    eq(body({ raw: new Uint8Array() }), "");
  },
};
