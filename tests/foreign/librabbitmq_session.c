/* A session of librabbitmq, the client in C. */

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define CHECK(holds, ...)                         \
  do {                                            \
    if (!(holds)) {                               \
      fprintf(stderr, "line %d: ", __LINE__);     \
      fprintf(stderr, __VA_ARGS__);               \
      fprintf(stderr, "\n");                      \
      exit(1);                                    \
    }                                             \
  } while (0)

static struct amqp_connection_info url;
static struct timeval limit = {20, 0};

static void step(const char *name) {
  printf("librabbitmq: %s\n", name);
  fflush(stdout);
}

static amqp_bytes_t bytes(const char *text) { return amqp_cstring_bytes(text); }

static int equal(amqp_bytes_t left, const char *right) {
  return left.len == strlen(right) && memcmp(left.bytes, right, left.len) == 0;
}

/* Returns the reply code and text of an exception, or what else a reply says. */
static const char *text_of(amqp_rpc_reply_t reply, int *code) {
  static char text[512];
  *code = 0;
  if (reply.reply_type == AMQP_RESPONSE_NORMAL) {
    return "no failure";
  }
  if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION) {
    return amqp_error_string2(reply.library_error);
  }
  amqp_bytes_t reason;
  if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
    amqp_connection_close_t *closed = reply.reply.decoded;
    *code = closed->reply_code;
    reason = closed->reply_text;
  } else {
    amqp_channel_close_t *closed = reply.reply.decoded;
    *code = closed->reply_code;
    reason = closed->reply_text;
  }
  snprintf(text, sizeof text, "%d %.*s", *code, (int)reason.len, (char *)reason.bytes);
  return text;
}

static void well(amqp_rpc_reply_t reply, const char *what) {
  int code;
  CHECK(reply.reply_type == AMQP_RESPONSE_NORMAL, "%s: %s", what, text_of(reply, &code));
}

static void fails(amqp_rpc_reply_t reply, int wanted, const char *words) {
  int code;
  const char *text = text_of(reply, &code);
  CHECK(code == wanted && strstr(text, words), "expected %d with %s, got: %s", wanted, words, text);
}

/* A table with one entry. */
static amqp_table_t table(amqp_table_entry_t *entry, const char *key, amqp_field_value_t value) {
  entry->key = bytes(key);
  entry->value = value;
  return (amqp_table_t){1, entry};
}

static amqp_rpc_reply_t login(amqp_connection_state_t *state, const char *password, int heartbeat) {
  *state = amqp_new_connection();
  amqp_socket_t *socket = amqp_tcp_socket_new(*state);
  CHECK(socket && amqp_socket_open_noblock(socket, url.host, url.port, &limit) == AMQP_STATUS_OK, "cannot connect");
  amqp_set_rpc_timeout(*state, &limit);
  amqp_table_entry_t notify;
  amqp_field_value_t yes = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1};
  amqp_table_t capable = table(&notify, "consumer_cancel_notify", yes);
  amqp_table_entry_t capabilities;
  amqp_field_value_t all = {.kind = AMQP_FIELD_KIND_TABLE, .value.table = capable};
  amqp_table_t properties = table(&capabilities, "capabilities", all);
  return amqp_login_with_properties(*state, url.vhost, 2047, 131072, heartbeat, &properties, AMQP_SASL_METHOD_PLAIN,
                                    url.user, password);
}

static void open_channel(amqp_connection_state_t state, amqp_channel_t channel) {
  amqp_channel_open(state, channel);
  well(amqp_get_rpc_reply(state), "channel.open");
}

static amqp_connection_state_t connect_and_open(int heartbeat) {
  amqp_connection_state_t state;
  well(login(&state, url.password, heartbeat), "login");
  open_channel(state, 1);
  return state;
}

static void close_connection(amqp_connection_state_t state) {
  well(amqp_connection_close(state, AMQP_REPLY_SUCCESS), "connection.close");
  CHECK(amqp_destroy_connection(state) == AMQP_STATUS_OK, "the connection was not destroyed");
}

/* Declares an exclusive queue. Its name must be freed. */
static amqp_bytes_t declare(amqp_connection_state_t state, amqp_table_t arguments) {
  amqp_queue_declare_ok_t *ok = amqp_queue_declare(state, 1, amqp_empty_bytes, 0, 0, 1, 0, arguments);
  well(amqp_get_rpc_reply(state), "queue.declare");
  return amqp_bytes_malloc_dup(ok->queue);
}

static int count(amqp_connection_state_t state, amqp_bytes_t queue) {
  amqp_queue_declare_ok_t *ok = amqp_queue_declare(state, 1, queue, 1, 0, 0, 0, amqp_empty_table);
  well(amqp_get_rpc_reply(state), "queue.declare");
  return ok->message_count;
}

static void publish(amqp_connection_state_t state, const char *exchange, amqp_bytes_t key, int mandatory,
                    const amqp_basic_properties_t *properties, amqp_bytes_t body) {
  int status = amqp_basic_publish(state, 1, bytes(exchange), key, mandatory, 0, properties, body);
  CHECK(status == AMQP_STATUS_OK, "basic.publish: %s", amqp_error_string2(status));
}

/* Waits for a method that is no reply. */
static amqp_method_t await_method(amqp_connection_state_t state, amqp_method_number_t wanted) {
  amqp_frame_t frame;
  int status = amqp_simple_wait_frame_noblock(state, &frame, &limit);
  CHECK(status == AMQP_STATUS_OK, "waiting for %s: %s", amqp_method_name(wanted), amqp_error_string2(status));
  CHECK(frame.frame_type == AMQP_FRAME_METHOD && frame.payload.method.id == wanted, "got %s instead of %s",
        frame.frame_type == AMQP_FRAME_METHOD ? amqp_method_name(frame.payload.method.id) : "a frame of content",
        amqp_method_name(wanted));
  return frame.payload.method;
}

static void await_confirm(amqp_connection_state_t state) { await_method(state, AMQP_BASIC_ACK_METHOD); }

static amqp_bytes_t consume(amqp_connection_state_t state, amqp_bytes_t queue, int no_ack) {
  amqp_basic_consume_ok_t *ok = amqp_basic_consume(state, 1, queue, amqp_empty_bytes, 0, no_ack, 0, amqp_empty_table);
  well(amqp_get_rpc_reply(state), "basic.consume");
  return amqp_bytes_malloc_dup(ok->consumer_tag);
}

static void cancel(amqp_connection_state_t state, amqp_bytes_t tag) {
  amqp_basic_cancel(state, 1, tag);
  well(amqp_get_rpc_reply(state), "basic.cancel");
  amqp_bytes_free(tag);
}

static amqp_envelope_t delivery(amqp_connection_state_t state) {
  amqp_envelope_t envelope;
  well(amqp_consume_message(state, &envelope, &limit, 0), "basic.deliver");
  return envelope;
}

/* Checks that a queue has exactly this message, and takes it. */
static void take(amqp_connection_state_t state, amqp_bytes_t queue, const char *body) {
  well(amqp_basic_get(state, 1, queue, 1), "basic.get");
  amqp_message_t message;
  well(amqp_read_message(state, 1, &message, 0), "the message");
  CHECK(equal(message.body, body), "expected %s, got %.*s", body, (int)message.body.len, (char *)message.body.bytes);
  amqp_destroy_message(&message);
  CHECK(count(state, queue) == 0, "the queue is not empty");
}

static void session(amqp_connection_state_t state, const char *exchange) {
  amqp_bytes_t queue = declare(state, amqp_empty_table);
  amqp_exchange_declare(state, 1, bytes(exchange), bytes("topic"), 0, 0, 1, 0, amqp_empty_table);
  well(amqp_get_rpc_reply(state), "exchange.declare");
  amqp_queue_bind(state, 1, queue, bytes(exchange), bytes("orders.#"), amqp_empty_table);
  well(amqp_get_rpc_reply(state), "queue.bind");
  step("declare and bind");

  amqp_confirm_select(state, 1);
  well(amqp_get_rpc_reply(state), "confirm.select");
  amqp_table_entry_t header;
  amqp_field_value_t number = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = INT64_C(1) << 40};
  amqp_basic_properties_t properties = {
      ._flags = AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG,
      .headers = table(&header, "n", number),
      .delivery_mode = 2,
      .message_id = bytes("m"),
  };
  publish(state, exchange, bytes("orders.eu"), 0, &properties, bytes("hello"));
  await_confirm(state);
  publish(state, exchange, bytes("elsewhere"), 1, NULL, bytes("back"));
  amqp_method_t method = await_method(state, AMQP_BASIC_RETURN_METHOD);
  CHECK(((amqp_basic_return_t *)method.decoded)->reply_code == 312, "another code than 312");
  amqp_message_t message;
  well(amqp_read_message(state, 1, &message, 0), "the returned message");
  CHECK(equal(message.body, "back"), "another message was returned");
  amqp_destroy_message(&message);
  await_confirm(state);
  step("publish, confirm, return");

  amqp_bytes_t tag = consume(state, queue, 0);
  amqp_envelope_t first = delivery(state);
  amqp_basic_properties_t *got = &first.message.properties;
  CHECK(equal(first.message.body, "hello") && equal(got->message_id, "m") && got->delivery_mode == 2, "another message");
  CHECK(got->headers.num_entries == 1 && got->headers.entries[0].value.value.i64 == INT64_C(1) << 40, "other headers");
  amqp_basic_nack(state, 1, first.delivery_tag, 0, 1);
  amqp_destroy_envelope(&first);
  amqp_envelope_t again = delivery(state);
  CHECK(again.redelivered, "not redelivered");
  amqp_basic_ack(state, 1, again.delivery_tag, 0);
  amqp_destroy_envelope(&again);
  step("consume, nack, ack");

  cancel(state, tag);
  publish(state, "", queue, 0, NULL, bytes("stays"));
  await_confirm(state);
  CHECK(count(state, queue) == 1, "a cancelled consumer has taken a message");
  take(state, queue, "stays");
  CHECK(amqp_basic_get(state, 1, queue, 1).reply.id == AMQP_BASIC_GET_EMPTY_METHOD, "the queue is not empty");
  step("cancel and get");

  amqp_channel_open(state, 2);
  well(amqp_get_rpc_reply(state), "channel.open");
  for (amqp_channel_t deleting = 1; deleting <= 2; deleting++) {
    amqp_bytes_t doomed = declare(state, amqp_empty_table);
    tag = consume(state, doomed, 0);
    amqp_queue_delete(state, deleting, doomed, 0, 0);
    well(amqp_get_rpc_reply(state), "queue.delete");
    CHECK(deleting != 1 || !amqp_frames_enqueued(state), "basic.cancel came before queue.delete-ok");
    method = await_method(state, AMQP_BASIC_CANCEL_METHOD);
    amqp_bytes_t cancelled = ((amqp_basic_cancel_t *)method.decoded)->consumer_tag;
    CHECK(cancelled.len == tag.len && memcmp(cancelled.bytes, tag.bytes, tag.len) == 0, "another consumer");
    amqp_bytes_free(tag);
    amqp_bytes_free(doomed);
  }
  CHECK(count(state, queue) == 0, "the channel is not usable");
  step("queue deletion under a consumer");

  /* The expired message goes through an exchange to the queue. */
  amqp_table_entry_t entries[3] = {
      {bytes("x-message-ttl"), {.kind = AMQP_FIELD_KIND_I32, .value.i32 = 10}},
      {bytes("x-dead-letter-exchange"), {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = bytes(exchange)}},
      {bytes("x-dead-letter-routing-key"), {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = bytes("orders.late")}},
  };
  amqp_bytes_t mortal = declare(state, (amqp_table_t){3, entries});
  publish(state, "", mortal, 0, NULL, bytes("late"));
  await_confirm(state);
  tag = consume(state, queue, 1);
  amqp_envelope_t letter = delivery(state);
  CHECK(equal(letter.message.body, "late") && equal(letter.routing_key, "orders.late"), "another message");
  amqp_destroy_envelope(&letter);
  cancel(state, tag);
  amqp_bytes_free(mortal);
  step("time to live and dead letter");

  open_channel(state, 3);
  amqp_tx_select(state, 3);
  well(amqp_get_rpc_reply(state), "tx.select");
  amqp_basic_publish(state, 3, amqp_empty_bytes, queue, 0, 0, NULL, bytes("gone"));
  amqp_tx_rollback(state, 3);
  well(amqp_get_rpc_reply(state), "tx.rollback");
  amqp_basic_publish(state, 3, amqp_empty_bytes, queue, 0, 0, NULL, bytes("kept"));
  amqp_tx_commit(state, 3);
  well(amqp_get_rpc_reply(state), "tx.commit");
  take(state, queue, "kept");
  step("transactions");

  open_channel(state, 4);
  amqp_queue_declare(state, 4, bytes("missing-queue-of-librabbitmq"), 1, 0, 0, 0, amqp_empty_table);
  fails(amqp_get_rpc_reply(state), 404, "NOT_FOUND");
  open_channel(state, 5);
  amqp_exchange_declare(state, 5, bytes(exchange), bytes("fanout"), 0, 0, 1, 0, amqp_empty_table);
  fails(amqp_get_rpc_reply(state), 406, "inequivalent arg 'type'");
  step("refusals");

  /* librabbitmq sends heartbeats while it waits for a frame. */
  struct timeval wait = {4, 500000};
  amqp_frame_t frame;
  CHECK(amqp_simple_wait_frame_noblock(state, &frame, &wait) == AMQP_STATUS_TIMEOUT, "the connection has ended");
  CHECK(count(state, queue) == 0, "messages are left");
  step("heartbeats");
  amqp_bytes_free(queue);
}

static void refused_login(void) {
  amqp_connection_state_t state;
  fails(login(&state, "wrong", 60), 403, "ACCESS_REFUSED");
  amqp_destroy_connection(state);
  step("a refused login");
}

static void frame_too_large(void) {
  amqp_connection_state_t state = connect_and_open(60);
  /* It fits into the buffers of the system, so that the write does not wait for the broker. */
  amqp_bytes_t body = amqp_bytes_malloc(500000);
  memset(body.bytes, 0, body.len);
  CHECK(amqp_tune_connection(state, 2047, 1 << 24, 60) == AMQP_STATUS_OK, "the limit was not raised");
  /* The publish itself may succeed or fail. */
  amqp_basic_publish(state, 1, amqp_empty_bytes, bytes("nowhere"), 0, 0, NULL, body);
  amqp_frame_t frame;
  int status = amqp_simple_wait_frame_noblock(state, &frame, &limit);
  CHECK(status == AMQP_STATUS_OK, "no connection.close: %s", amqp_error_string2(status));
  CHECK(frame.channel == 0 && frame.payload.method.id == AMQP_CONNECTION_CLOSE_METHOD, "no connection.close");
  amqp_connection_close_t *closed = frame.payload.method.decoded;
  CHECK(closed->reply_code == 501, "another code than 501: %d", closed->reply_code);
  amqp_connection_close_ok_t reply = {0};
  amqp_send_method(state, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &reply);
  amqp_destroy_connection(state);
  amqp_bytes_free(body);
  step("a frame that is too large");
}

/* Floods a queue, until the connection ends. */
static atomic_int flooding = 1;
static amqp_bytes_t flooded;

static void *flood(void *unused) {
  (void)unused;
  amqp_connection_state_t state = connect_and_open(60);
  char body[1000] = {0};
  while (flooding) {
    publish(state, "", flooded, 0, NULL, (amqp_bytes_t){sizeof body, body});
  }
  /* Its last messages are still under way. */
  close_connection(state);
  return NULL;
}

static void close_under_load(const char *name) {
  amqp_connection_state_t state = connect_and_open(60);
  flooded = bytes(name);
  amqp_queue_declare(state, 1, flooded, 0, 1, 0, 1, amqp_empty_table);
  well(amqp_get_rpc_reply(state), "queue.declare");
  amqp_bytes_t tag = consume(state, flooded, 1);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, flood, NULL) == 0, "no thread");
  for (int taken = 0; taken < 100; taken++) {
    amqp_maybe_release_buffers(state);
    amqp_envelope_t envelope = delivery(state);
    amqp_destroy_envelope(&envelope);
  }
  time_t begun = time(NULL);
  close_connection(state);
  flooding = 0;
  pthread_join(thread, NULL);
  CHECK(time(NULL) - begun <= 15, "the close took too long");
  amqp_bytes_free(tag);
  step("close under load");
}

int main(int count, char **arguments) {
  CHECK(count == 2 && amqp_parse_url(arguments[1], &url) == AMQP_STATUS_OK, "usage: %s URI", arguments[0]);
  char own[64];
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  snprintf(own, sizeof own, "x-c-%lld-%ld", (long long)now.tv_sec, now.tv_nsec);
  amqp_connection_state_t state = connect_and_open(2);
  session(state, own);
  close_connection(state);
  refused_login();
  frame_too_large();
  close_under_load(own);
  step("close");
  return 0;
}
