//! A page of metrics or JSON whose text a test changes.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

/// Answers every GET with the same text, until it is dropped.
#[derive(Debug)]
pub struct Page {
    address: SocketAddr,
    answer: Arc<Mutex<(u16, String)>>,
    task: AbortHandle,
}

impl Page {
    /// A page at a free port of the loopback interface.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(text: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let answer = Arc::new(Mutex::new((200, text.to_owned())));
        let shown = Arc::clone(&answer);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shown)));
            }
        });
        Ok(Self { address, answer, task: task.abort_handle() })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the text.
    pub fn show(&self, text: &str) {
        self.answer_with(200, text);
    }

    /// Changes the status and the text.
    pub fn answer_with(&self, status: u16, text: &str) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = (status, text.to_owned());
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, answer: Arc<Mutex<(u16, String)>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            request.drain(..end + 4);
            let (status, text) = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let head = format!("HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\n\r\n{text}", text.len());
            if stream.write_all(head.as_bytes()).await.is_err() {
                return;
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    }
}
