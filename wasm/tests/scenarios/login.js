// Login: users and virtual hosts.

import { eq, ok, refused } from "./harness.js";

export const scenarios = {
  async a_wrong_password_fails_with_403_and_is_not_shown(t) {
    const auth = { username: "guest", password: "pa55word" };
    const error = await refused(t.connect({ auth }), { kind: "authentication", code: 403 });
    ok(!`${error} ${error.stack} ${JSON.stringify(error)}`.includes("pa55word"), error.message);
  },

  async a_missing_virtual_host_fails_with_530(t) {
    await refused(t.connect({ vhost: "nowhere" }), { kind: "connection-closed", code: 530 });
  },

  async virtual_hosts_are_isolated_from_each_other(t) {
    const name = t.name("queue");
    await (await t.channel({ vhost: "hopmq-other" })).declareQueue(name, { exclusive: true });
    await refused((await t.channel()).declareQueue(name, { passive: true }), { code: 404 });
    const auth = { username: "hopmq-limited", password: "limited" };
    await refused(t.connect({ vhost: "hopmq-other", auth }), { code: 530 });
  },

  async a_missing_permission_fails_with_403_and_closes_only_the_channel(t) {
    const session = await t.connect({ auth: async () => ({ username: "hopmq-limited", password: "limited" }) });
    const allowed = await session.channel();
    // The user has permissions only for names that begin with its own.
    const name = `hopmq-limited-${t.name("queue")}`;
    await allowed.declareQueue(name, { exclusive: true });
    await refused((await session.channel()).declareQueue(t.name("queue")), { kind: "channel-closed", code: 403 });
    const publish = (await session.channel()).publish("amq.fanout", "", "");
    await refused(publish, { kind: "channel-closed", code: 403 });
    eq((await allowed.declareQueue(name, { passive: true })).messageCount, 0);
  },
};
