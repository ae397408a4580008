# A session of bunny.

require "bunny"
require "securerandom"

OWN = SecureRandom.uuid

def step(name)
  puts "bunny: #{name}"
  $stdout.flush
end

def check(holds, what)
  raise what unless holds
end

def refused(connection, refusal)
  yield connection.create_channel
rescue refusal
  nil
else
  raise "#{refusal} was expected, but nothing was raised"
end

# Returns the next delivery of a queue, and cancels the consumer.
def one(queue)
  deliveries = Queue.new
  consumer = queue.subscribe(manual_ack: true) { |*delivery| deliveries << delivery }
  delivery = deliveries.pop
  consumer.cancel
  delivery
end

connection = Bunny.new(ARGV[0], heartbeat: 2, automatically_recover: false)
connection.start
channel = connection.create_channel
exchange = channel.topic("x-#{OWN}", auto_delete: true)
queue = channel.queue("", exclusive: true)
queue.bind(exchange, routing_key: "orders.#")
step("declare and bind")

channel.confirm_select
returned = Queue.new
exchange.on_return { |info, _, body| returned << [info.reply_code, body] }
headers = { "n" => 1, "s" => "text", "list" => [1, "two"], "table" => { "a" => 1.5 } }
exchange.publish("hello", routing_key: "orders.eu", headers: headers, persistent: true, message_id: "m")
exchange.publish("back", routing_key: "elsewhere", mandatory: true)
check(channel.wait_for_confirms, "a publish was not confirmed")
check(returned.pop == [312, "back"], "the message was not returned")
step("publish, return, confirm")

info, properties, body = one(queue)
got = [body, properties.headers, properties.message_id]
check(got == ["hello", headers, "m"], "unexpected message: #{got}")
channel.nack(info.delivery_tag, false, true)
info, _, body = queue.pop(manual_ack: true)
check(info.redelivered? && queue.message_count.zero? && body == "hello", "not redelivered, or messages are left")
channel.ack(info.delivery_tag)
check(queue.pop == [nil, nil, nil], "the queue is not empty")
step("consume, nack, get, ack")

letters = { "x-message-ttl" => 10, "x-dead-letter-exchange" => "", "x-dead-letter-routing-key" => queue.name }
mortal = channel.queue("", exclusive: true, arguments: letters)
channel.default_exchange.publish("late", routing_key: mortal.name)
info, properties, = one(queue)
check(properties.headers["x-death"][0]["reason"] == "expired", "the message did not expire")
channel.ack(info.delivery_tag)
step("time to live and dead letter")

transacted = connection.create_channel
transacted.tx_select
transacted.default_exchange.publish("gone", routing_key: queue.name)
transacted.tx_rollback
transacted.default_exchange.publish("kept", routing_key: queue.name)
transacted.tx_commit
check(queue.pop[2] == "kept", "the committed message is missing")
step("transactions")

refused(connection, Bunny::NotFound) { |other| other.queue("missing-#{OWN}", passive: true) }
refused(connection, Bunny::PreconditionFailed) { |other| other.fanout("x-#{OWN}", auto_delete: true) }
refused(connection, Bunny::AccessRefused) { |other| other.queue("amq.mine") }
step("refusals")

sleep 4.5
check(connection.open? && queue.message_count.zero?, "the connection has closed, or messages are left")
step("heartbeats")

connection.close
step("close")
