// A session of amqp091-go.
package main

import (
	"fmt"
	"log"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func step(name string) { fmt.Println("amqp091-go: " + name) }

func ok(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func check(holds bool, what string) {
	if !holds {
		log.Fatal(what)
	}
}

func refused(connection *amqp.Connection, code int, action func(*amqp.Channel) error) {
	channel, err := connection.Channel()
	ok(err)
	err = action(channel)
	refusal, is := err.(*amqp.Error)
	check(is && refusal.Code == code, fmt.Sprintf("refused with %v instead of %d", err, code))
}

// Returns the next delivery of a queue, and cancels the consumer.
func one(channel *amqp.Channel, queue string) amqp.Delivery {
	deliveries, err := channel.Consume(queue, "one", false, false, false, false, nil)
	ok(err)
	select {
	case delivery := <-deliveries:
		ok(channel.Cancel("one", false))
		return delivery
	case <-time.After(20 * time.Second):
		log.Fatal("no delivery within the timeout from " + queue)
	}
	panic("unreachable")
}

func main() {
	own := fmt.Sprint(time.Now().UnixNano())
	connection, err := amqp.DialConfig(os.Args[1], amqp.Config{Heartbeat: 2 * time.Second})
	ok(err)
	channel, err := connection.Channel()
	ok(err)
	exchange := "x-" + own
	ok(channel.ExchangeDeclare(exchange, "topic", false, true, false, false, nil))
	queue, err := channel.QueueDeclare("", false, false, true, false, nil)
	ok(err)
	ok(channel.QueueBind(queue.Name, "orders.#", exchange, false, nil))
	step("declare and bind")

	ok(channel.Confirm(false))
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, 10))
	returns := channel.NotifyReturn(make(chan amqp.Return, 10))
	headers := amqp.Table{"n": int32(1), "s": "text", "list": []interface{}{int64(1), true}, "table": amqp.Table{"a": 1.5}}
	message := amqp.Publishing{Body: []byte("hello"), Headers: headers, DeliveryMode: amqp.Persistent, MessageId: "m"}
	ok(channel.Publish(exchange, "orders.eu", false, false, message))
	ok(channel.Publish(exchange, "elsewhere", true, false, amqp.Publishing{Body: []byte("back")}))
	back := <-returns
	check(back.ReplyCode == 312 && string(back.Body) == "back", "the message was not returned")
	for tag := uint64(1); tag <= 2; tag++ {
		confirmed := <-confirms
		check(confirmed.Ack && confirmed.DeliveryTag == tag, "the publish was not confirmed")
	}
	step("publish, return, confirm")

	first := one(channel, queue.Name)
	check(string(first.Body) == "hello" && first.MessageId == "m" && first.Headers["s"] == "text", "unexpected message")
	ok(first.Nack(false, true))
	again, found, err := channel.Get(queue.Name, false)
	ok(err)
	check(found && again.Redelivered && again.MessageCount == 0, "not redelivered, or messages are left")
	ok(again.Ack(false))
	_, found, err = channel.Get(queue.Name, true)
	ok(err)
	check(!found, "the queue is not empty")
	step("consume, nack, get, ack")

	letters := amqp.Table{"x-message-ttl": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue.Name}
	mortal, err := channel.QueueDeclare("", false, false, true, false, letters)
	ok(err)
	ok(channel.Publish("", mortal.Name, false, false, amqp.Publishing{Body: []byte("late")}))
	dead := one(channel, queue.Name)
	death := dead.Headers["x-death"].([]interface{})[0].(amqp.Table)
	check(death["reason"] == "expired" && death["count"] == int64(1), fmt.Sprint(death))
	ok(dead.Ack(false))
	step("time to live and dead letter")

	transacted, err := connection.Channel()
	ok(err)
	ok(transacted.Tx())
	ok(transacted.Publish("", queue.Name, false, false, amqp.Publishing{Body: []byte("gone")}))
	ok(transacted.TxRollback())
	ok(transacted.Publish("", queue.Name, false, false, amqp.Publishing{Body: []byte("kept")}))
	ok(transacted.TxCommit())
	kept, _, err := channel.Get(queue.Name, true)
	ok(err)
	check(string(kept.Body) == "kept", "the committed message is missing")
	step("transactions")

	refused(connection, 404, func(other *amqp.Channel) error {
		_, err := other.QueueDeclarePassive("missing-"+own, false, false, false, false, nil)
		return err
	})
	refused(connection, 406, func(other *amqp.Channel) error {
		return other.ExchangeDeclare(exchange, "fanout", false, true, false, false, nil)
	})
	refused(connection, 403, func(other *amqp.Channel) error {
		_, err := other.QueueDeclare("amq.mine", false, false, false, false, nil)
		return err
	})
	step("refusals")

	time.Sleep(4500 * time.Millisecond)
	_, err = channel.QueueInspect(queue.Name)
	ok(err)
	step("heartbeats")

	ok(connection.Close())
	step("close")
}
