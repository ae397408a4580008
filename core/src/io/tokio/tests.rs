use std::io::IoSlice;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use super::stream::TokioIo;

#[test]
fn bytes_and_the_end_pass_both_ways() {
    Builder::new_current_thread().enable_io().build().unwrap().block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut near, mut far) = (TokioIo(near), TokioIo(listener.accept().await.unwrap().0));

        let bufs = [IoSlice::new(b""), IoSlice::new(b"hel"), IoSlice::new(b"lo")];
        let written = near.write_vectored(&bufs).await.unwrap();
        assert_eq!(written, 5);
        near.flush().await.unwrap();
        near.close().await.unwrap();

        let mut text = String::new();
        far.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
        far.write_all(b"bye").await.unwrap();
        drop(far);
        text.clear();
        near.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "bye");
    });
}
