//! An HTTP server with a door.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Serves `PUT /shut`, `PUT /open` and `GET /door`; its address. Below `/locked` it wants the token
/// `value`. While `broken`, everything is an error page that says "shut".
pub(crate) async fn serve(broken: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut shut = false;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let line = String::from_utf8_lossy(&request[..length]).into_owned();
            let (status, body) = if broken.load(Ordering::Relaxed) {
                ("500 Internal Server Error", "the shop is shut, says the error page")
            } else if line.contains(" /locked/") && !line.contains("Bearer value\r\n") {
                ("401 Unauthorized", "")
            } else if line.starts_with("GET ") {
                ("200 OK", if shut { "shut" } else { "open" })
            } else {
                shut = line.split(' ').nth(1).is_some_and(|path| path.ends_with("/shut"));
                ("200 OK", "")
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
            let answer = format!("{head}Connection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}
