// The scenarios of the engine (`tests/scenarios`) that are not run here, and why. The runner checks that each of the
// engine's is here or in its own file.

const NO_DROP = "JavaScript drops no handles; what the runtime collects, it collects when it likes";
const NO_TLS = "the browser's own TLS, which no program in it can set";
const NO_FUTURE = "promises can't be dropped; abort signals are tested in browser.js";

export const absent = {
  unacked_messages_of_a_dropped_channel_are_requeued:
    `${NO_DROP}; closing is what_was_under_way_to_a_closed_channel_comes_back`,
  dropping_all_handles_sends_accepted_publishes: NO_DROP,
  events_report_channels_that_the_broker_closed:
    "a session's channels are its own affair; a channel tells by its promises",
  the_next_host_is_tried_when_one_is_unreachable: "one URL; the gateway tries several hosts",
  a_slow_consumer_without_a_prefetch_bounds_memory_and_loses_no_message:
    "a browser can't be told to stop receiving; a_slow_consumer_without_a_prefetch_loses_nothing has the rest",
  a_consumer_may_be_cancelled_by_its_tag: "a consumer is cancelled by itself, which can be handed on",
  amqplain_logs_in_like_plain: "PLAIN alone: the package stays small",
  a_mechanism_that_the_broker_does_not_offer_is_reported: "PLAIN alone: the package stays small",
  a_client_certificate_logs_its_owner_in: NO_TLS,
  tls_with_the_root_certificate_of_the_broker_carries_large_messages: NO_TLS,
  tls_settings_may_be_part_of_the_uri: NO_TLS,
  a_root_that_did_not_sign_the_brokers_certificate_is_refused: NO_TLS,
  a_certificate_for_another_name_is_refused: NO_TLS,
  tls_on_a_plain_port_and_plain_text_on_a_tls_port_are_reported: NO_TLS,
  properties_that_are_set_one_by_one_arrive:
    "there is no builder; all_fourteen_properties_survive_a_round_trip has them all",
  a_delivery_splits_into_the_message_and_its_acker: "a message carries both",
};

/** Files of the engine's scenarios that are another door's. */
export const otherDoors = { "futures.rs": NO_FUTURE };
