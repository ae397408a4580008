// Transactions: publishes and acks until commit or rollback.

import { body, eq, next, refused } from "./harness.js";

const ready = async (channel, queue) => (await channel.declareQueue(queue, { passive: true })).messageCount;

export const scenarios = {
  async messages_of_a_transaction_reach_the_queue_with_the_commit(t) {
    const session = await t.connect();
    const [channel, other] = [await session.channel(), await session.channel()];
    const queue = await t.queueWith(other, []);
    await channel.txSelect();
    await channel.send("", queue, "one");
    await channel.send("", queue, "two");
    eq(await ready(channel, queue), 0);
    await channel.txCommit();
    eq(await ready(other, queue), 2);
  },

  async a_rollback_undoes_publishes_and_acks(t) {
    const session = await t.connect();
    const [channel, other] = [await session.channel(), await session.channel()];
    const queue = await t.queueWith(other, ["taken"]);
    await channel.txSelect();
    await channel.send("", queue, "gone");
    (await channel.get(queue)).ack();
    await channel.txRollback();
    await channel.txCommit();
    eq(await ready(other, queue), 0, "the ack was undone, and the message is still unacknowledged");
    await channel.close();
    const back = await next(await other.consume(queue));
    eq([body(back), back.redelivered], ["taken", true]);
  },

  async transactions_and_confirms_exclude_each_other_and_the_channel_stays_open(t) {
    const session = await t.connect();
    const [transacted, confirming] = [await session.channel(), await session.channel()];
    const queue = await t.queueWith(confirming, []);
    await transacted.txSelect();
    for (let i = 0; i < 2; i++) await refused(transacted.publish("", queue, "x"), { kind: "usage" });
    await transacted.send("", queue, "in the transaction");
    await transacted.txCommit();
    await confirming.publish("", queue, "confirmed");
    await refused(confirming.txSelect(), { kind: "usage" });
    eq(await ready(confirming, queue), 2);
  },

  async a_commit_without_a_transaction_fails_with_406(t) {
    await refused((await t.channel()).txCommit(), { kind: "channel-closed", code: 406 });
  },
};
