//! AMQP over WebSocket: lets web pages reach RabbitMQ.
