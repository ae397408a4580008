// The scenarios of `tests/scenarios` that do not run here, and why. `scenario-list.mjs` checks that this list is
// neither incomplete nor stale.

const NO_DROP = "JavaScript has no drop; garbage collection happens at no defined time";
const NO_TLS = "the browser does TLS, and programs can't configure it";
const NO_FUTURE = "promises can't be dropped; browser.js tests abort signals";

export const absent = {
  unacked_messages_of_a_dropped_channel_are_requeued:
    `${NO_DROP}; for closing see unacked_messages_of_a_closed_channel_are_requeued`,
  dropping_all_handles_sends_accepted_publishes: NO_DROP,
  events_report_channels_that_the_broker_closed:
    "sessions have no such event; the channel's promises reject",
  the_next_host_is_tried_when_one_is_unreachable: "connect takes one URL; the gateway tries several hosts",
  a_slow_consumer_without_a_prefetch_bounds_memory_and_loses_no_message:
    "programs can't stop a browser from receiving; a_slow_consumer_without_a_prefetch_loses_nothing tests the rest",
  a_consumer_may_be_cancelled_by_its_tag: "there is no cancel by tag; a consumer object has cancel()",
  amqplain_logs_in_like_plain: "the package has only PLAIN, to stay small",
  a_mechanism_that_the_broker_does_not_offer_is_reported: "the package has only PLAIN, to stay small",
  a_secret_that_is_too_long_for_the_broker_is_named_by_its_size: "initial_frame_max is not an option of the package",
  an_empty_virtual_host_hints_at_the_encoded_slash: "connect has no empty virtual host: the gateway's URL names none",
  a_client_certificate_logs_its_owner_in: NO_TLS,
  tls_with_the_root_certificate_of_the_broker_carries_large_messages: NO_TLS,
  tls_settings_may_be_part_of_the_uri: NO_TLS,
  a_root_that_did_not_sign_the_brokers_certificate_is_refused: NO_TLS,
  a_certificate_for_another_name_is_refused: NO_TLS,
  tls_on_a_plain_port_and_plain_text_on_a_tls_port_are_reported: NO_TLS,
  properties_that_are_set_one_by_one_arrive:
    "there is no builder; all_fourteen_properties_survive_a_round_trip tests them all",
  batches_of_publishes_without_confirms_and_empty_ones_are_counted:
    "publishMany confirms; tryPublish publishes without a confirm",
  a_batch_larger_than_the_output_buffer_waits_for_room:
    "publishMany calls publish; publishing_waits_while_the_buffer_is_full_and_loses_no_message tests its waiting",
  a_batch_that_fills_the_prefetch_does_not_wait: "batches know no prefetch; set maxCount to at most half of it",
  a_batch_of_a_consumer_without_acks_needs_none: "ack returns nothing",
  a_batch_that_an_ack_of_a_later_delivery_settled_can_not_be_settled_again:
    "ackAll acknowledges one by one; see settling.js for a delivery that is settled twice",
  a_delivery_splits_into_the_message_and_its_acker: "a message can't be split from its settling",
};

/** Files of `tests/scenarios` that test another client API. */
export const otherClientApis = { "futures.rs": NO_FUTURE };
