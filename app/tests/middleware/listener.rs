use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use futures_lite::{FutureExt, future};
use hopmq_app::{App, Metrics, Probes, Queue};

use crate::support::until;

#[test]
fn the_listener_answers_probes_and_refuses_what_it_does_not_know() {
    let app = App::new(()).route(Queue::new("orders"), async || {});
    let probes = Probes::new(app.control(), Metrics::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ask = move |request: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let asked = std::thread::spawn(move || {
        // Connections that say nothing must not keep others waiting.
        let _silent: Vec<_> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
        let requests = ["GET /healthz HTTP/1.1\r\n\r\n", "GET /metrics?x=1 HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"];
        let all: Vec<_> =
            requests.iter().chain(&["POST /metrics HTTP/1.1\r\n\r\n"]).map(|request| ask(request)).collect();
        all
    });
    let answers = future::block_on(async {
        let served = async {
            probes.serve(listener).await.unwrap();
            unreachable!("it serves for ever")
        };
        let joined = async {
            until(|| asked.is_finished()).await;
        };
        served.or(joined).await;
        asked.join().unwrap()
    });
    let starts = ["HTTP/1.1 503", "HTTP/1.1 200", "HTTP/1.1 404", "HTTP/1.1 405"];
    for (answer, start) in answers.iter().zip(starts) {
        assert!(answer.starts_with(start), "{answer} does not start with {start}");
    }
    assert!(answers[0].ends_with("not connected\norders: no consumer\n"));
}
