//! Names of destinations by the conventions for RabbitMQ.

/// What the default exchange is called where nothing else names the destination.
const DEFAULT_EXCHANGE: &str = "amq.default";

/// Returns `exchange:routing_key`, without what is empty.
pub(super) fn of_publish(exchange: &str, routing_key: &str) -> String {
    joined(&[exchange, routing_key])
}

/// Returns `exchange:routing_key:queue`, without what is empty, and the queue only once where the routing key names it.
pub(super) fn of_consume(exchange: &str, routing_key: &str, queue: &str) -> String {
    let queue = if queue == routing_key { "" } else { queue };
    joined(&[exchange, routing_key, queue])
}

fn joined(parts: &[&str]) -> String {
    let named: Vec<_> = parts.iter().filter(|part| !part.is_empty()).copied().collect();
    if named.is_empty() { DEFAULT_EXCHANGE.to_owned() } else { named.join(":") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_parts_are_left_out_and_a_queue_that_is_the_routing_key_is_named_once() {
        assert_eq!(of_publish("shop", "order.new"), "shop:order.new");
        assert_eq!(of_publish("", "orders"), "orders");
        assert_eq!(of_publish("logs", ""), "logs");
        assert_eq!(of_publish("", ""), "amq.default");
        assert_eq!(of_consume("shop", "order.new", "orders"), "shop:order.new:orders");
        assert_eq!(of_consume("", "orders", "orders"), "orders");
    }
}
