/* librabbitmq, measured. Workloads, command line and output are those of the other runners (bench/harness).
 * Build: cc -O2 -o runner-librabbitmq main.c -lrabbitmq */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>

struct args {
  const char *workload, *queue;
  char *url;
  uint64_t count, window;
  size_t size;
  unsigned channels, tasks, prefetch, seconds;
};

struct meter {
  double started;
  struct rusage usage;
};

struct outcome {
  uint64_t messages;
  double seconds;
  long user, system, peak;
  int64_t seen, heap;
  double *latencies;
};

static void die(const char *what) {
  fprintf(stderr, "librabbitmq: %s\n", what);
  exit(1);
}

static void must(int status, const char *what) {
  if (status < 0) {
    fprintf(stderr, "librabbitmq: %s: %s\n", what, amqp_error_string2(status));
    exit(1);
  }
}

static void must_reply(amqp_rpc_reply_t reply, const char *what) {
  if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
  if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) must(reply.library_error, what);
  die(what);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static struct meter start(void) {
  struct meter meter;
  getrusage(RUSAGE_SELF, &meter.usage);
  meter.started = now();
  return meter;
}

static long micros(struct timeval now, struct timeval then) {
  return (now.tv_sec - then.tv_sec) * 1000000L + now.tv_usec - then.tv_usec;
}

/* The peak memory of the process, in KiB. ru_maxrss would include the parent's memory before exec. */
static long peak_kib(void) {
  FILE *status = fopen("/proc/self/status", "r");
  char line[256];
  long peak = 0;
  while (status && fgets(line, sizeof line, status))
    if (sscanf(line, "VmHWM: %ld", &peak) == 1) break;
  if (status) fclose(status);
  return peak;
}

static struct outcome finish(struct meter meter, uint64_t messages) {
  struct rusage usage;
  struct outcome o = {.messages = messages, .seconds = now() - meter.started, .seen = -1, .heap = -1};
  getrusage(RUSAGE_SELF, &usage);
  o.user = micros(usage.ru_utime, meter.usage.ru_utime);
  o.system = micros(usage.ru_stime, meter.usage.ru_stime);
  o.peak = peak_kib();
  return o;
}

static amqp_connection_state_t open_connection(const struct args *a) {
  struct amqp_connection_info info;
  char *url = strdup(a->url);
  amqp_connection_state_t c = amqp_new_connection();
  must(amqp_parse_url(url, &info), "url");
  if (info.ssl) die("this runner supports amqp:// only");
  amqp_socket_t *socket = amqp_tcp_socket_new(c);
  if (!socket) die("cannot create a socket");
  must(amqp_socket_open(socket, info.host, info.port), "connect");
  must_reply(amqp_login(c, info.vhost, 2047, 131072, 0, AMQP_SASL_METHOD_PLAIN, info.user, info.password), "login");
  free(url);
  return c;
}

static void open_channel(amqp_connection_state_t c, amqp_channel_t channel) {
  if (!amqp_channel_open(c, channel)) must_reply(amqp_get_rpc_reply(c), "channel.open");
}

static void close_connection(amqp_connection_state_t c) {
  must_reply(amqp_connection_close(c, AMQP_REPLY_SUCCESS), "close");
  amqp_destroy_connection(c);
}

static uint32_t declare(amqp_connection_state_t c, amqp_channel_t channel, const char *queue) {
  amqp_queue_declare_ok_t *ok =
      amqp_queue_declare(c, channel, amqp_cstring_bytes(queue), 1, 0, 0, 0, amqp_empty_table);
  if (!ok) must_reply(amqp_get_rpc_reply(c), "queue.declare");
  uint32_t count = ok->message_count;
  amqp_maybe_release_buffers(c);
  return count;
}

static void confirm_select(amqp_connection_state_t c, amqp_channel_t channel) {
  if (!amqp_confirm_select(c, channel)) must_reply(amqp_get_rpc_reply(c), "confirm.select");
}

static void publish_one(amqp_connection_state_t c, amqp_channel_t channel, const struct args *a, amqp_bytes_t body) {
  must(amqp_basic_publish(c, channel, amqp_empty_bytes, amqp_cstring_bytes(a->queue), 0, 0, NULL, body), "publish");
}

/* Waits for a confirm. Returns the highest confirmed delivery tag. */
static uint64_t wait_confirm(amqp_connection_state_t c, uint64_t confirmed) {
  amqp_frame_t frame;
  must(amqp_simple_wait_frame(c, &frame), "confirm");
  if (frame.frame_type == AMQP_FRAME_METHOD) {
    if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD) die("expected basic.ack, received another method");
    amqp_basic_ack_t *ack = frame.payload.method.decoded;
    confirmed = ack->delivery_tag > confirmed ? ack->delivery_tag : confirmed;
  }
  amqp_maybe_release_buffers(c);
  return confirmed;
}

static amqp_bytes_t body_of(const struct args *a) {
  amqp_bytes_t body = amqp_bytes_malloc(a->size);
  memset(body.bytes, 'x', a->size);
  return body;
}

static struct outcome publish(const struct args *a, int confirm) {
  amqp_connection_state_t c = open_connection(a);
  for (unsigned i = 1; i <= a->channels; i++) {
    open_channel(c, (amqp_channel_t)i);
    if (confirm) confirm_select(c, (amqp_channel_t)i);
  }
  uint32_t before = declare(c, 1, a->queue);
  amqp_bytes_t body = body_of(a);
  uint64_t confirmed = 0;
  struct meter meter = start();
  for (uint64_t n = 0; n < a->count; n++) {
    while (confirm && n - confirmed >= a->window) confirmed = wait_confirm(c, confirmed);
    publish_one(c, (amqp_channel_t)(1 + n % a->channels), a, body);
  }
  while (confirm && confirmed < a->count) confirmed = wait_confirm(c, confirmed);
  uint32_t seen = declare(c, 1, a->queue);
  struct outcome o = finish(meter, a->count);
  o.seen = seen - before;
  close_connection(c);
  return o;
}

static amqp_connection_state_t start_consumer(const struct args *a, int no_ack) {
  amqp_connection_state_t c = open_connection(a);
  open_channel(c, 1);
  if (a->prefetch && !amqp_basic_qos(c, 1, 0, (uint16_t)a->prefetch, 0)) must_reply(amqp_get_rpc_reply(c), "qos");
  if (!amqp_basic_consume(c, 1, amqp_cstring_bytes(a->queue), amqp_cstring_bytes("bench"), 0, no_ack, 0,
                          amqp_empty_table))
    must_reply(amqp_get_rpc_reply(c), "consume");
  return c;
}

static uint64_t next_delivery(amqp_connection_state_t c) {
  amqp_envelope_t envelope;
  amqp_maybe_release_buffers(c);
  must_reply(amqp_consume_message(c, &envelope, NULL, 0), "consume");
  uint64_t tag = envelope.delivery_tag;
  amqp_destroy_envelope(&envelope);
  return tag;
}

/* Acknowledges every `every` deliveries at once; 0 means never. */
static struct outcome consume(const struct args *a, uint64_t every) {
  struct meter meter = start();
  amqp_connection_state_t c = start_consumer(a, every == 0);
  for (uint64_t n = 1; n <= a->count; n++) {
    uint64_t tag = next_delivery(c);
    if (every && (n % every == 0 || n == a->count)) must(amqp_basic_ack(c, 1, tag, every > 1), "ack");
  }
  uint32_t seen = declare(c, 1, a->queue);
  struct outcome o = finish(meter, a->count);
  o.seen = every ? seen : (int64_t)a->count;
  close_connection(c);
  return o;
}

static struct outcome slow(const struct args *a) {
  amqp_connection_state_t c = start_consumer(a, 0);
  struct meter meter = start();
  double end = now() + a->seconds;
  uint64_t received = 0;
  while (now() < end) {
    must(amqp_basic_ack(c, 1, next_delivery(c), 0), "ack");
    received++;
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  return finish(meter, received);
}

static struct outcome rpc(const struct args *a) {
  amqp_connection_state_t c = open_connection(a);
  open_channel(c, 1);
  struct meter meter = start();
  for (uint64_t n = 0; n < a->count; n++) declare(c, 1, a->queue);
  struct outcome o = finish(meter, a->count);
  close_connection(c);
  return o;
}

/* Sleeps, then spins at the end because a sleep ends late, like Pace in bench/harness. */
static void wait_until(double due) {
  double left = due - now() - 120e-6;
  if (left > 0) nanosleep(&(struct timespec){.tv_sec = (time_t)left, .tv_nsec = (long)((left - (time_t)left) * 1e9)}, NULL);
  while (now() < due) __builtin_ia32_pause();
}

static struct outcome latency(const struct args *a) {
  amqp_connection_state_t c = open_connection(a);
  open_channel(c, 1);
  confirm_select(c, 1);
  amqp_bytes_t body = body_of(a);
  double *latencies = calloc(a->count, sizeof *latencies);
  uint64_t confirmed = 0;
  struct meter meter = start();
  double first = now() + 1e-3;
  for (uint64_t n = 0; n < a->count; n++) {
    double due = first + (double)n * 1e-3;
    wait_until(due);
    publish_one(c, 1, a, body);
    while (confirmed <= n) confirmed = wait_confirm(c, confirmed);
    latencies[n] = now() - due;
  }
  struct outcome o = finish(meter, a->count);
  o.latencies = latencies;
  o.seen = (int64_t)confirmed;
  close_connection(c);
  return o;
}

static struct outcome connect_often(const struct args *a) {
  double *latencies = calloc(a->count, sizeof *latencies);
  struct meter meter = start();
  for (uint64_t n = 0; n < a->count; n++) {
    double begin = now();
    amqp_connection_state_t c = open_connection(a);
    open_channel(c, 1);
    latencies[n] = now() - begin;
    close_connection(c);
  }
  struct outcome o = finish(meter, a->count);
  o.latencies = latencies;
  return o;
}

static struct outcome idle(const struct args *a) {
  amqp_connection_state_t *all = calloc(a->count, sizeof *all);
  struct meter meter = start();
  for (uint64_t n = 0; n < a->count; n++) {
    all[n] = open_connection(a);
    open_channel(all[n], 1);
  }
  struct outcome o = finish(meter, a->count);
  for (uint64_t n = 0; n < a->count; n++) close_connection(all[n]);
  return o;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void print(const struct args *a, struct outcome o) {
  printf("{\"client\":\"librabbitmq\",\"mode\":\"\",\"workload\":\"%s\",\"messages\":%lu,\"seconds\":%.6f,"
         "\"cpu_user_us\":%ld,\"cpu_sys_us\":%ld,\"peak_rss_kib\":%ld,\"allocations\":null,\"heap_bytes\":null",
         a->workload, (unsigned long)o.messages, o.seconds, o.user, o.system, o.peak);
  if (o.seen >= 0) printf(",\"seen\":%ld", (long)o.seen); else printf(",\"seen\":null");
  const char *names[] = {"p50_us", "p99_us", "p999_us"};
  const double shares[] = {0.5, 0.99, 0.999};
  if (o.latencies) qsort(o.latencies, o.messages, sizeof *o.latencies, by_value);
  for (int i = 0; i < 3; i++) {
    double exact = shares[i] * (double)o.messages;
    uint64_t rank = (uint64_t)exact + ((double)(uint64_t)exact < exact);
    if (o.latencies) printf(",\"%s\":%.1f", names[i], o.latencies[rank ? rank - 1 : 0] * 1e6);
    else printf(",\"%s\":null", names[i]);
  }
  printf("}\n");
}

static void unsupported(const struct args *a, const char *why) {
  printf("{\"client\":\"librabbitmq\",\"mode\":\"\",\"workload\":\"%s\",\"unsupported\":\"%s\"}\n", a->workload, why);
  exit(0);
}

int main(int argc, char **argv) {
  struct args a = {.queue = "bench", .url = "amqp://guest:guest@127.0.0.1:5672/%2f", .count = 100000,
                   .window = 1000, .size = 100, .channels = 1, .tasks = 1, .seconds = 5};
  if (argc < 2) die("usage: runner-librabbitmq WORKLOAD [OPTIONS]");
  a.workload = argv[1];
  for (int i = 2; i + 1 < argc; i += 2) {
    const char *option = argv[i], *value = argv[i + 1];
    uint64_t number = strtoull(value, NULL, 10);
    if (!strcmp(option, "--url")) a.url = argv[i + 1];
    else if (!strcmp(option, "--queue")) a.queue = value;
    else if (!strcmp(option, "--count")) a.count = number ? number : 1;
    else if (!strcmp(option, "--size")) a.size = number;
    else if (!strcmp(option, "--window")) a.window = number ? number : 1;
    else if (!strcmp(option, "--channels")) a.channels = number ? (unsigned)number : 1;
    else if (!strcmp(option, "--tasks")) a.tasks = number ? (unsigned)number : 1;
    else if (!strcmp(option, "--prefetch")) a.prefetch = (unsigned)number;
    else if (!strcmp(option, "--seconds")) a.seconds = (unsigned)number;
    else if (strcmp(option, "--mode") && strcmp(option, "--ca")) die(option);
  }
  int confirm = !strcmp(a.workload, "publish-confirm");
  if (a.tasks > 1) unsupported(&a, "a connection belongs to one thread");
  if (confirm && a.channels > 1) unsupported(&a, "this runner reads confirms on one channel");
  struct outcome o;
  if (confirm || !strcmp(a.workload, "publish")) o = publish(&a, confirm);
  else if (!strcmp(a.workload, "consume-ack-each")) o = consume(&a, 1);
  else if (!strcmp(a.workload, "consume-ack-multiple")) o = consume(&a, a.window > 1 ? a.window : 2);
  else if (!strcmp(a.workload, "consume-no-ack")) o = consume(&a, 0);
  else if (!strcmp(a.workload, "rpc")) o = rpc(&a);
  else if (!strcmp(a.workload, "latency")) o = latency(&a);
  else if (!strcmp(a.workload, "connect")) o = connect_often(&a);
  else if (!strcmp(a.workload, "idle-connections")) o = idle(&a);
  else if (!strcmp(a.workload, "slow-consumer")) o = slow(&a);
  else unsupported(&a, "this runner lacks the workload");
  print(&a, o);
  return 0;
}
