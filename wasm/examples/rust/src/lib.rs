//! A page in Rust that publishes ten messages, consumes them and shows them. Except for `hopmq_wasm::open`, the API is
//! `hopmq`'s own.

pub mod handlers;

use futures_lite::StreamExt;
use wasm_bindgen::prelude::*;

/// Runs the example against the gateway at `url`. The page calls it once the WebAssembly is loaded.
///
/// # Errors
/// The errors of `hopmq`, as text.
#[wasm_bindgen]
pub async fn run(url: String) -> Result<(), JsError> {
    let settings = hopmq::Connection::builder().connection_name("a page in Rust");
    let connection = hopmq_wasm::open(&url, &settings).await?;
    let channel = connection.channel().await?;
    let queue = channel.queue("").exclusive().declare().await?;

    let mut consumer = queue.consume().prefetch(4).await?;
    for number in 1..=10 {
        queue.publish(format!("message {number}")).confirm().await?;
        if let Some(delivery) = consumer.try_next().await? {
            show(&delivery.text());
            delivery.ack()?;
        }
    }
    connection.close().await?;
    show("closed");
    Ok(())
}

fn show(text: &str) {
    let Some(document) = web_sys::window().and_then(|window| window.document()) else { return };
    if let (Some(body), Ok(line)) = (document.body(), document.create_element("p")) {
        line.set_text_content(Some(text));
        // If the line can't be shown, the example continues without it.
        let _ = body.append_child(&line);
    }
}
