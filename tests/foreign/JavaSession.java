// A session of RabbitMQ's Java client.

import com.rabbitmq.client.*;
import java.io.IOException;
import java.util.*;
import java.util.concurrent.*;

public class JavaSession {
    static void step(String name) {
        System.out.println("java: " + name);
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    interface Action {
        void run(Channel channel) throws Exception;
    }

    static void refused(Connection connection, int code, Action action) throws Exception {
        try {
            action.run(connection.createChannel());
        } catch (IOException error) {
            ShutdownSignalException signal = (ShutdownSignalException) error.getCause();
            int replied = ((AMQP.Channel.Close) signal.getReason()).getReplyCode();
            check(replied == code, "refused with " + replied + " instead of " + code);
            return;
        }
        throw new AssertionError("expected a refusal with " + code + ", but nothing was refused");
    }

    /** Returns the next delivery of a queue, and cancels the consumer. */
    static Delivery one(Channel channel, String queue) throws Exception {
        BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
        String tag = channel.basicConsume(queue, false, new DefaultConsumer(channel) {
            @Override
            public void handleDelivery(String tag, Envelope envelope, AMQP.BasicProperties properties, byte[] body) {
                deliveries.add(new Delivery(envelope, properties, body));
            }
        });
        Delivery delivery = deliveries.poll(20, TimeUnit.SECONDS);
        check(delivery != null, "no delivery within the timeout from " + queue);
        channel.basicCancel(tag);
        return delivery;
    }

    record Delivery(Envelope envelope, AMQP.BasicProperties properties, byte[] body) {
        String text() {
            return new String(body);
        }
    }

    public static void main(String[] arguments) throws Exception {
        String own = UUID.randomUUID().toString();
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(arguments[0]);
        factory.setRequestedHeartbeat(2);
        Connection connection = factory.newConnection();
        Channel channel = connection.createChannel();
        String exchange = "x-" + own;
        channel.exchangeDeclare(exchange, "topic", false, true, null);
        String queue = channel.queueDeclare().getQueue();
        channel.queueBind(queue, exchange, "orders.#");
        // The server-named queue is deleted with its last consumer; this one, with the connection.
        String kept = channel.queueDeclare("q-" + own, false, true, false, null).getQueue();
        channel.queueBind(kept, exchange, "orders.#");
        step("declare and bind");

        channel.confirmSelect();
        Map<String, Object> headers = new HashMap<>();
        headers.put("n", 1);
        headers.put("big", 1L << 40);
        headers.put("list", Arrays.asList(1, true));
        AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder()
            .headers(headers).deliveryMode(2).messageId("m").timestamp(new Date(7000)).build();
        BlockingQueue<String> returned = new LinkedBlockingQueue<>();
        channel.addReturnListener((code, text, from, key, got, body) -> returned.add(code + " " + new String(body)));
        channel.basicPublish(exchange, "orders.eu", properties, "hello".getBytes());
        channel.basicPublish(exchange, "elsewhere", true, null, "back".getBytes());
        channel.waitForConfirmsOrDie(20_000);
        String back = returned.poll(20, TimeUnit.SECONDS);
        check("312 back".equals(back), "returned: " + back);
        step("publish, return, confirm");

        Delivery first = one(channel, kept);
        check(first.text().equals("hello") && first.properties().getMessageId().equals("m"), "unexpected message");
        check(first.properties().getHeaders().get("big").equals(1L << 40), "unexpected header");
        channel.basicNack(first.envelope().getDeliveryTag(), false, true);
        GetResponse again = channel.basicGet(kept, false);
        boolean redelivered = again.getEnvelope().isRedeliver();
        check(redelivered && again.getMessageCount() == 0, "not redelivered, or messages are left");
        channel.basicAck(again.getEnvelope().getDeliveryTag(), false);
        check(channel.basicGet(kept, true) == null, "the queue is not empty");
        step("consume, nack, get, ack");

        Map<String, Object> letters = new HashMap<>();
        letters.put("x-message-ttl", 10);
        letters.put("x-dead-letter-exchange", "");
        letters.put("x-dead-letter-routing-key", kept);
        String mortal = channel.queueDeclare("m-" + own, false, true, false, letters).getQueue();
        channel.basicPublish("", mortal, null, "late".getBytes());
        Delivery dead = one(channel, kept);
        Map<?, ?> death = (Map<?, ?>) ((List<?>) dead.properties().getHeaders().get("x-death")).get(0);
        boolean expired = death.get("reason").toString().equals("expired");
        check(expired && death.get("count").equals(1L), "unexpected x-death: " + death);
        channel.basicAck(dead.envelope().getDeliveryTag(), false);
        step("time to live and dead letter");

        Channel transacted = connection.createChannel();
        transacted.txSelect();
        transacted.basicPublish("", kept, null, "gone".getBytes());
        transacted.txRollback();
        transacted.basicPublish("", kept, null, "kept".getBytes());
        transacted.txCommit();
        check(new String(transacted.basicGet(kept, true).getBody()).equals("kept"), "the committed message is missing");
        step("transactions");

        refused(connection, 404, other -> other.queueDeclarePassive("missing-" + own));
        refused(connection, 406, other -> other.exchangeDeclare(exchange, "fanout", false, true, null));
        refused(connection, 403, other -> other.queueDeclare("amq.mine", false, true, false, null));
        step("refusals");

        RpcServer server = new RpcServer(connection.createChannel()) {
            @Override
            public byte[] handleCall(byte[] body, AMQP.BasicProperties answer) {
                return ("answer to " + new String(body)).getBytes();
            }
        };
        Thread serving = new Thread(() -> {
            try {
                server.mainloop();
            } catch (Exception error) {
                // The connection is closed.
            }
        });
        serving.setDaemon(true);
        serving.start();
        RpcClient client =
            new RpcClient(connection.createChannel(), "", server.getQueueName(), "amq.rabbitmq.reply-to", 20_000);
        check(client.stringCall("question").equals("answer to question"), "unexpected answer");
        step("direct reply-to");

        Thread.sleep(4500);
        check(connection.isOpen() && channel.messageCount(kept) == 0, "the connection is closed, or messages are left");
        step("heartbeats");

        connection.close();
        step("close");
    }
}
