//! A service that gets signals: this program starts itself again as the service, and is the broker.

#[cfg(unix)]
mod unix {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
    use std::time::Duration;

    use futures_lite::future;
    use hopmq_app::{App, Context, Error, Out, Queue, Text};
    use hopmq_broker::Broker;

    const ADDRESS: &str = "HOPMQ_TEST_SERVICE";

    /// Answers each message after a while, and says what it does.
    async fn work(Text(body): Text, context: Context, out: Out<String>) -> Result<(), hopmq::Error> {
        println!("begins {body}");
        match &*body {
            "endless" => future::pending().await,
            _ => context.sleep(Duration::from_millis(300)).await,
        }
        out.publish_to("", "done", &body).await
    }

    fn service(uri: &str) -> Result<(), Error> {
        future::block_on(async {
            let connection = hopmq::Connection::open(uri).await?;
            let served = App::new(()).route(Queue::new("orders").prefetch(1), work).serve(&connection).await;
            println!("served");
            served
        })
    }

    pub(super) fn main() {
        if let Ok(uri) = std::env::var(ADDRESS) {
            if let Err(error) = service(&uri) {
                eprintln!("{error}");
                std::process::exit(3);
            }
            return;
        }
        for signal in ["-TERM", "-INT"] {
            a_signal_lets_the_message_in_work_finish_and_loses_none(signal);
            println!("a signal lets the message in work finish and loses none ({signal}): ok");
        }
        a_second_signal_ends_the_app_at_once_and_its_message_goes_back();
        println!("a second signal ends the app at once and its message goes back: ok");
    }

    struct Service {
        broker: Broker,
        child: Child,
        lines: BufReader<ChildStdout>,
    }

    impl Service {
        /// Starts the service with messages in its queue, and waits until it works on the first.
        fn start(messages: &[&'static str]) -> Self {
            let broker = Broker::in_memory();
            future::block_on(async {
                let connection = hopmq::Connection::open(&broker.uri()).await?;
                let channel = connection.channel().await?;
                for queue in ["orders", "done"] {
                    channel.queue(queue).durable().declare().await?;
                }
                for message in messages {
                    channel.publish("", "orders", *message).mandatory().confirm().await?;
                }
                connection.close().await
            })
            .expect("the broker takes messages");
            let program = std::env::current_exe().expect("this program has a path");
            let mut command = Command::new(program);
            command.env(ADDRESS, broker.uri()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().expect("the service starts");
            let lines = BufReader::new(child.stdout.take().expect("it is piped"));
            let mut service = Self { broker, child, lines };
            assert_eq!(service.line(), format!("begins {}", messages[0]));
            service
        }

        fn line(&mut self) -> String {
            let mut line = String::new();
            self.lines.read_line(&mut line).expect("the service prints text");
            line.trim_end().to_owned()
        }

        fn signal(&self, signal: &str) {
            let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
            assert!(sent.expect("there is a program kill").success());
        }

        fn end(&mut self) -> (ExitStatus, String) {
            let mut errors = String::new();
            let mut pipe = self.child.stderr.take().expect("it is piped");
            pipe.read_to_string(&mut errors).expect("the service prints text");
            (self.child.wait().expect("the service ends"), errors)
        }

        fn ready(&self, queue: &str) -> Vec<String> {
            self.broker.inspect().ready(queue).iter().map(hopmq_broker::inspect::Message::text).collect()
        }
    }

    fn a_signal_lets_the_message_in_work_finish_and_loses_none(signal: &str) {
        let mut service = Service::start(&["one", "two", "three"]);
        service.signal(signal);
        assert_eq!(service.line(), "served", "no further message begins");
        let (status, errors) = service.end();
        assert!(status.success(), "{status}: {errors}");
        service.broker.assert_idle();
        assert_eq!(service.ready("done"), ["\"one\""]);
        assert_eq!(service.ready("orders"), ["two", "three"]);
    }

    fn a_second_signal_ends_the_app_at_once_and_its_message_goes_back() {
        let mut service = Service::start(&["endless", "two"]);
        service.signal("-TERM");
        // The consumer is gone as soon as the app has noticed the first signal.
        service.broker.wait_until(|inspect| inspect.consumers().is_empty());
        service.signal("-TERM");
        assert_eq!(service.line(), "served");
        let (status, errors) = service.end();
        assert_eq!(status.code(), Some(3), "{errors}");
        assert!(errors.starts_with("a second signal ended the app"), "{errors}");
        service.broker.assert_idle();
        assert_eq!(service.ready("orders"), ["endless", "two"]);
    }
}

fn main() {
    #[cfg(unix)]
    unix::main();
}
