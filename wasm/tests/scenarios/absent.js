// The scenarios of the engine (`tests/scenarios`) that are not run here, and why. The runner checks that each of the
// engine's is here or in its own file.

const NO_DROP = "JavaScript drops no handles; what the runtime collects, it collects when it likes";
const NO_TLS = "the browser's own TLS, which no program in it can set";
const NO_FUTURE = "promises can't be dropped; abort signals are tested in browser.js";

export const absent = {
  what_was_under_way_to_a_dropped_channel_comes_back:
    `${NO_DROP}; closing is what_was_under_way_to_a_closed_channel_comes_back`,
  dropping_all_handles_sends_what_was_accepted: NO_DROP,
  events_tell_of_channels_that_the_broker_closed:
    "a session's channels are its own affair; a channel tells by its promises",
  the_next_host_is_tried_when_one_is_dead: "one URL; the gateway tries several hosts",
  a_slow_consumer_without_a_prefetch_bounds_the_memory_and_loses_nothing:
    "a browser can't be told to stop receiving; a_slow_consumer_without_a_prefetch_loses_nothing has the rest",
  a_consumer_is_cancelled_by_its_tag_from_elsewhere: "a consumer is cancelled by itself, which can be handed on",
  amqplain_lets_in_as_plain_does: "PLAIN alone: the package stays small",
  a_mechanism_that_the_broker_does_not_offer_is_told: "PLAIN alone: the package stays small",
  a_client_certificate_lets_its_owner_in: NO_TLS,
  tls_with_the_brokers_own_root_carries_large_messages: NO_TLS,
  tls_settings_may_stand_in_the_uri: NO_TLS,
  a_root_that_did_not_sign_the_brokers_certificate_is_refused: NO_TLS,
  a_certificate_for_another_name_is_refused: NO_TLS,
  tls_where_there_is_none_and_none_where_there_is_are_told: NO_TLS,
  properties_that_are_set_one_by_one_arrive:
    "there is no builder; all_fourteen_properties_go_there_and_back has them all",
  a_message_and_the_right_to_settle_it_go_separate_ways: "a message carries both",
};

/** Files of the engine's scenarios that are another door's. */
export const otherDoors = { "futures.rs": NO_FUTURE };
